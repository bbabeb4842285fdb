"""As many pairs as a large data set has, through `labels: human`, a reward model and the report: time and memory.

    CAI_MANY_PAIRS=100000 python -m pytest tests/experiment/test_many_pairs.py -m slow -n 0 -s         (5,000 without)

The reward model reads all pairs and learns from a few of them; the tiny model's numbers mean nothing.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cai.bench.scale import labelled, make
from cai.compare.schema import read_results

PAIRS = int(os.environ.get("CAI_MANY_PAIRS", "5000"))
GIGABYTES, MEGABYTES = 8, 10


@pytest.mark.slow
def test_many_pairs_that_people_labelled(tiny: Any, tmp_path: Path) -> None:
    make(tmp_path, PAIRS, 2, "human")
    command, began = [sys.executable, "-m", "cai.experiment", "mine.yaml"], time.monotonic()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "runs" / "mine"
    found = labelled(read_results(run / "results.json"), PAIRS, 2, "human", (run / "report.html").stat().st_size)
    gigabytes, megabytes, seconds = found.most / 1e9, found.report / 1e6, time.monotonic() - began
    print(f"\n{PAIRS:,} pairs: {seconds:.0f} s, {gigabytes:.2f} GB at most, a report of {megabytes:.1f} MB")
    print("\n".join(line for line in done.stderr.splitlines() if line.startswith("[")))
    assert gigabytes < GIGABYTES and megabytes < MEGABYTES
