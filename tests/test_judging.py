"""The judge: log-probabilities in, a label or an abstention out; every number here is worked out by hand."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
from fakes import ScriptedJudge

from cai.config import Judge
from cai.constitution import Judging
from cai.engines import Question
from cai.errors import UserError
from cai.judging import judge_pairs, sigmoid
from cai.records import Abstained, Label, Message, Pair, Prompt
from cai.templates import Template, load_template

KIND = Judging("kind", "Choose the response that is kind.", (), 1.0)
SAFE = Judging("safe", "Choose the response that is safe.", (), 1.0)
POLITE = Judging("polite", "Choose the response that is polite.", ("hate speech",), 1.0)
ALL = Judge(principles="all")
CHOICE = Judge(method="choice", principles="all")


def pair(name: str = "1", a: str = "Yes sir.", b: str = "Get lost.", subset: str = "privacy") -> Pair:
    prompt = Prompt(f"prompt {name}", (Message("user", f"Question {name}?"),), subset, "test")
    return Pair(f"pair {name}", prompt, a, b)


@pytest.fixture
def rate() -> Template:
    return load_template(Path("rate"))


@pytest.fixture
def choose() -> Template:
    return load_template(Path("choose"))


def logs(*shares: float) -> tuple[float, ...]:
    return tuple(math.log(share) for share in shares)


def shown(question: Question) -> str:
    return question.chat[-1].content


def judged(
    judge: ScriptedJudge, template: Template, settings: Judge, pairs: list[Pair], *law: Judging, seed: int = 0
) -> list[Label | Abstained]:
    return judge_pairs(judge, pairs, law, settings, template, seed=seed, title="judge")


def one(found: list[Label | Abstained]) -> Label:
    (label,) = found
    assert isinstance(label, Label)
    return label


# Rating each answer alone


def by_answer(shares: dict[str, tuple[float, float] | None]) -> ScriptedJudge:
    """(Yes, No) by a word of the question."""

    def script(question: Question) -> tuple[float, ...] | None:
        (found,) = [value for word, value in shares.items() if word in shown(question)]
        return None if found is None else logs(*found)

    return ScriptedJudge(script)


def test_rate_by_hand(rate: Template) -> None:
    judge = by_answer({"Yes sir": (0.4, 0.1), "Get lost": (0.2, 0.4)})
    label = one(judged(judge, rate, ALL, [pair()], KIND))
    # odds of Yes: 4 for a, 1/2 for b; odds that a is better: 8
    assert label.p_a == pytest.approx(8 / 9) and (label.pair_id, label.source) == ("pair 1", "ai")
    (vote,) = label.votes
    assert (vote.principle, vote.order, vote.p_a) == ("kind", "each", pytest.approx(8 / 9))
    assert vote.mass == pytest.approx(0.5)  # the smaller of 0.5 and 0.6
    assert vote.logprobs == pytest.approx(logs(0.4, 0.1, 0.2, 0.4))


def test_rate_asks_about_each_answer_alone_and_in_our_own_words(rate: Template) -> None:
    judge = by_answer({"Yes sir": (0.4, 0.1), "Get lost": (0.2, 0.4)})
    judged(judge, rate, ALL, [pair()], KIND)
    assert [question.options for question in judge.questions] == [("Yes", "No")] * 2
    assert ["Yes sir" in shown(q) for q in judge.questions] == [True, False]
    assert ["Get lost" in shown(q) for q in judge.questions] == [False, True]
    assert all("Choose the response that is kind." in shown(q) and "Question 1?" in shown(q) for q in judge.questions)


def test_the_principles_log_odds_are_averaged(rate: Template) -> None:
    def script(question: Question) -> tuple[float, ...]:
        yes = {(True, "kind"): 0.8, (False, "kind"): 0.2, (True, "safe"): 0.5, (False, "safe"): 0.5}
        share = yes["Yes sir" in shown(question), "kind" if "kind" in shown(question) else "safe"]
        return logs(share, 1 - share)

    label = one(judged(ScriptedJudge(script), rate, ALL, [pair()], KIND, SAFE))
    # kind: odds 4 * 4 = 16; safe: odds 1; the mean of the log-odds is that of 4
    assert label.p_a == pytest.approx(0.8)
    assert {vote.principle: vote.p_a for vote in label.votes} == pytest.approx({"kind": 16 / 17, "safe": 0.5})


def test_swapping_the_answers_swaps_the_label(rate: Template) -> None:
    judge = by_answer({"Yes sir": (0.4, 0.1), "Get lost": (0.2, 0.4)})
    assert one(judged(judge, rate, ALL, [pair(a="Get lost.", b="Yes sir.")], KIND)).p_a == pytest.approx(1 / 9)


def test_a_surer_judge_is_not_rounded_to_a_tie(rate: Template) -> None:
    def script(question: Question) -> tuple[float, ...]:
        sure = (0.0, -60.0) if "kind" in shown(question) else (-50.0, 0.0)
        return sure if "Yes sir" in shown(question) else (-0.5, -0.5)

    label = one(judged(ScriptedJudge(script), rate, ALL, [pair()], KIND, SAFE))
    assert label.p_a == pytest.approx(1 / (1 + math.exp(-5)))  # (60 - 50) / 2


# Abstention


def test_too_little_probability_on_the_options_is_no_vote(rate: Template) -> None:
    judge = by_answer({"Yes sir": (0.4, 0.1), "Get lost": (0.01, 0.009)})
    (found,) = judged(judge, rate, ALL, [pair()], KIND)
    assert isinstance(found, Abstained)
    assert (found.pair_id, found.reason) == ("pair 1", "too little probability on the options")
    assert found.votes[0].mass == pytest.approx(0.019)
    assert isinstance(judged(judge, rate, Judge(principles="all", min_mass=0.01), [pair()], KIND)[0], Label)


def test_an_unreadable_vote_is_kept_but_not_counted(rate: Template) -> None:
    def script(question: Question) -> tuple[float, ...]:
        if "safe" in shown(question):
            return logs(0.01, 0.001)
        return logs(0.4, 0.2) if "Yes sir" in shown(question) else logs(0.3, 0.3)

    label = one(judged(ScriptedJudge(script), rate, ALL, [pair()], KIND, SAFE))
    assert label.p_a == pytest.approx(2 / 3)
    assert sorted(vote.principle for vote in label.votes) == ["kind", "safe"]


def test_a_question_that_is_too_long_is_an_abstention(rate: Template) -> None:
    judge = by_answer({"Yes sir": (0.4, 0.1), "Get lost": None})
    (found,) = judged(judge, rate, ALL, [pair()], KIND)
    assert found == Abstained("pair 1", "longer than judge.max_length", ())


def test_labels_and_abstentions_come_in_the_order_of_the_pairs(rate: Template) -> None:
    judge = by_answer({"Good": (0.8, 0.2), "Bad": (0.2, 0.8), "Long": None})
    pairs = [pair("1", "Good", "Bad"), pair("2", "Long", "Bad"), pair("3", "Bad", "Good")]
    found = judged(judge, rate, ALL, pairs, KIND)
    assert [label.pair_id for label in found] == ["pair 1", "pair 2", "pair 3"]
    assert [label.p_a if isinstance(label, Label) else None for label in found] == [
        pytest.approx(16 / 17),
        None,
        pytest.approx(1 / 17),
    ]


# Choosing between both


def by_order(ab: tuple[float, ...] | None, ba: tuple[float, ...] | None) -> ScriptedJudge:
    """(A, B) by which answer stands first."""

    def script(question: Question) -> tuple[float, ...] | None:
        first = shown(question).index("Yes sir") < shown(question).index("Get lost")
        found = ab if first else ba
        return None if found is None else logs(*found)

    return ScriptedJudge(script)


def test_choice_by_hand(choose: Template) -> None:
    label = one(judged(by_order((0.8, 0.1), (0.6, 0.3)), choose, CHOICE, [pair()], KIND))
    # odds of a: 8 where it stands first, 1/2 where it stands second; the mean of the log-odds is that of 2
    assert label.p_a == pytest.approx(2 / 3)
    assert [(v.order, v.p_a, v.mass) for v in label.votes] == [
        ("ab", pytest.approx(8 / 9), pytest.approx(0.9)),
        ("ba", pytest.approx(1 / 3), pytest.approx(0.9)),
    ]


def test_a_judge_that_only_likes_a_letter_makes_a_tie(choose: Template) -> None:
    assert one(judged(by_order((0.9, 0.05), (0.9, 0.05)), choose, CHOICE, [pair()], KIND)).p_a == pytest.approx(0.5)
    surest = by_order((1 - 1e-15, 1e-15), (1 - 1e-15, 1e-14))  # odds 1e15 and 1e-14
    assert one(judged(surest, choose, CHOICE, [pair()], KIND)).p_a == pytest.approx(10**0.5 / (1 + 10**0.5), abs=1e-3)


def test_choice_puts_the_bracket_into_the_judges_mouth(choose: Template) -> None:
    judge = by_order((0.8, 0.1), (0.6, 0.3))
    judged(judge, choose, CHOICE, [pair()], KIND)
    assert [(question.lead, question.options) for question in judge.questions] == [("(", ("A", "B"))] * 2


def test_choice_needs_both_orders(choose: Template) -> None:
    (found,) = judged(by_order((0.8, 0.1), (0.001, 0.001)), choose, CHOICE, [pair()], KIND)
    assert isinstance(found, Abstained) and found.reason == "too little probability on the options"
    assert [vote.order for vote in found.votes] == ["ab", "ba"]
    (found,) = judged(by_order((0.8, 0.1), None), choose, CHOICE, [pair()], KIND)
    assert isinstance(found, Abstained) and found.reason == "longer than judge.max_length"


def test_one_principle_without_both_orders_leaves_the_others(choose: Template) -> None:
    def script(question: Question) -> tuple[float, ...]:
        first = shown(question).index("Yes sir") < shown(question).index("Get lost")
        if "kind" in shown(question):
            return logs(0.9, 0.1) if first else logs(0.001, 0.001)
        return logs(0.75, 0.25) if first else logs(0.25, 0.75)

    assert one(judged(ScriptedJudge(script), choose, CHOICE, [pair()], KIND, SAFE)).p_a == pytest.approx(0.75)


# Temperature


def test_temperature_by_hand(rate: Template) -> None:
    judge = by_answer({"Yes sir": (0.5, 0.25), "Get lost": (0.3, 0.3)})
    for temperature, expected in ((1.0, 2 / 3), (0.5, 4 / 5), (0.25, 16 / 17), (2.0, 0.5858)):  # odds 2, 4, 16, 2 ** .5
        settings = Judge(principles="all", temperature=temperature)
        assert one(judged(judge, rate, settings, [pair()], KIND)).p_a == pytest.approx(expected, abs=1e-4)


def test_temperature_sharpens_but_never_turns_a_verdict(rate: Template) -> None:
    for better in (0.2, 0.49, 0.5, 0.51, 0.8):
        judge = by_answer({"Yes sir": (better, 1 - better), "Get lost": (0.5, 0.5)})
        settings = [Judge(principles="all", temperature=t) for t in (4.0, 1.0, 0.25, 0.01)]
        labels = [one(judged(judge, rate, each, [pair()], KIND)) for each in settings]
        for blunt, keen in pairwise(label.p_a for label in labels):
            assert keen == blunt == 0.5 or (abs(keen - 0.5) > abs(blunt - 0.5) and (keen > 0.5) == (blunt > 0.5))
        assert len({label.votes for label in labels}) == 1  # the votes are what the judge said, unsharpened


# What is asked


def test_equal_questions_are_asked_once(rate: Template) -> None:
    judge = by_answer({"Good": (0.8, 0.2), "Bad": (0.2, 0.8), "So-so": (0.5, 0.5)})
    same = pair("1", "Good", "Bad").prompt
    pairs = [Pair("1", same, "Good", "Bad"), Pair("2", same, "Bad", "So-so"), Pair("3", same, "So-so", "Good")]
    found = judged(judge, rate, ALL, pairs, KIND)
    assert len(judge.questions) == len(set(judge.questions)) == 3
    assert [label.p_a for label in found if isinstance(label, Label)] == pytest.approx([16 / 17, 0.2, 0.2])


def test_the_draw_of_principles_belongs_to_the_prompt(rate: Template) -> None:
    law = [Judging(name, f"Choose what is {name}.", (), 1.0) for name in ("kind", "safe", "wise", "true")]
    judge = ScriptedJudge(lambda question: logs(0.5, 0.5))
    prompts = [pair(str(number)).prompt for number in range(24)]
    pairs = [Pair(f"{p.id}{side}", p, side, "other") for p in prompts for side in "xy"]

    def principles(seed: int, settings: Judge) -> list[set[str]]:
        found = judged(judge, rate, settings, pairs, *law, seed=seed)
        return [{vote.principle for vote in label.votes} for label in found]

    drawn = principles(0, Judge(principles=1))
    assert drawn[::2] == drawn[1::2]  # both pairs of a prompt are judged by the same principle
    assert {len(names) for names in drawn} == {1} and len(set.union(*drawn)) == 4
    assert principles(0, Judge(principles=1)) == drawn != principles(1, Judge(principles=1))
    two = principles(0, Judge(principles=2))
    assert all(len(more) == 2 and few < more for few, more in zip(drawn, two, strict=True))
    assert all(len(names) == 4 for names in principles(0, ALL))


def test_a_principle_judges_only_the_subsets_it_applies_to(rate: Template) -> None:
    judge = ScriptedJudge(lambda question: logs(0.5, 0.5))
    pairs = [pair("1", subset="privacy"), pair("2", subset="hate speech")]
    found = judged(judge, rate, ALL, pairs, KIND, POLITE)
    assert [{vote.principle for vote in label.votes} for label in found] == [{"kind"}, {"kind", "polite"}]
    with pytest.raises(UserError, match='none of the 1 principles applies to subset "privacy"'):
        judged(judge, rate, ALL, pairs, POLITE)


def test_no_pairs_no_questions(rate: Template) -> None:
    judge = ScriptedJudge(lambda question: logs(0.5, 0.5))
    assert judged(judge, rate, ALL, [], KIND) == [] and judge.questions == []


def test_sigmoid() -> None:
    assert sigmoid(0) == 0.5
    assert sigmoid(math.log(3)) == pytest.approx(0.75) and sigmoid(-math.log(3)) == pytest.approx(0.25)
    assert (sigmoid(1000), sigmoid(-1000)) == (1, 0)
