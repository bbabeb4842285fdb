"""`--plan`: each stage as cached or to run, with an estimate of its time, before the first minute is spent.

A stage's work is counted in tokens (generated, read, or trained on) and divided by speeds measured with SmolLM2-135M
on two CPU cores, scaled by the size of the model. An estimate, not a promise: answers may end early.
"""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cai.compare.cells import Cell, Measured
from cai.config.load import Arm, Experiment
from cai.config.sections import Harmfulness
from cai.core.progress import clock
from cai.core.records import Pair, read_jsonl
from cai.core.store import Artifact
from cai.judge.methods import METHODS, methods_of
from cai.judge.reads.controls import MOST, PLACEBOS
from cai.models.embedded import EMBEDDED, TINY
from cai.train.revisions.controlled import DRAWS

SMALL = 135e6
PROMPT, ANSWER, QUESTION = 60, 110, 60  # tokens, typical of the human-rated answers
ITEMS, ITEM = 250, 400  # comparisons in a file, and their tokens: typical of the paper's evaluations
XSTEST = 450  # prompts
WORKED = 540  # tokens of prompts/examples/revise.jinja
RATINGS = 350  # answers that people rated, to learn from; about as many are held out
# Tokens a second. CPU: SmolLM2-135M in bfloat16 on 2 cores, measured. GPU: an 8B model on one 80 GB card, by rule of
# thumb (not measured here).
CPU = {"generate": 250.0, "read": 1800.0, "train": 450.0}
GPU = {"generate": 1500.0, "read": 20000.0, "train": 5000.0}


def print_plan(experiment: Experiment, ledger: Sequence[Artifact], seconds: Sequence[float], device: str) -> None:
    """The table of stages and the sum of what is to run. seconds: of each stage, as `estimates` says."""
    print(f"{experiment.name}: arms {', '.join(experiment.arms)}; seeds {', '.join(map(str, experiment.seeds))}")
    for name, arm in experiment.arms.items():
        print(f"  arm {name}: labels by {arm.labels}" + (f"; {arm.rounds} rounds" if arm.rounds > 1 else ""))
    if experiment.label_budget:
        print(f"  reward models from {', '.join(map(str, experiment.label_budget))} human labels as well")
    for artifact, each in zip(ledger, seconds, strict=True):
        if artifact.cached:
            print(f"  cached   {artifact.stage:<16} {artifact.key}   took {clock(artifact.seconds)}")
        else:
            print(f"  to run   {artifact.stage:<16} {artifact.key}   about {clock(each)}")
    print_sum(ledger, seconds, device)


def print_grid(
    grid: Sequence[Experiment], parts: Sequence[int], ledger: Sequence[Artifact], seconds: Sequence[float], device: str
) -> None:
    """What each point of a sweep adds to the points before it. parts: where each one's stages begin in the ledger."""
    for one, start, end in zip(grid, parts, [*parts[1:], len(ledger)], strict=True):
        new = [artifact for artifact in ledger[start:end] if not artifact.cached]
        about = clock(sum(seconds[start:end]))
        print(f"  {one.name}: {len(new)} stages to run beside those of the points above, about {about}")
    print_sum(ledger, seconds, device)


def print_sum(ledger: Sequence[Artifact], seconds: Sequence[float], device: str) -> None:
    running = sum(not artifact.cached for artifact in ledger)
    print(f"{running} of {len(ledger)} stages to run on {device}, about {clock(sum(seconds))} in all")
    if running:
        print("what follows a stage that runs is counted as to run; where that stage comes out the same, it is skipped")


def estimates(ledger: Sequence[Artifact], cells: Sequence[Cell], measured: Measured, device: str) -> list[float]:
    """Seconds that each stage of a plan will take; 0 where it is there already."""
    train, test = pair_counts(cells[0])
    few = {model.path: count for count, models in measured.budgets.items() for model in models.values()}
    # Arms differ in what they make of the labels; the rest is as in the first arm.
    own = {
        made.path: cell.settings for cell in reversed(cells) for made in (cell.labels, cell.reward, cell.policy) if made
    }
    for (_, kind), answers in measured.answers.items():
        if kind == "xstest":
            asked = cells[0].settings.evaluate.model_copy(update={"prompts": XSTEST})
            own[answers.path] = cells[0].settings.model_copy(update={"evaluate": asked})
    picking = next((cell.settings for cell in cells if cell.settings.rl.method == "best_of_n"), cells[0].settings)
    found = []
    for artifact in ledger:
        arm = picking if artifact.stage == "respond_best" else own.get(artifact.path, cells[0].settings)
        pairs = few.get(artifact.path, train), test
        found.append(0.0 if artifact.cached else estimate(artifact.stage, arm, pairs, device))
    return found


