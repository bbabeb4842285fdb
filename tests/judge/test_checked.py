"""Votes that a program computes, among those of a judge: what is asked, what is mixed, what is counted; by hand."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedJudge, asked_judge
from test_judging import KIND, by_answer, judged, logs
from test_preflight import fly, folder

from cai.config.sections import Judge, Labeller, Reason
from cai.constitution import Checked, Judging, read_constitution
from cai.core.errors import UserError
from cai.core.odds import sigmoid
from cai.core.records import Abstained, Label, Message, Pair, Prompt, read_jsonl
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_answers
from cai.judge.checkers import BOTH, NEITHER, NO_CHECK, UNCHECKED
from cai.judge.label import label_by_judge
from cai.judge.reads.controls import ask_under, controls_for

SUMS = Checked("sums", "", (), 1.0, check="arithmetic")  # checked alone
ASKED = Checked("sums", "Choose the response that is right.", (), 1.0, check="arithmetic")  # asked where that is silent
ALL = Judge(principles="all")
SURE = math.log(99)  # log-odds of 0.99: 4.595


def pair(name: str, a: str, b: str, human: float | None = None) -> Pair:
    return Pair(f"pair {name}", Prompt(f"p{name}", (Message("user", "What is 3 + 4?"),), "sums", "test"), a, b, human)


RIGHT = pair("1", "It is 7.", "It is 8.")
COIN = by_answer({"7.": (0.4, 0.2), "8.": (0.2, 0.4), "No idea": (0.2, 0.2), "seven": (0.1, 0.4)})


def test_the_vote_is_computed_and_nobody_is_asked() -> None:
    nobody = ScriptedJudge(lambda question: None)
    for law in (SUMS, ASKED):
        (label,) = judged(nobody, ALL, [RIGHT], law)
        assert isinstance(label, Label) and label.p_a == pytest.approx(0.99) and nobody.questions == []
        (vote,) = label.votes
        assert (vote.method, vote.principle) == ("check", "sums")
        assert vote.reply == "checked by arithmetic: a holds (3 + 4 is 7); b does not hold (3 + 4 is 7, and it says 8)"


def test_where_the_check_is_silent_the_judge_is_asked_if_there_is_a_text() -> None:
    silent = pair("2", "No idea", "It is seven.")
    engine = by_answer({"No idea": (0.4, 0.1), "seven": (0.2, 0.4)})
    (label,) = judged(engine, ALL, [silent], ASKED)
    # odds of Yes: 4 and 1/2
    assert isinstance(label, Label) and label.p_a == pytest.approx(8 / 9) and len(engine.questions) == 2
    assert [(vote.method, vote.fault) for vote in label.votes] == [("check", UNCHECKED), ("rate", "")]
    (none,) = judged(engine, ALL, [silent], SUMS)
    assert isinstance(none, Abstained) and none.reason == UNCHECKED and len(engine.questions) == 2


@pytest.mark.parametrize(
    ("a", "b", "why"), [("7.", "It is 7.", BOTH), ("8", "9", NEITHER), ("It is 7.", "seven", UNCHECKED)]
)
def test_what_does_not_tell_the_answers_apart_is_no_vote_and_waters_nothing_down(a: str, b: str, why: str) -> None:
    (alone,) = judged(ScriptedJudge(lambda question: None), ALL, [pair("3", a, b)], SUMS)
    assert isinstance(alone, Abstained) and alone.reason == why
    engine = ScriptedJudge(lambda question: logs(0.4, 0.1) if f"Assistant: {a}" in question.chat[-1].content
                           else logs(0.2, 0.4))  # fmt: skip
    (both,) = judged(engine, ALL, [pair("3", a, b)], SUMS, KIND)
    (without,) = judged(engine, ALL, [pair("3", a, b)], KIND)
    assert isinstance(both, Label) and isinstance(without, Label) and both.p_a == without.p_a


def test_computed_and_judged_votes_mix_by_their_weights() -> None:
    kind = Judging("kind", "Choose the response that is kind.", (), 3.0)
    engine = by_answer({"7.": (0.1, 0.4), "8.": (0.4, 0.1)})  # kind to the wrong one: log-odds 2 log(1/4) = -2.773
    (label,) = judged(engine, ALL, [RIGHT], SUMS, kind)
    assert isinstance(label, Label)
    assert label.p_a == pytest.approx(sigmoid((1 * SURE + 3 * -2 * math.log(4)) / 4))  # -0.93: the judge prevails
    (turned,) = judged(engine, ALL, [RIGHT], Checked("sums", "", (), 4.0, check="arithmetic"), kind)
    assert isinstance(turned, Label) and turned.p_a == pytest.approx(sigmoid((4 * SURE - 6 * math.log(4)) / 7))


def test_the_judges_temperature_and_clamp_leave_a_computed_vote_alone() -> None:
    engine = by_answer({"7.": (0.1, 0.4), "8.": (0.4, 0.1)})
    sharp = Judge(principles="all", temperature=0.5)
    (label,) = judged(engine, sharp, [RIGHT], SUMS, KIND)
    assert isinstance(label, Label) and label.p_a == pytest.approx(sigmoid((SURE - 2 * math.log(4) / 0.5) / 2))
    (alone,) = judged(engine, sharp, [RIGHT], SUMS)
    assert isinstance(alone, Label) and alone.p_a == pytest.approx(0.99)
    # A judge that thinks is sure of the letter that b stands under, in either order; it counts for no more than 0.4.
    thinks = Judge(method="reason", principles="all", reason=Reason(clamp=(0.4, 0.6)))
    first_is_a = "It is 7."

    def letters(question: Any) -> tuple[float, ...]:
        text = " ".join(message.content for message in question.chat)
        a_first = text.index(first_is_a) < text.index("It is 8.")
        return logs(0.001, 0.9) if a_first else logs(0.9, 0.001)

    (thought,) = judged(ScriptedJudge(letters), thinks, [RIGHT], SUMS, KIND)
    assert isinstance(thought, Label)
    assert thought.p_a == pytest.approx(sigmoid((SURE + math.log(0.4 / 0.6)) / 2))


def test_with_combine_vote_a_check_is_a_voter() -> None:
    engine = by_answer({"7.": (0.1, 0.4), "8.": (0.4, 0.1)})
    safe, wise = (Judging(name, f"Choose what is {name}.", (), 1.0) for name in ("safe", "wise"))
    (label,) = judged(engine, Judge(principles="all", combine="vote"), [RIGHT], SUMS, KIND, safe, wise)
    # one of four is for a: (1 + 1/2) / (4 + 1)
    assert isinstance(label, Label) and label.p_a == pytest.approx(1.5 / 5)


def test_by_the_method_check_a_program_alone_labels() -> None:
    nobody = ScriptedJudge(lambda question: None)
    check = Judge(method="check", principles="all")
    found = judged(nobody, check, [RIGHT, pair("2", "7.", "It is 7")], ASKED, KIND)
    assert [getattr(verdict, "p_a", None) for verdict in found] == [pytest.approx(0.99), None]
    assert [vote.fault for vote in found[0].votes] == ["", NO_CHECK] and nobody.questions == []


def test_a_coin_with_a_check_recovers_the_truth() -> None:
    """200 pairs of a right and a wrong sum; the judge's log-probabilities are noise."""
    draws, pairs = random.Random(0), []
    for n in range(200):
        wrong = n + 4 + draws.choice([-2, -1, 1, 2])
        a, b = (n + 4, wrong) if n % 2 else (wrong, n + 4)
        question = Prompt(f"p{n}", (Message("user", f"What is {n} + 4?"),), "sums", "test")
        pairs.append(Pair(str(n), question, f"The answer is {a}.", f"It is {b}, of course.", float(n % 2)))

    def coin(question: Any) -> tuple[float, ...]:
        p = random.Random(repr(question)).uniform(0.1, 0.9)
        return logs(p, 1 - p)

    def right(*law: Judging) -> float:
        found = judged(ScriptedJudge(coin), ALL, pairs, *law)
        assert all(isinstance(verdict, Label) for verdict in found)
        return sum((v.p_a > 0.5) == (p.human == 1) for v, p in zip(found, pairs, strict=True)) / len(pairs)

    assert right(ASKED) == right(SUMS) == 1
    assert right(SUMS, KIND) == 1  # a coin's log-odds, at most 2 log 9 = 4.39, are below those of a check
    assert 0.35 < right(KIND) < 0.65


