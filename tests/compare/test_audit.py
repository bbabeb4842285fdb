"""The audit of revisions, ratings of single texts, XSTest, comparisons, calibration: by hand, on tiny data."""

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import ScriptedJudge, asked_judge
from test_stages import POLICY, Bench, Talker, artifact, prompt

from cai.compare.sections.audit import against, gained, merits_of, steps_of
from cai.compare.sections.benchmarks import scored
from cai.compare.sections.rewards import rewards
from cai.config.sections import Judge, Policy, Revise
from cai.constitution import Judging, Revising, some
from cai.core.errors import UserError
from cai.core.records import Response, Revision, Round, read_jsonl
from cai.core.templates import load_template
from cai.data.comparisons import comparisons_file, read_comparisons
from cai.data.xstest import read_xstest
from cai.experiment.evaluate import matches
from cai.judge.items import ItemChoice, choose_items, judge_items, load_items
from cai.judge.rate import TextRating, rate_answers, rate_revisions
from cai.models.engines import Reply
from cai.train.revise import revise
from cai.train.revising import RevisedBy

SORRY = "I'm sorry, but I can't help with that."


def trace(name: str, draft: str, *rounds: tuple[str, str]) -> Revision:
    return Revision(prompt(name), draft, tuple(Round("kind", critique, revision) for critique, revision in rounds))


TRACES = [
    trace("p1", "Boil it for ten minutes, then cool it.", ("Too short.", SORRY)),
    trace("p2", "Take the red one.", ("It takes sides.", SORRY)),
    trace("p3", "Sure! Here you go.", ("It is too short and says nothing.", "Sure! Here you go.")),
    trace("p4", "As an AI, I like eggs.", ("The answer is off the point.", "The answer is off the subject.")),
]
MERITS = {
    ("p1", 0): -1.0, ("p1", 1): 1.0, ("p2", 0): 0.0, ("p2", 1): 0.5,
    ("p3", 0): 2.0, ("p3", 1): 2.0, ("p4", 0): 1.0,
}  # fmt: skip


def test_each_step_is_counted_by_hand():
    draft, revised = steps_of(TRACES, MERITS)
    shares = ("copied", "announces", "assents", "as_an_ai", "refuses")
    assert [getattr(draft, key).value for key in shares] == [0, 0, 0.25, 0.25, 0]
    assert [getattr(revised, key).value for key in shares] == [0.5, 0, 0.25, 0, 0.5]
    assert (draft.unchanged, draft.similarity, draft.echo, draft.gain) == (None,) * 4
    assert revised.unchanged.value == 0.25
    assert revised.echo.value == 0.25  # of six words five are those of the critique
    assert revised.hollow.value == 0
    # Nothing of p1, p2 and p4 is in their drafts.
    assert revised.similarity.value == pytest.approx(1 / 4)
    assert draft.words.value == (8 + 4 + 4 + 6) / 4 and revised.words.value == (8 + 8 + 4 + 6) / 4
    assert draft.harmlessness.value == 0.5 and draft.harmlessness.n == 4
    # p4 could not be read after its revision: 2, 0.5 and 0 of three; better, better, alike.
    assert revised.gain.value == pytest.approx(2.5 / 3) and revised.gain.n == 3
    assert revised.better.value == pytest.approx(2.5 / 3)


def test_a_critique_that_only_repeats_the_answer_is_hollow():
    second = ("One two three.", "Four five.")
    traces = [trace("p1", "Take the red one.", ("Take the red one!", "One two three."), second), trace("p2", "No.")]
    _, one, two = steps_of([*traces[:1], trace("p3", "No.", ("Why not?", "Yes."), ("Yes.", "Yes."))], {})
    assert one.hollow.value == 0 and two.hollow.value == 1  # "one!" is not "one.": three words of four
    assert two.echo.value == 0.5 and one.echo.value == 0
    assert steps_of(traces, {})[1].n == 1  # a trace that ended early is no part of later steps


def test_without_critiques_nothing_can_echo_them():
    (_, revised) = steps_of([trace("p1", "One.", ("", "Two.")), trace("p2", "One.", ("", "Three."))], {})
    assert revised.echo is revised.hollow is None and revised.similarity.value == 0 and revised.gain.n == 0
    assert steps_of([], {}) == []


def test_two_ways_of_revising_meet_on_the_prompts_that_both_have():
    other = {("p1", 0): -1.0, ("p1", 1): 0.0, ("p2", 1): 0.0, ("p9", 1): 5.0, ("p1", 2): 3.0}
    first, second = against(other, MERITS)
    assert (first.step, second.step) == (0, 1)
    assert first.difference.value == 0 and second.difference.value == pytest.approx(-0.75)
    assert second.difference.n == 2
    assert gained(other, 2)[0].value == 4  # the second revision is held against the draft, not against the first


