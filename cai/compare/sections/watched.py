"""What was seen of the policies while they were trained: for the report, over-optimisation and lights of collapse."""

import json
from collections.abc import Sequence
from typing import Any

from cai.compare.cells import Cell
from cai.compare.section import ReportSection
from cai.stats.losses import ended_worse
from cai.stats.overoptimisation import plots


def overoptimisation(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One plot an arm, of the runs that a gold reward looked at (`rl.gold`)."""
    runs = []
    for cell in cells:
        file = cell.policy and cell.policy / "gold.json"
        if file and file.is_file():
            found = json.loads(file.read_text())
            runs.append({"arm": cell.arm, "seed": cell.seed, **{key: found[key] for key in ("by", "kept", "looks")}})
    return plots(runs)


TRAINED = {"taught": "constitution.training", "sft": "sft", "reward": "reward", "policy": "rl"}


def unlearnt(cells: Sequence[Cell]) -> list[str]:
    """One line for each training whose loss ended higher than it began: what it left was compared all the same."""
    notes: dict[tuple[str, str], str] = {}
    for cell in cells:
        for stage, section in TRAINED.items():
            made = getattr(cell, stage)
            table = json.loads((made / "curves.json").read_text()) if made else {}
            worse = ended_worse(table.get("loss", ()))
            if worse and (stage != "policy" or cell.settings.rl.method == "dpo"):
                notes.setdefault(
                    (section, str(made.path)),
                    f"Arm {cell.arm}, seed {cell.seed}: the loss of `{section}:` was {worse[0]:.3g} at first and "
                    f"{worse[1]:.3g} in the end: it learnt nothing, and what it left was compared all the same. Lower "
                    f"{section}.learning_rate.",
                )
    return list(notes.values())


def said_once(notes: Sequence[tuple[str, int, str]]) -> list[str]:
    """Of (arm, seed, what is said of this run), each text once: "Arm ai, seeds 0 and 1; arm human, seed 0: ..."."""
    runs: dict[str, dict[str, list[int]]] = {}
    for arm, seed, text in notes:
        runs.setdefault(text, {}).setdefault(arm, []).append(seed)
    return [
        f"Arm {'; arm '.join(f'{arm}, {_seeds(seeds)}' for arm, seeds in of_text.items())}{text}"
        for text, of_text in runs.items()
    ]


def _seeds(seeds: Sequence[int]) -> str:
    *first, last = seeds
    return f"seeds {', '.join(map(str, first))} and {last}" if first else f"seed {last}"


def warnings(cells: Sequence[Cell]) -> list[str]:
    """Lights of collapse, over-optimisation, and what the choice of a policy by gold does to the comparison."""
    of_runs = []
    for cell in cells:
        file = cell.policy and cell.policy / "warnings.json"
        for light in json.loads(file.read_text()) if file and file.is_file() else ():
            of_runs.append((cell.arm, cell.seed, f", rollout {light['rollout']}: {light['text']}."))
    for plot in overoptimisation(cells):
        for line in plot["lines"]:
            if line["verdict"] in ("over-optimised", "worse") or line["kept"] != line["last"]:
                kept = f"The policy after rollout {line['kept']} is the one that is reported."
                of_runs.append((plot["arm"], line["seed"], f": {line['sentence']} {kept}"))
            if line["alarm"]["text"]:
                at = f"after rollout {line['alarm']['rollout']} an alarm rang"
                of_runs.append((plot["arm"], line["seed"], f": {at}: {line['alarm']['text']}."))
    notes = said_once(of_runs)
    golds = [
        cell.settings
        for cell in cells
        if cell.settings.rl.is_online and cell.settings.rl.gold and cell.settings.rl.gold.by == "judge"
    ]
    if any(
        judge.model == arm.evaluate.judge.model
        for arm in golds if "ai" in arm.labels.all for judge in arm.judge.asked.values()
    ):  # fmt: skip
        notes.append(
            "The gold reward is by the model that also labelled the AI arm: what fools that model looks like gold."
        )
    if any(gold.keep == "best" for gold in (arm.rl.gold for arm in golds) if gold):
        notes.append(
            "Policies were chosen by the judge that also decides the games (on other prompts): all arms are shown as "
            "that judge likes them best. `rl.gold.keep: last` chooses nothing."
        )
    return notes


SECTION = ReportSection(
    "overoptimisation", "Over-optimisation", list[dict], lambda run: overoptimisation(run.cells), empty=()
)  # fmt: skip
