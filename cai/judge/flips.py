"""Which labels flip when a constitution changes: the same pairs judged under the old one and under the new one.

Every principle votes on every pair that it applies to, so a label is a weighted mean of votes, and what one change does
by itself is found by combining the old votes with that one principle's new ones. Nothing is asked for that, and of the
new constitution only what is not in the call cache yet.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cai.config.sections import Judge
from cai.constitution import Constitution, Judging, Limit, worded
from cai.constitution.changes import Change, applied
from cai.constitution.lint import short
from cai.core.odds import side, sigmoid
from cai.core.records import Abstained, Estimate, Label, Pair, Vote
from cai.judge.combine import combine, weights_of
from cai.judge.following import Edit, Floor, shown
from cai.judge.methods import principles_for
from cai.stats.intervals import accuracy, mean, paired_difference

CUT = 200  # letters of an answer, and of the end of a prompt, that an example shows
Verdict = Label | Abstained


@dataclass(frozen=True, slots=True)
class FlipOfOne:
    """What one change does by itself, the other principles as they were. moved: mean |change of P(a better)|.

    read: whether the judge's method reads what was changed; where it does not, nothing can flip.
    """

    change: Change
    read: bool
    flips: int
    n: int
    moved: Estimate


@dataclass(frozen=True, slots=True)
class Flip:
    """A label that moved. by: the change that moves it most by itself, with that principle's own P before and after."""

    pair: Pair
    before: float
    after: float
    by: str
    own_before: float | None
    own_after: float | None

    @property
    def flipped(self) -> bool:
        return side(self.before, 0.5) != side(self.after, 0.5)


@dataclass(frozen=True, slots=True)
class Outcome:
    """pairs: (id, P before, P after), P None where the judge abstained. flips: share of labels that change sides.

    agreement: with people, before and after, and the difference; empty where no person preferred an answer.
    """

    pairs: list[tuple[str, float | None, float | None]]
    flips: Estimate
    moved: Estimate
    alone: list[FlipOfOne]
    examples: list[Flip]
    agreement: tuple[Estimate, ...]


def heard(change: Change, judge: Judge, old: Constitution, new: Constitution) -> bool:
    """Whether the judge reads what was changed."""
    if change.old is None or change.new is None:
        return True
    before, after = _asked_by(change.old.name, old, judge), _asked_by(change.new.name, new, judge)
    parts = ("prefer", "against", "check", "weight", "never")
    if any(getattr(before[0], part, "") != getattr(after[0], part, "") for part in parts):
        return True
    return before[1] != after[1] or set(before[0].applies_to) != set(after[0].applies_to)


def _asked_by(name: str, constitution: Constitution, judge: Judge) -> tuple[Judging | Limit, int]:
    """What the judge reads of a principle, or a limit, and its level (0 where all are of one)."""
    order = constitution.order
    able = (*principles_for(constitution, judge), *order.limits)
    return next(p for p in able if p.name == name), dict(order.levels).get(name, 0)


def heard_as_text(change: Change, judge: Judge, old: Constitution, new: Constitution) -> bool:
    """Whether a judge is asked otherwise after the change: not where a check alone has changed."""
    before, after = ({p.name: p for p in worded(principles_for(side, judge))} for side in (old, new))
    was, is_now = before.get(change.old.name if change.old else ""), after.get(change.new.name if change.new else "")
    if was is None or is_now is None:
        return was is not is_now
    return heard(change, judge, old, new) and replace(was, name="") != replace(is_now, name="")


def compare(
    pairs: Sequence[Pair], verdicts: Sequence[Sequence[Verdict]], edit: Edit, judge: Judge, examples: int
) -> Outcome:  # fmt: skip
    """verdicts: what the judge made of `pairs` by every principle of the old constitution, and of the new one.

    edit: with all of its changes, those too that the judge does not read. NaN: it abstained.
    """
    prompts = [pair.prompt.id for pair in pairs]
    p_old, p_new = ([_p(verdict) for verdict in each] for each in verdicts)
    alone: list[FlipOfOne] = []
    p_alone: list[list[float]] = []
    for change in edit.changes:
        read = heard(change, judge, edit.old, edit.new)
        p_only = _only(change, verdicts, edit.old, judge) if read else p_old
        flips = _flips(p_old, p_only)
        n = sum(not math.isnan(flip) for flip in flips)
        flipped = int(sum(flip for flip in flips if flip > 0))
        alone.append(FlipOfOne(change, read, flipped, n, mean(_moves(p_old, p_only), prompts)))
        p_alone.append(p_only)
    people = [math.nan if pair.human is None else pair.human for pair in pairs]
    was, now = accuracy(p_old, people, prompts), accuracy(p_new, people, prompts)
    gain = paired_difference(_hits(p_new, people), _hits(p_old, people), prompts)
    rows = list(zip((pair.id for pair in pairs), map(_or_none, p_old), map(_or_none, p_new), strict=True))
    spots = _most_moved(pairs, p_old, p_new)[:examples]
    return Outcome(
        pairs=rows,
        flips=mean(_flips(p_old, p_new), prompts),
        moved=mean(_moves(p_old, p_new), prompts),
        alone=alone,
        examples=[_example(pairs[spot], [each[spot] for each in verdicts],
                           list(zip(edit.changes, (p[spot] for p in p_alone), strict=True)), judge) for spot in spots],
        agreement=(was, now, gain) if gain.n else (),
    )  # fmt: skip


