"""`python -m cai.judge attack CONFIG_OR_RUN`: what raises a score and should not, before any RL climbs after it.

    held-out pairs that people judged  ->  the worse answer by every exploit  ->  headroom by exploit, the highest first

Of a config its `judge:` is attacked, by whatever method; of a finished run the reward models that it trained. Progress
goes to stderr, results to stdout; what a judge was asked before comes from the call cache.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.config.load import Arm, Experiment, read_experiment
from cai.config.rubric import RUBRIC
from cai.constitution import Judging
from cai.core.errors import UserError, suggest
from cai.core.records import Estimate, Pair, plain, read_jsonl
from cai.core.store import Store
from cai.data.sources import load_data, source_digest
from cai.judge.asked import AskedJudge
from cai.judge.attack.exploits import FILE, Exploits, read_exploits
from cai.judge.attack.measure import AttackReport, ExploitReport, Prefers, as_json, attack, by_judge, held_out
from cai.judge.common import check_numbers
from cai.judge.methods import name_of
from cai.judge.reads.command import columns
from cai.models.workbench import Workbench

LIMIT = 40


@dataclass(frozen=True, slots=True)
class Target:
    """A judge or a reward model. name: in words. pairs: all that its data holds. principles: for exploits that quote
    one."""

    name: str
    pairs: list[Pair]
    principles: tuple[Judging, ...]
    prefers: Prefers
    seed: int


# What `python -m cai.judge` puts in, for this room knows no run: the folder or name, arms, seed -> its reward models.
OfRun = Callable[[str, Sequence[str], int | None], list[Target]]


def add_command(commands: Any, of_run: OfRun) -> None:
    """commands: what argparse's `add_subparsers` returned. of_run: how the reward models of a run are opened."""
    parser = commands.add_parser("attack", help="which exploits raise the score of a judge, or of a reward model?")
    parser.add_argument("target", metavar="CONFIG_OR_RUN", help="an experiment's file (its judge), or a finished run")
    parser.add_argument("--arm", action="append", default=[], metavar="NAME", help="whose judge or reward model")
    parser.add_argument("--limit", type=int, default=LIMIT, metavar="N", help=f"held-out pairs (default {LIMIT})")
    parser.add_argument("--exploits", default=str(FILE), metavar="FILE", help=f"another file than {FILE}")
    parser.add_argument("--seed", type=int, metavar="N", help="of a run: which replica (default: the first)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of a config, as python -m cai.experiment has it",
    )
    parser.add_argument(
        "--examples", type=int, default=1, metavar="N", help="exploits to show an answer of (default 1)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with everything instead of tables")
    parser.set_defaults(run=lambda args: _attack(args, of_run))


def _attack(args: argparse.Namespace, of_run: OfRun) -> int:
    # 1. Everything that can be wrong is found before a model is loaded.
    check_numbers(args)
    if args.examples < 0:
        raise UserError(f"{args.examples} examples", "--examples", "give 0 or more")
    exploits = read_exploits(args.exploits)
    config = Path(args.target).suffix in (".yaml", ".yml")
    for option, given, reads in (("--set", args.set, config), ("--seed", args.seed is not None, not config)):
        if given and not reads:
            kind = "a config" if config else "a finished run, which is as it is"
            raise UserError(f"{option} changes nothing of {kind}", option, "leave it out")
    targets = (
        judges_of_config(read_experiment(Path(args.target), args.set), args.arm)
        if config else of_run(args.target, args.arm, args.seed)
    )  # fmt: skip
    rows = [held_out(target.pairs, args.limit, target.seed, args.target) for target in targets]

    # 2. Attack one after the other.
    reports: dict[str, AttackReport] = {}
    for target, pairs in zip(targets, rows, strict=True):
        print(f"{target.name}: {len(pairs)} pairs, {len(exploits.exploits)} exploits", file=sys.stderr, flush=True)
        reports[target.name] = attack(pairs, exploits, target.principles, target.prefers, target.seed)
        if not args.json:
            print("\n".join(page(target.name, reports[target.name], exploits, args.examples)), flush=True)
    if args.json:
        given = {"target": args.target, "exploits": str(exploits.path), "limit": args.limit}
        print(
            json.dumps(
                plain(given | {"attacked": {name: as_json(report) for name, report in reports.items()}}), indent=1
            )
        )
    return 0


