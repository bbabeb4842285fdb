"""A mean from few human labels and many of a judge's: prediction-powered inference, tuned for power, by prompt.

People have labelled some rows, a judge all of them. With y what people's labels say of a row (right or wrong, won or
lost, an effect) and f what the judge's say, L the labelled rows and U the others,

    estimate = mean of y over L + w (mean of f over U - mean of f over L)

is right whatever the judge is worth, where L is a random sample of the rows (Angelopoulos et al. 2023, Science 382;
w = 1 there). The weight w is chosen for the narrowest interval, from 0 (people alone) to 1 (PPI++: Angelopoulos, Duchi
& Zrnic 2023, arXiv 2311.01453, section 6): a judge that says nothing costs nothing. Where people labelled what they
liked, or where the judge was unsure, nothing of this holds: the caller must not ask for it.

Departures from PPI++. (1) Rows of one prompt are one draw, labelled or not: the variance is of the prompts' linearised
parts, not of rows. (2) Values may be known for several seeds, which are then a second random factor, as in
cai/stats/crossed.py: the same mean squares and the same interval. (3) t quantiles, with the degrees of freedom of the
prompts that people labelled. (4) Of outcomes that are right or wrong, twenty labels on which the judge is never wrong
do not show that it never is. As Agresti & Coull (1998) do for one share, two labels are added to those of the interval
(not to the value): one on which people say 1 and the judge 0, and one the other way round, each as much as one
independent label. They also draw w towards 0, and people alone get the same two, so that the intervals compare.

`worth` says what the judge added in the unit that it saves: how many labels *more* people alone would have to give, on
as many prompts more, for an interval of the same width.

Simulated when this was written (400 prompts of one row and of four, of which people labelled all rows of 20 or 50; 70%
right, prompts alike; 1,000 experiments each; tests/stats/test_ppi.py repeats a part): per cent of intervals that hold
the truth, one row / four rows a prompt, and the width beside that of people alone, whose own hold it in 94 to 97.

    judge                        20 prompts                50 prompts
    useless (a coin)             95.0 / 94.2   1.00 0.99   95.3 / 96.7   1.00 1.00
    right on four of five        97.4 / 96.1   0.88 0.79   95.5 / 95.7   0.85 0.78
    the same, biased by 0.3      94.8 / 95.3   0.97 0.91   94.4 / 95.7   0.95 0.90
    probabilities, biased        96.9 / 96.5   0.95 0.83   95.8 / 95.9   0.88 0.79
    wrong on 4%, all one way     99.1 / 97.6   0.73 0.56   98.1 / 96.0   0.64 0.54
    never wrong                  99.6 / 99.8   0.66 0.46   99.2 / 98.0   0.53 0.43

Of ratings on a scale of 0 to 1 a judge that is wrong by all of it is a rare thing, and the two labels of (4) differ by
`RATINGS` of it instead: with 1, and a judge that is of use, up to 99.6 per cent of intervals held the truth; with 0 (no
such labels) 90.4 to 97.2, for ratings are skewed. With 0.35, ratings in quarters, most of them harmless (200 prompts of
one row and of four, of which people rated all rows of 20 or 50; 400 experiments each, seed 7):

    model                        20 prompts                50 prompts
    useless (noise)              97.8 / 96.3   0.99 0.99   93.8 / 94.3   1.00 1.00
    right but for noise          98.5 / 97.5   0.66 0.55   95.3 / 96.0   0.71 0.62
    the same, biased             96.8 / 96.3   0.86 0.74   94.0 / 94.5   0.84 0.75
    timid                        97.8 / 97.8   0.91 0.82   95.8 / 96.0   0.85 0.78
    never wrong                  99.5 / 99.5   0.50 0.44   96.8 / 96.8   0.55 0.53

Without the two labels of (4) the fifth line is 83.5 at 20 prompts, and 63.5 where people are right on 90%: hence the
care about a judge that is never seen to be wrong.
"""

from dataclasses import dataclass, replace
from math import hypot, inf, isnan, nan

import numpy as np
from numpy.typing import ArrayLike

from cai.core.records import Estimate
from cai.stats.crossed import Spread, half_width
from cai.stats.intervals import EMPTY, Clusters
from cai.stats.roots import root

