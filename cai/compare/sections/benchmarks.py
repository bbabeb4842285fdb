"""`evaluate.comparisons`: reward models, policies and the judge on comparisons that people have decided."""

import json
from collections.abc import Sequence
from typing import Any

from cai.compare.cells import Cell, Measured
from cai.compare.section import Section
from cai.core.records import read_jsonl
from cai.core.textstats import words
from cai.data.comparisons import Item
from cai.judge.items import ItemChoice
from cai.stats import intervals as statistics


def benchmarks(cells: Sequence[Cell], measured: Measured) -> list[dict[str, Any]]:
    """One entry a file. accuracy: share of the comparisons on which the answer that people prefer is preferred.

    picks_first: how often a policy chooses what the file's question shows first, which no swap of the order cancels.
    unread: opinions that could not be had, by reason. Rulers know the answers' lengths alone.
    """
    arms = {cell.name: cell.arm for cell in cells}
    found = []
    for file, artifact in measured.items.items():
        items = read_jsonl(artifact / "items.jsonl", Item)
        faults = json.loads((artifact / "faults.json").read_text())
        rows = []
        for (of, kind, name), opinions in measured.opinions.items():
            if of == file:
                said = read_jsonl(opinions / "opinions.jsonl", ItemChoice)
                if said:
                    rows.append({"name": name or "judge", "kind": kind, "arm": arms.get(name), **scored(items, said)})
        longer = {i.pair.id: 0.5 + 0.5 * _sign(words(i.pair.a) - words(i.pair.b)) for i in items}
        for title, p in (("longer answer", longer), ("shorter answer", {key: 1 - p for key, p in longer.items()})):
            ruler = scored(items, [ItemChoice(pair_id, value) for pair_id, value in p.items()])
            rows.append({"name": title, "kind": "ruler", "arm": None, **ruler})
        found.append(
            {
                "file": file, "comparisons": len(items), "clusters": len({item.cluster for item in items}),
                "choices": sum(item.given is not None for item in items), "malformed": len(faults), "rows": rows,
            }
        )  # fmt: skip
    return found


def scored(items: Sequence[Item], opinions: Sequence[ItemChoice]) -> dict[str, Any]:
    """Accuracy, liking for the option shown first, and what was unread; openings of conversations are clusters."""
    by_id = {item.pair.id: item for item in items}
    read = [one for one in opinions if one.p_a is not None]
    clusters = [by_id[one.pair_id].cluster for one in read]
    unread: dict[str, int] = {}
    for one in opinions:
        if one.p_a is None:
            unread[one.fault] = unread.get(one.fault, 0) + 1
    shown = [(one.first, by_id[one.pair_id].cluster) for one in read if one.first is not None]
    p = [float("nan") if one.p_a is None else one.p_a for one in read]
    human = [by_id[one.pair_id].pair.human or 0.0 for one in read]
    return {
        "accuracy": statistics.accuracy(p, human, clusters),
        "picks_first": statistics.win_rate([p for p, _ in shown], [name for _, name in shown]) if shown else None,
        "unread": unread,
    }


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)


SECTION = Section(
    "benchmarks", "Comparisons that people have decided", list[dict], lambda run: benchmarks(run.cells, run.measured),
    empty=(), chapter="policies", template="benchmarks.html.jinja",
)  # fmt: skip
