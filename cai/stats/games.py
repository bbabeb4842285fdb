"""What games say beyond the share that was won: ratings of many policies, and wins with answer length taken out.

    elo                Bradley & Terry 1952, on the Elo scale (as Bai et al. 2022, figures 2, 3 and 8): 400 points are
                       odds of 10 to 1. There crowd workers decide the games, here a judge; the SFT policy is 1000.
    length_controlled  Dubois et al. 2024 (length-controlled AlpacaEval): a logistic regression of winning on the
                       difference of lengths, read where the lengths are equal. Lee et al. 2023 adjust for length alike.

Both are one logistic regression; draws count half. So that a policy that won all its games keeps a finite rating, each
fit is given one drawn game more for each two policies that met (elo), or one with either answer far longer
(length_controlled): with 30 games or more that moves a rating by a few points only. A fit of our own, because intervals
need thousands of them at once; it agrees with statsmodels on the same games (tests/stats/test_games.py).
"""

from collections.abc import Sequence
from math import log, nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cai.core.records import Estimate
from cai.stats.crossed import contrast
from cai.stats.intervals import EMPTY, LIMITS, Clusters, draws

POINTS = 400 / log(10)  # Elo points a nat
Game = tuple[str, str, str, float]  # first policy, second policy, prompt, outcome: 1 the first won, 0 the second, 0.5


def elo(
    games: Sequence[Game], anchor: str = "sft", *, at: float = 1000.0, seed: int = 0, resamples: int = 1000
) -> dict[str, Estimate]:
    """Rating of each policy, its 95% interval (prompts drawn as wholes), its games and their prompts.

    The anchor is `at` in every resample, so an interval is that of a distance from the anchor. It is for these very
    policies: other seeds may rate differently. Games with NaN are left out. NaN for a policy that no chain of games
    connects with the anchor, and without games of the anchor for all.
    """
    played = [game for game in games if game[3] == game[3] and game[0] != game[1]]
    names = list(dict.fromkeys([name for game in played for name in game[:2]]))
    reached = _connected(played, anchor)
    counted = [game for game in played if game[0] in reached]
    if not counted:
        return dict.fromkeys(names, EMPTY)
    rated = [name for name in names if name in reached and name != anchor]
    met = sorted({game[:2] for game in counted})
    design = np.array([[(name == first) - (name == second) for name in rated] for first, second in met], float)
    prompts = sorted({game[2] for game in counted})
    row, place = {p: i for i, p in enumerate(prompts)}, {pair: j for j, pair in enumerate(met)}
    wins, total = np.zeros((2, len(prompts), len(met)))
    for first, second, prompt, outcome in counted:
        wins[row[prompt], place[first, second]] += outcome
        total[row[prompt], place[first, second]] += 1

    def ratings(weights: np.ndarray) -> np.ndarray:
        """Weights (fits, prompts) -> ratings (fits, rated policies)."""
        return at + POINTS * _logistic(design, weights @ wins + 0.5, weights @ total + 1)

    values = ratings(np.ones((1, len(prompts))))[0]
    ends = np.full((2, len(rated)), nan)
    if len(prompts) > 1:
        drawn = [ratings(block.astype(float)) for block in draws(len(prompts), seed, resamples)]
        ends = np.percentile(np.concatenate(drawn), LIMITS, axis=0)
    estimates = {name: Estimate(value=nan, low=nan, high=nan, n=0, clusters=0) for name in names}
    for name in [anchor, *rated]:
        mine = [game[2] for game in counted if name in game[:2]]
        k = rated.index(name) if name != anchor else -1
        low, high = (float(ends[0, k]), float(ends[1, k])) if name != anchor else (at, at)
        value = float(values[k]) if name != anchor else at
        estimates[name] = Estimate(value=value, low=low, high=high, n=len(mine), clusters=len(set(mine)))
    return estimates


def length_controlled(wins: ArrayLike, lengths: ArrayLike, clusters: Clusters) -> Estimate:
    """The win rate that the first side would have at equal length, with its interval over prompts and seeds.

    wins, lengths: shape (rows, seeds): who won (1, 0, or 0.5 for a draw), and the first answer's length minus the
    second's, in any unit. log-odds(win) = theta + phi tanh(length / standard deviation of length); the value is
    sigmoid(theta). The interval is that of theta's influence function (the cluster-robust sandwich; Cameron & Miller
    2015), treated as in cai/stats/crossed.py. AlpacaEval's third term, how hard an instruction is, is left out: it is
    estimated there from many other models. Rows with a NaN in any seed are left out.
    """
    won, longer, names = np.asarray(wins, float), np.asarray(lengths, float), np.asarray(clusters)
    assert won.shape == longer.shape and won.ndim == 2 and names.shape == won.shape[:1]
    keep = ~np.isnan(won + longer).any(axis=1)
    won, longer, names = won[keep], longer[keep], names[keep]
    if not won.size:
        return EMPTY
    if np.ptp(won) == 0:  # whatever the lengths were: there is nothing to take out
        return contrast(won, names, null=0.5, reach=0.5).estimate
    x, y = length_design(longer), won.ravel()
    design = np.concatenate([x, [[1, 1], [1, -1]]])
    outcome = np.concatenate([y, [0.5, 0.5]])
    theta = _logistic(design, outcome[None], np.ones((1, len(outcome))))[0]
    p = 1 / (1 + np.exp(-design @ theta))
    curvature = (design * (p * (1 - p))[:, None]).T @ design
    influence = len(y) * ((y - p[:-2])[:, None] * x) @ np.linalg.inv(curvature)[0]
    estimated = contrast((theta[0] + influence - influence.mean()).reshape(won.shape), names).estimate
    value, low, high = (float(1 / (1 + np.exp(-end))) for end in (estimated.value, estimated.low, estimated.high))
    return Estimate(value=value, low=low, high=high, n=estimated.n, clusters=estimated.clusters)


def length_design(lengths: ArrayLike) -> np.ndarray:
    """Differences of lengths -> (games, 2): a one, and tanh of the length in standard deviations."""
    longer = np.asarray(lengths, float).ravel()
    return np.column_stack([np.ones_like(longer), np.tanh(longer / (longer.std() or 1.0))])


def _logistic(design: np.ndarray, wins: np.ndarray, total: np.ndarray, steps: int = 100) -> np.ndarray:
    """Many logistic regressions on one design at once, by Newton's method.

    design: (games, parameters); wins and total: (fits, games). Returns (fits, parameters).
    """
    weights = np.zeros((len(wins), design.shape[1]))
    for _ in range(steps):
        p = 1 / (1 + np.exp(-weights @ design.T))
        slope = (wins - total * p) @ design
        curvature = np.einsum("fg,gi,gj->fij", total * p * (1 - p), design, design, optimize=True)
        step = np.linalg.solve(curvature, slope[:, :, None])[:, :, 0]
        weights += np.clip(step, -1, 1)  # a whole step may go too far where few games are left undecided
        if np.abs(step).max(initial=0) < 1e-9:
            break
    return weights


def _connected(games: Sequence[Game], anchor: str) -> set[str]:
    """The policies that a chain of games connects with the anchor."""
    meets: dict[str, set[str]] = {}
    for first, second, *_ in games:
        meets.setdefault(first, set()).add(second)
        meets.setdefault(second, set()).add(first)
    reached: set[str] = set()
    ahead: list[Any] = [anchor] if anchor in meets else []
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead += meets[name] - reached
    return reached
