"""What several publics have of one thing, as one number: the mean, the least, and Nash's.

Each group has a rate (how often a model says what the group says). Of one model,

    mean   of the groups' rates: what is gained by one may be lost by another
    least  the rate of the worst-off group (Rawls 1971)
    nash   their geometric mean (Nash 1950): a group that loses half of what it has outweighs one that gains half

A group counts as one, however many rows or raters it has. Intervals are by the cluster bootstrap of intervals.py: a
prompt is drawn with what all groups say of it, for their rates rest on the same prompts. Where two groups are about
equally badly off, the least of what was measured lies below the least of what is true; the interval is drawn down with
it. So it is careful about the worst-off, never flattering.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cai.core.records import Estimate
from cai.stats.intervals import EMPTY, LIMITS, Clusters, draws, wilson

RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Welfare:
    """n of each: rows that any group has; clusters: their prompts."""

    mean: Estimate
    least: Estimate
    nash: Estimate


def welfare(groups: Sequence[tuple[ArrayLike, Clusters]], *, seed: int = 0) -> Welfare:
    """groups: (outcomes of 0 to 1, the prompt of each) of each group. EMPTY where a group has no outcome.

    Where nothing varies the ends are Wilson's with as many trials as there are prompts."""
    names = np.unique(np.concatenate([np.asarray(clusters, str) for _, clusters in groups]))
    sums, sizes = (np.zeros((len(groups), len(names))) for _ in range(2))
    for row, (values, clusters) in enumerate(groups):
        at = np.searchsorted(names, np.asarray(clusters, str))
        np.add.at(sums[row], at, np.asarray(values, float))
        np.add.at(sizes[row], at, 1)
    if not len(names) or not sizes.sum(axis=1).all():
        return Welfare(mean=EMPTY, least=EMPTY, nash=EMPTY)
    counts = np.concatenate(list(draws(len(names), seed, RESAMPLES)))
    with np.errstate(invalid="ignore"):
        drawn = (counts @ sums.T) / (counts @ sizes.T)  # (resamples, groups); NaN where a group was not drawn
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    rates, size = sums.sum(axis=1) / sizes.sum(axis=1), (int(sizes.sum()), len(names))

    def estimate(of: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        value = float(of(rates[None])[0])
        low, high = (float(end) for end in np.percentile(of(drawn), LIMITS)) if len(names) > 1 else (np.nan, np.nan)
        if low == high:
            low, high = wilson(value, len(names))
        return Estimate(value, low, high, *size)

    return Welfare(
        mean=estimate(lambda rates: rates.mean(axis=1)),
        least=estimate(lambda rates: rates.min(axis=1)),
        nash=estimate(lambda rates: np.exp(np.log(np.maximum(rates, 1e-12)).mean(axis=1))),
    )
