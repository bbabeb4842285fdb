"""Benchmark of drafts, critiques and revisions: what is asked, the usual way's texts, the program on the tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest

from cai.bench.__main__ import main
from cai.bench.revise import by_engine, by_generate, requests_of, some_prompts
from cai.config.sections import Revise
from cai.constitution import read_constitution
from cai.core.errors import UserError, run_main
from cai.core.records import Message, Prompt
from cai.core.shipped import HOME
from cai.models.engines import Request, Sampling
from cai.models.engines.transformers import TransformersEngine
from cai.train.revising import RevisionTask, critique_chat, revision_chat, wording_of

PRINCIPLE = read_constitution("constitutions/harmless.txt").revising[0]


def prompt(number: int) -> Prompt:
    return Prompt(f"p{number}", (Message("user", "How do I cook rice" + " well" * number + "?"),), "x", "test")


def test_what_is_asked_is_what_the_stage_asks() -> None:
    prompts = [prompt(1), prompt(2)]
    task = RevisionTask("p2", prompts[1].messages, "Wash it.", PRINCIPLE)
    given = (prompts, ["Boil it.", "Wash it."], ["Too short.", "Rude."], [PRINCIPLE] * 2)
    assert requests_of("drafts", prompts, [], [], []) == [Request(p.messages, seed=0) for p in prompts]
    wording = wording_of(Revise())
    assert requests_of("critiques", *given)[1].chat == critique_chat(wording, task)
    assert requests_of("revisions", *given)[1].chat == revision_chat(wording, task, "Rude.")
    rounds = str(HOME / "prompts" / "examples" / "revise.jinja")
    shown = wording_of(Revise(examples=rounds))
    behind = requests_of("critiques", *given, examples=rounds)[1].chat
    assert behind == critique_chat(shown, task) and len(behind) > len(shown.examples) > 0


def test_both_ways_write_the_same(tiny: Any) -> None:
    engine = TransformersEngine(tiny, dtype="float32", device="cpu", system=None, batch_tokens=200)
    requests = [Request(prompt(number % 5).messages, seed=0) for number in range(7)]
    sampling = Sampling(10, temperature=0)
    ours, theirs = by_engine(engine, requests, sampling), by_generate(engine, requests, sampling, 3)
    assert ours == theirs and len(theirs) == 7 and ours[0] == ours[5]


@pytest.fixture
def given(tiny: Any, tmp_path: Path) -> list[str]:
    rows = [{"prompt": f"How do I cook rice {n}?", "a": f"Wash it, {n}.", "b": f"Ask, {n}."} for n in range(6)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row | {"human": 1}) + "\n" for row in rows))
    return ["revise", "--model", "tiny-random", "--dtype", "float32", "--prompts", "4", "--batch", "2", "--tokens", "6",
            "--rounds", "2", "--data", str(tmp_path / "pairs.jsonl")]  # fmt: skip


def test_the_program_on_the_tiny_model(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [kind["kind"] for kind in found["kinds"]] == ["drafts", "critiques", "revisions"]
    for kind in found["kinds"]:
        assert (kind["texts"], kind["same"]) == (4, 4) and 0 <= kind["ended"] <= 1
        assert list(kind["pace"]) == ["ours", "generate"]
        assert 0 < kind["ratio"]["clock"]["low"] <= kind["ratio"]["clock"]["high"]
    assert main(given) == 0
    assert "the same text: 4 of 4" in capsys.readouterr().out


def test_prompts_that_are_not_there(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(main, [*given, "--prompts", "50"]) == 2
    assert "there are only 6 prompts" in capsys.readouterr().err
    with pytest.raises(UserError, match="there are only 0 prompts"):
        some_prompts(given[-1], 1, lambda _: False)