# One answer alone


def test_an_answer_alone_is_worth_half_a_vote() -> None:
    prompt = RIGHT.prompt
    answers = [(prompt, "It is 7."), (prompt, "It is 8."), (prompt, "No idea")]
    nobody = ScriptedJudge(lambda question: None)
    assert judge_answers(nobody, answers, asked_judge(ALL, [SUMS]), title="x") == [
        pytest.approx(SURE / 2), pytest.approx(-SURE / 2), None,
    ]  # fmt: skip
    assert judge_answers(nobody, answers, asked_judge(Judge(method="check"), [SUMS]), title="x")[1:] == [
        pytest.approx(-SURE / 2), None,
    ]  # fmt: skip
    engine = by_answer({"7.": (0.1, 0.4), "8.": (0.4, 0.1), "No idea": (0.2, 0.1)})
    heavy = Checked("sums", "Choose the response that is right.", (), 3.0, check="arithmetic")
    made = judge_answers(engine, answers, asked_judge(ALL, [heavy, KIND]), title="x")
    # the check by weight 3, the judge's log-odds of Yes by 1; without a check the judge is asked by both texts
    expected = [(3 * SURE / 2 - math.log(4)) / 4, (-3 * SURE / 2 + math.log(4)) / 4, math.log(2)]
    assert made == pytest.approx(expected)


# Around it


LAW = """\
## sums
Check: arithmetic

## kind
Critique: c
Revise: r
Prefer: Choose the response that is kind.
"""


