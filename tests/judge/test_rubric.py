"""Answers scored criterion by criterion: scores, gates, labels by hand, on a made judge that holds known criteria."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedJudge, asked_judge
from test_judging import logs, pair
from test_preflight import Bench, folder

from cai.config.panel import ArmJudge
from cai.constitution import read_constitution
from cai.core.records import Abstained, Label, Message, Pair, Prompt, read_jsonl
from cai.core.store import digest_of, keyed
from cai.data.input_file import InputFile
from cai.data.rubrics import RubricItem, read_rubrics
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_answers, judge_pairs
from cai.judge.label import label_by_judge
from cai.judge.preflight import preflight
from cai.judge.rubric import GATED_OUT, NO_CRITERIA, before, contributions, score, scores

WHOLE = math.log(99)  # log-odds of 0.99


def made_judge(met: dict[str, tuple[float, float]], mass: dict[str, float] | None = None) -> ScriptedJudge:
    """met: text of a criterion or a condition -> P(Yes) of Yes or No for "Yes sir." and for any other answer.

    mass: what Yes and No hold together, where that is not 0.9.
    """

    def script(question: Any) -> tuple[float, ...]:
        shown = question.chat[-1].content
        text = next(text for text in met if text in shown)
        share = met[text][0 if "Assistant: Yes sir." in shown else 1]
        whole = (mass or {}).get(text, 0.9)
        return logs(whole * share, whole * (1 - share))

    return ScriptedJudge(script)


def item(text: str, points: float, only_if: str = "") -> RubricItem:
    return RubricItem(text, points, text, only_if)


def rubric(tmp_path: Path, *items: RubricItem, **row: Any) -> InputFile:
    made = [{"criterion": i.criterion, "points": i.points, "only_if": i.only_if or None} for i in items]
    file = tmp_path / "rubrics.jsonl"
    with file.open("a") as lines:
        lines.write(json.dumps({**row, "rubrics": made}) + "\n")
    return InputFile(str(file), digest_of(file.read_text()))


def judge_by(file: InputFile, **settings: Any) -> AskedJudge:
    asked = asked_judge(ArmJudge.model_validate({"preflight": None, "rubric": {"file": "r"}, **settings}))
    constitution: Any = SimpleConstitution()
    return replace(asked.under(constitution), rubric=file)


class SimpleConstitution:
    """A constitution that must not be read."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a rubric was asked by {name} of a constitution")


def label(engine: ScriptedJudge, file: InputFile, one: Pair | None = None, **settings: Any) -> Label | Abstained:
    (verdict,) = judge_pairs(engine, [one or pair()], judge_by(file, **settings), title="judge")
    return verdict


def odds(verdict: Label | Abstained) -> float:
    assert isinstance(verdict, Label)
    return math.log(verdict.p_a / (1 - verdict.p_a))


# Scores ---------------------------------------------------------------------------------------------------------------


def test_healthbench_scores_its_own_example_so() -> None:
    """7, 5 and 10 points and -6, of which 7, 10 and -6 are met: (7 + 10 - 6) / 22 (its test_calculate_score)."""
    assert score([(7, 1), (5, 0), (10, 1), (-6, 1)]) == 0.5


def test_rubrics_as_rewards_scores_weighted_shares() -> None:
    """Essential 1.0, important 0.7, optional 0.3: the first two met."""
    assert score([(1.0, 1), (0.7, 1), (0.3, 0)]) == pytest.approx(0.85)


def test_half_a_yes_is_half_of_the_points_and_faults_go_below_nothing() -> None:
    assert score([(4, 0.5), (1, 1.0)]) == pytest.approx(0.6)
    assert score([(2, 0.0), (-4, 1.0)]) == -2.0
    assert score([(-4, 0.5), (-1, 0.0)]) == pytest.approx(-0.4)  # over 5: there are no points above 0
    assert score([]) == 0.0


# Labels ---------------------------------------------------------------------------------------------------------------


