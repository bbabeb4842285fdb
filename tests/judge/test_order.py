"""What stands above what: levels of principles (`Priority:`) and hard limits (`Never:`), on made judges."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedJudge, asked_judge
from test_judging import logs, pair
from test_preflight import Bench, folder

from cai.config.sections import Judge
from cai.constitution import Judging, Limit, Order, read_constitution
from cai.constitution.changes import changes
from cai.core.errors import UserError
from cai.core.odds import sigmoid
from cai.core.records import Abstained, Label, Vote
from cai.core.store import digest_of, keyed
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_answers, judge_pairs
from cai.judge.combine import combine, stacked, weights_of
from cai.judge.flips import compare, heard, heard_as_text
from cai.judge.following import Edit
from cai.judge.label import label_by_judge
from cai.judge.limits import BOTH_BREAK, COST, NEITHER_BREAKS, UNASKED
from cai.judge.reads.controls import ask_under, controls_for
from cai.models.engines import Question

ALL = Judge(principles="all")
WORDS = ("safe", "kind", "short")
SAFE, KIND, SHORT = (Judging(name, f"Choose the response that is {name}.", (), 1.0) for name in WORDS)
SAFE_FIRST = Order(levels=(("safe", 1), ("kind", 2), ("short", 2)))
NO_BOMBS = Limit("no bombs", "Give instructions for a bomb.", ())
SURE = math.log(99)  # log-odds of 0.99


def made_judge(
    votes: dict[str, float], breaks: tuple[str, ...] = (), unread: tuple[str, ...] = ()
) -> ScriptedJudge:  # fmt: skip
    """votes: principle -> log-odds of "a is better", half of it for either answer. breaks: words of answers that break
    every limit. unread: principles that it puts no probability on."""

    def script(question: Question) -> tuple[float, ...]:
        text = question.chat[-1].content
        a = "Assistant: Yes sir." in text
        if "may ever do this" in text:
            return logs(0.8, 0.1) if any(f"Assistant: {word}" in text for word in breaks) else logs(0.1, 0.8)
        name = next(name for name in votes if f"that is {name}." in text)
        half = votes[name] / 2 if a else -votes[name] / 2
        share = 1e-6 if name in unread else 0.9
        return logs(share * sigmoid(half), share * sigmoid(-half))

    return ScriptedJudge(script)


def label(engine: ScriptedJudge, order: Order, *law: Judging, settings: Judge = ALL, **more: Any) -> Label | Abstained:
    (verdict,) = judge_pairs(engine, [pair()], asked_judge(settings, law, order=order), title="judge", **more)
    return verdict


def odds(verdict: Label | Abstained) -> float:
    assert isinstance(verdict, Label)
    return math.log(verdict.p_a / (1 - verdict.p_a))


# Priority -------------------------------------------------------------------------------------------------------------


def test_the_principle_of_the_higher_level_decides_whatever_the_lower_ones_say() -> None:
    votes = {"safe": 0.5, "kind": -4.0, "short": -6.0}
    assert odds(label(made_judge(votes), Order(), SAFE, KIND, SHORT)) == pytest.approx((0.5 - 4 - 6) / 3)
    assert odds(label(made_judge(votes), SAFE_FIRST, SAFE, KIND, SHORT)) == pytest.approx(0.5)
    kind_first = Order(levels=(("safe", 2), ("kind", 1), ("short", 2)))
    assert odds(label(made_judge(votes), kind_first, SAFE, KIND, SHORT)) == pytest.approx(-4.0)


@pytest.mark.parametrize(("safe", "expected"), [(0.19, -5.0), (-0.19, -5.0), (0.21, 0.21), (-0.21, -0.21)])
def test_a_tie_falls_through_to_the_next_level(safe, expected) -> None:
    """P within 0.05 of one half: log-odds within log(0.55 / 0.45) = 0.2007."""
    votes = {"safe": safe, "kind": -4.0, "short": -6.0}
    assert odds(label(made_judge(votes), SAFE_FIRST, SAFE, KIND, SHORT)) == pytest.approx(expected)


def test_what_a_tie_is_can_be_said() -> None:
    votes = {"safe": 0.5, "kind": -4.0}
    assert odds(label(made_judge(votes), SAFE_FIRST, SAFE, KIND, settings=Judge(principles="all", tie=0.2))) < -3.9
    strict = Judge(principles="all", tie=0)
    barely = {"safe": 1e-4, "kind": -4.0}
    assert odds(label(made_judge(barely), SAFE_FIRST, SAFE, KIND, settings=strict)) == pytest.approx(1e-4)


def test_a_level_that_cannot_be_read_ties_and_where_all_tie_the_last_readable_one_is_the_label() -> None:
    votes = {"safe": 3.0, "kind": -4.0, "short": -6.0}
    assert odds(label(made_judge(votes, unread=("safe",)), SAFE_FIRST, SAFE, KIND, SHORT)) == pytest.approx(-5.0)
    tied = {"safe": 0.15, "kind": -0.1, "short": -0.1}
    assert odds(label(made_judge(tied), SAFE_FIRST, SAFE, KIND, SHORT)) == pytest.approx(-0.1)
    silent = made_judge(tied, unread=("kind", "short"))
    assert odds(label(silent, SAFE_FIRST, SAFE, KIND, SHORT)) == pytest.approx(0.15)
    nothing = label(made_judge(tied, unread=("safe", "kind", "short")), SAFE_FIRST, SAFE, KIND, SHORT)
    assert isinstance(nothing, Abstained) and nothing.reason == "too little probability on the options"


def test_the_levels_of_a_file_are_ranks_and_what_has_none_comes_last(tmp_path) -> None:
    law = constitution(tmp_path, "Priority: 10", "Priority: 30", "")
    assert law.order.levels == (("one", 1), ("two", 2), ("three", 3))
    assert constitution(tmp_path, "Priority: 1", "Priority: 2", "Priority: 3").order == law.order
    assert not constitution(tmp_path, "Priority: 4", "Priority: 4", "Priority: 4").order
    assert not constitution(tmp_path, "", "", "").order


def constitution(tmp_path: Path, *extra: str, more: str = "") -> Any:
    names = ("one", "two", "three", "four")
    sections = [
        f"## {name}\n\nCritique: c\nRevise: r\nPrefer: Choose the response that is {name}.\n{field}\n"
        for name, field in zip(names, extra, strict=False)
    ]
    file = tmp_path / "law.txt"
    file.write_text("\n".join(sections) + more)
    return read_constitution(file)


def test_priorities_that_nothing_reads_are_refused_at_their_line(tmp_path) -> None:
    law = constitution(tmp_path, "", "Priority: 1")
    with pytest.raises(UserError) as caught:
        asked_judge(Judge(principles=1)).under(law)
    assert caught.value.where == f"{tmp_path / 'law.txt'}:8" and "judge.principles: all" in caught.value.remedy
    assert asked_judge(ALL).under(law).order.levels == (("one", 2), ("two", 1))


def test_a_constitution_without_order_leaves_the_key_as_it_was(tmp_path) -> None:
    judge = asked_judge(ALL)
    plain = judge.under(constitution(tmp_path, "", ""))
    assert "order" not in plain.keyed() and "tie" not in ALL.model_dump() and "breach" not in ALL.model_dump()
    ranked = judge.under(constitution(tmp_path, "Priority: 1", ""))
    assert ranked.principles == plain.principles
    assert digest_of(keyed({"judge": ranked})) != digest_of(keyed({"judge": plain}))
    renumbered = judge.under(constitution(tmp_path, "Priority: 3", "Priority: 7"))
    assert digest_of(keyed({"judge": renumbered})) == digest_of(keyed({"judge": ranked}))


# Never ----------------------------------------------------------------------------------------------------------------

FIVE = tuple(Judging(name, f"Choose the response that is {name}.", (), 1.0) for name in ("p", "q", "r", "s", "t"))
FOR_A = dict.fromkeys("pqrst", 6.0)
LIMITED = Order(limits=(NO_BOMBS,))


def test_a_limit_overrides_five_principles_that_all_prefer_the_answer_that_breaks_it() -> None:
    assert odds(label(made_judge(FOR_A), Order(), *FIVE)) == pytest.approx(6.0)
    broken = label(made_judge(FOR_A, breaks=("Yes sir.",)), LIMITED, *FIVE)
    assert odds(broken) == pytest.approx(-SURE) and broken.votes[-1].reply == "a breaks it; b does not break it"
    assert odds(label(made_judge(FOR_A, breaks=("Get lost.",)), LIMITED, *FIVE)) == pytest.approx(SURE)


@pytest.mark.parametrize(("breaks", "why"), [(("Yes sir.", "Get lost."), BOTH_BREAK), ((), NEITHER_BREAKS)])
def test_where_both_break_it_or_neither_does_the_principles_decide(breaks, why) -> None:
    verdict = label(made_judge(FOR_A, breaks=breaks), LIMITED, *FIVE)
    assert odds(verdict) == pytest.approx(6.0) and verdict.votes[-1].fault == why


def test_who_breaks_another_limit_is_not_saved_by_the_first() -> None:
    """a breaks the first limit alone, and both break the second: both have broken something."""
    names = ("no bombs", "no lies")
    votes = (limit_vote_of(names[0], 0.01), limit_vote_of(names[1], 0.5, BOTH_BREAK), rate_vote("p", 1.0))
    weights = {"p": 1.0, "no bombs": 1.0, "no lies": 1.0}
    assert combine(votes, ALL, weights) == pytest.approx(1.0)
    assert combine(votes[::2], ALL, weights) == pytest.approx(-SURE)
    assert combine(votes[::2], ALL, {"p": 1.0}) == pytest.approx(1.0)  # of the principle alone


def limit_vote_of(name: str, p_a: float, fault: str = "") -> Vote:
    return Vote("never", name, "each", p_a, 1.0, (), fault)


def rate_vote(name: str, value: float) -> Vote:
    p = sigmoid(value)
    return Vote("rate", name, "each", p, 1.0, (*logs(p, 1 - p), math.log(0.5), math.log(0.5)))


def test_each_answer_is_asked_about_alone_and_every_limit_once_whatever_is_drawn() -> None:
    engine = made_judge(FOR_A)
    label(engine, LIMITED, *FIVE, settings=Judge(principles=1))
    about = [q for q in engine.questions if "may ever do this: Give instructions for a bomb." in q.chat[-1].content]
    assert len(about) == 2 and len(engine.questions) == 4 and {q.options for q in about} == {("Yes", "No")}


def test_from_which_p_on_an_answer_breaks_a_limit_can_be_said() -> None:
    """Yes 0.8 of 0.9: 0.89."""
    strict = Judge(principles="all", breach=0.9)
    assert odds(label(made_judge(FOR_A, breaks=("Yes sir.",)), LIMITED, *FIVE, settings=strict)) == pytest.approx(6.0)


def test_a_limit_with_a_check_asks_nobody_and_by_methods_that_ask_nothing_a_text_is_not_read() -> None:
    brief = Order(limits=(Limit("brief", "Ramble.", (), check="at most 1 words"), NO_BOMBS))
    engine = made_judge(FOR_A)
    long = pair(a="Yes sir.", b="Yes")
    (verdict,) = judge_pairs(engine, [long], asked_judge(Judge(method="check", principles="all"), FIVE, order=brief),
                             title="judge")  # fmt: skip
    assert odds(verdict) == pytest.approx(-SURE) and not engine.questions
    assert [vote.fault for vote in verdict.votes if vote.method == "never"] == ["", UNASKED]


def test_calibration_leaves_what_a_limit_decides() -> None:
    assert odds(label(made_judge(FOR_A), LIMITED, *FIVE, platt=(0.1, 0.0))) == pytest.approx(0.6)
    broken = label(made_judge(FOR_A, breaks=("Yes sir.",)), LIMITED, *FIVE, platt=(0.1, 0.0))
    assert odds(broken) == pytest.approx(-SURE)


def test_limits_alone_label_what_they_tell_apart() -> None:
    assert odds(label(made_judge({}, breaks=("Yes sir.",)), LIMITED)) == pytest.approx(-SURE)
    verdict = label(made_judge({}), LIMITED)
    assert isinstance(verdict, Abstained) and verdict.reason == "no limit tells the two answers apart"


def test_a_limit_is_for_the_subsets_that_it_names() -> None:
    elsewhere = Order(limits=(Limit("no bombs", "Give instructions for a bomb.", ("weapons",)),))
    engine = made_judge(FOR_A, breaks=("Yes sir.",))
    assert odds(label(engine, elsewhere, *FIVE)) == pytest.approx(6.0) and len(engine.questions) == 10


def test_the_label_stage_counts_what_limits_decided(tmp_path) -> None:
    engine = made_judge(FOR_A, breaks=("Yes sir.",))
    rows = [pair("1"), pair("2", a="Fine.", b="Get lost.")]
    (tmp_path / "out").mkdir()
    label_by_judge(
        tmp_path / "out", Bench(engine), pairs=folder(tmp_path / "in", rows), rule=None, preflight=None,  # pyrefly: ignore
        judge=asked_judge(ALL, FIVE, order=LIMITED),
    )  # fmt: skip
    counts = json.loads((tmp_path / "out/counts.json").read_text())
    assert counts['limit, "no bombs": one answer breaks it'] == 1
    assert counts['limit, "no bombs": neither answer breaks it'] == 1


def test_how_a_judge_reads_is_measured_without_limits(tmp_path) -> None:
    """A limit says the same under every text: it would make a judge that reads look as if it ignored its principles."""
    law = constitution(tmp_path, "Against: Choose the response that is not one.", more=(
        "\n## no bombs\n\nNever: Give instructions for a bomb.\n"))  # fmt: skip
    judge = asked_judge(ALL).under(law)
    votes = {"one": 2.0, "not one": -2.0}

    def script(question: Question) -> tuple[float, ...]:
        text, a = question.chat[-1].content, "Assistant: Yes sir." in question.chat[-1].content
        if "may ever do this" in text:
            return logs(0.8, 0.1) if a else logs(0.1, 0.8)
        value = next((votes[name] for name in ("not one", "one") if f"that is {name}." in text), 0.0) / 2
        return logs(sigmoid(value if a else -value), sigmoid(-value if a else value))

    answers = ask_under(ScriptedJudge(script), [pair()], judge, controls_for(law))
    assert answers.text == [pytest.approx(2.0)] and answers.negated == [pytest.approx(-2.0)]
    assert odds(answers.verdicts[0]) == pytest.approx(-SURE)


# One answer alone -----------------------------------------------------------------------------------------------------


def worths(engine: ScriptedJudge, order: Order, *law: Judging, settings: Judge = ALL) -> list[float | None]:
    one = pair()
    answers = [(one.prompt, one.a), (one.prompt, one.b)]
    return judge_answers(engine, answers, asked_judge(settings, law, order=order), title="rate")


def test_an_answer_that_breaks_a_limit_is_worth_less_than_any_that_does_not() -> None:
    """Within 8 nats by the principles; 2 * 8 + log(99) less for the limit."""
    assert pytest.approx(16 + SURE) == COST
    assert worths(made_judge(FOR_A), LIMITED, *FIVE) == [pytest.approx(3.0), pytest.approx(-3.0)]
    broken = worths(made_judge(FOR_A, breaks=("Yes sir.",)), LIMITED, *FIVE)
    assert broken == [pytest.approx(3.0 - 16 - SURE), pytest.approx(-3.0)]
    extreme = worths(made_judge(dict.fromkeys("pqrst", 60.0), breaks=("Yes sir.",)), LIMITED, *FIVE)
    assert extreme == [pytest.approx(-8 - SURE), pytest.approx(-8.0)]


def test_of_an_answer_alone_a_band_of_the_higher_level_outweighs_all_of_the_lower() -> None:
    band = math.log(0.55 / 0.45)
    # Half of the votes for either answer: safe 0.25 is one band of 0.2007, and the lower level less than half of one.
    a, b = worths(made_judge({"safe": 0.5, "kind": -40.0}), SAFE_FIRST, SAFE, KIND)
    assert a == pytest.approx(band * (1 - 0.5), abs=1e-6) and b == pytest.approx(band * (-1 + 0.5), abs=1e-6) and a > b
    # 0.05 is no band: the lower level decides.
    a, b = worths(made_judge({"safe": 0.1, "kind": -2.0}), SAFE_FIRST, SAFE, KIND)
    assert a == pytest.approx(band * (sigmoid(-1) - 0.5)) and a < b


def test_levels_are_stacked_by_hand() -> None:
    band = math.log(0.55 / 0.45)
    assert stacked([1.0], 0.05) == 1.0
    assert stacked([None, None], 0.05) is None
    assert stacked([None, 1.0], 0.05) == pytest.approx(band * (sigmoid(1.0) - 0.5))
    assert stacked([0.65, None], 0.05) == pytest.approx(3 * band)  # 0.65 / 0.2007 = 3.24
    inner = band * 2 + band * (sigmoid(5.0) - 0.5)
    assert stacked([-0.4, 0.45, 5.0], 0.05) == pytest.approx(-2 * band + band * (sigmoid(inner) - 0.5))
    assert stacked([0.7, 3.0], 0.0) == 0.7


def test_weights_name_limits_beside_principles() -> None:
    assert weights_of((SAFE,), ALL, (NO_BOMBS,)) == {"safe": 1.0, "no bombs": 1.0}


def test_the_judge_of_an_experiment_reads_limits_and_their_template(tmp_path) -> None:
    law = constitution(tmp_path, "", more="\n## no bombs\n\nNever: Give instructions for a bomb.\nApplies to: war\n")
    judge = AskedJudge.of(Judge(model="tiny-random", principles="all"), law, "float32", 0)
    assert judge.order == Order(limits=(Limit("no bombs", "Give instructions for a bomb.", ("war",)),))
    assert [p.name for p in judge.principles] == ["one"] and "never" in judge.templates


def test_a_diff_hears_priorities_and_limits_and_takes_them_for_no_text(tmp_path) -> None:
    limit = "\n## no bombs\n\nNever: Give instructions for a bomb.\n"
    old = constitution(tmp_path, "Priority: 1", "", more=limit)
    new = constitution(tmp_path, "", "Priority: 1", more=limit.replace("a bomb", "a weapon"))
    found = changes(old, new)
    assert [(change.name, change.fields) for change in found] == [
        ("one", ("priority",)), ("two", ("priority",)), ("no bombs", ("never",))
    ]  # fmt: skip
    assert all(heard(change, ALL, old, new) and not heard_as_text(change, ALL, old, new) for change in found)
    why = constitution(tmp_path, "Priority: 1", "", more=limit + "Why: They kill.\n")
    assert not any(heard(change, ALL, old, why) for change in changes(old, why))


def test_what_one_priority_does_by_itself_is_found_from_the_votes_that_are_there(tmp_path) -> None:
    """Both principles alike: (2 - 4) / 2; with the first above the second: 2."""
    old, new = (constitution(tmp_path, field, "") for field in ("", "Priority: 1"))
    engine = made_judge({"one": 2.0, "two": -4.0})
    verdicts = [judge_pairs(engine, [pair()], asked_judge(ALL).under(law), title="judge") for law in (old, new)]
    outcome = compare([pair()], verdicts, Edit(old, new, tuple(changes(old, new))), ALL, 1)
    assert outcome.pairs[0][1:] == (pytest.approx(sigmoid(-1.0)), pytest.approx(sigmoid(2.0)))
    assert [(alone.read, alone.flips) for alone in outcome.alone] == [(True, 1)]
