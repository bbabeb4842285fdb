"""Everything that a run says at its end: results.json, examples, report.html and the table on the terminal."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from cai.cells import Cell, Measured
from cai.compare.budgets import budgets
from cai.compare.headline import headline, ratings
from cai.compare.judges import judges, method_of
from cai.compare.lineage import ROUND, counts, rounds, sources
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
from cai.compare.statistics import mean
from cai.compare.table import print_table
from cai.compare.watched import overoptimisation
from cai.compare.watched import warnings as watched
from cai.config import Arm, Experiment
from cai.records import Abstained, Label, Pair, Response, Revision, plain, read_jsonl
from cai.stages.evaluate import Score
from cai.store import Artifact, write_durably
from cai.textstats import refuses, repetition, words
from cai.workbench import Workbench

CURVES = (
    ("reward", "loss", "reward model: loss", "step"),
    ("reward", "accuracy", "reward model: accuracy on its own labels", "step"),
    ("policy", "reward", "policy: reward (normalised)", "rollout"),
    ("policy", "loss", "DPO: loss on its own labels", "step"),
    ("policy", "accuracy", "DPO: implicit reward agrees with its own labels", "step"),
    ("policy", "margin", "DPO: implicit reward of the preferred answer minus the other's", "step"),
    ("policy", "kl", "policy: KL to the SFT policy, nats an answer", "rollout"),
    ("policy", "kl_coef", "PPO: price of KL, reward a nat", "rollout"),
    ("policy", "entropy", "policy: entropy, nats a token", "rollout, or step of DPO"),
    ("policy", "value_loss", "PPO: value loss", "rollout"),
    ("policy", "explained_variance", "PPO: explained variance of the critic", "rollout"),
    ("policy", "clip_fraction", "policy: clip fraction", "rollout"),
    ("policy", "completion_length", "policy: answer length, tokens", "rollout"),
    ("policy", "eos_rate", "policy: share of answers that end by themselves", "rollout"),
    ("policy", "unscored", "policy: share of answers without a reward", "rollout"),
    ("policy", "repetition", "policy: share of repeated 4-grams", "rollout"),
    ("policy", "distinct_2", "policy: share of distinct 2-grams", "rollout"),
)
VOTE = ("method", "principle", "order", "p_a", "mass", "fault", "reply")  # what is shown of a vote
PACKAGES = ("cai", "torch", "transformers", "trl", "peft", "datasets", "accelerate")


def finish(
    experiment: Experiment,
    cells: Sequence[Cell],
    measured: Measured,
    ledger: Sequence[Artifact],
    work: Workbench,
    seconds: float,
    noted: Sequence[str] = (),
) -> dict[str, Any]:
    """Write runs/<name>/. Returns what results.json holds. noted: warnings that stand before all others."""
    home = Path(experiment.runtime.root) / experiment.name
    home.mkdir(parents=True, exist_ok=True)
    results = plain(build(experiment, cells, measured, ledger, work, seconds))
    results["warnings"] = [*noted, *results["warnings"]]
    examples = plain(transcripts(cells, measured) + label_examples(cells))
    (home / "config.yaml").write_text(experiment.text, encoding="utf-8")
    for arm, cell in {cell.arm: cell for cell in cells}.items():
        (home / f"constitution-{arm}.txt").write_text(cell.law.path.read_text(encoding="utf-8"), encoding="utf-8")
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
    (home / "links.json").write_text(json.dumps(links, indent=1))
    write_durably(home / "results.json", json.dumps(results, indent=1, ensure_ascii=False))
    write_report(results, examples, home / "report.html")
    return results


def tell(results: dict[str, Any], home: Path) -> None:
    """Print the table of a run, and where the rest is."""
    print_table(results)
    print(f"\nreport: {home / 'report.html'}\nnumbers: {home / 'results.json'}")


def build(
    experiment: Experiment,
    cells: Sequence[Cell],
    measured: Measured,
    ledger: Sequence[Artifact],
    work: Workbench,
    seconds: float,
) -> dict[str, Any]:
    arms = list(experiment.arms)
    held = HeldOut(cells, measured)
    return {
        "name": experiment.name,
        "question": experiment.question,
        "arms": arms,
        "seeds": list(experiment.seeds),
        "warnings": warnings(experiment, cells, held, work.dtype(cells[0].settings)),
        "headline": headline(cells, measured),
        "elo": ratings(measured),
        "measures": measures(cells, measured, held),
        "labels": label_lines(cells, measured, held),
        "crossing": budgets(cells, measured, held),
        "replicas": replicas(cells, measured),
        "point": experiment.point,
        "sources": sources(cells),
        "rounds": rounds(cells, measured),
        "judges": judges(cells),
        "cross": cross(cells, held),
        "counts": counts(cells, measured),
        "curves": curves(cells),
        "overoptimisation": overoptimisation(cells),
        "stages": [{"stage": a.stage, "key": a.key[:8], "seconds": a.seconds, "cached": a.cached} for a in ledger],
        "provenance": {
            "versions": {name: installed(name) for name in PACKAGES},
            "device": work.device,
            "dtype": work.dtype(cells[0].settings),
            "wall time, s": round(seconds, 1),
            "model calls": work.counts(),
            "settings changed on the command line": list(experiment.overrides),
            "config": experiment.text,
            "constitution": {cell.arm: cell.law.path.read_text(encoding="utf-8") for cell in cells},
        },
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
        ("refusals", "refuses red-team prompts", refuses, "%", None, "phrases of refusal in held-out harmful prompts"),
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
                    unit="%", better="lower", help="over-refusal: these prompts deserve an answer", margin=margin,
                )
            )  # fmt: skip
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


def warnings(experiment: Experiment, cells: Sequence[Cell], held: HeldOut, dtype: str) -> list[str]:
    """What a careful reader must know before the first number."""
    notes = []
    arm = cells[0].settings
    if any("ai" in cell.said and cell.settings.judge.model == arm.evaluate.judge.model for cell in cells):
        notes.append(
            f"The games are judged by {arm.evaluate.judge.model}, the model that also labelled the AI arm: it may "
            "favour that arm. Set evaluate.judge.model to another model for a claim."
        )
    if dtype == "bfloat16":
        notes.append(
            "Models ran in bfloat16: the same question to the judge can move by up to 0.25 in log-odds with the batch "
            "it is asked in. `dtype: float32` is exact, and slower."
        )
    if len(experiment.seeds) < 2:
        notes.append("One seed: there is no noise floor, so no difference can be told from chance in training.")
    elif len(experiment.seeds) < 3:
        notes.append("The noise floor rests on two seeds. They cover reward model and RL, not revisions and SFT.")
    for name, other in experiment.arms.items():
        changed = sorted(
            k for k in Arm.model_fields if getattr(other, k) != getattr(arm, k) and k not in ("labels", "simulated")
        )
        if changed:
            notes.append(
                f"Arm {name} differs from {next(iter(experiment.arms))} in more than labels: {', '.join(changed)}."
            )
    if held.human:
        shorter = held.line("", "baseline", held.baselines()["shorter answer"], "test")["accuracy"]
        if shorter.value > 0.6:
            notes.append(
                f"On these pairs people prefer the shorter answer {100 * shorter.value:.0f}% of the time (refusals are "
                "short), so agreement is also shown with length balanced out."
            )
    return notes + watched(cells)


def curves(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    sft = json.loads((cells[0].sft / "curves.json").read_text())
    plots = [
        {
            "title": "SFT: loss on revisions", "x": "step", "y": "loss",
            "lines": [{"arm": "sft", "seed": cells[0].settings.seed, "x": sft["step"], "y": sft["loss"]}],
        }
    ]  # fmt: skip
    for stage, key, title, x in CURVES:
        made = [(cell, getattr(cell, stage)) for cell in cells]
        tables = [(cell, json.loads((artifact / "curves.json").read_text())) for cell, artifact in made if artifact]
        lines = [
            {"arm": cell.arm, "seed": cell.seed, "x": table["step"], "y": table[key]}
            for cell, table in tables
            if key in table
        ]
        if lines:
            plots.append({"title": title, "x": x, "y": key.replace("_", " "), "lines": lines})
    return plots


def transcripts(cells: Sequence[Cell], measured: Measured) -> list[dict[str, Any]]:
    """Held-out prompts: the start model's draft, its critiques and revisions, and what every policy answered."""
    if measured.traces is None:
        return []
    names = ["sft", *(cell.name for cell in cells)]
    answers = {
        name: {
            r.prompt_id: r.text for r in read_jsonl(measured.answers[name, "red-team"] / "responses.jsonl", Response)
        }
        for name in names
    }
    scores = {
        (cell.name, name): {
            r.id: r.reward for r in read_jsonl(measured.scores[cell.name, name] / "scores.jsonl", Score)
        }
        for cell in cells
        if cell.reward
        for name in names
    }
    games = {
        cell.name: {g.pair_id: g.p_a for g in read_jsonl(measured.games[cell.name, "sft"] / "games.jsonl", Label)}
        for cell in cells
    }
    found = []
    for trace in read_jsonl(measured.traces / "revisions.jsonl", Revision):
        key = trace.prompt.id
        shown = []
        for name in names:
            if key not in answers[name]:
                continue
            arm, _, seed = name.partition("/")
            marks = {f"reward model {cell.name}": scores[cell.name, name].get(key) for cell in cells if cell.reward}
            if name in games:
                marks["judge: P(better than SFT)"] = games[name].get(key)
            marks = {mark: value for mark, value in marks.items() if value is not None}
            shown.append({"arm": arm, "seed": int(seed) if seed else None, "text": answers[name][key], "scores": marks})
        found.append(
            {
                "kind": "transcript", "prompt": [asdict(m) for m in trace.prompt.messages],
                "subset": trace.prompt.subset, "draft": trace.draft, "rounds": [asdict(r) for r in trace.rounds],
                "answers": shown,
            }
        )  # fmt: skip
    return found


