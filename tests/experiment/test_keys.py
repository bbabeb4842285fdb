"""What a store holds is found again: the keys of these experiments are the ones that were written down.

A key is made of the stage's name and version, its settings, templates, principles and data, and of no place in `cai/`:
files move, and a store from before is hit. Where a stage computes something else than before, its version is raised,
and the keys are written down anew:

    python tests/experiment/test_keys.py
"""

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path

import pytest

from cai.config.load import read_sweep
from cai.experiment.command import plan
from cai.models.workbench import Workbench

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests" / "cases" / "keys.json"
# Between them every stage: all kinds of labels, all methods of RL, all measures.
LABELS = (
    "arms={mixed: {labels: {shares: {ai: 0.5, human: 0.5}}}, simulated: {labels: simulated}}",
    "simulated={pool: [{model: tiny-random}]}",
)
RULES = (
    "arms={coin: {labels: shuffled}, length: {labels: shorter}}",
    "arms.noisy={labels: {shares: {human: 0.5, shuffled: 0.5}}}",
)
OWN_PAIRS = ("arms={own: {labels: ai, pairs: {source: policy, prompts: 8}}}", "revise.audit=4")
MODERATED = ("moderation={words: experiments/data/blocked.txt}",)
SLIM = ("arms={half: {labels: ai, judge: {slim: wanda}}, thin: {labels: ai, judge: {slim: {how: low-rank, rank: 4}}}}",)
DISTILLED = ("arms={taught: {labels: ai, judge: {slim: {how: wanda, distil: {pairs: 8}}}}}",)
CRITERIA = (
    "criteria={kind: {constitution: constitutions/helpful.txt}, brief: {constitution: constitutions/short.txt}}",
    "criteria.brief.labels=shorter",
    "arms={kindest: {criteria: {kind: {weight: 3}}}, picked: {rl: {method: best_of_n, snapshots: 0}}}",
)
LEARNS = (
    "arms={one: {sft: {learns: drafts}}, two: {sft: {learns: preferred}}}",
    "arms.three={sft: {learns: tests/cases/demonstrations.jsonl}}",
    "rl={method: sft}",
)
FROM_NOTHING = (
    "pretrain={text: tests/cases/tales.txt, held_out: 0.3, vocabulary: 300, context: 2048, layers: 2, width: 32}",
    "policy={training: full}",
)
PANEL = (
    "judge.panel=[{}, {method: choice}, {principles: 2}]",
    "arms={mean: {}, cheap: {judge: {panel: {judges: [{}, {method: choice}], escalate: {below: 0.7}}}}}",
    "arms.weighed={judge: {panel: {combine: reliability}}}",
    "arms.alone={judge: {panel: null}}",
    "rl={method: none}",
)
JUDGED = (
    "arms={fresh: {rl: {method: online_dpo}}, ranked: {rl: {method: grpo, judging: pairs}}}",
    "arms.circle={rl: {method: rloo, judging: circle}}",
)
TAUGHT = (
    "arms={bare: {sft: {learns: nothing}}, criticised: {rl: {distil: {critique: true, tokens: 40}}}}",
    "rl={method: self_distil, gold: null, snapshots: 0}",
)
ROUNDS = ("arms={own: {labels: ai, rounds: 2, pairs: {source: policy, prompts: 8}}}",)
GENERATIVE = (
    "arms={scalar: {labels: human}, generative: {labels: human, reward: {kind: generative}}}",
    "rl={method: best_of_n, snapshots: 0}",
    "arms.some={labels: human, reward: {subsets: [harassment]}}",
    "seeds=[0]",
)
REASONS = ("arms={read: {constitution: {why: judge}}, learnt: {constitution: {why: train, reasons: others}}}",
           "constitution={file: constitutions/truthful.txt}", "seeds=[0]")  # fmt: skip
ORDER = (
    "constitution=constitutions/order/longer-within.txt",
    "judge.principles=all",
    "arms={ai: {labels: ai}}",
    "seeds=[0]",
)
RUBRICS = (
    "arms={read: {judge: {rubric: experiments/data/rubric-harmless.jsonl}}, written: {judge: {rubric: {write: {}}}}}",
    "arms.paid={judge: {rubric: {write: {}}}, rl: {method: direct}}",
    "seeds=[0]",
)
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "smoke": ("smoke", ()),
    "labels": ("smoke", LABELS),
    "rules": ("smoke", RULES),
    "own pairs": ("smoke", OWN_PAIRS),
    "rounds": ("smoke", ROUNDS),
    "judged": ("smoke", JUDGED),
    "taught by itself": ("smoke", TAUGHT),
    "moderated": ("smoke", MODERATED),
    "slim": ("smoke", SLIM),
    "panel": ("smoke", PANEL),
    "attacked": ("smoke", ("judge.attacks=4",)),
    "distilled": ("smoke", DISTILLED),
    "criteria": ("smoke", CRITERIA),
    "what SFT learns": ("smoke", LEARNS),
    "from nothing": ("smoke", FROM_NOTHING),
    "reasons": ("smoke", REASONS),
    "order": ("smoke", ORDER),
    "rubrics": ("smoke", RUBRICS),
    "generative": ("smoke", GENERATIVE),
    "quickstart": ("quickstart", ()),
    "optimisers": ("optimisers", ()),
    "label-budget": ("label-budget", ()),
}


def keys(case: str, root: str) -> list[str]:
    """Stage and key of everything that an experiment runs, planned on an empty store."""
    name, changed = CASES[case]
    fixed = [f"runtime.root={root}", "runtime.device=cpu", "dtype=float32"]  # whatever the machine
    with contextlib.chdir(ROOT):
        grid = read_sweep(Path("experiments") / f"{name}.yaml", [*fixed, *changed])
        ledger, _ = plan(grid, Workbench.open(grid[0].runtime))
    return [f"{one.stage}-{one.key}" for one in ledger]


@pytest.mark.parametrize("case", CASES)
def test_a_store_from_before_is_hit(case, tmp_path):
    assert keys(case, str(tmp_path)) == json.loads(KEPT.read_text())[case]


def test_every_stage_is_among_them():
    stages = {key.rsplit("-", 1)[0] for case in json.loads(KEPT.read_text()).values() for key in case}
    marked = re.findall(r"\n@version\(\d+\)\ndef (\w+)", "".join(f.read_text() for f in (ROOT / "cai").rglob("*.py")))
    assert set(marked) == stages


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as place:
        KEPT.write_text(json.dumps({case: keys(case, place) for case in CASES}, indent=1) + "\n")
