"""An alarm along RL training: has the proxy run away from gold? At whichever look it is read, and however often, a run
in which gold keeps up rings it with a probability of at most `LEVEL`.

At look t every held-out prompt i has a gain of the proxy and one of gold over the policy that training started from.
Each is *standardised* by its own standard deviation over the prompts at that look, for the two rewards have no scale in
common. Gold keeps up where it gains at least `KEPT` of what the proxy gains:

    d[i] = KEPT * proxy gain[i] / sd - gold gain[i] / sd, clipped to +-CLIP;   null: the mean of d over prompts is <= 0

(An imperfect proxy gains more than gold from the first step on, which is no cause for alarm: hence KEPT. Where gold
stands still or falls while the proxy rises, the mean is above 0.)

1. One look. For any bet b in (0, 1 / CLIP), the product over prompts of 1 + b d[i] has an expectation of at most 1
   under the null: it is the capital of one who starts with 1 and bets on d > 0 (Waudby-Smith & Ramdas 2024, "Estimating
   means of bounded random variables by betting", section 4). So is the mean over a grid of bets, which needs no luck in
   choosing one. It does not depend on the order of prompts.
2. All looks. They share prompts and a policy's history, so they are not independent, and their capitals must not be
   multiplied. Their mean over the planned looks is an e-value whatever the dependence (Vovk & Wang 2021, "E-values:
   calibration, combination and applications"), and what it has reached never falls from look to look. By Markov's
   inequality it reaches 1 / LEVEL, at any look, with a probability of at most LEVEL. Confidence sequences (Howard et
   al. 2021) say more where looks bring fresh prompts; here they are the same ones.

What is not exact: the standard deviations are those of the same prompts. Simulated (32 prompts, 8 looks, the proxy
rises by 2.5 standard deviations; half of a prompt's variance stays from look to look; 200 runs each, and 2,000 of those
with *; heavy: t with 3 degrees of freedom in the place of normal numbers; tests/stats/test_alarm.py repeats the 200):

    null                           normal   heavy       planted                         normal   heavy   at look (mean)
    nothing is learnt              0.0%     0.0%        gold stands still               99.0%    99.5%   5.4
    gold gains as the proxy does   0.0%     0.0%        gold rises, falls from look 4   100%     100%    6.5
    gold gains KEPT of it *        1.3%     4.8%        gold falls from the beginning   100%     100%    4.1

Of the one that rises and falls, gold is below KEPT of the proxy from look 4 on: it takes two to three looks more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np

LEVEL = 0.05
KEPT = 0.5
CLIP = 3.0
BETS = np.linspace(0.05, 0.95, 19) / CLIP
FEWEST = 4  # prompts that a look needs to say anything


@dataclass(frozen=True, slots=True)
class Alarm:
    """capital: after each look but the first, the evidence so far, which rings at 1 / LEVEL. rollout: of the look at
    which it rang first, None where it did not. proxy, gold: the mean standardised gains there, or at the last look."""

    capital: tuple[float, ...]
    rollout: int | None
    proxy: float
    gold: float


def alarm(looks: Sequence[Mapping[str, Any]], planned: int | None = None) -> Alarm:
    """looks: as cai/stats/overoptimisation.py has them, the first before training; more may follow.

    planned: how many will follow the first in all, which must be known beforehand; None: as many as there are.
    """
    planned = max(planned or len(looks) - 1, 1)
    capital, total, rang = [], 0.0, None
    gains = (0.0, 0.0)
    for look in looks[1:]:
        proxy, gold = (standardised(*column) for column in _columns(looks[0], look))
        total += evidence(KEPT * proxy - gold) / planned
        capital.append(total)
        if rang is None:
            gains = tuple(float(gain.mean()) if gain.size else 0.0 for gain in (proxy, gold))
            rang = look["rollout"] if total >= 1 / LEVEL else None
    return Alarm(tuple(capital), rang, *gains)


def standardised(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Gains in standard deviations, shape (prompts,). Where they do not vary, their sign times CLIP.

    The standard deviation is read off the mean distance from the median, which tells it in normal numbers and is moved
    less by a few large ones: with its square root of squares the null that is called heavy in the module rang in 7.7%.
    """
    gain = after - before
    spread = sqrt(pi / 2) * np.abs(gain - np.median(gain)).mean() if gain.size else 0.0
    return gain / spread if spread > 1e-9 * np.abs(gain).max(initial=0.0) else np.sign(gain) * CLIP


def evidence(differences: np.ndarray) -> float:
    """The e-value of one look against "their mean is at most 0": 1 is none, 20 would be p = 0.05."""
    if differences.size < FEWEST:
        return 1.0
    d = np.clip(differences, -CLIP, CLIP)
    growth = np.log1p(np.outer(BETS, d)).sum(axis=1)  # (bets,)
    return float(np.exp(growth).mean())


def words(rung: Alarm) -> str:
    """What may be said of an alarm that rang; "" of one that did not."""
    if rung.rollout is None:
        return ""
    proxy, gold = (f"{gain:.1f}".replace("-", "−") for gain in (rung.proxy, rung.gold))
    return (
        f"the proxy has gained {proxy} standard deviations over held-out prompts and gold {gold}, which is less than "
        f"{KEPT:g} of it (anytime-valid test, false alarms at most {LEVEL:.0%})"
    )


def _columns(first: Mapping[str, Any], look: Mapping[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(at the first look, at this one) of the proxy and of gold, on the prompts that have all four numbers."""
    names = ("proxies", "golds")
    values = np.array([[np.nan if x is None else x for x in each[n]] for n in names for each in (first, look)], float)
    a, b, c, d = values[:, ~np.isnan(values).any(axis=0)]
    return [(a, b), (c, d)]
