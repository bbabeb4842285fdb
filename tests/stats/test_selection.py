"""Which voters labels follow: what is selected, how often anything is where there is nothing, and what weights are."""

import math

import numpy as np
import pytest

from cai.stats.selection import fit_voters, flip_p, predict_voters, select_voters


def data(seed: int, weights: dict[int, float], prompts: int = 60, each: int = 2, columns: int = 20):
    """Independent votes, and labels drawn from the model that is fitted. Returns votes, labels, prompts."""
    rng = np.random.default_rng(seed)
    votes = rng.normal(size=(prompts * each, columns)) * rng.uniform(0.1, 5, size=columns)
    z = sum((w * votes[:, k] / votes[:, k].std() for k, w in weights.items()), np.zeros(len(votes)))
    labels = (rng.uniform(size=len(votes)) < 1 / (1 + np.exp(-z))).astype(float)
    return votes, labels, np.repeat(np.arange(prompts), each)


def test_three_planted_voters_are_found_with_their_signs_and_nothing_else() -> None:
    found = false = 0
    for seed in range(20):
        chosen = select_voters(*data(seed, {3: 2.0, 7: -2.0, 11: 2.0}), seed=seed, flips=500)
        weights = chosen.weights
        found += len({3, 7, 11} & weights.keys()) >= 2
        false += bool(weights.keys() - {3, 7, 11})
        assert all((weights[k] > 0) == (k != 7) for k in {3, 7, 11} & weights.keys())
    assert found >= 18 and false <= 3  # at 5%, more than 3 of 20 come once in 60 times


def test_of_labels_that_follow_nobody_one_in_twenty_gives_a_false_alarm() -> None:
    alarms = sum(bool(select_voters(*data(seed, {}), seed=seed, flips=300).voters) for seed in range(200))
    assert 2 <= alarms <= 19  # 10 of 200 are expected: 99.5% of binomial draws lie here


def test_prompts_whose_rows_are_copies_count_once() -> None:
    """20 prompts of 10 equal rows are 20 observations: as rows they would be 200, and everything significant."""
    alarms = 0
    for seed in range(60):
        votes, labels, prompts = data(seed, {}, prompts=20, each=1)
        alarms += bool(
            select_voters(np.repeat(votes, 10, 0), np.repeat(labels, 10), np.repeat(prompts, 10), flips=300).voters
        )
    assert alarms <= 8


def test_four_prompts_by_hand() -> None:
    """Votes of 1 for what four prompts prefer: scores of 1/2 each, so T = 2 / 1. Of the 16 sign patterns 2 reach it."""
    votes, labels = [[1.0], [1.0], [-1.0], [1.0]], [1.0, 1.0, 0.0, 1.0]
    (alone,), (family,) = flip_p(votes, labels, [0, 1, 2, 3], flips=20000)
    assert alone == family == pytest.approx(2 / 16, abs=0.01)


def test_what_another_voter_explains_is_no_evidence_of_its_own() -> None:
    alone, beyond = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        true = rng.normal(size=200)
        shadow = (true + rng.normal(size=200))[:, None]
        labels = (rng.uniform(size=200) < 1 / (1 + np.exp(-2 * true))).astype(float)
        alone.append(flip_p(shadow, labels, np.arange(200), flips=300)[0][0])
        beyond.append(flip_p(shadow, labels, np.arange(200), given=true[:, None], flips=300)[0][0])
    assert max(alone) < 0.01 and sum(p <= 0.05 for p in beyond) <= 8  # 3 are expected
    assert np.mean(beyond) == pytest.approx(0.5, abs=0.12)


def test_a_voter_that_later_ones_make_needless_is_dropped() -> None:
    """The sum of two is taken before either; with both it says nothing more."""
    dropped = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        one, two = rng.normal(size=(2, 300))
        blend = one + two + rng.normal(size=300) * 0.8
        labels = (rng.uniform(size=300) < 1 / (1 + np.exp(-3 * one - 3 * two))).astype(float)
        chosen = select_voters(np.stack([blend, one, two], 1), labels, np.arange(300), flips=500)
        dropped += {v.column for v in chosen.voters} == {1, 2} and chosen.dropped == (0,)
    assert dropped >= 6


def test_weights_are_those_of_the_penalised_likelihood_and_do_not_depend_on_scale() -> None:
    """One column of +-1, 30 of 40 labels with it: the slope is 0 where 40 (0.75 - sigmoid(w)) = w."""
    votes = np.array([[1.0]] * 20 + [[-1.0]] * 20)
    labels = np.array([1.0] * 15 + [0.0] * 5 + [0.0] * 15 + [1.0] * 5)
    (weight,) = fit_voters(votes, labels)
    assert 40 * (0.75 - 1 / (1 + math.exp(-weight))) == pytest.approx(weight, abs=1e-6)
    assert fit_voters(10 * votes, labels)[0] == pytest.approx(weight / 10)
    assert predict_voters(10 * votes, {0: weight / 10})[:1] == pytest.approx([weight])
    soft = fit_voters(np.array([[1.0], [-1.0]] * 20), np.array([0.75, 0.25] * 20))  # the same, said softly
    assert soft[0] == pytest.approx(weight)


def test_a_silent_voter_has_no_say_and_one_that_never_speaks_is_never_taken() -> None:
    votes, labels, prompts = data(0, {0: 3.0}, columns=3)
    votes[:, 1] = math.nan
    votes[::4, 0] = math.nan
    chosen = select_voters(votes, labels, prompts, flips=500)
    assert chosen.weights.keys() == {0} and chosen.next_column == 2 and chosen.next_p > 0.05
    assert predict_voters(votes, chosen.weights)[0] == 0 and fit_voters(votes, labels)[1] == 0
    (nobody,) = flip_p(votes[:, [1]], labels, prompts)[0]
    assert nobody == 1


def test_no_more_are_taken_than_asked_for() -> None:
    votes, labels, prompts = data(1, {0: 2.0, 1: 2.0, 2: 2.0}, prompts=100)
    chosen = select_voters(votes, labels, prompts, most=1, flips=300)
    assert len(chosen.voters) == 1 and chosen.next_p <= 0.05