def estimate(stage: str, arm: Arm, pairs: tuple[int, int], device: str) -> float:
    """Seconds that a stage takes."""
    kind, tokens = tokens_of(stage, arm, pairs)
    if not tokens:
        return 1.0
    speed = (CPU if device == "cpu" else GPU)[kind]
    model = (
        arm.judge.model
        if stage in ("preflight", "label_by_judge", "label_by_simulation")
        else arm.evaluate.judge.model
        if stage in ("play", "rate_revisions", "rate_controlled", "rate_answers", "judge_items")
        else arm.revise.model or arm.policy.model
        if stage in ("revise", "revise_controls")
        else arm.policy.model
    )
    size = parameters(model)
    return 3 + tokens / speed * size / (SMALL if device == "cpu" else 8e9)


def pair_counts(cell: Cell) -> tuple[int, int]:
    """Training and held-out pairs: counted where they exist, else what the config allows, else a guess."""
    file = cell.pairs / "pairs.jsonl"
    if file.is_file():
        splits = [pair.prompt.split for pair in read_jsonl(file, Pair)]
        return splits.count("train"), splits.count("test")
    if cell.settings.pairs.source != "data":
        return (cell.settings.pairs.prompts or 1000,) * 2
    return cell.settings.data.train_pairs or 1000, cell.settings.data.test_pairs or 500


def tokens_of(stage: str, arm: Arm, pairs: tuple[int, int]) -> tuple[str, float]:
    """(what is done with them, how many tokens) of one stage. pairs: how many to train on and how many held out."""
    drawn = 16 if arm.judge.principles == "all" else arm.judge.principles
    asked = 16 if arm.evaluate.judge.principles == "all" else arm.evaluate.judge.principles
    rollouts = arm.rl.steps * arm.rl.batch_size
    looked = 0.0  # generated, read by policy and reference, and judged
    if gold := arm.rl.gold:
        looks = 1 + math.ceil(arm.rl.steps / gold.every)
        looked = looks * gold.prompts * (PROMPT + 3 * arm.rl.max_new_tokens + asked * QUESTION * (gold.by == "judge"))
    row = PROMPT + ANSWER
    # What the principles' questions have in common is read once.
    judged, played = 2 * (row + drawn * QUESTION), 2 * (row + asked * QUESTION)
    thought = 2 * drawn * arm.judge.reason.max_new_tokens * arm.judge.reason.samples * CPU["read"] / CPU["generate"]
    judged += thought * (arm.judge.method == "reason")
    # An epoch of learning, and the policy's and the reference's forward passes; the answers are generated first.
    online = rollouts * ((PROMPT + arm.rl.max_new_tokens) * (arm.rl.epochs + 1) + 2 * arm.rl.max_new_tokens)
    opinions = (arm.revise.prompts + rollouts) * judged / 2 * CPU["train"] / CPU["read"]
    best = arm.rl.best_of * CPU["read"] / CPU["generate"] * arm.evaluate.max_new_tokens
    tried = arm.data.calibration_pairs or (arm.judge.preflight.pairs if arm.judge.preflight else 0)
    texts = arm.revise.prompts * (1 + (1 + arm.revise.critique) * arm.revise.rounds)
    worked = WORKED * CPU["generate"] / CPU["read"] * bool(arm.revise.examples)
    # Of each draft two principles, each under three texts and with two draws; those of the constitution are rated.
    audited = min(arm.revise.audit, arm.revise.prompts) * 3 * DRAWS
    rated = min(arm.revise.prompts, arm.evaluate.prompts) * (1 + arm.revise.rounds)
    fit = arm.evaluate.harmfulness or Harmfulness()
    harm = min(fit.answers or RATINGS, RATINGS)
    table: dict[str, tuple[str, float]] = {
        "revise": ("generate", texts * (arm.revise.max_new_tokens + worked)),
        "revise_controls": (
            "generate",
            audited * 2 * (1 + arm.revise.critique) * (arm.revise.max_new_tokens + worked),
        ),
        "respond": ("generate", arm.evaluate.prompts * arm.evaluate.max_new_tokens),
        "sample_pairs": ("generate", 2 * sum(pairs) * arm.pairs.max_new_tokens),
        "train_sft": ("train", arm.revise.prompts / (1 - arm.sft.helpful) * row * arm.sft.epochs),
        "preflight": ("read", tried * of_preflight(arm, drawn, thought)),
        "label_by_judge": ("read", sum(pairs) * judged),
        "label_by_simulation": ("read", sum(pairs) * judged),
        "train_reward": ("train", 2 * pairs[0] * row * arm.reward.epochs),
        "train_ppo": ("train", online + looked),
        "train_rloo": ("train", online + looked),
        "train_grpo": ("train", online + looked),
        "train_direct": ("train", online + opinions + looked),
        "train_dpo": ("train", 2 * pairs[0] * row * arm.rl.epochs * 4 / 3),  # the reference reads them as well
        "respond_best": (
            "read",
            arm.evaluate.prompts * (best + arm.rl.best_of * (PROMPT + arm.evaluate.max_new_tokens)),
        ),
        "score_pairs": ("read", 2 * pairs[1] * row),
        "train_harm": ("train", harm * row * fit.epochs),
        "score_ratings": ("read", RATINGS * row),
        "score_answers": ("read", arm.evaluate.prompts * (PROMPT + arm.evaluate.max_new_tokens)),
        "play": ("read", arm.evaluate.prompts * played * 2 / 3),
        "rate_revisions": ("read", rated * played / 2),
        "rate_controlled": ("read", audited * played / 2),
        "rate_answers": ("read", arm.evaluate.prompts * played / 2),
        "score_items": ("read", 2 * ITEMS * ITEM),
        "choose_items": ("read", ITEMS * ITEM),
        "judge_items": ("read", 2 * ITEMS * (ITEM + asked * QUESTION)),
    }
    return table.get(stage, ("read", 0))


