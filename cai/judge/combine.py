"""From votes to one verdict: orders, samples, methods and principles combined, in log-odds or by shares.

What stands above what (`Priority:`, `Never:`; cai/constitution/records.py `Order`):

    limits    where one answer breaks a limit and the other breaks none, it loses, surely (SURE); nothing else counts
    levels    each level's principles are combined as if they were all; the first level that does not tie is the
              verdict. A level ties where its P is within `judge.tie` of one half, or none of its votes can be read;
              where all do, the verdict is that of the last one that could be read
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from cai.config.sections import Judge
from cai.constitution import Judging, Limit
from cai.core.odds import logit, sigmoid
from cai.core.records import Abstained, Label, Pair, Vote
from cai.judge.ballots import NEVER
from cai.judge.checkers import SURE
from cai.judge.limits import BOTH_BREAK, NEITHER_BREAKS
from cai.judge.methods import METHODS, log_odds, shares

CHECK = "check"  # the method of votes that are computed
ONE_ORDER, UNTOLD = "one order alone can be read", "no limit tells the two answers apart"
Levels = Sequence[tuple[str, int]]  # as in `Order`


def weighted(rows: Sequence[tuple[float, float]]) -> float:
    """The mean of (weight, value) rows."""
    return math.fsum(weight * value for weight, value in rows) / math.fsum(weight for weight, _ in rows)


def weights_of(judging: Sequence[Judging], judge: Judge, limits: Sequence[Limit] = ()) -> dict[str, float]:
    """Principle -> weight, and limits, which are weighed against nothing. Where principles are drawn, their weights
    have told in the draw already."""
    weights = {p.name: p.weight if judge.principles == "all" else 1.0 for p in judging}
    return weights | {limit.name: 1.0 for limit in limits}


def verdict(
    pair: Pair,
    votes: tuple[Vote, ...],
    judge: Judge,
    weights: Mapping[str, float],
    platt: tuple[float, float] | None = None,
    levels: Levels = (),
) -> Label | Abstained:
    """platt: leaves what a limit has decided as it is."""
    read = by_method(votes, judge)
    odds = mixed(read, judge, weights, levels)
    if odds is None:
        faults = Counter(vote.fault for vote in votes if vote.fault not in ("", BOTH_BREAK, NEITHER_BREAKS))
        limits_alone = bool(votes) and all(vote.method == NEVER for vote in votes)
        why = faults.most_common(1)[0][0] if faults else UNTOLD if limits_alone else ONE_ORDER
        return Abstained(pair.id, why, votes)
    slope, bias = (1.0, 0.0) if platt is None or limited(read, weights) is not None else platt
    return Label(pair.id, sigmoid(slope * odds + bias), "ai", votes)


def combine(
    votes: Sequence[Vote], judge: Judge, weights: Mapping[str, float], levels: Levels = ()
) -> float | None:  # fmt: skip
    """Log-odds of "a is better" from the votes that can be read; None where there are none.

    Samples of one question: the mean of their probabilities (what a chain of thought leads to, whatever the thought).
    Orders: the mean of their log-odds, so that a liking for a position cancels. Principles: see `judge.combine`.
    Methods: the weighted mean of their log-odds; a method that cannot be read leaves its share to the others.
    """
    return mixed(by_method(votes, judge), judge, weights, levels)


def by_method(votes: Sequence[Vote], judge: Judge) -> dict[str, dict[str, float]]:
    """Method, and "check" -> principle -> its log-odds, samples and orders combined, of those that can be read.

    "never" -> limit -> the same where one answer breaks it; 0 where both do.
    """
    grouped: dict[str, dict[str, dict[str, list[Vote]]]] = {name: {} for name in (*shares(judge), CHECK)}
    for vote in votes:
        if vote.method in grouped and not vote.fault:
            grouped[vote.method].setdefault(vote.principle, {}).setdefault(vote.order, []).append(vote)
    read = {
        name: {
            principle: _mean([_pooled(samples) for samples in orders.values()])
            for principle, orders in principles.items()
            if not METHODS[name].both_orders or len(orders) == 2
        }
        for name, principles in grouped.items()
    }
    of_limits = [vote for vote in votes if vote.method == NEVER and vote.fault in ("", BOTH_BREAK)]
    return read | {NEVER: {vote.principle: 0.0 if vote.fault else log_odds(vote) for vote in of_limits}}


def limited(odds: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> float | None:
    """What the limits of `weights` decide, from `by_method`: log-odds; None where they leave it to the principles."""
    broken = [value for name, value in odds[NEVER].items() if name in weights]
    a_breaks, b_breaks = any(value <= 0 for value in broken), any(value >= 0 for value in broken)
    return None if a_breaks == b_breaks else logit(SURE) if b_breaks else -logit(SURE)


def tiers(weights: Mapping[str, float], levels: Levels) -> list[dict[str, float]]:
    """The principles of `weights` level by level, the first to count first; those of no level are of one by itself."""
    of = dict(levels)
    ranks = sorted({of.get(name, 0) for name in weights})
    return [{name: weight for name, weight in weights.items() if of.get(name, 0) == rank} for rank in ranks]


def mixed(
    odds: Mapping[str, Mapping[str, float]], judge: Judge, weights: Mapping[str, float], levels: Levels = ()
) -> float | None:
    """The principles and limits of `weights` and all methods together, from `by_method`: log-odds; None where none can
    be read. The order of limits and levels is that at the top of this file."""
    decided = limited(odds, weights)
    if decided is not None:
        return decided
    band, last = logit(0.5 + judge.tie), None
    for tier in tiers(weights, levels):
        value = _mixed(odds, judge, tier)
        last = last if value is None else value
        if value is not None and abs(value) > band:
            break
    return last


def stacked(values: Sequence[float | None], tie: float) -> float | None:
    """What an answer is worth alone by several levels, the first of which counts first; None where none can be read.

    A level's value is rounded to whole bands, each as wide as a tie (log-odds of 0.5 + tie), and all that is below it
    moves it by less than half of one: so no sum of lower levels makes up for a band of a higher one. A higher level
    that cannot be read is 0, neither for the answer nor against it. Two answers that tie in a pair may lie on two sides
    of an edge between bands: a number for each cannot do without edges.
    """
    if all(value is None for value in values):
        return None
    *higher, lowest = values
    worth, band = lowest or 0.0, logit(0.5 + tie)
    for value in reversed(higher):
        steps = band * round((value or 0.0) / band) if band else value or 0.0
        worth = steps + band * (sigmoid(worth) - 0.5)
    return worth


def _mixed(
    odds: Mapping[str, Mapping[str, float]], judge: Judge, weights: Mapping[str, float]
) -> float | None:  # fmt: skip
    """The principles of one level.

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
