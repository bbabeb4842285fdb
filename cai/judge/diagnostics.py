"""What every set of labels is measured by: coverage, position and length bias, agreement with people, each principle.

    diagnose      the labels of one judge as a whole: can it be read, does it have habits, do people agree with it?
    by_principle  the same votes principle by principle: which one people share, which repeats or opposes another,
                  and what the labels would have been without it

Everything is read off the votes that the label stage kept (cai/core/records.py), so it costs no call. Intervals are
those of cai/stats/intervals.py, with prompts as clusters. numpy and all that needs it are imported where they are used:
a run that only plans, or only complains, must not wait for them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from cai.config.sections import Judge
from cai.core.odds import side, sigmoid
from cai.core.records import Abstained, Estimate, Label, Pair, Vote
from cai.core.refusals import refuses
from cai.core.textstats import words
from cai.judge.ballots import NO_MASS, NO_THOUGHT, RAMBLED, REFUSED
from cai.judge.combine import Levels, by_method, mixed
from cai.judge.methods import WAYS

SHARED = 3  # fewer pairs that two principles both judged say nothing about how they go together
RESAMPLES = 500  # there are several intervals for each principle, and up to dozens of principles

Verdicts = Sequence[Label | Abstained]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One judge on some pairs. An Estimate without data has n 0 and NaN for a value.

    n, labelled:     pairs, and those with a label; `abstained` counts the others by reason.
    votes, faults:   votes, and those of them that could not be read, by reason.
    abstained_by_subset: harm category -> (abstained, pairs). refused_by_subset: harm category -> (votes, of votes) that
                     the judge refused, rambled about or put no probability on: a judge that shies away from a subject.
    mass, mass_low:  share of probability on the options, median and 5th percentile over votes that have options.
    consistency:     how often both orders of a question name the same answer; a tie counts half.
    first_shown:     how often the answer shown first is the likelier one; 0.5 is no liking for a position. Counted
                     where both orders could be read, so that what the answers say cancels.
    picks_longer:    how often a label prefers the answer with more words, and refusals: one that refuses to one that
                     does not. Labels that are ties, and pairs that are alike in this, are left out.
    The rest compares with people. accuracy, balanced (length taken out), kappa and auc leave out pairs on which people
    are split; brier, ece and log_loss do not.
    """

    n: int
    labelled: int
    abstained: dict[str, int]
    abstained_by_subset: dict[str, tuple[int, int]]
    votes: int
    faults: dict[str, int]
    refused_by_subset: dict[str, tuple[int, int]]
    mass: float | None
    mass_low: float | None
    consistency: Estimate
    first_shown: Estimate
    picks_longer: Estimate
    refusals: Estimate
    accuracy: Estimate
    balanced: Estimate
    kappa: Estimate
    auc: Estimate
    brier: Estimate
    ece: Estimate
    log_loss: Estimate