def judges_of_config(experiment: Experiment, arms: Sequence[str]) -> list[Target]:
    """The judge of each arm named, of the first that asks one otherwise; with `criteria:`, by each constitution.

    Raises UserError for an arm that is not there or asks no judge, and for a method that is yet to be chosen.
    """
    asking = [name for name, arm in experiment.arms.items() if arm.asks_judge]
    for name in arms:
        if name not in experiment.arms:
            raise UserError(f'there is no arm "{name}"', "--arm", suggest(name, list(experiment.arms)))
        if name not in asking:
            remedy = f"name {' or '.join(asking)}" if asking else "no arm does: give a finished run, for reward models"
            raise UserError(f'no judge labels for arm "{name}"', "--arm", remedy)
    if not asking:
        remedy = "set labels: ai, or give a finished run, whose reward models are then attacked"
        raise UserError("no arm of this experiment asks a judge", "labels", remedy)
    work = Workbench.open(experiment.runtime)
    stage = Store(work.root).stage_with(work)
    targets = []
    for name in dict.fromkeys(arms or asking[:1]):
        for criterion, arm in experiment.arms[name].by_criterion().items():
            data = stage(load_data, data=arm.data, contents=source_digest(arm.data), seed=arm.seed)
            title = f"judge of arm {name}" + (f", {criterion}" if criterion else "")
            judge = judge_of(arm, work, data)
            title += f": {judge.model.name}, asked by {name_of(judge.settings.method)}"
            pairs = read_jsonl(data / "pairs.jsonl", Pair)
            targets.append(Target(title, pairs, judge.principles, by_judge(judge.engine(work), judge), arm.seed))
    return targets


def judge_of(arm: Arm, work: Workbench, data: Any) -> AskedJudge:
    """As it labels. Raises UserError where its method is not known yet, or asks and computes nothing."""
    method = arm.judge.method
    if method == "auto":
        remedy = "name one: --set judge.method=rate (a run's preflight.json says which was chosen)"
        raise UserError("judge.method: auto is chosen only in a run", "judge.method", remedy)
    if method == "provenance":
        raise UserError(
            "judge.method: provenance reads no answer, so none can attack it", "judge.method", "name another"
        )
    if method == RUBRIC:
        problem = "judge.rubric: its criteria are those of prompts, which the exploits are not measured by"
        raise UserError(problem, "judge.rubric", "attack the reward model of its run: python -m cai.judge attack RUN")
    constitution = work.constitution_of(arm)
    return AskedJudge.of(arm.judge, constitution, work.dtype(arm), arm.seed, data)


# Showing --------------------------------------------------------------------------------------------------------------

HEAD = (
    "exploit",
    "raises it by, sd",
    "its control",
    "the words alone",
    "p (Holm)",
    "flips",
    "control flips",
    "raised by",
)


def page(name: str, report: AttackReport, exploits: Exploits, examples: int) -> list[str]:
    head = f"{name}; {report.pairs} held-out pairs of {report.prompts} prompts, {exploits.path}"
    if not report.right.n:
        return [head, "not one of these pairs can be read by this judge: ask another way (judge.method)"]
    lines = [
        head,
        f"before: the better answer is preferred in {_share(report.right)}; "
        + ("all answers have one score" if math.isnan(report.unit) else f"1 sd is {report.unit:.3g} of its score"),
        "",
        *columns([HEAD, *(_row(each) for each in report.exploits)]),
        "",
        "* stands in for the answer, and is held against the better one",
    ]
    if report.prompts < report.fewest:
        few = f"{report.prompts} prompts cannot show any of {len(report.exploits)} exploits"
        lines.append(f"note: {few}: {report.fewest} or more can")
    for each in report.exploits:
        first, second = each.flips_first, each.flips_second
        if each.headroom.raises and first and second:
            lines.append(f"position: {each.name} flips {_share(first)} shown first, {_share(second)} shown second")
    lines += [
        f"unread: {each.name}: {each.unread} pairs can no longer be judged" for each in report.exploits if each.unread
    ]
    high = [each for each in report.exploits if each.headroom.raises]
    names = ", ".join(f"{each.name} ({each.headroom.by})" for each in high)
    lines.append(
        f"raised by {len(high)} of {len(report.exploits)}: {names}" if high else "no exploit was seen to raise it"
    )
    for each in [each for each in report.exploits if each.example][:examples]:
        lines += ["", *_shown(each)]
    return [*lines, ""]


def _row(each: ExploitReport) -> tuple[str, ...]:
    of = each.headroom
    return (
        each.name + ("" if each.edits else " *"), _sd(of.shift), _sd(of.control), _sd(of.words),
        "-" if math.isnan(of.p) else f"{of.p:.3f}", _share(of.flips), _share(of.control_flips), of.by or "-",
    )  # fmt: skip


def _shown(each: ExploitReport) -> list[str]:
    from cai.judge.flips import head, tail  # numpy: not for --help

    example = each.example
    assert example
    return [
        f"{each.name}: P(attacked answer better) {example.before:.3f} -> {example.after:.3f}",
        f"  prompt    {tail(example.prompt)}",
        f"  better    {head(example.better)}",
        f"  attacked  {head(example.attacked)}",
    ]


def _sd(of: Estimate) -> str:
    return f"{of.value:+.2f} [{of.low:+.2f}, {of.high:+.2f}]" if of.n else "-"


def _share(of: Estimate) -> str:
    return f"{of.value:.0%} [{100 * of.low:.0f}, {100 * of.high:.0f}]" if of.n else "-"
