"""The benchmark of training beside TRL: its figures by hand, what both are given, and the program on the tiny model."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from cai.bench.__main__ import main
from cai.bench.common import MedianRange
from cai.bench.train import Training, TrainRun, case_of, page, preferred, rows_of
from cai.bench.train_run import train
from cai.core.errors import UserError
from cai.core.records import Message, Pair, Prompt

PROMPT = Prompt("p", (Message("user", "Hi"),), "all", "train")


def test_the_figures_by_hand() -> None:
    ours = TrainRun([1.0, 3.0, 2.0], [1.0, 2.0, 2.0], [0.7, 0.6, 0.5, 0.4], 3 * 10**9, 10**9, "1.16.0", 1)
    trl = TrainRun([2.0, 4.0, 8.0], [4.0, 4.0, 4.0], [0.7, 0.6, 0.52, 0.4], 4 * 10**9, 2 * 10**9, "1.16.0", 1)
    case = case_of("dpo", "all", {"ours": ours, "trl": trl})
    assert case.time == MedianRange(0.5, 0.25, 0.75) and case.cpu_time == MedianRange(0.5, 0.25, 0.5)
    assert case.memory == 0.5 and case.gigabytes == {"ours": 1.0, "trl": 2.0}
    assert case.difference == pytest.approx(0.02) and case.seconds["ours"] == MedianRange(2.0, 1.0, 3.0)
    assert "0.5 [0.25, 0.75]" in page({"model": "m"}, [case]) and "within 0.02" in page({}, [case])


def test_peaks_that_a_system_cannot_forget_are_those_of_the_processes() -> None:
    runs = {way: TrainRun([1.0], [1.0], [0.7], size, None, "1.16.0", 1) for way, size in (("ours", 3), ("trl", 4))}
    assert case_of("dpo", "all", runs).memory == 0.75


@pytest.mark.parametrize(("human", "expected"), [(0.9, ("a", "b")), (0.1, ("b", "a")), (0.5, None), (None, None)])
def test_the_better_answer_is_preferred(human: float | None, expected: tuple[str, str] | None) -> None:
    assert preferred(Pair("x", PROMPT, "a", "b", human)) == expected


@pytest.fixture
def data(tmp_path: Path) -> str:
    rows = [
        {"prompt": f"How do I cook rice {n}?", "a": f"Wash it {'and ' * n}{n}.", "b": f"Ask, {n}.", "human": n % 2}
        for n in range(9)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "pairs.jsonl")


def test_too_few_pairs_are_told(tiny: Any, data: str) -> None:
    assert len(rows_of("tiny-random", data, 9, "reward")) == 9
    with pytest.raises(UserError, match="only 9 pairs are rated and short enough"):
        rows_of("tiny-random", data, 10, "dpo")


def test_a_training_that_fails_is_told_with_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # its log is no other test's, which may run meanwhile
    failed = pytest.raises(UserError, match="the training of ours failed: KeyError")
    with Training({"way": "ours", "model": "nowhere"}, tmp_path) as training, failed:
        training.heard()


def test_both_train_the_same(tiny: Any, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--model", "tiny-random", "--dtype", "float32", "--data", data, "--pairs", "3"]
    command += ["--methods", "dpo", "--layers", "all"]
    assert main([*command, "--rounds", "2", "--threads", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["TRL"].startswith("1.") and said["threads"] == 1
    (case,) = said["cases"]
    assert (case["method"], case["layers"]) == ("dpo", "all")
    assert case["time"]["median"] > 0 and case["gigabytes"]["ours"] > 0.1
    agree(case["losses"], case["difference"])


def agree(losses: dict[str, list[float]], difference: float) -> None:
    assert losses["ours"][0] == pytest.approx(0.6931, abs=1e-3) and len(losses["trl"]) == 3
    assert losses["ours"][-1] != losses["ours"][0]  # it learns
    assert difference < 2e-4


@pytest.mark.parametrize(("method", "layers"), [("reward", 1), ("reward", None), ("dpo", 1)])
def test_both_train_the_same_in_one_process(
    method: str, layers: int | None, tiny: Any, data: str, tmp_path: Path
) -> None:
    """The other cases; layers: the last so many, None for all."""
    spec = {
        "method": method, "layers": layers, "rows": rows_of("tiny-random", data, 9, method), "model": "tiny-random",
        "rank": 16, "batch": 3, "steps": 3, "device": "cpu", "dtype": "float32", "threads": 1,
    }  # fmt: skip
    runs = {}
    for way in ("ours", "trl"):
        heard = StringIO()
        train(spec | {"way": way, "folder": str(tmp_path / way)}, StringIO("\n" * 3), heard)
        ready, *steps, end = [json.loads(line) for line in heard.getvalue().splitlines()]
        assert set(ready) == {"ready"} and len(steps) == 3
        runs[way] = TrainRun([s["seconds"] for s in steps[1:]], [s["cpu"] for s in steps[1:]], **end)
    case = case_of(method, "", runs)
    assert case.time.median > 0 and case.gigabytes["ours"] > 0.1
    agree(case.losses, case.difference)
