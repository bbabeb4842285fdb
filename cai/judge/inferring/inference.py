"""Which candidates explain labels: selected on one part of the prompts, and held against the labels of the other.

    votes of every candidate on every pair  ->  forward selection with a family-wise test  ->  held-out agreement

Departs from inverse constitutional AI (Findeis et al. 2024, arXiv 2406.06560) in everything but the question: votes are
log-probabilities and not words; principles are selected together, by what each adds to the others, and not ranked one
by one; their number is tested and not given; what is written down is asked anew of pairs that nobody selected on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cai.core.odds import side
from cai.core.records import Estimate, Pair
from cai.core.textstats import words
from cai.judge.inferring.candidates import DECOY, Candidate
from cai.judge.inferring.labelled import LabelledPairs, both_sides
from cai.judge.inferring.voting import VoteTable
from cai.stats.intervals import accuracy, paired_difference
from cai.stats.intervals import side as side_of
from cai.stats.selection import fit_voters, flip_p, predict_voters, select_voters

SILENT = 0.5  # of the pairs: a candidate that says nothing of more is named


@dataclass(frozen=True, slots=True)
class Explanation:
    """One selected principle. reversed: the labels go against it. weight: of its log-odds, above 0; of the opposite
    where it is reversed. p: family-wise, when it was taken. beyond_length: its p given the others and the lengths of
    the answers. sides: how often it (or its opposite) sides with the labels that it was selected on, where it speaks.
    """

    name: str
    origin: str
    reversed: bool
    weight: float
    p: float
    beyond_length: float
    sides: Estimate


@dataclass(frozen=True, slots=True)
class OneByOne:
    """A candidate by itself, on all pairs of a set, for nothing is fitted: how often it sides with the labels, and p
    over the family of all candidates, of "as often with them as against them"."""

    name: str
    origin: str
    sides: Estimate
    p: float


@dataclass(frozen=True, slots=True)
class Inference:
    """What explains the labels of one set.

    selected_on, held_out: (pairs, prompts). explains: in the order in which they were taken. next_name, next_p: which
    would have come next, and why it did not. dropped: taken at first, and needless with the others. agreement: of
    held-out labels with what is selected, with all candidates, and with length. over_length: the first less the last.
    silent: candidates that say nothing of half of the pairs. one_by_one: every candidate, in order. wholes: agreement
    of whole constitutions, as they stand, with all labels of the set; length: of the same with the shorter answer.
    """

    labels: str
    selected_on: tuple[int, int]
    held_out: tuple[int, int]
    candidates: int
    explains: tuple[Explanation, ...]
    next_name: str | None
    next_p: float
    dropped: tuple[str, ...]
    agreement: dict[str, Estimate]
    over_length: Estimate
    silent: tuple[str, ...]
    alpha: float
    one_by_one: tuple[OneByOne, ...]
    wholes: dict[str, Estimate]
    shorter: Estimate

    @property
    def decoys(self) -> tuple[str, ...]:
        return tuple(row.name for row in self.explains if row.origin == DECOY)


def infer(
    of: LabelledPairs, table: VoteTable, rows: Sequence[Candidate], *, alpha: float = 0.05, most: int = 8,
    seed: int = 0,
) -> Inference:  # fmt: skip
    """rows: the candidates whose votes the table has, in its order. Pairs of which one answer has no words are out."""
    # 1. Votes and labels of both sides of the split.
    votes_NK = np.asarray(table.rows(of.pairs), float)
    labels_N, names = np.asarray(of.p_a, float), np.asarray(of.clusters)
    longer_N = np.asarray([longer(pair) for pair in of.pairs])
    decided = np.asarray([pair.id not in table.undecided for pair in of.pairs])
    on, out = (np.asarray([at for at in part if decided[at]], int) for part in both_sides(of))

    # 2. Select, and ask of each whether it is more than a liking for short or long answers.
    chosen = select_voters(votes_NK[on], labels_N[on], names[on], alpha=alpha, most=most, seed=seed)
    explains = []
    for voter in chosen.voters:
        k = voter.column
        others = votes_NK[on][:, [v.column for v in chosen.voters if v.column != k]]
        given = np.column_stack([others, longer_N[on]])
        (beyond,), _ = flip_p(votes_NK[on][:, [k]], labels_N[on], names[on], given=given, seed=seed)
        sign = side(float(voter.weight))
        sides = accuracy(_spoken(sign * votes_NK[on, k]), labels_N[on], names[on])
        explains.append(Explanation(rows[k].name, rows[k].origin, sign < 0, abs(voter.weight), voter.p, beyond, sides))

    # 3. Held-out agreement, beside what needs no principle and what has them all.
    everything = dict(enumerate(fit_voters(votes_NK[on], labels_N[on])))
    (slope,) = fit_voters(longer_N[on, None], labels_N[on])
    guesses = {
        "selected": predict_voters(votes_NK[out], chosen.weights),
        "all candidates": predict_voters(votes_NK[out], everything),
        f"the {'longer' if slope > 0 else 'shorter'} answer": slope * longer_N[out],
    }
    hits = {name: _hits(odds, labels_N[out]) for name, odds in guesses.items()}
    length = list(hits)[-1]
    silent = np.isnan(votes_NK).mean(axis=0) > SILENT
    return Inference(
        labels=of.name, selected_on=(len(on), len(set(names[on]))), held_out=(len(out), len(set(names[out]))),
        candidates=len(rows), explains=tuple(explains), alpha=alpha,
        next_name=None if chosen.next_column is None else rows[chosen.next_column].name, next_p=chosen.next_p,
        dropped=tuple(rows[k].name for k in chosen.dropped),
        agreement={name: agreement(odds, labels_N[out], names[out]) for name, odds in guesses.items()},
        over_length=paired_difference(hits["selected"], hits[length], names[out]),
        silent=tuple(row.name for row, mute in zip(rows, silent, strict=True) if mute),
        one_by_one=_one_by_one(votes_NK[decided], labels_N[decided], names[decided], rows, seed),
        wholes={
            origin: agreement(whole(votes_NK[decided], rows, origin), labels_N[decided], names[decided])
            for origin in dict.fromkeys(row.origin for row in rows)
        },
        shorter=agreement(-longer_N[decided], labels_N[decided], names[decided]),
    )  # fmt: skip


def whole(votes_NK: np.ndarray, rows: Sequence[Candidate], origin: str) -> np.ndarray:
    """Log-odds by all principles of one origin together, as a judge averages them by their weights; 0 without any."""
    weight_K = np.asarray([row.principle.weight if row.origin == origin else 0.0 for row in rows])
    spoken_NK = ~np.isnan(votes_NK) * weight_K
    total_N = spoken_NK.sum(axis=1)
    sums_N = (np.nan_to_num(votes_NK) * weight_K).sum(axis=1)
    return np.divide(sums_N, total_N, out=np.zeros_like(sums_N), where=total_N > 0)


def _one_by_one(
    votes_NK: np.ndarray, labels_N: np.ndarray, names: np.ndarray, rows: Sequence[Candidate], seed: int
) -> tuple[OneByOne, ...]:
    _, p_K = flip_p(votes_NK, labels_N, names, seed=seed)
    return tuple(
        OneByOne(row.name, row.origin, accuracy(_spoken(votes_NK[:, k]), labels_N, names), float(p_K[k]))
        for k, row in enumerate(rows)
    )


def agreement(odds_N: Sequence[float] | np.ndarray, labels_N: Sequence[float] | np.ndarray, clusters) -> Estimate:
    """Share of labels on the same side as log-odds of "a is better"; odds of 0 count half, and ties are left out."""
    return accuracy(_share(np.asarray(odds_N, float)), labels_N, clusters)


def longer(pair: Pair) -> float:
    """How much longer a is than b, in log-words: above 0 where a is longer."""
    return math.log((1 + words(pair.a)) / (1 + words(pair.b)))


def _share(odds_N: np.ndarray) -> np.ndarray:
    """Log-odds as something whose side of one half is theirs; silence is a tie."""
    return 0.5 + 0.5 * np.sign(np.nan_to_num(odds_N))


def _spoken(odds_N: np.ndarray) -> np.ndarray:
    """As `_share`, with silence left out."""
    return np.where(np.isnan(odds_N), math.nan, _share(odds_N))


def _hits(odds_N: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    theirs = side_of(labels_N)
    return np.where(theirs == 0.5, math.nan, 1 - np.abs(side_of(_share(odds_N)) - theirs))
