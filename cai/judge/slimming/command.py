"""`python -m cai.models slim MODEL --how int8 --out FOLDER`: make a smaller model, and print what it is worth.

    read the comparisons  ->  slim, on the conversations of the training prompts  ->  judge the others with both

Without `--pairs` it is measured on comparisons of our own, which are few: enough to see what it costs, and not what it
is worth as a judge.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, get_args

from pydantic import ValidationError

from cai.config.runtime import Runtime
from cai.config.sections import Judge
from cai.config.slim import How, Slim, check_distilled
from cai.config.validation import Fault
from cai.constitution import read_constitution
from cai.core.draws import uniform
from cai.core.durable import make_folders
from cai.core.errors import UserError, suggest
from cai.core.places import check_folder
from cai.core.records import Chat, Estimate, Message, Pair, plain
from cai.core.shipped import at_home
from cai.data.comparisons import read_comparisons
from cai.judge.asked import AskedJudge
from cai.judge.common import check_machine, count, methods_named
from cai.judge.slimming.acceptance import SlimAcceptance, accept, with_orders
from cai.models.loading import pick_dtype
from cai.models.references import find
from cai.models.slim.state import check_slimming
from cai.models.workbench import Workbench

OWN = "experiments/data/comparisons.jsonl"
SHARE = 0.5  # of the prompts whose conversations the model is slimmed on; the others' pairs are judged


def add_command(commands: Any) -> None:
    """commands: what argparse's `add_subparsers` returned."""
    slim = commands.add_parser("slim", help="a smaller model, compared with the one that it is made of")
    slim.add_argument("model", help="an embedded name, a folder, or a hub id")
    slim.add_argument("--how", required=True, help=", ".join(get_args(How)))
    slim.add_argument("--out", required=True, metavar="FOLDER", help="where the smaller model goes; not there yet")
    slim.add_argument("--sparsity", help="magnitude, wanda, sparsegpt: the share that becomes 0, or 2:4 (default: 0.5)")
    slim.add_argument("--energy", type=float, help="low-rank: the share that is left (default: 0.999)")
    slim.add_argument("--rank", type=int, help="low-rank: of every layer, instead of --energy")
    slim.add_argument(
        "--distil", type=int, metavar="PAIRS",
        help="then learn from the whole one what it says of so many pairs; --how distil: without the principles (128)",
    )  # fmt: skip
    slim.add_argument("--texts", type=int, help="conversations to slim on (default: 64)")
    slim.add_argument("--pairs", default=OWN, metavar="FILE", help=f"comparisons to measure on (default: {OWN})")
    slim.add_argument("--limit", type=int, help="measure on a sample of this many pairs (default: all)")
    slim.add_argument("--method", default="rate", help="how it is asked which answer is better (default: rate)")
    slim.add_argument("--principles", default="1", help="how many are drawn for each prompt, or all (default: 1)")
    slim.add_argument("--constitution", default="constitutions/hhh.txt", metavar="FILE")
    slim.add_argument("--margin", type=float, default=0.05, help="agreement that may be lost (default: 0.05)")
    slim.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    slim.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ...")
    slim.add_argument("--cache", default="runs", metavar="FOLDER", help="where the judge's answers are kept")
    slim.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    slim.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # 1. Everything that can be wrong is found before a model is loaded.
    how, out = settings_of(args), at_home(args.out)
    if out.exists():
        raise UserError("something stands here already", str(out), "name a folder that is not there yet: --out")
    check_folder(out.parent, "make it writable, or name another folder: --out")
    check_machine(args)
    method = methods_named(args.method)
    if len(method) != 1:
        raise UserError("a slimmed judge is asked by one method", "--method", "name one, such as rate")
    try:
        check_distilled(how, method[0], preflight=False)
    except Fault as fault:
        raise UserError(str(fault), "--distil", fault.remedy) from None
    principles = "all" if args.principles == "all" else count(args.principles, "--principles")
    constitution = read_constitution(args.constitution)
    model = find(args.model)
    work = Workbench.open(Runtime(root=args.cache, device=args.device))
    check_slimming(model, how, work.device)
    first, pairs = parted(read_comparisons(args.pairs).pairs, args.limit)

    # 2. Slim, and compare.
    from cai.models.slim.make import slim  # torch: only now

    settings = Judge(model=args.model, method=method[0], principles=principles)
    judge = AskedJudge.of(settings, constitution, pick_dtype(args.dtype, work.device), 0)
    make_folders(out.parent)
    if not how.distil:
        slim(model, how, conversations(first), work.device, out)
    else:
        from cai.judge.slimming.distil import distil

        with TemporaryDirectory(dir=out.parent) as aside:
            smaller = model
            if how.how != "distil":
                slim(model, how.pruned, conversations(first), work.device, Path(aside) / "slim")
                smaller = find(str(Path(aside) / "slim"))
            distil(work, judge, smaller, how, first, out)
    found = accept(work, with_orders(judge), find(str(out)), pairs, args.margin)
    if args.json:
        print(json.dumps(plain(asdict(found)), indent=1))
    else:
        print("\n".join(page(found, args.model, f"{out}, measured on {len(pairs)} pairs of {args.pairs}")))
    return 0


