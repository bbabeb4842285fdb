"""How many human labels a judge is worth: the monotone fit, the crossing, its interval, and what is said of it."""

from math import inf, log, sqrt

import numpy as np
import pytest

from cai.compare.sections.budgets import sentence
from cai.core.records import Estimate
from cai.stats.crossing import Crossing, crossing, isotonic, reached


def test_the_fit_never_falls_and_is_the_nearest():
    fits = isotonic(np.array([[0.5, 0.7, 0.6, 0.8], [3.0, 2.0, 1.0, 1.0], [0.1, 0.2, 0.3, 0.4]]))
    assert fits.tolist() == [
        pytest.approx([0.5, 0.65, 0.65, 0.8]),
        pytest.approx([1.75, 1.75, 1.75, 1.75]),
        pytest.approx([0.1, 0.2, 0.3, 0.4]),
    ]


@pytest.mark.parametrize(
    ("curve", "level", "labels"),
    [
        ([0.6, 0.7, 0.9], 0.65, sqrt(10 * 20)),  # half way between 10 and 20, on a log scale
        ([0.6, 0.7, 0.9], 0.8, sqrt(20 * 80)),
        ([0.6, 0.7, 0.9], 0.7, 20),
        ([0.6, 0.7, 0.9], 0.6, 0),  # reached by the smallest budget: at or below it
        ([0.6, 0.7, 0.9], 0.95, inf),
        ([0.6, 0.8, 0.8], 0.8, 20),  # a plateau is reached where it begins
        ([0.6, 0.8, 0.6], 0.65, 10 * 2**0.5),  # the fit is 0.6, 0.7, 0.7
    ],
)
def test_where_a_curve_reaches_a_level(curve, level, labels):
    assert reached([10, 20, 80], np.array([curve]), np.array([level]))[0] == pytest.approx(labels)


def test_without_any_variation_the_interval_is_the_crossing():
    people = np.stack([np.full((4, 3), 0.4), np.full((4, 3), 0.6)])
    found = crossing([10, 40], people, np.full((4, 3), 0.5), ["p", "p", "q", "r"])
    assert (found.labels, found.low, found.high) == pytest.approx((20, 20, 20))
    assert (found.below, found.above, found.n, found.clusters, found.seeds) == (0, 0, 4, 3, 3)


def test_the_interval_draws_prompts_as_wholes():
    """Of two prompts one crosses at 20 and one below 10, and a mix of both at 10: 1 resample in 4, 3 in 4."""
    people = np.array([[[0.0], [0.0], [1.0]], [[1.0], [1.0], [1.0]]])
    judge = np.full((3, 1), 0.5)
    found = crossing([10, 40], people, judge, ["p", "p", "q"])  # two rows of p, one of q
    # As given (1/3, 1): level 1/2 is a quarter of the way. Resamples: p alone 20, q alone below, both a quarter.
    assert found.labels == pytest.approx(10 * 4**0.25)
    assert (found.low, found.high) == pytest.approx((0, 20))
    assert found.below == pytest.approx(0.25, abs=0.04) and found.above == 0 and found.seeds == 1


def test_seeds_are_drawn_too_one_fewer_than_there_are():
    """Two seeds that cross at 20 and at 10 * 4^(1/3): each resample holds one of them, never their mean."""
    people = np.array([[[0.0, 0.25]] * 2, [[1.0, 1.0]] * 2])
    found = crossing([10, 40], people, np.full((2, 2), 0.5), ["p", "q"])
    assert found.labels == pytest.approx(10 * 4 ** (0.375 / 0.875))
    assert (found.low, found.high) == pytest.approx((10 * 4 ** (1 / 3), 20))


def test_one_prompt_says_nothing_about_others():
    people = np.array([[[0.0]], [[1.0]]])
    found = crossing([10, 40], people, np.array([[0.5]]), ["p"])
    assert found.labels == pytest.approx(20) and (found.low, found.high) == (0, inf)


@pytest.mark.slow
def test_the_interval_covers_a_known_crossing():
    """200 simulated experiments: 40 prompts of 3 pairs, 3 seeds; the true curves cross at the middle budget, 40.

    Two-way resampling is meant to be careful: at least 93% are covered.
    """
    budgets, rng, hits = [10, 20, 40, 80, 160], np.random.default_rng(0), 0
    truth = 0.6 + 0.1 * (np.log(budgets) - log(10)) / log(4)
    clusters = np.repeat(np.arange(40), 3)
    for _ in range(200):
        prompt = rng.normal(0, 0.12, (1, 40, 1)).repeat(3, axis=1)
        of_seed = rng.normal(0, 0.03, (len(budgets) + 1, 1, 3))
        chance = np.clip(np.append(truth, 0.7)[:, None, None] + prompt + of_seed, 0, 1)
        right = (rng.random((len(budgets) + 1, 120, 3)) < chance).astype(float)
        found = crossing(budgets, right[:-1], right[-1], clusters, resamples=300)
        hits += found.low <= 40 <= found.high
    assert hits >= 186


JUDGE = {"labels": 88, "agreement": Estimate(0.7, 0.62, 0.78, 100, 28)}


@pytest.mark.parametrize(
    ("labels", "low", "high", "said"),
    [
        (31.6, 0, 70.2, "About 32 human labels (arm human) do as well as the reward model of arm ai, from "),
        (31.6, 0, 70.2, "people on 70% [62, 78] of held-out pairs (95%: below 11 to 70; 28 prompts, 3 seeds)."),
        (0, 0, 30, "Not crossed within the budgets, because the human labels start above: already 11 of them"),
        (inf, 40, inf, "because the human labels stay below: 88 of them (arm human) do not do as well as"),
        (inf, 40, inf, "(95%: 40 to more than 88; 28 prompts, 3 seeds)"),
        (20, 0, inf, "anything from below 11 to more than 88, so these budgets cannot tell"),
    ],
)  # fmt: skip
def test_what_is_said(labels, low, high, said):
    found = Crossing(labels, low, high, 0.0, 0.0, 100, 28, 3)
    assert said in sentence(found, [11, 88], JUDGE, ("ai", "human"))
