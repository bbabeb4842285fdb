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

from cai.compare.caveats import caveat
from cai.compare.cells import Cell
from cai.compare.section import ReportSection
from cai.judge.methods import name_of


def reading(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One entry for each arm whose labels or rewards an AI judge gives."""
    views = [view for cell in cells for view in cell.views]
    by_arm = {cell.arm: cell for cell in reversed(views) if cell.settings.asks_judge}
    return [_of(cell) for cell in reversed(by_arm.values())]


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
    return entry | {"sentence": caveat(entry, [cell.arm])}


SECTION = ReportSection(
    "reading", "Does the judge read its constitution?", list[dict], lambda run: reading(run.cells), empty=(),
    chapter="labels", template="reading.html.jinja",
)  # fmt: skip
