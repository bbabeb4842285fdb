"""As many pairs as a large data set has, through `labels: human`, a reward model and the report: time and memory.

    CAI_MANY_PAIRS=100000 python -m pytest tests/experiment/test_many_pairs.py -m slow -n 0 -s         (5,000 without)

The reward model reads all pairs and learns from a few of them; the tiny model's numbers mean nothing.
"""

import json
import os
import random
import subprocess
import sys
import time

import pytest
from test_experiment import LAW

PAIRS = int(os.environ.get("CAI_MANY_PAIRS", "5000"))
GIGABYTES = 8
WORDS = (
    "bread",
    "bake",
    "kind",
    "safe",
    "plain",
    "answer",
    "water",
    "cold",
    "open",
    "light",
    "never",
    "river",
    "stone",
)
EXPERIMENT = """
constitution: law.txt
seeds: [0]
policy: {model: tiny-random, lora_rank: 2}
data: {source: pairs.jsonl, test: 0.05}
helpful: {source: helpful.jsonl}
revise: {prompts: 2, rounds: 1, max_new_tokens: 4}
sft: {helpful: 0, batch_size: 2}
judge: {model: tiny-random, min_mass: 0.0, preflight: {mass: 0, accuracy: 0, reads: off}}
reward: {batch_size: 16, epochs: 0.01}
rl: {method: none}
evaluate: {prompts: 2, helpful: 0, max_new_tokens: 4, judge: {model: tiny-random, min_mass: 0.0}}
arms: {human: {labels: human}}
"""


@pytest.mark.slow
def test_many_pairs_that_people_labelled(tiny, tmp_path):
    """Three pairs a prompt, of some 80 letters an answer."""
    chance = random.Random(0)
    text = lambda count: " ".join(chance.choices(WORDS, k=count))  # noqa: E731
    with (tmp_path / "pairs.jsonl").open("w") as file:
        for number in range(PAIRS):
            row = {"prompt": f"Question {number // 3}?", "a": text(14), "b": text(14), "human": chance.randint(0, 1)}
            file.write(json.dumps(row) + "\n")
    (tmp_path / "helpful.jsonl").write_text('{"prompt": "How do I bake?", "subset": "everyday"}\n' * 2)
    (tmp_path / "law.txt").write_text(LAW)
    (tmp_path / "mine.yaml").write_text(EXPERIMENT)
    command, began = [sys.executable, "-m", "cai.experiment", "mine.yaml"], time.monotonic()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "runs/mine/results.json").read_text())
    gigabytes = results["provenance"]["memory at most, MB"] / 1e3
    size = (tmp_path / "runs" / "mine" / "report.html").stat().st_size / 1e6
    print(f"\n{PAIRS:,} pairs: {time.monotonic() - began:.0f} s, {gigabytes:.2f} GB at most, a report of {size:.1f} MB")
    print("\n".join(line for line in done.stderr.splitlines() if line.startswith("[")))
    assert gigabytes < GIGABYTES and size < 10
