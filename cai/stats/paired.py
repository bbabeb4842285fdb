"""Whole families of differences, and an exact test for paired right and wrong answers.

holm      p-values of several differences, so that one in twenty *families* holds a false claim (Holm 1979)
mcnemar   do two raters of the same pairs differ in accuracy? Exact (McNemar 1947), also where pairs share prompts
"""

from collections.abc import Sequence
from math import isnan, nan

import numpy as np
from numpy.typing import ArrayLike

from cai.stats.intervals import Clusters, clean


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: the k-th smallest of m times m - k + 1, at most 1, never falling (Holm
    1979). NaN stays NaN and is no part of the family."""
    ranked = sorted((value, place) for place, value in enumerate(p) if not isnan(value))
    adjusted, floor = [nan] * len(p), 0.0
    for k, (value, place) in enumerate(ranked):
        floor = max(floor, min(1.0, (len(ranked) - k) * value))
        adjusted[place] = floor
    return adjusted


def mcnemar(a: ArrayLike, b: ArrayLike, clusters: Clusters) -> float:
    """Exact two-sided p of "a and b are right equally often", for outcomes 1, 0 and 0.5 (a tie), row by row.

    With one row a prompt and no ties this is McNemar's exact test: of the rows on which only one is right, is it a as
    often as b (binomial, one half)? Rows that share a prompt are not independent, and McNemar's test then rejects too
    often; so the sign is drawn for each prompt, not for each row: the sum of a - b over a prompt's rows is as likely as
    its negative. All sign patterns are counted, none sampled. With one row a prompt both are the same test.

    This is about these very models (one seed, or several taken together): for a claim about what trained them, use
    cai/stats/crossed.py. Rows with a NaN are left out; NaN with no row left, 1 where a and b never differ.
    """
    (x, y), index = clean(clusters, a, b)
    if not len(x):
        return nan
    if not (np.isin(x, (0, 0.5, 1)).all() and np.isin(y, (0, 0.5, 1)).all()):
        raise ValueError("outcomes must be 1, 0 or 0.5")
    halves = np.bincount(index, np.round(2 * (x - y))).astype(int)  # whole numbers: a sign pattern's sum is one, too
    reached = abs(int(halves.sum()))
    sizes = np.abs(halves[halves != 0])
    chance = np.ones(1)  # of each sum, from -sizes.sum() to sizes.sum()
    for size in sizes:
        longer = np.zeros(len(chance) + 2 * size)
        longer[: len(chance)] += chance / 2
        longer[2 * size :] += chance / 2
        chance = longer
    sums = np.arange(len(chance)) - len(chance) // 2
    return float(min(1.0, chance[np.abs(sums) >= reached].sum()))
