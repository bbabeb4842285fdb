"""A label log -> pairs with human P(a better), in the form that `data.source` takes."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from cai.annotate.sheet import PairsToLabel
from cai.core.durable import write_whole
from cai.core.errors import UserError
from cai.data.label_log import LabelLog, LabelRow, p_for


def export(place: PairsToLabel, log: LabelLog, out: Path) -> Counter[str]:
    """Write each labelled pair with `votes` (one P for each rater, by name) and `human`, their mean.

    A rater's P is their verdict on the whole; of one who judged by principles only, the mean over these. Pairs that
    nobody labelled are left out, and so is a label that the pair had in its source. A split is written where the
    source names one; where it was only drawn, the experiment that reads the file draws it, by its own `data.test`.
    Returns what was written and what was left out. Raises UserError where no label fits a pair.
    """
    counts: Counter[str] = Counter(why for _, why in log.faults + log.repeated())
    by_pair: dict[str, dict[str, list[LabelRow]]] = defaultdict(lambda: defaultdict(list))
    for row in log.in_force():
        by_pair[row.pair_id][row.rater].append(row)
    rows = []
    for pair in place.pairs:
        votes = {}
        for rater, decisions in sorted(by_pair.pop(pair.id, {}).items()):
            try:
                p = _of_rater(decisions, [p_for(row, pair) for row in decisions])
            except UserError:
                counts["labels left out: the pair has other answers now"] += 1
                continue
            if p is not None:
                votes[rater] = p
        if not votes:
            counts["pairs that nobody labelled"] += 1
            continue
        made: dict[str, Any] = asdict(pair) | {"human": fmean(votes.values()), "votes": list(votes.values())}
        if pair.id in place.drawn:
            del made["prompt"]["split"]
        rows.append(made)
    strangers = [row for raters in by_pair.values() for decisions in raters.values() for row in decisions]
    counts["labels left out: there is no such pair"] += len(strangers)
    if not rows:
        problem = "no label of this log is of a pair that was given"
        raise UserError(problem, str(log.path), "give the pairs that were labelled")
    write_whole(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    counts["pairs written"] = len(rows)
    return +counts


def _of_rater(decisions: Sequence[LabelRow], values: Sequence[float | None]) -> float | None:
    known = [(row.principle is None, p) for row, p in zip(decisions, values, strict=True) if p is not None]
    whole = [p for overall, p in known if overall]
    return fmean(whole or [p for _, p in known]) if known else None
