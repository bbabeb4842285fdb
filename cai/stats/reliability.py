"""How reliable each of several judges is, by how often they agree, without anybody's word on who is right.

The model is that of Dawid & Skene (1979) with two classes, "a is better" and "b is better", and three changes:

1. Which answer is called a says nothing, so both classes are as likely, and a judge that is right about a share r of
   the pairs is so whichever answer is the better one: one number a judge instead of a table of confusions.
2. A vote is a probability and not a word. A judge's votes are halved at their median strength |log-odds|, and each half
   has an r of its own: how much being sure is worth is learnt of each judge, so that a timid one and a loud one are
   weighed by how often they are right. Where all votes are equally strong there is one half, and one r.
3. Each r is smoothed by one right and one wrong vote, so that no vote is ever infinitely strong.

It is fitted by EM from the mean of the votes, each judge's made equally loud:

    E   log-odds of "a is better" of a pair = sum over its judges of  +-logit(r of that half)
    M   r of a half = (1 + sum of the probabilities that its votes are right) / (2 + votes)

What it cannot know: judges are taken to err independently, so two that share a model (and with it mistakes) are taken
for two witnesses that confirm one another; and by agreement alone a judge's r can be told only where two others know
something too. With two judges and any number of coins only the product of both edges, (2r - 1)(2s - 1), is known: what
comes out is then one of many fits, and starts from how sure the judges are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

STEPS = 500  # of EM, at most
STILL = 1e-6  # no reliability moves by more: it has settled
TIES = 1e-9  # log-odds of 0.9 and 0.1 are as strong, but for rounding


@dataclass(frozen=True, slots=True)
class Reliability:
    """p_a: P(a better) of each pair, NaN where nobody voted. right: of each judge, the share of its votes that are
    right; halves: of its weaker and its stronger votes, NaN where there are none."""

    p_a: np.ndarray
    right: np.ndarray
    halves: np.ndarray


def reliability(log_odds: Sequence[Sequence[float]] | np.ndarray) -> Reliability:
    """log_odds: of "a is better", shape (pairs, judges), NaN where a judge did not vote; 0 votes for nobody.

    p_a: shape (pairs,); right: (judges,); halves: (judges, 2).
    """
    votes = np.asarray(log_odds, float)
    assert votes.ndim == 2
    side = np.nan_to_num(np.sign(votes))
    half = _stronger(votes)
    weight = np.nan_to_num(votes / _loudness(votes))
    odds, halves = weight.sum(axis=1), np.full((votes.shape[1], 2), 0.5)
    for _ in range(STEPS):
        before, halves = halves, _right(odds, side, half)
        strength = np.log(halves / (1 - halves))
        odds = (side * np.where(half, strength[:, 1], strength[:, 0])).sum(axis=1)
        if np.abs(halves - before).max(initial=0.0) < STILL:
            break
    counts = np.stack([((half == number) & (side != 0)).sum(axis=0) for number in (False, True)], axis=1)
    voted = counts.sum(axis=1)
    right = np.where(voted > 0, (halves * counts).sum(axis=1) / np.maximum(voted, 1), nan)
    heard = ~np.isnan(votes).all(axis=1)
    p_a = np.where(heard, 1 / (1 + np.exp(-odds)), nan)
    return Reliability(p_a, right, np.where(counts > 0, halves, nan))


def _loudness(votes: np.ndarray) -> np.ndarray:
    """The mean strength of each judge's votes, 1 where it has none."""
    strength, voted = np.nan_to_num(np.abs(votes)).sum(axis=0), (~np.isnan(votes)).sum(axis=0)
    return np.where(strength > 0, strength / np.maximum(voted, 1), 1.0)


def _stronger(votes: np.ndarray) -> np.ndarray:
    """Whether a vote is stronger than the judge's median vote."""
    strength = np.abs(votes)
    middle = [np.median(of[~np.isnan(of)]) if (~np.isnan(of)).any() else nan for of in strength.T]
    return strength > np.array(middle) * (1 + TIES)


def _right(odds: np.ndarray, side: np.ndarray, half: np.ndarray) -> np.ndarray:
    """The M step: of each judge's weaker and stronger votes, the share that is right, smoothed. Shape (judges, 2)."""
    p_a = 1 / (1 + np.exp(-odds))[:, None]
    right = np.where(side > 0, p_a, 1 - p_a)
    parts = [(half == number) & (side != 0) for number in (False, True)]
    return np.stack([(1 + (right * part).sum(axis=0)) / (2 + part.sum(axis=0)) for part in parts], axis=1)
