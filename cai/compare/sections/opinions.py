"""Who agrees with whom on the held-out pairs: people, each arm's labels and reward model, and a trivial rule."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cai.compare.cells import Cell
from cai.compare.measures import HeldOutPairs, Rows, average
from cai.compare.section import ReportSection
from cai.core.records import Estimate
from cai.stats import calibration
from cai.stats import intervals as statistics

RESAMPLES = 1000  # a table has dozens of intervals
Bins = list[tuple[float, float, int]]  # (mean P claimed, people's mean P, rows) of each


@dataclass(frozen=True, slots=True)
class Preferences:
    """P(a better) by pair, and whose. A reward model is the mean of the arm's seeds."""

    name: str
    kind: Literal["people", "labels", "reward", "baseline"]
    arm: str | None
    rows: Rows


@dataclass(frozen=True, slots=True)
class AgreementTable:
    """Each with each. arms: of the names, None for what is of no arm. cells: None on the diagonal."""

    names: list[str]
    arms: list[str | None]
    cells: list[list[Estimate | None]]


@dataclass(frozen=True, slots=True)
class CategoryTable:
    """A row a category, a column a source. arms: of the columns."""

    rows: list[str]
    columns: list[str]
    arms: list[str | None]
    cells: list[list[Estimate]]


def preferences(cells: Sequence[Cell], held_out: HeldOutPairs) -> list[Preferences]:
    everybody = [Preferences("people", "people", None, held_out.human)] if held_out.human else []
    everybody += [Preferences(f"labels {arm}", "labels", arm, rows) for arm, rows in held_out.labels.items()]
    for arm in dict.fromkeys(cell.arm for cell in cells):
        margins = [held_out.margins[cell.name] for cell in cells if cell.arm == arm and cell.name in held_out.margins]
        if margins:
            everybody.append(Preferences(f"reward model {arm}", "reward", arm, average(margins)))
    rule = "shorter answer"
    return [*everybody, Preferences(rule, "baseline", None, held_out.baselines()[rule])]


def agreement(cells: Sequence[Cell], held_out: HeldOutPairs) -> AgreementTable | None:
    """Each with each: the share of pairs on which both are on one side, of those on which both take a side."""
    some = preferences(cells, held_out)
    if len(some) < 3:
        return None
    table = [[_together(held_out, x.rows, y.rows) if y is not x else None for y in some] for x in some]
    return AgreementTable([x.name for x in some], [x.arm for x in some], table)


def _together(held_out: HeldOutPairs, first: Rows, second: Rows) -> Estimate:
    same = {
        row: float((p > 0.5) == (second[row] > 0.5))
        for row, p in first.items()
        if row in second and 0.5 not in (p, second[row])
    }
    return statistics.mean(list(same.values()), [held_out.cluster(row) for row in same], resamples=RESAMPLES)


def by_category(cells: Sequence[Cell], held_out: HeldOutPairs) -> CategoryTable | None:
    """Agreement with people by the category of the prompt, the category with most pairs first."""
    some = [x for x in preferences(cells, held_out) if x.kind != "people"]
    if not held_out.human or not some:
        return None
    category = {row: held_out.pairs[row].prompt.subset for row in held_out.human}
    counts = Counter(category.values())
    subsets = sorted(counts, key=lambda subset: (-counts[subset], subset))
    if len(subsets) < 2:
        return None

    def share(right: Rows, subset: str) -> Estimate:
        rows = [row for row in right if category[row] == subset]
        names = [held_out.cluster(row) for row in rows]
        return statistics.mean([right[row] for row in rows], names, resamples=RESAMPLES)

    columns = [held_out.agreement(x.rows, held_out.human) for x in some]
    table = [[share(right, subset) for right in columns] for subset in subsets]
    return CategoryTable(subsets, [x.name for x in some], [x.arm for x in some], table)


def reward_reliability(cells: Sequence[Cell], held_out: HeldOutPairs) -> dict[str, Bins]:
    """Arm -> what its reward model (mean of its seeds) claims against what people say, bin by bin."""
    curves = {}
    for model in preferences(cells, held_out):
        rows = [row for row in model.rows if row in held_out.human]
        if model.kind == "reward" and model.arm and rows:
            claimed, human = [model.rows[row] for row in rows], [held_out.human[row] for row in rows]
            curves[model.arm] = calibration.reliability(claimed, human)
    return curves


AGREEMENT = ReportSection(
    "agreement", "Who agrees with whom", AgreementTable | None, lambda run: agreement(run.cells, run.held_out)
)
BY_CATEGORY = ReportSection(
    "by_category", "By category of harm", CategoryTable | None, lambda run: by_category(run.cells, run.held_out)
)
REWARD_RELIABILITY = ReportSection(
    "reward_reliability", "Calibration of the reward models", dict[str, Bins],
    lambda run: reward_reliability(run.cells, run.held_out), empty={},
)  # fmt: skip
