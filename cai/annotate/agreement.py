"""The end of a labelling session in figures: what a rater did, and how often other raters say the same."""

from collections import Counter
from itertools import combinations
from statistics import median
from typing import Any

from cai.annotate.desk import Desk
from cai.core.records import plain
from cai.data.label_log import LabelRow


def summary(desk: Desk, rater: str) -> dict[str, Any]:
    """Counts of one rater's choices, agreement of all pairs of raters, and the faults of the log."""
    desk.log.refresh()
    rows = desk.rows()
    mine = [row for row in rows if row.rater == rater]
    chosen = Counter(_place(row) for row in mine)
    seconds = [row.seconds for row in mine if row.p_a is not None]
    return {
        "rater": rater,
        "file": str(desk.log.path),
        "total": len(desk.tasks),
        "labelled": len(seconds),
        "chosen": {place: chosen[place] for place in ("left", "right", "tie", "skip")},
        "seconds": median(seconds) if seconds else None,
        "notes": sum(bool(row.note) for row in mine),
        "agreement": agreement(desk, rows),
        "faults": dict(Counter(why for _, why in desk.log.faults + desk.log.repeated())),
    }


def agreement(desk: Desk, rows: list[LabelRow]) -> list[dict[str, Any]]:
    """For each two raters with questions in common: share of the same answer, and Cohen's kappa, with intervals."""
    p_of: dict[str, dict[tuple, float]] = {}
    for row in rows:
        if row.p_a is not None:
            p_of.setdefault(row.rater, {})[row.key[1:]] = row.p_a
    prompts = {task.key: task.pair.prompt.id for task in desk.tasks}
    common = {
        (rater, other): [key for key in p_of[rater] if key in p_of[other]]
        for rater, other in combinations(sorted(p_of), 2)
    }
    if not any(common.values()):
        return []

    from cai.stats.agreement import kappa, rater_agreement  # heavy: only when there is something to compare

    measured = []
    for (rater, other), keys in common.items():
        if keys:
            first, second = ([p_of[name][key] for key in keys] for name in (rater, other))
            clusters = [prompts[key] for key in keys]
            same = rater_agreement(list(zip(first, second, strict=True)), clusters)
            measured.append(plain({"raters": [rater, other], "same": same, "kappa": kappa(first, second, clusters)}))
    return measured


def _place(row: LabelRow) -> str:
    if row.choice in ("a", "b"):
        return "left" if row.choice == row.left else "right"
    return row.choice