def test_a_label_by_hand(tmp_path) -> None:
    """a: (3 * 0.9 - 2 * 0.2 + 1 * 0.5) / 4 = 0.7; b: (3 * 0.1 - 2 * 0.8 + 1 * 0.5) / 4 = -0.2."""
    met = {"is kind": (0.9, 0.1), "is rude": (0.2, 0.8), "is short": (0.5, 0.5)}
    file = rubric(tmp_path, item("It is kind.", 3), item("It is rude.", -2), item("It is short.", 1))
    verdict = label(made_judge(met), file)
    assert odds(verdict) == pytest.approx(0.9 * WHOLE) and verdict.votes[0].method == "rubric"
    assert [(vote.principle, vote.order, vote.fault) for vote in verdict.votes] == [
        ("It is kind.", "each", ""), ("It is rude.", "each", ""), ("It is short.", "each", "")
    ]  # fmt: skip
    kind, rude, short = (math.log(vote.p_a / (1 - vote.p_a)) for vote in verdict.votes)
    assert (kind, rude, short) == pytest.approx((0.8 * WHOLE, 0.6 * WHOLE, 0.0))  # each as if it were all
    assert scores(verdict.votes, read_rubrics(file.path).of(pair().prompt)) == pytest.approx((0.7, -0.2))
    adds = contributions(verdict.votes, read_rubrics(file.path).of(pair().prompt))
    assert adds == pytest.approx({"It is kind.": 0.6, "It is rude.": 0.3, "It is short.": 0.0})
    assert odds(label(made_judge(met), file, temperature=0.5)) == pytest.approx(1.8 * WHOLE)
    assert before(verdict) == pytest.approx(0.9 * WHOLE)


def test_swapping_the_answers_turns_the_label(tmp_path) -> None:
    file = rubric(tmp_path, item("It is kind.", 3), item("It is rude.", -2))
    engine = made_judge({"is kind": (0.9, 0.1), "is rude": (0.2, 0.8)})
    first, second = (label(engine, file, pair(a=a, b=b)) for a, b in (("Yes sir.", "No."), ("No.", "Yes sir.")))
    assert odds(first) == pytest.approx(-odds(second))


def test_a_decoy_moves_nothing_and_the_sign_of_points_no_question(tmp_path) -> None:
    """A decoy that both answers meet alike halves the weight of the rest, and turns nothing; the questions of negative
    points are those of positive ones."""
    met = {"is kind": (0.9, 0.1), "names a colour": (0.37, 0.37)}
    alone = label(made_judge(met), rubric(tmp_path, item("It is kind.", 3)))
    engine = made_judge(met)
    minus = label(engine, rubric(tmp_path, item("It names a colour.", -3)))
    assert odds(minus) == pytest.approx(odds(alone))  # the divisor is that of points above 0: not moved at all
    assert all(question.options == ("Yes", "No") for question in engine.questions)
    decoys = [item(f"It names a colour {n}.", 1) for n in range(3)]
    (tmp_path / "more").mkdir()
    half = label(made_judge(met), rubric(tmp_path / "more", item("It is kind.", 3), *decoys))
    assert odds(half) == pytest.approx(odds(alone) / 2)
    (tmp_path / "only").mkdir()
    tie = label(made_judge(met), rubric(tmp_path / "only", *decoys))
    assert isinstance(tie, Label) and tie.p_a == 0.5


def test_a_criterion_cannot_outvote_more_points_by_being_surer(tmp_path) -> None:
    """One point at P 0.999999 against two points at 0.9: 1 * 1 < 2 * 0.8."""
    met = {"is kind": (1e-6, 1 - 1e-6), "is safe": (0.9, 0.1)}
    verdict = label(made_judge(met), rubric(tmp_path, item("It is kind.", 1), item("It is safe.", 2)))
    assert odds(verdict) == pytest.approx((2 * 0.8 - (1 - 2e-6)) / 3 * WHOLE)


def test_each_answer_is_asked_about_alone_and_a_question_once(tmp_path) -> None:
    engine = made_judge({"is kind": (0.9, 0.1)})
    file = rubric(tmp_path, item("It is kind.", 3))
    judge_pairs(engine, [pair(), pair(b="Yes sir.", a="Get lost.")], judge_by(file), title="judge")
    assert len(engine.questions) == 2
    for question in engine.questions:
        shown = question.chat[-1].content
        assert ("Yes sir." in shown) != ("Get lost." in shown) and "Criterion: It is kind." in shown


# Gates ----------------------------------------------------------------------------------------------------------------