def diagnose(pairs: Sequence[Pair], verdicts: Verdicts, clusters: Sequence[str] | None = None) -> Diagnosis:
    """What the verdicts on these pairs, in the same order, are worth. clusters: one name a pair; else the prompt's."""
    import numpy as np

    from cai.stats import agreement, calibration
    from cai.stats import intervals as statistics

    names = [pair.prompt.id for pair in pairs] if clusters is None else list(clusters)
    assert [pair.id for pair in pairs] == [verdict.pair_id for verdict in verdicts] and len(names) == len(pairs)
    abstained = [verdict for verdict in verdicts if isinstance(verdict, Abstained)]
    subset = [pair.prompt.subset for pair in pairs]
    votes = [(place, vote) for place, verdict in enumerate(verdicts) for vote in verdict.votes]
    masses = [vote.mass for _, vote in votes if _has_mass(vote)]

    # 1. Habits: of position, of length, of refusals.
    questions = _both_orders(verdicts)
    asked = [names[place] for place, *_ in questions]
    same = [(1 + side(ab, 0.5) * side(ba, 0.5)) / 2 for _, _, ab, ba in questions]
    first = [p for _, _, ab, ba in questions for p in (ab, 1 - ba)]
    p_a = [verdict.p_a if isinstance(verdict, Label) else nan for verdict in verdicts]
    lengths = [(words(pair.a), words(pair.b)) for pair in pairs]
    declined = [(refuses(pair.a), refuses(pair.b)) for pair in pairs]

    def preferring(most: Sequence[tuple[float, float]]) -> Estimate:
        """How often a label prefers the answer that has more of something."""
        sided = [nan if p == 0.5 else p for p in p_a]
        return statistics.accuracy(sided, [0.5 + 0.5 * side(a, b) for a, b in most], names)

    # 2. Agreement with people.
    human = [nan if pair.human is None else pair.human for pair in pairs]
    sides = [nan if h == 0.5 else h for h in human]
    judged = [nan if p != p else h for p, h in zip(p_a, human, strict=True)]
    weights = statistics.length_balance(judged, [a for a, _ in lengths], [b for _, b in lengths])
    return Diagnosis(
        n=len(pairs),
        labelled=len(pairs) - len(abstained),
        abstained=_counted(verdict.reason for verdict in abstained),
        abstained_by_subset=_by_subset(
            zip(subset, [isinstance(verdict, Abstained) for verdict in verdicts], strict=True)
        ),
        votes=len(votes),
        faults=_counted(vote.fault for _, vote in votes if vote.fault),
        refused_by_subset=_by_subset(
            (subset[i], vote.fault in (REFUSED, RAMBLED, NO_THOUGHT, NO_MASS)) for i, vote in votes
        ),
        mass=float(np.median(masses)) if masses else None,
        mass_low=float(np.percentile(masses, 5)) if masses else None,
        consistency=statistics.mean(same, asked),
        first_shown=statistics.win_rate(first, np.repeat(asked, 2)),
        picks_longer=preferring(lengths),
        refusals=preferring(declined),
        accuracy=statistics.accuracy(p_a, human, names),
        balanced=statistics.accuracy(p_a, human, names, weights=weights),
        kappa=agreement.kappa(p_a, sides, names),
        auc=statistics.auc([p - 0.5 for p in p_a], human, names),
        brier=calibration.brier(p_a, human, names),
        ece=calibration.ece(p_a, human, names),
        log_loss=calibration.log_loss(p_a, human, names),
    )


# Principle by principle -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrincipleReport:
    """One principle, its votes of all methods combined as the judge combines them, before any calibration.

    n:               pairs on which it could be read. agreement: with people, on those of them that people judged.
    flips:           how often the two orders of a question about it name different answers; a tie counts half.
    correlations:    other principle -> (Pearson's r of log-odds, pairs that both judged); NaN below 3 pairs, and where
                     one of the two always says the same. redundant_with: the highest of them.
    oppositions:     other principle -> (share of pairs on which the two prefer different answers, pairs that both
                     judged). conflicts: the highest of them, if it is above 0.
    spread:          standard deviation of its log-odds: near 0 it tells no pair from another (with `combine: vote` only
                     its side is left of them). against_majority: how often it prefers the other answer than most of
                     the principles on a pair do, itself among them; pairs without a majority are left out.
    only:            pairs on which no other principle could be read. On the rest of the n, the labels without it:
    label_flips:     how many would name the other answer (half for one that becomes or was a tie).
    label_moves:     mean distance between P(a better) with it and without it.
    """

    principle: str
    n: int
    agreement: Estimate
    flips: Estimate
    correlations: dict[str, tuple[float, int]]
    redundant_with: tuple[str, float] | None
    oppositions: dict[str, tuple[float, int]]
    conflicts: tuple[str, float] | None
    spread: float
    against_majority: Estimate
    only: int
    label_flips: Estimate
    label_moves: Estimate


