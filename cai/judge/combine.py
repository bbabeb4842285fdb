"""From votes to one verdict: orders, samples, methods and principles combined, in log-odds or by shares."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from cai.config.sections import Judge
from cai.constitution import Judging
from cai.core.odds import logit, sigmoid
from cai.core.records import Abstained, Label, Pair, Vote
from cai.judge.methods import METHODS, log_odds, shares

CHECK = "check"  # the method of votes that are computed


def weighted(rows: Sequence[tuple[float, float]]) -> float:
    """The mean of (weight, value) rows."""
    return math.fsum(weight * value for weight, value in rows) / math.fsum(weight for weight, _ in rows)


def weights_of(judging: Sequence[Judging], judge: Judge) -> dict[str, float]:
    """Principle -> weight. Where principles are drawn, their weights have told in the draw already."""
    return {p.name: p.weight if judge.principles == "all" else 1.0 for p in judging}


def verdict(
    pair: Pair,
    votes: tuple[Vote, ...],
    judge: Judge,
    weights: Mapping[str, float],
    platt: tuple[float, float] | None = None,
) -> Label | Abstained:
    odds = combine(votes, judge, weights)
    if odds is None:
        faults = Counter(vote.fault for vote in votes if vote.fault)
        return Abstained(pair.id, faults.most_common(1)[0][0] if faults else "one order alone can be read", votes)
    slope, bias = platt or (1.0, 0.0)
    return Label(pair.id, sigmoid(slope * odds + bias), "ai", votes)


def combine(votes: Sequence[Vote], judge: Judge, weights: Mapping[str, float]) -> float | None:
    """Log-odds of "a is better" from the votes that can be read; None where there are none.

    Samples of one question: the mean of their probabilities (what a chain of thought leads to, whatever the thought).
    Orders: the mean of their log-odds, so that a liking for a position cancels. Principles: see `judge.combine`.
    Methods: the weighted mean of their log-odds; a method that cannot be read leaves its share to the others.
    """
    return mixed(by_method(votes, judge), judge, weights)


def by_method(votes: Sequence[Vote], judge: Judge) -> dict[str, dict[str, float]]:
    """Method, and "check" -> principle -> its log-odds, samples and orders combined, of those that can be read."""
    grouped: dict[str, dict[str, dict[str, list[Vote]]]] = {name: {} for name in (*shares(judge), CHECK)}
    for vote in votes:
        if vote.method in grouped and not vote.fault:
            grouped[vote.method].setdefault(vote.principle, {}).setdefault(vote.order, []).append(vote)
    return {
        name: {
            principle: _mean([_pooled(samples) for samples in orders.values()])
            for principle, orders in principles.items()
            if not METHODS[name].both_orders or len(orders) == 2
        }
        for name, principles in grouped.items()
    }


def mixed(
    odds: Mapping[str, Mapping[str, float]], judge: Judge, weights: Mapping[str, float]
) -> float | None:  # fmt: skip
    """The principles of `weights` and all methods together, from `by_method`: log-odds; None where none can be read.

    What a program has computed (`Check:`) is a principle beside those that were asked about, by its weight: with
    `average` the judge's temperature and clamp leave it alone, with `vote` it is a voter among the others.
    """
    computed = [(weights[principle], value) for principle, value in odds[CHECK].items() if principle in weights]
    voters = computed if judge.combine == "vote" else []
    parts: list[tuple[float, float]] = []
    asked: set[str] = set()
    for name, share in shares(judge).items():
        mine = {} if name == CHECK else {p: value for p, value in odds[name].items() if p in weights}
        if mine:
            asked |= mine.keys()
            rows = [(weights[principle], value) for principle, value in mine.items()]
            value = _of_principles([*rows, *voters], judge) / judge.temperature
            parts.append((share, _clamped(value, judge) if METHODS[name].thinking else value))
    if not parts:
        return _of_principles(computed, judge) if computed else None
    if voters or not computed:
        return weighted(parts)
    return weighted([(math.fsum(weights[principle] for principle in asked), weighted(parts)), *computed])


def _pooled(samples: Sequence[Vote]) -> float:
    if len(samples) == 1:
        return log_odds(samples[0])
    return logit(_mean([sigmoid(log_odds(sample)) for sample in samples]))


def _of_principles(rows: Sequence[tuple[float, float]], judge: Judge) -> float:
    """(weight, log-odds) of each principle -> log-odds. A vote's share is smoothed (half a voter on each side)."""
    if judge.combine == "average":
        return weighted(rows)
    total = math.fsum(weight for weight, _ in rows)
    share = math.fsum(weight * (0.5 if odds == 0 else float(odds > 0)) for weight, odds in rows) / total
    return logit((share * len(rows) + 0.5) / (len(rows) + 1))


def _clamped(odds: float, judge: Judge) -> float:
    low, high = judge.reason.clamp
    return logit(min(max(sigmoid(odds), low), high))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
