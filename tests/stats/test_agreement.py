from math import isnan, nan
from typing import Any

import numpy as np
import pytest

from cai.stats.agreement import alpha, correlation, kappa, mean_kappa, rater_agreement


def close(value: float) -> Any:
    return pytest.approx(value, abs=5e-4)


def test_kappa_by_hand() -> None:
    # 50 pairs: 20 both a, 15 both b, 5 + 10 mixed. Agreement 0.7, by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    first = [1] * 20 + [1] * 5 + [0] * 10 + [0] * 15
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    estimate = kappa(first, second, range(50))
    assert estimate.value == pytest.approx(0.4)
    assert 0.1 < estimate.low < 0.4 < estimate.high < 0.65


def test_kappa_at_the_edges() -> None:
    assert isnan(kappa([1, 1], [1, 1], ["x", "y"]).value)
    perfect = kappa([1, 0] * 5, [1, 0] * 5, range(10))
    assert (perfect.value, perfect.low) == (1, close(0.4451))  # 1 - 0.2775 / (1 - 0.5)


def test_correlation_by_hand() -> None:
    # x = 0.5, 0, -0.5 and y = 0.5, 0.5, -0.5 about one half: 0.5 / sqrt(0.5 * 0.75).
    assert correlation([1, 0.5, 0], [1, 1, 0], range(3)).value == close(0.5 / 0.375**0.5)
    assert correlation([0.9, 0.2], [0.6, 0.35], range(2)).value == close(0.085 / (0.25 * 0.0325) ** 0.5)
    assert correlation([0.9, 0.2], [0.1, 0.8], range(2)).value == close(-1), "opposed, however sure"
    # Which answer is called a changes nothing.
    assert correlation([0.9, 0.8], [0.6, 0.35], range(2)).value == close(
        correlation([0.1, 0.8], [0.4, 0.35], range(2)).value
    )
    assert np.isnan(correlation([0.5, 0.5], [1, 0], range(2)).value) and correlation([], [], []).n == 0


def test_alpha_by_hand() -> None:
    # Units (0, 0), (1, 1), (0, 1). Observed: (0 + 0 + 1) / 3. Expected: 3 * 3 / C(6, 2) of all value pairs = 0.6.
    estimate = alpha([[0, 0], [1, 1], [0, 1], [1, nan], [None, nan]])
    assert estimate.value == pytest.approx(1 - (1 / 3) / 0.6)
    assert (estimate.n, estimate.clusters) == (3, 3)
    assert isnan(alpha([[1, 1], [1, 1]]).value)


def test_rater_agreement() -> None:
    # aab: one of three agrees; a against tie: half; a single rater: left out; bb: all.
    votes = [[1, 1, 0], [1, 0.5], [1], [0, 0]]
    estimate = rater_agreement(votes, list("wxyz"))
    assert estimate.value == pytest.approx((1 / 3 + 1 / 2 + 1) / 3)
    assert (estimate.n, estimate.clusters) == (3, 3)


def test_kappa_leaves_out_rows_that_one_rater_did_not_judge() -> None:
    # Of the four that both judged three agree: 0.75 against 0.5 * 0.5 + 0.5 * 0.5 by chance with a, a, b, b and
    # a, b, b, b: 0.5 * 0.25 + 0.5 * 0.75 = 0.5.
    estimate = kappa([1, nan, 1, 0, 0, 0.2], [1, 1, 0, 0, 0, nan], list("uvwxyz"))
    assert (estimate.value, estimate.n) == (pytest.approx(0.5), 4)


def test_mean_kappa_by_hand_where_not_everyone_voted() -> None:
    # First and second: a a b b against a b b b, 3 of 4 agree, 0.5 by chance: 0.5. First and third have two rows in
    # common and agree on both, 0.5 by chance: 1. Second and third: the same two rows, and agree: 1.
    votes = [[1, 1, 1], [1, 0], [0, 0, 0], [0, 0, None], [1, nan, nan]]
    estimate = mean_kappa(votes, range(5))
    assert estimate.value == pytest.approx((0.5 + 1 + 1) / 3) and (estimate.n, estimate.clusters) == (4, 4)
    assert estimate.low <= estimate.value <= estimate.high


def test_mean_kappa_leaves_out_raters_without_a_kappa() -> None:
    # The third only ever said a, as did the first on those rows: that pair has no kappa, nor has the second with them.
    votes = [[1, 1, None], [1, 0, None], [0, 0, None], [0, 0, None], [1, None, 1], [1, None, 1]]
    assert mean_kappa(votes, range(6)).value == kappa([1, 1, 0, 0], [1, 0, 0, 0], range(4)).value == 0.5
    assert isnan(mean_kappa([[1, 1], [1, 1]], range(2)).value)
    assert mean_kappa([], []).n == mean_kappa([[1], [0]], range(2)).n == 0


def test_mean_kappa_agrees_with_scikit_learn_and_counts_prompts() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=60)
    votes = [[int(t) if rng.random() < 0.8 else int(1 - t) for _ in range(3)] for t in truth]
    table = np.array(votes)
    theirs = np.mean([metrics.cohen_kappa_score(table[:, i], table[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))])
    once = mean_kappa(votes, range(60))
    assert once.value == pytest.approx(theirs)
    again = mean_kappa(votes * 5, list(range(60)) * 5)
    assert (again.low, again.high, again.clusters) == (pytest.approx(once.low), pytest.approx(once.high), 60)


def test_kappa_agrees_with_statsmodels() -> None:
    raters = pytest.importorskip("statsmodels.stats.inter_rater")
    first, second = np.random.default_rng(1).integers(3, size=(2, 50)) / 2
    counts = [[int(np.sum((first == i) & (second == j))) for j in (0, 0.5, 1)] for i in (0, 0.5, 1)]
    assert kappa(first, second, range(50)).value == pytest.approx(raters.cohens_kappa(counts).kappa)
