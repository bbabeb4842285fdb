"""`evaluate.comparisons`: reward models, policies and the judge on comparisons that people have decided."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cai.compare.cells import Cell, Measured
from cai.compare.section import ReportSection
from cai.core.records import Estimate, read_jsonl
from cai.core.textstats import words
from cai.data.comparisons import Item
from cai.judge.items import ItemChoice
from cai.stats import intervals as statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """Of a reward model, a policy, the judge or a ruler that knows the answers' lengths alone.

    accuracy: share of the comparisons on which the answer that people prefer is preferred.
    picks_first: how often a policy chooses what the file's question shows first, which no swap of the order cancels.
    unread: choices that could not be had, by reason.
    """

    name: str
    kind: Literal["judge", "reward", "policy", "ruler"]
    arm: str | None
    accuracy: Estimate
    picks_first: Estimate | None
    unread: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkReport:
    """comparisons: usable rows; clusters: openings of conversations; malformed: rows that could not be used.

    choices: rows of which a choice was given."""

    file: str
    comparisons: int
    clusters: int
    choices: int
    malformed: int
    rows: list[Scorecard]


def benchmarks(cells: Sequence[Cell], measured: Measured) -> list[BenchmarkReport]:
    """One entry a file."""
    arms = {cell.name: cell.arm for cell in cells}
    reports = []
    for file, artifact in measured.items.items():
        items = read_jsonl(artifact / "items.jsonl", Item)
        faults = json.loads((artifact / "faults.json").read_text())
        rows = []
        for (of, kind, name), artifact in measured.opinions.items():
            if of == file and (choices := read_jsonl(artifact / "opinions.jsonl", ItemChoice)):
                rows.append(scored(items, choices, name or "judge", kind, arms.get(name)))
        longer = {i.pair.id: 0.5 + 0.5 * _sign(words(i.pair.a) - words(i.pair.b)) for i in items}
        for title, p in (("longer answer", longer), ("shorter answer", {key: 1 - p for key, p in longer.items()})):
            rows.append(scored(items, [ItemChoice(pair_id, value) for pair_id, value in p.items()], title))
        reports.append(
            BenchmarkReport(
                file=file,
                comparisons=len(items),
                clusters=len({item.cluster for item in items}),
                choices=sum(item.given is not None for item in items),
                malformed=len(faults),
                rows=rows,
            )
        )
    return reports


def scored(
    items: Sequence[Item], choices: Sequence[ItemChoice], name: str, kind: Any = "ruler", arm: str | None = None
) -> Scorecard:
    """Accuracy, liking for the option shown first, and what was unread; openings of conversations are clusters."""
    by_id = {item.pair.id: item for item in items}
    read = [(choice, by_id[choice.pair_id], choice.p_a) for choice in choices if choice.p_a is not None]
    human = [item.pair.human or 0.0 for _, item, _ in read]
    shown = [(choice.first, item.cluster) for choice, item, _ in read if choice.first is not None]
    return Scorecard(
        name=name,
        kind=kind,
        arm=arm,
        accuracy=statistics.accuracy([p for *_, p in read], human, [item.cluster for _, item, _ in read]),
        picks_first=statistics.win_rate([p for p, _ in shown], [name for _, name in shown]) if shown else None,
        unread=dict(Counter(choice.fault for choice in choices if choice.p_a is None)),
    )


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)


SECTION = ReportSection(
    "benchmarks", "Comparisons that people have decided", list[BenchmarkReport],
    lambda run: benchmarks(run.cells, run.measured), empty=(), chapter="policies", template="benchmarks.html.jinja",
)  # fmt: skip