CARE = item("It warns of the dose.", 4, "It names a medicine.")


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ((0.9, 0.9), (4 * 0.5 + 1 * 0.6) / 5 - (4 * 0.1 + 1 * 0.4) / 5),  # holds for both
        ((0.9, 0.1), (4 * 0.5 + 1 * 0.6) / 5 - 0.4),  # b names none: it is measured by the other criterion alone
        ((0.1, 0.9), 0.6 - (4 * 0.1 + 1 * 0.4) / 5),
        ((0.1, 0.1), 0.6 - 0.4),  # it does not enter
        ((0.5, 0.5), (4 * 0.5 + 1 * 0.6) / 5 - (4 * 0.1 + 1 * 0.4) / 5),  # one half is enough
    ],
)
def test_a_criterion_counts_for_an_answer_of_which_its_condition_holds(tmp_path, gate, expected) -> None:
    met = {"warns of the dose": (0.5, 0.1), "names a medicine": gate, "is kind": (0.6, 0.4)}
    verdict = label(made_judge(met), rubric(tmp_path, CARE, item("It is kind.", 1)))
    assert odds(verdict) == pytest.approx(expected * WHOLE)
    condition = verdict.votes[0]
    assert condition.method == "only if" and condition.p_a == 0.5
    says = ["holds" if share >= 0.5 else "does not hold" for share in gate]
    assert condition.reply == f"a {says[0]}; b {says[1]}"
    assert verdict.votes[1].fault == ("" if max(gate) >= 0.5 else GATED_OUT)


def test_where_every_condition_fails_for_one_answer_it_has_nothing_and_for_both_there_is_no_label(tmp_path) -> None:
    file = rubric(tmp_path, CARE)
    met = {"warns of the dose": (0.25, 0.9)}
    assert odds(label(made_judge({**met, "names a medicine": (0.9, 0.1)}), file)) == pytest.approx(0.25 * WHOLE)
    neither = label(made_judge({**met, "names a medicine": (0.1, 0.1)}), file)
    assert isinstance(neither, Abstained) and neither.reason == GATED_OUT


# Abstention -----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_enters_neither_score(tmp_path) -> None:
    """The options hold 0.9 * 1e-3 of the probability: below judge.min_mass."""
    met = {"is kind": (0.9, 0.1), "is safe": (0.1, 0.9)}
    file = rubric(tmp_path, item("It is kind.", 1), item("It is safe.", 9))
    silent = made_judge(met, {"is safe": 1e-3})
    verdict = label(silent, file)
    assert odds(verdict) == pytest.approx(0.8 * WHOLE)
    assert verdict.votes[1].fault == "too little probability on the options"
    nothing = label(made_judge(met, {"is safe": 1e-3, "is kind": 1e-3}), file)
    assert isinstance(nothing, Abstained) and nothing.reason == "too little probability on the options"
    unknown = made_judge({"warns of the dose": (0.5, 0.5), "names a medicine": (0.9, 0.9)}, {"names a medicine": 1e-3})
    (tmp_path / "gate").mkdir()
    gated = label(unknown, rubric(tmp_path / "gate", CARE))
    assert isinstance(gated, Abstained) and gated.reason == "too little probability on the options"


def test_a_prompt_without_criteria_is_an_abstention_and_nobody_is_asked(tmp_path) -> None:
    engine = made_judge({"is kind": (0.9, 0.1)})
    file = rubric(tmp_path, item("It is kind.", 1), subset="weapons")
    verdict = label(engine, file)
    assert isinstance(verdict, Abstained) and verdict.reason == NO_CRITERIA and not engine.questions


def test_an_answer_without_words_loses_and_nobody_is_asked(tmp_path) -> None:
    engine = made_judge({"is kind": (0.9, 0.1)})
    verdict = label(engine, rubric(tmp_path, item("It is kind.", 1)), pair(a="  "))
    assert verdict == Label("pair 1", 0.0, "empty answer") and not engine.questions


# One answer alone -----------------------------------------------------------------------------------------------------


def test_an_answer_is_worth_its_score(tmp_path) -> None:
    met = {
        "is kind": (0.9, 0.1),
        "is rude": (0.2, 0.8),
        "warns of the dose": (0.5, 0.5),
        "names a medicine": (0.1, 0.9),
    }
    file = rubric(tmp_path, item("It is kind.", 3), item("It is rude.", -2), CARE)
    one = pair()
    asked = [(one.prompt, one.a), (one.prompt, one.b)]
    values = judge_answers(made_judge(met), asked, judge_by(file), title="rate")
    assert values == pytest.approx([(2.7 - 0.4) / 3, (0.3 - 1.6 + 2.0) / 7])
    silent = made_judge(met, dict.fromkeys(met, 1e-3))
    assert judge_answers(silent, asked, judge_by(file), title="rate") == [None, None]


