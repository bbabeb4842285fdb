"""Benchmark of edits: what is asked again by hand, the programs, and the whole on the tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest

import cai.bench.rerun
from cai.bench.__main__ import main
from cai.bench.common import MedianRange, Ratio, TimedTurn, take_turns
from cai.bench.rerun import imports_torch, run_program
from cai.core.errors import UserError


def test_ways_take_turns_and_each_comes_first_once() -> None:
    order: list[str] = []
    took = take_turns({name: lambda name=name: order.append(name) or name.upper() for name in "abc"}, 3, "test")
    assert "".join(order) == "abc" + "bca" + "cab"
    assert [turn.result for turn in took["b"]] == ["B"] * 3


def test_a_ratio_is_that_of_each_round() -> None:
    one = [TimedTurn(2.0, 1.0, None), TimedTurn(6.0, 4.0, None), TimedTurn(1.0, 3.0, None)]
    other = [TimedTurn(1.0, 2.0, None), TimedTurn(2.0, 2.0, None), TimedTurn(2.0, 2.0, None)]
    assert Ratio.of(one, other) == Ratio(MedianRange(2.0, 0.5, 3.0), MedianRange(1.5, 0.5, 2.0))


def test_what_torch_is_imported_by() -> None:
    assert not imports_torch(["cai.experiment", "--help"])
    assert imports_torch(["torch.__config__"])


def test_a_program_is_run_in_a_folder_and_its_failure_told(tmp_path: Path) -> None:
    (tmp_path / "here.json").write_text('{"a": [1]}')
    assert json.loads(run_program(["json.tool", "here.json"], tmp_path)) == {"a": [1]}
    with pytest.raises(UserError, match="the program failed"):
        run_program(["cai.experiment", "nowhere.yaml"])


@pytest.fixture
def given(tiny: Any, tmp_path: Path) -> list[str]:
    rows = [{"prompt": f"How do I cook rice {n}?", "a": f"Wash it, {n}.", "b": f"Ask, {n}."} for n in range(5)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row | {"human": 1}) + "\n" for row in rows))
    return ["rerun", "--model", "tiny-random", "--dtype", "float32", "--pairs", "2", "--principles", "4", "--rounds",
            "2", "--only", "edited", "--data", str(tmp_path / "pairs.jsonl")]  # fmt: skip


def test_an_edit_asks_for_its_own_principle_alone(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*given, "--json"]) == 0
    edit = json.loads(capsys.readouterr().out)["edited"]
    # 2 pairs of 2 answers: 4 questions a principle, of which there are 4.
    assert edit["asked"] == {"edited": 4, "full": 16, "apart": 16}
    assert (edit["principles"], edit["pairs"]) == (4, 2) and edit["difference"] < 1e-3
    assert list(edit["seconds"]) == ["edited", "full", "apart"]
    assert main(given) == 0
    assert "rate, one of 4 principles edited, 2 pairs:" in capsys.readouterr().out


def test_what_was_asked_before_is_found(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    own = cai.bench.rerun.AsksOfJudge.ask

    def count(self: Any, cached: Any, questions: Any, share: bool = True) -> Any:
        before = cached.asked
        answers = own(self, cached, questions, share)
        asked.append(cached.asked - before)
        return answers

    monkeypatch.setattr(cai.bench.rerun.AsksOfJudge, "ask", count)
    main(given)
    assert asked == [16, 4, 16, 16, 16, 16, 4]  # the first labelling, then edited, full, apart; full, apart, edited
