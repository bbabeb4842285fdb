"""What each round of pairs, labels, reward model and policy was made of, and how its policy does."""

from collections.abc import Sequence
from typing import Any

from cai.compare.cells import ROUND, Cell, Measured
from cai.compare.measures import game_rows, reward_rows
from cai.compare.section import Section
from cai.core.records import Label, Pair, read_jsonl
from cai.stats.intervals import mean


def rounds(cells: Sequence[Cell], measured: Measured) -> list[dict[str, Any]]:
    """Each round of each cell: what it was made of, and how its policy does; nothing where all have one round.

    reward: by the cell's last reward model, in standard deviations of the SFT policy's rewards, so that rounds compare.
    """
    if all(len(cell.lineage) == 1 for cell in cells):
        return []
    lines = []
    for cell in cells:
        for number, (name, one) in enumerate(cell.policies.items(), 1):
            wins, rewards = game_rows(measured, name, "sft"), reward_rows(measured, cell.name, name)
            lines.append(
                {
                    "arm": cell.arm, "seed": cell.seed, "round": number,
                    "keys": {stage: getattr(one, stage).key for stage in ROUND if getattr(one, stage)},
                    "pairs": len(read_jsonl(one.pairs / "pairs.jsonl", Pair)),
                    "labels": len(read_jsonl(one.labels / "labels.jsonl", Label)) if one.labels else 0,
                    "win_rate_vs_sft": mean(list(wins.values()), list(wins)),
                    "reward": mean(list(rewards.values()), list(rewards)),
                }
            )  # fmt: skip
    return lines


SECTION = Section("rounds", "Round by round", list[dict], lambda run: rounds(run.cells, run.measured), empty=())
