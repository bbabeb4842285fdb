"""What each round of pairs, labels, reward model and policy was made of, and how its policy does.

What the rounds do, measure by measure, is in over_rounds.py; the page shows it above the table of these.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cai.compare.cells import ROUND, Cell, Measured
from cai.compare.measures import game_rows, reward_rows
from cai.compare.section import ReportSection
from cai.compare.sections.over_rounds import MeasureOverRounds, drawn, over_rounds
from cai.core.records import Estimate, Label, Pair, read_jsonl
from cai.stats.intervals import mean


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """keys: stage -> key of its artifact. pairs, labels: how many.

    reward: by the cell's last reward model, in standard deviations of the SFT policy's rewards, so that rounds compare;
    None where the arm has none, or one for each of `criteria:`.
    """

    arm: str
    seed: int
    round: int
    keys: dict[str, str]
    pairs: int
    labels: int
    win_rate_vs_sft: Estimate
    reward: Estimate | None


def rounds(cells: Sequence[Cell], measured: Measured) -> list[RoundReport]:
    """Each round of each cell: what it was made of, and how its policy does; nothing where all have one round."""
    if all(len(cell.lineage) == 1 for cell in cells):
        return []
    lines = []
    for cell in cells:
        for number, (name, its) in enumerate(cell.policies.items(), 1):
            wins = game_rows(measured, name, "sft")
            rewards = reward_rows(measured, cell.name, name) if cell.reward else None
            lines.append(
                RoundReport(
                    arm=cell.arm,
                    seed=cell.seed,
                    round=number,
                    keys={stage: getattr(its, stage).key for stage in ROUND if getattr(its, stage)},
                    pairs=len(read_jsonl(its.pairs / "pairs.jsonl", Pair)),
                    labels=len(read_jsonl(its.labels / "labels.jsonl", Label)) if its.labels else 0,
                    win_rate_vs_sft=mean(list(wins.values()), list(wins)),
                    reward=None if rewards is None else mean(list(rewards.values()), list(rewards)),
                )
            )
    return lines


SECTION = ReportSection(
    "rounds", "Round by round", list[RoundReport], lambda run: rounds(run.cells, run.measured), empty=(),
    chapter="training", template="rounds.html.jinja", draw=drawn,
)  # fmt: skip
OVER_ROUNDS = ReportSection(
    "over_rounds", "Over rounds", list[MeasureOverRounds], lambda run: over_rounds(run.cells, run.measured), empty=()
)
