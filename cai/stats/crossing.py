"""How many human labels is a judge worth? Where the curve of people's labels reaches the level of the judge's.

Reward models are trained on growing numbers of human labels, and on all the labels of the judge; each is held against
people on the same held-out pairs. The number of human labels at which the two agree with people equally often is the
*crossing*.

Between the budgets the curve is read off a monotone fit (isotonic regression, pool-adjacent-violators in its max-min
form: Barlow et al. 1972, section 1.2), joined by straight lines over log(labels). Monotone, because more labels of the
same people do not make a reward model worse but by chance, and chance would otherwise cross a level several times over;
log, because learning curves are near straight in it between two neighbours. A straight line in log(labels) through
*all* budgets would be steadier and says more than is known: curves bend at chance and at the people's own ceiling. For
the same reason nothing is extrapolated: a level that is reached before the smallest budget, or not by the largest one,
is said to be so.

The interval is a percentile interval over both prompts and seeds: prompts are drawn with replacement, each with all its
rows, and seeds with replacement (each seed draws its own nested subsets, and starts the judge's reward model too); what
is drawn is drawn for people and judge alike (Owen 2007, the pigeonhole bootstrap: slightly too wide). Of S seeds S - 1
are drawn, which makes the variance of their mean right where S is small (Rao & Wu 1988). One seed: for this seed only.

Simulated when this was written (40 prompts of 3 pairs, true curves that cross at the middle of five budgets, seeds with
a standard deviation of 0, 0.03 and 0.08, two to five of them, 400 experiments each; tests/stats/test_crossing.py
repeats a part): the interval covers the crossing in 94.5 to 99.8%. It is careful, not wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log

import numpy as np
from numpy.typing import ArrayLike

from cai.stats.intervals import Clusters, draws

LIMITS = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Crossing:
    """Numbers of labels. 0: at or below the smallest budget; infinity: above the largest one.

    below, above: the share of resamples that cross there. n: rows; clusters: prompts; seeds: replicas.
    """

    labels: float
    low: float
    high: float
    below: float
    above: float
    n: int
    clusters: int
    seeds: int


def crossing(
    budgets: Sequence[int],
    people: ArrayLike,
    judge: ArrayLike,
    clusters: Clusters,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> Crossing:
    """Where reward models from people's labels reach the agreement of those from the judge's labels.

    budgets: growing numbers of labels, shape (budgets,). people: agreement (1, 0, 0.5), shape (budgets, rows, seeds).
    judge: the same of its reward models, shape (rows, seeds). clusters: the prompt of each row.
    """
    curves, level = np.asarray(people, float), np.asarray(judge, float)
    assert curves.shape == (len(budgets), *level.shape) and level.size, (curves.shape, level.shape)
    assert list(budgets) == sorted(set(budgets)), budgets
    index = np.unique(np.asarray(clusters), return_inverse=True)[1]
    rows, seeds = level.shape
    prompts = int(index.max()) + 1
    # Sums over the rows of each prompt: shape (budgets + 1, prompts, seeds), the judge last; and how many rows.
    sums = np.zeros((len(budgets) + 1, prompts, seeds))
    for row, prompt in enumerate(index):
        sums[:, prompt] += np.concatenate([curves[:, row], level[None, row]])
    counts = np.bincount(index)

    whole = sums.sum(axis=(1, 2)) / (rows * seeds)
    value = float(reached(budgets, whole[None, :-1], whole[None, -1])[0])
    if prompts == 1:
        return Crossing(labels=value, low=0.0, high=inf, below=0.0, above=0.0, n=rows, clusters=1, seeds=seeds)
    drawn = np.concatenate(list(draws(prompts, seed, resamples)))  # (resamples, prompts)
    of_seeds = _seeds(seeds, seed + 1, resamples)
    means = np.einsum("rp,bps,rs->rb", drawn, sums, of_seeds) / (drawn @ counts * of_seeds.sum(axis=1))[:, None]
    budget = reached(budgets, means[:, :-1], means[:, -1])
    # Order statistics: between a number and infinity there is nothing to interpolate.
    low, high = np.percentile(budget, LIMITS, method="inverted_cdf")
    below, above = float(np.mean(budget == 0)), float(np.mean(budget == inf))
    return Crossing(
        labels=value, low=float(low), high=float(high), below=below, above=above, n=rows, clusters=prompts, seeds=seeds
    )


def reached(budgets: Sequence[int], curves: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The labels at which each curve, shape (curves, budgets), first reaches its level: 0 below, infinity above all."""
    fits = isotonic(curves)
    x = [log(budget) for budget in budgets]
    reached_at = []
    for fit, level in zip(fits, levels, strict=True):
        at = int(np.argmax(fit >= level - 1e-12)) if fit[-1] >= level - 1e-12 else -1
        if at <= 0:
            reached_at.append(inf if at else 0.0)
            continue
        share = (level - fit[at - 1]) / (fit[at] - fit[at - 1])
        reached_at.append(exp(x[at - 1] + min(1.0, share) * (x[at] - x[at - 1])))
    return np.array(reached_at)


def isotonic(curves: np.ndarray) -> np.ndarray:
    """The nearest curves (least squares) that never fall, shape (curves, points).

    At k: the largest, over starts i <= k, of the smallest, over ends j >= k, of the means of points i to j.
    """
    points = curves.shape[1]
    sums = np.concatenate([np.zeros((len(curves), 1)), np.cumsum(curves, axis=1)], axis=1)
    fits = np.empty_like(curves)
    for k in range(points):
        least = [
            np.min([(sums[:, j + 1] - sums[:, i]) / (j + 1 - i) for j in range(k, points)], axis=0)
            for i in range(k + 1)
        ]
        fits[:, k] = np.max(least, axis=0)
    return fits


def _seeds(count: int, seed: int, resamples: int) -> np.ndarray:
    """How often each seed is drawn, shape (resamples, count): count - 1 of them, one where there is no other."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(count, size=(resamples, max(1, count - 1)))
    return (picks[:, :, None] == np.arange(count)).sum(axis=1)
