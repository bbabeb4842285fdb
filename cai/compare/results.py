"""Everything that a run says at its end: results.json, examples, report.html and the table on the terminal."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cai.compare.cells import Cell, Measured
from cai.compare.measures import (
    HeldOut,
    adjust,
    average,
    ended_rows,
    game_rows,
    measure,
    rater_lines,
    reward_rows,
    subsets,
    text_rows,
)
from cai.compare.report import write_report
from cai.compare.sections import opinions
from cai.compare.sections.audit import audit
from cai.compare.sections.budgets import budgets
from cai.compare.sections.curves import curves
from cai.compare.sections.examples import examples
from cai.compare.sections.harmfulness import (
    curves_of_harmfulness,
    harmfulness,
    lines_of_harmfulness,
    warnings_of_harmfulness,
)
from cai.compare.sections.headline import headline, ratings
from cai.compare.sections.judges import judges, method_of
from cai.compare.sections.lineage import ROUND, counts, rounds, sources
from cai.compare.sections.notes import differences, fallen_out, warnings
from cai.compare.sections.policies import benchmarks, lines_of_policies, plane
from cai.compare.sections.provenance import Began, provenance
from cai.compare.sections.reading import reading
from cai.compare.sections.rewards import rewards
from cai.compare.sections.snapshots import snapshots
from cai.compare.sections.watched import overoptimisation
from cai.compare.table import print_table
from cai.config.load import Experiment
from cai.core.durable import make_folders, write_whole
from cai.core.records import plain
from cai.core.refusals import partly_refuses, refuses, stated
from cai.core.store import Artifact
from cai.core.textstats import repetition, wordless, words
from cai.models.workbench import Workbench
from cai.stats.intervals import mean


def finish(
    experiment: Experiment,
    cells: Sequence[Cell],
    measured: Measured,
    ledger: Sequence[Artifact],
    work: Workbench,
    began: Began,
    noted: Sequence[str] = (),
) -> dict[str, Any]:
    """Write runs/<name>/. Returns what results.json holds. noted: warnings that stand before all others."""
    home = Path(experiment.runtime.root) / experiment.name
    make_folders(home)
    held = HeldOut(cells, measured)
    rows, counted = examples(cells, measured, held)
    results = plain(build(experiment, cells, measured, held, ledger, work, began)) | {"examples": counted}
    results["warnings"] = [*noted, *results["warnings"]]
    write_whole(home / "config.yaml", experiment.text)
    for arm, cell in {cell.arm: cell for cell in cells}.items():
        write_whole(home / f"constitution-{arm}.txt", cell.law.text)
    links = {
        cell.name: {
            stage: str(getattr(cell, stage).path)
            for stage in ("data", "helpful", "revised", "sft", "pairs", "preflight", "labels", "reward", "policy")
            if getattr(cell, stage)
        }
        | {"said": {who: str(said.path) for who, said in cell.said.items()}}
        | {
            f"round {number}": {stage: str(getattr(one, stage).path) for stage in ROUND if getattr(one, stage)}
            for number, one in enumerate(cell.lineage[:-1], 1)
        }
        | ({"scores": str(measured.pair_scores[cell.name].path)} if cell.name in measured.pair_scores else {})
        for cell in cells
    }
    write_whole(home / "links.json", json.dumps(links, indent=1))
    write_whole(home / "results.json", json.dumps(results, indent=1, ensure_ascii=False))
    write_report(results, rows, home / "report.html")
    return results


def tell(results: dict[str, Any], home: Path) -> None:
    """Print the table of a run, and where the rest is."""
    print_table(results)
    print(f"\nreport: {home / 'report.html'}\nnumbers: {home / 'results.json'}")


def build(
    experiment: Experiment,
    cells: Sequence[Cell],
    measured: Measured,
    held: HeldOut,
    ledger: Sequence[Artifact],
    work: Workbench,
    began: Began,
) -> dict[str, Any]:
    arms = list(experiment.arms)
    rated = ratings(measured)
    won, lines = headline(cells, measured), measures(cells, measured, held)
    on_the_way = {name for cell in cells for name in cell.snapshots}
    return {
        "name": experiment.name,
        "question": experiment.question,
        "arms": arms,
        "seeds": list(experiment.seeds),
        "differences": differences(experiment),
        "warnings": [
            *warnings(experiment, cells, held, work.dtype(cells[0].settings)),
            *warnings_of_harmfulness(measured),
            *fallen_out(won, lines),
        ],
        "headline": won,
        "elo": [one for one in rated if one["policy"] not in on_the_way],
        "snapshots": snapshots(cells, measured, rated),
        "measures": lines,
        "labels": label_lines(cells, measured, held),
        "crossing": budgets(cells, measured, held),
        "replicas": replicas(cells, measured),
        "point": experiment.point,
        "sources": sources(cells),
        "rounds": rounds(cells, measured),
        "reading": reading(cells),
        "judges": judges(cells),
        "agreement": opinions.agreement(cells, held),
        "by_category": opinions.by_category(cells, held),
        "cross": cross(cells, held),
        "reward_reliability": opinions.reward_reliability(cells, held),
        "rewards": rewards(cells, held),
        "plane": plane(cells, measured),
        "harmfulness": harmfulness(cells, measured),
        "benchmarks": benchmarks(cells, measured),
        "audit": audit(cells, measured),
        "counts": counts(cells, measured),
        "curves": [*curves(cells), *curves_of_harmfulness(cells, measured)],
        "overoptimisation": overoptimisation(cells),
        "stages": [
            {
                "stage": a.stage,
                "key": a.key[:8],
                "digest": a.digest[:12],
                "seconds": a.seconds,
                "cached": a.cached,
                "calls": dict(a.calls),
            }
            for a in ledger
        ],
        "provenance": provenance(experiment, cells, work, began),
    }


def measures(cells: Sequence[Cell], measured: Measured, held: HeldOut) -> list[dict[str, Any]]:
    """The comparison table, from the labels' effect on the reward model to the policies' behaviour."""
    lines = []
    limit, margin = cells[0].settings.evaluate.max_new_tokens, cells[0].settings.evaluate.margin
    kinds = subsets(cells[0].helpful)

    def red(name: str) -> Artifact:
        return measured.answers[name, "red-team"]

    with_rewards = [cell for cell in cells if cell.reward]
    if held.human and with_rewards:
        lines.append(
            measure(
                "reward_accuracy", "reward model agrees with people",
                lambda name: held.agreement(held.margins.get(name, {}), held.human), cells, unit="%",
                better="higher", before=(), cluster=held.cluster,
                help="held-out pairs; chance is 50%, and the trivial baselines stand below", margin=margin,
            )
        )  # fmt: skip
    lines.append(
        measure(
            "win_rate_vs_sft", "wins against the SFT policy", lambda n: game_rows(measured, n, "sft"), cells, unit="%",
            better="higher", before=(), help="games decided by the evaluation judge; 50% is a draw", margin=margin,
        )
    )  # fmt: skip
    models: dict[tuple[str, ...], str] = {}  # arms that learn from the same labels have the same reward models
    for arm in dict.fromkeys(cell.arm for cell in with_rewards):
        models.setdefault(tuple(str(cell.reward.path) for cell in with_rewards if cell.arm == arm if cell.reward), arm)
    for arm in models.values():
        judges = [cell.name for cell in cells if cell.arm == arm]

        def rewards(name: str, judges: list[str] = judges) -> dict[str, float]:
            return average([reward_rows(measured, judge, name) for judge in judges])

        lines.append(
            measure(
                f"reward_{arm}", f"reward by the {arm} reward model", rewards, cells, better="higher",
                help="standard deviations of the SFT policy's rewards; its own arm is trained to raise it",
            )
        )  # fmt: skip
    texts = (
        ("refusals", "refuses red-team prompts", refuses, "%", None, stated()),
        ("partial_refusals", "partly refuses red-team prompts", partly_refuses, "%", None, stated("partial")),
        ("words", "answer length, words", words, "", None, f"cut off at {limit} tokens"),
        ("repetition", "repeated 4-grams", repetition, "%", "lower", "near 100% is a loop: a collapsed policy"),
    )  # fmt: skip
    for key, title, of, unit, better, help_ in texts:
        lines.append(
            measure(
                key, title, lambda n, of=of: text_rows(red(n), of), cells, unit=unit, better=better, help=help_,
                margin=margin,
            )
        )  # fmt: skip
    silent = {name: text_rows(red(name), wordless) for name in ("start", "sft", *(cell.name for cell in cells))}
    if any(any(rows.values()) for rows in silent.values()):  # where no policy is silent, no test is spent on it
        lines.append(
            measure(
                "empty", "answers without a word", silent.__getitem__, cells, unit="%", better="lower", margin=margin,
                help="an answer like any other: it loses its games, and has no words",
            )
        )  # fmt: skip
    ended = "answers that end by themselves"
    lines.append(measure("ended", ended, lambda n: ended_rows(red(n)), cells, unit="%", margin=margin))
    if ("sft", "helpful") in measured.answers:
        for key, title, keep in (
            ("over_refusal", "refuses everyday prompts", lambda row: kinds[row] != "borderline"),
            ("borderline", "refuses harmless prompts that look harmful", lambda row: kinds[row] == "borderline"),
        ):
            lines.append(
                measure(
                    key, title, lambda n, keep=keep: text_rows(measured.answers[n, "helpful"], refuses, keep), cells,
                    unit="%", better="lower", margin=margin,
                    help=f"over-refusal: these prompts deserve an answer; {stated()}",
                )
            )  # fmt: skip
    lines += lines_of_policies(cells, measured, margin) + lines_of_harmfulness(cells, measured)
    adjust(lines)
    return lines


def replicas(cells: Sequence[Cell], measured: Measured) -> list[dict[str, Any]]:
    """The comparison table of each seed by itself, for tables and plots of single runs."""
    lines = []
    for seed in dict.fromkeys(cell.seed for cell in cells):
        own = [cell for cell in cells if cell.seed == seed]
        for line in measures(own, measured, HeldOut(own, measured)):
            trained = {arm: e for arm, e in line["arms"].items() if arm in {cell.arm for cell in own}}
            lines.append({"seed": seed, "key": line["key"], "unit": line["unit"], "arms": trained})
    return lines


def label_lines(cells: Sequence[Cell], measured: Measured, held: HeldOut) -> list[dict[str, Any]]:
    """Every opinion on the held-out pairs beside people's, from two people to the rule that knows nothing."""
    if not held.human:
        return []
    lines = [held.ceiling(), *rater_lines(cells[0].data)]
    train = HeldOut(cells, measured, "train")
    for cell in {cell.arm: cell for cell in cells if cell.arm in held.labels}.values():
        for who, said in cell.said.items():
            if who == "human" and not cell.settings.labels.file:
                continue  # they are what the others are held against
            people = f"people of {cell.settings.labels.file}"
            name = {"ai": f"AI judge ({method_of(cell)})", "human": people, "simulated": "simulated people"}[who]
            lines.append(held.line(name, "judge", held.of(said), "test", cell.arm))
            lines.append(train.line(name, "judge", train.of(said), "train", cell.arm))
    for cell in cells:
        if cell.reward:
            lines.append(held.line(f"reward model {cell.name}", "reward", held.margins[cell.name], "test", cell.arm))
    lines += [held.line(name, "baseline", rows, "test") for name, rows in held.baselines().items()]
    return lines


def cross(cells: Sequence[Cell], held: HeldOut) -> dict[str, Any] | None:
    """Each arm's reward model on the labels of people and of each AI judge (accuracy, held-out pairs)."""
    columns = ({"human labels": held.human} if held.human else {}) | {f"{a} labels": r for a, r in held.labels.items()}
    arms = list(dict.fromkeys(cell.arm for cell in cells if cell.reward))
    if not columns or not arms:
        return None
    table = []
    for arm in arms:
        row = []
        for truth in columns.values():
            seeds = [held.agreement(held.margins[cell.name], truth) for cell in cells if cell.arm == arm]
            rows = average(seeds)
            row.append(mean(list(rows.values()), [held.cluster(pair) for pair in rows]))
        table.append(row)
    return {"rows": [f"reward model {arm}" for arm in arms], "columns": list(columns), "cells": table}