def _only(
    change: Change, verdicts: Sequence[Sequence[Verdict]], old: Constitution, judge: Judge
) -> list[float]:  # fmt: skip
    """P(a better) for each pair with this one change applied to the old constitution."""
    edited = applied(old, change)
    weights = weights_of(principles_for(edited, judge), judge, edited.order.limits)
    p_only = []
    for was, is_now in zip(*verdicts, strict=True):
        votes = [vote for vote in was.votes if change.old is None or vote.principle != change.old.name]
        votes += [vote for vote in is_now.votes if change.new is not None and vote.principle == change.new.name]
        odds = combine(votes, judge, weights, edited.order.levels)
        p_only.append(math.nan if odds is None else sigmoid(odds))
    return p_only


def _most_moved(pairs: Sequence[Pair], p_old: Sequence[float], p_new: Sequence[float]) -> list[int]:
    """Places of the labels that moved: flipped ones first, then by how far."""
    moves, flips = _moves(p_old, p_new), _flips(p_old, p_new)
    spots = [spot for spot, move in enumerate(moves) if move > 0]
    return sorted(spots, key=lambda spot: (-flips[spot], -moves[spot], pairs[spot].id))


def _example(
    pair: Pair, verdicts: Sequence[Verdict], alone: Sequence[tuple[Change, float]], judge: Judge
) -> Flip:  # fmt: skip
    """alone: each change, and the pair's P(a better) with that change alone."""
    before, after = map(_p, verdicts)
    strength = [-1.0 if math.isnan(p) else abs(p - before) for _, p in alone]
    change, _ = alone[strength.index(max(strength))]
    own_before, own_after = (
        None if principle is None else _own(verdict.votes, principle.name, judge)
        for principle, verdict in zip((change.old, change.new), verdicts, strict=True)
    )
    return Flip(pair, before, after, change.name, own_before, own_after)


def _own(votes: Sequence[Vote], principle: str, judge: Judge) -> float | None:
    """P(a better) by one principle alone; None where it gave no readable vote."""
    odds = combine(votes, judge, {principle: 1.0})
    return None if odds is None else sigmoid(odds)


def _p(verdict: Verdict) -> float:
    return verdict.p_a if isinstance(verdict, Label) else math.nan


def _or_none(p: float) -> float | None:
    return None if math.isnan(p) else p


def _flips(old: Sequence[float], new: Sequence[float]) -> list[float]:
    """1 where the label changes sides, else 0; NaN where either is NaN."""
    return [
        math.nan if math.isnan(a) or math.isnan(b) else float(side(a, 0.5) != side(b, 0.5))
        for a, b in zip(old, new, strict=True)
    ]


def _moves(old: Sequence[float], new: Sequence[float]) -> list[float]:
    return [abs(b - a) for a, b in zip(old, new, strict=True)]


def _hits(p: Sequence[float], people: Sequence[float]) -> list[float]:
    """1 where the label agrees with people, 0.5 for a tie, 0 where not; NaN where either is unknown or people tie."""
    return [
        math.nan
        if math.isnan(mine) or math.isnan(theirs) or theirs == 0.5
        else (1 + side(mine, 0.5) * side(theirs, 0.5)) / 2
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
    width = max(len(short(alone.change.name)) for alone in outcome.alone)
    for alone in outcome.alone:
        effect = f"{alone.flips:4} flip{'s' if alone.flips != 1 else ' '}  mean |change of P| {_number(alone.moved)}"
        lines.append(
            f"  {alone.change.kind:<11}{short(alone.change.name):{width}}  "
            f"{effect if alone.read else 'not read by this judge'}"
        )
    for number, example in enumerate(outcome.examples, 1):
        lines += ["", *_shown(number, example)]
    return "\n".join(lines)


def _shown(number: int, example: Flip) -> list[str]:
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
            {"name": alone.change.name, "kind": alone.change.kind, "read": alone.read, "flips": alone.flips,
             "n": alone.n, "mean_abs_change": _estimate(alone.moved)}
            for alone in outcome.alone
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
