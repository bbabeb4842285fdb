"""Pol.is's measures, counted by hand; welfare over groups, and how often its intervals are right."""

import math

import numpy as np
import pytest

from cai.stats import consensus
from cai.stats.welfare import welfare


def test_shares_and_consensus_by_hand():
    """(8 + 1) / (10 + 2) = 3/4; two groups with it make 9/16; a group that saw nothing counts one half."""
    assert consensus.share(8, 10) == 0.75
    assert consensus.consensus([(8, 10), (2, 2)]) == pytest.approx(0.5625)
    assert consensus.consensus([(8, 10), (0, 0)]) == pytest.approx(0.375)


def test_a_statement_that_divides_has_little_consensus_whoever_is_more():
    """99 of 100 and 1 of 10: 100/102 * 2/12; both halves: 51/102 * 6/12. A large group outvotes nobody."""
    assert consensus.consensus([(99, 100), (1, 10)]) == pytest.approx(100 / 102 / 6)
    assert consensus.consensus([(99, 100), (1, 10)]) < consensus.consensus([(50, 100), (5, 10)]) == 0.25


def test_representativeness_by_hand():
    """3/4 against the others together, (2 + 0 + 1) / (10 + 4 + 2) = 3/16: 4."""
    assert consensus.representativeness((8, 10), [(2, 10), (0, 4)]) == pytest.approx(4)
    assert consensus.representativeness((4, 10), [(4, 10)]) == 1


def test_pol_is_tests_by_hand():
    """2 sqrt(9) (9/9 - 1/2) = 3; 2 sqrt(9) (4/9 - 1/2) = -1/3; and 1 - 1/9 over sqrt(5/9 * 4/9 * 2/9)."""
    assert consensus.agrees(8, 8) == 3 and consensus.agrees(3, 8) == pytest.approx(-1 / 3)
    assert consensus.differs((8, 8), [(0, 8)]) == pytest.approx((8 / 9) / math.sqrt(40 / 729))
    assert consensus.differs((8, 8), [(5, 5), (3, 3)]) == 0.0  # everybody agrees


def test_welfare_by_hand():
    """Rates 1 and 1/4: 5/8, 1/4, and the root of 1/4. Groups count alike, though one has twice the rows."""
    of = welfare([([1, 1], ["p", "q"]), ([1, 0, 0, 0], ["p", "p", "q", "q"])])
    assert (of.mean.value, of.least.value, of.nash.value) == (0.625, 0.25, pytest.approx(0.5))
    assert (of.mean.n, of.mean.clusters) == (6, 2)
    assert of.nash.value <= of.mean.value and of.least.low <= 0.25 <= of.least.high


def test_a_group_without_a_row_leaves_nothing_to_say():
    of = welfare([([1, 1], ["p", "q"]), ([], [])])
    assert of.mean.n == of.least.n == of.nash.n == 0 and math.isnan(of.nash.value)


def test_where_nothing_varies_the_ends_are_wilsons():
    of = welfare([([1, 1, 1], ["p", "q", "r"]), ([1, 1, 1], ["p", "q", "r"])])
    assert of.least.value == 1 and of.least.low == pytest.approx(0.4385, abs=1e-3) and of.least.high == 1


@pytest.mark.parametrize(("rates", "least"), [((0.8, 0.6), 0.93), ((0.7, 0.7), 0.90)])
def test_intervals_hold_the_truth(rates, least):
    """60 prompts of two rows, on which both groups' outcomes come out alike half of the time; 300 experiments, seed 1.
    With two groups equally badly off the least is drawn down, so its interval is right a little less often."""
    rng = np.random.default_rng(1)
    held = np.zeros(3)
    truth = (np.mean(rates), min(rates), math.sqrt(rates[0] * rates[1]))
    clusters = np.repeat(np.arange(60), 2).astype(str)
    for _ in range(300):
        shared, own = rng.random(120), rng.random((2, 120))
        drawn = np.where(rng.random(120) < 0.5, shared, own)
        of = welfare([((drawn[k] < rates[k]).astype(float), clusters) for k in (0, 1)])
        held += [
            each.low <= value <= each.high for each, value in zip((of.mean, of.least, of.nash), truth, strict=True)
        ]
    assert (held[[0, 2]] / 300 >= 0.92).all() and (held[[0, 2]] / 300 <= 0.985).all()
    assert held[1] / 300 >= least
