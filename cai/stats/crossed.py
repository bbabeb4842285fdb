"""Is a difference more than chance of prompts *and* of training? Prompts and seeds as two crossed random factors.

A value is known for each row and seed; rows belong to prompts. The claim is about other prompts and other seeds, so
both are drawn at random, and a seed is never one more prompt. With prompt means m[p, s], P prompts and S seeds, the
classical crossed layout (Searle, Casella & McCulloch 1992, chapter 4) has three mean squares, here divided by P S:

    V_P   between prompts: what the mean would vary by with other prompts and *these* seeds
    V_S   between seeds:   what it would vary by with other seeds and *these* prompts
    V_E   what is left in the cells; it is in V_P and V_S both, so the variance of the mean is V_P + V_S - V_E

(the same sum as two-way clustering: Cameron, Gelbach & Miller 2011; Miller 2024, for language models,
clusters by prompt only). Few seeds make V_S coarse: S - 1 degrees of freedom. The half-width h at a level is

    h^2 = max( (V_P - c V_E) t[P-1]^2 + (V_S - (1 - c) V_E) t[S-1]^2,  V_P t[P-1]^2 ),   c = 1 / (S - 1),

each bracket at least 0: both parts with the t quantile of their own degrees of freedom (Cochran & Cox 1957; Burdick &
Graybill 1992), and never narrower than for these seeds alone. Any c leaves the variance unbiased; this one, which gives
more of V_E to the seeds the fewer they are, held in simulation. Where rows per prompt differ, m is linearised.

Simulated with no difference when this was written (30, 100 and 200 prompts of three rows, continuous and binary
outcomes, two mixes of variance; 1,500 or 3,000 experiments each; tests/stats/test_crossed.py repeats a part), per cent
rejected at 5%, least to most over the settings, by the seeds' standard deviation (a prompt's is 0.5 to 1; binary
outcomes have both in log-odds):

    seeds   none       0.05-0.1   0.2-0.4    1          prompts only   V_P + V_S - V_E, Satterthwaite's t (1946)
    2       0.4-1.1    0.5-2.1    1.2-5.5    4.2-6.0    4-90           1.1-11.9
    3       2.0-2.9    2.6-4.9    3.5-6.9    4.0-6.6    5-88           1.4-8.1
    5       2.4-3.7    3.3-6.1    4.1-6.4    4.1-5.8    4-87           1.3-6.4

So: resampling prompts only rejects up to nine times in ten where seeds matter; two seeds are safe but say little (t has
one degree of freedom: 12.7); with seeds that hardly differ it is careful, not wrong; one seed leaves V_P alone, and the
result holds *for this seed only*. t wants some ten prompts or more, and outcomes that are not all but equal. The paper
(Bai et al. 2022) gives no intervals at all.
"""

from dataclasses import dataclass
from math import ceil, inf, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike

from cai.core.records import Estimate
from cai.stats.intervals import EMPTY, Clusters, wilson
from cai.stats.roots import root

