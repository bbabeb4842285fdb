"""The judge: log-probabilities in, a label or an abstention out; every number here is worked out by hand."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from fakes import ScriptedJudge, asked_judge

from cai.config.sections import Judge, Reason
from cai.constitution import Judging
from cai.core.errors import UserError
from cai.core.odds import logit, sigmoid
from cai.core.records import Abstained, Label, Message, Pair, Prompt, Vote
from cai.judge.asking import judge_answers, judge_pairs
from cai.judge.methods import log_odds
from cai.judge.methods.channel import one_side
from cai.models.engines import Question

KIND = Judging("kind", "Choose the response that is kind.", (), 1.0)
SAFE = Judging("safe", "Choose the response that is safe.", (), 1.0)
POLITE = Judging("polite", "Choose the response that is polite.", ("hate speech",), 1.0)
ALL = Judge(principles="all")
CHOICE = Judge(method="choice", principles="all")


def pair(name: str = "1", a: str = "Yes sir.", b: str = "Get lost.", subset: str = "privacy") -> Pair:
    prompt = Prompt(f"prompt {name}", (Message("user", f"Question {name}?"),), subset, "test")
    return Pair(f"pair {name}", prompt, a, b)


def logs(*shares: float) -> tuple[float, ...]:
    return tuple(math.log(share) for share in shares)


def shown(question: Question) -> str:
    return question.chat[-1].content


def judged(
    judge: ScriptedJudge, settings: Judge, pairs: list[Pair], *law: Judging, seed: int = 0, **more: Any
) -> list[Label | Abstained]:
    return judge_pairs(judge, pairs, asked_judge(settings, law, seed=seed), title="judge", **more)


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


def test_rate_by_hand() -> None:
    judge = by_answer({"Yes sir": (0.4, 0.1), "Get lost": (0.2, 0.4)})
    label = one(judged(judge, ALL, [pair()], KIND))
    # odds of Yes: 4 for a, 1/2 for b; odds that a is better: 8
    assert label.p_a == pytest.approx(8 / 9) and (label.pair_id, label.source) == ("pair 1", "ai")
    (vote,) = label.votes
    assert (vote.principle, vote.order, vote.p_a) == ("kind", "each", pytest.approx(8 / 9))
    assert vote.mass == pytest.approx(0.5)  # the smaller of 0.5 and 0.6
    assert vote.logprobs == pytest.approx(logs(0.4, 0.1, 0.2, 0.4))


def test_rate_asks_about_each_answer_alone_and_in_our_own_words() -> None:
    judge = by_answer({"Yes sir": (0.4, 0.1), "Get lost": (0.2, 0.4)})
    judged(judge, ALL, [pair()], KIND)
    assert [question.options for question in judge.questions] == [("Yes", "No")] * 2
    assert ["Yes sir" in shown(q) for q in judge.questions] == [True, False]
    assert ["Get lost" in shown(q) for q in judge.questions] == [False, True]
    assert all("Choose the response that is kind." in shown(q) and "Question 1?" in shown(q) for q in judge.questions)


def test_the_principles_log_odds_are_averaged() -> None:
    def script(question: Question) -> tuple[float, ...]:
        yes = {(True, "kind"): 0.8, (False, "kind"): 0.2, (True, "safe"): 0.5, (False, "safe"): 0.5}
        share = yes["Yes sir" in shown(question), "kind" if "kind" in shown(question) else "safe"]
        return logs(share, 1 - share)

    label = one(judged(ScriptedJudge(script), ALL, [pair()], KIND, SAFE))
    # kind: odds 4 * 4 = 16; safe: odds 1; the mean of the log-odds is that of 4
    assert label.p_a == pytest.approx(0.8)
    assert {vote.principle: vote.p_a for vote in label.votes} == pytest.approx({"kind": 16 / 17, "safe": 0.5})


def test_swapping_the_answers_swaps_the_label() -> None:
    judge = by_answer({"Yes sir": (0.4, 0.1), "Get lost": (0.2, 0.4)})
    assert one(judged(judge, ALL, [pair(a="Get lost.", b="Yes sir.")], KIND)).p_a == pytest.approx(1 / 9)


def test_a_surer_judge_is_not_rounded_to_a_tie() -> None:
    def script(question: Question) -> tuple[float, ...]:
        sure = (0.0, -60.0) if "kind" in shown(question) else (-50.0, 0.0)
        return sure if "Yes sir" in shown(question) else (-0.5, -0.5)

    label = one(judged(ScriptedJudge(script), ALL, [pair()], KIND, SAFE))
    assert label.p_a == pytest.approx(1 / (1 + math.exp(-5)))  # (60 - 50) / 2


# Abstention


def test_too_little_probability_on_the_options_is_no_vote() -> None:
    judge = by_answer({"Yes sir": (0.4, 0.1), "Get lost": (0.01, 0.009)})
    (found,) = judged(judge, ALL, [pair()], KIND)
    assert isinstance(found, Abstained)
    assert (found.pair_id, found.reason) == ("pair 1", "too little probability on the options")
    assert found.votes[0].mass == pytest.approx(0.019)
    assert isinstance(judged(judge, Judge(principles="all", min_mass=0.01), [pair()], KIND)[0], Label)


def test_an_unreadable_vote_is_kept_but_not_counted() -> None:
    def script(question: Question) -> tuple[float, ...]:
        if "safe" in shown(question):
            return logs(0.01, 0.001)
        return logs(0.4, 0.2) if "Yes sir" in shown(question) else logs(0.3, 0.3)

    label = one(judged(ScriptedJudge(script), ALL, [pair()], KIND, SAFE))
    assert label.p_a == pytest.approx(2 / 3)
    assert sorted(vote.principle for vote in label.votes) == ["kind", "safe"]


def test_a_question_that_is_too_long_is_an_abstention() -> None:
    judge = by_answer({"Yes sir": (0.4, 0.1), "Get lost": None})
    (found,) = judged(judge, ALL, [pair()], KIND)
    assert isinstance(found, Abstained) and found.reason == "longer than judge.max_length"
    assert [(vote.fault, vote.mass) for vote in found.votes] == [("longer than judge.max_length", 0.0)]


def test_labels_and_abstentions_come_in_the_order_of_the_pairs() -> None:
    judge = by_answer({"Good": (0.8, 0.2), "Bad": (0.2, 0.8), "Long": None})
    pairs = [pair("1", "Good", "Bad"), pair("2", "Long", "Bad"), pair("3", "Bad", "Good")]
    found = judged(judge, ALL, pairs, KIND)
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


def test_choice_by_hand() -> None:
    label = one(judged(by_order((0.8, 0.1), (0.6, 0.3)), CHOICE, [pair()], KIND))
    # odds of a: 8 where it stands first, 1/2 where it stands second; the mean of the log-odds is that of 2
    assert label.p_a == pytest.approx(2 / 3)
    assert [(v.order, v.p_a, v.mass) for v in label.votes] == [
        ("ab", pytest.approx(8 / 9), pytest.approx(0.9)),
        ("ba", pytest.approx(1 / 3), pytest.approx(0.9)),
    ]


def test_a_judge_that_only_likes_a_letter_makes_a_tie() -> None:
    assert one(judged(by_order((0.9, 0.05), (0.9, 0.05)), CHOICE, [pair()], KIND)).p_a == pytest.approx(0.5)
    surest = by_order((1 - 1e-15, 1e-15), (1 - 1e-15, 1e-14))  # odds 1e15 and 1e-14
    assert one(judged(surest, CHOICE, [pair()], KIND)).p_a == pytest.approx(10**0.5 / (1 + 10**0.5), abs=1e-3)


def test_choice_puts_the_bracket_into_the_judges_mouth() -> None:
    judge = by_order((0.8, 0.1), (0.6, 0.3))
    judged(judge, CHOICE, [pair()], KIND)
    assert [(question.lead, question.options) for question in judge.questions] == [("(", ("A", "B"))] * 2


def test_choice_needs_both_orders() -> None:
    (found,) = judged(by_order((0.8, 0.1), (0.001, 0.001)), CHOICE, [pair()], KIND)
    assert isinstance(found, Abstained) and found.reason == "too little probability on the options"
    assert [vote.order for vote in found.votes] == ["ab", "ba"]
    (found,) = judged(by_order((0.8, 0.1), None), CHOICE, [pair()], KIND)
    assert isinstance(found, Abstained) and found.reason == "longer than judge.max_length"


def test_one_principle_without_both_orders_leaves_the_others() -> None:
    def script(question: Question) -> tuple[float, ...]:
        first = shown(question).index("Yes sir") < shown(question).index("Get lost")
        if "kind" in shown(question):
            return logs(0.9, 0.1) if first else logs(0.001, 0.001)
        return logs(0.75, 0.25) if first else logs(0.25, 0.75)

    assert one(judged(ScriptedJudge(script), CHOICE, [pair()], KIND, SAFE)).p_a == pytest.approx(0.75)


# Temperature


def test_temperature_by_hand() -> None:
    judge = by_answer({"Yes sir": (0.5, 0.25), "Get lost": (0.3, 0.3)})
    for temperature, expected in ((1.0, 2 / 3), (0.5, 4 / 5), (0.25, 16 / 17), (2.0, 0.5858)):  # odds 2, 4, 16, 2 ** .5
        settings = Judge(principles="all", temperature=temperature)
        assert one(judged(judge, settings, [pair()], KIND)).p_a == pytest.approx(expected, abs=1e-4)


def test_temperature_sharpens_but_never_turns_a_verdict() -> None:
    for better in (0.2, 0.49, 0.5, 0.51, 0.8):
        judge = by_answer({"Yes sir": (better, 1 - better), "Get lost": (0.5, 0.5)})
        settings = [Judge(principles="all", temperature=t) for t in (4.0, 1.0, 0.25, 0.01)]
        labels = [one(judged(judge, each, [pair()], KIND)) for each in settings]
        for blunt, keen in pairwise(label.p_a for label in labels):
            assert keen == blunt == 0.5 or (abs(keen - 0.5) > abs(blunt - 0.5) and (keen > 0.5) == (blunt > 0.5))
        assert len({label.votes for label in labels}) == 1  # the votes are what the judge said, unsharpened


# What is asked


def test_equal_questions_are_asked_once() -> None:
    judge = by_answer({"Good": (0.8, 0.2), "Bad": (0.2, 0.8), "So-so": (0.5, 0.5)})
    same = pair("1", "Good", "Bad").prompt
    pairs = [Pair("1", same, "Good", "Bad"), Pair("2", same, "Bad", "So-so"), Pair("3", same, "So-so", "Good")]
    found = judged(judge, ALL, pairs, KIND)
    assert len(judge.questions) == len(set(judge.questions)) == 3
    assert [label.p_a for label in found if isinstance(label, Label)] == pytest.approx([16 / 17, 0.2, 0.2])


def test_the_draw_of_principles_belongs_to_the_prompt() -> None:
    law = [Judging(name, f"Choose what is {name}.", (), 1.0) for name in ("kind", "safe", "wise", "true")]
    judge = ScriptedJudge(lambda question: logs(0.5, 0.5))
    prompts = [pair(str(number)).prompt for number in range(24)]
    pairs = [Pair(f"{p.id}{side}", p, side, "other") for p in prompts for side in "xy"]

    def principles(seed: int, settings: Judge) -> list[set[str]]:
        found = judged(judge, settings, pairs, *law, seed=seed)
        return [{vote.principle for vote in label.votes} for label in found]

    drawn = principles(0, Judge(principles=1))
    assert drawn[::2] == drawn[1::2]  # both pairs of a prompt are judged by the same principle
    assert {len(names) for names in drawn} == {1} and len(set.union(*drawn)) == 4
    assert principles(0, Judge(principles=1)) == drawn != principles(1, Judge(principles=1))
    two = principles(0, Judge(principles=2))
    assert all(len(more) == 2 and few < more for few, more in zip(drawn, two, strict=True))
    assert all(len(names) == 4 for names in principles(0, ALL))


def test_a_principle_judges_only_the_subsets_it_applies_to() -> None:
    judge = ScriptedJudge(lambda question: logs(0.5, 0.5))
    pairs = [pair("1", subset="privacy"), pair("2", subset="hate speech")]
    found = judged(judge, ALL, pairs, KIND, POLITE)
    assert [{vote.principle for vote in label.votes} for label in found] == [{"kind"}, {"kind", "polite"}]
    with pytest.raises(UserError, match='none of the 1 principles applies to subset "privacy"'):
        judged(judge, ALL, pairs, POLITE)


def test_the_judge_reads_as_many_turns_as_it_is_told() -> None:
    """Counted in turns of the human, from the last one back; all of them where there are fewer."""
    said = ("one", "two", "three", "four", "five")
    chat = tuple(Message("user" if n % 2 == 0 else "assistant", word) for n, word in enumerate(said))
    long = replace(pair(), prompt=replace(pair().prompt, messages=chat))
    read = {}
    for turns in (None, 1, 2, 9):
        engine = by_answer({"": (0.5, 0.5)})
        judged(engine, ALL.model_copy(update={"turns": turns}), [long], KIND)
        read[turns] = [word for word in said if word in shown(engine.questions[0])]
    assert read == {None: [*said], 1: ["five"], 2: ["three", "four", "five"], 9: [*said]}


def test_no_pairs_no_questions() -> None:
    judge = ScriptedJudge(lambda question: logs(0.5, 0.5))
    assert judged(judge, ALL, [], KIND) == [] and judge.questions == []


# Rating by digits


RATING = Judge(method="score", principles="all", min_mass=0.0)


def digits(**shares: float) -> tuple[float, ...]:
    """r7=0.5: half the probability on 7; the other ratings get next to none."""
    return logs(*(shares.get(f"r{rating}", 1e-300) for rating in range(1, 11)))


def test_score_by_hand() -> None:
    def script(question: Question) -> tuple[float, ...]:
        return digits(r8=0.3, r10=0.1) if "Yes sir" in shown(question) else digits(r7=0.2, r8=0.2)

    judge = ScriptedJudge(script)
    label = one(judged(judge, RATING, [pair()], KIND))
    # expected ratings among the probability on ratings: (8 * 3 + 10) / 4 = 8.5 and (7 + 8) / 2 = 7.5
    assert label.p_a == pytest.approx(math.e / (1 + math.e))
    (vote,) = label.votes
    assert (vote.method, vote.order, vote.mass) == ("score", "each", pytest.approx(0.4))
    assert judge.questions[0].options == ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
    assert "from 1 (not at all) to 10 (perfectly)" in shown(judge.questions[0])


# The likelihood of each answer under the principle and under its opposite


CONTRAST = Judge(method="contrast", principles="all")


def test_contrast_by_hand() -> None:
    def script(question: Question) -> tuple[float, ...]:
        assert question.options == ("Yes sir.", "Get lost.") and shown(question) == "Question 1?"
        told = question.chat[0].content
        return (-20.0, -31.0) if told.endswith("assistant. Give a response that is kind.") else (-22.0, -32.0)

    judge = ScriptedJudge(script)
    label = one(judged(judge, CONTRAST, [pair()], KIND))
    # the principle makes a likelier by e^2 and b by e^1
    assert label.p_a == pytest.approx(math.e / (1 + math.e))
    assert label.votes[0].mass == 1 and label.votes[0].logprobs == (-20.0, -31.0, -22.0, -32.0)
    assert judge.questions[1].chat[0].content.endswith("Do the opposite of this: Give a response that is kind.")


def test_contrast_takes_the_opposite_from_the_constitution_where_it_gives_one() -> None:
    judge = ScriptedJudge(lambda question: (-1.0, -2.0))
    rude = Judging("kind", "Choose the response that is kind.", (), 1.0, against="Be as rude as you can.")
    judged(judge, CONTRAST, [pair()], rude)
    assert judge.questions[1].chat[0].content == "You are a good assistant. Be as rude as you can."


# The likelihood of the principle, and of its opposite, behind each answer


@pytest.mark.parametrize(
    ("prefer", "against", "opposite"),
    [
        ("Choose the response that is kind.", "", "Choose the response that is not kind."),
        ("Choose the response that is kind.", "Give a response that is cruel.", "Choose the response that is cruel."),
        ("Kindness above all.", "", None),
    ],
)
def test_channel_by_hand(prefer: str, against: str, opposite: str | None) -> None:
    """log P: of the principle -10 behind a and -13 behind b, of its opposite -11 and -10."""
    logps = {(prefer, "Yes sir."): -10.0, (prefer, "Get lost."): -13.0}
    logps |= {(opposite, "Yes sir."): -11.0, (opposite, "Get lost."): -10.0}

    def script(question: Question) -> tuple[float, ...]:
        (text,) = question.options
        return (next(logp for (of, answer), logp in logps.items() if of == text and answer in shown(question)),)

    judge, asked = ScriptedJudge(script), Judge(method="channel", principles="all")
    principle = Judging("kind", prefer, (), 1.0, against)
    label = one(judged(judge, asked, [pair()], principle))
    # 3 by the principle, -1 by the opposite: (3 + 1) / 2; alone 3
    assert label.p_a == pytest.approx(sigmoid(3.0 if opposite is None else 2.0))
    assert label.votes[0].logprobs == ((-10.0, -13.0) if opposite is None else (-10.0, -11.0, -13.0, -10.0))
    assert log_odds(one_side(label.votes[0])) == 3.0
    # each answer by itself: (-10 + 11) / 2 and (-13 + 10) / 2
    answers = [(pair().prompt, pair().a), (pair().prompt, pair().b)]
    values = judge_answers(judge, answers, asked_judge(asked, [principle]), title="")
    assert values == ([-10.0, -13.0] if opposite is None else [0.5, -1.5])


# A chain of thought first


REASON = Judge(method="reason", principles="all", reason=Reason(clamp=(0.0, 1.0)))


def thinking(ab: tuple[float, ...], ba: tuple[float, ...], *says: str) -> ScriptedJudge:
    """Log-probabilities by which answer stood first; the thoughts are written in turn."""
    said = list(says) or ["The first is rude, the second is not."]

    def script(question: Question) -> tuple[float, ...]:
        first = question.chat[1].content.index("Yes sir") < question.chat[1].content.index("Get lost")
        return logs(*(ab if first else ba))

    return ScriptedJudge(script, lambda request, number: said[number % len(said)])


def test_reason_by_hand() -> None:
    judge = thinking((0.8, 0.1), (0.6, 0.3))
    label = one(judged(judge, REASON, [pair()], KIND))
    assert label.p_a == pytest.approx(2 / 3)  # as in `choice`
    assert {vote.reply for vote in label.votes} == {"The first is rude, the second is not."}
    asked = judge.questions[0].chat
    assert [message.role for message in asked] == ["system", "user", "assistant", "user"]
    assert asked[2].content == "The first is rude, the second is not." and "Answer (A) or (B)" in asked[3].content
    assert len({request.seed for request in judge.requests}) == 2


def test_reason_is_clamped_as_in_the_paper_unless_told_otherwise() -> None:
    for given, clamp, expected in (((0.9, 0.1), (0.4, 0.6), 0.6), ((0.1, 0.9), (0.4, 0.6), 0.4)):
        settings = Judge(method="reason", principles="all", reason=Reason(clamp=clamp))
        label = one(judged(thinking(given, given[::-1]), settings, [pair()], KIND))
        assert label.p_a == pytest.approx(expected)
    assert Judge(method="reason").reason.clamp == (0.4, 0.6)
    timid = one(judged(thinking((0.55, 0.45), (0.45, 0.55)), Judge(method="reason"), [pair()], KIND))
    assert timid.p_a == pytest.approx(0.55)


def test_the_probabilities_of_several_thoughts_are_averaged() -> None:
    def script(question: Question) -> tuple[float, ...]:
        first = question.chat[1].content.index("Yes sir") < question.chat[1].content.index("Get lost")
        p_a = 0.9 if question.chat[2].content == "Kind." else 0.3
        return logs(p_a, 1 - p_a) if first else logs(1 - p_a, p_a)

    judge = ScriptedJudge(script, lambda request, number: ("Kind.", "Rude.")[number % 2])
    settings = Judge(method="reason", principles="all", reason=Reason(samples=2, clamp=(0.0, 1.0)))
    label = one(judged(judge, settings, [pair()], KIND))
    assert label.p_a == pytest.approx(0.6) and len(label.votes) == 4
    assert len({request.seed for request in judge.requests}) == 4


def test_a_judge_that_will_not_think_abstains() -> None:
    judge = thinking((0.8, 0.1), (0.8, 0.1), "I'm sorry, but I can't help with that request.")
    (found,) = judged(judge, REASON, [pair()], KIND)
    assert isinstance(found, Abstained) and found.reason == "the judge refused to reason"
    assert judge.questions == [] and found.votes[0].reply.startswith("I'm sorry")
    rambling = thinking((0.8, 0.1), (0.8, 0.1), "It is good. " * 20)
    (found,) = judged(rambling, REASON, [pair()], KIND)
    assert isinstance(found, Abstained) and found.reason == "the judge repeated itself"


# Provenance


def test_provenance_is_which_instruction_wrote_the_answer() -> None:
    judge = ScriptedJudge(lambda question: (-1.0, -1.0))
    kept, against, unknown = (replace(pair(str(n)), prompted=told) for n, told in enumerate((1.0, 0.0, None)))
    settings = Judge(method="provenance", principles="all")
    found = judged(judge, settings, [kept, against, unknown], KIND)
    assert [one(found[:1]).p_a, one(found[1:2]).p_a] == pytest.approx([0.99, 0.01]) and judge.questions == []
    assert isinstance(found[2], Abstained)
    assert found[2].reason == "nobody knows which instruction wrote which answer"


# Mixing methods, voting, weights, calibration


def test_methods_are_mixed_by_weight_and_a_silent_one_leaves_its_share() -> None:
    def script(question: Question) -> tuple[float, ...]:
        if question.options == ("Yes", "No"):  # odds of Yes 2 and 1: a is better by log 2
            return logs(0.6, 0.3) if "Yes sir" in shown(question) else logs(0.3, 0.3)
        first = shown(question).index("Yes sir") < shown(question).index("Get lost")
        return logs(0.1, 0.8) if first else logs(0.8, 0.1)  # a is worse by log 8

    mix = Judge(method={"rate": 3, "choice": 1}, principles="all")
    label = one(judged(ScriptedJudge(script), mix, [pair()], KIND))
    assert label.p_a == pytest.approx(0.5)  # (3 log 2 - log 8) / 4
    assert [vote.method for vote in label.votes] == ["rate", "choice", "choice"]

    def mute(question: Question) -> tuple[float, ...]:
        return script(question) if question.options == ("Yes", "No") else logs(0.001, 0.001)

    assert one(judged(ScriptedJudge(mute), mix, [pair()], KIND)).p_a == pytest.approx(2 / 3)


def yes_to(**shares: float) -> ScriptedJudge:
    """P(Yes) of answer a by principle; of b it is one half throughout."""

    def script(question: Question) -> tuple[float, ...]:
        (name,) = [name for name in shares if f"that is {name}." in shown(question)]
        share = shares[name] if "Yes sir" in shown(question) else 0.5
        return logs(share, 1 - share)

    return ScriptedJudge(script)


def test_a_vote_counts_heads_and_an_average_counts_how_sure_they_are() -> None:
    judge = yes_to(kind=0.99, safe=0.4, polite=0.45)
    law = (KIND, SAFE, replace(POLITE, applies_to=()))
    # one of three prefers a; with half a voter on each side (1 + 0.5) / (3 + 1)
    assert one(judged(judge, Judge(principles="all", combine="vote"), [pair()], *law)).p_a == pytest.approx(0.375)
    odds = (0.99 / 0.01) * (0.4 / 0.6) * (0.45 / 0.55)
    average = one(judged(judge, Judge(principles="all"), [pair()], *law)).p_a
    assert average == pytest.approx(1 / (1 + odds ** (-1 / 3)))


def test_weights_count_where_all_principles_are_asked_and_not_twice_where_they_are_drawn() -> None:
    heavy = replace(KIND, weight=3.0)
    label = one(judged(yes_to(kind=0.8, safe=0.5), ALL, [pair()], heavy, SAFE))
    assert label.p_a == pytest.approx(sigmoid(3 * math.log(4) / 4))
    label = one(judged(yes_to(kind=0.8, safe=0.5), Judge(principles=2), [pair()], heavy, SAFE))
    assert label.p_a == pytest.approx(2 / 3)  # the mean of log 4 and 0


def test_calibration_is_laid_over_the_log_odds() -> None:
    judge = by_answer({"Yes sir": (0.4, 0.1), "Get lost": (0.2, 0.4)})  # odds 8
    label = one(judged(judge, ALL, [pair()], KIND, platt=(2.0, -math.log(8))))
    assert label.p_a == pytest.approx(8 / 9)
    assert label.votes[0].p_a == pytest.approx(8 / 9)  # the votes are what the judge said


def test_worked_examples_stand_before_the_question_and_after_the_system_turn(tmp_path) -> None:
    file = tmp_path / "rate.jinja"
    file.write_text("## user\nIs this kind: Thanks!\n\n## assistant\nYes\n")
    judge = by_answer({"Yes sir": (0.4, 0.1), "Get lost": (0.2, 0.4)})
    settings = Judge(principles="all", examples={"rate": str(file)})
    assert one(judged(judge, settings, [pair()], KIND)).p_a == pytest.approx(8 / 9)
    chat = judge.questions[0].chat
    assert [message.role for message in chat] == ["system", "user", "assistant", "user"]
    assert [message.content for message in chat[1:3]] == ["Is this kind: Thanks!", "Yes"]


def test_log_odds_keep_what_a_probability_rounds_away() -> None:
    vote = Vote("rate", "kind", "each", 1.0, 1.0, (0.0, -60.0, -50.0, 0.0))
    assert log_odds(vote) == 110.0
    assert logit(1.0, 0.99) == pytest.approx(math.log(99)) and logit(0.5) == 0
    assert logit(0.0, 0.99) == pytest.approx(-math.log(99))


def test_sigmoid() -> None:
    assert sigmoid(0) == 0.5
    assert sigmoid(math.log(3)) == pytest.approx(0.75) and sigmoid(-math.log(3)) == pytest.approx(0.25)
    assert (sigmoid(1000), sigmoid(-1000)) == (1, 0)


def test_an_empty_thought_is_named_as_one():
    from cai.judge.ballots import NO_THOUGHT
    from cai.judge.methods.reason import reasoned
    from cai.models.engines import Reply

    assert reasoned("kind", "ab", (), Reply("", "stop"), {}).fault == NO_THOUGHT
