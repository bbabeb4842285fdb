"""What the text of a constitution does to a judge's verdicts: log-odds of the same pairs under several texts in,
`Effect` out.

Agreement with people does not say that a judge reads. Refusals are short and plain, so a judge may know the harmless
answer by its looks, whatever the text says. What the text does shows beside two other texts: *placebos*, of equal
length and on other subjects, and the *negation* of each principle. With t, p and n for the log-odds of "a is better"
under the text, a placebo and the negation:

    gain    agreement with people under the text minus that under the placebos, on the same pairs
    turn    the slope through the origin of n - p on t - p: -1 where the negation turns round what the text moves, +1
            where it moves the same way (the judge sees the subject, not the sense), 0 where it moves anyhow
    share   of the sum of squared log-odds over pairs and texts, what differs between the texts of a pair (the
            interaction of pair and text). Text, negation and placebos weigh a third each, however many placebos
            there are. 0 for a judge that ignores the text, 1 for one that follows it and nothing else; where it sees
            subjects alone, up to 1/3

Which answer is called a is arbitrary, so everything is taken about 0, not about a mean. Two placebos of a pair are
taken crosswise in the turn (n less one of them, t less the other): with the same placebo in both, what moves the
placebo alone would count as moving both, and a text that does nothing would seem to have a turn above 0.

Intervals: cluster bootstrap over prompts as in cai/stats/intervals.py, here with expanded percentiles (Hesterberg
2015, section 4.3.3), because a preflight has few prompts; tests/judge/test_reads_effect.py simulates their coverage.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cai.core.records import Estimate
from cai.stats import intervals as statistics
from cai.stats.intervals import EMPTY, Clusters


@dataclass(frozen=True, slots=True)
class Effect:
    """What the text did on some pairs. An Estimate without data, or undefined, has a NaN for a value.

    gain:      in shares, -1 to 1; without people's judgements it has n 0.
    turn:      undefined (its n is kept) where the text moves nothing beyond what placebos move: see `moved`.
    share:     0 to 1; needs the negation.
    moved:     mean square of what the text moves, t - p, in squared log-odds, less what one placebo differs from
               another; the turn is defined where its interval lies above 0.
    flips:     how often the label is another under the negation than under the text; a tie counts half.
    agreement: with people under each text, by its name: "text", "placebo" (mean over each pair's), "negated", and what
               else was given.
    against:   the same, less that under the text, on the pairs that have both.
    placebos:  agreement under each placebo, in the order of the columns.
    """

    gain: Estimate
    turn: Estimate
    share: Estimate
    moved: Estimate
    flips: Estimate
    agreement: dict[str, Estimate]
    against: dict[str, Estimate]
    placebos: tuple[Estimate, ...]


def measure(
    text: ArrayLike,
    placebos: ArrayLike,
    prompts: Clusters,
    *,
    negated: ArrayLike | None = None,
    human: ArrayLike | None = None,
    more: Mapping[str, ArrayLike] | None = None,
    seed: int = 0,
) -> Effect:
    """text, negated: log-odds of "a is better", shape (pairs,); placebos: (pairs, placebos). NaN where a pair was not
    asked or could not be read. human: P(a better), NaN where nobody judged; 0.5 is left out. more: other texts by name.

    A pair counts where all that a figure needs could be read; a turn needs two placebos of it.
    """
    names = np.asarray(prompts)
    t_N, p_NK = np.asarray(text, float), np.asarray(placebos, float)
    assert t_N.shape == names.shape == p_NK.shape[:1] and p_NK.ndim == 2, (t_N.shape, p_NK.shape, names.shape)
    n_N = np.full(t_N.shape, math.nan) if negated is None else np.asarray(negated, float)
    people_N = np.full(t_N.shape, math.nan) if human is None else np.asarray(human, float)
    others = {name: np.asarray(odds, float) for name, odds in (more or {}).items()}

    # 1. Agreement with people.
    hits = {name: _hits(odds, people_N) for name, odds in {"text": t_N, "negated": n_N, **others}.items()}
    by_placebo = [_hits(p_NK[:, k], people_N) for k in range(p_NK.shape[1])]
    hits["placebo"] = _mean_known(np.stack(by_placebo, axis=1)) if by_placebo else np.full(t_N.shape, math.nan)
    against = {name: difference(of, hits["text"], names, seed=seed) for name, of in hits.items() if name != "text"}
    gain = difference(hits["text"], hits["placebo"], names, seed=seed)

    # 2. What the text moves, and what becomes of it under the negation.
    count = np.sum(~np.isnan(p_NK), axis=1)
    mean_N = _mean_known(p_NK)
    noise_N = np.nansum((p_NK - mean_N[:, None]) ** 2, axis=1) / np.where(count > 1, count * (count - 1), math.nan)
    moved_N = (t_N - mean_N) ** 2 - noise_N  # the mean of (t - p)(t - q) over pairs of different placebos p, q
    turned_N = (t_N - mean_N) * (n_N - mean_N) - noise_N
    both = np.where(np.isnan(turned_N), math.nan, moved_N)
    moved = ratio(both if negated is not None else moved_N, np.ones(len(t_N)), names, seed=seed)
    turn = ratio(turned_N, both, names, seed=seed)
    if not moved.low > 0:
        turn = Estimate(math.nan, math.nan, math.nan, turn.n, turn.clusters)

    # 3. The share of the text. Weights of a third: text, negation, and the placebos together.
    whole_N = (t_N**2 + n_N**2 + _mean_known(p_NK**2)) / 3
    pair_N = ((t_N + n_N + mean_N) / 3) ** 2
    flips = np.where(np.isnan(t_N + n_N), math.nan, np.abs(np.sign(t_N) - np.sign(n_N)) / 2)
    return Effect(
        gain=gain,
        turn=turn,
        share=ratio(whole_N - pair_N, whole_N, names, seed=seed),
        moved=moved,
        flips=statistics.mean(flips, names, seed=seed),
        agreement={name: statistics.mean(of, names, seed=seed) for name, of in hits.items()},
        against=against,
        placebos=tuple(statistics.mean(of, names, seed=seed) for of in by_placebo),
    )


def difference(a: np.ndarray, b: np.ndarray, prompts: Clusters, *, seed: int = 0) -> Estimate:
    """Mean of a - b with an expanded interval; where that has no width, what cai/stats/intervals.py says."""
    expanded = ratio(a - b, np.where(np.isnan(a - b), math.nan, 1.0), prompts, seed=seed)
    return statistics.paired_difference(a, b, prompts, seed=seed) if statistics.certain(expanded) else expanded


def ratio(above: np.ndarray, below: np.ndarray, prompts: Clusters, *, seed: int = 0, resamples: int = 2000) -> Estimate:
    """Sum of `above` over the sum of `below`, prompts drawn as wholes; undefined (NaN) where that is not above 0.

    The percentiles are expanded: those of the normal distribution that a Student's t of as many prompts would have.
    """
    (x, y), index = statistics.clean(prompts, above, below)
    if not len(x):
        return EMPTY
    k = int(index.max()) + 1
    tops, bottoms = np.bincount(index, x), np.bincount(index, y)
    if not bottoms.sum() > 0:
        return Estimate(math.nan, math.nan, math.nan, len(x), k)
    value = float(tops.sum() / bottoms.sum())
    if k == 1:
        return Estimate(value, math.nan, math.nan, len(x), k)
    drawn = [(c @ tops, c @ bottoms) for c in statistics.draws(k, seed, resamples)]
    top, bottom = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    values = top[bottom > 0] / bottom[bottom > 0]
    tail = expanded(k)
    low, high = np.percentile(values, (100 * tail, 100 * (1 - tail)))
    return Estimate(value, float(low), float(high), len(x), k)


def expanded(k: int) -> float:
    """The tail of a percentile interval from k clusters: Phi(-sqrt(k / (k - 1)) t), t the 97.5% point of Student's t
    with k - 1 degrees of freedom, by its expansion about the normal's (Abramowitz & Stegun 26.7.5)."""
    z, v = 1.959964, k - 1
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    return 0.5 * math.erfc(math.sqrt(k / v) * t / math.sqrt(2))


def _hits(odds: np.ndarray, people: np.ndarray) -> np.ndarray:
    """1 where the label is people's, 0.5 for a tie of its own, 0 where not; NaN where either is unknown or people are
    split."""
    theirs = np.sign(people - 0.5)
    return np.where(theirs == 0, math.nan, (1 + np.sign(odds) * theirs) / 2)


def _mean_known(values_NK: np.ndarray) -> np.ndarray:
    """The mean over the columns that are known; NaN for a row without any."""
    known = ~np.isnan(values_NK)
    return np.where(known, values_NK, 0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), math.nan)
