"""Whether the labels come from the constitution: what each arm's preflight found of the judge's reading
(cai/judge/reads/).

An entry of `reading` in results.json:

    arm, judge, method   whose labels, and who gives them
    measured             whether other texts were tried at all
    reads                whether the judge was seen to read, by the thresholds of its preflight (the usual ones where
                         `reads: off`)
    unread               why it is not believed to, in words
    effect               of the method that labels: an `Effect` (cai/judge/reads/effect.py), or null
    tried                [{"method", "reads", "effect"}], every method whose reading was measured
    placebos, noted      names of the placebos, in the order of their estimates; what could not be put to the test
    sentence             what to know before the first number; "" for a judge that reads
"""

import json
from collections.abc import Sequence
from typing import Any

from cai.compare.cells import Cell, by_each_judge
from cai.compare.section import ReportSection
from cai.judge.methods import name_of


def reading(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One entry for each arm whose labels or rewards an AI judge gives."""
    views = [view for cell in cells for view in cell.views]
    by_arm = {cell.arm: cell for cell in reversed(views) if cell.settings.asks_judge}
    return [_of(judge) for cell in reversed(by_arm.values()) for judge in by_each_judge(cell)]


def _of(cell: Cell) -> dict[str, Any]:
    judge = cell.settings.judge
    found = json.loads((cell.preflight / "preflight.json").read_text()) if cell.preflight else {}
    method = found.get("method", judge.method)
    tried = [one for one in found.get("tried", ()) if one.get("effect")]
    used = next((one for one in tried if one["method"] == method), None)
    about = found.get("reads", {})
    entry = {
        "arm": cell.arm,
        "judge": judge.model,
        "method": name_of(method) if cell.constitution.judging else "check",
        "measured": used is not None,
        "reads": used is not None and not used["unread"],
        "unread": used["unread"] if used else [],
        "effect": used["effect"] if used else None,
        "tried": [
            {"method": name_of(one["method"]), "reads": not one["unread"], "effect": one["effect"]} for one in tried
        ],
        "placebos": about.get("placebos", []),
        "noted": about.get("noted", []),
    }
    return entry | {"sentence": sentence(entry, [cell.arm])}


def caveats(entries: Sequence[dict[str, Any]]) -> list[str]:
    """What a reader must know before the first number, once for all arms of which it is so."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for entry in entries:
        if not entry["reads"]:
            alike.setdefault((entry["method"], entry["measured"], *entry["unread"]), []).append(entry)
    return [sentence(same[0], [entry["arm"] for entry in same]) for same in alike.values()]


def sentence(entry: dict[str, Any], arms: Sequence[str]) -> str:
    """What a reader must know first of arms whose judge was not seen to read; "" for one that was."""
    if entry["reads"]:
        return ""
    whose = f"arm {arms[0]}" if len(arms) == 1 else f"arms {', '.join(arms[:-1])} and {arms[-1]}"
    if entry["method"] == "provenance":
        wrote = "say under which instruction an answer was written"
        return f"The labels of {whose} {wrote}; no judge read the constitution."
    if entry["method"] == "check":
        return f"The labels of {whose} were computed by programs; no judge read the constitution."
    text = "its constitution" if len(arms) == 1 else "their constitutions"
    if not entry["measured"]:
        return f"Whether the AI labels of {whose} come from {text} was not measured."
    return f"The AI labels of {whose} do not come from {text}, as far as could be seen: {'; '.join(entry['unread'])}."


SECTION = ReportSection(
    "reading", "Does the judge read its constitution?", list[dict], lambda run: reading(run.cells), empty=(),
    chapter="labels", template="reading.html.jinja",
)  # fmt: skip
