"""A scripted rater for live feedback: known taste, human delays, and the mistakes of a person."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Taste = Callable[[str], float]  # what a rater thinks of one token's text


@dataclass
class ScriptedRater:
    """Looks up at a few moments of an answer, thinks of the last few tokens what its taste says, and presses later.

    moments: how often it looks up in an answer. span: how many of the newest tokens an impression is of. delay: median
    seconds from the impression to the key, lognormal with spread 0.3. misses: share of impressions that lead to no
    press. flips: share of presses that are the wrong key. level: taste below which it presses down.
    """

    taste: Taste
    seed: int
    level: float = 0.0
    pace: float = 6.0
    moments: int = 2
    span: int = 6
    delay: float = 1.0
    misses: float = 0.3
    flips: float = 0.1

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def measure(self, pieces: Sequence[str]) -> float:
        """Its own measure of an answer: the mean taste of its tokens."""
        return float(np.mean([self.taste(piece) for piece in pieces])) if pieces else self.level

    def presses(self, pieces: Sequence[str]) -> list[dict[str, Any]]:
        """What the page would send for this answer: value, seconds, shown, ended."""
        times = [number / self.pace for number in range(len(pieces))]
        ended = len(pieces) / self.pace
        made = []
        for place in sorted(self.rng.integers(0, max(len(pieces), 1), self.moments)):
            seen = pieces[max(0, place + 1 - self.span) : place + 1]
            feeling = self.measure(seen) - self.level
            late = self.delay * math.exp(0.3 * self.rng.standard_normal())
            missed, wrong = self.rng.random() < self.misses, self.rng.random() < self.flips
            if not seen or not feeling or missed:
                continue
            at = round(times[place] + late, 3)
            there = tuple(time for time in times if time <= at)
            made.append(
                {"value": math.copysign(1.0, feeling) * (-1 if wrong else 1), "seconds": at, "shown": there}
                | {"ended": ended if at >= ended else None}
            )
        return sorted(made, key=lambda press: press["seconds"])