# Stages ---------------------------------------------------------------------------------------------------------------


def test_the_label_stage_leaves_criteria_and_counts(tmp_path) -> None:
    met = {"is kind": (0.9, 0.1), "warns of the dose": (0.5, 0.1), "names a medicine": (0.1, 0.1)}
    rubric(tmp_path, item("It is kind.", 1))
    file = rubric(tmp_path, CARE, subset="privacy")
    rows = [pair("1"), pair("2", subset="weapons")]
    out = tmp_path / "out"
    out.mkdir()
    bench: Any = Bench(made_judge(met))
    label_by_judge(out, bench, pairs=folder(tmp_path / "in", rows), rule=None, preflight=None, judge=judge_by(file))
    labels = read_jsonl(out / "labels.jsonl", Label)
    assert [odds(each) for each in labels] == pytest.approx([0.8 * WHOLE] * 2)
    assert [len(each.votes) for each in labels] == [3, 1]
    counts = json.loads((out / "counts.json").read_text())
    assert counts["criteria asked about"] == 3 and counts[f"criteria left out: {GATED_OUT}"] == 1
    kept = read_rubrics(out / "rubrics.jsonl")
    assert [i.name for i in kept.of(rows[0].prompt)] == ["It is kind.", "It warns of the dose."]
    assert kept.of(rows[0].prompt) == read_rubrics(file.path).of(rows[0].prompt)


def test_a_judge_by_a_rubric_passes_a_preflight_and_is_calibrated(tmp_path) -> None:
    """People prefer the kind answer of 9 of 12 pairs, whose log-odds are 0.8 * ln 99 either way. Platt's targets for so
    few, with each pair both ways round, are 13/14 and 1/14: (9 * 13 + 3 * 1) / (12 * 14) = 5/7, of which the log-odds
    are ln 2.5."""
    rows = []
    for n in range(12):
        a, b = ("Yes sir.", "Get lost.") if n % 2 else ("Get lost.", "Yes sir.")
        prompt = Prompt(f"q{n}", (Message("user", f"Question {n}?"),), "x", "calibration")
        rows.append(Pair(f"p{n}", prompt, a, b, float((n % 2 > 0) == (n < 9))))
    judge = judge_by(rubric(tmp_path, item("It is kind.", 1)), calibrate=True, preflight={"accuracy": 0.5})
    out = tmp_path / "out"
    out.mkdir()
    made = folder(tmp_path / "in", rows)
    bench: Any = Bench(made_judge({"is kind": (0.9, 0.1)}))
    preflight(out, bench, data=made, pairs=made, judge=judge, controls=None)
    found = json.loads((out / "preflight.json").read_text())
    assert found["method"] == "rubric" and found["tried"][0]["found"]["accuracy"]["value"] == 0.75
    assert found["platt"] == [pytest.approx(math.log(2.5) / (0.8 * WHOLE), rel=1e-3), pytest.approx(0, abs=1e-6)]
    verdict = label(bench.engine(None, dtype="", system=None), judge.rubric, rows[1])
    assert before(Label("p", 1 / (1 + math.exp(-2.0 * odds(verdict))), "ai", verdict.votes), (2.0, 0.0)) == (
        pytest.approx(odds(verdict))
    )


def test_no_key_holds_the_constitution_or_where_the_file_is(tmp_path) -> None:
    file = rubric(tmp_path, item("It is kind.", 1))
    there, here = InputFile("elsewhere.jsonl", file.digest), InputFile("x.jsonl", "other")
    keys = [digest_of(keyed({"judge": judge_by(each)})) for each in (file, there, here)]
    assert keys[0] == keys[1] != keys[2]
    law = tmp_path / "law.txt"
    law.write_text("Choose the response that is kind.\n")
    plain = asked_judge(ArmJudge()).under(read_constitution(law))
    assert "rubric" not in plain.keyed() and "rubric" not in ArmJudge().model_dump()
