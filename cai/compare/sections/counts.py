"""Every row that was left out, and every label that was withheld, by stage and arm."""

import json
from collections.abc import Sequence
from typing import Any

from cai.compare.cells import ROUND, Cell, Measured
from cai.compare.section import Section
from cai.core.records import Abstained, Label, SetAside, read_jsonl
from cai.core.store import Artifact


def counts(cells: Sequence[Cell], measured: Measured) -> list[dict[str, Any]]:
    """Every row that was dropped and every label that was withheld, by stage and arm; places of rows set aside."""
    lines, seen = [], set()
    for cell in cells:
        shared = {stage: getattr(cell, stage) for stage in ("data", "revised", "sft")}
        made = [(stage, artifact, "all") for stage, artifact in shared.items()]
        made += [(f"labels, {who}", said, cell.arm) for who, said in cell.said.items() if said != cell.labels]
        for number, one in enumerate(cell.lineage, 1):
            name = f" of round {number}" if len(cell.lineage) > 1 else ""
            for stage in ROUND:
                whose = cell.arm if stage in ("pairs", "labels") else cell.name
                made.append((stage + name, getattr(one, stage), whose))
        for stage, artifact, arm in made:
            if artifact is None or artifact.path in seen or not (artifact / "counts.json").is_file():
                continue
            seen.add(artifact.path)
            places = set_aside(artifact)
            for what, n in json.loads((artifact / "counts.json").read_text()).items():
                note = places.get(what.partition(" set aside: ")[2], "")
                lines.append({"what": f"{stage}: {what}", "arm": arm, "n": n, "of": None, "note": note})
    if "model" in measured.harm:
        for what, n in json.loads((measured.harm["model"] / "counts.json").read_text()).items():
            lines.append({"what": f"harmfulness: {what}", "arm": "all", "n": n, "of": None, "note": ""})
    for (name, kind), artifact in measured.answers.items():
        if (artifact / "counts.json").is_file():
            places = set_aside(artifact)
            for what, n in json.loads((artifact / "counts.json").read_text()).items():
                note = places.get(what.partition(" set aside: ")[2], "")
                lines.append({"what": f"{kind} answers: {what}", "arm": name, "n": n, "of": None, "note": note})
    for (one, two), artifact in measured.games.items():
        n = len(read_jsonl(artifact / "abstained.jsonl", Abstained))
        of = n + len(read_jsonl(artifact / "games.jsonl", Label))
        lines.append({"what": "games the judge could not read", "arm": f"{one} : {two}", "n": n, "of": of, "note": ""})
    return lines


def set_aside(artifact: Artifact, most: int = 3) -> dict[str, str]:
    """Reason -> the first places (file:line) of the rows that were set aside for it, and the file that keeps them."""
    file = artifact / "set_aside.jsonl"
    places: dict[str, list[str]] = {}
    for row in read_jsonl(file, SetAside) if file.is_file() else []:
        places.setdefault(row.reason, []).append(row.where)
    return {
        reason: ", ".join(found[:most])
        + (f" and {len(found) - most} more" if len(found) > most else "")
        + f"; in {file}"
        for reason, found in places.items()
    }


SECTION = Section("counts", "Counts", list[dict], lambda run: counts(run.cells, run.measured), empty=())