def of_preflight(arm: Arm, drawn: int, thought: float) -> float:
    """Tokens that a preflight reads for each pair of its sample: every method that it tries, and whether they read.

    drawn: principles of a pair; thought: what writing its chains of thought costs, in tokens read. The controls
    (cai/judge/reads/controls.py: `MOST` principles at most, negated and under two placebos) are asked whatever
    `preflight.reads` says, which only decides what a judge that does not read is stopped by; without a preflight there
    are none. Methods that put the principle behind the answer read the conversation and the answer once for all texts.
    """
    judge = arm.judge
    texts = min(MOST, drawn) * (1 + PLACEBOS) if judge.preflight else 0
    both = PROMPT + 2 * ANSWER
    total = 0.0
    for method in methods_of(judge):
        asked = 2 * (drawn + texts) * QUESTION  # of both answers, or in both orders, or both sides
        if method == "contrast":  # the principle stands before the answers: each text reads them anew
            total += asked + 2 * (drawn + texts) * both
        elif METHODS[method].both_orders:
            total += asked + 2 * both + thought * (1 + texts / drawn) * (method == "reason")
        elif method != "provenance":
            total += asked + 2 * (PROMPT + ANSWER)
    return total


def parameters(model: str) -> float:
    """How large a model is: from its config.json, or from the "8B" in a hub id, else a guess of one billion."""
    if model in EMBEDDED:
        return SMALL
    if model == TINY:
        return SMALL / 50
    config = Path(model).expanduser() / "config.json"
    if config.is_file():
        return _from_config(json.loads(config.read_text()))
    named = re.search(r"(\d+(?:\.\d+)?)\s*([BM])\b", model.rpartition("/")[2], re.IGNORECASE)
    return float(named[1]) * (1e9 if named[2].upper() == "B" else 1e6) if named else 1e9


def _from_config(config: dict[str, Any]) -> float:
    """Attention 4 h^2 and a gated MLP 3 h m a layer, plus the embedding."""
    hidden = config.get("hidden_size", 1024)
    layer = 4 * hidden**2 + 3 * hidden * config.get("intermediate_size", 4 * hidden)
    return float(config.get("num_hidden_layers", 12) * layer + config.get("vocab_size", 50_000) * hidden)
