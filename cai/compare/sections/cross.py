"""Each arm's reward model on the labels of people and of each AI judge."""

from collections.abc import Sequence
from typing import Any

from cai.compare.cells import Cell
from cai.compare.measures import HeldOutPairs, average
from cai.compare.section import Section
from cai.stats.intervals import mean


def cross(cells: Sequence[Cell], held_out: HeldOutPairs) -> dict[str, Any] | None:
    """Each arm's reward model on the labels of people and of each AI judge (accuracy, held-out pairs)."""
    columns = ({"human labels": held_out.human} if held_out.human else {}) | {
        f"{a} labels": r for a, r in held_out.labels.items()
    }
    arms = list(dict.fromkeys(cell.arm for cell in cells if cell.reward))
    if not columns or not arms:
        return None
    table = []
    for arm in arms:
        row = []
        for truth in columns.values():
            seeds = [held_out.agreement(held_out.margins[cell.name], truth) for cell in cells if cell.arm == arm]
            rows = average(seeds)
            row.append(mean(list(rows.values()), [held_out.cluster(pair) for pair in rows]))
        table.append(row)
    return {"rows": [f"reward model {arm}" for arm in arms], "columns": list(columns), "cells": table}


SECTION = Section("cross", "Reward models on labels", dict, lambda run: cross(run.cells, run.held_out))
