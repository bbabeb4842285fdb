"""How much of one gain is another? A ratio of two differences over prompts and seeds, with Fieller's set (1954).

A judge's labels give a reward model something over a coin's labels, and people's labels give it something:

    share = (judge's - null's) / (people's - null's)

With U the rows of the first difference and V those of the second, seed by seed, a share r is believable at 95% exactly
where the mean of U - r V cannot be told from 0, by the same test over prompts and seeds as every other difference of a
report (cai/stats/crossed.py). The believable r are the interval. So a share of 1 is left out where judge and people
differ, one of 0 where judge and null differ; that null and judge share the null's noise is in it. Dividing the ends of
two intervals, or resampling the ratio where its denominator may be 0, is wrong by as much as one likes.

The mean squares of U - r V are quadratics in r, and the squared half-width is the largest of three sums of them, so the
set is a union of the solutions of three quadratic inequalities: exact, no search. Its form says what is known:

    interval     [low, high]: the denominator differs from 0, at the same level
    outside      at most low or at least high: it cannot be told from 0, though the share is not between the two
    anything     every share is believable
    unknown      nothing varies, or there is one prompt: there is no interval

Any honest 95% set for a ratio must be unbounded in some experiments (Gleser & Hwang 1987): where it is, the report says
that no share can be given. As everywhere, one seed says something of this seed only.

Simulated when this was written (6 seeds, 100 prompts of three pairs, right or wrong; people 30, 15 and 7 points above
the null, shares of 0, 0.5 and 1, three sizes of seeds; 2,000 experiments each; tests/stats/test_share.py repeats a
part): the set holds the true share in 94.1 to 96.2%. With 7 points and seeds that move a null's reward model by ten, it
was an interval in one experiment of eight; `value` alone would have been any number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isnan, nan, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from cai.stats.crossed import LEVEL, spread
from cai.stats.intervals import Clusters

Form = Literal["interval", "outside", "anything", "unknown"]
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Share:
    """value: NaN where the denominator is 0. low, high: as `form` says, infinite or NaN where there is no end.

    n: rows; clusters: prompts; seeds: replicas.
    """

    value: float
    low: float
    high: float
    form: Form
    n: int
    clusters: int
    seeds: int


def share(part: ArrayLike, whole: ArrayLike, clusters: Clusters, *, alpha: float = LEVEL) -> Share:
    """The mean of `part` as a share of the mean of `whole`, with its set at level 1 - alpha.

    part, whole: differences of outcomes, each of shape (rows, seeds), row by row and seed by seed the same. clusters:
    the prompt of each row. Rows with a NaN in any seed of either are left out.
    """
    from scipy.special import stdtrit

    u, v = np.asarray(part, float), np.asarray(whole, float)
    assert u.shape == v.shape and u.ndim == 2, (u.shape, v.shape)
    keep = ~(np.isnan(u) | np.isnan(v)).any(axis=1)
    u, v, names = u[keep], v[keep], np.asarray(clusters)[keep]
    rows, seeds = u.shape
    size = {"n": rows, "clusters": len(np.unique(names)), "seeds": seeds}
    if not rows or not seeds:
        return Share(value=nan, low=nan, high=nan, form="unknown", **size)
    gained, gain = float(u.mean()), float(v.mean())
    value = gained / gain if gain else nan
    if size["clusters"] == 1:
        return Share(value=value, low=nan, high=nan, form="unknown", **size)

    # 1. Mean squares of U - r V as quadratics in r, (r^2, r, 1): three values of r decide each.
    at = [spread(u - r * v, names) for r in (0, 1, -1)]
    by_prompt, by_seed, by_cell = (_quadratic([getattr(one, key) for one in at]) for key in ("prompt", "seed", "cell"))
    t_prompt = float(stdtrit(size["clusters"] - 1, alpha / 2))
    # 2. The squared half-width of crossed.py is the largest of these. Its brackets are at least 0, so their sum is the
    #    largest of both, either and 0; the bracket of prompts alone is never above V_P t^2, which is there anyway.
    widths = [by_prompt * t_prompt**2]
    if seeds > 1:
        c, t_seed = 1 / (seeds - 1), float(stdtrit(seeds - 1, alpha / 2))
        of_seeds = (by_seed - (1 - c) * by_cell) * t_seed**2
        widths += [of_seeds, (by_prompt - c * by_cell) * t_prompt**2 + of_seeds]
    if max(np.abs(width).max() for width in widths) < 1e-24:
        return Share(value=value, low=nan, high=nan, form="unknown", **size)
    # 3. Believable: the squared mean, (gained - r gain)^2, is at most one of them.
    squared = np.array([gain**2, -2 * gained * gain, gained**2])
    low, high, form = _form([span for width in widths for span in at_most_zero(*(squared - width))])
    return Share(value=value, low=low, high=high, form=form, **size)


def at_most_zero(a: float, b: float, c: float) -> list[Span]:
    """Where a r^2 + b r + c <= 0: no, one or two spans of r, with infinite ends where there is none."""
    if a == 0:
        if b == 0:
            return [(-inf, inf)] if c <= 0 else []
        return [(-inf, -c / b)] if b > 0 else [(-c / b, inf)]
    under = b * b - 4 * a * c
    if under < 0:
        return [] if a > 0 else [(-inf, inf)]
    # The root of the larger size first: no difference of two near numbers (Press et al. 2007, section 5.6).
    far = -(b + (sqrt(under) if b >= 0 else -sqrt(under))) / 2
    first, second = sorted((far / a, c / far if far else 0.0))
    return [(first, second)] if a > 0 else [(-inf, first), (second, inf)]


def _quadratic(values: Sequence[float]) -> np.ndarray:
    """The coefficients (of r^2, r and 1) of a quadratic from its values at 0, 1 and -1."""
    zero, one, minus = values
    return np.array([(one + minus) / 2 - zero, (one - minus) / 2, zero])


def _form(spans: Sequence[Span]) -> tuple[float, float, Form]:
    """(low, high, form) of a union of spans. Of several gaps the widest is kept: the set is then rather too large."""
    if not spans or any(isnan(end) for span in spans for end in span):
        return -inf, inf, "anything"
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    low, high = merged[0][0], merged[-1][1]
    if low > -inf and high < inf:
        return low, high, "interval"
    gaps = [(one[1], two[0]) for one, two in pairwise(merged)]
    if low > -inf or high < inf:  # one ray: the denominator lies exactly on the border
        return low, high, "anything"
    if not gaps:
        return -inf, inf, "anything"
    widest = max(gaps, key=lambda gap: gap[1] - gap[0])
    return *widest, "outside"
