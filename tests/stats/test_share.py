"""One gain as a share of another: Fieller's sets by hand, against the test that they turn round, and in simulation."""

from math import inf, isnan
from statistics import NormalDist

import numpy as np
import pytest

from cai.stats.crossed import half_width, spread
from cai.stats.share import Share, at_most_zero, share

FOUR = list("wxyz")  # with one seed: t of 3 degrees of freedom is 3.18245, squared 10.128


def column(*values: float) -> np.ndarray:
    return np.asarray(values, float)[:, None]


def test_fiellers_interval_by_hand() -> None:
    # Means 1 and 3; variances of the means 1/6 and 1/3, covariance 1/6:
    # (9 - 10.128/3) r^2 - 2 (3 - 10.128/6) r + (1 - 10.128/6) <= 0, so r = (1.312 +- 2.364) / 5.624.
    found = share(column(1, 0, 1, 2), column(2, 2, 4, 4), FOUR)
    assert (found.form, found.n, found.clusters, found.seeds) == ("interval", 4, 4, 1)
    assert (found.value, found.low, found.high) == pytest.approx((1 / 3, -0.1871, 0.6537), abs=1e-4)


def test_a_denominator_that_may_be_nothing_leaves_out_what_lies_between() -> None:
    # Means 6 and 1; variances 1/6 and 4/3, covariance 1/3: -12.504 r^2 - 5.248 r + 34.312 <= 0.
    found = share(column(6, 5, 6, 7), column(-1, -1, 3, 3), FOUR)
    assert (found.form, found.value) == ("outside", 6)
    assert (found.low, found.high) == pytest.approx((-1.8796, 1.4599), abs=1e-4)


def test_where_neither_can_be_told_from_nothing_every_share_is_believable() -> None:
    # -12.504 r^2 + 6.752 r - 1.688 is below 0 everywhere: its discriminant is.
    found = share(column(0, -1, 0, 1), column(-1, -1, 3, 3), FOUR)
    assert (found.form, found.value, found.low, found.high) == ("anything", 0, -inf, inf)


@pytest.mark.parametrize(
    ("part", "whole", "names", "value"),
    [
        (column(1, 1, 1, 1), column(2, 2, 2, 2), FOUR, 0.5),  # nothing varies
        (column(1, 2), column(2, 5), ["w", "w"], 3 / 7),  # one prompt
    ],
)
def test_without_anything_to_vary_by_there_is_no_interval(part, whole, names, value) -> None:
    found = share(part, whole, names)
    assert found.form == "unknown" and found.value == pytest.approx(value) and isnan(found.low) and isnan(found.high)


def test_no_rows_and_rows_with_a_gap() -> None:
    assert share(np.empty((0, 3)), np.empty((0, 3)), []).form == "unknown"
    part, whole = column(1, 0, 9, 1, 2), column(2, 2, np.nan, 4, 4)
    assert share(part, whole, ["w", "x", "v", "y", "z"]) == share(column(1, 0, 1, 2), column(2, 2, 4, 4), FOUR)


@pytest.mark.parametrize(
    ("coefficients", "spans"),
    [
        ((1, -3, 2), [(1, 2)]),
        ((-1, 3, -2), [(-inf, 1), (2, inf)]),
        ((1, 0, 1), []),
        ((-1, 0, -1), [(-inf, inf)]),
        ((1, 0, -4), [(-2, 2)]),
        ((1, 2, 0), [(-2, 0)]),
        ((1, 0, 0), [(0, 0)]),
        ((0, 2, -4), [(-inf, 2)]),
        ((0, -2, 4), [(2, inf)]),
        ((0, 0, 1), []),
        ((0, 0, 0), [(-inf, inf)]),
    ],
)
def test_quadratic_inequalities(coefficients, spans) -> None:
    assert at_most_zero(*map(float, coefficients)) == spans


def holds(found: Share, r: float) -> bool:
    if found.form == "interval":
        return found.low <= r <= found.high
    return found.form != "outside" or r <= found.low or r >= found.high


@pytest.mark.parametrize("seeds", [1, 2, 3, 6])
def test_a_share_is_believable_where_the_crossed_test_cannot_tell_its_difference_from_nothing(seeds) -> None:
    rng, forms = np.random.default_rng(seeds), set()
    for _ in range(60):
        names = rng.integers(12, size=30)
        whole = rng.normal(size=12)[names][:, None] / 2 + rng.normal(size=(30, seeds)) + rng.normal(size=seeds) / 5
        part = whole * rng.uniform(-0.5, 1) + rng.normal(size=(30, seeds)) + rng.normal(size=seeds) / 5
        part, whole = part + rng.uniform(0, 0.5), whole + rng.choice([0, 0.6, 1.5])
        found = share(part, whole, names)
        forms.add(found.form)
        for r in rng.normal(scale=3, size=40):
            difference = spread(part - r * whole, names)
            assert holds(found, r) == (abs(difference.value) <= half_width(difference)), (found, r)
    assert forms == {"interval", "outside", "anything"} or seeds == 2  # two seeds tell hardly anything


def experiment(rng: np.random.Generator, levels: list[float], sd: tuple[float, float, float]):
    """Right or wrong of three arms, (part, whole, null), 6 seeds, 100 prompts of three pairs; the truth is exact."""
    prompts, rows, seeds, common, own = 100, 3, 6, 0.7, 0.5
    names = np.repeat(np.arange(prompts), rows)
    together = rng.normal(0, common, prompts)
    arms = []
    for level, of_seeds in zip(levels, sd, strict=True):
        # Prompts, seeds and pairs are normal on the scale of a probit: the mean is the level, whatever they vary by.
        centre = NormalDist().inv_cdf(level) * np.sqrt(1 + common**2 + own**2 + of_seeds**2)
        by_prompt = (together + rng.normal(0, own, prompts))[names][:, None]
        latent = centre + by_prompt + rng.normal(0, of_seeds, seeds) + rng.normal(size=(len(names), seeds))
        arms.append((latent > 0).astype(float))
    part, whole, null = arms
    return part - null, whole - null, names


@pytest.mark.slow
@pytest.mark.parametrize("sd", [(0.05, 0.05, 0.05), (0.1, 0.1, 0.3), (0.2, 0.2, 0.6)])
@pytest.mark.parametrize(("gain", "true"), [(0.3, 0.0), (0.3, 0.6), (0.3, 1.0), (0.15, 0.5), (0.07, 0.5), (0.03, 1.0)])
def test_the_set_holds_the_true_share_in_95_of_100_experiments(gain, true, sd) -> None:
    rng = np.random.default_rng(round(1000 * (gain + true + sd[2])))
    found = [share(*experiment(rng, [0.5 + true * gain, 0.5 + gain, 0.5], sd)) for _ in range(1200)]
    assert 0.93 <= np.mean([holds(one, true) for one in found]) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("sd", [(0.05, 0.05, 0.05), (0.1, 0.1, 0.3)])
def test_where_people_give_nothing_over_a_coin_a_share_is_given_in_5_of_100_experiments(sd) -> None:
    rng = np.random.default_rng(7)
    found = [share(*experiment(rng, [0.6, 0.5, 0.5], sd)).form for _ in range(1200)]
    assert 0.93 <= np.mean([form != "interval" for form in found]) <= 0.97
