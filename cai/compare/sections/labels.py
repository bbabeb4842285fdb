"""Every source of labels beside people on the held-out pairs, from two people to the rule that knows nothing."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from cai.compare.cells import Cell, Measured
from cai.compare.measures import HeldOutPairs, rater_lines
from cai.compare.schema import LabelKind, LabelLine
from cai.compare.section import ReportSection
from cai.compare.sections.judges import method_of
from cai.config.labels import WORDS


def label_lines(cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs) -> list[LabelLine]:
    """Every opinion on the held-out pairs beside people's, from two people to the rule that knows nothing."""
    if not held_out.human:
        return []
    lines = [held_out.ceiling(), *rater_lines(cells[0].data)]
    train = HeldOutPairs(cells, measured, "train")
    for cell in {cell.arm: cell for cell in cells if cell.arm in held_out.labels}.values():
        for who, said in cell.labellers.items():
            if who == "human" and not cell.settings.labels.file:
                continue  # they are what the others are held against
            people = f"people of {cell.settings.labels.file}"
            name = {"ai": f"AI judge ({method_of(cell)})", "human": people}.get(who, WORDS.get(who, who))
            kind: LabelKind = "baseline" if who in ("shuffled", "shorter") else "judge"
            lines.append(held_out.line(name, kind, held_out.of(said), "test", cell.arm))
            lines.append(train.line(name, kind, train.of(said), "train", cell.arm))
    for cell in cells:
        if cell.reward:
            lines.append(
                held_out.line(
                    f"reward model {cell.name}", "reward", held_out.margins[cell.name], "test", cell.arm, cell.seed
                )
            )
    lines += [held_out.line(name, "baseline", rows, "test") for name, rows in held_out.baselines().items()]
    return told_apart(lines)


def told_apart(lines: Sequence[LabelLine]) -> list[LabelLine]:
    """The lines, with the arm in the title of those whose name several arms' labellers share."""
    arms = defaultdict(set)
    for line in lines:
        arms[line.name].add(line.arm)
    return [
        replace(line, title=f"{line.title}, arm {line.arm}") if len(arms[line.name]) > 1 else line for line in lines
    ]


SECTION = ReportSection(
    "labels", "Labels", list[LabelLine], lambda run: label_lines(run.cells, run.measured, run.held_out), empty=()
)  # fmt: skip
