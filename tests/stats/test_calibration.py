"""Scores of P(a better) against people's P, and Platt's fit; the arithmetic is beside each number."""

import math
from math import isnan, log, nan

import numpy as np
import pytest

from cai.stats.calibration import brier, ece, fit_platt, log_loss, reliability
from cai.stats.intervals import mean


def near(value: float) -> object:
    return pytest.approx(value, abs=1e-6)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_brier_by_hand() -> None:
    # (0.1**2 + 0.6**2 + 0) / 3: of the pair on which people are split, a P of one half is exactly right.
    estimate = brier([0.9, 0.4, 0.5], [1, 1, 0.5], list("xyz"))
    assert (estimate.value, estimate.n, estimate.clusters) == (near(0.37 / 3), 3, 3)
    assert 0 <= estimate.low < estimate.value < estimate.high < 0.361


def test_log_loss_by_hand() -> None:
    assert log_loss([0.9], [1], ["x"]).value == near(0.105361)  # -ln 0.9
    assert log_loss([0.25], [0.5], ["x"]).value == near(
        0.836988
    )  # (-ln 0.25 - ln 0.75) / 2 = (1.386294 + 0.287682) / 2
    assert log_loss([0.9, 0.25], [1, 0.5], ["x", "y"]).value == near(0.471175)
    assert log_loss([0.5, 0.5], [0.5, 1], ["x", "y"]).value == near(log(2))


def test_a_sure_mistake_costs_much_but_not_everything() -> None:
    assert log_loss([0.0], [1], ["x"]).value == near(13.815511)  # 6 ln 10
    assert log_loss([1.0], [1], ["x"]).value == near(1e-6)


def test_scores_do_not_care_which_answer_is_a() -> None:
    p, h, clusters = [0.8, 0.3, 0.55, 0.2, 1.0], [1, 0.33, 0.5, 1, 0.67], list("vwxyz")
    for swapped in ([4], [0, 2], [0, 1, 2, 3, 4]):
        q = [1 - x if i in swapped else x for i, x in enumerate(p)]
        g = [1 - x if i in swapped else x for i, x in enumerate(h)]
        for score in (brier, log_loss, ece):
            one, two = score(p, h, clusters), score(q, g, clusters)
            assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high))
        assert np.array(reliability(p, h)) == pytest.approx(np.array(reliability(q, g)))


def test_ece_and_reliability_by_hand() -> None:
    # Bins of both ways round: 0.9 (people 1 and 0), 0.6 (1), and their mirrors 0.1 (0 and 1) and 0.4 (0).
    # Gaps 0.4, 0.4, 0.4, 0.4, whatever the weights.
    p, h = [0.9, 0.9, 0.6], [1, 0, 1]
    assert ece(p, h, list("xyz")).value == near(0.4)
    assert np.array(reliability(p, h)) == near_rows([(0.1, 0.5, 2), (0.4, 0, 1), (0.6, 1, 1), (0.9, 0.5, 2)])
    # A perfect soft P has no gap; a timid one, 0.6 where people say 0.8, has 0.2.
    assert ece([0.8, 0.3], [0.8, 0.3], ["x", "y"]).value == near(0)
    assert ece([0.6, 0.6], [1, 0.6], ["x", "y"]).value == near(0.2)


def near_rows(rows: list[tuple[float, float, int]]) -> object:
    return pytest.approx(np.array(rows, float), abs=1e-9)


def test_ece_weighs_bins_by_their_rows() -> None:
    # Three right at 0.95 (gap 0.05), one wrong at 0.75 (gap 0.75): (3 * 0.05 + 0.75) / 4.
    assert ece([0.95, 0.95, 0.95, 0.75], [1, 1, 1, 0], list("wxyz")).value == near(0.225)


def test_bins() -> None:
    # One bin for all: each pair meets its own mirror, and every gap cancels.
    assert ece([0.9, 0.9, 0.6], [1, 0, 1], list("xyz"), bins=1).value == near(0)
    assert [n for *_, n in reliability([0.0, 1.0, 0.51], [0, 1, 1], bins=2)] == [3, 3]
    assert reliability([], []) == []


def test_ece_ends_where_gaps_do() -> None:
    """Two pairs wholly wrong and one right: 2/3, and what is reflected in it would reach 4/3."""
    found = ece([1.0, 0.0, 0.5], [0, 1, 0.5], list("xyz"))
    assert found.value == near(2 / 3) and found.high == 1.0


def test_ece_interval_holds_a_calibrated_judge_and_rejects_an_overconfident_one() -> None:
    rng = np.random.default_rng(3)
    p = rng.uniform(size=400)
    right = (rng.uniform(size=400) < p).astype(float)
    timid = (rng.uniform(size=400) < 0.5 + 0.4 * (p - 0.5)).astype(float)
    # What chance alone makes of 400 pairs is not taken for a fault: the interval comes near 0 where the value does not.
    calibrated, overconfident = ece(p, right, range(400)), ece(p, timid, range(400))
    assert calibrated.value > 0.02 and calibrated.low < 0.01
    assert overconfident.low < 0.15 < overconfident.high  # the mean of 0.6 * |p - 0.5|
    assert overconfident.low > calibrated.high


