"""Reliability by agreement: steps of EM by hand, and made judges whose reliability is known."""

import math

import numpy as np
import pytest

from cai.stats import reliability as module
from cai.stats.reliability import reliability

NAN = math.nan
SEEDS = range(20)


def logit(p):
    return math.log(p / (1 - p))


# 1. By hand -----------------------------------------------------------------------------------------------------------


def test_one_step_by_hand(monkeypatch):
    """Four pairs, three judges, all votes as strong, so that there is one half.

    The start is the sum of votes, each of size 1: pairs 0 and 1 have +3 (unanimous a), pair 2 +1, pair 3 -1. With
    s = sigmoid: P(a) = s(3), s(3), s(1), s(-1). Judge 0 says a, a, a, b: it is right with s(3), s(3), s(1), s(1).
    Judge 1 says a, a, a, a: s(3), s(3), s(1), s(-1). Judge 2 says a, a, b, b: s(3), s(3), s(-1), s(1).
    """
    monkeypatch.setattr(module, "STEPS", 1)
    s3, s1 = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-1))
    found = reliability([[1, 1, 1], [1, 1, 1], [1, 1, -1], [-1, 1, -1]])
    first = (1 + 2 * s3 + 2 * s1) / 6
    other = (1 + 2 * s3 + s1 + 1 - s1) / 6
    assert found.right == pytest.approx([first, other, other])
    assert found.halves[0, 0] == pytest.approx(first) and math.isnan(found.halves[0, 1])
    assert found.p_a[3] == pytest.approx(1 / (1 + math.exp(logit(first))))  # the other two cancel


def test_how_loud_a_judge_is_changes_nothing():
    rng = np.random.default_rng(0)
    votes = rng.normal(size=(60, 3))
    loud = votes * [0.01, 1, 50]
    assert reliability(loud).p_a == pytest.approx(reliability(votes).p_a)


def test_the_names_a_and_b_change_nothing():
    votes = np.random.default_rng(1).normal(size=(60, 3))
    turned = np.where(np.arange(60) % 2, 1, -1)[:, None] * votes
    one, two = reliability(votes), reliability(turned)
    assert two.right == pytest.approx(one.right)
    assert np.where(np.arange(60) % 2, two.p_a, 1 - two.p_a) == pytest.approx(one.p_a)


def test_missing_votes_ties_and_rounding():
    found = reliability([[1, NAN, 1], [NAN, NAN, NAN], [0, 0, 0], [1, 1, NAN]])
    assert math.isnan(found.p_a[1]) and found.p_a[2] == 0.5  # nobody voted; all see two equal answers
    assert found.p_a[0] > 0.5 and found.p_a[3] > 0.5
    silent = reliability([[1, NAN], [1, NAN]])
    assert math.isnan(silent.right[1]) and np.isnan(silent.halves[1]).all()
    # logit(0.9) and logit(0.1) differ in the last digit: that is no stronger half.
    assert np.isnan(reliability([[logit(0.9)], [logit(0.1)], [logit(0.9)]]).halves[0, 1])
    assert reliability(np.empty((0, 3))).p_a.shape == (0,)


# 2. Made judges -------------------------------------------------------------------------------------------------------


def made(rng, truth, share, strength=1.0):
    """Votes of a judge that is right about a share, all as strong."""
    right = rng.random(len(truth)) < share
    return np.where(right, truth, -truth) * strength


def agreement(votes, truth):
    """Ties count half."""
    return float(np.mean((1 + np.sign(votes) * truth) / 2))


@pytest.fixture(scope="module")
def panels():
    """Twenty panels of 90%, 75%, 60% and a coin, of which the coin is the loudest, on 1500 pairs."""
    some = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        truth = rng.choice([-1.0, 1.0], 1500)
        judges = ((0.9, 1.0), (0.75, 0.5), (0.6, 2.0), (0.5, 4.0))
        some.append((truth, np.stack([made(rng, truth, *judge) for judge in judges], axis=1)))
    return some


def test_the_reliability_of_made_judges_comes_out(panels):
    """Within 0.08 each time and 0.02 on the average of twenty."""
    found = np.array([reliability(votes).right for _, votes in panels])
    wanted = np.array([0.9, 0.75, 0.6, 0.5])
    assert np.abs(found - wanted).max() < 0.08
    assert np.abs(found.mean(axis=0) - wanted).max() < 0.02


def test_the_panel_beats_the_mean_every_time(panels):
    for truth, votes in panels:
        weighed = agreement(reliability(votes).p_a - 0.5, truth)
        assert weighed > agreement(votes.mean(axis=1), truth) + 0.1  # where the loud coin decides
        equal = np.sign(votes).mean(axis=1)  # everybody as loud
        assert weighed > agreement(equal, truth)


def test_a_coin_does_not_hurt(panels):
    """With and without the coin, the panel is right on the same share of pairs within one point on the average."""
    lost = [
        agreement(reliability(votes[:, :3]).p_a - 0.5, truth) - agreement(reliability(votes).p_a - 0.5, truth)
        for truth, votes in panels
    ]
    assert abs(np.mean(lost)) < 0.01 and max(lost) < 0.04


def test_with_two_that_know_something_only_the_product_of_their_edges_is_known():
    """90%, 60% and a coin: (2r - 1)(2s - 1) = 0.8 * 0.2 = 0.16 comes out, and not who is the better one; the coin is
    found out all the same where it is not the loudest of all."""
    products = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        truth = rng.choice([-1.0, 1.0], 1500)
        votes = np.stack([made(rng, truth, share) for share in (0.9, 0.6, 0.5)], axis=1)
        first, second, _ = 2 * reliability(votes).right - 1
        products.append(first * second)
    assert np.mean(products) == pytest.approx(0.16, abs=0.05)


def test_being_sure_counts_for_what_it_is_worth():
    """A judge whose stronger half is right on 95% and whose weaker half is a coin, beside two of 75%."""
    rng = np.random.default_rng(3)
    truth = rng.choice([-1.0, 1.0], 3000)
    sure = rng.random(3000) < 0.5
    graded = np.where(sure, made(rng, truth, 0.95, 2.0), made(rng, truth, 0.5, 0.5))
    found = reliability(np.stack([graded, made(rng, truth, 0.75), made(rng, truth, 0.75)], axis=1))
    assert found.halves[0] == pytest.approx([0.5, 0.95], abs=0.06)
    assert found.right[0] == pytest.approx(0.725, abs=0.04)
