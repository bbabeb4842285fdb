"""How far a score can be raised without reason: what an edit of answers does to it, beside a control edit.

Every row is a pair of answers of which people prefer one. A score says how much better the worse one is than the better
one (log-odds, or a difference of rewards), before an edit of the worse one, after it, and after a control edit of the
same length. One *unit* is the root mean square of the score before: how far two honest answers to one prompt are
usually apart. So a shift of 1 is as much as an ordinary difference between two answers.

raised    one-sided p of "the mean is not above 0": the sign of each prompt's sum is drawn at random (Fisher's
          randomisation test). Exact where what an edit does is as likely up as down, whatever the score's scale.
headroom  one edit's shift, its control's, their difference, and how many preferences flip
corrected Holm's correction over all edits, for each of the three claims by itself

Simulated (200 audits of 20 edits each on 40 prompts, by a score that edits move at random, half of it shared by an edit
and its control): some edit was called raising in 4.5% of audits, where 5% are promised. Where every edit and its
control raise the score by one unit, all 20 were called raising, and none by its words
(tests/stats/test_headroom.py repeats it).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np
from numpy.typing import ArrayLike

from cai.core.records import Estimate
from cai.stats.intervals import EMPTY, Clusters, clean, mean, resampled, side
from cai.stats.paired import holm

LEVEL = 0.05
DRAWS = 9999  # the least p is 1 in 10,000, after Holm's correction over 30 edits still 0.003


@dataclass(frozen=True, slots=True)
class Headroom:
    """What one edit does. Intervals: 95%, over prompts.

    flips, control_flips: of the pairs whose better answer was preferred, the share in which the edited worse one is
    preferred; a tie counts half. shift, control: what edit and control add to the score, in units; words: the edit's
    shift less the control's, where both are known. p, p_control, p_words: that each of them is above 0, one-sided.
    """

    flips: Estimate
    control_flips: Estimate
    shift: Estimate
    control: Estimate
    words: Estimate
    p: float
    p_control: float
    p_words: float

    @property
    def raises(self) -> bool:
        """Whether the edit is shown to raise the score."""
        return self.p < LEVEL

    @property
    def by(self) -> str:
        """What it is that raises it: "its words" beyond its length, "its length", "unsettled", or "" where it is not
        shown to be raised."""
        if not self.raises:
            return ""
        return "its words" if self.p_words < LEVEL else "its length" if self.p_control < LEVEL else "unsettled"


@dataclass(frozen=True, slots=True)
class EditedScores:
    """Scores and preferences after an edit, row by row, of the edited answer over the better one; NaN where unread.

    score, control: log-odds, or differences of rewards. prefers, control_prefers: P(the edited answer is better).
    origin: the score that it is held against: that before the edit, or 0, that of the better answer itself.
    """

    score: ArrayLike
    control: ArrayLike
    prefers: ArrayLike
    control_prefers: ArrayLike
    origin: ArrayLike


def unit(before: ArrayLike) -> float:
    """The root mean square of the known scores; NaN where none is known, or all are 0."""
    x = np.asarray(before, float)
    x = x[~np.isnan(x)]
    return float(np.sqrt(np.mean(x**2))) if x.size and np.any(x) else nan


def headroom(
    before: ArrayLike, preferred: ArrayLike, edit: EditedScores, clusters: Clusters, *, seed: int = 0
) -> Headroom:
    """before: the scores before any edit, shape (rows,). preferred: P(the worse answer is better), before."""
    shift, control = (np.asarray(x, float) - np.asarray(edit.origin, float) for x in (edit.score, edit.control))
    beaten = np.where(side(preferred) == 0, 1.0, nan)  # rows whose better answer was preferred
    return Headroom(
        flips=mean(beaten * side(edit.prefers), clusters, seed=seed),
        control_flips=mean(beaten * side(edit.control_prefers), clusters, seed=seed),
        shift=_in_units(shift, before, clusters, seed),
        control=_in_units(control, before, clusters, seed),
        words=_in_units(shift - control, before, clusters, seed),
        p=raised(shift, clusters, seed=seed),
        p_control=raised(control, clusters, seed=seed),
        p_words=raised(shift - control, clusters, seed=seed),
    )


def corrected(headrooms: Sequence[Headroom]) -> list[Headroom]:
    """The same with p-values by Holm's correction over all of them: of audits of a score that no edit raises, one in
    twenty calls any edit raising."""
    columns = [holm([getattr(one_of, name) for one_of in headrooms]) for name in ("p", "p_control", "p_words")]
    return [
        replace(each, p=p, p_control=p_control, p_words=p_words)
        for each, p, p_control, p_words in zip(headrooms, *columns, strict=True)
    ]


def raised(values: ArrayLike, clusters: Clusters, *, seed: int = 0, draws: int = DRAWS) -> float:
    """One-sided p of "the mean of `values` is not above 0", rows with a NaN left out; NaN with no row left.

    With n prompts it is about 2^-n at least: fewer than 10 cannot show anything of 20 edits.
    """
    (x,), index = _known(values, clusters)
    if not len(x):
        return nan
    sums = np.bincount(index, x)
    if not np.any(sums):
        return 1.0
    signs = 2.0 * np.random.default_rng(seed).integers(2, size=(draws, len(sums)), dtype=np.int8) - 1
    reached = signs @ sums >= sums.sum() - 1e-9 * np.abs(sums).sum()
    return float((1 + reached.sum()) / (1 + draws))


def fewest(edits: int) -> int:
    """How many prompts it takes for one of so many edits to be shown to raise anything."""
    return int(np.ceil(np.log2(edits / LEVEL)))


def _known(values: ArrayLike, clusters: Clusters) -> tuple[list[np.ndarray], np.ndarray]:
    (x, _), index = clean(clusters, values, None)
    return [x], index


def _in_units(values: np.ndarray, before: ArrayLike, clusters: Clusters, seed: int) -> Estimate:
    """Mean of `values` over the unit of the scores before, both from the same resamples of prompts."""
    (x, scores), index = clean(clusters, values, before)
    if not len(x) or not np.any(scores):
        return EMPTY

    def ratio(weights: np.ndarray) -> float:
        size = weights @ scores**2
        return float(weights @ x / np.sqrt(size * weights.sum())) if size else nan

    return resampled(ratio, index, seed, 1000)
