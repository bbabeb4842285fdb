"""Which labels flip when a constitution changes: the same pairs judged under the old one and under the new one.

Every principle votes on every pair that it applies to, so a label is a weighted mean of votes, and what one change does
by itself is found by combining the old votes with that one principle's new ones. Nothing is asked for that, and of the
new constitution only what is not in the call cache yet.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cai.config.sections import Judge
from cai.constitution import Constitution
from cai.constitution.changes import Change, applied
from cai.constitution.lint import short
from cai.core.records import Abstained, Estimate, Label, Pair, Vote
from cai.judge.combine import combine, weights_of
from cai.judge.following import Floor, shown
from cai.judge.methods import principles_for, sigmoid
from cai.stats.intervals import accuracy, mean, paired_difference

CUT = 200  # letters of an answer, and of the end of a prompt, that an example shows
Verdict = Label | Abstained


@dataclass(frozen=True, slots=True)
class Alone:
    """What one change does by itself, the other principles as they were. moved: mean |change of P(a better)|.

    read: whether the judge's method reads what was changed; where it does not, nothing can flip.
    """

    change: Change
    read: bool
    flips: int
    n: int
    moved: Estimate


@dataclass(frozen=True, slots=True)
class Example:
    """A label that moved. by: the change that moves it most by itself, with that principle's own P before and after."""

    pair: Pair
    before: float
    after: float
    by: str
    own_before: float | None
    own_after: float | None

    @property
    def flipped(self) -> bool:
        return _side(self.before) != _side(self.after)


@dataclass(frozen=True, slots=True)
class Outcome:
    """pairs: (id, P before, P after), P None where the judge abstained. flips: share of labels that change sides.

    agreement: with people, before and after, and the difference; empty where no person preferred an answer.
    """

    pairs: list[tuple[str, float | None, float | None]]
    flips: Estimate
    moved: Estimate
    alone: list[Alone]
    examples: list[Example]
    agreement: tuple[Estimate, ...]


def heard(change: Change, judge: Judge, old: Constitution, new: Constitution) -> bool:
    """Whether the judge reads what was changed."""
    if change.old is None or change.new is None:
        return True
    before = next(p for p in principles_for(old, judge) if p.name == change.old.name)
    after = next(p for p in principles_for(new, judge) if p.name == change.new.name)
    parts = ("prefer", "against", "weight")
    return any(getattr(before, part) != getattr(after, part) for part in parts) or (
        set(before.applies_to) != set(after.applies_to)
    )


def compare(
    pairs: Sequence[Pair],
    before: Sequence[Verdict],
    after: Sequence[Verdict],
    old: Constitution,
    new: Constitution,
    found: Sequence[Change],
    judge: Judge,
    examples: int,
) -> Outcome:
    """before, after: what the judge said of `pairs` by every principle of `old` and of `new`. NaN: it abstained."""
    prompts = [pair.prompt.id for pair in pairs]
    p_old, p_new = [_p(verdict) for verdict in before], [_p(verdict) for verdict in after]
    alone: list[Alone] = []
    p_alone: list[list[float]] = []
    for change in found:
        read = heard(change, judge, old, new)
        p_only = _only(change, before, after, old, judge) if read else p_old
        flips = _flips(p_old, p_only)
        n = sum(not math.isnan(flip) for flip in flips)
        flipped = int(sum(flip for flip in flips if flip > 0))
        alone.append(Alone(change, read, flipped, n, mean(_moves(p_old, p_only), prompts)))
        p_alone.append(p_only)
    people = [math.nan if pair.human is None else pair.human for pair in pairs]
    was, now = accuracy(p_old, people, prompts), accuracy(p_new, people, prompts)
    gain = paired_difference(_hits(p_new, people), _hits(p_old, people), prompts)
    agreement = (was, now, gain) if gain.n else ()
    rows = list(zip((pair.id for pair in pairs), map(_or_none, p_old), map(_or_none, p_new), strict=True))
    shown = _examples(pairs, before, after, p_old, p_new, found, p_alone, judge, examples)
    flips, moved = mean(_flips(p_old, p_new), prompts), mean(_moves(p_old, p_new), prompts)
    return Outcome(rows, flips, moved, alone, shown, agreement)


