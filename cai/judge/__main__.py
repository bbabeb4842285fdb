"""`python -m cai.judge COMMAND`: tools for AI judges. Each command's own file says what it does."""

import argparse
import sys
from collections.abc import Sequence

from cai.core.errors import UserError, run_main, suggest
from cai.judge import bench, calculator, false_alarms
from cai.judge.attack import command as attack
from cai.judge.reads import command as reads
from cai.judge.selecting import command as select
from cai.judge.teaching import command as train

COMMANDS = (bench, reads, select, train, false_alarms, calculator)  # each adds its parser, and says what runs


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cai.judge", description="Tools for AI judges.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_command(commands)
    attack.add_command(commands, reward_models)
    args = parser.parse_args(argv)
    return args.run(args)


def reward_models(name: str, arms: Sequence[str], seed: int | None) -> list[attack.Target]:
    """The reward models of a finished run, of the arms named or of all; with `criteria:` each of them.

    Raises UserError where there is no such run, arm or seed, or no reward model.
    """
    from cai.chat.policies import cell_named, find_run, scorer_of
    from cai.core.records import Pair, read_jsonl
    from cai.judge.attack.measure import by_reward
    from cai.models.workbench import Workbench

    run = find_run(name)
    experiment = run.experiment
    seed = experiment.seeds[0] if seed is None else seed
    if seed not in experiment.seeds:
        raise UserError(f"this run has no seed {seed}", "--seed", suggest(str(seed), list(map(str, experiment.seeds))))
    work = Workbench.open(experiment.runtime.model_copy(update={"root": str(run.root)}))
    targets = []
    for arm in dict.fromkeys(arms or experiment.arms):
        views = [view for view in cell_named(run, arm, seed).views if view.reward]
        if arm in arms and not views:
            remedy = "attack the judge that rewards or labels it: give the experiment's file"
            raise UserError(f'arm "{arm}" trained no reward model', "--arm", remedy)
        for view in views:
            scorer = scorer_of(view, work)
            assert scorer
            reward = scorer.reward
            prefers = by_reward(work, reward.ref, reward.policy.system, scorer.max_length, reward.dtype)
            pairs = read_jsonl(view.data / "pairs.jsonl", Pair)
            title = f"reward model {view.name}"
            targets.append(attack.Target(title, pairs, view.constitution.judging, prefers, view.settings.seed))
    if not targets:
        remedy = "attack the judge: give the experiment's file"
        raise UserError("no arm of this run trained a reward model", str(run.home), remedy)
    return targets


if __name__ == "__main__":
    sys.exit(run_main(main))
