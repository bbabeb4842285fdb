"""What grows with pairs and principles: the arithmetic by hand, what is asked for, and the program on a few pairs."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_bench_overhead import in_this_process

from cai.bench.__main__ import main
from cai.bench.scale import GrownRun, make, page, power


def found(who: str, pairs: int, label: float, cpu: float) -> GrownRun:
    stages = {"label_by_judge": 5e8, "label_by_people": 6e8, "train_reward": 9e8}
    return GrownRun(
        who=who, pairs=pairs, principles=1, seconds=9.0, cpu=cpu, label=label, most=1e9, stages=stages, report=150_000
    )  # fmt: skip


def test_growth_by_hand() -> None:
    # A judge is seen by its labels, people by all stages: ten times the pairs, 10 and 1 times the seconds.
    judged = [found("ai", 100, 0.5, 8.0), found("ai", 1000, 5.0, 9.0)]
    people = [found("human", 100, 0.5, 8.0), found("human", 1000, 5.0, 8.0)]
    assert power(*judged) == pytest.approx(1) and power(*people) == 0
    rows = [line.split() for line in page([*judged, *people])[1:]]
    assert rows[1] == ["ai", "1", "1,000", "5.00", "5.00", "1.00", "1000", "500", "0.15"]
    assert rows[3] == ["human", "1", "1,000", "8.00", "8.00", "0.00", "1000", "600", "0.15"]
    assert len(rows[0]) == len(rows[2]) == 8  # the first of each has nothing to have grown from


def test_what_is_made(tmp_path: Path) -> None:
    make(tmp_path, 7, 16, "human")
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert len(rows) == 7 and [row["prompt"] for row in rows][2:4] == ["Question 0?", "Question 1?"]
    assert len({row["a"] for row in rows}) == 7 and {row["human"] for row in rows} <= {0, 1}
    assert len(set((tmp_path / "law.txt").read_text().splitlines())) == 16
    assert "arms: {human: {labels: human}}" in (tmp_path / "mine.yaml").read_text()


def test_the_program_measures_a_run(
    tiny: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cai.bench.scale.run_program", in_this_process)
    assert main(["scale", "--pairs", "24", "--principles", "2", "--people", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["who"], one["pairs"], one["principles"]) == ("ai", 24, 2)
    assert 0 < one["label"] < one["cpu"] and one["report"] > 50_000
    assert one["most"] >= 0.99 * max(one["stages"].values()) and {"label_by_judge", "train_reward"} <= set(
        one["stages"]
    )
