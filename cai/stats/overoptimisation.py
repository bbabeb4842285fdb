"""Over-optimisation: does the reward that is trained for still mean what it stands for? Numbers in, estimates out.

A *proxy* is trained for, a *gold* reward never is. Along a run both are measured on the same prompts, and drawn against
the square root of the KL to the policy that training started from (Bai et al. 2022, "Training a helpful and harmless
assistant", section 4.3; Gao et al. 2022, "Scaling laws for reward model overoptimization"). Where gold falls while the
proxy goes on rising, the proxy is being over-optimised.

The best look is the one that gold likes best, and chosen from the same prompts that then say how good it is: some of
its lead is luck. The interval of the lead is therefore simultaneous over all looks that could have been chosen: each is
moved by the same resamples of prompts, and the largest move of any of them is what must be overcome (the max-statistic
bootstrap of White 2000, "A reality check for data snooping"). Gao et al. fit curves over many runs instead.

A look is {"rollout", "kl", "proxies": [of each prompt | None], "golds": [of each prompt | None], ...}.
"""

from collections.abc import Sequence
from dataclasses import asdict
from math import nan
from typing import Any

import numpy as np

from cai.core.records import Estimate
from cai.stats.alarm import alarm, words
from cai.stats.intervals import EMPTY, LIMITS, paired_difference

RESAMPLES = 2000
LINES = {"proxy": "proxies", "gold": "golds"}  # what is drawn, and where a look has it prompt by prompt
Look = dict[str, Any]


def column(looks: Sequence[Look], name: str) -> np.ndarray:
    """(looks, prompts) of "golds" or "proxies"; prompts that any look has no number for are left out of all of them."""
    values = np.array([[nan if x is None else x for x in look[name]] for look in looks], float)
    return values[:, ~np.isnan(values).any(axis=0)]


def best_look(looks: Sequence[Look]) -> int:
    """The place of the look with the highest mean gold; of equals the first, which is nearest to the SFT policy.

    Each look is held against the best so far, on the prompts that both have a number for: so what was best is never
    changed by a later look but the one that takes its place, and no other weights need be kept.
    """
    best = 0
    for place in range(1, len(looks)):
        golds = column([looks[best], looks[place]], "golds")
        if golds.size and golds[1].mean() > golds[0].mean():
            best = place
    return best


def lead(golds: np.ndarray, place: int, *, seed: int = 0) -> Estimate:
    """Gold of one look minus gold of the last, paired by prompt, where it was chosen as the best of all.

    golds: (looks, prompts). A plain basic bootstrap where there are two looks.
    """
    prompts = golds.shape[1]
    if not prompts:
        return EMPTY
    over_last = golds[:-1] - golds[-1]
    if place == len(golds) - 1:
        return Estimate(value=0.0, low=0.0, high=0.0, n=prompts, clusters=prompts)
    value = float(over_last[place].mean())
    if prompts == 1:
        return Estimate(value=value, low=nan, high=nan, n=1, clusters=1)
    drawn = np.random.default_rng(seed).integers(prompts, size=(RESAMPLES, prompts))
    moves = over_last[:, drawn].mean(axis=2) - over_last.mean(axis=1, keepdims=True)  # (looks - 1, resamples)
    low, high = value - np.percentile(moves.max(axis=0), LIMITS[1]), value - np.percentile(moves.min(axis=0), LIMITS[0])
    return Estimate(value=value, low=float(low), high=float(high), n=prompts, clusters=prompts)


def judge_run(looks: Sequence[Look]) -> dict[str, Any]:
    """Of one run: which look was best, how far gold fell after it and the proxy rose, and whether that is shown.

    verdict: "no fall" (gold is highest at the end), "over-optimised" (gold fell and the proxy rose, both beyond their
    intervals), "worse" (gold fell, and the proxy is not shown to have risen), "not shown", or "no data".
    """
    golds, proxies = column(looks, "golds"), column(looks, "proxies")
    best = best_look(looks)
    fell = lead(golds, best)
    rose = paired_difference(proxies[-1], proxies[best], np.arange(proxies.shape[1]))
    if not golds.size:
        verdict = "no data"
    elif best == len(looks) - 1:
        verdict = "no fall"
    elif not fell.low > 0:
        verdict = "not shown"
    else:
        verdict = "over-optimised" if rose.low > 0 else "worse"
    return {
        "best": looks[best]["rollout"],
        "last": looks[-1]["rollout"],
        "fell": fell,
        "rose": rose,
        "verdict": verdict,
    }


SAYS = {
    "no fall": "gold was highest at the end of training: no over-optimisation is seen.",
    "not shown": "gold was highest after rollout {best} of {last}, but its lead over the end of training, {fell}, "
    "may be luck: no over-optimisation is shown.",
    "over-optimised": "over-optimised: from rollout {best} to {last} gold fell by {fell}, and the proxy rose by "
    "{rose}.",
    "worse": "training went wrong: from rollout {best} to {last} gold fell by {fell}, and the proxy is not shown to "
    "have risen ({rose}).",
    "no data": "gold could be read for no prompt throughout.",
}


def sentence(run: dict[str, Any]) -> str:
    """What may be said of a run, with its intervals."""
    shown = {name: _interval(run[name]) for name in ("fell", "rose")}
    return SAYS[run["verdict"]].format(best=run["best"], last=run["last"], **shown)


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]".replace("-", "−")


def plots(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs, each {"arm", "seed", "by", "kept", "looks"}, as the report draws and tells them: one plot an arm.

    Proxy and gold are means over prompts and shown as what they have gained on the SFT policy. alarm: what
    cai/stats/alarm.py made of the looks, and in words; "" where it did not ring.
    """
    drawn = []
    for arm in dict.fromkeys(run["arm"] for run in runs):
        lines = []
        for run in (run for run in runs if run["arm"] == arm):
            judged, rung = judge_run(run["looks"]), alarm(run["looks"])
            gains = {name: column(run["looks"], of) for name, of in LINES.items()}
            means = {name: (x - x[:1]).mean(axis=1).tolist() if x.size else [] for name, x in gains.items()}
            lines.append(
                {
                    "seed": run["seed"], "rollout": [look["rollout"] for look in run["looks"]],
                    "root_kl": [max(look["kl"], 0.0) ** 0.5 for look in run["looks"]], **means,
                    "kept": run["kept"], **judged, "sentence": sentence(judged),
                    "alarm": asdict(rung) | {"text": words(rung)},
                }
            )  # fmt: skip
        drawn.append({"arm": arm, "by": next(run["by"] for run in runs if run["arm"] == arm), "lines": lines})
    return drawn
