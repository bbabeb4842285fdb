"""Which of many voters do labels follow? Forward selection, with a test that says how often it would find one in noise.

The model of a label is a logistic one without an intercept, for which answer is called a is a matter of chance:

    P(a better) = sigmoid(sum over the selected columns of weight * log-odds of the vote)

    1. Of the columns left, take the one whose *effective score* is largest: its votes less what the selected ones
       explain of them, times what the labels are above what the selected ones predict, summed; over its own norm, so
       that columns of any scale compare. It is the first-order gain in the likelihood (Rao's score).
    2. Test it by sign flips of those sums, a prompt's rows as a whole (Hemerik, Goeman & Finos 2020, "Robust testing in
       generalized linear models by sign flipping score contributions"), against the largest of *all* columns under the
       same flips (Westfall & Young 1993; De Santis et al. 2025): a family-wise p.
    3. Where p is above alpha, stop. Else fit all weights anew, by the penalised likelihood of the soft labels (ridge, a
       standard normal prior on the weights of votes scaled to a root mean square of 1), and go on.
    4. What the later ones have made needless is dropped: each is tested given the others.

Labels that follow no column are as likely as their opposite, prompt by prompt; the first test is then exact, and some
column is selected in at most `alpha` of such data. That one is selected too many beside those that labels do follow has
about that rate (the later tests are asymptotic; tests/stats/test_selection.py simulates both).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cai.stats.intervals import Clusters

RIDGE = 1.0
ROUNDS = 50


@dataclass(frozen=True, slots=True)
class SelectedVoter:
    """column: which. weight: of its log-odds; below 0 where labels go against it. p: family-wise, when it was taken."""

    column: int
    weight: float
    p: float


@dataclass(frozen=True, slots=True)
class VoterSelection:
    """voters: in the order in which they were taken. next_column, next_p: what would have come next, and its p; None
    and NaN where nothing is left. dropped: columns that were taken, and then not needed.
    n: rows; clusters: prompts."""

    voters: tuple[SelectedVoter, ...]
    next_column: int | None
    next_p: float
    dropped: tuple[int, ...]
    n: int
    clusters: int

    @property
    def weights(self) -> dict[int, float]:
        return {voter.column: voter.weight for voter in self.voters}


def select_voters(
    votes_NK: ArrayLike, labels_N: ArrayLike, clusters: Clusters, *, alpha: float = 0.05, most: int = 8,
    flips: int = 2000, seed: int = 0,
) -> VoterSelection:  # fmt: skip
    """votes_NK: log-odds of "a is better", (rows, columns); NaN where a voter is silent. labels_N: P(a better).

    A silent voter has no say: its log-odds count as 0. Columns that are never anything else are never taken.
    alpha: the family-wise rate of false alarms. most: columns to take at most. flips: sign patterns drawn.
    """
    x_NK, scale_K = _scaled(votes_NK)
    y_N = np.asarray(labels_N, float)
    index = np.unique(np.asarray(clusters), return_inverse=True)[1]
    signs_FC = _signs(int(index.max()) + 1, flips, seed)
    taken: dict[int, float] = {}  # column -> family-wise p
    at, p = None, np.nan
    while left := [k for k in np.flatnonzero(scale_K).tolist() if k not in taken]:
        statistic_K, p_K = _flip_tests(x_NK, y_N, index, list(taken), signs_FC)
        at = max(left, key=lambda k: statistic_K[k])
        p = float(p_K[at])
        if p > alpha or len(taken) == most:
            break
        taken[at] = p
        at, p = None, np.nan
    kept, dropped = _pruned(x_NK, y_N, index, list(taken), signs_FC, alpha)
    weights = _fitted(x_NK[:, kept], y_N) / scale_K[kept] if kept else []
    voters = tuple(SelectedVoter(k, float(w), taken[k]) for k, w in zip(kept, weights, strict=True))
    return VoterSelection(voters, at, p, tuple(dropped), len(y_N), int(index.max()) + 1)


def fit_voters(votes_NK: ArrayLike, labels_N: ArrayLike) -> np.ndarray:
    """The weight of every column, (columns,), by the same penalised likelihood; 0 for a column without a vote."""
    x_NK, scale_K = _scaled(votes_NK)
    weights = _fitted(x_NK, np.asarray(labels_N, float))
    return np.divide(weights, scale_K, out=np.zeros_like(weights), where=scale_K > 0)


def predict_voters(votes_NK: ArrayLike, weights: dict[int, float]) -> np.ndarray:
    """Log-odds of "a is better", (rows,), by the weights of some columns; 0 where all of them are silent."""
    x_NK = np.nan_to_num(np.asarray(votes_NK, float))
    return sum((weight * x_NK[:, column] for column, weight in weights.items()), np.zeros(len(x_NK)))


def flip_p(
    votes_NK: ArrayLike, labels_N: ArrayLike, clusters: Clusters, *, given: ArrayLike | None = None, flips: int = 2000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(p of each column by itself, the same over the family of all columns), both (columns,), two-sided.

    given: other columns that labels may follow, (rows, others): each column is tested beyond them.
    """
    x_NK, _ = _scaled(votes_NK)
    base_NJ = np.zeros((len(x_NK), 0)) if given is None else _scaled(given)[0]
    joined, others = np.hstack([x_NK, base_NJ]), list(range(x_NK.shape[1], x_NK.shape[1] + base_NJ.shape[1]))
    index = np.unique(np.asarray(clusters), return_inverse=True)[1]
    signs_FC = _signs(int(index.max()) + 1, flips, seed)
    t_FK = _flipped(joined, np.asarray(labels_N, float), index, others, signs_FC)[:, : x_NK.shape[1]]
    return _rank(t_FK, t_FK[0]), _rank(t_FK.max(axis=1, keepdims=True), t_FK[0])


