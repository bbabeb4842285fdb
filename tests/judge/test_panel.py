"""What a panel says, by hand; and who is asked where another judge is unsure."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import ScriptedJudge, asked_judge
from test_stages import Bench, artifact, prompt

from cai.config.sections import Judge
from cai.constitution import Judging
from cai.core.records import Abstained, Label, Pair, RaterVote, read_jsonl
from cai.judge.panel import UNREAD, combine_panel, is_unsure, label_the_unsure, together

KIND = (Judging("n", "Choose the response that is good.", (), 1.0),)


def said(**judges):
    """Judge -> pair -> verdict, of P(a better) by pair; None for an abstention."""
    return {
        name: {pair: Abstained(pair, "no") if p is None else Label(pair, p, "ai") for pair, p in of.items()}
        for name, of in judges.items()
    }


# 1. Put together ------------------------------------------------------------------------------------------------------


def test_the_mean_is_of_log_odds_and_keeps_who_voted():
    """0.8 and 0.6: log-odds ln 4 and ln 1.5, whose mean is ln sqrt(6); P = sqrt(6) / (1 + sqrt(6))."""
    made, judges = together(
        ["p", "q", "r", "s"],
        said(one={"p": 0.8, "q": 0.3, "r": None, "s": None}, two={"p": 0.6, "q": None, "r": 0.9, "s": None}),
        "mean",
    )
    p, q, r, s = made
    assert p.p_a == pytest.approx(math.sqrt(6) / (1 + math.sqrt(6)))
    assert p.said == (RaterVote("one", 0.8), RaterVote("two", 0.6)) and p.votes == () and p.source == "ai"
    assert q.p_a == pytest.approx(0.3) and q.said == (RaterVote("one", 0.3),)  # the other has no vote, and no tie
    assert r.p_a == pytest.approx(0.9)
    assert s == Abstained("s", UNREAD)
    assert [(judge.name, judge.asked, judge.labelled, judge.decided, judge.right) for judge in judges] == [
        ("one", 4, 2, None, None), ("two", 4, 2, None, None),
    ]  # fmt: skip


def test_a_probability_of_one_does_not_outvote_everybody():
    (label,), _ = together(["p"], said(one={"p": 1.0}, two={"p": 0.0}), "mean")
    assert label.p_a == pytest.approx(0.5)
    (label,), _ = together(["p"], said(one={"p": 1.0}, two={"p": 0.2}), "mean")
    assert 0.5 < label.p_a < 1


def test_an_answer_without_words_stays_no_judges():
    empty = {"p": Label("p", 0.0, "empty answer")}
    (label,), _ = together(["p"], {"one": empty, "two": empty}, "mean")
    assert label.source == "empty answer" and label.p_a < 0.01


def test_the_last_that_can_be_read_decides():
    made, judges = together(
        ["p", "q", "r"], said(one={"p": 0.9, "q": 0.55, "r": 0.45}, two={"q": 0.2, "r": None}), "last"
    )
    assert [label.p_a for label in made] == [0.9, 0.2, 0.45]
    assert [(judge.asked, judge.labelled, judge.decided) for judge in judges] == [(3, 3, 2), (2, 1, 1)]
    assert made[1].said == (RaterVote("one", 0.55), RaterVote("two", 0.2))


def test_reliability_comes_from_agreement_and_goes_into_the_labels():
    rng = np.random.default_rng(0)
    pairs = [f"p{n}" for n in range(800)]
    truth = rng.random(800) < 0.5
    shares = {"good": (0.9, 0.7), "fair": (0.75, 0.6), "weak": (0.6, 0.9)}  # and how sure each one is
    votes = {}
    for name, (share, p) in shares.items():
        says_a = np.where(rng.random(800) < share, truth, ~truth)
        votes[name] = {pair: p if a else 1 - p for pair, a in zip(pairs, says_a, strict=True)}
    made, judges = together(pairs, said(**votes), "reliability")
    right = {
        rule: np.mean([(label.p_a > 0.5) == a for label, a in zip(labels, truth, strict=True)])
        for rule, labels in (("reliability", made), ("mean", together(pairs, said(**votes), "mean")[0]))
    }
    assert right["reliability"] > right["mean"] + 0.1
    assert [judge.right for judge in judges] == sorted((judge.right for judge in judges), reverse=True)


def test_the_stage_leaves_the_files_of_any_labels(tmp_path):
    pairs = [Pair(f"p{n}", prompt(f"q{n}"), "a", "b") for n in range(3)]
    parts = {
        "judge 1": artifact(tmp_path / "one", labels=[Label("p0", 0.8, "ai"), Label("p1", 0.3, "ai")], abstained=[]),
        "judge 2": artifact(tmp_path / "two", labels=[Label("p0", 0.8, "ai")], abstained=[Abstained("p1", "no")]),
    }
    out = tmp_path / "out"
    out.mkdir()
    combine_panel(out, None, pairs=artifact(tmp_path / "pairs", pairs=pairs), parts=parts, rule="mean")
    assert [label.pair_id for label in read_jsonl(out / "labels.jsonl", Label)] == [
        "p0",
        "p1",
    ]  # nobody was asked of p2
    assert json.loads((out / "counts.json").read_text()) == {"labelled": 2, "labelled by ai": 2}
    first, second = json.loads((out / "judges.json").read_text())
    assert (first["name"], second["labelled"], second["halves"]) == ("judge 1", 1, None)


# 2. Escalation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_a", "unsure"), [(0.69, True), (0.31, True), (0.5, True), (0.7, False), (0.3, False), (1.0, False)]
)
def test_unsure_is_a_probability_below(p_a, unsure):
    assert is_unsure(Label("p", p_a, "ai"), 0.7) is unsure


def test_a_judge_that_could_not_be_read_is_unsure():
    assert is_unsure(Abstained("p", "no"), 0.7)


def escalate(tmp_path, before, engine):
    pairs = [Pair(f"p{n}", prompt(f"q{n}"), f"a{n}", f"b{n}") for n in range(5)]
    labels = [verdict for verdict in before if isinstance(verdict, Label)]
    abstained = [verdict for verdict in before if isinstance(verdict, Abstained)]
    out = tmp_path / "out"
    out.mkdir()
    label_the_unsure(
        out, Bench(engine), pairs=artifact(tmp_path / "pairs", pairs=pairs), below=0.7, preflight=None,
        labels=artifact(tmp_path / "labels", labels=labels, abstained=abstained),
        judge=asked_judge(Judge(method="rate"), KIND),
    )  # fmt: skip
    return [label.pair_id for label in read_jsonl(out / "labels.jsonl", Label)], json.loads(
        (out / "counts.json").read_text()
    )


def test_exactly_the_unsure_pairs_are_asked(tmp_path):
    """Of five pairs the first judge was asked about four: sure of p0, unsure of p1 and p2, unread on p3."""
    judge = ScriptedJudge(lambda question: (-0.1, -2.0))
    before = [Label("p0", 0.9, "ai"), Label("p1", 0.6, "ai"), Label("p2", 0.4, "ai"), Abstained("p3", "no")]
    asked, counts = escalate(tmp_path, before, judge)
    assert asked == ["p1", "p2", "p3"] and counts == {"labelled": 3, "labelled by ai": 3, "sure already": 1}
    texts = " ".join(turn.content for question in judge.questions for turn in question.chat)
    assert "a1" in texts and "b3" in texts and "a0" not in texts and "a4" not in texts


def test_nobody_is_asked_where_all_is_sure(tmp_path):
    nobody = SimpleNamespace()  # no engine: any question is an error
    asked, counts = escalate(tmp_path, [Label("p0", 0.9, "ai"), Label("p1", 0.1, "ai")], nobody)
    assert asked == [] and counts == {"labelled": 0, "sure already": 2}
