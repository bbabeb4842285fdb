"""Correlations of a score with people's ratings: by hand, and each resample against scipy on the rows it repeats."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from cai.stats.correlation import _mean_ranks, _pearson, correlation


@pytest.mark.parametrize(
    ("x", "y", "r", "rho"),
    [
        ([1, 2, 3, 4], [1, 3, 2, 4], 0.8, 0.8),  # deviations -1.5 -0.5 0.5 1.5 and -1.5 0.5 -0.5 1.5: 4 / 5
        ([1, 2, 9], [1, 2, 3], 8 / 76**0.5, 1.0),  # -3 -2 5 and -1 0 1: 8 / sqrt(38 * 2)
        ([5, 5, 9], [1, 2, 3], 1.5 / 3**0.5, 1.5 / 3**0.5),  # ranks 1.5 1.5 3 and 1 2 3: 1.5 / sqrt(1.5 * 2)
    ],
)
def test_by_hand(x: list[float], y: list[float], r: float, rho: float) -> None:
    prompts = [f"p{place}" for place in range(len(x))]
    assert correlation(x, y, prompts).value == pytest.approx(r)
    assert correlation(x, y, prompts, ranks=True).value == pytest.approx(rho)


def test_what_never_varies_has_none_and_a_resample_without_variation_is_left_out() -> None:
    assert np.isnan(correlation([2, 2, 2], [1, 2, 3], list("abc")).value)
    found = correlation([1, 2], [1, 2], list("ab"))  # of two prompts a resample is one of them twice, or both: r = 1
    assert (found.value, found.low, found.high) == (pytest.approx(1), pytest.approx(1), pytest.approx(1))


def test_each_resample_is_the_correlation_of_its_rows() -> None:
    random = np.random.default_rng(3)
    x, y = random.integers(0, 5, 40).astype(float), random.normal(size=40)
    weights = random.integers(0, 4, size=(6, 40))
    of_rows = _pearson(x, y, weights.astype(float))
    of_ranks = _pearson(_mean_ranks(x)(weights), _mean_ranks(y)(weights), weights.astype(float))
    for row, r, rho in zip(weights, of_rows, of_ranks, strict=True):
        a, b = np.repeat(x, row), np.repeat(y, row)
        assert r == pytest.approx(pearsonr(a, b).statistic) and rho == pytest.approx(spearmanr(a, b).statistic)
