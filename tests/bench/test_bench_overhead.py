"""The pipeline beside one plain script: that both make the same experiment, and the arithmetic of its table."""

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from cai.bench.__main__ import main
from cai.bench.overhead import largest
from cai.core.errors import run_main
from cai.experiment.command import main as experiment

WORDS = ["bread", "water", "stone", "river", "light", "open", "cold", "plain", "safe", "kind"]
SMALL = ["--pairs", "24", "--test", "4", "--layers", "1", "--steps", "1", "--tokens", "4", "--rounds", "1"]


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    """Single-turn pairs, each of its own prompt, that people have decided."""
    with (tmp_path / "rated.jsonl").open("w") as file:
        for number in range(40):
            a, b = (" ".join(WORDS[(number * k + k) % 10] for k in range(1, length)) for length in (5, 7 + number % 3))
            file.write(json.dumps({"prompt": f"Question {number}?", "a": a, "b": b, "human": number % 2}) + "\n")
    return tmp_path / "rated.jsonl"


def in_this_process(words: Sequence[str], folder: Path) -> str:
    """As `run_program` (test_bench_rerun.py): a process spends ten seconds on imports."""
    from cai.bench.by_hand import main as by_hand  # heavy

    program, *rest = words
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(sys.stderr):
        patch.chdir(folder)
        if program == "cai.bench.by_hand":
            return json.dumps(by_hand(json.loads(Path(rest[0]).read_text())))
        assert program == "cai.experiment" and experiment(rest) == 0
    return ""


def test_a_script_by_hand_gives_what_the_pipeline_gives(
    tiny: Any, rated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cai.bench.overhead.run_program", in_this_process)
    words = ["--by-hand", "--model", "tiny-random", "--dtype", "float32", "--data", str(rated), "--json"]
    assert main(["pipeline", *words, *SMALL]) == 0
    found = json.loads(capsys.readouterr().out)
    same = found["agreement"]
    assert same["sides"] == 1 and same["odds"] < 1e-3
    assert same["reward_losses"] < 1e-4 and same["sft_loss"] < 1e-2 and same["pair_rewards"] < 1e-2
    assert same["kl"] == {"pipeline": 0, "by hand": 0}
    # Data, preferred answers, SFT, labels, reward model, PPO; three answers, pairs and answers scored, games, ratings.
    assert found["stages"] >= 15 and 0 < found["between"]["median"] < found["clock"]["pipeline"]["median"]


def test_the_largest_difference() -> None:
    assert largest([1.0, 2.0, -1.0], [1.5, 2.0, 1.0]) == 2.0
    with pytest.raises(ValueError):
        largest([1.0], [1.0, 2.0])


def test_neither_a_run_nor_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(main, ["pipeline"]) == 2
    assert "there is no run to look at" in capsys.readouterr().err
