"""The smoke experiment, killed at random moments until it is through, comes out as the one that nobody killed.

    CAI_KILLED_RUNS=100 python -m pytest tests/experiment/test_killed.py -s      (3 runs without the variable)

Each run is killed (SIGKILL) after a random time, begun again, and so on; the longer it has been killed, the longer it
may go on, so that it ends. Then results.json, and the key and digest of every stage, are those of the whole run, but
for times, and for how many calls were in the cache. `-s` shows how the kills were spread over the stages.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

RUNS = int(os.environ.get("CAI_KILLED_RUNS", "3"))
SHARE = (0.1, 0.7)  # of the time of a whole run after which one is killed first; more each time
TIMED = ("seconds", "cached", "calls", "wall time, s", "model calls", "settings changed on the command line", "code")
RUNNING = re.compile(r"^\[\d+:\d+\] (.+) \([0-9a-f]{6}\)", re.MULTILINE)


def start(root: Path, log: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "cai.experiment", "experiments/smoke.yaml", "--set", f"runtime.root={root}"]
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def untimed(value):
    """Without what differs between two runs that did the same."""
    if isinstance(value, dict):
        return {key: untimed(inner) for key, inner in value.items() if key not in TIMED}
    return [untimed(inner) for inner in value] if isinstance(value, list) else value


def outcome(root: Path) -> tuple[dict, dict[str, str]]:
    """(results.json, the digest of every stage by its name and key)"""
    manifests = {path.parent.name: json.loads(path.read_bytes()) for path in (root / "store").glob("*/manifest.json")}
    assert not [name for name in manifests if "." in name]
    digests = {name: manifest["digest"] for name, manifest in manifests.items()}
    text = (root / "smoke" / "results.json").read_text().replace(str(root), "ROOT")
    return untimed(json.loads(text)), digests


def killed_until_done(root: Path, whole: float, chance: random.Random, spread: Counter) -> int:
    """How often it was killed. whole: seconds that a run takes."""
    kills, log = 0, root.with_suffix(".log")
    while True:
        running = start(root, log)
        try:
            assert running.wait(whole * chance.uniform(*SHARE) * 1.2**kills) == 0, log.read_text()[-3000:]
            return kills
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            running.wait()
            kills += 1
            spread[(RUNNING.findall(log.read_text()) or ["before the first stage"])[-1]] += 1


@pytest.mark.slow
@pytest.mark.real
def test_a_run_that_is_killed_at_random_moments_comes_out_as_one_that_is_not(ratings, tmp_path):
    whole, began = tmp_path / "whole", time.monotonic()
    assert start(whole, tmp_path / "whole.log").wait() == 0, (tmp_path / "whole.log").read_text()[-3000:]
    seconds = time.monotonic() - began
    results, digests = outcome(whole)
    spread, total = Counter(), 0
    for seed in range(RUNS):
        root = tmp_path / f"killed-{seed}"
        total += killed_until_done(root, seconds, random.Random(seed), spread)
        again, stages = outcome(root)
        assert stages == digests
        assert again == results
        assert not [path.name for path in (root / "store").iterdir() if "." in path.name], "nothing is left"
        shutil.rmtree(root)
    print(f"\n{RUNS} runs, {total} kills:", ", ".join(f"{stage} {count}" for stage, count in spread.most_common()))
    assert total >= RUNS
