"""Few human labels and many of a judge's: by hand, beside the authors' own library, and coverage by simulation."""

from math import isnan, nan, sqrt
from statistics import NormalDist

import numpy as np
import pytest

from cai.core.records import Estimate
from cai.stats.crossed import half_width, spread
from cai.stats.ppi import DIFFERENCE, Powered, difference, powered

T3 = 3.182446305284263  # t of three degrees of freedom, 97.5%


def test_by_hand_with_a_judge_that_is_always_a_point_too_high() -> None:
    """y 0, 2, 4, 6 and f = y + 1; four more of 1, 1, 3, 3. a = (-3, -1, 1, 3)/4 = the labelled part of b; the rest of b
    is (1, 1, -1, -1)/4. So a b = 20/16, b b = 24/16, w = 5/6: 3 + 5/6 (2 - 4) = 4/3; and the squares of a - w b are
    20/16/36 for the labelled and 25/36 4/16 for the others, 120/576 in all, times 4/3."""
    found = powered([0, 2, 4, 6, nan, nan, nan, nan], [1, 3, 5, 7, 1, 1, 3, 3], range(8), reach=None)
    assert found.weight == pytest.approx(5 / 6)
    assert found.estimate.value == pytest.approx(4 / 3)
    assert found.estimate.high - found.estimate.value == pytest.approx(T3 * sqrt(120 / 576 * 4 / 3))
    assert found.alone.value == 3 and found.alone.high - 3 == pytest.approx(T3 * sqrt(20 / 16 * 4 / 3))
    assert (found.estimate.n, found.estimate.clusters, found.alone.n, found.alone.clusters) == (8, 8, 4, 4)


def test_shares_get_two_labels_more_for_their_interval() -> None:
    """Nine of twelve right: the centre is that of ten of fourteen, and nine (1/4)^2, three (3/4)^2 and one more of each
    are 46/16, over 14^2."""
    found = powered([1] * 9 + [0] * 3, [1] * 12, range(12))
    half = 2.200985160082949 * sqrt(46 / 16 / 14**2 * 12 / 11)
    assert found.alone == found.estimate and found.weight == 0 and found.worth == 0
    assert found.alone.value == 0.75
    assert (found.alone.low, found.alone.high) == pytest.approx((10 / 14 - half, 10 / 14 + half))
    assert powered([0, 0, 0, 0], [0, 0, 0, 0], range(4), reach=DIFFERENCE).alone.low < 0


def test_the_authors_library_says_nearly_the_same() -> None:
    """ppi-python 0.2.3, ppi_mean_ci(Y, Yhat, Yhat_unlabeled, alpha=0.05): 0.19174 [0.05834, 0.32514] with its own
    lambda, and 0.17704 for people alone. It takes z for t (2.0227 at 39 degrees of freedom), and pools the covariance.
    """
    i = np.arange(240)
    f = np.sin(1.7 * i) + 0.3 * np.cos(0.9 * i * i)
    y = np.where(i < 40, 0.8 * f + 0.5 * np.cos(2.3 * i + 1) + 0.2, nan)
    found = powered(y, f, i, reach=None)
    assert found.estimate.value == pytest.approx(0.19174089, abs=1e-3)
    assert found.estimate.high - found.estimate.value == pytest.approx(0.1334021 * 2.0227 / 1.95996, rel=0.02)
    assert found.alone.value == pytest.approx(0.1770352, abs=1e-7)


def test_prompts_not_rows_are_what_varies() -> None:
    """Each row four times says nothing more: the same interval; and the order of the rows does not matter."""
    rng = np.random.default_rng(0)
    y, f = rng.normal(size=60), rng.normal(size=60)
    y[20:] = nan
    once = powered(y, f, range(60), reach=None)
    four = powered(np.repeat(y, 4), np.repeat(f, 4), np.repeat(range(60), 4), reach=None)
    assert (four.estimate.low, four.estimate.high) == pytest.approx((once.estimate.low, once.estimate.high))
    assert four.worth == pytest.approx(4 * once.worth)
    order = rng.permutation(60)
    again = powered(y[order], f[order], order, reach=None)
    assert (again.estimate.low, again.weight) == pytest.approx((once.estimate.low, once.weight))


