"""How far raters agree, two or many, with each figure's interval (prompts drawn as wholes, as in intervals.py).

kappa            Cohen's, of two raters (Cohen 1960)
correlation      of two opinions' probabilities, which also says how sure they are of the same pairs
mean_kappa       its mean over all pairs of several raters (Light 1971), also where not everyone rated everything
alpha            Krippendorff's, interval level, by the krippendorff package
rater_agreement  how often two people agree: the ceiling for any judge of their labels
"""

from collections.abc import Sequence
from itertools import combinations
from math import nan

import numpy as np
from numpy.typing import ArrayLike

from cai.core.records import Estimate
from cai.stats import intervals as statistics
from cai.stats.intervals import Clusters


def kappa(first: ArrayLike, second: ArrayLike, clusters: Clusters, *, seed: int = 0, resamples: int = 300) -> Estimate:
    """Cohen's kappa of two raters who each said a, b or tie. NaN where chance alone would make them agree always."""
    (x, y), index = statistics.clean(clusters, statistics.side(first), statistics.side(second))
    if not len(x):
        return statistics.EMPTY
    said = np.zeros((int(index.max()) + 1, 9))  # of each prompt: how often the two said what, as `_cohen` counts it
    np.add.at(said, (index, (6 * x + 2 * y).astype(int)), 1)
    of_each = lambda counts: _kappas((counts @ said).reshape(-1, 3, 3))  # noqa: E731
    estimate = statistics.resampled_together(of_each, index, seed, resamples)
    if statistics.certain(estimate) and estimate.value == 1:
        by_chance = sum(float(np.mean(x == side)) ** 2 for side in (0, 0.5, 1))
        low, _ = statistics.wilson(1.0, estimate.clusters)
        return statistics.with_ends(estimate, 1 - (1 - low) / (1 - by_chance), 1.0)
    return estimate


def correlation(
    first: ArrayLike, second: ArrayLike, clusters: Clusters, *, seed: int = 0, resamples: int = 300
) -> Estimate:
    """Correlation of two opinions on pairs, each P(a better), about one half, which is what either says that has none.

    Which answer is called a says nothing, so it is that of each pair both ways round: sum(x y) / sqrt(sum(x^2)
    sum(y^2)) with x = P - 1/2. NaN where one of them never takes a side.
    """
    (p, q), index = statistics.clean(clusters, first, second)
    if not len(p):
        return statistics.EMPTY
    x, y = p - 0.5, q - 0.5

    def statistic(w: np.ndarray) -> float:
        scale = float(np.sqrt((w @ x**2) * (w @ y**2)))
        return float(w @ (x * y)) / scale if scale else nan

    return statistics.resampled(statistic, index, seed, resamples)


def mean_kappa(
    votes: Sequence[Sequence[float | None]], clusters: Clusters, *, seed: int = 0, resamples: int = 300
) -> Estimate:
    """Mean Cohen's kappa over all pairs of raters, for three raters or more (Light 1971).

    votes: for each unit, each rater's P(a better) in the same order of raters; NaN, None or a short row where a rater
    did not vote. Each pair of raters is compared on what both voted on; a pair without a kappa (nothing in common, or
    both always said the same one thing) is left out, of each resample too. n: units with two votes or more.
    """
    raters = max((len(row) for row in votes), default=0)
    table = np.array([[*row, *[None] * (raters - len(row))] for row in votes], float).reshape(len(votes), raters)
    table, names = statistics.side(table), np.asarray(clusters)
    keep = np.sum(~np.isnan(table), axis=1) >= 2
    if not keep.any():
        return statistics.EMPTY
    table, index = table[keep], np.unique(names[keep], return_inverse=True)[1]

    pairs = [(x, y, ~np.isnan(x + y)) for x, y in combinations(table.T, 2)]

    def statistic(w: np.ndarray) -> float:
        kappas = [_cohen(x[both], y[both], w[both]) for x, y, both in pairs]
        defined = [value for value in kappas if value == value]
        return float(np.mean(defined)) if defined else nan

    return statistics.resampled(statistic, index, seed, resamples)


def _cohen(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """x, y: 1 for a, 0 for b, 0.5 for a tie; weights: whole numbers. NaN where both always said the same one thing."""
    return float(_kappas(np.bincount((6 * x + 2 * y).astype(int), weights, minlength=9).reshape(1, 3, 3))[0])


def _kappas(tables: np.ndarray) -> np.ndarray:
    """Of tables of counts, shape (many, 3, 3): 1 - observed / expected disagreement, as scikit-learn's
    cohen_kappa_score, which takes a hundred times as long to check what it is given: too long for every resample."""
    rows = tables.sum(axis=(1, 2))
    expected = rows**2 - (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1)
    disagreed = rows * (rows - np.trace(tables, axis1=1, axis2=2))
    return 1 - np.divide(disagreed, expected, out=np.full(len(tables), nan), where=expected != 0)


def alpha(
    ratings: Sequence[Sequence[float | None]] | np.ndarray,
    clusters: Clusters | None = None,
    *,
    seed: int = 0,
    resamples: int = 300,
) -> Estimate:
    """Krippendorff's alpha (interval level) of `ratings`, shape (units, raters), NaN or None where a rater is missing.

    Units with fewer than two ratings are left out. Without `clusters` each unit is its own. NaN where all agree on one
    single value: the disagreement by chance, which alpha divides by, is then 0.
    """
    import krippendorff

    table = np.asarray(ratings, float)
    assert table.ndim == 2 or not table.size
    if not table.size:
        return statistics.EMPTY
    names = np.arange(len(table)) if clusters is None else np.asarray(clusters)
    keep = np.sum(~np.isnan(table), axis=1) >= 2
    table, index = table[keep], np.unique(names[keep], return_inverse=True)[1]
    if not len(table):
        return statistics.EMPTY

    def statistic(w: np.ndarray) -> float:
        drawn = np.repeat(table, w, axis=0)
        if len(np.unique(drawn[~np.isnan(drawn)])) < 2:
            return nan
        return float(krippendorff.alpha(reliability_data=drawn.T, level_of_measurement="interval"))

    return statistics.resampled(statistic, index, seed, resamples)


def rater_agreement(
    votes: Sequence[Sequence[float]], clusters: Clusters, *, seed: int = 0, resamples: int = 2000
) -> Estimate:
    """How often two people agree on a pair: the ceiling for any judge of these labels.

    For each pair with two or more raters, the share of pairs of raters on the same side; a tie counts half against
    anything. Then the mean over pairs.
    """
    shares = []
    for raters in votes:
        sides = 2 * statistics.side(raters) - 1
        agreeing = [(1 + x * y) / 2 for x, y in combinations(sides[~np.isnan(sides)], 2)]
        shares.append(float(np.mean(agreeing)) if agreeing else nan)
    return statistics.mean(shares, clusters, seed=seed, resamples=resamples)
