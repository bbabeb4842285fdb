"""Learning from live feedback, TAMER style (Knox & Stone 2009): numbers in, numbers out.

A person watches an answer appear word by word and now and then says "good" or "bad". Three steps turn that into a
reward for whole answers:

1. *Bursts.* Presses of one person on one answer that follow each other within `BURST` seconds are one feedback, whose
   value is their sum: "several presses add".
2. *Credit* (`credit`). People react late, so a feedback at time t is about what was new on the screen between
   t - d_max and t - d_min. It is spread over the tokens by the probability, under a uniform density of the delay, that
   each was the newest one when the person made up their mind (Knox & Stone 2009, credit assignment; the uniform window
   as in Deep TAMER, Warnell et al. 2018). What falls after the answer's end was said of the answer as a whole, and is
   spread over it evenly: just after the end the last words get most of a feedback, and later than d_max all words get
   the same. What falls before the first token is left out.
3. *Regression* (`fit`). The value of a feedback is the credit-weighted mean of a reward of each token (Knox & Stone
   2009, algorithm 1), which is linear in the token's features. All feedback so far is learned from anew each time, in
   closed form. Silence is not zero: a token, or an answer, without feedback is no example.

Departures: TAMER takes gradient steps, one for each feedback; here the same linear model has a Gaussian prior, and its
posterior (Bayesian linear regression in its dual form: Rasmussen & Williams 2006, sections 2.1 and 5.4.1) gives each
prediction an error bar. The ratio of noise to signal is the one of highest evidence on a grid. The reward of an answer
is the mean over its tokens, so that long answers are not better for being long.

Names end in their shape: N feedbacks, M answers, T tokens of one answer, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WINDOW = (0.2, 4.0)  # seconds between what a person reacts to and the key: the least and the most
BURST = 0.5  # seconds between two presses of one feedback
ANSWERS = 10  # with feedback, before a correlation is worth showing
NOISE = np.logspace(-2, 3, 16)  # variance of a feedback's noise, in units of that of the reward


@dataclass(frozen=True, slots=True)
class Example:
    """One feedback on one answer. credit_T: of each of its tokens, sums to 1. value: signed."""

    answer: int
    credit_T: np.ndarray
    value: float


def bursts(presses: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """(seconds, value) of one person's presses on one answer -> the same of feedbacks, each at its first press.

    Presses that cancel each other were taken back: they leave no feedback.
    """
    made: list[tuple[float, float]] = []
    last = -np.inf
    for at, value in sorted(presses, key=lambda press: press[0]):
        if at - last <= BURST:
            made[-1] = (made[-1][0], made[-1][1] + value)
        else:
            made.append((at, value))
        last = at
    return [(at, value) for at, value in made if value]


def credit(
    shown: Sequence[float], at: float, ended: float | None, window: tuple[float, float] = WINDOW
) -> np.ndarray | None:
    """(T,) credit of each token for a feedback at second `at`; None where nothing was on the screen in time.

    shown: the second at which each token appeared, ascending. ended: the second from which on the answer was known to
    be complete; None while it still grew. window: seconds, the least and the most delay.
    """
    first, last = at - window[1], at - window[0]
    begins = np.asarray(shown, float)
    if not len(begins):
        return None
    ends = np.append(begins[1:], np.inf if ended is None else ended)
    newest_T = np.clip(np.minimum(ends, last) - np.maximum(begins, first), 0, None)
    whole = 0.0 if ended is None else max(0.0, last - max(first, ended))
    total = newest_T.sum() + whole
    return (newest_T + whole / len(begins)) / total if total > 0 else None


@dataclass(frozen=True)
class HumanReward:
    """What is known of a person's reward: a posterior over linear functions of the features.

    center_D, scale_D: by which features are standardised. seen_ND: of each feedback, credit-weighted. values_N: theirs.
    inverse_NN: of the kernel plus noise. noise, variance: see `fit`. answers_N: which answer each feedback was about.
    """

    center_D: np.ndarray
    scale_D: np.ndarray
    seen_ND: np.ndarray
    values_N: np.ndarray
    answers_N: np.ndarray
    inverse_NN: np.ndarray
    noise: float
    variance: float

    def posterior(self, features_MD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M,) mean and (M, M) covariance of the reward of answers, each given by the mean of its tokens' features."""
        asked_MD = (features_MD - self.center_D) / self.scale_D
        known_MN = kernel(asked_MD, self.seen_ND)
        spread_MM = kernel(asked_MD, asked_MD) - known_MN @ self.inverse_NN @ known_MN.T
        return known_MN @ (self.inverse_NN @ self.values_N), self.variance * spread_MM

    def predict(self, features_MD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M,) reward of each answer and (M,) its standard error, in the feedback's own units."""
        mean_M, covariance_MM = self.posterior(features_MD)
        return mean_M, np.sqrt(np.clip(np.diag(covariance_MM), 0, None))

    def draw(self, features_MD: np.ndarray, seed: int) -> np.ndarray:
        """(M,) rewards under one function that is drawn from the posterior.

        To take the answer that is best under a drawn function is Thompson sampling (Thompson 1933): answers are tried
        as often as they may be the best ones, and less and less often where that is known not to be so.
        """
        mean_M, covariance_MM = self.posterior(features_MD)
        size, axes = np.linalg.eigh(covariance_MM)
        normal_M = np.random.default_rng(seed).standard_normal(len(mean_M))
        return mean_M + axes @ (np.sqrt(np.clip(size, 0, None)) * normal_M)

    def left_out(self) -> np.ndarray:
        """(N,) what would be predicted of each feedback had nothing been said of its answer.

        In closed form (Rasmussen & Williams 2006, section 5.4.2, for blocks instead of single points). The noise is the
        one that was found with all of them.
        """
        alpha_N, predicted_N = self.inverse_NN @ self.values_N, np.empty_like(self.values_N)
        for answer in np.unique(self.answers_N):
            mine = np.flatnonzero(self.answers_N == answer)
            off = np.linalg.solve(self.inverse_NN[np.ix_(mine, mine)], alpha_N[mine])
            predicted_N[mine] = self.values_N[mine] - off
        return predicted_N

    def correlation(self) -> float | None:
        """Of each feedback with what is predicted of it when its answer is left out; None where that says nothing.

        Of few answers it does not: a mean that leaves a value out is low where the value is high.
        """
        predicted_N = self.left_out()
        if len(np.unique(self.answers_N)) < ANSWERS or min(np.ptp(predicted_N), np.ptp(self.values_N)) < 1e-9:
            return None
        return float(np.corrcoef(predicted_N, self.values_N)[0, 1])