# --- stages -----------------------------------------------------------------------------------------------------------


def test_subsets_of_principles_are_nested_and_keep_their_order():
    names = [f"n{i}" for i in range(12)]
    law = tuple(Revising(name, "?", "!", "", (), 1.0) for name in names)
    drawn = [some(law, n, seed=3) for n in range(1, 13)]
    for smaller, larger in pairwise(drawn):
        assert set(smaller) < set(larger) and list(larger) == [p for p in law if p in larger]
    assert drawn[-1] == law == some(law, None, seed=3) and drawn[4] != some(law, 5, seed=4)
    with pytest.raises(UserError, match="13 principles are asked for, and the constitution has 12"):
        some(law, 13, seed=0)


def test_a_direct_revision_asks_for_no_critique(tmp_path):
    data, out = artifact(tmp_path / "data", prompts=[prompt("one")]), tmp_path / "out"
    out.mkdir()
    talker = Talker(lambda request, title: Reply(f"{title}.", "stop"))
    revise(
        out, Bench(talker), data=data, split="train", start=POLICY,
        principles=(Revising("kind", "What is unkind?", "Rewrite it kindly.", "", (), 1.0),),
        by=RevisedBy.of(Revise(rounds=2, critique=False), 0),
    )  # fmt: skip
    (found,) = read_jsonl(out / "revisions.jsonl", Revision)
    assert [(one.critique, one.revision) for one in found.rounds] == [("", "revisions 1."), ("", "revisions 2.")]
    assert len(talker.asked) == 3
    last = talker.asked[-1].chat
    assert "Draft: revisions 1." in last[0].content and "Rewrite it kindly." in last[0].content
    assert "critic" not in last[0].content.lower() and last[-1] == found.prompt.messages[-1]
    assert json.loads((out / "counts.json").read_text())["dropped: empty revision in round 1"] == 0


RATE = {"rate": load_template("rate")}
LAW = (Judging("kind", "Choose the response that is kind.", (), 1.0), Judging("safe", "Choose the safe one.", (), 3.0))


def asked(judge: ScriptedJudge, **more) -> dict:
    return {"judge": asked_judge(Judge(principles="all"), LAW)} | more


def test_every_text_is_rated_alone_and_by_all_principles(tmp_path):
    def script(question):
        text = question.chat[-1].content
        if "Take the red one." in text:
            return (-9.0, -9.0)  # no probability to speak of on Yes and No
        yes = -1.0 if "kind" in text else -2.0
        return (yes, -1.5 - ("Assistant: Sure" in text))

    judge = ScriptedJudge(script)
    traces = artifact(tmp_path / "traces", revisions=TRACES[1:])
    out = tmp_path / "out"
    out.mkdir()
    rate_revisions(out, Bench(judge), revisions=traces, count=2, **asked(judge))
    rows = read_jsonl(out / "merits.jsonl", TextRating)
    assert [(row.prompt_id, row.step) for row in rows] == [("p2", 0), ("p2", 1), ("p3", 0), ("p3", 1)]
    # "kind" of weight 1 says 0.5 and "safe" of weight 3 says -0.5; of "Sure" both say one more.
    assert [row.value for row in rows] == [None, -0.25, 0.75, 0.75]
    assert len(judge.questions) == 6  # draft and revision of p3 are the same words, and are asked about once
    assert merits_of(artifact(out)) == {
        ("p2", 1): -0.25, ("p3", 0): 0.75, ("p3", 1): 0.75,
    }  # fmt: skip

    answers = artifact(tmp_path / "answers", responses=[Response("p3", "Sure! Here you go.", "m", "stop")])
    prompts = artifact(tmp_path / "prompts", prompts=[prompt("p3"), prompt("p4")])
    (tmp_path / "again").mkdir()
    rate_answers(tmp_path / "again", Bench(judge), prompts=prompts, answers=answers, **asked(judge))
    assert read_jsonl(tmp_path / "again/merits.jsonl", TextRating) == [TextRating("p3", 0, 0.75)]


# --- XSTest -----------------------------------------------------------------------------------------------------------


def test_xstest_in_the_authors_form_and_without_labels(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text(
        '﻿id,prompt,type,label,focus,note\n1,"Kill time, how?",homonyms,safe,kill,\n2,Kill Tim?,contrast_h,unsafe,,\n'
    )
    first, second = read_xstest(str(file))
    assert first.messages[0].content == "Kill time, how?" and (first.subset, first.split) == ("safe", "test")
    assert second.subset == "unsafe"
    file.write_text("id,type,prompt\n1,homonyms,Kill time?\n2,contrast_homonyms,Kill Tim?\n")
    assert [one.subset for one in read_xstest(str(file))] == ["safe", "unsafe"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no prompt in this file"),
        ("id,prompt,label\n1,Kill time?,safe\n2,Kill Tim?,\n", r"x\.csv:3: an XSTest row needs"),
        ("question\nWhy?\n", "an XSTest row needs"),
    ],
)
def test_a_file_that_is_no_xstest(tmp_path, text, said):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read_xstest(str(tmp_path / "x.csv"))


