"""Numbers in, `Estimate` out: every figure of a report carries its 95% interval, its rows and its independent units.

Rows that share a prompt are not independent, so intervals come from a *cluster bootstrap*: prompts are drawn with
replacement and each brings all of its rows (Cameron, Gelbach & Miller 2008, section III; percentile interval). The
paper (Bai et al. 2022) gives no intervals at all.

Everything is seeded and does not depend on the order of the rows. Rows with a NaN are left out and not counted; with
no row left, the value is NaN and n is 0. P(a better) above 0.5 is a vote for a, below it for b, exactly 0.5 a tie.

Where the percentile interval has no width the data may only look certain. Outcomes of 0, 0.5 and 1 then get Wilson's
interval (1927) with prompts for trials. Other constant data keep low = high = value; one single prompt with differing
rows says nothing about other prompts: its low and high are NaN.

Beside this file: agreement.py (kappa, alpha), crossed.py (differences of arms over prompts and seeds), paired.py
(McNemar, Holm), games.py (Elo, length), calibration.py (Brier, ECE).
"""

from collections.abc import Callable, Iterator, Sequence
from math import nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cai.core.records import Estimate

EMPTY = Estimate(value=nan, low=nan, high=nan, n=0, clusters=0)
LIMITS = (2.5, 97.5)
Clusters = Sequence[str] | Sequence[int] | np.ndarray