def _only(
    change: Change, before: Sequence[Verdict], after: Sequence[Verdict], old: Constitution, judge: Judge
) -> list[float]:
    """P(a better) for each pair with this one change applied to the old constitution."""
    weights = weights_of(principles_for(applied(old, change), judge), judge)
    found = []
    for was, is_now in zip(before, after, strict=True):
        votes = [vote for vote in was.votes if change.old is None or vote.principle != change.old.name]
        votes += [vote for vote in is_now.votes if change.new is not None and vote.principle == change.new.name]
        odds = combine(votes, judge, weights)
        found.append(math.nan if odds is None else sigmoid(odds))
    return found


def _examples(
    pairs: Sequence[Pair],
    before: Sequence[Verdict],
    after: Sequence[Verdict],
    p_old: Sequence[float],
    p_new: Sequence[float],
    found: Sequence[Change],
    p_alone: Sequence[Sequence[float]],
    judge: Judge,
    most: int,
) -> list[Example]:
    """Flipped labels first, then those that moved most."""
    moves, flips = _moves(p_old, p_new), _flips(p_old, p_new)
    spots = [spot for spot, move in enumerate(moves) if move > 0]
    spots.sort(key=lambda spot: (-flips[spot], -moves[spot], pairs[spot].id))
    shown = []
    for spot in spots[:most]:
        strength = [abs(p[spot] - p_old[spot]) for p in p_alone]
        change = found[max(range(len(found)), key=lambda i: -1 if math.isnan(strength[i]) else strength[i])]
        own = [
            None if one is None else _own(verdict.votes, one.name, judge)
            for one, verdict in ((change.old, before[spot]), (change.new, after[spot]))
        ]
        shown.append(Example(pairs[spot], p_old[spot], p_new[spot], change.name, *own))
    return shown


def _own(votes: Sequence[Vote], principle: str, judge: Judge) -> float | None:
    """P(a better) by one principle alone; None where it gave no readable vote."""
    odds = combine([vote for vote in votes if vote.principle == principle], judge, defaultdict(lambda: 1.0))
    return None if odds is None else sigmoid(odds)


def _p(verdict: Verdict) -> float:
    return verdict.p_a if isinstance(verdict, Label) else math.nan


def _or_none(p: float) -> float | None:
    return None if math.isnan(p) else p


def _side(p: float) -> int:
    return (p > 0.5) - (p < 0.5)


def _flips(old: Sequence[float], new: Sequence[float]) -> list[float]:
    """1 where the label changes sides, else 0; NaN where either is NaN."""
    return [
        math.nan if math.isnan(a) or math.isnan(b) else float(_side(a) != _side(b))
        for a, b in zip(old, new, strict=True)
    ]


def _moves(old: Sequence[float], new: Sequence[float]) -> list[float]:
    return [abs(b - a) for a, b in zip(old, new, strict=True)]


def _hits(p: Sequence[float], people: Sequence[float]) -> list[float]:
    """1 where the label agrees with people, 0.5 for a tie, 0 where not; NaN where either is unknown or people tie."""
    return [
        math.nan if math.isnan(mine) or math.isnan(theirs) or theirs == 0.5 else (1 + _side(mine) * _side(theirs)) / 2
        for mine, theirs in zip(p, people, strict=True)
    ]


# Showing it ---------------------------------------------------------------------------------------------------------


