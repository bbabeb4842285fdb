from math import isnan, nan

import numpy as np
import pytest

from cai.core.records import Estimate
from cai.stats.agreement import alpha, kappa
from cai.stats.intervals import (
    accuracy,
    auc,
    length_balance,
    mean,
    paired_difference,
    resampled,
    side,
    wilson,
    win_rate,
)


def close(value: float) -> object:
    return pytest.approx(value, abs=5e-4)


def width(estimate: Estimate) -> float:
    return estimate.high - estimate.low


def test_wilson_matches_printed_values() -> None:
    assert wilson(1.0, 10) == (close(0.7225), 1.0)  # 10 / (10 + 3.8415)
    assert wilson(0.0, 10) == (0.0, close(0.2775))
    assert wilson(0.5, 20) == (close(0.2993), close(0.7007))


def test_mean_is_over_rows_and_counts_prompts() -> None:
    estimate = mean([1, 0, 0, 0, 1], ["x", "x", "x", "y", "z"])
    assert (estimate.value, estimate.n, estimate.clusters) == (0.4, 5, 3)
    assert 0 <= estimate.low < 0.4 < estimate.high <= 1


def test_mean_of_two_prompts_runs_from_one_to_the_other() -> None:
    # Each resample is one of (0, 0), (0, 4), (4, 0), (4, 4): a quarter of them all 0 and a quarter all 4.
    estimate = mean([0, 4], ["x", "y"])
    assert (estimate.value, estimate.low, estimate.high) == (2, 0, 4)


def test_mean_with_weights() -> None:
    estimate = mean([1, 0, 7], ["x", "y", "z"], weights=[3, 1, 0])
    assert (estimate.value, estimate.n, estimate.clusters) == (0.75, 2, 2)


def test_equal_outcomes_never_look_certain() -> None:
    assert mean([1] * 10, list(range(10))) == Estimate(1.0, close(0.7225), 1.0, 10, 10)
    assert mean([1] * 10, [0] * 5 + [1] * 5).low == close(0.3424)  # 2 / (2 + 3.8415): two prompts, not ten
    assert mean([0, 1] * 20, np.repeat(range(20), 2)).low == close(0.2993)  # every prompt at exactly one half
    assert mean([0.25] * 4, [0, 1, 2, 3]) == Estimate(0.25, 0.25, 0.25, 4, 4)


def test_one_prompt_says_nothing_about_others() -> None:
    estimate = mean([0.2, 0.4], ["x", "x"])
    assert estimate.value == pytest.approx(0.3) and isnan(estimate.low) and isnan(estimate.high)


def test_nan_rows_are_left_out_and_nothing_left_is_no_data() -> None:
    assert mean([1, nan, 0, 0], ["x", "y", "x", "z"]) == mean([1, 0, 0], ["x", "x", "z"])
    for empty in (mean([], []), mean([nan], ["x"]), auc([], [], []), kappa([], [], []), alpha([])):
        assert isnan(empty.value) and empty.n == empty.clusters == 0


def test_same_seed_same_interval_whatever_the_row_order() -> None:
    values, prompts = np.linspace(0, 1, 30) ** 2, [f"p{i % 7}" for i in range(30)]
    assert mean(values, prompts) == mean(values, prompts)
    backwards = mean(values[::-1], prompts[::-1])
    assert (backwards.low, backwards.high) == pytest.approx((mean(values, prompts).low, mean(values, prompts).high))
    assert mean(values, prompts, seed=1).low != mean(values, prompts).low


def test_repeating_rows_does_not_narrow_the_interval() -> None:
    outcomes = np.array([1, 0] * 15)
    repeated = np.repeat(outcomes, 9)
    clustered = mean(repeated, np.repeat(range(30), 9))
    pretending = mean(repeated, range(270))
    assert width(clustered) == pytest.approx(width(mean(outcomes, range(30))))
    assert 2.5 < width(clustered) / width(pretending) < 3.5  # sqrt(9) = 3


def test_interval_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    prompts = np.repeat(range(40), 4)
    hits = iid_hits = 0
    for _ in range(300):
        values = np.repeat(rng.normal(size=40), 4) + 0.3 * rng.normal(size=160)  # truth: 0
        estimate = mean(values, prompts, resamples=400)
        naive = mean(values, range(160), resamples=400)
        hits += estimate.low <= 0 <= estimate.high
        iid_hits += naive.low <= 0 <= naive.high
    assert 0.90 <= hits / 300 <= 0.98
    assert iid_hits / 300 < 0.80


def test_paired_difference_uses_the_pairing() -> None:
    base = np.array([0.0, 10, 20, 30, 40, 50])
    estimate = paired_difference(base + np.array([1, 2, 3, 1, 2, 3]), base, list("uvwxyz"))
    assert estimate.value == pytest.approx(2)
    assert 1 < estimate.low < 2 < estimate.high < 3  # unpaired, the spread of base would swamp it