def test_rows_without_both_numbers_are_left_out() -> None:
    p, h = [0.9, nan, 0.4, 0.2], [1, 1, None, 0]
    for score in (brier, ece, log_loss):
        estimate = score(p, h, list("wxyz"))
        assert (estimate.n, estimate.clusters) == (2, 2)
        assert estimate == score([0.9, 0.2], [1, 0], ["w", "z"])
        empty = score([], [], [])
        assert isnan(empty.value) and empty.n == 0
    assert len(reliability(p, h)) == 4


def test_intervals_are_of_prompts_not_of_rows() -> None:
    rng = np.random.default_rng(0)
    p, h = rng.uniform(size=30), rng.integers(2, size=30)
    for score in (brier, log_loss, ece):
        once = score(p, h, range(30))
        repeated = score(np.repeat(p, 9), np.repeat(h, 9), np.repeat(range(30), 9))
        assert (repeated.n, repeated.clusters) == (270, 30)
        assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))
    assert brier(p, h, range(30)) == mean((p - h) ** 2, range(30))
    assert isnan(ece(p, h, [0] * 30).low)


# Platt's fit


def test_platt_on_two_pairs_by_hand() -> None:
    # One of each kind: the targets are 2/3 and 1/3, whose log-odds are ln 2 and -ln 2, one unit either side of 0.
    assert fit_platt([1, -1], [1, 0]) == (near(log(2)), near(0))
    assert fit_platt([11, 9], [1, 0]) == (near(log(2)), near(-10 * log(2)))
    assert fit_platt([1, -1], [0, 1]) == (near(-log(2)), near(0))


def test_platt_of_repeated_log_odds_by_hand() -> None:
    # Four of each kind: targets 5/6 and 1/6. Where the judge says 1, three of four are better: (3 * 5/6 + 1/6) / 4 =
    # 2/3; where it says -1, one of four: 1/3. Two distinct log-odds can be met exactly: ln 2 and -ln 2.
    log_odds, human = [1] * 4 + [-1] * 4, [1, 1, 1, 0, 0, 0, 0, 1]
    assert fit_platt(log_odds, human) == (near(log(2)), near(0))


def test_platt_with_soft_people() -> None:
    # N+ = N- = 1: targets 2/3 and 1/3 for 1 and 0; 0.75 and 0.25 lie at 7/12 and 5/12. ln(7/5) / 2 a unit.
    assert fit_platt([2, -2], [0.75, 0.25]) == (near(log(7 / 5) / 2), near(0))


def test_platt_finds_a_known_slope_and_bias() -> None:
    x = np.linspace(-4, 4, 20_001)
    assert fit_platt(x, sigmoid(1.7 * x - 0.6)) == (pytest.approx(1.7, abs=0.01), pytest.approx(-0.6, abs=0.01))
    rng = np.random.default_rng(0)
    votes = (rng.uniform(size=len(x)) < sigmoid(1.7 * x - 0.6)).astype(float)
    assert fit_platt(x, votes) == (pytest.approx(1.7, abs=0.1), pytest.approx(-0.6, abs=0.1))


def test_platt_does_not_care_for_the_scale_of_the_judge() -> None:
    x = np.linspace(-4, 4, 401)
    human = sigmoid(1.7 * x - 0.6)
    slope, bias = fit_platt(x, human)
    for scale in (1e-6, 1e4):
        assert fit_platt(scale * x, human) == (pytest.approx(slope / scale, rel=1e-5), pytest.approx(bias, abs=1e-5))


def test_platt_is_finite_where_the_log_odds_separate_people() -> None:
    for log_odds in ([1e4, 2e4, -3e4, -1e4], [700.0, 710.0, -700.0, -720.0], [0.1, 0.2, -0.1, -0.3]):
        slope, bias = fit_platt(log_odds, [1, 1, 0, 0])
        assert math.isfinite(bias) and slope > 0
        # Two of each kind: targets 3/4 and 1/4. No P is much surer than that of three in four.
        assert sigmoid(slope * np.array(log_odds) + bias).max() < 0.9
    assert fit_platt([1, 2, 3], [1, 1, 1]) == (near(0), near(log(4)))  # all better: 4/5 whatever the judge says


def test_platt_is_deterministic_and_leaves_out_what_cannot_be_used() -> None:
    x, h = [0.3, -1.2, 2.0, 0.1], [1, 0, 0.67, 0.33]
    assert fit_platt(x, h) == fit_platt(x, h)
    assert fit_platt([*x, nan, 5.0, math.inf], [*h, 1, None, 1]) == fit_platt(x, h)


@pytest.mark.parametrize(("log_odds", "human"), [([], []), ([1.0], [1]), ([1.0, nan], [1, 0]), ([2.0, 2.0], [1, 0])])
def test_platt_says_when_there_is_too_little(log_odds: list[float], human: list[float]) -> None:
    with pytest.raises(ValueError, match="too few to fit"):
        fit_platt(log_odds, human)
