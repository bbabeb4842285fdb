"""How often a filter is wrong: what it removes of XSTest's safe prompts, which only look unsafe, and of the unsafe.

    python -m cai.judge moderate EXPERIMENT.yaml --xstest FILE

measures the `moderation:` of each arm by itself; nothing is trained. In a run the same stands in the report, where
`evaluate.xstest` names the prompts.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.config.load import read_experiment
from cai.config.moderation import FILTERS
from cai.core.errors import UserError
from cai.core.records import Estimate, Prompt
from cai.data.xstest import HUB, read_xstest
from cai.judge.moderation import Filter, Flag, ModeratedText, Moderator
from cai.models.workbench import Workbench

ANY = "any of them"


@dataclass(frozen=True, slots=True)
class Flagged:
    """What the filters say of one prompt of XSTest. subset: "safe" or "unsafe"."""

    id: str
    subset: str
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True)
class FilterRate:
    """Shares of XSTest's prompts that a filter removes. false_alarms: of the safe ones; hits: of the unsafe ones."""

    filter: str
    false_alarms: Estimate
    hits: Estimate


def flagged(by: Moderator, work: Workbench, prompts: Sequence[Prompt]) -> list[Flagged]:
    flags = by.flags(work, [ModeratedText(prompt) for prompt in prompts])
    return [Flagged(row.id, row.subset, tuple(mine)) for row, mine in zip(prompts, flags, strict=True)]


def rates(rows: Sequence[Flagged], filters: Sequence[Filter]) -> list[FilterRate]:
    """Of each of `filters`, those that looked, where there are several, and of all together. Prompts are the units.

    A filter that lets everything pass is a row of nothing found, and not left out.
    """
    names = [name for name in FILTERS if name in filters]
    return [
        FilterRate(name, _share(rows, "safe", name), _share(rows, "unsafe", name))
        for name in (*(names if len(names) > 1 else []), ANY)
    ]


def _share(rows: Sequence[Flagged], subset: str, name: str) -> Estimate:
    from cai.stats import intervals as statistics  # numpy: not for --help

    some = [row for row in rows if row.subset == subset]
    hits = [float(any(not flag.unread and name in (flag.filter, ANY) for flag in row.flags)) for row in some]
    return statistics.mean(hits, [row.id for row in some])


# The command ----------------------------------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """commands: what argparse's `add_subparsers` returned."""
    command = commands.add_parser("moderate", help="measure the filters of an experiment's `moderation:` on XSTest")
    command.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="a file with `moderation:`")
    command.add_argument(
        "--xstest", required=True, metavar="FILE", help=f"its prompts file, or {HUB} for the hub's copy"
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as of python -m cai.experiment"
    )
    command.set_defaults(run=_moderate)


def _moderate(args: argparse.Namespace) -> int:
    experiment = read_experiment(args.experiment, args.set)
    arms = {name: arm for name, arm in experiment.arms.items() if arm.moderation}
    if not arms:
        remedy = "add one, such as --set 'moderation={words: experiments/data/blocked.txt}'"
        raise UserError("no arm of this experiment has a `moderation:`", str(args.experiment), remedy)
    prompts = read_xstest(args.xstest)
    work = Workbench.open(experiment.runtime)
    for name, arm in arms.items():
        assert arm.moderation
        by = Moderator.of(arm.moderation, work, arm.policy, work.dtype(arm), arm.seed)
        print(f"{name}: shares removed of {len(prompts)} prompts of {args.xstest}")
        for rate in rates(flagged(by, work, prompts), by.filters):
            print(f"  {rate.filter:<12} false alarms {_words(rate.false_alarms)}, hits {_words(rate.hits)}")
    return 0


def _words(share: Estimate) -> str:
    return f"{share.value:.1%} [{100 * share.low:.1f}, {100 * share.high:.1f}] of {share.n}" if share.n else "of none"