def test_paired_difference_of_equal_outcomes() -> None:
    same = paired_difference([1, 0] * 5, [1, 0] * 5, range(10))
    assert (same.value, same.low, same.high) == (0, close(-0.2775), close(0.2775))
    always = paired_difference([1] * 10, [0] * 10, range(10))
    assert (always.value, always.low, always.high) == (1, close(0.4451), 1)  # 2 * 0.7225 - 1


def test_paired_difference_leaves_out_half_rows() -> None:
    estimate = paired_difference([1, nan, 3], [0, 0, nan], list("xyz"))
    assert (estimate.value, estimate.n, estimate.clusters) == (1, 1, 1)


def test_win_rate_counts_ties_as_half_and_reads_probabilities_by_side() -> None:
    assert win_rate([1, 1, 0.5, 0], list("wxyz")).value == 0.625
    assert win_rate([0.9, 0.51, 0.5, 0.2], list("wxyz")).value == 0.625


def test_accuracy() -> None:
    # agree, disagree, people split (left out), judge undecided (half), agree
    estimate = accuracy([0.9, 0.8, 0.9, 0.5, 0.1], [1, 0.33, 0.5, 0.67, 0], list("vwxyz"))
    assert (estimate.value, estimate.n) == (0.625, 4)


def test_length_balance_makes_the_shorter_answer_worth_one_half() -> None:
    human = [1, 1, 1, 0, 1, 0.5]
    len_a, len_b = [5, 5, 5, 9, 9, 1], [9, 9, 9, 5, 5, 2]  # preferred is the shorter in four of five pairs
    weights = length_balance(human, len_a, len_b)
    assert weights == pytest.approx([0.625] * 4 + [2.5, 0])  # 5 / (2 * 4) and 5 / (2 * 1)
    shorter = np.array(len_a) < np.array(len_b)
    assert accuracy(shorter, human, list("uvwxyz")).value == 0.8
    assert accuracy(shorter, human, list("uvwxyz"), weights=weights).value == pytest.approx(0.5)


def test_length_balance_neutral_rows_and_hopeless_data() -> None:
    assert length_balance([1, 0, 1], [1, 1, 4], [2, 2, 4]) == pytest.approx([1, 1, 1])
    only_shorter = length_balance([1, 1], [1, 1], [2, 2])
    assert np.isnan(only_shorter).all()
    assert accuracy([1, 1], [1, 1], ["x", "y"], weights=only_shorter).n == 0


def test_auc_by_hand() -> None:
    # Differences towards the preferred answer: 3, -1, 2. Of the nine sums t_i + t_j only -1 - 1 is below 0.
    estimate = auc([3, -1, -2], [1, 1, 0], list("xyz"))
    assert estimate.value == pytest.approx(8 / 9)
    assert 0 <= estimate.low < estimate.value <= estimate.high <= 1


def test_auc_and_kappa_of_every_resample_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    index, scores, human = rng.integers(9, size=30), rng.integers(-2, 3, size=30) * 1.0, rng.integers(2, size=30) * 1.0
    truth, both = np.concatenate([human, 1 - human]), np.concatenate([scores, -scores])
    theirs = resampled(lambda w: metrics.roc_auc_score(truth, both, sample_weight=np.tile(w, 2)), index, 0, 50)
    ours = auc(scores, human, index, resamples=50)
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=1e-12)
    verdicts = side(0.5 + scores)
    votes = [(2 * votes).astype(int) for votes in (verdicts, human)]
    theirs = resampled(lambda w: metrics.cohen_kappa_score(*votes, labels=[0, 1, 2], sample_weight=w), index, 0, 50)
    ours = kappa(verdicts, human, index, resamples=50)
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=1e-12)


def test_auc_does_not_care_which_answer_is_a() -> None:
    swapped = auc([-3, 1, -2], [0, 0, 0], list("xyz"))
    assert swapped.value == pytest.approx(8 / 9)
    assert auc([0, 0], [1, 0], ["x", "y"]).value == 0.5
    assert auc([1] * 10, [0.9] * 10, range(10)).low == close(0.7225)
    assert auc([1, 5], [1, 0.5], ["x", "y"]).n == 1


def test_repeating_rows_narrows_neither_kappa_nor_auc() -> None:
    rng = np.random.default_rng(2)
    human = rng.integers(2, size=40)
    judge = np.where(rng.uniform(size=40) < 0.8, human, 1 - human)  # right four times in five
    for statistic, scores in ((kappa, judge), (auc, judge - 0.5)):
        once = statistic(scores, human, range(40))
        repeated = statistic(np.repeat(scores, 6), np.repeat(human, 6), np.repeat(range(40), 6))
        assert (repeated.value, repeated.n, repeated.clusters) == (pytest.approx(once.value), 240, 40)
        assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))
        assert width(statistic(np.repeat(scores, 6), np.repeat(human, 6), range(240))) < 0.6 * width(once)