Reach = tuple[float, float]
SHARE: Reach = (0.0, 1.0)
DIFFERENCE: Reach = (-1.0, 1.0)  # of two shares, row by row
RATINGS = 0.35  # see the module
MOST_LABELS = 1e9


@dataclass(frozen=True, slots=True)
class Powered:
    """A mean by both, and by people alone.

    estimate: n counts all rows, clusters their prompts; alone: the same of those that people labelled. weight: w of the
    module. worth: how many labels more people alone would need for as narrow an interval; None where no number would do
    (what seeds vary by does not shrink), NaN where there is no interval.
    """

    estimate: Estimate
    alone: Estimate
    weight: float
    worth: float | None
    seeds: int


def powered(
    human: ArrayLike, judge: ArrayLike, clusters: Clusters, *, reach: Reach | None = SHARE, apart: float = 1.0
) -> Powered:
    """The mean of people's outcomes over all rows, from those that they labelled and the judge's on all of them.

    human, judge: outcomes in one unit, of shape (rows,) or (rows, seeds). A row of `human` with a NaN is one that
    people did not label; where the judge could not be read its mean is taken, for any guess is allowed. clusters: the
    prompt of each row. reach: least and greatest outcome, of right and wrong (`SHARE`) or of differences of them
    (`DIFFERENCE`); the interval keeps within it. None for outcomes without ends. apart: how far apart people and judge
    are on the two labels that are added (see the module), `RATINGS` for ratings on a scale. One seed: for this seed
    only.
    """
    y, f = (np.atleast_2d(np.asarray(side, float).T).T for side in (human, judge))
    names = np.asarray(clusters)
    assert y.shape == f.shape and names.shape == y.shape[:1], (y.shape, f.shape, names.shape)
    labelled = np.asarray(~np.isnan(y).any(axis=1))
    if not labelled.any():
        return Powered(EMPTY, EMPTY, nan, nan, y.shape[1])
    known = f[~np.isnan(f)]
    f = np.where(np.isnan(f), known.mean() if known.size else 0.0, f)
    parts = _Parts.of(y, f, labelled, np.unique(names, return_inverse=True)[1], (reach, apart))
    weight = parts.best()
    both, alone = parts.spread(weight), parts.spread(0.0)
    sizes = (len(y), len(np.unique(names))), (int(labelled.sum()), parts.prompts)
    return Powered(
        estimate=_estimate(parts.human + weight * parts.shift, parts.centre(weight), half_width(both), sizes[0], reach),
        alone=_estimate(parts.human, parts.centre(0.0), half_width(alone), sizes[1], reach),
        weight=weight,
        worth=_worth(alone, half_width(both), sizes[1][0]),
        seeds=y.shape[1],
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the estimate is made of. human: mean of y; shift: mean of f over U less that over L.

    a, b: of shape (prompts, seeds); each prompt's part of the estimate's error is a - w b. more_a, more_b: those of the
    two labels that are added, by which the centre of the interval moves: what `_added` gives. prompts: how many people
    labelled.
    """

    human: float
    shift: float
    a: np.ndarray
    b: np.ndarray
    more_a: np.ndarray
    more_b: np.ndarray
    prompts: int

    @classmethod
    def of(
        cls, y: np.ndarray, f: np.ndarray, labelled: np.ndarray, prompt: np.ndarray, ends: tuple[Reach | None, float]
    ) -> "_Parts":  # fmt: skip
        reach, apart = ends
        rows, size, prompts = int(labelled.sum()), int(prompt.max()) + 1, len(np.unique(prompt[labelled]))
        mean_y, mean_f = float(y[labelled].mean()), float(f[labelled].mean())
        rest = float(f[~labelled].mean()) if (~labelled).any() else mean_f
        a, b, others = (np.zeros((size, y.shape[1])) for _ in range(3))
        np.add.at(a, prompt[labelled], (y[labelled] - mean_y) / rows)
        np.add.at(b, prompt[labelled], (f[labelled] - mean_f) / rows)
        np.add.at(others, prompt[~labelled], (f[~labelled] - rest) / max(1, int((~labelled).sum())))
        more_a = more_b = np.zeros(0)
        if reach is not None:
            independent = _independent(y[labelled].mean(axis=1), a.mean(axis=1), prompts)
            middle, way, weight = sum(reach) / 2, np.array([0.5, -0.5]) * apart, 1 / (independent + 2)
            more_a, more_b = (middle + way - mean_y) * weight, (middle - way - mean_f) * weight
            a, b = a * independent * weight, b * independent * weight
        if labelled.all():  # nobody else's labels to add: people alone
            b, more_b = np.zeros_like(b), np.zeros_like(more_b)
        return cls(mean_y, rest - mean_f, a, b - others, more_a, more_b, prompts)

    def best(self) -> float:
        """The weight for which prompts vary least, from 0 to 1."""
        a, b = (
            np.concatenate([one.mean(axis=1), more]) for one, more in ((self.a, self.more_a), (self.b, self.more_b))
        )
        return float(np.clip(a @ b / (b @ b), 0, 1)) if b @ b > 0 else 0.0

    def centre(self, weight: float) -> float:
        return self.human + weight * self.shift + float(self.more_a.sum() - weight * self.more_b.sum())

    def spread(self, weight: float) -> Spread:
        """The mean squares of cai/stats/crossed.py, with the degrees of freedom of the prompts that people labelled."""
        cells = self.a - weight * self.b
        cells = cells[np.any(cells != 0, axis=1)]
        more = self.more_a - weight * self.more_b
        (prompts, seeds), given = cells.shape, {"value": nan, "rows": 0, "prompts": self.prompts}
        if self.prompts == 1:
            return Spread(prompt=nan, seed=nan, cell=nan, seeds=seeds, **given)
        by_prompt = cells.mean(axis=1)
        v_prompt = float(by_prompt @ by_prompt + more @ more) * self.prompts / (self.prompts - 1)
        if seeds == 1 or prompts < 2:
            return Spread(prompt=v_prompt, seed=nan, cell=nan, seeds=1, **given)
        by_seed = cells.sum(axis=0)
        left = prompts * (cells - by_prompt[:, None]) - by_seed
        v_seed = float(by_seed @ by_seed) / (seeds * (seeds - 1))
        v_cell = float(np.sum(left**2)) / ((prompts - 1) * (seeds - 1) * prompts * seeds)
        return Spread(prompt=v_prompt, seed=v_seed, cell=v_cell, seeds=seeds, **given)


def _independent(y: np.ndarray, a: np.ndarray, prompts: int) -> float:
    """How many independent labels so many rows are worth, from `prompts` (all alike within one) to their number.

    Rows over the design effect (Kish 1965): by how much the variance by prompt is larger than that by row.
    """
    rows = len(y)
    by_row = float(np.sum((y - y.mean()) ** 2)) / rows / max(1, rows - 1)
    if prompts == 1 or not by_row:
        return float(prompts)
    return float(np.clip(rows * by_row * (prompts - 1) / prompts / (a @ a), prompts, rows)) if a @ a else float(rows)


def difference(first: Powered, second: Powered) -> Estimate:
    """First less second, each over prompts of its own (on the same prompts: `powered` of the differences, by row).

    By the square-and-add rule (Newcombe 1998; Zou & Donner 2008), which keeps intervals that are not symmetric.
    """
    x, y = first.estimate, second.estimate
    value = x.value - y.value
    low = value - hypot(x.value - x.low, y.high - y.value)
    high = value + hypot(x.high - x.value, y.value - y.low)
    return Estimate(value, low, high, x.n + y.n, x.clusters + y.clusters)


def _estimate(value: float, centre: float, half: float, size: tuple[int, int], reach: Reach | None) -> Estimate:
    """centre: of the interval, which holds the value in any case and keeps within reach."""
    least, most = reach or (-inf, inf)
    value = min(max(value, least), most)
    if isnan(half):
        return Estimate(value, nan, nan, *size)
    return Estimate(value, min(max(centre - half, least), value), max(min(centre + half, most), value), *size)


def _worth(alone: Spread, wanted: float, labels: int) -> float | None:
    """How many labels more people alone would need for half an interval of `wanted`: see `Powered`."""
    if isnan(wanted) or not half_width(alone):
        return nan

    def wider(times: float) -> float:
        """By how much the interval of so many times as many labelled prompts is wider."""
        more = replace(
            alone, prompt=alone.prompt / times, cell=alone.cell / times, prompts=round(alone.prompts * times)
        )
        return half_width(more) - wanted

    if wider(1) <= 0:
        return 0.0
    most = MOST_LABELS / labels
    if wider(most) > 0:
        return None
    return labels * (root(wider, 1, most) - 1)
