"""Credit, bursts and the human reward: by hand on small numbers, then that it learns what it is taught."""

import numpy as np
import pytest

from cai.core.records import Message
from cai.train.live.features import STATISTICS, AnswerFeatures, statistics
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


def plain(states: np.ndarray, *counted: float) -> AnswerFeatures:
    """An answer of which these states are read, and of its text as good as nothing."""
    return AnswerFeatures(np.asarray(states, float), np.array(counted or [0.0]))


def whole(answer: int, value: float, tokens: int = 1) -> Example:
    return Example(answer, value, np.full(tokens, 1 / tokens))


def test_one_feedback_by_hand():
    """Two answers of one token, one feature, -1 and 1 when standardised. The kernel is x y / 2 + 1, so of the one
    feedback with itself 1.5, with the other answer 0.5."""
    answers = [plain([[-3.0]]), plain([[5.0]])]
    learned = fit(answers, [whole(1, 2.0)])
    mean, error = learned.predict(answers)
    assert mean == pytest.approx(2.0 * np.array([0.5, 1.5]) / (1.5 + learned.noise))
    assert learned.variance == pytest.approx((4 / (1.5 + learned.noise) + 1) / 2)
    assert error**2 == pytest.approx(learned.variance * (1.5 - np.array([0.5, 1.5]) ** 2 / (1.5 + learned.noise)))


def test_one_choice_by_hand():
    """The same two answers. Of a choice the level is gone: the feature differs by 2, so its kernel with itself is 2,
    with the two answers -1 and 1; that the second was taken is a value of -1 for the first over the second."""
    answers = [plain([[-3.0]]), plain([[5.0]])]
    learned = fit(answers, [Example(0, -1.0, over=1)])
    mean, error = learned.predict(answers)
    assert mean == pytest.approx(np.array([-1.0, 1.0]) / (2 + learned.noise))
    assert error**2 == pytest.approx(learned.variance * (1.5 - 1 / (2 + learned.noise)) * np.ones(2))
    turned = fit(answers, [Example(1, 1.0, over=0)])
    assert turned.predict(answers)[0] == pytest.approx(mean), "which of them stood on the left says nothing"


def test_credit_says_which_token_it_was():
    """Each answer has a token of kind 0 and one of kind 1, and the feedback is about one of them."""
    kinds = np.eye(2)
    alone = [plain(kinds[:1]), plain(kinds[1:])]
    answers = [plain(kinds)] * 4 + alone  # the last two have no feedback
    examples = [
        Example(i, 1.0 if i % 2 else -1.0, np.array([1.0, 0.0]) if i % 2 else np.array([0.0, 1.0])) for i in range(4)
    ]
    good, bad = fit(answers, examples).predict(alone)[0]
    assert good > 0.5 and bad < -0.5
    # The same feedback on the whole of each answer contradicts itself.
    blurred = fit(answers, [Example(example.answer, example.value, np.array([0.5, 0.5])) for example in examples])
    assert blurred.predict(alone)[0] == pytest.approx([0, 0], abs=1e-9)


