"""Benchmark of reading: its arithmetic by hand, and the program on the tiny model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import asked_judge

import cai.bench.reads
from cai.bench.__main__ import main
from cai.bench.common import MedianRange
from cai.bench.reads import ReadRound, measure, page
from cai.config.sections import Judge
from cai.core.errors import run_main


def test_a_cost_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = {
        "label": iter([ReadRound(2.0, 8, 100), ReadRound(4.0, 8, 100), ReadRound(1.0, 8, 100)]),
        "reads": iter([ReadRound(5.0, 20, 240), ReadRound(8.0, 20, 240), ReadRound(3.5, 20, 240)]),
    }
    order = []

    def timed(engine: Any, pairs: Any, controls: Any, judge: Any, way: str) -> ReadRound:
        order.append(way)
        return next(rounds[way])

    monkeypatch.setattr(cai.bench.reads, "timed", timed)
    nothing: Any = None
    cost = measure(nothing, [], nothing, asked_judge(Judge(principles="all")), 3)
    assert order == ["label", "reads", "reads", "label", "label", "reads"]
    assert cost.ratio == MedianRange(2.5, 2.0, 3.5)  # 5/2, 8/4, 3.5/1
    assert (cost.seconds["label"].median, cost.seconds["reads"].median, cost.in_tokens) == (2.0, 5.0, 2.4)
    assert (cost.questions, cost.tokens) == ({"label": 8, "reads": 20}, {"label": 100, "reads": 240})
    assert page({"model": "m"}, [cost]).endswith("at most 3 times")
    slow = replace(cost, ratio=MedianRange(3.2, 3.0, 3.4))
    assert page({"model": "m"}, [slow]).endswith("more than 3 times one labelling: rate by all")


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    rows = [{"prompt": f"How do I cook rice {n}?", "a": f"Wash it, {n}.", "b": f"Ask, {n}."} for n in range(5)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row | {"human": 1}) + "\n" for row in rows))
    (tmp_path / "law.txt").write_text("- Choose the response that is kind.\n- Choose the response that is honest.\n")
    return ["reads", "--model", "tiny-random", "--dtype", "float32", "--pairs", "2", "--rounds", "2", "--data",
            str(tmp_path / "pairs.jsonl"), "--constitution", str(tmp_path / "law.txt")]  # fmt: skip


def test_the_program_on_the_tiny_model(tiny: Any, given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*given, "--method", "rate,contrast", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["model"], found["pairs"], found["rounds"]) == ("tiny-random", 2, 2)
    costs = {(cost["method"], cost["principles"]): cost for cost in found["costs"]}
    assert list(costs) == [("rate", 1), ("rate", "all"), ("contrast", 1), ("contrast", "all")]
    # 2 pairs, 2 answers, by one principle: text, negation and two placebos.
    assert costs["rate", 1]["questions"] == {"label": 4, "reads": 16}
    assert costs["rate", "all"]["questions"] == {"label": 8, "reads": 32}
    # Both sides of each; the two answers are the options of one question.
    assert costs["contrast", 1]["questions"] == {"label": 4, "reads": 16}
    for cost in costs.values():
        assert 0 < cost["ratio"]["low"] <= cost["ratio"]["median"] <= cost["ratio"]["high"]
        assert cost["in_tokens"] == cost["tokens"]["reads"] / cost["tokens"]["label"] > 1
    assert costs["rate", 1]["in_tokens"] < 4  # four times the questions, of which the beginnings are read once
    assert "rate, principles 1, round 1/2: label, 4 questions" in err
    assert main(given) == 0
    assert "times one labelling" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--method", "provenance"], '--method: there is no method "provenance" that asks'),
        (["--model", "tiny-randon"], 'did you mean "tiny-random"'),
        (["--data", "nowhere.jsonl"], "there is no data source"),
        (["--pairs", "50"], "only 5 prompts have a pair"),
        (["--constitution", "none.txt"], "none.txt"),
    ],
)
def test_faults_are_the_users_to_mend(
    tiny: Any, given: list[str], more: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, [*given, *more]) == 2
    assert problem in capsys.readouterr().err