def label_examples(cells: Sequence[Cell], most: int = 40) -> list[dict[str, Any]]:
    """Held-out pairs as the judge and people saw them."""
    labelled = [cell for cell in cells if cell.labels]
    judged = next((cell for cell in labelled if "ai" in cell.said), labelled[0] if labelled else None)
    if judged is None or judged.labels is None:
        return []
    is_ai = "ai" in judged.said
    said = judged.said["ai"] if is_ai else judged.labels
    labels = {label.pair_id: label for label in read_jsonl(said / "labels.jsonl", Label)}
    abstained = {row.pair_id: row for row in read_jsonl(said / "abstained.jsonl", Abstained)}
    found = []
    pairs = [pair for pair in read_jsonl(judged.pairs / "pairs.jsonl", Pair) if pair.prompt.split == "test"]
    for pair in pairs[:most]:
        label, missing = labels.get(pair.id), abstained.get(pair.id)
        votes = label.votes if label else missing.votes if missing else ()
        found.append(
            {
                "kind": "label", "prompt": [asdict(m) for m in pair.prompt.messages], "a": pair.a, "b": pair.b,
                "human": pair.human, "ai": label.p_a if label and is_ai else None,
                "reason": missing.reason if missing and is_ai else "",
                "votes": [{name: getattr(v, name) for name in VOTE} for v in votes],
            }
        )  # fmt: skip
    return found
