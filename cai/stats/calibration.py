"""Is a P(a better) of 0.8 right eight times in ten? Proper scores against people's P, and the correction by Platt.

    brier, log_loss    distance from people's P, row by row (Brier 1950; cross-entropy)
    ece, reliability   rows of about the same P together: how far their mean is from people's mean
    fit_platt          slope and bias that turn a judge's log-odds into calibrated ones (Platt 1999)

People's P is soft: a share of raters, 0 to 1. A pair on which they are split (0.5) counts, as it does not in `accuracy`
(cai/stats/intervals.py): a judge should be unsure of it. Intervals, seeds and rows with NaN or None are as there.
numpy and scipy are imported where they are used: a run that only plans, or only complains, must not wait for them.
"""

from collections.abc import Sequence
from typing import Any

from cai.core.records import Estimate

Numbers = Any  # one number a row; NaN or None where there is none
Clusters = Sequence[str] | Sequence[int]


def brier(p: Numbers, human: Numbers, clusters: Clusters) -> Estimate:
    """Mean squared distance of P from people's P (Brier 1950, for one of two outcomes): 0 is best, 0.25 a coin's on
    pairs about which people agree."""
    import numpy as np

    from cai.stats import intervals as statistics

    return statistics.mean((np.asarray(p, float) - np.asarray(human, float)) ** 2, clusters)


def log_loss(p: Numbers, human: Numbers, clusters: Clusters) -> Estimate:
    """Mean cross-entropy of P under people's P, in nats; ln 2 is a coin's.

    P is taken to be no nearer to 0 and 1 than 1e-6, so that one sure mistake costs much (13.8) but not everything.
    Where people are split, even a perfect P costs the entropy of their split.
    """
    import numpy as np

    from cai.stats import intervals as statistics

    x, h = np.clip(np.asarray(p, float), 1e-6, 1 - 1e-6), np.asarray(human, float)
    return statistics.mean(-h * np.log(x) - (1 - h) * np.log1p(-x), clusters)


def ece(
    p: Numbers, human: Numbers, clusters: Clusters, bins: int = 10, *, seed: int = 0, resamples: int = 1000
) -> Estimate:
    """Expected calibration error: the mean gap between P and people's P in bins of equal width, weighted by rows
    (Naeini et al. 2015; Guo et al. 2017, section 2).

    Each pair counts both ways round, so it does not matter which answer was called a; n is pairs. Chance alone makes
    gaps, in the data and once more in each resample; the interval is therefore the basic bootstrap's (reflected in the
    value, cut at 0 and at 1), which takes most of that off again. Tried on synthetic data of 60 to 1,000 pairs it held
    the truth in 72 to 83% (a calibrated judge) and 85 to 93% (an overconfident one): it is too short, never too kind.
    """
    import numpy as np

    from cai.stats import intervals as statistics

    (x, h), index = statistics.clean(clusters, p, human)
    if not len(x):
        return statistics.EMPTY
    x, h, place = _both_ways(x, h, bins)

    def statistic(w: Any) -> float:
        both = np.tile(w, 2)
        return float(np.abs(np.bincount(place, both * (x - h))).sum() / both.sum())

    plain = statistics.resampled(statistic, index, seed, resamples)
    low, high = max(0.0, 2 * plain.value - plain.high), min(1.0, 2 * plain.value - plain.low)
    if np.isnan(plain.low):
        low = high = np.nan
    return Estimate(
        value=plain.value, low=min(low, plain.value), high=max(high, plain.value), n=plain.n, clusters=plain.clusters
    )


def reliability(p: Numbers, human: Numbers, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean P, people's mean P, rows) of each bin that has rows, in order: the curve whose mean gap `ece` is.

    Each pair is two rows, one for each way round.
    """
    import numpy as np

    from cai.stats import intervals as statistics

    (x, h), _ = statistics.clean(range(len(p)), p, human)
    x, h, place = _both_ways(x, h, bins)
    return [
        (float(x[place == bin].mean()), float(h[place == bin].mean()), int((place == bin).sum()))
        for bin in np.unique(place)
    ]


def _both_ways(x: Any, h: Any, bins: int) -> tuple[Any, Any, Any]:
    """P, people's P and the bin of each pair as it is, followed by each pair the other way round."""
    import numpy as np

    x, h = np.concatenate([x, 1 - x]), np.concatenate([h, 1 - h])
    # Rounded, because 1 - 0.8 is a little less than 0.2 and would fall into the bin below.
    return x, h, np.minimum(np.floor(np.round(x * bins, 9)), bins - 1).astype(int)


def fit_platt(log_odds: Numbers, human: Numbers) -> tuple[float, float]:
    """Slope and bias for which sigmoid(slope * log_odds + bias) has the least cross-entropy under people's P.

    People's P is smoothed as in Platt (1999, section 2.2): 1 becomes (N+ + 1) / (N+ + 2), 0 becomes 1 / (N- + 2), and
    what lies between lies between; N+ and N- are the sums of P and 1 - P. That is all the regularisation there is, and
    it keeps the fit finite where the log-odds separate the two kinds. Convex, so deterministic.

    Raises ValueError for fewer than two rows that have both, and where all log-odds are the same: no slope fits best.
    """
    import numpy as np
    from scipy.optimize import minimize

    x, h = np.asarray(log_odds, float), np.asarray(human, float)
    usable = np.isfinite(x) & np.isfinite(h)
    x, h = x[usable], h[usable]
    if len(x) < 2 or np.ptp(x) == 0:
        raise ValueError(f"{len(x)} rows with {len(np.unique(x))} different log-odds are too few to fit slope and bias")
    most, least = (h.sum() + 1) / (h.sum() + 2), 1 / ((1 - h).sum() + 2)
    target = h * most + (1 - h) * least
    centre, spread = x.mean(), x.std()
    z = (x - centre) / spread  # both parameters then weigh about the same, whatever the judge's scale

    def loss(parameters: Any) -> tuple[float, Any]:
        scores = parameters[0] * z + parameters[1]
        probability = 0.5 * (1 + np.tanh(scores / 2))  # the sigmoid, without overflow
        error = probability - target
        return float(np.mean(np.logaddexp(0, scores) - target * scores)), np.array([np.mean(error * z), np.mean(error)])

    fitted = minimize(loss, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9})
    slope = float(fitted.x[0] / spread)
    return slope, float(fitted.x[1] - slope * centre)
