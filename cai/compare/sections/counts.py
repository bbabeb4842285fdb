"""Every row that was left out, and every label that was withheld, by stage and arm."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cai.compare.cells import ROUND, Cell, Measured
from cai.compare.section import ReportSection
from cai.core.records import Abstained, Label, SetAside, read_jsonl
from cai.core.store import Artifact

KINDS = ("rows", "prompts")  # of which a stage may set some aside; its counts.json says `rows set aside: why`


@dataclass(frozen=True, slots=True)
class Count:
    """arm: "all" where several share it, or whose it is. of: out of how many, where that is known."""

    what: str
    arm: str
    n: int
    of: int | None = None
    note: str = ""


def counts(cells: Sequence[Cell], measured: Measured) -> list[Count]:
    """Every row that was dropped and every label that was withheld, by stage and arm; places of rows set aside."""
    made: list[tuple[str, Artifact | None, str]] = []
    for cell in chain.from_iterable(each.views for each in cells):
        made += [(stage, getattr(cell, stage), "all") for stage in ("data", "revised", "sft")]
        made += [(f"labels, {who}", its, cell.arm) for who, its in cell.labellers.items() if its != cell.labels]
        for number, iteration in enumerate(cell.lineage, 1):
            name = f" of round {number}" if len(cell.lineage) > 1 else ""
            for stage in ROUND:
                whose = cell.arm if stage in ("pairs", "labels") else cell.name
                made.append((stage + name, getattr(iteration, stage), whose))
    unique: dict[Path, tuple[str, Artifact, str]] = {}
    for stage, artifact, arm in made:
        if artifact:
            unique.setdefault(artifact.path, (stage, artifact, arm))
    shared = list(unique.values())
    if "model" in measured.harm:
        shared.append(("harmfulness", measured.harm["model"], "all"))
    shared += [(f"{kind} answers", artifact, name) for (name, kind), artifact in measured.answers.items()]
    lines = []
    for stage, artifact, arm in shared:
        file, places = artifact / "counts.json", set_aside(artifact)
        for what, n in json.loads(file.read_text()).items() if file.is_file() else ():
            lines.append(Count(f"{stage}: {what}", arm, n, note=places.get(what, "")))
    for (first, second), artifact in measured.games.items():
        n = len(read_jsonl(artifact / "abstained.jsonl", Abstained))
        of = n + len(read_jsonl(artifact / "games.jsonl", Label))
        lines.append(Count("games the judge could not read", f"{first} : {second}", n, of))
    return lines


def set_aside(artifact: Artifact, most: int = 3) -> dict[str, str]:
    """What counts.json counts -> the first places (file:line) of those rows, and the file that keeps them."""
    file = artifact / "set_aside.jsonl"
    places: dict[str, list[str]] = {}
    for row in read_jsonl(file, SetAside) if file.is_file() else []:
        places.setdefault(row.reason, []).append(row.where)
    more = {reason: f" and {len(some) - most} more" if len(some) > most else "" for reason, some in places.items()}
    return {
        f"{kind} set aside: {reason}": f"{', '.join(some[:most])}{more[reason]}; in {file}"
        for reason, some in places.items()
        for kind in KINDS
    }


SECTION = ReportSection("counts", "Counts", list[Count], lambda run: counts(run.cells, run.measured), empty=())