def fit(states: Sequence[np.ndarray], examples: Sequence[Example]) -> HumanReward:
    """The posterior after all feedback. states: (T, D) features of each answer that was shown, with feedback or not.

    reward(x) = w . x + b with x the standardised features, w ~ N(0, variance / D), b ~ N(0, variance), and a feedback
    is the credit-weighted mean reward plus noise of variance `noise * variance`. `noise` maximises the evidence, and
    `variance` is then known in closed form; one feedback of size 1 that was never given keeps it away from 0.
    Answers without feedback only say how features are distributed. Deterministic.
    """
    assert examples, "nothing to learn from"
    tokens = np.concatenate([states_TD for states_TD in states if len(states_TD)])
    center_D, scale_D = tokens.mean(0), np.maximum(tokens.std(0), 1e-6)
    seen_ND = np.stack([example.credit_T @ ((states[example.answer] - center_D) / scale_D) for example in examples])
    values_N = np.array([example.value for example in examples], float)
    # One decomposition for all noises: K + noise I has the same axes.
    size_N, axes_NN = np.linalg.eigh(kernel(seen_ND, seen_ND))
    size_N, along_N = np.clip(size_N, 0, None), axes_NN.T @ values_N
    weight = len(values_N) + 1

    def variance(noise: float) -> float:
        return float((along_N**2 / (size_N + noise)).sum() + 1) / weight

    evidence = [-weight * np.log(variance(noise)) - np.log(size_N + noise).sum() for noise in NOISE]
    noise = float(NOISE[int(np.argmax(evidence))])
    return HumanReward(
        center_D, scale_D, seen_ND, values_N, np.array([example.answer for example in examples]),
        (axes_NN / (size_N + noise)) @ axes_NN.T, noise, variance(noise),
    )  # fmt: skip


def kernel(one_MD: np.ndarray, two_ND: np.ndarray) -> np.ndarray:
    """(M, N) covariance of the rewards of two sets of standardised features, over the variance: x . y / D + 1."""
    return one_MD @ two_ND.T / one_MD.shape[1] + 1
