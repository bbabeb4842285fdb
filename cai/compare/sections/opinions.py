"""Who agrees with whom on the held-out pairs: people, each arm's labels and reward model, and a trivial rule."""

from collections.abc import Sequence
from typing import Any

from cai.compare.cells import Cell
from cai.compare.measures import HeldOutPairs, Rows, average
from cai.compare.section import Section
from cai.stats import calibration
from cai.stats import intervals as statistics

RESAMPLES = 1000  # a table has dozens of intervals


def opinions(cells: Sequence[Cell], held_out: HeldOutPairs) -> list[tuple[str, str | None, Rows]]:
    """(name, arm, P(a better) by pair). A reward model is the mean of the arm's seeds."""
    found: list[tuple[str, str | None, Rows]] = [("people", None, held_out.human)] if held_out.human else []
    found += [(f"labels {arm}", arm, rows) for arm, rows in held_out.labels.items()]
    for arm in dict.fromkeys(cell.arm for cell in cells):
        margins = [held_out.margins[cell.name] for cell in cells if cell.arm == arm and cell.name in held_out.margins]
        if margins:
            found.append((f"reward model {arm}", arm, average(margins)))
    return [*found, ("shorter answer", None, held_out.baselines()["shorter answer"])]


def agreement(cells: Sequence[Cell], held_out: HeldOutPairs) -> dict[str, Any] | None:
    """Each with each: the share of pairs on which both are on one side, of those on which both take a side."""
    named = opinions(cells, held_out)
    if len(named) < 3:
        return None
    table = [[_together(held_out, one, two) if two is not one else None for _, _, two in named] for _, _, one in named]
    return {"names": [name for name, _, _ in named], "arms": [arm for _, arm, _ in named], "cells": table}


def _together(held_out: HeldOutPairs, one: Rows, two: Rows) -> Any:
    same = {
        row: float((p > 0.5) == (two[row] > 0.5)) for row, p in one.items() if row in two and 0.5 not in (p, two[row])
    }
    return statistics.mean(list(same.values()), [held_out.cluster(row) for row in same], resamples=RESAMPLES)


def by_category(cells: Sequence[Cell], held_out: HeldOutPairs) -> dict[str, Any] | None:
    """Agreement with people by the category of the prompt, the category with most pairs first."""
    named = [one for one in opinions(cells, held_out) if one[0] != "people"]
    if not held_out.human or not named:
        return None
    category = {row: held_out.pairs[row].prompt.subset for row in held_out.human}
    counts: dict[str, int] = {}
    for subset in category.values():
        counts[subset] = counts.get(subset, 0) + 1
    rows = sorted(counts, key=lambda subset: (-counts[subset], subset))
    if len(rows) < 2:
        return None
    right = [held_out.agreement(said, held_out.human) for _, _, said in named]
    table = [
        [
            statistics.mean(
                [x for row, x in rows_.items() if category[row] == subset],
                [held_out.cluster(row) for row in rows_ if category[row] == subset],
                resamples=RESAMPLES,
            )
            for rows_ in right
        ]
        for subset in rows
    ]
    return {"rows": rows, "columns": [n for n, _, _ in named], "arms": [arm for _, arm, _ in named], "cells": table}


def reward_reliability(cells: Sequence[Cell], held_out: HeldOutPairs) -> dict[str, list]:
    """Arm -> what its reward model (mean of its seeds) claims against what people say, bin by bin."""
    found = {}
    for name, arm, said in opinions(cells, held_out):
        rows = [row for row in said if row in held_out.human]
        if arm and name.startswith("reward model") and rows:
            found[arm] = calibration.reliability([said[row] for row in rows], [held_out.human[row] for row in rows])
    return found


AGREEMENT = Section("agreement", "Who agrees with whom", dict, lambda run: agreement(run.cells, run.held_out))
BY_CATEGORY = Section("by_category", "By category of harm", dict, lambda run: by_category(run.cells, run.held_out))
REWARD_RELIABILITY = Section(
    "reward_reliability", "Calibration of the reward models", dict,
    lambda run: reward_reliability(run.cells, run.held_out), empty={},
)  # fmt: skip