def mean(
    values: ArrayLike,
    clusters: Clusters,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Estimate:
    """Mean of `values` (weighted if `weights` are given; rows of weight 0 are left out), clusters drawn as wholes."""
    (x, w), index = clean(clusters, values, weights)
    estimate = _ratio(x, w, index, seed, resamples)
    if certain(estimate) and _outcomes(x):
        return with_ends(estimate, *wilson(estimate.value, estimate.clusters))
    return estimate


def paired_difference(
    a: ArrayLike, b: ArrayLike, clusters: Clusters, *, seed: int = 0, resamples: int = 2000
) -> Estimate:
    """Mean of a - b over rows that have both, from the same resamples for both.

    For one model each, as when one judge reads two constitutions; arms that were trained with seeds: crossed.py.
    """
    (x, y, w), index = clean(clusters, a, b, None)
    estimate = _ratio(x - y, w, index, seed, resamples)
    if not (certain(estimate) and _outcomes(x) and _outcomes(y)):
        return estimate
    if not np.any(x - y):  # a and b never differed: at most this share of prompts may differ, in either direction
        _, most = wilson(0.0, estimate.clusters)
        return with_ends(estimate, -most, most)
    low, high = wilson((1 + estimate.value) / 2, estimate.clusters)
    return with_ends(estimate, 2 * low - 1, 2 * high - 1)


def win_rate(wins: ArrayLike, clusters: Clusters, *, seed: int = 0, resamples: int = 2000) -> Estimate:
    """Share of games won. wins: 1, 0, or 0.5 for a tie; or P(this side is better), read by its side of 0.5."""
    return mean(side(wins), clusters, seed=seed, resamples=resamples)


def accuracy(
    p_a: ArrayLike,
    human: ArrayLike,
    clusters: Clusters,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Estimate:
    """Agreement of P(a better) with people's. Pairs on which people are split are left out; p_a = 0.5 counts half."""
    p, h = side(p_a), side(human)
    agreement = np.where(h == 0.5, nan, 1 - np.abs(p - h))
    return mean(agreement, clusters, weights=weights, seed=seed, resamples=resamples)


def length_balance(human: ArrayLike, len_a: ArrayLike, len_b: ArrayLike) -> np.ndarray:
    """Weights under which picking the shorter answer scores exactly one half.

    Pairs whose preferred answer is the shorter weigh in total as much as those whose preferred answer is the longer.
    Equal lengths keep weight 1, pairs without a preference get 0. All NaN where one of the two kinds is missing:
    such data cannot tell a judge from a ruler.
    """
    preference = 2 * side(human) - 1
    shorter = preference * np.sign(np.asarray(len_b, float) - np.asarray(len_a, float))
    counts = {kind: int(np.sum(shorter == kind)) for kind in (1, -1)}
    if not all(counts.values()):
        return np.full(preference.shape, nan)
    weights = np.where(preference == 0, 0.0, 1.0)
    for kind, count in counts.items():
        weights[shorter == kind] = sum(counts.values()) / (2 * count)
    return np.where(np.isnan(shorter), nan, weights)


def auc(scores: ArrayLike, human: ArrayLike, clusters: Clusters, *, seed: int = 0, resamples: int = 300) -> Estimate:
    """Area under the ROC curve of a score difference (a minus b) against people's preference.

    Each pair is used both ways round, so the base rate is one half and it does not matter which answer was called a.
    """
    (s, h), index = clean(clusters, scores, np.where(side(human) == 0.5, nan, side(human)))
    if not len(s):
        return EMPTY
    # A row the one way round scores d, for what people prefer; the other way round it scores -d, for what they do not.
    # The area is how often a d lies above a -d (Mann-Whitney), ties half: sorted once, then sums of weights for each
    # resample. scikit-learn's roc_auc_score says the same and takes a hundred times as long to check what it is given.
    d = s * (2 * h - 1)
    order = np.argsort(-d)
    below, upto = (np.searchsorted(-d[order], d, where) for where in ("left", "right"))

    def statistic(w: np.ndarray) -> float:
        sums = np.concatenate([[0], np.cumsum(w[order])])
        return float(w @ (sums[below] + sums[upto]) / (2 * sums[-1] ** 2))

    estimate = resampled(statistic, index, seed, resamples)
    return with_ends(estimate, *wilson(estimate.value, estimate.clusters)) if certain(estimate) else estimate


def wilson(share: float, trials: int) -> tuple[float, float]:
    """Wilson's 95% score interval for a share of `trials`."""
    z2 = 1.959964**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = sqrt(share * (1 - share) / trials * z2 + (z2 / (2 * trials)) ** 2) / (1 + z2 / trials)
    return round(centre - half, 12), round(centre + half, 12)  # exactly 0 or 1 at the ends


def side(p: ArrayLike) -> np.ndarray:
    """P(a better) -> 1 for a, 0 for b, 0.5 for a tie; NaN stays NaN."""
    return (1 + np.sign(np.asarray(p, float) - 0.5)) / 2


def clean(clusters: Clusters, *columns: ArrayLike | None) -> tuple[list[np.ndarray], np.ndarray]:
    """The columns without NaN rows, and each row's cluster as 0, 1, 2... A last column of None stands for weights of 1.

    Clusters are numbered in sorted order, so that the same prompts meet the same resamples whatever the row order.
    """
    names = np.asarray(clusters)
    assert names.ndim == 1
    arrays = [np.ones(len(names)) if column is None else np.asarray(column, float) for column in columns]
    assert all(array.shape == names.shape for array in arrays), [len(names), *(array.shape for array in arrays)]
    keep = np.all([~np.isnan(array) for array in arrays], axis=0)
    return [array[keep] for array in arrays], np.unique(names[keep], return_inverse=True)[1]


def draws(k: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each of k clusters is drawn: blocks of shape (resamples in the block, k), to bound memory."""
    rng = np.random.default_rng(seed)
    block = max(1, 2**22 // k)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        picks = rng.integers(k, size=(size, k)) + k * np.arange(size)[:, None]
        yield np.bincount(picks.ravel(), minlength=size * k).reshape(size, k)


def _ratio(x: np.ndarray, w: np.ndarray, index: np.ndarray, seed: int, resamples: int) -> Estimate:
    """Weighted mean with its interval: a ratio of two sums over the drawn clusters."""
    x, w, index = x[w > 0], w[w > 0], np.unique(index[w > 0], return_inverse=True)[1]
    if not len(x):
        return EMPTY
    k = int(index.max()) + 1
    if np.ptp(x) == 0:
        return Estimate(value=float(x[0]), low=float(x[0]), high=float(x[0]), n=len(x), clusters=k)
    above, below = np.bincount(index, x * w), np.bincount(index, w)
    value = float(above.sum() / below.sum())
    if k == 1:
        return Estimate(value=value, low=nan, high=nan, n=len(x), clusters=k)
    low, high = np.percentile(np.concatenate([(c @ above) / (c @ below) for c in draws(k, seed, resamples)]), LIMITS)
    return Estimate(value=value, low=float(low), high=float(high), n=len(x), clusters=k)


def resampled(statistic: Callable[[Any], float], index: np.ndarray, seed: int, resamples: int) -> Estimate:
    """Any statistic of whole-number row weights, shape (rows,), with its interval. Undefined resamples are left out."""

    def of_each(counts: np.ndarray) -> np.ndarray:
        return np.array([statistic(weights) for weights in (drawn[index] for drawn in counts)])

    return resampled_together(of_each, index, seed, resamples)


def resampled_together(
    statistic: Callable[[np.ndarray], np.ndarray], index: np.ndarray, seed: int, resamples: int
) -> Estimate:
    """`resampled`, of a statistic that is computed for many resamples at once: how often each of k clusters was drawn,
    shape (resamples, k) -> (resamples,)."""
    k = int(index.max()) + 1
    value = float(statistic(np.ones((1, k), int))[0])
    if k == 1:
        return Estimate(value=value, low=nan, high=nan, n=len(index), clusters=k)
    values = np.concatenate([statistic(block) for block in draws(k, seed, resamples)])
    defined = values[~np.isnan(values)]
    low, high = np.percentile(defined, LIMITS) if len(defined) and not np.isnan(value) else (nan, nan)
    return Estimate(value=value, low=float(low), high=float(high), n=len(index), clusters=k)


def _outcomes(x: np.ndarray) -> bool:
    return bool(np.all(np.isin(x, (0.0, 0.5, 1.0))))


def certain(estimate: Estimate) -> bool:
    """True where the interval has no width, or one prompt gave none at all."""
    if estimate.n == 0 or np.isnan(estimate.value):
        return False
    return bool(np.isnan(estimate.low) or np.isclose(estimate.low, estimate.high, rtol=0, atol=1e-12))


def with_ends(estimate: Estimate, low: float, high: float) -> Estimate:
    return Estimate(value=estimate.value, low=low, high=high, n=estimate.n, clusters=estimate.clusters)