LEVEL = 0.05
POWER_QUANTILE = 0.8416212335729143  # of the normal distribution, at 80%
MOST_PROMPTS = 10_000_000
ROUNDING = 1e-12  # what varies by less, beside the mean, does not vary


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over rows and seeds, and what it varies by. prompt, seed, cell: V_P, V_S and V_E of the module."""

    value: float
    prompt: float
    seed: float
    cell: float
    rows: int
    prompts: int
    seeds: int

    def parts(self) -> tuple[float, float]:
        """The variance in its two parts: with the degrees of freedom of prompts, and with those of seeds."""
        if self.seeds == 1:
            return self.prompt, 0.0
        c = 1 / (self.seeds - 1)
        return max(0.0, self.prompt - c * self.cell), max(0.0, self.seed - (1 - c) * self.cell)


@dataclass(frozen=True, slots=True)
class Contrast:
    """What may be said of a mean's distance from `null`.

    estimate: the mean, its 95% interval for other prompts and other seeds (one seed: for this seed only), its rows and
    its prompts. p: two-sided, NaN where nothing varies. margin: half-width of the region of equivalence, None for none;
    p_equivalence: of the two one-sided tests; equivalent: whether the mean is shown to lie within the margin.
    prompts_needed: None where no number of prompts would do.
    """

    estimate: Estimate
    null: float
    p: float
    seeds: int
    margin: float | None
    p_equivalence: float | None
    equivalent: bool | None
    prompts_needed: int | None


def contrast(
    values: ArrayLike, clusters: Clusters, *, null: float = 0.0, margin: float | None = None, reach: float | None = None
) -> Contrast:
    """Compare a mean with `null`. values: shape (rows, seeds), such as arm a minus arm b, row by row and seed by seed.

    Rows with a NaN in any seed are left out. margin: see `Contrast`. reach: how far from null a value can be (1 for a
    difference of shares, 0.5 for a win rate), None where there is no end; the interval keeps within it.
    """
    estimated = spread(values, clusters)
    if not estimated.rows:
        return Contrast(
            estimate=EMPTY, null=null, p=nan, seeds=estimated.seeds, margin=margin, p_equivalence=None,
            equivalent=None, prompts_needed=None,
        )  # fmt: skip
    low, high, p = _interval(estimated, null, reach)
    estimate = Estimate(value=estimated.value, low=low, high=high, n=estimated.rows, clusters=estimated.prompts)
    p_equivalence = equivalent = None
    if margin is not None and not np.isnan(low):
        p_equivalence = equivalence(estimated, margin, null)
        # Where nothing varies the interval is Wilson's, and it alone can tell.
        equivalent = bool(null - margin < low and high < null + margin) if np.isnan(p_equivalence) else None
        equivalent = p_equivalence < LEVEL if equivalent is None else equivalent
    return Contrast(
        estimate=estimate, null=null, p=p, seeds=estimated.seeds, margin=margin, p_equivalence=p_equivalence,
        equivalent=equivalent, prompts_needed=prompts_needed(estimated, null),
    )  # fmt: skip


def spread(values: ArrayLike, clusters: Clusters) -> Spread:
    """Mean and mean squares of `values`, shape (rows, seeds). All NaN without rows; variances NaN for one prompt."""
    table = np.asarray(values, float)
    names = np.asarray(clusters)
    assert table.ndim == 2 and names.shape == table.shape[:1], (table.shape, names.shape)
    keep = ~np.isnan(table).any(axis=1)
    table, index = table[keep], np.unique(names[keep], return_inverse=True)[1]
    rows, seeds = table.shape
    if not rows or not seeds:
        return Spread(value=nan, prompt=nan, seed=nan, cell=nan, rows=0, prompts=0, seeds=seeds)
    prompts = int(index.max()) + 1
    value = float(table.mean())
    if prompts == 1:
        return Spread(value=value, prompt=nan, seed=nan, cell=nan, rows=rows, prompts=1, seeds=seeds)
    sums = np.zeros((prompts, seeds))
    np.add.at(sums, index, table - value)
    cells = sums * prompts / rows  # around 0; with equal rows a prompt these are the prompt means less the mean
    if np.abs(cells).max() < ROUNDING * max(1.0, abs(value)):  # 0.1 seven times has another mean, in its last digit
        cells[:] = 0.0
    by_prompt, by_seed = cells.mean(axis=1), cells.mean(axis=0)
    v_prompt = float(np.sum(by_prompt**2)) / (prompts * (prompts - 1))
    if seeds == 1:
        return Spread(value=value, prompt=v_prompt, seed=nan, cell=nan, rows=rows, prompts=prompts, seeds=1)
    left = cells - by_prompt[:, None] - by_seed
    v_seed = float(np.sum(by_seed**2)) / (seeds * (seeds - 1))
    v_cell = float(np.sum(left**2)) / ((prompts - 1) * (seeds - 1) * prompts * seeds)
    return Spread(value=value, prompt=v_prompt, seed=v_seed, cell=v_cell, rows=rows, prompts=prompts, seeds=seeds)


def half_width(of: Spread, alpha: float = LEVEL) -> float:
    """Half the width of the interval at level 1 - alpha; NaN for one prompt."""
    from scipy.special import stdtrit

    by_prompt, by_seed = of.parts()
    t_prompt = -float(stdtrit(of.prompts - 1, alpha / 2)) if of.prompts > 1 else nan
    t_seed = -float(stdtrit(of.seeds - 1, alpha / 2)) if by_seed else 0.0
    return sqrt(max(by_prompt * t_prompt**2 + by_seed * t_seed**2, of.prompt * t_prompt**2))


def p_value(of: Spread, null: float = 0.0) -> float:
    """The least alpha whose interval leaves out null (at least 1e-15); NaN for one prompt or where nothing varies."""
    distance = abs(of.value - null)
    if np.isnan(of.prompt) or not half_width(of):
        return nan
    if distance <= half_width(of, 1 - 1e-12):
        return 1.0
    if distance >= half_width(of, 1e-15):
        return 1e-15
    return float(np.exp(root(lambda x: half_width(of, float(np.exp(x))) - distance, np.log(1e-15), np.log(1 - 1e-12))))


def equivalence(of: Spread, margin: float, null: float = 0.0) -> float:
    """p of the two one-sided tests (Schuirmann 1987) of |mean - null| >= margin, the larger of the two.

    Below 0.05 exactly where the 90% interval lies within null +- margin; NaN as `p_value`.
    """
    below, above = p_value(of, null - margin) / 2, p_value(of, null + margin) / 2
    return max(below if of.value > null - margin else 1 - below, above if of.value < null + margin else 1 - above)


def prompts_needed(of: Spread, null: float = 0.0) -> int | None:
    """How many prompts would show a difference as large as this one in 80% of experiments, with as many seeds.

    The difference is taken to be the true one, and it is not: read the number as an order of magnitude. What seeds vary
    by does not shrink with prompts, so None where they alone cover the difference (or there is none): more seeds then.
    """
    from scipy.special import stdtrit

    distance = abs(of.value - null)
    if np.isnan(of.prompt) or not distance or not half_width(of):
        return None
    seeds = max(0.0, of.seed - of.cell) if of.seeds > 1 else 0.0
    t_seed = -float(stdtrit(of.seeds - 1, LEVEL / 2)) if of.seeds > 1 else 0.0

    def seen(prompts: float) -> bool:
        each = of.prompt * of.prompts / prompts
        t_prompt = -float(stdtrit(prompts - 1, LEVEL / 2))
        return distance >= sqrt(each * t_prompt**2 + seeds * t_seed**2) + POWER_QUANTILE * sqrt(each + seeds)

    few, many = 2.0, float(MOST_PROMPTS)
    if not seen(many):
        return None
    while many - few > 1e-3 * few:
        middle = (few + many) / 2
        few, many = (few, middle) if seen(middle) else (middle, many)
    return ceil(many)


def noise_floor(gaps: ArrayLike, free: int) -> Estimate | None:
    """What two seeds of one arm differ by, as a root mean square; None without a gap.

    gaps: differences between the means of two seeds of one arm, for each pair of seeds of each arm. free: how many of
    them are independent, S - 1 for each arm; the interval is that of a standard deviation with as many degrees of
    freedom. n counts gaps, clusters counts `free`.
    """
    from scipy.special import gammaincinv

    sizes = np.asarray(gaps, float)
    if not sizes.size or free < 1:
        return None
    value = float(np.sqrt(np.mean(sizes**2)))
    # The quantiles of chi squared with so many degrees of freedom: `scipy.stats` has them too, and is slow to load.
    low, high = (value * sqrt(free / float(2 * gammaincinv(free / 2, q))) for q in (0.975, 0.025))
    return Estimate(value=value, low=low, high=high, n=int(sizes.size), clusters=free)


def _interval(of: Spread, null: float, reach: float | None) -> tuple[float, float, float]:
    """(low, high, p). Where nothing varies the data only look certain: Wilson's interval, and the sign test for p."""
    half = half_width(of)
    ends = (-inf, inf) if reach is None else (null - reach, null + reach)
    if np.isnan(half):
        return nan, nan, nan
    distance = of.value - null
    if half > 1e-12 or reach is None:
        return max(of.value - half, ends[0]), min(of.value + half, ends[1]), p_value(of, null)
    if abs(distance) < 1e-12:  # never differed: at most this share of prompts may differ, in either direction
        most = reach * wilson(0.0, of.prompts)[1]
        return null - most, null + most, 1.0
    low, high = wilson((1 + distance / reach) / 2, of.prompts)
    return null + reach * (2 * low - 1), null + reach * (2 * high - 1), 2.0 ** (1 - of.prompts)
