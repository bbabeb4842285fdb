"""The whole pipeline, top-down.   python -m cai.experiment experiments/quickstart.yaml [--plan] [--set key=value]

An experiment is arms x seeds. Each cell runs the same stages; what cells have in common is computed once, because the
store keys it the same. So two arms that differ in `labels:` alone share everything up to the labels: drafts,
revisions, the SFT policy, the pairs and their splits.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cai.compare.cells import Cell, Iteration, Measured
from cai.compare.sections.provenance import begin
from cai.config.load import Arm, Experiment, read_sweep
from cai.config.sweep import size
from cai.constitution import Constitution
from cai.core.draws import seed_of_round
from cai.core.progress import Board
from cai.core.records import Pair, read_jsonl
from cai.core.store import Artifact, Store
from cai.core.templates import load_template
from cai.data.input_file import feedback_file
from cai.data.labels import check_rule, label_file
from cai.data.sources import load_data, load_helpful, source_digest
from cai.experiment.budgets import draw_budgets, train_budgets
from cai.experiment.checks import check
from cai.experiment.evaluate import evaluate
from cai.experiment.plan import estimates, print_grid, print_plan
from cai.judge.label import Simulant, label_by_judge, label_by_people, label_by_simulation, mix_labels
from cai.judge.methods import principles_for, templates_for
from cai.judge.preflight import preflight
from cai.judge.reads.controls import controls_for
from cai.models.engines import Sampling
from cai.models.references import Dtype, ModelRef, model_of, trained
from cai.models.workbench import Workbench
from cai.train.dpo import train_dpo
from cai.train.respond import best_of_n, respond, sample_pairs
from cai.train.revise import revise, revising
from cai.train.reward import train_reward
from cai.train.rl.gold import yardstick
from cai.train.rl.policy import train_direct, train_grpo, train_ppo, train_rloo
from cai.train.sft import train_sft

Stage = Callable[..., Artifact]
AGAINST_REWARDS = {"ppo": train_ppo, "rloo": train_rloo, "grpo": train_grpo}


def train(stage: Stage, work: Workbench, name: str, arm: Arm, seed: int) -> Cell:
    """Constitution -> revisions -> SFT policy -> pairs -> labels -> reward model -> policy."""
    law = work.constitution(arm.constitution)
    start, dtype = model_of(arm.policy), work.dtype(arm)
    model = {"policy": arm.policy, "dtype": dtype}

    # Prompts and human-labelled pairs, split by prompt.
    data = stage(load_data, data=arm.data, contents=source_digest(arm.data), seed=arm.seed)
    labellers_have_pairs(arm, data)
    helpful = None
    if arm.helpful:
        file = arm.data.model_copy(update={"source": arm.helpful.source})
        contents = source_digest(file)
        helpful = stage(load_helpful, source=file.source, contents=contents, test=file.test, seed=arm.seed)

    # SL-CAI: the policy criticises and revises its own answers, and is fine-tuned on the last revisions.
    revised = stage(
        revise, data=data, split="train", model=start, settings=arm.revise, seed=arm.seed,
        **revising(law, arm.revise, arm.seed), **model,
    )  # fmt: skip
    chatter = None
    if helpful and arm.sft.helpful:
        sampling = Sampling(arm.revise.max_new_tokens, arm.revise.temperature)
        wanted = math.ceil(arm.revise.prompts * arm.sft.helpful / (1 - arm.sft.helpful))
        chatter = stage(
            respond,
            prompts=helpful,
            split="train",
            count=wanted,
            model=start,
            sampling=sampling,
            seed=arm.seed,
            **model,
        )
    sft = stage(
        train_sft, revisions=revised, helpful=helpful, helpful_answers=chatter, model=start, settings=arm.sft,
        seed=arm.seed, **model,
    )  # fmt: skip

    # RLAIF or RLHF: the pairs are the same, and only who labels them differs. In each further round the last round's
    # policy answers anew, and the reward model is trained anew on the labels of all rounds so far (Ouyang et al. 2022,
    # section 3.1; Bai et al. 2022, "Training a Helpful and Harmless Assistant", section 4.5). RL departs from the
    # latter, where each round trains a policy anew: it goes on from the last policy, and is held near that one, because
    # the answers of that one are what the reward model has just learnt to judge.
    lineage: list[Iteration] = []
    latest, checked, said = trained(sft, "sft"), None, {}
    for number in range(arm.rounds):
        again = seed_of_round(arm.seed, number)  # other prompts and draws in each round
        pairs = data
        if arm.pairs.source != "data":
            told = arm.pairs.source == "opposed"
            pairs = stage(
                sample_pairs, data=data, count=arm.pairs.prompts, model=latest, seed=again,
                sampling=Sampling(arm.pairs.max_new_tokens, arm.pairs.temperature),
                opposed=law.contrasting if told else (), template=load_template("contrast") if told else None, **model,
            )  # fmt: skip
        said, labels, checked = label(stage, arm, law, data, pairs, checked, dtype)

        # From here on nothing knows where the labels came from; the seed makes replicas of an arm.
        so_far: dict[str, tuple[Artifact | None, ...]] = {
            "pairs": (*(one.pairs for one in lineage), pairs),
            "labels": (*(one.labels for one in lineage), labels),
        }
        reward = None
        if arm.rl.reads_rewards:
            reward = stage(
                train_reward, model=start, settings=arm.reward, seed=seed_of_round(seed, number), **so_far, **model,
            )  # fmt: skip
        prompts = {"data": data, "helpful": helpful, "revisions": revised, "gold": yardstick(arm, work)}
        own = {"seed": seed_of_round(seed, number), **model}
        policy = train_policy(stage, arm, law, latest, prompts, so_far, reward, **own)
        lineage.append(Iteration(pairs, labels, reward, policy))
        latest = trained(policy, f"round {number + 1}")
    last = lineage[-1]
    return Cell(
        name, seed, arm, law, data, helpful, revised, sft, last.pairs, checked, last.labels, last.reward, last.policy,
        said, tuple(lineage),
    )  # fmt: skip


def labellers_have_pairs(arm: Arm, data: Artifact) -> None:
    """Known as soon as the pairs are, long before they are labelled; of pairs to be sampled, when they are."""
    file = data / "pairs.jsonl"  # not there yet in a plan
    if arm.pairs.source == "data" and arm.labels.rule and file.is_file():
        pairs = [pair for pair in read_jsonl(file, Pair) if pair.prompt.split != "calibration"]
        check_rule(pairs, arm.labels.rule, arm.seed)


def label(
    stage: Stage, arm: Arm, law: Constitution, data: Artifact, pairs: Artifact, checked: Artifact | None, dtype: Dtype
) -> tuple[dict[str, Artifact], Artifact | None, Artifact | None]:
    """(what each source said, the labels to train on, the judge's preflight, which is done once for all rounds)."""
    sources, rule, said = arm.labels, arm.labels.rule, {}
    asked = {"pairs": pairs, "rule": rule, "seed": arm.seed}
    if "ai" in sources.all:
        judge = {"judge": arm.judge, "model": model_of(arm.judge), "dtype": dtype}
        judge |= {"judging": principles_for(law, arm.judge), "templates": templates_for(arm.judge)}
        if not checked and (arm.judge.preflight or arm.judge.method == "auto" or arm.judge.calibrate):
            controls = controls_for(law) if arm.judge.preflight else None
            # Where the judge does not pass, every other method is tried, as it would be asked.
            tried = judge | ({"judging": law.contrasting} if arm.judge.preflight else {})
            checked = stage(preflight, data=data, pairs=pairs, seed=arm.seed, controls=controls, **tried)
        if arm.rl.method == "direct":  # the judge is asked about the policy's answers instead
            return {}, None, checked
        said["ai"] = stage(label_by_judge, preflight=checked, **judge, **asked)
    if "human" in sources.all:
        file = label_file(sources.file) if sources.file else None
        said["human"] = stage(label_by_people, file=file, raters=sources.raters, **asked)
    if "simulated" in sources.all:
        pool = tuple(
            Simulant(one, model_of(one), principles_for(law, one), templates_for(one)) for one in arm.simulated.pool
        )
        said["simulated"] = stage(label_by_simulation, pool=pool, flip=arm.simulated.flip, dtype=dtype, **asked)
    if rule is None:
        return said, said[sources.all[0]], checked
    return said, stage(mix_labels, parts=said, **asked), checked


def train_policy(
    stage: Stage, arm: Arm, law: Constitution, latest: ModelRef, prompts: dict[str, Any],
    so_far: dict[str, tuple[Artifact | None, ...]], reward: Artifact | None, **common: Any,
) -> Artifact:  # fmt: skip
    """The SFT policy, or the last round's, and what the arm's method learns from -> the policy.

    prompts: what it is sampled on, and looked at by the way. so_far: pairs and labels of all rounds.
    """
    rl, longest = arm.rl, arm.reward.max_length
    common["sft"] = latest
    looked_at: dict[str, Any] = {"settings": rl, **prompts}
    if rl.snapshots:
        looked_at["snapshots"] = rl.kept_rollouts
    if rl.method == "direct":
        return stage(
            train_direct, judge=arm.judge, judge_model=model_of(arm.judge), judging=principles_for(law, arm.judge),
            templates=templates_for(arm.judge), judge_seed=arm.seed, **looked_at, **common,
        )  # fmt: skip
    if rl.method == "dpo":
        return stage(
            train_dpo, epochs=rl.epochs, batch_size=rl.batch_size, kl=rl.kl, learning_rate=rl.learning_rate,
            max_length=longest, **so_far, **common,
        )  # fmt: skip
    assert reward is not None
    rewards = trained(reward, "reward")
    if rl.method == "best_of_n":
        return stage(best_of_n, sft=latest, reward=rewards, n=rl.best_of)
    against = AGAINST_REWARDS[rl.method]
    if rl.feedback:
        log = feedback_file(rl.feedback.log)
        looked_at["feedback"] = {"log": log, "weight": rl.feedback.weight, "decay": rl.feedback.decay}
    return stage(against, reward=rewards, reward_max_length=longest, **looked_at, **common)


def run(experiment: Experiment, store: Store, work: Workbench) -> tuple[list[Cell], Measured]:
    stage = store.stage_with(work)
    drawn = draw_budgets(stage, experiment)
    cells = [train(stage, work, name, arm, seed) for name, arm in experiment.arms.items() for seed in experiment.seeds]
    measured = evaluate(stage, work, cells)
    train_budgets(stage, work, cells, drawn, measured)
    return cells, measured


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cai.experiment", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="a file like experiments/quickstart.yaml")
    parser.add_argument("--plan", action="store_true", help="say what would run and how long it takes, then stop")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the file, or fix a swept one"
    )
    options = parser.parse_args(argv)
    began = begin()
    grid = read_sweep(options.config, options.set)
    check(*grid, plan=options.plan)
    work = Workbench.open(grid[0].runtime)
    if grid[0].point:
        print(f"{grid[0].sweep}: {size([one.point for one in grid])}", file=None if options.plan else sys.stderr)
    ledger, seconds, parts = plan(grid, work)
    if options.plan:
        if grid[0].point:
            print_grid(grid, parts, ledger, seconds, work.device)
        else:
            print_plan(grid[0], ledger, seconds, work.device)
        return 0
    from cai.compare.results import finish, tell  # numpy: only when there is something to compare
    from cai.compare.sweep import finish_sweep

    found = []
    with Board([(artifact.stage, each) for artifact, each in zip(ledger, seconds, strict=True)]) as board:
        for one in grid:
            began = replace(began, at=time.time())
            store = Store(work.root, notify=board.began, noted=board.noted)
            cells, measured = run(one, store, work)
            print(f"compare -> {work.root / one.name}", file=sys.stderr)
            found.append(finish(one, cells, measured, store.ledger, work, began))
    if grid[0].point:
        finish_sweep(grid[0].sweep, found, work.root)
    else:
        tell(found[0], work.root / grid[0].name)
    return 0


def plan(grid: Sequence[Experiment], work: Workbench) -> tuple[list[Artifact], list[float], list[int]]:
    """(every stage of every point, once; how long each will take; where each point's own begin)."""
    store, seconds, parts = Store(work.root, plan=True), [], []
    for one in grid:
        parts.append(len(store.ledger))
        cells, measured = run(one, store, work)
        seconds += estimates(store.ledger[parts[-1] :], cells, measured, work.device)
    return store.ledger, seconds, parts
