"""Each arm's reward model on the labels of people and of each AI judge."""

from collections.abc import Sequence
from dataclasses import dataclass

from cai.compare.cells import Cell
from cai.compare.measures import HeldOutPairs, average
from cai.compare.section import ReportSection
from cai.core.records import Estimate
from cai.stats.intervals import mean


@dataclass(frozen=True, slots=True)
class CrossTable:
    """A row a reward model (mean of its seeds), a column a set of labels."""

    rows: list[str]
    columns: list[str]
    cells: list[list[Estimate]]


def cross(cells: Sequence[Cell], held_out: HeldOutPairs) -> CrossTable | None:
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
    return CrossTable([f"reward model {arm}" for arm in arms], list(columns), table)


SECTION = ReportSection(
    "cross", "Reward models on labels", CrossTable | None, lambda run: cross(run.cells, run.held_out)
)
