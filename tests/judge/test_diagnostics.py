"""What labels are measured by. The votes are written down here, so that every figure can be worked out by hand."""

import math
import random
from dataclasses import asdict, replace
from math import isnan, log
from pathlib import Path

import pytest

from cai.config.sections import Judge, Reason
from cai.core.odds import sigmoid
from cai.core.records import Abstained, Estimate, Label, Message, Pair, Prompt, Vote, read_jsonl, write_jsonl
from cai.judge.ballots import NO_MASS, RAMBLED, REFUSED, TOO_LONG
from cai.judge.combine import by_method, combine, mixed, verdict
from cai.judge.diagnostics import PrincipleReport, by_principle, diagnose
from cai.judge.methods import log_odds

RATE = Judge(principles="all")
CHOICE = Judge(method="choice", principles="all")
EVEN = {"kind": 1.0, "safe": 1.0}


def close(value: float) -> object:
    return pytest.approx(value, abs=5e-5)


def empty(estimate: Estimate) -> bool:
    return isnan(estimate.value) and estimate.n == 0


def pair(name: int, human: float | None = None, *, prompt: str = "", subset: str = "privacy", **answers: str) -> Pair:
    asked = Prompt(prompt or f"prompt {name}", (Message("user", "How?"),), subset, "test")
    return Pair(f"pair {name}", asked, answers.get("a", "One."), answers.get("b", "Two."), human)


def rate(principle: str, odds: float, *, mass: float = 1.0, fault: str = "") -> Vote:
    return Vote("rate", principle, "each", sigmoid(odds), mass, (odds, 0.0, 0.0, 0.0), fault)


def choice(principle: str, order: str, p_first: float, *, method: str = "choice", fault: str = "") -> Vote:
    """p_first: P of the answer that is shown first."""
    p_a = p_first if order == "ab" else 1 - p_first
    return Vote(method, principle, order, p_a, 1.0, (log(p_first), log(1 - p_first)), fault)


def labels(pairs: list[Pair], *p_a: float | None) -> list[Label | Abstained]:
    return [
        Abstained(pair.id, NO_MASS) if p is None else Label(pair.id, p, "ai")
        for pair, p in zip(pairs, p_a, strict=True)
    ]


def judged(pairs: list[Pair], judge: Judge, weights: dict[str, float], *votes: list[Vote]) -> list[Label | Abstained]:
    return [verdict(pair, tuple(mine), judge, weights) for pair, mine in zip(pairs, votes, strict=True)]


# How many, and what was wrong with the others


def test_abstentions_and_faults_are_counted_and_told_apart_by_harm() -> None:
    pairs = [pair(i, subset=subset) for i, subset in enumerate(["hate speech", "privacy", "hate speech", "privacy"])]
    verdicts = judged(
        pairs, RATE, EVEN,
        [rate("kind", 1, mass=0.5), rate("safe", 1, mass=0.1)],
        [rate("kind", 1, mass=0.4), rate("safe", 1, mass=0.001, fault=NO_MASS)],
        [rate("kind", 1, mass=0.002, fault=NO_MASS), rate("safe", 0, mass=0.003, fault=NO_MASS)],
        [rate("kind", 0, mass=0, fault=TOO_LONG), rate("safe", 0, mass=0, fault=TOO_LONG)],
    )  # fmt: skip
    found = diagnose(pairs, verdicts)
    assert (found.n, found.labelled, found.abstained) == (4, 2, {TOO_LONG: 1, NO_MASS: 1})
    assert found.abstained_by_subset == {"hate speech": (1, 2), "privacy": (1, 2)}
    assert (found.votes, list(found.faults.items())) == (8, [(NO_MASS, 3), (TOO_LONG, 2)])  # the most frequent first
    assert found.refused_by_subset == {"hate speech": (2, 4), "privacy": (1, 4)}  # too long is no refusal


def test_refusals_and_rambling_of_the_judge_count_as_shying_away() -> None:
    pairs = [pair(0)]
    votes = [
        choice("kind", "ab", 0.7, method="reason"),
        choice("kind", "ba", 0.7, method="reason"),
        Vote("reason", "kind", "ab", 0.5, 0.0, (), REFUSED),
        Vote("reason", "kind", "ba", 0.5, 0.0, (), RAMBLED),
    ]
    found = diagnose(pairs, judged(pairs, Judge(method="reason"), EVEN, votes))
    assert found.refused_by_subset == {"privacy": (2, 4)}
    assert found.mass == 1  # a vote that was never asked has no mass


