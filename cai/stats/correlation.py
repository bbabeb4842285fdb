"""Pearson's and Spearman's correlation over clustered rows, with intervals over clusters.

Tensor names end in their shape: R resamples, K clusters, N rows.
"""

from collections.abc import Callable
from math import nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cai.core.records import Estimate
from cai.stats import intervals as statistics
from cai.stats.intervals import Clusters


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    clusters: Clusters,
    *,
    ranks: bool = False,
    seed: int = 0,
    resamples: int = 1000,
) -> Estimate:
    """Pearson's r, or Spearman's (equal values share their mean rank); NaN where one of them never varies."""
    (a, b), index = statistics.clean(clusters, x, y)
    if not len(a):
        return statistics.EMPTY

    ranked = (_mean_ranks(a), _mean_ranks(b)) if ranks else None

    def of_each(counts_RK: np.ndarray) -> np.ndarray:
        parts = np.array_split(counts_RK, 1 + counts_RK.shape[0] * len(a) // 2**20)  # to bound memory
        weights = (part[:, index].astype(float) for part in parts)
        of_part = (_pearson(ranked[0](w), ranked[1](w), w) if ranked else _pearson(a, b, w) for w in weights)
        return np.concatenate(list(of_part))

    return statistics.resampled_together(of_each, index, seed, resamples)


def within(x: ArrayLike, y: ArrayLike, clusters: Clusters, **how: Any) -> Estimate:
    """Pearson's r of the deviations from each cluster's mean; clusters of one row have none and are left out."""
    (a, b), index = statistics.clean(clusters, x, y)
    size = np.bincount(index)
    if not len(a) or size.max() < 2:
        return statistics.EMPTY
    a, b = (some - (np.bincount(index, some) / size)[index] for some in (a, b))
    several = size[index] > 1
    return correlation(a[several], b[several], index[several], **how)


def _pearson(a: np.ndarray, b: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    """(R,) of values (N,) or (R, N) under R weightings."""
    count_R1 = weights_RN.sum(axis=1, keepdims=True)
    a, b = (x - (weights_RN * x).sum(axis=1, keepdims=True) / count_R1 for x in (a, b))
    length_R = np.sqrt((weights_RN * a**2).sum(axis=1) * (weights_RN * b**2).sum(axis=1))
    length_R[length_R <= 1e-12] = nan
    return (weights_RN * a * b).sum(axis=1) / length_R


def _mean_ranks(values_N: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Of values that are drawn so often, (R, N), the rank of each: equal ones share their mean rank."""
    _, place_N = np.unique(values_N, return_inverse=True)
    order = np.argsort(place_N, kind="stable")
    starts = np.flatnonzero(np.diff(place_N[order], prepend=-1))

    def ranks(weights_RN: np.ndarray) -> np.ndarray:
        of_value = np.add.reduceat(weights_RN[:, order], starts, axis=1)
        return (of_value.cumsum(axis=1) - (of_value - 1) / 2)[:, place_N]

    return ranks