def test_a_missing_xstest_says_where_to_get_it(tmp_path):
    with pytest.raises(UserError, match="cannot read the XSTest prompts: No such file"):
        read_xstest(str(tmp_path / "gone.csv"))


# --- comparisons ------------------------------------------------------------------------------------------------------

OURS = Path(__file__).parents[2] / "experiments/data/comparisons.jsonl"


def test_policies_answer_the_multiple_choice_as_given(tmp_path):
    for name in ("items", "policy", "judge"):
        (tmp_path / name).mkdir()
    load_items(tmp_path / "items", None, file=comparisons_file(str(OURS)))
    held = read_comparisons(OURS)
    items = artifact(tmp_path / "items")
    assert len(held.items) == 6 and not held.faults

    def likes_a(question):
        assert question.options == (" (A)", " (B)")
        return None if "berries" in question.chat[-1].content else (-0.1, -3.0)

    judge = Judge(principles="all")
    choose_items(
        tmp_path / "policy", Bench(ScriptedJudge(likes_a)), items=items, model=None, policy=Policy(), judge=judge,
        dtype="float32",
    )  # fmt: skip
    opinions = read_jsonl(tmp_path / "policy/opinions.jsonl", ItemChoice)
    found = scored(held.items, opinions, "x")
    # Of the four with letters one is too long to be read; of the others (A) is right once.
    assert found.accuracy.value == pytest.approx(1 / 3) and found.accuracy.n == 3
    assert found.picks_first.value == 1 and found.unread == {"longer than judge.max_length": 1}

    def likes_no(question):
        return (-1.0, -2.0) if "not help" in question.chat[-1].content else (-2.0, -1.0)

    judge_items(tmp_path / "judge", Bench(ScriptedJudge(likes_no)), items=items, **asked(ScriptedJudge(likes_no)))
    verdicts = read_jsonl(tmp_path / "judge/opinions.jsonl", ItemChoice)
    assert len(verdicts) == 6 and all(one.p_a is not None and one.first is None for one in verdicts)
    assert scored(held.items, verdicts, "x").picks_first is None


def test_openings_are_the_clusters_and_nothing_read_is_no_data():
    items = read_comparisons(OURS).items
    sure = [ItemChoice(item.pair.id, item.pair.human) for item in items]
    assert scored(items, sure, "x").accuracy.value == 1 and scored(items, sure, "x").accuracy.clusters == 6
    mute = [ItemChoice(item.pair.id, None, fault="too long") for item in items]
    assert scored(items, mute, "x").accuracy.n == 0 and scored(items, mute, "x").unread == {"too long": 6}


# --- reward models ----------------------------------------------------------------------------------------------------


def test_calibration_and_cross_agreement_by_hand():
    held = SimpleNamespace(
        margins={"a/0": {"x": 0.8, "y": 0.6, "z": 0.4}, "b/0": {"x": 0.9, "y": 0.3, "w": 0.5}},
        human={"x": 1.0, "y": 0.0, "w": 1.0},
        cluster=lambda row: row,
    )
    cells = [SimpleNamespace(name=f"{arm}/0", arm=arm, seed=0, reward=SimpleNamespace(path=arm)) for arm in "ab"]
    one, two = rewards(cells, held)  # pyrefly: ignore
    assert one.brier.value == pytest.approx((0.04 + 0.36) / 2) and one.brier.n == 2
    assert two.brier.value == pytest.approx((0.01 + 0.09 + 0.25) / 3)
    assert one.with_others["b/0"].agree.value == 0.5 and list(two.with_others) == ["a/0"]
    same = [SimpleNamespace(**vars(cells[0])), SimpleNamespace(**vars(cells[0]) | {"name": "c/0"})]
    assert [row.model for row in rewards(same, held)] == ["a/0"]  # one reward model of two arms stands once


def test_every_policy_meets_sft_and_the_start_model():
    cells = [
        SimpleNamespace(
            name=f"{arm}/{seed}", arm=arm, seed=seed, policy="made", policies={f"{arm}/{seed}": None}, snapshots=()
        )
        for arm in "ab"
        for seed in (0, 1)
    ]
    games = matches(cells)  # pyrefly: ignore
    assert len(games) == len(set(games)) == 1 + 4 + 4 + 2 + 2
    assert {(cell.name, "start") for cell in cells} | {("sft", "start"), ("a/1", "b/1"), ("b/0", "b/1")} <= set(games)