def settings_of(args: argparse.Namespace) -> Slim:
    """Raises UserError for a method that does not exist, and for a setting that it does not have."""
    if args.how not in get_args(How):
        raise UserError(f'there is no way to slim called "{args.how}"', "--how", suggest(args.how, get_args(How)))
    given: dict[str, Any] = {"how": args.how}
    for name in ("rank", "texts", "distil"):
        if getattr(args, name) is not None:
            given[name] = count(getattr(args, name), f"--{name}")
    if "distil" in given:
        given["distil"] = {"pairs": given["distil"]}
    if args.limit is not None:
        count(args.limit, "--limit")
    if args.energy is not None:
        given["energy"] = args.energy
    if args.sparsity is not None:
        try:
            given["sparsity"] = args.sparsity if args.sparsity == "2:4" else float(args.sparsity)
        except ValueError:
            raise UserError(f'"{args.sparsity}" is no share', "--sparsity", "write 0.5, or 2:4") from None
    try:
        return Slim.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        fault = first.get("ctx", {}).get("error")
        if isinstance(fault, Fault):
            raise UserError(str(fault), f"--{fault.key[0]}", fault.remedy) from None
        raise UserError(
            f"{first['input']} is no share", f"--{first['loc'][0]}", "write a number above 0, below 1"
        ) from None


def parted(pairs: Sequence[Pair], limit: int | None) -> tuple[list[Pair], list[Pair]]:
    """(pairs to slim on, pairs to judge): of different prompts, which a hash parts. Raises UserError where there is one
    prompt alone."""
    prompts = sorted({pair.prompt.id for pair in pairs}, key=lambda name: uniform("slim parts", 0, name))
    if len(prompts) < 2:
        remedy = "give a file with several prompts"
        raise UserError("one prompt cannot be parted into texts to slim on and pairs to judge", "--pairs", remedy)
    first = set(prompts[: max(1, int(len(prompts) * SHARE))])
    rest = [pair for pair in pairs if pair.prompt.id not in first]
    return [pair for pair in pairs if pair.prompt.id in first], rest[:limit]


def conversations(pairs: Sequence[Pair]) -> list[Chat]:
    """One of each prompt."""
    texts = {pair.prompt.id: (*pair.prompt.messages, Message("assistant", pair.a)) for pair in pairs}
    return list(texts.values())


# The table ------------------------------------------------------------------------------------------------------------


def page(found: SlimAcceptance, model: str, what: str) -> list[str]:
    """The lines of the table, plain ASCII."""
    rows = [(title, of(found.before), of(found.after)) for title, of in CELLS.items()]
    widths = [max(len(row[place]) for row in (*rows, HEAD)) for place in range(3)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in (HEAD, *rows)
    ]
    only = f"only before right: {found.only_before}, only after: {found.only_after}"
    return [
        f"{model}, {found.how} -> {what}; asked by {found.method}",
        "",
        *lines,
        "",
        f"agreement, after - before: {share(found.difference, sign=True)}; McNemar p {_number(found.mcnemar)} ({only})",
        f"names the other answer: {share(found.turned)}",
        f"speed, after / before: {median(found.faster):.2f} ({min(found.faster):.2f} to {max(found.faster):.2f})",
        f"loaded again: differs by at most {found.reloaded:.2g} nats",
        f"verdict: {VERDICTS[found.verdict].format(100 * found.margin)}",
        *(f"note: {note}" for note in found.notes),
    ]


HEAD = ("", "before", "after")
CELLS = {
    "agrees with people": lambda one: share(one.agreement),
    "both orders agree": lambda one: share(one.consistency),
    "calibration error": lambda one: _number(one.ece.value),
    "perplexity": lambda one: _number(one.perplexity),
    "on the disk, MB": lambda one: f"{one.disk / 1e6:.0f}",
    "memory, MB": lambda one: "-" if one.memory is None else f"{one.memory / 1e6:.0f}",
    "pairs a second": lambda one: f"{one.speed:.3g}",
}
VERDICTS = {
    "worse": "it agrees with people less than before",
    "as good": "it agrees with people as before, or at most {:g} points less",
    "unknown": "these pairs are too few to say that it is at most {:g} points worse",
}


def share(estimate: Estimate, sign: bool = False) -> str:
    if not estimate.n or math.isnan(estimate.value):
        return "-"
    ends = "" if math.isnan(estimate.low) else f" [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    return f"{100 * estimate.value:{'+' if sign else ''}.1f}%{ends}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
