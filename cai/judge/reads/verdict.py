"""From what the text did (cai/judge/reads/effect.py) to whether a judge is believed to read it, and to words.

The rule is made for few pairs: a preflight has 32 to 48.

    turn   its interval must lie below 0 (`reads.turn`). That is the evidence: a judge that ignores the text has no
           turn, one that sees subjects alone has +1, one that any text pushes about has 0, and none of them has an
           interval below 0 but by chance (2.5%). It compares log-odds, not labels, so that few pairs will do, and
           needs no person's verdict.
    share  its value must reach `reads.share`. The turn says nothing of size: a judge that follows the text in the
           third decimal turns as well, and its labels are still from elsewhere.
    gain   its interval must reach above `reads.gain`. On 32 pairs an interval is some 15 points wide either way, so a
           gain above 0 cannot be asked for; that people agree *less* under the text than under placebos, shown, is a
           judge that follows something else.

A constitution without anything to negate leaves nothing to go by: that is a fault of its own.
"""

import math
from typing import TYPE_CHECKING

from cai.config.preflight import Reads
from cai.core.records import Estimate

if TYPE_CHECKING:
    from cai.judge.reads.effect import Effect

NOTHING_TO_NEGATE = (
    "whether it reads could not be measured: the constitution has nothing to negate (no `Against:`, and no "
    "rule knows the form of its principles)"
)


def unread(effect: "Effect", limits: Reads | None) -> tuple[str, ...]:
    """Why a judge is not believed to read, in words; nothing for one that is, and where nobody asks."""
    if limits is None:
        return ()
    turn, share, gain = effect.turn, effect.share, effect.gain
    if not turn.n:
        return (NOTHING_TO_NEGATE,) if not share.n else ("no pair could be read under its text and its negation",)
    faults = []
    if math.isnan(turn.value):
        faults.append("it does not read: its text moves the log-odds no more than one placebo or another does")
    elif not turn.high < limits.turn:
        faults.append(
            f"it was not seen to read: negated principles turn its verdicts by {number(turn)} "
            f"(-1 follows the negation, +1 ignores it; the interval must lie below {limits.turn:g})"
        )
    if not share.value >= limits.share:
        faults.append(
            f"the text decides {percent(share)} of the variance of its log-odds (at least {limits.share:.0%} wanted)"
        )
    if gain.n and gain.high <= limits.gain:
        faults.append(f"under the text it agrees with people no more than under placebos: {points(gain)} points")
    return tuple(faults)


def standing(effect: "Effect") -> float:
    """By what `auto` chooses: the mean of gain and turn, each on the scale on which an oracle has 1.

    An oracle gains half (from a coin's 50% to 100%) and turns by -1. Without people there is the turn alone.
    """
    turn = -effect.turn.value if effect.turn.value == effect.turn.value else 0.0
    parts = [turn, 2 * effect.gain.value] if effect.gain.n else [turn]
    return sum(min(max(part, -1.0), 1.0) for part in parts) / len(parts)


def in_words(effect: "Effect") -> str:
    """`gain +12.0 [+3.0, +21.0] points, turn -0.64 [-0.90, -0.31], share 21% [12, 33]`"""
    turn = number(effect.turn) if not math.isnan(effect.turn.value) else "undefined"
    return f"gain {points(effect.gain)} points, turn {turn}, share {percent(effect.share)}"


def points(of: Estimate) -> str:
    """A difference of shares, in points."""
    return f"{100 * of.value:+.1f} [{100 * of.low:+.1f}, {100 * of.high:+.1f}]" if of.n else "-"


def percent(of: Estimate) -> str:
    if not of.n or math.isnan(of.value):
        return "-"
    return f"{of.value:.1%} [{100 * of.low:.0f}, {100 * of.high:.0f}]"


def number(of: Estimate) -> str:
    if not of.n or math.isnan(of.value):
        return "-"
    return f"{of.value:.2f} [{of.low:.2f}, {of.high:.2f}]"
