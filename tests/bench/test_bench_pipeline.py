"""Where a run's time goes: the table of its stages by hand, and the program on results as a run writes them."""

import json
from pathlib import Path
from typing import Any

import pytest

from cai.bench.__main__ import main
from cai.bench.pipeline import StageKind, page, spent
from cai.compare.schema import Results, StageMade, as_json
from cai.core.errors import run_main

GB = 1e9


def made(stage: str, seconds: float, *, cached: bool = False, **used: float) -> StageMade:
    return StageMade(stage=stage, key="k", digest="d", seconds=seconds, cached=cached, calls={}, used=used)


def results(stages: list[StageMade], wall: float) -> Results:
    return Results(
        name="quickstart", question="", arms=("ai",), seeds=(0,), differences=[], warnings=[], headline=None, elo=[],
        measures=[], replicas=[], point={}, stages=stages, provenance={"wall time, s": wall}, examples={},
    )  # fmt: skip


STAGES = [
    made("train_ppo", 30.0, cpu=45.0, memory=2 * GB),
    made("train_reward", 10.0, cpu=15.0, memory=1.5 * GB),
    made("train_ppo", 50.0, cpu=75.0, memory=3 * GB),
    made("load_data", 10.0, cached=True),
]


def test_the_table_by_hand() -> None:
    found = spent(results(STAGES, wall=100.0))
    # 100 s by the clock, of which 30 + 10 + 50 in stages that it made: 10 s lie between them.
    assert (found.wall, found.in_stages, found.between, found.cpu) == (100.0, 90.0, 10.0, None)
    assert found.kinds == [
        StageKind("train_ppo", 2, 2, 80.0, 0.8, 50.0, 120.0, 3 * GB, None),
        StageKind("train_reward", 1, 1, 10.0, 0.1, 10.0, 15.0, 1.5 * GB, None),
        StageKind("load_data", 1, 0, 10.0, 0.1, 10.0, None, None, None),
    ]
    head, _, _, first, *_, last = page(found)
    assert "10 s between them (10.0%)" in head and "CPU seconds" not in head
    assert first.split() == ["train", "ppo", "2", "80.0", "80.0%", "50.0", "120.0", "1.50", "3000"]
    assert last.split() == ["load", "data", "1", "10.0", "10.0%", "10.0", "1", "found"]


def test_side_by_side_nothing_lies_between() -> None:
    found = spent(results(STAGES[:3], wall=60.0))
    assert (found.between, found.cpu) == (None, 135.0)
    assert "1.50 side by side; 135 CPU seconds" in page(found)[0]


def test_the_program_reads_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.json").write_text(json.dumps(as_json(results(STAGES, wall=100.0))))
    assert main(["pipeline", str(tmp_path), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["name"], found["between"], found["kinds"][0]["stage"]) == ("quickstart", 10.0, "train_ppo")
    assert main(["pipeline", str(tmp_path)]) == 0
    assert "train ppo" in capsys.readouterr().out


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(main, ["pipeline", str(tmp_path)]) == 2
    assert "this folder is no finished run" in capsys.readouterr().err
