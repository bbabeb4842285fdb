"""A slimmed judge beside the whole one: the comparison by hand, the command, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from cai.config.load import Arm
from cai.config.sections import Labeller
from cai.config.slim import Distil, Slim
from cai.config.tree import load_tree
from cai.config.validation import validate
from cai.core.errors import UserError
from cai.core.records import Abstained, Estimate, Label, Message, Pair, Prompt, write_jsonl
from cai.core.store import Artifact
from cai.judge.slimming import acceptance
from cai.judge.slimming.acceptance import compare, first_by_hash, notes_on, texts_of, verdict_of
from cai.judge.slimming.command import conversations, parted, settings_of
from cai.judge.slimming.stages import calibration_texts
from cai.models.__main__ import main
from cai.models.references import find


def pair(number: int, human: float | None = 1.0, split: Any = "test", prompt: int | None = None) -> Pair:
    of = Prompt(f"p{number if prompt is None else prompt}", (Message("user", f"Question {number}?"),), "s", split)
    return Pair(f"{number}", of, "Yes.", "No.", human)


def labels(*p_a: float | None) -> list[Label | Abstained]:
    return [
        Abstained(f"{n}", "unread") if p is None else Label(f"{n}", p, "ai") for n, p in enumerate(p_a)
    ]  # fmt: skip


# 1. The comparison, by hand -------------------------------------------------------------------------------------------


def test_agreement_is_compared_pair_by_pair():
    """People prefer a in all ten. Before, 9 are right; after, 6: of four pairs that were right before alone and one
    that is right after alone, as lopsided a split comes by chance with 2 (C(5,4) + C(5,5)) / 2^5 = 0.375."""
    pairs = [pair(n) for n in range(10)]
    before = labels(0.9, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9)
    after = labels(0.1, 0.2, 0.3, 0.4, 0.8, 0.6, 0.6, 0.6, 0.6, 0.6)
    found = compare(pairs, before, after)
    assert (found["only_before"], found["only_after"]) == (4, 1)
    assert found["mcnemar"] == pytest.approx(0.375)
    assert found["difference"].value == pytest.approx(-0.3) and found["difference"].n == 10
    assert found["difference"].low < -0.3 < found["difference"].high
    assert found["turned"].value == pytest.approx(0.5)  # pairs 0 to 4


def test_what_people_or_a_judge_left_open_is_left_out():
    """Of five: people are split, nobody judged, the judge abstained before, a tie after (half right), both right."""
    pairs = [pair(0, 0.5), pair(1, None), pair(2), pair(3), pair(4)]
    found = compare(pairs, labels(0.9, 0.9, None, 0.9, 0.9), labels(0.1, 0.1, 0.9, 0.5, 0.9))
    assert found["difference"].n == 2 and found["difference"].value == pytest.approx(-0.25)
    assert (found["only_before"], found["only_after"]) == (1, 0)
    assert found["turned"].n == 4 and found["turned"].value == pytest.approx(0.75)  # a tie is another side


def test_pairs_that_nobody_judged_have_no_difference():
    found = compare([pair(0, None)], labels(0.9), labels(0.1))
    assert found["difference"].n == 0 and math.isnan(found["mcnemar"]) and found["turned"].value == 1


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.2, -0.01, "worse"), (-0.04, 0.03, "as good"), (-0.06, 0.03, "unknown"), (math.nan, math.nan, "unknown")],
)
def test_the_verdict_is_the_intervals(low, high, verdict):
    assert verdict_of(Estimate(0.0, low, high, 9, 9), 0.05) == verdict


def test_texts_are_of_different_prompts_and_calibration_is_of_training_prompts(tmp_path):
    pairs = [pair(0, split="train", prompt=7), pair(1, split="train", prompt=7), pair(2), pair(3)]
    assert len(texts_of(pairs)) == 3 and len(first_by_hash(pairs, 2)) == 2
    alone = Prompt("alone", (Message("user", "Alone?"),), "s", "train")
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    write_jsonl(tmp_path / "prompts.jsonl", [pairs[0].prompt, pairs[2].prompt, alone])
    texts = calibration_texts(Artifact("load_data", "k", tmp_path, "d"))
    assert texts == [(Message("user", "Question 0?"), Message("assistant", "Yes.")), (Message("user", "Alone?"),)]


# 2. By hand -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_slims_measures_and_prints(sharp, tmp_path, capsys, monkeypatch):
    """Whole: the tiny model, two processes that judge by turns, the table."""
    monkeypatch.setattr(acceptance, "ROUNDS", 1)
    rows = [
        {"id": f"{n}", "prompt": f"What is {n} and {n}?", "a": "It is that.", "b": "No idea at all.", "human": n % 2}
        for n in range(8)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "half"
    given = ["slim", sharp.place, "--how", "wanda", "--sparsity", "2:4", "--out", str(out), "--cache", str(tmp_path)]
    more = ["--pairs", str(tmp_path / "pairs.jsonl"), "--dtype", "float32", "--constitution", "constitutions/short.txt"]
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main([*given, *more]) == 0
    told = capsys.readouterr().out
    for line in ("agrees with people", "both orders agree", "perplexity", "on the disk, MB", "memory, MB", "McNemar p"):
        assert line in told
    assert "measured on 4 pairs" in told and "loaded again: differs by at most 0 nats" in told
    assert "50% of the weights of its linear layers are 0, and they are stored and multiplied as any other" in told
    assert find(str(out)).digest != sharp.digest
    with pytest.raises(UserError, match="something stands here already"):
        main([*given, *more])
    with pytest.raises(UserError, match=r"is slimmed already \(wanda\)"):
        main(["slim", str(out), "--how", "magnitude", "--out", str(tmp_path / "again"), *more])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--how", "wonda"), 'there is no way to slim called "wonda"'),
        (("--how", "wanda", "--sparsity", "1.5"), "1.5 is no share"),
        (("--how", "wanda", "--sparsity", "half"), '"half" is no share'),
        (("--how", "int8", "--sparsity", "0.3"), "int8 has no sparsity"),
        (("--how", "low-rank", "--rank", "0"), "0 is not a number from 1 on"),
        (("--how", "wanda", "--energy", "0.5"), "wanda has no energy"),
        (("--how", "wanda", "--method", "rate,choice"), "asked by one method"),
        (("--how", "wanda", "--pairs", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--how", "wanda", "--principles", "none"), "none is not a number from 1 on"),
    ],
)
def test_a_bad_command_is_a_message(sharp, tmp_path, monkeypatch, options, fault):
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(UserError) as caught:
        main(["slim", sharp.place, "--out", str(tmp_path / "x"), "--cache", str(tmp_path), *options])
    assert fault in str(caught.value) and caught.value.remedy
    assert not (tmp_path / "x").exists()


def test_texts_and_pairs_are_of_different_prompts():
    first, pairs = parted([pair(n, prompt=n // 2) for n in range(8)], None)
    texts = conversations(first)
    assert len(texts) == 2 and len(pairs) == len(first) == 4
    asked = {message.content for chat in texts for message in chat}
    assert not asked & {one.prompt.messages[0].content for one in pairs}
    with pytest.raises(UserError, match="one prompt cannot be parted"):
        parted([pair(0, prompt=1), pair(1, prompt=1)], None)


# 3. In an experiment --------------------------------------------------------------------------------------------------


def judge_of(tmp_path: Path, text: str) -> Labeller:
    (tmp_path / "judge.yaml").write_text(text)
    return validate(load_tree(tmp_path / "judge.yaml"), Labeller)


def test_a_word_is_a_section_and_no_part_of_the_judges_key(tmp_path):
    assert judge_of(tmp_path, "slim: int8").slim == Slim(how="int8")
    assert judge_of(tmp_path, 'slim: {how: wanda, sparsity: "2:4"}').slim == Slim(how="wanda", sparsity="2:4")
    assert "slim" not in judge_of(tmp_path, "slim: int8").model_dump()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("slim: int9", "int9"),
        ("slim: {how: int8, rank: 3}", "int8 has no rank"),
        ("slim: {how: wanda, sparsity: 1.0}", "sparsity"),
    ],
)
def test_a_bad_key_is_a_message_with_its_line(tmp_path, text, fault):
    with pytest.raises(UserError) as caught:
        judge_of(tmp_path, text)
    assert fault in str(caught.value) and "judge.yaml:1" in str(caught.value)


def test_direct_rewards_and_served_judges_are_not_slimmed():
    given: dict[str, Any] = {"constitution": "c", "data": {"source": "d"}}
    with pytest.raises(ValueError, match="slim: is measured on its labels"):
        Arm.model_validate(given | {"judge": {"slim": "int8"}, "rl": {"method": "direct"}})
    with pytest.raises(ValueError, match="a server has them"):
        Arm.model_validate(given | {"judge": {"slim": "int8", "server": "http://127.0.0.1:1/v1"}})


def test_notes_say_what_saves_no_time():
    made: Any = type("Made", (), {})()
    made.faster, made.zeros, made.weights, made.layers, made.left = [0.9, 1.0, 1.1], 0, 10, 3, 4
    made.before = made.after = type("Side", (), {"labelled": 5})()
    assert (
        "3 of 7 linear layers are two thin matrices each; the other 4 would be no smaller"
        in notes_on(made, "low-rank", "cpu")[0]
    )
    assert "kernels that multiply rounded weights as they are" in notes_on(made, "int8", "cpu")[0]
    made.zeros = 5
    assert "dense kernels save neither room nor time" in notes_on(made, "wanda", "cpu")[0]
    assert "1.00 times as fast as before (0.90 to 1.10 over 3 rounds)" in notes_on(made, "wanda", "cpu")[0]


def test_settings_of_the_command_are_those_of_the_section():
    given = {"how": "wanda", "sparsity": "2:4", "energy": None, "rank": None, "texts": 5, "limit": None, "distil": 9}
    args: Any = type("Args", (), given)()
    assert settings_of(args) == Slim(how="wanda", sparsity="2:4", texts=5, distil=Distil(pairs=9))