# ----------------------------------------------------------------------------------------------------------------------


def _scaled(votes_NK: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(votes with a root mean square of 1, what they were divided by): 0 stays 0, for no vote leans to either side."""
    x_NK = np.nan_to_num(np.asarray(votes_NK, float))
    scale_K = np.sqrt(np.mean(x_NK**2, axis=0))
    return np.divide(x_NK, scale_K, out=np.zeros_like(x_NK), where=scale_K > 0), scale_K


def _signs(clusters: int, flips: int, seed: int) -> np.ndarray:
    """(flips + 1, clusters) of 1 and -1; the first row turns nothing, and is the data."""
    signs = np.random.default_rng(seed).integers(0, 2, size=(flips + 1, clusters)) * 2.0 - 1
    signs[0] = 1
    return signs


def _fitted(x_NS: np.ndarray, y_N: np.ndarray) -> np.ndarray:
    """Weights (S,) that maximise the penalised likelihood, by Newton's steps halved until they climb."""
    weights = np.zeros(x_NS.shape[1])

    def value(w: np.ndarray) -> float:
        z = x_NS @ w
        return float(y_N @ z - np.logaddexp(0, z).sum() - RIDGE / 2 * w @ w)

    for _ in range(ROUNDS):
        p_N = _sigmoid(x_NS @ weights)
        slope = x_NS.T @ (y_N - p_N) - RIDGE * weights
        curve = (x_NS * (p_N * (1 - p_N))[:, None]).T @ x_NS + RIDGE * np.eye(len(weights))
        step, now = np.linalg.solve(curve, slope), value(weights)
        while value(weights + step) < now - 1e-12 and np.abs(step).max() > 1e-12:
            step = step / 2
        weights = weights + step
        if np.abs(step).max(initial=0) < 1e-9:
            break
    return weights


def _flipped(
    x_NK: np.ndarray, y_N: np.ndarray, index: np.ndarray, base: Sequence[int], signs_FC: np.ndarray
) -> np.ndarray:
    """|effective score| over its norm of every column under every sign pattern, (flips + 1, columns)."""
    b_NS = x_NK[:, list(base)]
    p_N = _sigmoid(b_NS @ _fitted(b_NS, y_N)) if len(base) else np.full(len(y_N), 0.5)
    if len(base):
        weighted = b_NS * (p_N * (1 - p_N))[:, None]
        share = np.linalg.solve(weighted.T @ b_NS + 1e-9 * np.eye(len(base)), weighted.T @ x_NK)
        x_NK = x_NK - b_NS @ share
    scores_CK = np.zeros((signs_FC.shape[1], x_NK.shape[1]))
    np.add.at(scores_CK, index, x_NK * (y_N - p_N)[:, None])
    norm_K = np.sqrt((scores_CK**2).sum(axis=0))
    return np.abs(signs_FC @ np.divide(scores_CK, norm_K, out=np.zeros_like(scores_CK), where=norm_K > 1e-9))


def _flip_tests(
    x_NK: np.ndarray, y_N: np.ndarray, index: np.ndarray, base: Sequence[int], signs_FC: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(statistic of each column, its family-wise p) beyond the columns of `base`, which are no part of the family."""
    t_FK = _flipped(x_NK, y_N, index, base, signs_FC)
    t_FK[:, list(base)] = 0.0
    return t_FK[0], _rank(t_FK.max(axis=1, keepdims=True), t_FK[0])


def _rank(drawn_FK: np.ndarray, data_K: np.ndarray) -> np.ndarray:
    """Share of sign patterns, the data among them, whose statistic is at least that of the data."""
    return (drawn_FK >= data_K - 1e-9).mean(axis=0)


def _pruned(
    x_NK: np.ndarray, y_N: np.ndarray, index: np.ndarray, taken: list[int], signs_FC: np.ndarray, alpha: float
) -> tuple[list[int], list[int]]:
    """(columns that each add something to the others, those that do not), the least needed one dropped first."""
    kept, dropped = list(taken), []

    def needless(k: int) -> float:
        t_FK = _flipped(x_NK, y_N, index, [j for j in kept if j != k], signs_FC)
        return float(_rank(t_FK[:, [k]], t_FK[0, [k]])[0])

    while len(kept) > 1:
        ps = [needless(k) for k in kept]
        worst = int(np.argmax(ps))
        if ps[worst] <= alpha:
            break
        dropped.append(kept.pop(worst))
    return kept, dropped


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(z, -500, 500)))