def test_rows_of_a_labelled_prompt_without_a_label_are_the_judges() -> None:
    """One prompt's two rows, one labelled: their parts are added before they are squared."""
    y, f = [1.0, nan, 0.0, nan, 4.0, nan], [1.0, 1.0, 0.0, 0.0, 4.0, 4.0]
    found = powered(y, f, ["p", "p", "q", "q", "r", "r"], reach=None)
    # The judge's labelled and other rows are alike prompt by prompt: nothing is left of b, so people alone count.
    assert found.weight == 0 and found.estimate.value == pytest.approx(5 / 3)


def test_seeds_are_a_second_factor_as_everywhere() -> None:
    """With all rows labelled it is the crossed interval of cai/stats/crossed.py; one seed is for this seed only."""
    rng = np.random.default_rng(1)
    table = rng.normal(size=(30, 4)) + rng.normal(size=4) + rng.normal(size=(30, 1))
    found = powered(table, table, range(30), reach=None)
    crossed = spread(table, np.arange(30))
    assert found.seeds == 4 and found.estimate.value == pytest.approx(crossed.value)
    assert found.estimate.high - found.estimate.value == pytest.approx(half_width(crossed))
    one = powered(table[:, 0], table[:, 0], range(30), reach=None)
    assert one.estimate.high - one.estimate.value == pytest.approx(half_width(spread(table[:, :1], np.arange(30))))


def test_where_seeds_alone_are_wider_no_number_of_labels_would_do() -> None:
    rng = np.random.default_rng(2)
    outcome = rng.normal(size=(400, 1)) + 0.01 * rng.normal(size=(400, 2)) + np.array([0.0, 5.0])
    people = np.where(np.arange(400)[:, None] < 40, outcome, nan)
    found = powered(people, outcome - np.array([0.0, 5.0]), range(400), reach=None)
    assert found.worth is None or found.worth >= 0
    assert found.estimate.high - found.estimate.low > 20


def test_without_people_or_with_one_prompt_there_is_no_interval() -> None:
    assert powered([nan, nan], [1, 0], ["a", "b"]).estimate.n == 0
    found = powered([1, 0, nan], [1, 0, 1], ["a", "a", "b"])
    assert found.estimate.n == 3 and isnan(found.estimate.low) and isnan(found.alone.high) and isnan(found.worth or nan)
    assert powered([1, 1, 0], [nan, nan, nan], ["a", "b", "c"]).weight == 0


def test_groups_of_other_prompts_are_compared_by_squares() -> None:
    """0.7 [0.6, 0.9] less 0.5 [0.1, 0.8]: 0.2 - sqrt(0.1^2 + 0.3^2) and 0.2 + sqrt(0.2^2 + 0.4^2)."""
    one, two = (
        Powered(Estimate(*values, 9, 9), Estimate(*values, 9, 9), 0.0, 0.0, 1)
        for values in ((0.7, 0.6, 0.9), (0.5, 0.1, 0.8))
    )
    found = difference(one, two)
    assert (found.low, found.high) == pytest.approx((0.2 - sqrt(0.1), 0.2 + sqrt(0.2)))


# --- coverage ---------------------------------------------------------------------------------------------------------

NORMAL = NormalDist()
JUDGES = {"useless": (0.0, 0.0), "good": (0.85, 0.0), "biased": (0.85, 1.0), "perfect": (1.0, 0.0)}


def experiment(rng, kind: str, labelled: int, rows: int, right: float, prompts: int = 400):
    """People right on `right` of rows; the judge's hidden scale has this correlation with theirs, and this bias."""
    correlation, bias = JUDGES[kind]
    names = np.repeat(np.arange(prompts), rows)
    theirs, other = (rng.normal(0, 0.5, prompts)[names] + rng.normal(size=len(names)) for _ in range(2))
    level = -NORMAL.inv_cdf(right) * sqrt(1.25)
    judge = correlation * theirs + sqrt(1 - correlation**2) * other > level - bias
    return np.where(names < labelled, theirs > level, nan), judge.astype(float), names