def test_preflight_takes_checks_for_agreement_and_texts_for_reading(tmp_path: Path) -> None:
    (tmp_path / "law.txt").write_text(LAW)
    law = read_constitution(tmp_path / "law.txt")
    rows = [pair(str(n), "It is 7.", "It is 8.", 1.0) for n in range(12)]
    controls = controls_for(law)
    assert [p.name for p in controls.opposites] == ["kind"] and controls.missing == ()
    blind = ScriptedJudge(lambda question: logs(0.3, 0.3))
    answers = ask_under(blind, rows, asked_judge(ALL, law.checking), controls)
    assert {getattr(verdict, "p_a", 0) > 0.5 for verdict in answers.verdicts} == {True}  # by the check
    assert set(answers.text) == {0.0}  # the judge alone, by its text
    assert all("right" not in question.chat[-1].content for question in blind.questions)
    # A judge that disagrees with everybody passes with the check, and does not without it.
    settings = Labeller.model_validate({"principles": "all", "preflight": {"reads": "off"}})

    def wrong(question: Any) -> tuple[float, ...]:
        if len(question.options) != 2:
            return logs(*[0.1] * len(question.options))
        return logs(0.1, 0.2) if "It is 7" in question.chat[-1].content else logs(0.2, 0.1)

    train = [Pair(p.id, Prompt(p.prompt.id, p.prompt.messages, "sums", "train"), p.a, p.b, p.human) for p in rows]
    found = fly(tmp_path, settings, wrong, train, law=law.checking)
    assert found["tried"][0]["found"]["accuracy"]["value"] == 1.0
    with pytest.raises(UserError, match="agrees with people on 0%"):
        fly(tmp_path, settings, wrong, train, law=law.judging)
    # Nothing is asked where everything is checked, with controls or without.
    only = fly(tmp_path, settings, wrong, train, controls, law=(SUMS,))
    assert only["asked"] == [] and only["tried"][0]["found"]["accuracy"]["value"] == 1.0


def test_outcomes_are_counted_beside_the_labels(tmp_path: Path) -> None:
    rows = [RIGHT, pair("2", "7.", "It is 7."), pair("3", "8", "9"), pair("4", "7.", "seven"), pair("5", "8.", "7.")]
    engine = ScriptedJudge(lambda question: None)

    class Bench:
        def engine(self, *args: Any, **more: Any) -> Any:
            return engine

    out = tmp_path / "out"
    out.mkdir()
    judge = asked_judge(ALL, [SUMS])
    label_by_judge(out, Bench(), pairs=folder(tmp_path / "p", rows), rule=None, preflight=None, judge=judge)  # pyrefly: ignore
    counts = json.loads((out / "counts.json").read_text())
    assert counts == {
        "labelled": 2, "labelled by ai": 2, f"abstained: {BOTH}": 1, f"abstained: {NEITHER}": 1,
        f"abstained: {UNCHECKED}": 1, 'checked, "sums": one answer keeps to it': 2, f'checked, "sums": {BOTH}': 1,
        f'checked, "sums": {NEITHER}': 1, f'checked, "sums": {UNCHECKED}': 1,
    }  # fmt: skip
    kept = {label.pair_id: label.votes[0].reply for label in read_jsonl(out / "labels.jsonl", Label)}
    assert kept["pair 5"].startswith("checked by arithmetic: a does not hold")


def test_the_key_holds_a_check_only_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cai.core.store import digest_of

    plain = LAW[LAW.index("## kind") :]
    (tmp_path / "law.txt").write_text(plain)
    law = read_constitution(tmp_path / "law.txt")
    assert asked_judge(ALL, law.checking).keyed().keys() == asked_judge(ALL, (KIND,)).keyed().keys()
    assert digest_of(law.checking) == digest_of([KIND])
    (tmp_path / "law.txt").write_text(plain + "Check: arithmetic\n")
    checked = read_constitution(tmp_path / "law.txt")
    assert checked.judging == law.judging and checked.revising == law.revising
    assert digest_of(checked.checking) != digest_of([KIND])
    # A function's file is in it.
    (tmp_path / "keyed_checks.py").write_text("def good(prompt, answer):\n    return True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = asked_judge(Judge(checkers=("keyed_checks:good",)), [Checked("f", "", (), 1.0, check="keyed_checks:good")])
    assert list(own.keyed()["checks"]) == ["keyed_checks:good"]


def test_nothing_that_runs_is_run_without_leave(tmp_path: Path) -> None:
    (tmp_path / "law.txt").write_text("## f\nCheck: os:listdir\n")
    law = read_constitution(tmp_path / "law.txt")
    with pytest.raises(UserError, match="nothing allows that") as caught:
        AskedJudge.of(Judge(model="tiny-random"), law, "float32", 0)
    assert caught.value.where == str(tmp_path / "law.txt")
    with pytest.raises(UserError, match="nothing allows that"):
        judged(ScriptedJudge(lambda question: None), ALL, [RIGHT], *law.checking)
    with pytest.raises(UserError, match="nothing allows that"):
        judge_answers(ScriptedJudge(lambda q: None), [(RIGHT.prompt, "7")], asked_judge(ALL, law.checking), title="x")
