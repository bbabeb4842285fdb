"""Which rationales a generative reward model learns from.

right     the verdict that it led to is on the label's side (rejection sampling; STaR, Zelikman et al. 2022). A model
          that has learnt nothing likes one letter better than the other, so that of each pair all rationales of one
          order would be right, and all of the other wrong. Pairs are asked in both orders, so the right letter is (A)
          as often as (B), and what the model likes of a letter is the mean of its log-odds over both orders: that is
          taken out before a verdict is called right. (Verdicts of both orders need no such thing: it cancels.)
dropped   a pair of which no rationale was right. Departure from STaR, which then tells the model the answer and has it
          find reasons (rationalisation): those reasons need not lead anywhere.
pairs     right against wrong of the same pair and order, for DPO (Mahan et al. 2024, section 3.2), each used once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from cai.core.odds import side
from cai.judge.methods import log_odds
from cai.train.generative.asking import Thought


@dataclass(frozen=True, slots=True)
class Preferred:
    """Two rationales of one pair in one order. p: P(the right one is better), by the label."""

    right: Thought
    wrong: Thought
    p: float


def letter_liking(thoughts: Sequence[Thought]) -> float:
    """Log-odds of (A) whatever is shown as (A); 0 where an order has no vote."""
    orders: dict[str, list[float]] = {"ab": [], "ba": []}
    for thought in thoughts:
        if not thought.vote.fault:
            first, second = thought.vote.logprobs
            orders[thought.vote.order].append(first - second)
    return fmean(map(fmean, orders.values())) if all(orders.values()) else 0.0


def sided(thoughts: Sequence[Thought], labels: Mapping[str, float]) -> list[tuple[Thought, bool]]:
    """The thoughts that can be read, of pairs whose label (P(a better)) has a side, and whether each is right."""
    liking = letter_liking(thoughts)
    judged = []
    for thought in thoughts:
        label = side(labels.get(thought.pair_id, 0.5), 0.5)
        if thought.vote.fault or not label:
            continue
        odds = log_odds(thought.vote) - (liking if thought.vote.order == "ab" else -liking)
        judged.append((thought, side(odds) == label))
    return judged


def right_ones(thoughts: Sequence[Thought], labels: Mapping[str, float]) -> tuple[list[Thought], dict[str, int]]:
    """Those that led to the right verdict, in order, and the counts of what was left out. labels: P(a better) of each
    training pair."""
    judged = sided(thoughts, labels)
    right = [thought for thought, is_right in judged if is_right]
    drawn = {thought.pair_id for thought in thoughts}
    without_side = sum(p == 0.5 for p in labels.values())
    counts = {
        "training pairs labelled": len(labels),
        "dropped: label without a side": without_side,
        "dropped: longer than reward.max_length": sum(p != 0.5 and name not in drawn for name, p in labels.items()),
        "dropped: no rationale led to the right verdict": len(
            {name for name in drawn if labels.get(name, 0.5) != 0.5} - {thought.pair_id for thought in right}
        ),
        "rationales drawn": len(thoughts),
        "rationales that cannot be read": sum(bool(thought.vote.fault) for thought in thoughts),
        "rationales that led to the right verdict": len(right),
    }
    return right, counts


def preferences(
    thoughts: Sequence[Thought], labels: Mapping[str, float]
) -> tuple[list[Preferred], dict[str, int]]:  # fmt: skip
    """Right against wrong, the first right one against the first wrong one and so on, and the counts."""
    judged = sided(thoughts, labels)
    rows: list[Preferred] = []
    one_sided = 0
    for (pair_id, _), group in groupby(judged, key=lambda row: (row[0].pair_id, row[0].vote.order)):
        mine = list(group)
        right, wrong = ([thought for thought, is_right in mine if is_right is kind] for kind in (True, False))
        p = max(labels[pair_id], 1 - labels[pair_id])
        rows += [Preferred(good, bad, p) for good, bad in zip(right, wrong, strict=False)]
        one_sided += not (right and wrong)
    counts = {
        "DPO: rationales drawn": len(thoughts),
        "DPO: right against wrong": len(rows),
        "DPO: orders of a pair whose rationales are all right or all wrong": one_sided,
    }
    return rows, counts
