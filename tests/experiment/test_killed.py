"""The smoke experiment, killed at random moments until it is through, comes out as the one that nobody killed.

    python -m pytest tests/experiment/test_killed.py -m slow -n 0 -s         (up to 10 runs, for as long as SECONDS)
    CAI_KILLED_RUNS=100 python -m pytest tests/experiment/test_killed.py -m slow -n 0 -s       (as many as it says)

Each run is killed (SIGKILL) KILLS times, and then goes on to its end. A kill aims at a stage, one of those in which
the fewest were, and comes at a random moment of the time that this stage takes, or before the first stage, or while
the results are written. Then results.json, and the key and digest of every stage, are those of the whole run, but for
times, and for how many calls were in the cache. `-s` shows how the kills were spread over the stages.
"""

import json
import os
import random
import re
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from warm import Warm

RUNS = int(os.environ.get("CAI_KILLED_RUNS", "0"))
SECONDS = 270.0  # after which no run is begun, where nobody says how many
KILLS = 3
TIMED = ("seconds", "used", "cached", "calls", "wall time, s", "memory at most, MB", "model calls", "code")
TIMED += ("settings changed on the command line",)
BEGUN = re.compile(r"^\[\d+:\d+\] (.+) (\([0-9a-f]{6}\))|^(compare) (->)", re.MULTILINE)


@dataclass(frozen=True)
class Moment:
    """A stage, or what is before or after all of them: mark is what the log has when it begins."""

    name: str
    mark: str
    seconds: float


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


def begun(log: Path) -> list[tuple[str, str]]:
    """(name, mark) of all that a run has begun."""
    found = BEGUN.findall(log.read_text(errors="replace"))
    return [("before the first stage", ""), *((name or "results", mark or "compare ->") for name, mark, *_ in found)]


def start(warm: Warm, root: Path):
    return warm.start(
        "experiment", ["experiments/smoke.yaml", "--set", f"runtime.root={root}"], root.with_suffix(".log")
    )


def whole_run(warm: Warm, root: Path) -> list[Moment]:
    """A run that nobody kills: what there is to aim at, in its order."""
    running, seen = start(warm, root), []
    while running.wait(0.02) is None:
        seen += [(name, mark, time.monotonic()) for name, mark in begun(running.log)[len(seen) :]]
    assert running.code == 0, running.log.read_text()[-3000:]
    ends = [*(at for *_, at in seen[1:]), time.monotonic()]
    return [Moment(name, mark, end - at) for (name, mark, at), end in zip(seen, ends, strict=True)]


def aims(moments: list[Moment], spread: Counter[str], chance: random.Random) -> list[Moment]:
    """KILLS moments in their order, of the stages in which the fewest kills were."""
    names = sorted({one.name for one in moments}, key=lambda name: (spread[name], chance.random()))[:KILLS]
    chosen = [chance.choice([one for one in moments if one.name == name]) for name in names]
    return sorted(chosen, key=moments.index)


def killed_until_done(warm: Warm, root: Path, targets: list[Moment], chance: random.Random, spread: Counter) -> None:
    for target in targets:
        running = start(warm, root)
        if not running.until(target.mark) or running.wait(target.seconds * chance.random()) is not None:
            break  # it was through
        running.kill()
        spread[begun(running.log)[-1][0]] += 1
    else:
        running = start(warm, root)
    assert running.wait() == 0, running.log.read_text()[-3000:]


@pytest.mark.slow
@pytest.mark.real
def test_a_run_that_is_killed_at_random_moments_comes_out_as_one_that_is_not(ratings, tmp_path):
    spread, done, began = Counter(), 0, time.monotonic()
    with Warm() as warm:
        moments = whole_run(warm, tmp_path / "whole")
        results, digests = outcome(tmp_path / "whole")
        while not done or (done < (RUNS or 10) and (RUNS or time.monotonic() - began < SECONDS)):
            chance, root = random.Random(done), tmp_path / f"killed-{done}"
            killed_until_done(warm, root, aims(moments, spread, chance), chance, spread)
            again, stages = outcome(root)
            assert stages == digests
            assert again == results
            assert not [path.name for path in (root / "store").iterdir() if "." in path.name], "nothing is left"
            shutil.rmtree(root)
            done += 1
            print(f"run {done}: {spread.total()} kills after {time.monotonic() - began:.0f} s", flush=True)
    names = {one.name for one in moments}
    print(f"\n{done} runs, {spread.total()} kills in {len(names & spread.keys())} of {len(names)} stages:", end=" ")
    print(", ".join(f"{stage} {count}" for stage, count in spread.most_common()))
    assert spread.total() >= done >= 1
