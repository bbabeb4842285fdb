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

from cai.annotate.feedback import FeedbackFile
from cai.budgets import draw_budgets, train_budgets
from cai.cells import Cell, Iteration, Measured
from cai.checks import check
from cai.compare.provenance import begin
from cai.config import Arm, Experiment, read_sweep
from cai.constitution import Constitution
from cai.data import seed_of_round
from cai.engines import Sampling
from cai.errors import run_main
from cai.gold import yardstick
from cai.labels import LabelFile, check_rule
from cai.measuring import bench_all, matches, rate_all, score_harm
from cai.methods import principles_for, templates_for
from cai.models import Dtype, Source, model_of, trained
from cai.plan import estimates, print_grid, print_plan
from cai.progress import Board
from cai.reads.controls import controls_for
from cai.records import Pair, read_jsonl
from cai.sources import load_data, load_helpful, source_digest
from cai.stages.dpo import train_dpo
from cai.stages.evaluate import play, score_answers, score_pairs
from cai.stages.label import Simulant, label_by_judge, label_by_people, label_by_simulation, mix_labels
from cai.stages.policy import train_direct, train_grpo, train_ppo, train_rloo
from cai.stages.preflight import preflight
from cai.stages.respond import best_of_n, respond, respond_best, sample_pairs
from cai.stages.revise import revise, revising
from cai.stages.reward import train_reward
from cai.stages.sft import train_sft
from cai.store import Artifact, Store
from cai.sweep import size
from cai.templates import load_template
from cai.workbench import Workbench
from cai.xstest import contents_of, load_xstest

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
        file = LabelFile.of(sources.file) if sources.file else None
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
    stage: Stage, arm: Arm, law: Constitution, latest: Source, prompts: dict[str, Any],
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
        log = FeedbackFile.of(rl.feedback.log)
        looked_at["feedback"] = {"log": log, "weight": rl.feedback.weight, "decay": rl.feedback.decay}
    return stage(against, reward=rewards, reward_max_length=longest, **looked_at, **common)


def evaluate(stage: Stage, work: Workbench, cells: Sequence[Cell]) -> Measured:
    """Every policy answers the first arm's held-out prompts; reward models score, the judge plays games and rates.

    The arms hold out the same prompts (cai/config.py). A policy is asked, and a reward model reads, under the system
    prompt that it was trained under. Snapshots (`rl.snapshots`) answer, play and are rated, and take no part in
    what compares the arms.
    """
    first = cells[0]
    arm, law = first.settings, first.law
    ask, dtype = arm.evaluate, work.dtype(arm)
    settings = arm.revise.model_copy(update={"prompts": ask.transcripts})
    measured = Measured(
        stage(
            revise, data=first.data, split="test", model=model_of(arm.policy), settings=settings, seed=arm.seed,
            policy=arm.policy, dtype=dtype, **revising(law, arm.revise, arm.seed),
        ) if ask.transcripts else None,
        xstest=stage(load_xstest, source=ask.xstest, contents=contents_of(ask.xstest)) if ask.xstest else None,
    )  # fmt: skip
    policies: dict[str, Source] = {"start": model_of(arm.policy), "sft": trained(first.sft, "sft")}
    policies |= {name: trained(one.policy, name) for cell in cells for name, one in cell.policies.items()}
    best = {cell.name: cell for cell in cells if picks(cell)}
    policies |= {name: trained(cell.sft, "sft") for name, cell in best.items()}

    main = ("start", "sft", *(cell.name for cell in cells))
    along = {name: trained(one.policy, name, at) for cell in cells for name, (one, at) in cell.path.items()}
    made_by = {name: cell.settings.policy for cell in cells for name in (*cell.policies, *cell.path)}

    # 1. Answers, with the same draws for every policy.
    sampling = Sampling(ask.max_new_tokens, ask.temperature)
    # Everyday prompts are for the table of policies; the policies of earlier rounds stand in that of rounds.
    asked = [
        ("red-team", first.data, ask.prompts, (*policies, *along)),
        ("helpful", first.helpful, ask.helpful, (*main, *along)),
        ("xstest", measured.xstest, None, main),
    ]
    for name, source in (policies | along).items():
        for kind, prompts, count, whom in asked:
            if prompts and count != 0 and name in whom:
                own = of_best(best[name]) if name in best else {}
                measured.answers[name, kind] = stage(
                    respond_best if own else respond, prompts=prompts, split="test", count=count, model=source,
                    policy=made_by.get(name, arm.policy), sampling=sampling, seed=arm.seed, dtype=dtype, **own,
                )  # fmt: skip

    # 2. Rewards: of the held-out pairs, for agreement with labels, and of all answers, under every arm's reward model.
    for cell in cells:
        if cell.reward is None:
            continue
        reward = {"reward": trained(cell.reward, cell.name), "max_length": cell.settings.reward.max_length}
        reward |= {"policy": cell.settings.policy, "dtype": dtype}
        measured.pair_scores[cell.name] = stage(score_pairs, pairs=first.pairs, **reward)
        for name in policies:
            answers = measured.answers[name, "red-team"]
            measured.scores[cell.name, name] = stage(score_answers, prompts=first.data, answers=answers, **reward)

    # 3. Games: arm against arm seed by seed, every cell against the SFT policy, and seed against seed for the noise.
    judging = principles_for(work.constitution(ask.constitution), ask.judge)
    templates = templates_for(ask.judge)
    for one, two in matches(cells):
        measured.games[one, two] = stage(
            play, prompts=first.data, first=measured.answers[one, "red-team"], second=measured.answers[two, "red-team"],
            judge=ask.judge, model=model_of(ask.judge), judging=judging, templates=templates, dtype=dtype,
            seed=arm.seed,
        )  # fmt: skip

    # 4. Single texts, rated by the judge and by a model of people's ratings; comparisons that people have decided. The
    # best of several is no model to ask.
    rate_all(stage, work, cells, measured)
    score_harm(stage, cells, measured, dtype)
    bench_all(stage, work, cells, {n: policies[n] for n in main if n not in best}, measured)
    return measured


def picks(cell: Cell) -> bool:
    """Whether its policy is the best of several answers of the SFT policy."""
    return cell.settings.rl.method == "best_of_n"


def of_best(cell: Cell) -> dict[str, Any]:
    """What `respond_best` needs beside what `respond` does."""
    assert cell.reward is not None
    longest = cell.settings.reward.max_length
    return {"reward": trained(cell.reward, "reward"), "n": cell.settings.rl.best_of, "max_length": longest}


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
    found = []
    with Board([(artifact.stage, each) for artifact, each in zip(ledger, seconds, strict=True)]) as board:
        for one in grid:
            began = replace(began, at=time.time())
            store = Store(work.root, notify=board.began, noted=board.noted)
            cells, measured = run(one, store, work)

            from cai.compare.results import finish, tell  # numpy: only now
            from cai.compare.sweep import finish_sweep

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


if __name__ == "__main__":
    sys.exit(run_main(main))