def test_mass_is_of_votes_whose_options_were_read() -> None:
    pairs = [pair(i) for i in range(3)]
    verdicts = judged(
        pairs, RATE, EVEN,
        [rate("kind", 1, mass=0.1), rate("safe", 1, mass=0.2)],
        [rate("kind", 1, mass=0.3), rate("safe", 1, mass=0.01, fault=NO_MASS)],
        [rate("kind", 1, mass=0.4), rate("safe", 1, mass=0, fault=TOO_LONG)],
    )  # fmt: skip
    found = diagnose(pairs, verdicts)
    # Of 0.01, 0.1, 0.2, 0.3, 0.4 the median, and 0.05 * 4 = 0.2 of the way from the first to the second.
    assert (found.mass, found.mass_low) == (close(0.2), close(0.028))
    sure = [Vote("provenance", "kind", "each", 1.0, 1.0, ()), Vote("contrast", "kind", "each", 0.9, 1.0, (0.0,) * 4)]
    without = diagnose(pairs[:1], [Label("pair 0", 0.9, "ai", tuple(sure))])
    assert (without.mass, without.mass_low) == (None, None)


def test_no_pairs_and_no_people() -> None:
    nothing = diagnose([], [])
    assert nothing.n == nothing.labelled == nothing.votes == 0 and nothing.mass is None
    estimates = [value for value in map(nothing.__getattribute__, asdict(nothing)) if isinstance(value, Estimate)]
    assert len(estimates) == 11 and all(map(empty, estimates))
    pairs = [pair(0), pair(1)]
    found = diagnose(pairs, labels(pairs, 0.9, 0.2))
    for name in ("accuracy", "balanced", "kappa", "auc", "brier", "ece", "log_loss", "consistency", "first_shown"):
        assert empty(getattr(found, name)), name


def test_pairs_and_verdicts_must_be_of_each_other() -> None:
    pairs = [pair(0), pair(1)]
    with pytest.raises(AssertionError):
        diagnose(pairs, labels(pairs[::-1], 0.9, 0.2))
    with pytest.raises(AssertionError):
        by_principle(pairs, labels(pairs[:1], 0.9), RATE, EVEN)


# Habits


def test_order_consistency_and_position_bias_by_hand() -> None:
    pairs = [pair(i) for i in range(5)]
    verdicts = judged(
        pairs, CHOICE, EVEN,
        [choice("kind", "ab", 0.9), choice("kind", "ba", 0.6)],  # first, first: a, then b
        [choice("kind", "ab", 0.9), choice("kind", "ba", 0.2)],  # first, second: a, then a
        [choice("kind", "ab", 0.7), choice("kind", "ba", 0.5)],  # first, tie: a, then neither
        [choice("kind", "ab", 0.3), choice("kind", "ba", 0.9)],  # second, first: b, then b
        [choice("kind", "ab", 0.9), choice("kind", "ba", 0.9, fault=NO_MASS)],  # one order alone tells nothing
    )  # fmt: skip
    found = diagnose(pairs, verdicts)
    assert (found.consistency.value, found.consistency.n) == (close(2.5 / 4), 4)  # 0, 1, a half, 1
    assert (found.first_shown.value, found.first_shown.n) == (close(5.5 / 8), 8)  # 2, 1, one and a half, 1
    assert (found.consistency.clusters, found.first_shown.clusters) == (4, 4)


def test_a_judge_that_always_takes_the_first_is_consistent_in_nothing() -> None:
    pairs = [pair(i) for i in range(10)]
    votes = [[choice("kind", "ab", 0.9), choice("kind", "ba", 0.9)] for _ in pairs]
    found = diagnose(pairs, judged(pairs, CHOICE, EVEN, *votes))
    assert found.consistency == Estimate(0, 0, pytest.approx(0.2775, abs=5e-4), 10, 10)  # Wilson, 10 prompts
    assert found.first_shown == Estimate(1, pytest.approx(0.7225, abs=5e-4), 1, 20, 10)
    assert [label.p_a for label in judged(pairs, CHOICE, EVEN, *votes)] == [close(0.5)] * 10


def test_each_principle_and_method_is_a_question_of_its_own_and_thoughts_are_averaged() -> None:
    votes = [
        choice("kind", "ab", 0.9), choice("kind", "ba", 0.9),  # inconsistent
        choice("safe", "ab", 0.9), choice("safe", "ba", 0.1),  # consistent
        # Two thoughts an order: mean P of a is 0.55 and 0.7, so consistent, though the second thought says b.
        choice("kind", "ab", 0.9, method="reason"), choice("kind", "ab", 0.2, method="reason"),
        choice("kind", "ba", 0.3, method="reason"), choice("kind", "ba", 0.3, method="reason"),
    ]  # fmt: skip
    found = diagnose([pair(0)], [Label("pair 0", 0.9, "ai", tuple(votes))])
    assert (found.consistency.value, found.consistency.n) == (close(2 / 3), 3)
    assert found.first_shown.value == close((2 + 1 + 1) / 6)


