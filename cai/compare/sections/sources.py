"""Who labelled each arm's pairs."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from cai.compare.cells import Cell
from cai.compare.section import ReportSection
from cai.core.records import Label, Pair, read_jsonl


def sources(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Who labelled each arm's pairs, as the config says it and as it came out (all rounds, training pairs alone)."""
    lines = []
    views = [view for cell in cells for view in cell.views]
    for arm, cell in {cell.arm: cell for cell in reversed(views)}.items():
        labelled: Counter[str] = Counter()
        for one in cell.lineage:
            train = {pair.id for pair in read_jsonl(one.pairs / "pairs.jsonl", Pair) if pair.prompt.split == "train"}
            rows = read_jsonl(one.labels / "labels.jsonl", Label) if one.labels else []
            labelled.update(row.source for row in rows if row.pair_id in train)
        rl = cell.settings.rl
        who = str(cell.settings.labels) if rl.asks_labellers else f"nobody: rl.method is {rl.method}"
        who = "nobody: it ends with its SFT policy" if rl.ends_with_sft else who
        lines.append({"arm": arm, "said": who, "labelled": dict(labelled)})
    return lines[::-1]


SECTION = ReportSection("sources", "Who labelled", list[dict], lambda run: sources(run.cells), empty=())
