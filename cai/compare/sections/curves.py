"""What training left along the way: one plot a quantity, one line a cell."""

import json
from collections.abc import Sequence
from typing import Any

from cai.compare.cells import Cell
from cai.compare.section import Section
from cai.compare.sections.harmfulness import curves_of_harmfulness

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


SECTION = Section(
    "curves", "Training", list[dict],
    lambda run: [*curves(run.cells), *curves_of_harmfulness(run.cells, run.measured)], empty=(),
)  # fmt: skip