def show(outcome: Outcome, than: Floor | None = None) -> str:
    """than: what the same edit flips among placebos (cai/judge/following.py)."""
    missing = {
        "before": sum(old is None and new is not None for _, old, new in outcome.pairs),
        "after": sum(new is None and old is not None for _, old, new in outcome.pairs),
        "both times": sum(old is None and new is None for _, old, new in outcome.pairs),
    }
    n = outcome.flips.n
    lines = [
        f"labels that flip          {round(outcome.flips.value * n)} of {n}, {_percent(outcome.flips)}",
        *(shown(than) if than else ()),
        f"mean |change of P|        {_number(outcome.moved)}",
    ] if n else ["no pair got a label both times: there is nothing to compare"]  # fmt: skip
    if any(missing.values()):
        lines.append("left out, the judge abstained: " + ", ".join(f"{n} {when}" for when, n in missing.items() if n))
    if not n:
        return "\n".join(lines)
    if outcome.agreement:
        old, new, gain = outcome.agreement
        lines.append(f"agreement with people     {_percent(old)} before, {_percent(new)} after")
        lines.append(f"                          difference {_percent(gain, sign=True)}")
    lines += ["", "each change by itself, the other principles as they were:"]
    width = max(len(short(one.change.name)) for one in outcome.alone)
    for one in outcome.alone:
        effect = f"{one.flips:4} flip{'s' if one.flips != 1 else ' '}  mean |change of P| {_number(one.moved)}"
        told = effect if one.read else "not read by this judge"
        lines.append(f"  {one.change.kind:<11}{short(one.change.name):{width}}  {told}")
    for number, example in enumerate(outcome.examples, 1):
        lines += ["", *_shown(number, example)]
    return "\n".join(lines)


def _shown(number: int, example: Example) -> list[str]:
    own = " -> ".join("no vote" if p is None else f"{p:.3f}" for p in (example.own_before, example.own_after))
    what = "flips" if example.flipped else "moves"
    return [
        f"example {number}: P(a better) {what} {example.before:.3f} -> {example.after:.3f}",
        f'  moved most by "{short(example.by)}", whose own P goes {own}',
        f"  prompt  {tail(example.pair.prompt.messages[-1].content)}",
        f"  a       {head(example.pair.a)}",
        f"  b       {head(example.pair.b)}",
    ]


def head(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= CUT else text[: CUT - 3] + "..."


def tail(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= CUT else "..." + text[3 - CUT :]


def _percent(of: Estimate, sign: bool = False) -> str:
    form = "+.1f" if sign else ".1f"
    return f"{100 * of.value:{form}}% [{100 * of.low:{form}}, {100 * of.high:{form}}]"


def _number(of: Estimate) -> str:
    return f"{of.value:.4f} [{of.low:.4f}, {of.high:.4f}]"


def as_json(outcome: Outcome) -> dict[str, Any]:
    names = ("before", "after", "difference")
    return {
        "pairs": [{"id": pair, "p_before": old, "p_after": new} for pair, old, new in outcome.pairs],
        "flips": _estimate(outcome.flips),
        "mean_abs_change": _estimate(outcome.moved),
        "alone": [
            {"name": one.change.name, "kind": one.change.kind, "read": one.read, "flips": one.flips, "n": one.n,
             "mean_abs_change": _estimate(one.moved)}
            for one in outcome.alone
        ],
        "examples": [
            {"id": e.pair.id, "prompt_end": tail(e.pair.prompt.messages[-1].content), "a": head(e.pair.a),
             "b": head(e.pair.b), "p_before": e.before, "p_after": e.after, "moved_most_by": e.by,
             "its_p_before": e.own_before, "its_p_after": e.own_after}
            for e in outcome.examples
        ],
        "agreement": {name: _estimate(of) for name, of in zip(names, outcome.agreement, strict=False)},
    }  # fmt: skip


def _estimate(of: Estimate) -> dict[str, float | int | None]:
    """NaN is no JSON."""
    return {"value": _or_none(of.value), "low": _or_none(of.low), "high": _or_none(of.high), "n": of.n,
            "clusters": of.clusters}  # fmt: skip