def simulated(kind: str, labelled: int, rows: int, right: float, experiments: int = 1000) -> tuple[float, float, float]:
    """(coverage of both, of people alone; mean width of both over that of people alone)."""
    rng = np.random.default_rng(round(labelled + 10 * rows + 100 * right))
    found = [powered(*experiment(rng, kind, labelled, rows, right)) for _ in range(experiments)]
    covered = [
        np.mean([e.low <= right <= e.high for e in column])
        for column in zip(*((x.estimate, x.alone) for x in found), strict=True)
    ]
    ratio = np.mean([(x.estimate.high - x.estimate.low) / (x.alone.high - x.alone.low) for x in found])
    return float(covered[0]), float(covered[1]), float(ratio)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("labelled", [20, 50])
@pytest.mark.parametrize(("kind", "most"), [("useless", 1.01), ("good", 0.92), ("biased", 1.0), ("perfect", 0.7)])
def test_the_interval_holds_the_truth_and_is_never_wider_for_a_judge(kind, most, labelled, rows) -> None:
    """Of a judge that is never wrong few labels cannot tell that it never is: careful, and still far narrower."""
    covered, alone, ratio = simulated(kind, labelled, rows, 0.7)
    assert 0.93 <= covered <= (1.0 if kind == "perfect" else 0.98) and 0.93 <= alone <= 0.98 and ratio <= most


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [20, 50])
def test_seldom_wrong_and_only_one_way_is_not_taken_for_never_wrong(labelled) -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(1000):
        people, _, names = experiment(rng, "perfect", 400, 1, 0.9)
        judge = np.where((people == 1) & (rng.random(400) < 0.06), 0.0, people)
        found.append(powered(np.where(names < labelled, people, nan), judge, names).estimate)
    assert np.mean([e.low <= 0.9 <= e.high for e in found]) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("sd", [0.02, 0.2])
def test_over_prompts_and_seeds(sd) -> None:
    """A mean over other prompts and other seeds; the judge sees each outcome with noise and a bias."""
    rng, hits = np.random.default_rng(5), []
    for _ in range(1000):
        truth = rng.normal(size=(200, 1)) + rng.normal(0, 0.5, (200, 4)) + rng.normal(0, sd, 4)
        judge = truth + rng.normal(0, 0.5, (200, 4)) + 0.7
        found = powered(np.where(np.arange(200)[:, None] < 30, truth, nan), judge, range(200), reach=None).estimate
        hits.append(found.low <= 0 <= found.high)
    assert 0.93 <= np.mean(hits) <= 0.985


@pytest.mark.slow
def test_a_paired_difference_of_shares() -> None:
    """Two policies on the same prompts, one three points better; the judge thinks both are better than they are."""
    rng, hits, ratios = np.random.default_rng(6), [], []
    for _ in range(1000):
        common = rng.normal(0, 0.7, 400)
        first, second = (common + rng.normal(size=400) + shift for shift in (0.4, 0.0))
        judged = [(x + rng.normal(0, 0.5, 400) + 0.5 > 0).astype(float) for x in (first, second)]
        people = (first > 0).astype(float) - (second > 0)
        found = powered(
            np.where(np.arange(400) < 40, people, nan), judged[0] - judged[1], range(400), reach=DIFFERENCE
        )  # fmt: skip
        true = NORMAL.cdf(0.4 / sqrt(1.49)) - 0.5
        hits.append(found.estimate.low <= true <= found.estimate.high)
        ratios.append((found.estimate.high - found.estimate.low) / (found.alone.high - found.alone.low))
    assert 0.93 <= np.mean(hits) <= 0.98 and np.mean(ratios) < 0.95
