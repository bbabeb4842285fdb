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
from pathlib import Path

from cai.cells import Cell, Measured
from cai.config import Arm, Experiment, read_experiment
from cai.constitution import read_constitution
from cai.data import load_data, load_helpful, source_digest
from cai.engines import Sampling
from cai.errors import UserError, UserErrors, run_main
from cai.gold import yardstick
from cai.methods import principles_for, templates_for
from cai.models import UNREACHABLE, Source, find, trained
from cai.stages.evaluate import play, score_answers, score_pairs
from cai.stages.label import label_by_judge, label_by_people
from cai.stages.policy import train_ppo
from cai.stages.preflight import preflight
from cai.stages.respond import respond, sample_pairs
from cai.stages.revise import revise
from cai.stages.reward import train_reward
from cai.stages.sft import train_sft
from cai.store import Artifact, Store, digest_file
from cai.templates import load_template
from cai.workbench import Workbench

Stage = Callable[..., Artifact]


def train(stage: Stage, work: Workbench, name: str, arm: Arm, seed: int) -> Cell:
    """Constitution -> revisions -> SFT policy -> pairs -> labels -> reward model -> policy."""
    law = read_constitution(arm.constitution)
    start, dtype = find(arm.policy.model), work.dtype(arm)
    model = {"policy": arm.policy, "dtype": dtype}

    # Prompts and human-labelled pairs, split by prompt.
    data = stage(load_data, data=arm.data, contents=source_digest(arm.data), seed=arm.seed)
    helpful = None
    if arm.helpful:
        file = arm.data.model_copy(update={"source": arm.helpful.source})
        contents = source_digest(file)
        helpful = stage(load_helpful, source=file.source, contents=contents, test=file.test, seed=arm.seed)

    # SL-CAI: the policy criticises and revises its own answers, and is fine-tuned on the last revisions.
    revised = stage(
        revise, data=data, split="train", model=start, settings=arm.revise, principles=law.revising, seed=arm.seed,
        critique=load_template("critique"), revision=load_template("revision"), **model,
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

    # RLAIF or RLHF: the pairs are the same, and only who labels them differs.
    pairs = data
    if arm.pairs.source != "data":
        told = arm.pairs.source == "opposed"
        pairs = stage(
            sample_pairs, data=data, count=arm.pairs.prompts, model=trained(sft, "sft"), seed=arm.seed,
            sampling=Sampling(arm.pairs.max_new_tokens, arm.pairs.temperature),
            opposed=law.contrasting if told else (), template=load_template("contrast") if told else None, **model,
        )  # fmt: skip
    checked = None
    if arm.labels == "human":
        labels = stage(label_by_people, pairs=pairs)
    else:
        asked = {"judge": arm.judge, "model": find(arm.judge.model), "dtype": dtype, "seed": arm.seed}
        asked |= {"judging": principles_for(law, arm.judge), "templates": templates_for(arm.judge)}
        if arm.judge.preflight or arm.judge.method == "auto" or arm.judge.calibrate:
            checked = stage(preflight, data=data, pairs=pairs, **asked)
        labels = stage(label_by_judge, pairs=pairs, preflight=checked, **asked)

    # From here on nothing knows where the labels came from; the seed makes replicas of an arm.
    reward = stage(train_reward, pairs=pairs, labels=labels, model=start, settings=arm.reward, seed=seed, **model)
    policy = stage(
        train_ppo, data=data, helpful=helpful, revisions=revised, sft=trained(sft, "sft"),
        reward=trained(reward, "reward"), settings=arm.rl, reward_max_length=arm.reward.max_length,
        gold=yardstick(arm), seed=seed, **model,
    )  # fmt: skip
    return Cell(name, seed, arm, law, data, helpful, revised, sft, pairs, checked, labels, reward, policy)


def evaluate(stage: Stage, work: Workbench, cells: Sequence[Cell]) -> Measured:
    """Every policy answers the first arm's held-out prompts; every reward model scores them; the judge plays games."""
    first = cells[0]
    arm, law = first.settings, first.law
    ask, dtype = arm.evaluate, work.dtype(arm)
    model = {"policy": arm.policy, "dtype": dtype}
    settings = arm.revise.model_copy(update={"prompts": ask.transcripts})
    measured = Measured(
        stage(
            revise, data=first.data, split="test", model=find(arm.policy.model), settings=settings, seed=arm.seed,
            principles=law.revising, critique=load_template("critique"), revision=load_template("revision"), **model,
        ) if ask.transcripts else None
    )  # fmt: skip
    policies: dict[str, Source] = {"start": find(arm.policy.model), "sft": trained(first.sft, "sft")}
    policies |= {cell.name: trained(cell.policy, cell.name) for cell in cells}

    # 1. Answers, with the same draws for every policy.
    sampling = Sampling(ask.max_new_tokens, ask.temperature)
    for name, source in policies.items():
        for kind, prompts, count in (("red-team", first.data, ask.prompts), ("helpful", first.helpful, ask.helpful)):
            if prompts and count:
                measured.answers[name, kind] = stage(
                    respond, prompts=prompts, split="test", count=count, model=source, sampling=sampling, seed=arm.seed,
                    **model,
                )  # fmt: skip

    # 2. Rewards: of the held-out pairs, for agreement with labels, and of all answers, under every arm's reward model.
    for cell in cells:
        reward = {"reward": trained(cell.reward, cell.name), "max_length": cell.settings.reward.max_length, **model}
        measured.pair_scores[cell.name] = stage(score_pairs, pairs=first.pairs, **reward)
        for name in policies:
            answers = measured.answers[name, "red-team"]
            measured.scores[cell.name, name] = stage(score_answers, prompts=first.data, answers=answers, **reward)

    # 3. Games: arm against arm seed by seed, every cell against the SFT policy, and seed against seed for the noise.
    judging = principles_for(read_constitution(ask.constitution), ask.judge)
    templates = templates_for(ask.judge)
    for one, two in matches(cells):
        measured.games[one, two] = stage(
            play, prompts=first.data, first=measured.answers[one, "red-team"], second=measured.answers[two, "red-team"],
            judge=ask.judge, model=find(ask.judge.model), judging=judging, templates=templates, dtype=dtype,
            seed=arm.seed,
        )  # fmt: skip
    return measured


def matches(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Which policies meet: (first, second) by name."""
    games = [("sft", "start")] + [(cell.name, "sft") for cell in cells]
    games += [(a.name, b.name) for a in cells for b in cells if a.seed == b.seed and a.arm == cells[0].arm != b.arm]
    games += [(a.name, b.name) for a in cells for b in cells if a.arm == b.arm and a.seed < b.seed]
    return games


def run(experiment: Experiment, store: Store, work: Workbench) -> tuple[list[Cell], Measured]:
    cells = [
        train(store.stage_with(work), work, name, arm, seed)
        for name, arm in experiment.arms.items()
        for seed in experiment.seeds
    ]
    return cells, evaluate(store.stage_with(work), work, cells)


def check(experiment: Experiment, *, plan: bool = False) -> None:
    """Everything that can be found wrong before the first minute of work, all of it at once."""
    faults: list[UserError] = []
    for arm in experiment.arms.values():
        ask = arm.evaluate
        tasks: list[Callable[[], object]] = [
            lambda arm=arm: read_constitution(arm.constitution),
            lambda ask=ask: read_constitution(ask.constitution),
            *(lambda ref=ref: reachable(ref, plan) for ref in models_of(arm)),
            lambda arm=arm: source_digest(arm.data),
            lambda arm=arm: arm.helpful and digest_file(Path(arm.helpful.source)),
            *(lambda name=name: load_template(name) for name in ("critique", "revision")),
            *(lambda judge=judge: templates_for(judge) for judge in (arm.judge, ask.judge)),
        ]
        for task in tasks:
            try:
                task()
            except UserErrors as error:
                faults += error.errors
            except UserError as error:
                faults.append(error)
            except FileNotFoundError as error:
                faults.append(UserError("no such file", str(error.filename), "mend helpful.source"))
    unique = list({str(fault): fault for fault in faults}.values())
    if len(unique) > 1:
        raise UserErrors(unique)
    if unique:
        raise unique[0]


def models_of(arm: Arm) -> list[str]:
    gold = arm.rl.gold
    own = [gold.by] if gold and gold.by != "judge" else []
    return [arm.policy.model, arm.judge.model, arm.evaluate.judge.model, *own]


def reachable(ref: str, plan: bool) -> None:
    """A model that cannot be had is a fault now, not when its stage comes up hours later; a plan only says so."""
    if find(ref).digest.endswith(UNREACHABLE):
        problem = f'cannot reach the hub for "{ref}", and it is not in the local cache'
        if not plan:
            raise UserError(problem, "model", "check the network, or give a local folder")
        print(f"note: {problem}; planned all the same")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cai.experiment", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="a file like experiments/quickstart.yaml")
    parser.add_argument("--plan", action="store_true", help="say what would run and how long it takes, then stop")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the file")
    options = parser.parse_args(argv)
    experiment = read_experiment(options.config, options.set)
    check(experiment, plan=options.plan)
    work = Workbench.open(experiment.runtime)
    if options.plan:
        from cai.plan import print_plan

        store = Store(work.root, plan=True)
        cells, _ = run(experiment, store, work)
        print_plan(experiment, store.ledger, cells, work.device)
        return 0
    began = time.time()
    store = Store(work.root, notify=announce(time.perf_counter()))
    cells, measured = run(experiment, store, work)

    from cai.compare.results import finish  # numpy and matplotlib: only now

    print(f"compare -> {work.root / experiment.name}", file=sys.stderr)
    finish(experiment, cells, measured, store.ledger, work, time.time() - began)
    return 0


def announce(start: float) -> Callable[[str, str], None]:
    def say(stage: str, key: str) -> None:
        minutes, seconds = divmod(int(time.perf_counter() - start), 60)
        print(f"[{minutes:02d}:{seconds:02d}] {stage.replace('_', ' ')} ({key[:6]})", file=sys.stderr, flush=True)

    return say


if __name__ == "__main__":
    sys.exit(run_main(main))