def simulated(seed: int, answers: int, noise: float) -> tuple[list[AnswerFeatures], list[Example], np.ndarray]:
    """Answers, a feedback on each that is linear in its mean state plus noise, and the true function."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal(12)
    states = [rng.standard_normal((6, 12)) for _ in range(answers)]
    values = [states_TD.mean(0) @ truth + noise * rng.standard_normal() for states_TD in states]
    return [plain(s) for s in states], [whole(i, value, 6) for i, value in enumerate(values)], truth


def test_it_finds_a_linear_reward_and_its_error_bar_holds():
    inside = []
    for seed in range(30):
        states, examples, truth = simulated(seed, 60, 0.5)
        fresh = np.random.default_rng(1000 + seed).standard_normal((20, 12)) / 6**0.5
        mean, error = fit(states, examples).predict([plain(state_D[None]) for state_D in fresh])
        assert np.corrcoef(mean, fresh @ truth)[0, 1] > 0.9
        inside += (abs(mean - fresh @ truth) < 1.96 * error).tolist()
    assert 0.9 < np.mean(inside) < 0.99


def test_an_answer_left_out_is_predicted_as_if_it_had_never_been():
    states, examples, _ = simulated(3, 12, 0.1)
    examples += [whole(5, 2.0, 6), Example(5, -1.0, np.eye(6)[2])]  # three feedbacks on one answer
    learned = fit(states, examples)
    others = [example for example in examples if example.answer != 5]
    kept = [i for i, example in enumerate(examples) if example.answer != 5]
    gone = [i for i, example in enumerate(examples) if example.answer == 5]
    inverse = np.linalg.inv(np.linalg.inv(learned.inverse_NN)[np.ix_(kept, kept)])
    x = learned.seen_ND
    by_hand = (x[gone] @ x[kept].T + 1) @ inverse @ [example.value for example in others]
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
    true = np.array([example.value for example in examples[20:]])
    off = [abs(learned.predict(states[20:])[0] - true).mean() for learned in (spoken, zeros)]
    assert off[0] < off[1] / 2


def test_draws_have_the_posteriors_mean_and_spread_and_are_seeded():
    states, examples, _ = simulated(4, 10, 0.5)
    learned = fit(states, examples)
    asked = [plain(state_D[None]) for state_D in np.random.default_rng(9).standard_normal((3, 12))]
    draws = np.stack([learned.draw(asked, seed) for seed in range(4000)])
    mean, error = learned.predict(asked)
    assert draws.mean(0) == pytest.approx(mean, abs=4 * error.max() / 4000**0.5)
    assert draws.std(0) == pytest.approx(error, rel=0.06)
    assert np.array_equal(learned.draw(asked, 7), learned.draw(asked, 7))


def test_features_that_never_differ_do_no_harm():
    answers = [plain([[1.0, 5.0], [2.0, 5.0]], 3.0), plain([[3.0, 5.0]], 3.0)]
    learned = fit(answers, [whole(0, -1.0, 2), whole(1, 1.0)])
    mean, error = learned.predict([*answers, plain([[3.0, 9.0]], 7.0)])
    assert mean[0] < mean[1] and np.isfinite([*mean, *error]).all()
    assert mean[2] == pytest.approx(mean[1]), "what it was never shown to differ by says nothing"


def planted(seed: int, answers: int, of_text: bool) -> tuple[list[AnswerFeatures], np.ndarray]:
    """Answers with 200 states and eight counts of the text, and a taste: a count, or a direction of states."""
    rng = np.random.default_rng(seed)
    read = [plain(rng.standard_normal((4, 200)), *rng.standard_normal(8)) for _ in range(answers)]
    taste = [answer.statistics_F[3] if of_text else answer.states_TD.mean(0) @ np.full(200, 0.1) for answer in read]
    return read, np.array(taste)


@pytest.mark.parametrize("flips", [0.0, 0.1])
def test_a_planted_preference_is_recovered_from_a_hundred_choices(flips):
    """Also where one choice in ten is the wrong key. The best of eight is 1.42 sd above the mean."""
    gains = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        read, taste = planted(seed, 200 + 160, of_text=True)
        signs = np.sign(taste[:200:2] - taste[1:200:2]) * np.where(rng.random(100) < flips, -1, 1)
        learned = fit(read[:200], [Example(2 * i, float(sign), over=2 * i + 1) for i, sign in enumerate(signs)])
        for start in range(200, 360, 8):
            gains.append(taste[start + int(np.argmax(learned.predict(read[start : start + 8])[0]))])
    assert np.mean(gains) > 0.9


def test_a_taste_that_no_count_knows_is_found_in_the_states():
    read, taste = planted(1, 400, of_text=False)
    examples = [Example(2 * i, float(np.sign(taste[2 * i] - taste[2 * i + 1])), over=2 * i + 1) for i in range(200)]
    assert fit(read, examples).correlation() > 0.15


def test_choices_and_presses_are_learned_from_together():
    """A press says how good, a choice how much better: both move the same function."""
    answers = [plain([[-1.0]]), plain([[1.0]]), plain([[0.0]])]
    both = fit(answers, [whole(2, 1.0), Example(1, 1.0, over=0)])
    mean, _ = both.predict(answers)
    assert mean[0] < mean[2] < mean[1] and mean[2] > 0
    assert both.level_N.tolist() == [1.0, 0.0]


def test_what_is_counted_of_a_text():
    asked = (Message("system", "You are curt."), Message("user", "How do I sharpen a kitchen knife?"))
    counted = dict(zip(STATISTICS, statistics(asked, "You sharpen it, I think.\n* Is it 12 or 3?"), strict=True))
    # Ten words: "You sharpen it, I think.", the mark, "Is it 12 or 3?" has five: eleven in all.
    assert counted["log words"] == pytest.approx(np.log(12))
    assert counted["ended"] == 1 and counted["words a sentence"] == pytest.approx(11 / 2)
    by_words = {"lines": 1, "list marks": 1, "digits": 3, "questions": 1, "exclamations": 0, "commas": 1}
    by_words |= {"first person": 1, "second person": 1}
    by_words |= {"different words": 11}  # "it," is not "it"
    assert {name: counted[name] * 11 for name in by_words} == pytest.approx(by_words)
    # Of "sharpen", "kitchen", "knife" one is taken up; it is one of the answer's two words of four letters and more.
    assert counted["of the prompt's words"] == pytest.approx(1 / 3)
    assert counted["from the prompt"] == pytest.approx(1 / 2)


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "?!", "日本語です。", "é" * 5000])
def test_any_text_can_be_counted(text):
    assert np.isfinite(statistics((), text)).all()
