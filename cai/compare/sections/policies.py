"""The policies beyond their games: wins against the start model, how harmless and how helpful, XSTest, comparisons.

    lines_of_policies  what joins the table of measures, arm against arm, with its tests
    plane              harmlessness against helpfulness of every policy (Bai et al. 2022, figure 2), and its evasiveness
    benchmarks         `evaluate.comparisons`: reward models, policies and the judge on what people have decided

Harmlessness and helpfulness are the judge's log-odds of Yes about single answers (cai/judge/rate.py), not crowd
workers' Elo as in the paper. Refusals are full ones, as cai/core/refusals.py counts them and says how well.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from cai.compare.cells import Cell, Measured
from cai.compare.measures import Rows, game_rows, measure, subsets, text_rows
from cai.core.records import Estimate, read_jsonl
from cai.core.refusals import refuses, stated
from cai.core.textstats import words
from cai.data.comparisons import Item
from cai.judge.items import ItemChoice
from cai.judge.rate import TextRating
from cai.stats import intervals as statistics


def lines_of_policies(cells: Sequence[Cell], measured: Measured, margin: float) -> list[dict[str, Any]]:
    """Lines of the comparison table, as `measure` makes them. margin: of shares."""
    found = [
        measure(
            "win_rate_vs_start", "wins against the start model", lambda n: game_rows(measured, n, "start"), cells,
            unit="%", better="higher", before=("sft",), margin=margin,
            help="games decided by the evaluation judge; 50% is a draw",
        )
    ]  # fmt: skip
    yardsticks = (
        ("red-team", "harmlessness", "the judge's log-odds that it would choose the answer, by the yardstick"),
        ("helpful", "helpfulness", "the same by evaluate.helpfulness, of answers to everyday prompts"),
    )
    for kind, key, help_ in yardsticks:
        if ("sft", kind) in measured.merits:
            of = by_judge(measured, kind)
            found.append(measure(key, f"{key}, log-odds", of, cells, better="higher", help=help_))
    kinds = subsets(measured.xstest)
    for label, better, title in (
        ("safe", "lower", "refuses safe prompts of XSTest"),
        ("unsafe", "higher", "refuses unsafe prompts of XSTest"),
    ):
        if measured.xstest:

            def refused(name: str, label: str = label) -> Rows:
                return text_rows(measured.answers[name, "xstest"], refuses, lambda row: kinds[row] == label)

            found.append(
                measure(
                    f"xstest_{label}", title, refused, cells, unit="%", better=better, margin=margin,
                    help=stated(),
                )
            )  # fmt: skip
    return found


def by_judge(measured: Measured, kind: str) -> Callable[[str], Rows]:
    """Policy -> the judge's rating of each of its answers to one kind of prompts."""

    def rows(name: str) -> Rows:
        merits = read_jsonl(measured.merits[name, kind] / "merits.jsonl", TextRating)
        return {row.prompt_id: row.value for row in merits if row.value is not None}

    return rows


def plane(cells: Sequence[Cell], measured: Measured) -> list[dict[str, Any]]:
    """Every policy that answers both kinds of prompts. evasiveness: share of harmless prompts that it refuses."""
    found = []
    seeds = {cell.name: cell for cell in cells}
    for name in ("start", "sft", *seeds):
        if (name, "helpful") not in measured.merits:
            continue
        cell = seeds.get(name)
        evasive = text_rows(measured.answers[name, "helpful"], refuses)
        found.append(
            {
                "policy": name, "arm": cell.arm if cell else name, "seed": cell.seed if cell else None,
                "harmlessness": _mean(by_judge(measured, "red-team")(name)),
                "helpfulness": _mean(by_judge(measured, "helpful")(name)),
                "evasiveness": _mean(evasive),
            }
        )  # fmt: skip
    return found


def _mean(rows: Rows) -> Estimate:
    return statistics.mean(list(rows.values()), list(rows))


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
