"""`moderation:` what was removed before training, by which filter and why, and how often the filters are wrong.

A filter that removes much may be careful or blind: on XSTest's safe prompts, which only look unsafe, every flag is a
false alarm; on its unsafe ones every flag is a hit. Rates are over prompts, each with its interval.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cai.compare.cells import Cell, Measured
from cai.compare.section import ReportSection
from cai.config.moderation import FILTERS
from cai.core.records import read_jsonl
from cai.core.store import Artifact
from cai.judge.false_alarms import FilterRate, Flagged, rates
from cai.train.moderate import RemovedRow

EXAMPLES = 8  # removed texts that are shown for an arm, of each reason in turn


@dataclass(frozen=True, slots=True)
class RemovalReason:
    """filter, reason: why. n: rows. unread: rows that the filter could not read, and did not remove."""

    filter: str
    reason: str
    n: int
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Sieved:
    """what: prompts, revisions, pairs 1, ... looked: training rows that were looked at. A row may have many reasons."""

    what: str
    looked: int
    removed: int
    reasons: list[RemovalReason]


@dataclass(frozen=True, slots=True)
class RemovedExample:
    what: str
    why: str
    text: str


@dataclass(frozen=True, slots=True)
class ModerationReport:
    """rates: empty where XSTest was not asked for (`evaluate.xstest`)."""

    arm: str
    sieved: list[Sieved]
    rates: list[FilterRate] = field(default_factory=list)
    examples: list[RemovedExample] = field(default_factory=list)


def moderation(cells: Sequence[Cell], measured: Measured) -> list[ModerationReport]:
    """One entry for each arm that filters; its first seed's, for what came before the seeds part."""
    reports = []
    for cell in {cell.arm: cell for cell in reversed(cells)}.values():
        if (settings := cell.settings.moderation) is None:
            continue
        filters = [name for name in FILTERS if getattr(settings, name) is not None]
        flagged = measured.flagged.get(cell.arm)
        reports.append(
            ModerationReport(
                arm=cell.arm,
                sieved=[_sieved(what, json.loads((its / "moderation.json").read_text())) for what, its in _made(cell)],
                rates=rates(read_jsonl(flagged / "flags.jsonl", Flagged), filters) if flagged else [],
                examples=[one for what, its in _made(cell) for one in _examples(what, its)],
            )
        )
    return reports[::-1]


def _made(cell: Cell) -> list[tuple[str, Artifact]]:
    return list(cell.moderated.items())


def _sieved(what: str, counts: dict[str, Any]) -> Sieved:
    reasons = [RemovalReason(name, reason, n) for name, reason, n in counts["reasons"]]
    reasons += [RemovalReason(name, reason, n, unread=True) for name, reason, n in counts["unread"]]
    return Sieved(what, counts["looked"], counts["removed"], sorted(reasons, key=lambda each: (each.unread, -each.n)))


def _examples(what: str, removed: Artifact) -> list[RemovedExample]:
    """The first row of each reason, then the second of each, and so on."""
    by: dict[str, list[RemovedExample]] = {}
    for row in read_jsonl(removed / "removed.jsonl", RemovedRow):
        flag = row.flags[0]
        why = f"{flag.filter}: {flag.reason}" + ("" if flag.value is None else f" ({flag.value:+.2f})")
        by.setdefault(f"{flag.filter}: {flag.reason}", []).append(RemovedExample(what, why, row.text))
    most = max(map(len, by.values()), default=0)
    return [rows[place] for place in range(most) for rows in by.values() if place < len(rows)][:EXAMPLES]


SECTION = ReportSection(
    "moderation", "Moderation", list[ModerationReport], lambda run: moderation(run.cells, run.measured), empty=(),
    chapter="training", template="moderation.html.jinja",
)  # fmt: skip
