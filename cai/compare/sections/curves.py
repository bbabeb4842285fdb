"""What training left along the way: one plot a quantity, one line a cell."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cai.compare.cells import Cell, Measured
from cai.compare.section import ReportSection
from cai.core.records import Number
from cai.core.store import Artifact


@dataclass(frozen=True, slots=True)
class CurveLine:
    arm: str
    seed: int
    x: list[float]
    y: list[Number]


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity. x, y: what the axes are called; training: what is trained, the same for all quantities of it."""

    title: str
    x: str
    y: str
    lines: list[CurveLine]
    training: str


CURVES = (  # stage, its quantity, title, steps
    ("taught", "loss", "reasons: next-token loss before SFT", "step"),
    ("reward", "loss", "reward model: loss", "step"),
    ("reward", "accuracy", "reward model: accuracy on its own labels", "step"),
    ("policy", "reward", "policy: reward (normalised)", "rollout"),
    ("policy", "win_share", "policy: how sure the judge is of a prompt's better answer", "rollout"),
    ("policy", "teacher_kl", "self-distillation: KL to the teacher, nats a token", "rollout"),
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


def curves(cells: Sequence[Cell], measured: Measured) -> list[Curve]:
    def line(arm: str, seed: int, table: dict[str, list], key: str) -> CurveLine:
        return CurveLine(arm, seed, table["step"], table[key])

    own = list({cell.sft.path: cell for cell in reversed(cells)}.values())[::-1]  # each SFT policy by its first cell
    first = line("sft", cells[0].settings.seed, _table(cells[0].sft), "loss")
    begun = [line(cell.arm, cell.seed, _table(cell.sft), "loss") for cell in own] if len(own) > 1 else [first]
    begun = [each for each in begun if each.x]  # `sft.learns: nothing` has no steps
    title = "SFT: loss on revisions" if all(cell.settings.sft.learns == "revisions" for cell in own) else "SFT: loss"
    plots = pretraining(cells[0]) + ([Curve(title, "step", "loss", begun, "sft")] if begun else [])
    for stage, key, title, x in CURVES:
        made = [(cell, getattr(cell, stage)) for cell in cells]
        # An SFT policy that the arm ends with has been shown.
        tables = [(cell, _table(artifact)) for cell, artifact in made if artifact and artifact.path != cell.sft.path]
        lines = [line(cell.arm, cell.seed, table, key) for cell, table in tables if key in table]
        if lines:
            plots.append(Curve(title, x, key.replace("_", " "), lines, stage))
    if measured.harm:
        fitted = line("people's ratings", cells[0].settings.seed, _table(measured.harm["model"]), "loss")
        plots.append(Curve("absolute harmfulness: squared error", "step", "loss", [fitted], "harmfulness"))
    return plots


def pretraining(cell: Cell) -> list[Curve]:
    """Its loss on the text that it learns and, now and then, on what is held out; none of a model that was there."""
    if cell.pretrained is None:
        return []
    tables = json.loads((cell.pretrained / "curves.json").read_text())
    names = {"learnt": "text learnt from", "held_out": "held-out text"}
    lines = [
        CurveLine(name, cell.settings.seed, tables[key]["step"], tables[key]["loss"]) for key, name in names.items()
    ]
    return [Curve("pretraining: loss", "step", "nats a token", lines, "pretraining")]


def _table(artifact: Artifact) -> dict[str, list]:
    return json.loads((artifact / "curves.json").read_text())


SECTION = ReportSection("curves", "Training", list[Curve], lambda run: curves(run.cells, run.measured), empty=())