def test_picks_longer_leaves_out_equal_lengths_and_ties() -> None:
    pairs = [
        pair(0, a="one two three", b="one"),
        pair(1, a="one two three", b="one"),
        pair(2, a="one", b="one two"),
        pair(3, a="one two", b="two one"),
        pair(4, a="one", b="one two"),
        pair(5, a="one", b="one two"),
    ]
    found = diagnose(pairs, labels(pairs, 0.9, 0.2, 0.4, 0.9, 0.5, None))
    assert (found.picks_longer.value, found.picks_longer.n) == (close(2 / 3), 3)  # longer, shorter, longer


def test_refusals_are_measured_where_one_answer_refuses() -> None:
    no, yes = "I'm sorry, but I can't help with that.", "Gladly: first you take the lid off."
    pairs = [pair(0, a=no, b=yes), pair(1, a=yes, b=no), pair(2, a=yes, b=no), pair(3, a=no, b=no), pair(4, b=yes)]
    found = diagnose(pairs, labels(pairs, 0.9, 0.1, 0.8, 0.9, 0.9))
    assert (found.refusals.value, found.refusals.n) == (close(2 / 3), 3)


# People


def test_agreement_with_people_by_hand() -> None:
    pairs = [pair(i, human) for i, human in enumerate([1, 1, 0, 0, 0.5, None, 1])]
    found = diagnose(pairs, labels(pairs, 0.9, 0.4, 0.2, 0.3, 0.5, 0.9, None))
    assert (found.accuracy.value, found.accuracy.n) == (
        0.75,
        4,
    )  # right, wrong, right, right; split, unjudged, abstained
    # Judge: a b b b; people: a a b b. By chance 1/4 * 1/2 + 3/4 * 1/2 = 1/2, so (3/4 - 1/2) / (1 - 1/2).
    assert (found.kappa.value, found.kappa.n) == (close(0.5), 4)
    # Towards people's choice: 0.4, -0.1, 0.3, 0.2. Of the sixteen sums of two only -0.1 - 0.1 is below 0.
    assert (found.auc.value, found.auc.n) == (close(15 / 16), 4)
    assert (found.brier.value, found.brier.n) == (close((0.01 + 0.36 + 0.04 + 0.09 + 0) / 5), 5)
    # -ln of 0.9, 0.4, 0.8, 0.7 and 0.5.
    assert found.log_loss.value == close((0.105361 + 0.916291 + 0.223144 + 0.356675 + 0.693147) / 5)
    # Bins of 0.9: gap 0.1; 0.6 (0.4 mirrored): 0.6; 0.8: 0.2; 0.7: 0.3; 0.5: 0. Each once, and once mirrored.
    assert found.ece.value == close((0.1 + 0.6 + 0.2 + 0.3) / 5)


def test_balanced_accuracy_is_one_half_for_a_ruler() -> None:
    long, short = "one two three", "one"
    pairs = [pair(i, human, a=long, b=short) for i, human in enumerate([0, 0, 0, 1, 1])]
    ruler = diagnose(pairs, labels(pairs, 0.1, 0.1, 0.1, 0.1, None))  # always the shorter; one pair without a label
    assert (ruler.accuracy.value, ruler.balanced.value) == (0.75, close(0.5))
    assert ruler.picks_longer.value == 0


def test_recorded_verdicts_are_scored_again_the_same(tmp_path: Path) -> None:
    """Votes as the label stage writes them: from file to label to interval, without asking anybody."""
    prompts = [f"prompt {i // 2}" for i in range(20)]  # two pairs a prompt
    pairs = [pair(i, float(i % 2), prompt=prompt) for i, prompt in enumerate(prompts)]
    votes = [[rate("kind", 3.0 if i % 2 else -3.0), rate("safe", 1.0 if i % 2 else -1.0)] for i in range(20)]
    write_jsonl(tmp_path / "labels.jsonl", judged(pairs, RATE, EVEN, *votes))
    recorded = read_jsonl(tmp_path / "labels.jsonl", Label)
    assert [label.p_a for label in recorded] == [close(0.8808 if i % 2 else 0.1192) for i in range(20)]  # 2 and -2
    assert [verdict(pair, label.votes, RATE, EVEN) for pair, label in zip(pairs, recorded, strict=True)] == recorded
    assert [combine(label.votes, RATE, {"kind": 3, "safe": 1}) for label in recorded[:2]] == [-2.5, 2.5]

    found = diagnose(pairs, recorded)
    # Twenty right of twenty, but ten prompts: Wilson's 10 / (10 + 3.8415), not 20 / (20 + 3.8415) = 0.8389.
    assert found.accuracy == Estimate(1, pytest.approx(0.7225, abs=5e-4), 1, 20, 10)
    each = diagnose(pairs, recorded, clusters=[pair.id for pair in pairs])
    assert each.accuracy == Estimate(1, pytest.approx(0.8389, abs=5e-4), 1, 20, 20)
    assert found.brier.value == close(0.1192**2)
    assert found == diagnose(pairs, recorded)


