"""`label_budget:`: the reward models of growing numbers of human labels beside the judge's, as results.json has them.

The key "crossing" is null, or

    {"arms": [judge's, people's], "judge": {"labels": int, "agreement": E},
     "budgets": [{"labels": int, "agreement": E, "difference": {"estimate": E, "p", ...} (people minus judge)}],
     "fit": [float] (the monotone curve at the budgets),
     "at" | "low" | "high": {"labels": float | null, "side": "within" | "below" | "above"} (of the budgets),
     "below", "above": shares of resamples, "seeds": int, "n": int, "clusters": int, "sentence": text}

which is all that the plot needs: agreement with its interval over labels (a log scale), the judge's level as a band,
and the crossing with its interval on the axis.
"""

from collections.abc import Sequence
from dataclasses import asdict
from math import inf
from typing import Any

import numpy as np

from cai.compare import report_plots
from cai.compare.cells import Cell, Measured
from cai.compare.measures import HeldOutPairs, average, outcomes, tested
from cai.compare.section import ReportSection
from cai.config.comparable import opponents
from cai.core.records import Estimate, labelled_pairs
from cai.stats import intervals as statistics
from cai.stats.crossed import contrast
from cai.stats.crossing import Crossing, crossing, isotonic


def budgets(cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs) -> dict[str, Any] | None:
    """What `label_budget:` found; None where the experiment has none."""
    if not measured.budgets:
        return None
    met = opponents({cell.arm: cell.settings for cell in cells})
    assert met, "checked when the file was read"
    judge = [cell for cell in cells if cell.arm == met[0]]
    names = {count: list(models) for count, models in measured.budgets.items()}
    said = {
        name: held_out.agreement(held_out.margins[name], held_out.human)
        for name in [*(cell.name for cell in judge), *(name for models in names.values() for name in models)]
    }
    rows = list(average(list(said.values())))  # what every reward model could read
    if not rows:
        return None
    clusters = [held_out.cluster(row) for row in rows]
    level = outcomes([said[cell.name] for cell in judge], rows)
    curves = np.array([outcomes([said[name] for name in models], rows) for models in names.values()])
    found = crossing(list(names), curves, level, clusters)
    fit = isotonic(curves.mean(axis=(1, 2))[None])[0]
    result: dict[str, Any] = {
        "arms": list(met),
        "judge": {"labels": _labelled(judge[0]), "agreement": _mean(level, clusters)},
        "budgets": [
            {
                "labels": count, "agreement": _mean(curve, clusters),
                "difference": tested(contrast(curve - level, clusters, reach=1.0)),
            }
            for count, curve in zip(names, curves, strict=True)
        ],
        "fit": fit.tolist(),
        **{name: _place(getattr(found, field)) for name, field in (("at", "labels"), ("low", "low"), ("high", "high"))},
        **{key: value for key, value in asdict(found).items() if key not in ("labels", "low", "high")},
    }  # fmt: skip
    return result | {"sentence": sentence(found, list(names), result["judge"], met)}


def _labelled(cell: Cell) -> int:
    """How many training pairs its reward model learned from."""
    assert cell.labels
    return len(labelled_pairs((cell.pairs,), (cell.labels,)))


def _mean(table: np.ndarray, clusters: Sequence[str]) -> Estimate:
    """Of a row's mean over the seeds."""
    return statistics.mean(table.mean(axis=1), clusters)


def _place(labels: float) -> dict[str, Any]:
    side = "below" if labels == 0 else "above" if labels == inf else "within"
    return {"labels": labels if side == "within" else None, "side": side}


def sentence(found: Crossing, counts: Sequence[int], judge: dict[str, Any], arms: tuple[str, str]) -> str:
    """What the crossing allows one to say, and no more."""
    level: Estimate = judge["agreement"]
    ai, people = arms
    equal = (
        f"the reward model of arm {ai}, from the judge's {judge['labels']} labels, which agrees with people on "
        f"{100 * level.value:.0f}% [{100 * level.low:.0f}, {100 * level.high:.0f}] of held-out pairs"
    )
    ends = f"95%: {_words(found.low, counts)} to {_words(found.high, counts)}"
    scope = f"{found.clusters} prompts, {found.seeds} seed{'' if found.seeds == 1 else 's'}"
    scope += " and for this seed only" if found.seeds == 1 else ""
    if found.low == 0 and found.high == inf:
        ends = f"95%: anything from below {counts[0]} to more than {counts[-1]}, so these budgets cannot tell"
    if found.labels == 0:
        return (
            f"Not crossed within the budgets, because the human labels start above: already {counts[0]} of them (arm "
            f"{people}) do at least as well as {equal} ({ends}; {scope})."
        )
    if found.labels == inf:
        return (
            f"Not crossed within the budgets, because the human labels stay below: {counts[-1]} of them (arm {people}) "
            f"do not do as well as {equal} ({ends}; {scope})."
        )
    return f"About {found.labels:.0f} human labels (arm {people}) do as well as {equal} ({ends}; {scope})."


def _words(labels: float, counts: Sequence[int]) -> str:
    if labels == 0:
        return f"below {counts[0]}"
    return f"more than {counts[-1]}" if labels == inf else f"{labels:.0f}"


SECTION = ReportSection(
    "crossing", "How many human labels is the judge worth?", dict | None,
    lambda run: budgets(run.cells, run.measured, run.held_out),
    chapter="rewards", template="crossing.html.jinja", draw=report_plots.crossing,
)  # fmt: skip
