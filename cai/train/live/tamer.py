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

from cai.train.live.features import AnswerFeatures

WINDOW = (0.2, 4.0)  # seconds between what a person reacts to and the key: the least and the most
BURST = 0.5  # seconds between two presses of one feedback
ANSWERS = 10  # with feedback, before a correlation is worth showing
NOISE = np.logspace(-2, 3, 16)  # variance of a feedback's noise, in units of that of the reward


@dataclass(frozen=True, slots=True)
class Example:
    """One feedback: a press on one answer, or a choice between two.

    answer: its place. value: signed. credit_T: of each of its tokens, sums to 1; None for the whole. over: the place of
    the other answer of a choice, whose value says by how much the first is the better one.
    """

    answer: int
    value: float
    credit_T: np.ndarray | None = None
    over: int | None = None

    @property
    def first(self) -> int:
        """The same for all feedback on one answer, and on two that were shown together."""
        return self.answer if self.over is None else min(self.answer, self.over)


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

    center_D, scale_D: by which features are standardised, see `fit`; D is of states and statistics together. seen_ND,
    values_N: of each feedback. level_N: 1 for a press, 0 for a choice, in which the level of all answers cancels.
    shown_N: the same for feedback on the same answers. inverse_NN: of the kernel plus noise. noise, variance: see
    `fit`.
    """

    center_D: np.ndarray
    scale_D: np.ndarray
    seen_ND: np.ndarray
    level_N: np.ndarray
    values_N: np.ndarray
    shown_N: np.ndarray
    inverse_NN: np.ndarray
    noise: float
    variance: float

    def posterior(self, answers: Sequence[AnswerFeatures]) -> tuple[np.ndarray, np.ndarray]:
        """(M,) mean and (M, M) covariance of the reward of answers."""
        asked_MD = (np.stack([answer.about() for answer in answers]) - self.center_D) / self.scale_D
        known_MN = asked_MD @ self.seen_ND.T + self.level_N
        spread_MM = asked_MD @ asked_MD.T + 1 - known_MN @ self.inverse_NN @ known_MN.T
        return known_MN @ (self.inverse_NN @ self.values_N), self.variance * spread_MM

    def predict(self, answers: Sequence[AnswerFeatures]) -> tuple[np.ndarray, np.ndarray]:
        """(M,) reward of each answer and (M,) its standard error, in the feedback's own units."""
        mean_M, covariance_MM = self.posterior(answers)
        return mean_M, np.sqrt(np.clip(np.diag(covariance_MM), 0, None))

    def draw(self, answers: Sequence[AnswerFeatures], seed: int) -> np.ndarray:
        """(M,) rewards under one function that is drawn from the posterior.

        To take the answer that is best under a drawn function is Thompson sampling (Thompson 1933): answers are tried
        as often as they may be the best ones, and less and less often where that is known not to be so.
        """
        mean_M, covariance_MM = self.posterior(answers)
        size, axes = np.linalg.eigh(covariance_MM)
        normal_M = np.random.default_rng(seed).standard_normal(len(mean_M))
        # By the symmetric root, which there is one of: which way an axis points differs from one processor to another.
        return mean_M + axes @ (np.sqrt(np.clip(size, 0, None)) * (axes.T @ normal_M))

    def left_out(self) -> np.ndarray:
        """(N,) what would be predicted of each feedback had nothing been said of its answer.

        In closed form (Rasmussen & Williams 2006, section 5.4.2, for blocks instead of single points). The noise is the
        one that was found with all of them.
        """
        alpha_N, predicted_N = self.inverse_NN @ self.values_N, np.empty_like(self.values_N)
        for answer in np.unique(self.shown_N):
            mine = np.flatnonzero(self.shown_N == answer)
            off = np.linalg.solve(self.inverse_NN[np.ix_(mine, mine)], alpha_N[mine])
            predicted_N[mine] = self.values_N[mine] - off
        return predicted_N

    def correlation(self) -> float | None:
        """Of each feedback with what is predicted of it when its answer is left out; None where that says nothing.

        Of few answers it does not: a mean that leaves a value out is low where the value is high.
        """
        if len(np.unique(self.shown_N)) < ANSWERS:
            return None
        predicted_N = self.left_out()
        if min(np.ptp(predicted_N), np.ptp(self.values_N)) < 1e-9:
            return None
        return float(np.corrcoef(predicted_N, self.values_N)[0, 1])


def fit(answers: Sequence[AnswerFeatures], examples: Sequence[Example]) -> HumanReward:
    """The posterior after all feedback. answers: all that were shown, with feedback or not.

    reward(x) = w . x + b with x the standardised features. In units of `variance`, the prior variance of each weight of
    the D states is 0.5 / D, of the F statistics 0.5 / F, and of b 1: half and half did as well as any split, and as one
    chosen by the evidence. A press is the reward of what it is about plus noise of variance `noise * variance`; a
    choice is so of the difference of two rewards, from which b is gone. `noise` maximises the evidence on a grid, and
    `variance` is then known in closed form; one feedback of size 1 that was never given keeps it away from 0. Features
    are standardised over whole answers, which they are to tell apart; one that never differed says nothing. Answers
    without feedback only say how features are distributed. Deterministic.
    """
    assert examples, "nothing to learn from"
    whole = np.stack([answer.about() for answer in answers if answer.tokens])
    center_D, spread_D = whole.mean(0), whole.std(0)
    spread_D = np.where(spread_D > 1e-6, spread_D, np.inf)
    level_N = np.array([float(example.over is None) for example in examples])
    values_N = np.array([example.value for example in examples], float)
    statistics = len(answers[0].statistics_F)
    states = len(center_D) - statistics
    weight_D = np.sqrt(np.repeat([0.5 / max(states, 1), 0.5 / max(statistics, 1)], [states, statistics]))
    scale_D = spread_D / weight_D
    seen_ND = np.stack([_seen(answers, example, center_D) for example in examples]) / scale_D
    kernel_NN = seen_ND @ seen_ND.T + np.outer(level_N, level_N)
    noise, variance = most_evident(kernel_NN, values_N)
    return HumanReward(
        center_D=center_D, scale_D=scale_D, seen_ND=seen_ND, level_N=level_N, values_N=values_N,
        shown_N=np.array([example.first for example in examples]),
        inverse_NN=np.linalg.inv(kernel_NN + noise * np.eye(len(values_N))), noise=noise, variance=variance,
    )  # fmt: skip


def _seen(answers: Sequence[AnswerFeatures], example: Example, center_D: np.ndarray) -> np.ndarray:
    """(D,) the features that a feedback is about, from their center; of a choice, how the two answers differ."""
    about_D = answers[example.answer].about(example.credit_T)
    return about_D - (center_D if example.over is None else answers[example.over].about())


def most_evident(kernel_NN: np.ndarray, values_N: np.ndarray) -> tuple[float, float]:
    """(noise, variance) of the noise on the grid under which the values are most likely, see `fit`."""
    # One decomposition for all noises: K + noise I has the same axes.
    size_N, axes_NN = np.linalg.eigh(kernel_NN)
    size_N, along_N, weight = np.clip(size_N, 0, None), axes_NN.T @ values_N, len(values_N) + 1
    variances = [float((along_N**2 / (size_N + noise)).sum() + 1) / weight for noise in NOISE]
    evidence = [
        -weight * np.log(variance) - np.log(size_N + noise).sum()
        for noise, variance in zip(NOISE, variances, strict=True)
    ]
    best = int(np.argmax(evidence))
    return float(NOISE[best]), variances[best]
