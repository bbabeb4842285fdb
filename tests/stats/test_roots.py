"""Roots, beside those of scipy."""

from math import cos, exp, log

import pytest
from scipy.optimize import brentq

from cai.stats.roots import root

CASES = [
    (lambda x: x * x - 2, 0, 2),
    (lambda x: cos(x) - x, 0, 1),
    (lambda x: exp(x) - 1e-9, -50, 1),
    (lambda x: (x - 1) ** 3 + x - 1, -7, 1.5),
    (lambda x: log(x) + 3, 1e-12, 5),
    (lambda x: -1.0 if x < 0.3 else 1.0, 0, 1),
    (lambda x: x, -1, 0),
    (lambda x: x**9 - 1e-4, -0.5, 3),
]


@pytest.mark.parametrize("case", CASES)
def test_it_is_scipys_to_the_last_bit(case):
    function, low, high = case
    assert root(function, low, high) == brentq(function, low, high)
    assert root(function, high, low) == brentq(function, high, low)


def test_by_hand():
    assert root(lambda x: x - 0.25, 0, 1) == 0.25 and root(lambda x: 3 - x, 0, 3) == 3
    with pytest.raises(AssertionError):
        root(lambda x: x + 1, 0, 1)