# Principles


def reports(
    pairs: list[Pair], *votes: list[Vote], judge: Judge = RATE, weights: dict[str, float] | None = None
) -> dict[str, PrincipleReport]:
    weights = weights or EVEN
    found = by_principle(pairs, judged(pairs, judge, weights, *votes), judge, weights)
    assert [report.principle for report in found] == list(weights)
    return {report.principle: report for report in found}


def test_leave_one_out_by_hand() -> None:
    pairs = [pair(0, 1.0), pair(1, 1.0), pair(2, 1.0)]
    found = reports(
        pairs,
        [rate("kind", 2), rate("safe", -1)],  # 0.5; without kind -1: the label flips; without safe 2
        [rate("kind", 1), rate("safe", 3)],  # 2; without kind 3, without safe 1
        [rate("kind", -1), rate("safe", 4, fault=NO_MASS)],  # kind is its only principle
    )
    kind, safe = found["kind"], found["safe"]
    assert (kind.n, kind.only, kind.label_flips.n, kind.label_flips.value) == (3, 1, 2, 0.5)
    assert (safe.n, safe.only, safe.label_flips.n, safe.label_flips.value) == (2, 0, 2, 0.0)
    # P of 0.5, -1, 2, 3, 1: 0.62246, 0.26894, 0.88080, 0.95257, 0.73106.
    assert kind.label_moves.value == close((0.35352 + 0.07177) / 2)
    assert safe.label_moves.value == close((0.25834 + 0.14974) / 2)
    assert (kind.agreement.value, kind.agreement.n) == (close(2 / 3), 3)
    assert (safe.agreement.value, safe.agreement.n) == (0.5, 2)
    assert kind.spread == close(math.sqrt(14 / 9))  # of 2, 1, -1: mean 2/3, squares 6/3 - 4/9
    assert safe.spread == close(2)
    assert empty(kind.flips)  # each answer alone: no order to flip
    assert kind.correlations == {"safe": (pytest.approx(float("nan"), nan_ok=True), 2)} and kind.redundant_with is None


def test_a_label_that_becomes_a_tie_is_half_a_flip() -> None:
    found = reports([pair(0), pair(1)], [rate("kind", 2), rate("safe", 0)], [rate("kind", 2), rate("safe", -2)])
    assert (found["kind"].label_flips.value, found["safe"].label_flips.value) == (
        0.5,
        0.25,
    )  # (1/2 + 1/2) / 2; (0 + 1/2)


def test_correlation_redundancy_and_conflict_by_hand() -> None:
    odds = {"one": (1, 2, 3, -1), "twin": (1, 3, 2, None), "foe": (-1, -2, 1, None), "flat": (2, 2, 2, 2)}
    votes = [[rate(name, value[i]) for name, value in odds.items() if value[i] is not None] for i in range(4)]
    found = reports([pair(i) for i in range(4)], *votes, weights=dict.fromkeys(odds, 1.0))
    one = found["one"]
    assert one.correlations["twin"] == (close(0.5), 3)  # deviations -1 0 1 and -1 1 0: 1 / (sqrt 2 * sqrt 2)
    assert one.correlations["foe"] == (close(0.6547), 3)  # -1 0 1 and -1/3 -4/3 5/3: 2 / (sqrt 2 * sqrt(14/3))
    assert isnan(one.correlations["flat"][0]) and one.correlations["flat"][1] == 4
    assert one.redundant_with == ("foe", close(0.6547))  # goes up and down with it, though from the other side
    assert one.oppositions == {"twin": (0.0, 3), "foe": (close(2 / 3), 3), "flat": (0.25, 4)}
    assert one.conflicts == ("foe", close(2 / 3))
    assert found["twin"].conflicts == ("foe", close(2 / 3)) and found["flat"].redundant_with is None
    assert found["foe"].correlations["one"] == one.correlations["foe"]
    assert (found["flat"].spread, found["flat"].n) == (0, 4)
    # Majorities: a (3 of 4), a (3 of 4), a, tie between one (b) and flat (a).
    assert (found["foe"].against_majority.value, found["foe"].against_majority.n) == (close(2 / 3), 3)
    assert (one.against_majority.value, one.against_majority.n) == (0, 3)


