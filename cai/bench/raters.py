"""Scripted raters for live feedback: a known taste, a person's delays and a person's mistakes.

Each has a measure of its own, of any answer to any prompt, so that what it was taught to give can be looked at: the
measure of fresh answers, in units of its standard deviation over answers. The measures are not what the human reward
counts of a text (cai/train/live/features.py), though a short answer is short by any of them.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

Measure = Callable[[str, str], float]  # of the last turn before an answer, and of the answer or a part of it
# Words that are courteous, or that speak to the person who asked.
POLITE = frozenset(
    re.findall(
        r"[\w']+",
        """
    please thank thanks sorry glad happy welcome sure certainly hope kindly great wonderful pleasure enjoy appreciate
    assist help let's you your you're you'll you've
""",
    )
)
GRAMMAR = frozenset(
    re.findall(
        r"\w+",
        """
    about after again also because been before being between both could does doing down each from have having help here
    into just make more most much need only other over same should some such tell than that their them then there these
    they this those through under until very want were what when where which while will with would write your give
""",
    )
)


def short(_: str, answer: str) -> float:
    """Fewer words are better."""
    return -float(len(answer.split()))


def polite(_: str, answer: str) -> float:
    """Courteous words and words to "you", of all its words; of a few words they would be all or nothing."""
    words = re.findall(r"[a-z']+", answer.lower())
    return sum(word in POLITE for word in words) / max(len(words), 6)


def on_topic(prompt: str, answer: str) -> float:
    """How many of the question's words for things the answer takes up, by the square root, for each word of its own."""
    asked, words = _things(prompt), re.findall(r"[a-z']+", answer.lower())
    taken = sum(any(word.startswith(thing[:4]) for thing in asked) for word in words)
    return math.sqrt(taken) / math.sqrt(max(len(words), 6))


@cache
def _things(prompt: str) -> frozenset[str]:
    return frozenset(word for word in re.findall(r"[a-z]{4,}", prompt.lower()) if word not in GRAMMAR)


MEASURES: dict[str, Measure] = {"short": short, "polite": polite, "on topic": on_topic}


def levels(measure: Measure, answers: Sequence[tuple[str, Sequence[str]]], span: int = 6) -> tuple[float, float]:
    """(level, local) of a rater who knows these answers: of the mean answer, and of the mean part of one.

    answers: (prompt, pieces).
    """
    rng = np.random.default_rng(0)
    parts = [
        measure(prompt, "".join(pieces[max(0, place + 1 - span) : place + 1]))
        for prompt, pieces in answers
        for place in rng.integers(0, max(len(pieces), 1), 3)
    ]
    wholes = [measure(prompt, "".join(pieces)) for prompt, pieces in answers]
    return float(np.mean(wholes)), float(np.mean(parts))


@dataclass
class ScriptedRater:
    """level: of the measure, between what it likes and what it does not; of whole answers. local: of parts of `span`
    tokens; None for a taste that is of all that stands there so far, and can be pleased at the end alone.

    moments: how often it looks up while an answer appears. delay: median seconds from the impression to the key,
    lognormal with spread 0.3, within 0.2 and 4. misses: share of impressions, or of pairs, that lead to no key. flips:
    share of keys that are the wrong one. pace: tokens a second.
    """

    measure: Measure
    seed: int
    level: float = 0.0
    local: float | None = 0.0
    pace: float = 6.0
    moments: int = 3
    span: int = 6
    delay: float = 1.0
    misses: float = 0.3
    flips: float = 0.1

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def choice(self, prompt: str, left: str, right: str) -> int | None:
        """0 for the left answer, 1 for the right one, None where it does not choose; a coin between equals."""
        better = self.measure(prompt, right) - self.measure(prompt, left)
        sign = self._key(better or self.rng.choice([-1.0, 1.0]))
        return None if sign is None else int(sign > 0)

    def thumb(self, prompt: str, pieces: Sequence[str]) -> list[dict[str, Any]]:
        """As `presses`: one of the whole answer, later than the longest delay after its end."""
        sign = self._key(self.measure(prompt, "".join(pieces)) - self.level)
        ended = len(pieces) / self.pace
        return [] if sign is None else [self._press(sign, ended + 5, pieces)]

    def presses(self, prompt: str, pieces: Sequence[str]) -> list[dict[str, Any]]:
        """What the page would send while this answer appears, and after: value, seconds, shown, ended."""
        made = []
        places = {*self.rng.integers(0, max(len(pieces), 1), self.moments).tolist()}
        for place in sorted(places | {len(pieces) - 1} if self.local is None else places):
            begin = 0 if self.local is None else max(0, place + 1 - self.span)
            feeling = self.measure(prompt, "".join(pieces[begin : place + 1])) - (self.local or 0.0)
            if self.local is None:
                feeling = self.measure(prompt, "".join(pieces[: place + 1])) - self.level
                if place + 1 < len(pieces) and feeling > 0:
                    continue
            late = float(np.clip(self.delay * math.exp(0.3 * self.rng.standard_normal()), 0.2, 4.0))
            sign = self._key(feeling)
            if pieces and sign is not None:
                made.append(self._press(sign, place / self.pace + late, pieces))
        return sorted(made, key=lambda press: press["seconds"])

    def _key(self, feeling: float) -> float | None:
        missed, wrong = self.rng.random() < self.misses, self.rng.random() < self.flips
        return None if missed or not feeling else math.copysign(1.0, feeling) * (-1 if wrong else 1)

    def _press(self, sign: float, at: float, pieces: Sequence[str]) -> dict[str, Any]:
        ended, at = len(pieces) / self.pace, round(at, 3)
        shown = tuple(time for time in (number / self.pace for number in range(len(pieces))) if time <= at)
        return {"value": sign, "seconds": at, "shown": shown, "ended": ended if at >= ended else None}