def by_principle(
    pairs: Sequence[Pair], verdicts: Verdicts, judge: Judge, weights: Mapping[str, float], levels: Levels = ()
) -> list[PrincipleReport]:
    """One report for each principle and limit of `weights`, in that order; one that was never drawn has n 0."""
    import numpy as np

    from cai.stats import intervals as statistics

    assert [pair.id for pair in pairs] == [verdict.pair_id for verdict in verdicts]
    names = list(weights)
    prompts = np.array([pair.prompt.id for pair in pairs])
    human = [nan if pair.human is None else pair.human for pair in pairs]
    read = [by_method(verdict.votes, judge) for verdict in verdicts]

    def together(of: Mapping[str, float], rows: Iterable[int]) -> Any:
        """The log-odds of some principles together on some pairs; NaN where none of them can be read."""
        odds = [mixed(read[row], judge, of, levels) for row in rows]
        return np.array([nan if value is None else value for value in odds], float)

    everything = range(len(pairs))
    alone = np.stack([together({name: weights[name]}, everything) for name in names], axis=1)
    whole = together(weights, everything)
    sides = np.sign(alone)  # (pairs, principles): 1, -1, 0, or NaN where it could not be read
    majority = np.where(np.sum(~np.isnan(sides), axis=1) > 1, np.sign(np.nansum(sides, axis=1)), 0)
    questions = _both_orders(verdicts)
    reports = []
    for k, name in enumerate(names):
        mine = ~np.isnan(alone[:, k])
        flips = [(place, (1 - side(ab, 0.5) * side(ba, 0.5)) / 2) for place, of, ab, ba in questions if of == name]
        dissent = np.where((majority == 0) | (sides[:, k] == 0) | ~mine, nan, sides[:, k] != majority)
        others = {other: weight for other, weight in weights.items() if other != name}
        without = together(others, np.flatnonzero(mine).tolist())
        correlations, oppositions = _beside(alone, names, k)
        opposed = _highest(oppositions)

        def mean(values: Any, rows: Any) -> Estimate:
            return statistics.mean(values, prompts[rows], resamples=RESAMPLES)

        reports.append(
            PrincipleReport(
                principle=name,
                n=int(mine.sum()),
                agreement=statistics.accuracy(_chances(alone[:, k]), human, prompts, resamples=RESAMPLES),
                flips=mean([flip for _, flip in flips], [place for place, _ in flips]),
                correlations=correlations,
                redundant_with=_highest(correlations),
                oppositions=oppositions,
                conflicts=opposed if opposed and opposed[1] > 0 else None,
                spread=float(np.std(alone[mine, k])) if mine.any() else nan,
                against_majority=mean(dissent, slice(None)),
                only=int(np.isnan(without).sum()),
                label_flips=mean(np.abs(np.sign(whole[mine]) - np.sign(without)) / 2, mine),
                label_moves=mean(np.abs(_chances(whole[mine]) - _chances(without)), mine),
            )
        )
    return reports


def _beside(alone: Any, names: Sequence[str], k: int) -> tuple[dict[str, tuple[float, int]], ...]:
    """Correlations and oppositions of principle k with every other, on the pairs that both judged."""
    import numpy as np

    correlations, oppositions = {}, {}
    for j, other in enumerate(names):
        if j == k:
            continue
        x, y = alone[~np.isnan(alone[:, k] + alone[:, j])][:, [k, j]].T
        varied = len(x) >= SHARED and np.ptp(x) > 0 and np.ptp(y) > 0
        correlations[other] = (float(np.corrcoef(x, y)[0, 1]) if varied else nan, len(x))
        oppositions[other] = (float(np.mean(x * y < 0)) if len(x) >= SHARED else nan, len(x))
    return correlations, oppositions


# Small things ---------------------------------------------------------------------------------------------------------


def _both_orders(verdicts: Verdicts) -> list[tuple[int, str, float, float]]:
    """(place of the pair, principle, P when a is shown first, P when b is) of each question read in both orders.

    Several thoughts of one order count as one vote, with the mean of their probabilities, as in `combine`.
    """
    questions = []
    for place, verdict in enumerate(verdicts):
        orders: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for vote in verdict.votes:
            if WAYS[vote.method].both_orders and not vote.fault:
                orders[vote.method, vote.principle][vote.order].append(vote.p_a)
        for (_, principle), p in orders.items():
            if len(p) == 2:
                questions.append((place, principle, sum(p["ab"]) / len(p["ab"]), sum(p["ba"]) / len(p["ba"])))
    return questions


def _has_mass(vote: Vote) -> bool:
    """Whether the options were read, so that their mass was measured and is not merely 0 for want of a reading."""
    return WAYS[vote.method].options and bool(vote.logprobs) and vote.fault in ("", NO_MASS)


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    """Reason -> how often, the most frequent first."""
    return dict(sorted(Counter(reasons).items(), key=lambda item: (-item[1], item[0])))


def _by_subset(rows: Iterable[tuple[str, bool]]) -> dict[str, tuple[int, int]]:
    """(subset, whether it counts) of each row -> (how many count, how many there are) of each subset."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for subset, counted in rows:
        counts[subset][0] += counted
        counts[subset][1] += 1
    return {subset: (hits, of) for subset, (hits, of) in sorted(counts.items())}


def _highest(matrix: Mapping[str, tuple[float, int]]) -> tuple[str, float] | None:
    known = [(name, value) for name, (value, _) in matrix.items() if value == value]
    return max(known, key=lambda item: item[1], default=None)


def _chances(odds: Any) -> Any:
    """Log-odds -> P(a better), NaN where there are none."""
    import numpy as np

    return np.array([sigmoid(value) for value in odds.tolist()])