def test_drawn_principles_are_compared_only_where_both_were_drawn() -> None:
    names = ("one", "two", "three", "never")
    drawn = [("one", "two"), ("one", "two"), ("two", "one"), ("one", "three"), ("three",), ("two",)]
    votes = [[rate(name, i + 1 if name == "one" else -i) for name in of] for i, of in enumerate(drawn)]
    found = reports([pair(i) for i in range(6)], *votes, weights=dict.fromkeys(names, 1.0))
    assert [found[name].n for name in names] == [4, 4, 2, 0]
    assert [found[name].only for name in names] == [0, 1, 1, 0]
    assert found["one"].correlations["two"] == (close(-1), 3) and found["one"].correlations["three"][1] == 1
    assert found["one"].conflicts == (
        "two",
        close(2 / 3),
    )  # 0 against 1 is a tie; one shared pair with three is too few
    assert empty(found["three"].against_majority)  # a tie with one, and once alone: that is no majority
    never = found["never"]
    assert isnan(never.spread) and empty(never.agreement) and empty(never.label_flips) and never.conflicts is None


def test_flips_between_the_orders_of_each_principle() -> None:
    votes = [
        [choice("kind", "ab", 0.9), choice("kind", "ba", 0.8), choice("safe", "ab", 0.9), choice("safe", "ba", 0.1)],
        [choice("kind", "ab", 0.9), choice("kind", "ba", 0.5), choice("safe", "ab", 0.4), choice("safe", "ba", 0.6)],
        [choice("kind", "ab", 0.9), choice("kind", "ba", 0.9, fault=NO_MASS)],
    ]
    found = reports([pair(i) for i in range(3)], *votes, judge=CHOICE)
    assert (found["kind"].flips.value, found["kind"].flips.n, found["kind"].n) == (0.75, 2, 2)
    assert (found["safe"].flips.value, found["safe"].flips.n) == (0, 2)


def test_labels_of_people_have_no_principles_to_report() -> None:
    pairs = [pair(0, 1.0), pair(1, 0.0)]
    (kind, _) = by_principle(pairs, [Label(p.id, p.human or 0.0, "human") for p in pairs], RATE, EVEN)
    assert kind.n == 0 and empty(kind.agreement)


@pytest.mark.parametrize("combining", ["average", "vote"])
@pytest.mark.parametrize("clamp", [(0.4, 0.6), (0.05, 0.95)])
def test_some_principles_together_are_as_if_there_were_no_others(combining: str, clamp: tuple[float, float]) -> None:
    """Without their votes and without their weights, whatever is mixed, weighted, unreadable or missing."""
    rng = random.Random(7)
    weights = {"kind": 1.0, "safe": 3.0, "true": 0.5}
    mix = {"rate": 2.0, "choice": 1.0, "reason": 0.5, "score": 1.0}
    judge = Judge(method=mix, principles="all", combine=combining, temperature=0.7, reason=Reason(clamp=clamp))
    options = {"rate": 4, "choice": 2, "reason": 2, "score": 20}
    verdicts: list[Label | Abstained] = []
    for i in range(60):
        votes = []
        for method in mix:
            for name in weights:
                for order in (
                    ("ab", "ba", "ab") if method == "reason" else ("ab", "ba") if method == "choice" else ("each",)
                ):
                    logprobs = tuple(rng.gauss(-2, 2) for _ in range(options[method]))
                    fault = NO_MASS if rng.random() < 0.2 + 0.8 * (i % 6 == 0) else ""
                    vote = Vote(method, name, order, 0.5, 1.0, logprobs, fault)
                    if rng.random() < 0.8:
                        votes.append(replace(vote, p_a=sigmoid(log_odds(vote))))
        verdicts.append(Label(f"pair {i}", 0.5, "ai", tuple(votes)))
    for names in (list(weights), ["safe"], ["kind", "true"]):
        kept = [[vote for vote in label.votes if vote.principle in names] for label in verdicts]
        expected = [combine(votes, judge, weights) for votes in kept]
        some = {name: weights[name] for name in names}
        assert [mixed(by_method(label.votes, judge), judge, some) for label in verdicts] == expected
        assert 5 < sum(odds is None for odds in expected) < 30
