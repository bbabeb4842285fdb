"""Credit, bursts and the human reward: by hand on small numbers, then that it learns what it is taught."""

import numpy as np
import pytest

from cai.train.live.tamer import Example, bursts, credit, fit

# One token a second. The window reaches from 4.0 to 0.2 seconds before the key: 3.8 seconds.
SHOWN = [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_feedback_is_about_what_was_new_in_the_window_before_it():
    # At 5.0, while it streams: seconds 1.0 to 4.8. Tokens 1, 2, 3 for a second each, and the newest for 0.8.
    assert credit(SHOWN, 5.0, None) == pytest.approx([0, 1 / 3.8, 1 / 3.8, 1 / 3.8, 0.8 / 3.8])
    # At 1.7: seconds -2.3 to 1.5. What was before the first token is left out: 1.0 and 0.5 of 1.5.
    assert credit(SHOWN, 1.7, None) == pytest.approx([2 / 3, 1 / 3, 0, 0, 0])


def test_after_the_end_it_is_about_the_last_words_and_then_about_the_whole():
    # The answer was complete at 5.0. At 7.0: seconds 3.0 to 6.8: one each of tokens 3 and 4, and 1.8 of the whole.
    part = 1.8 / 5
    assert credit(SHOWN, 7.0, 5.0) == pytest.approx(np.array([part, part, part, 1 + part, 1 + part]) / 3.8)
    # Later than the window: the whole alone.
    assert credit(SHOWN, 9.0, 5.0) == pytest.approx([0.2] * 5)
    assert credit(SHOWN, 60.0, 5.0) == pytest.approx([0.2] * 5)
    # While more is to come the newest token stays the newest, however long it takes.
    assert credit(SHOWN, 60.0, None) == pytest.approx([0, 0, 0, 0, 1])


def test_what_nobody_can_have_seen_gets_no_credit():
    assert credit(SHOWN, 0.1, None) is None, "within the least delay of the first token"
    assert credit([], 3.0, None) is None
    assert credit(SHOWN, 0.7, 5.0) == pytest.approx([1, 0, 0, 0, 0])


def test_the_window_is_the_delay():
    assert credit(SHOWN, 3.5, None, window=(0.0, 0.5)) == pytest.approx([0, 0, 0, 1, 0])
    assert credit(SHOWN, 3.5, None, window=(1.0, 2.0)) == pytest.approx([0, 0.5, 0.5, 0, 0])


def test_presses_that_follow_each_other_closely_are_one_feedback():
    presses = [(5.0, 1.0), (1.0, -1.0), (1.4, -1.0), (1.9, -1.0), (2.5, 1.0)]
    assert bursts(presses) == [(1.0, -3.0), (2.5, 1.0), (5.0, 1.0)]
    assert bursts([(1.0, 1.0), (1.2, -1.0), (4.0, 1.0)]) == [(4.0, 1.0)], "a press that is taken back is no opinion"
    assert bursts([]) == []


def whole(answer: int, value: float, tokens: int = 1) -> Example:
    return Example(answer, np.full(tokens, 1 / tokens), value)


def test_one_feedback_by_hand():
    """Two answers of one token, one feature, -1 and 1 when standardised. The kernel is x y + 1, so of the one feedback
    with itself 2, with the other answer 0: nothing is said of that one."""
    states = [np.array([[-3.0]]), np.array([[5.0]])]
    learned = fit(states, [whole(1, 2.0)])
    known = 2 / (2 + learned.noise)
    mean, error = learned.predict(np.array([[-3.0], [5.0]]))
    assert mean == pytest.approx([0.0, 2.0 * known])
    assert learned.variance == pytest.approx((4 / (2 + learned.noise) + 1) / 2)
    assert error**2 == pytest.approx(learned.variance * np.array([2.0, 2 - 2 * known]))


def test_credit_says_which_token_it_was():
    """Each answer has a token of kind 0 and one of kind 1, and the feedback is about one of them."""
    kinds = np.eye(2)
    states = [kinds, kinds, kinds, kinds]
    examples = [
        Example(i, np.array([1.0, 0.0]) if i % 2 else np.array([0.0, 1.0]), 1.0 if i % 2 else -1.0) for i in range(4)
    ]
    good, bad = fit(states, examples).predict(kinds)[0]
    assert good > 0.5 and bad < -0.5
    # The same feedback on the whole of each answer contradicts itself.
    blurred = fit(states, [Example(one.answer, np.array([0.5, 0.5]), one.value) for one in examples])
    assert blurred.predict(kinds)[0] == pytest.approx([0, 0], abs=1e-9)


def simulated(seed: int, answers: int, noise: float) -> tuple[list[np.ndarray], list[Example], np.ndarray]:
    """States, a feedback on each answer that is linear in them plus noise, and the true function."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal(12)
    states = [rng.standard_normal((6, 12)) for _ in range(answers)]
    values = [one.mean(0) @ truth + noise * rng.standard_normal() for one in states]
    return states, [whole(i, value, 6) for i, value in enumerate(values)], truth


def test_it_finds_a_linear_reward_and_its_error_bar_holds():
    inside = []
    for seed in range(30):
        states, examples, truth = simulated(seed, 60, 0.5)
        fresh = np.random.default_rng(1000 + seed).standard_normal((20, 12))
        mean, error = fit(states, examples).predict(fresh)
        assert np.corrcoef(mean, fresh @ truth)[0, 1] > 0.9
        inside += (abs(mean - fresh @ truth) < 1.96 * error).tolist()
    assert 0.9 < np.mean(inside) < 0.99


def test_an_answer_left_out_is_predicted_as_if_it_had_never_been():
    states, examples, _ = simulated(3, 12, 0.1)
    examples += [whole(5, 2.0, 6), Example(5, np.eye(6)[2], -1.0)]  # three feedbacks on one answer
    learned = fit(states, examples)
    others = [one for one in examples if one.answer != 5]
    kept = [i for i, one in enumerate(examples) if one.answer != 5]
    gone = [i for i, one in enumerate(examples) if one.answer == 5]
    inverse = np.linalg.inv(np.linalg.inv(learned.inverse_NN)[np.ix_(kept, kept)])
    x = learned.seen_ND
    by_hand = (x[gone] @ x[kept].T / 12 + 1) @ inverse @ [one.value for one in others]
    assert learned.left_out()[gone] == pytest.approx(by_hand)


def test_the_correlation_tells_learning_from_noise():
    states, examples, _ = simulated(1, 60, 0.1)
    assert fit(states, examples).correlation() > 0.8
    rng = np.random.default_rng(0)
    noise = [fit(states, [whole(i, rng.choice([-1.0, 1.0]), 6) for i in range(60)]).correlation() for _ in range(20)]
    assert abs(np.mean([value for value in noise if value is not None])) < 0.3
    assert fit(states, examples[:9]).correlation() is None
    assert fit(states, examples[:10]).correlation() is not None


def test_silence_is_not_zero():
    """Answers without feedback say how features are distributed and nothing else: no reward of 0 is learned of them."""
    states, examples, _ = simulated(2, 40, 0.1)
    spoken = fit(states, examples[:20])
    zeros = fit(states, examples[:20] + [whole(i, 0.0, 6) for i in range(20, 40)])
    assert len(spoken.values_N) == 20
    silent = np.stack([one.mean(0) for one in states[20:]])
    said = np.array([one.value for one in examples[20:]])
    off = [abs(learned.predict(silent)[0] - said).mean() for learned in (spoken, zeros)]
    assert off[0] < off[1] / 2


def test_draws_have_the_posteriors_mean_and_spread_and_are_seeded():
    states, examples, _ = simulated(4, 10, 0.5)
    learned = fit(states, examples)
    asked = np.random.default_rng(9).standard_normal((3, 12))
    draws = np.stack([learned.draw(asked, seed) for seed in range(4000)])
    mean, error = learned.predict(asked)
    assert draws.mean(0) == pytest.approx(mean, abs=4 * error.max() / 4000**0.5)
    assert draws.std(0) == pytest.approx(error, rel=0.06)
    assert np.array_equal(learned.draw(asked, 7), learned.draw(asked, 7))


def test_features_that_never_differ_do_no_harm():
    states = [np.array([[1.0, 5.0], [2.0, 5.0]]), np.array([[3.0, 5.0]])]
    learned = fit(states, [whole(0, -1.0, 2), whole(1, 1.0)])
    mean, error = learned.predict(np.array([[1.5, 5.0], [3.0, 5.0]]))
    assert mean[0] < mean[1] and np.isfinite([*mean, *error]).all()
