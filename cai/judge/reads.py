"""`python -m cai.judge reads CONSTITUTION PAIRS`: does a judge read its constitution?

    the same pairs under the text, its negation, placebos, nothing, another text  ->  gain, turn, share

What the words mean is in cai/reads/effect.py, what the texts are in cai/reads/controls.py. Progress goes to stderr,
results to stdout; whatever was asked before comes from the call cache.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.comparisons import read_comparisons
from cai.constitution import read_constitution
from cai.errors import UserError
from cai.judge.bench import count, methods_named, sample
from cai.methods import ASKING, principles_for, templates_for
from cai.models import find, pick_dtype
from cai.reads.controls import MOST, Controls, ask, controls_for, effect_of, unheard
from cai.reads.placebos import read_placebos, unrelated
from cai.reads.verdict import number, percent, points
from cai.records import Pair, plain
from cai.settings import Judge, Runtime
from cai.workbench import Workbench

if TYPE_CHECKING:
    from cai.reads.effect import Effect

OTHERS = ("constitutions/helpful.txt", "constitutions/harmless.txt")
TEXTS = {
    "text": "the constitution", "placebo": "placebos", "negated": "negated", "none": "none (one neutral principle)",
    "other": "another constitution", "exchanged": "another category's principles",
}  # fmt: skip


def add_command(commands: Any) -> None:
    """commands: what argparse's `add_subparsers` returned."""
    reads = commands.add_parser("reads", help="does the judge read its constitution? Placebos and negations say")
    reads.add_argument("constitution", metavar="CONSTITUTION")
    reads.add_argument("pairs", metavar="PAIRS", help=".jsonl, .jsonl.gz or .json of pairs; people's verdicts help")
    reads.add_argument("--model", default="smollm2-135m", help="an embedded name, a folder, or a hub id")
    reads.add_argument("--method", default="all", help=f"all, or some of {','.join(ASKING)}")
    reads.add_argument("--principles", default="all", help="how many are drawn for each prompt: all, or a number")
    reads.add_argument("--other", metavar="FILE", help="another constitution (default: a shipped one)")
    reads.add_argument("--placebo", action="append", default=[], metavar="FILE", help="in place of the shipped ones")
    reads.add_argument("--limit", type=int, help="judge a sample of this many pairs (default: all)")
    reads.add_argument("--seed", type=int, default=0, help="of the sample, the draws and the judge's thoughts")
    reads.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    reads.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ...")
    reads.add_argument("--cache", default="runs", metavar="FOLDER", help="where the judge's answers are kept")
    reads.add_argument("--max-length", type=int, default=1024, help="longest question in tokens; longer is abstained")
    reads.add_argument("--json", action="store_true", help="print one JSON object with everything instead of tables")
    reads.set_defaults(run=_reads)


def _reads(args: argparse.Namespace) -> int:
    # 1. Everything that can be wrong is found before a model is loaded.
    methods = methods_named(args.method) or ASKING
    if "provenance" in methods:
        problem = "provenance asks the judge nothing, so it has no log-probabilities and there is nothing to read"
        raise UserError(problem, "--method", f"name one of {', '.join(ASKING)}")
    principles = "all" if args.principles == "all" else count(args.principles, "--principles")
    for name in ("limit", "max_length"):
        if getattr(args, name) is not None:
            count(getattr(args, name), f"--{name.replace('_', '-')}")
    law = read_constitution(args.constitution)
    other = args.other or next(path for path in OTHERS if Path(path).name != law.path.name)
    held = read_comparisons(args.pairs, judged=False)
    items = sample(held.items, args.limit, args.seed)
    pairs = [item.pair for item in items]
    placebos, noted = unrelated(read_placebos(args.placebo), pairs)
    controls = controls_for(law, placebos, other=read_constitution(other), everything=True)
    noted += [*_unasked(controls), *unheard(law.judging, pairs)]
    source = find(args.model)

    # 2. Ask by one method after the other.
    work = Workbench.open(Runtime(root=args.cache, device=args.device))
    dtype = pick_dtype(args.dtype, work.device)
    engine = work.engine(source, dtype=dtype, system=None)
    found: dict[str, Effect] = {}
    for method in methods:
        settings = {"model": args.model, "method": method, "principles": principles, "max_length": args.max_length}
        judge = Judge.model_validate(settings)
        print(f"{method}: {len(pairs)} pairs", file=sys.stderr, flush=True)
        answers = ask(engine, pairs, principles_for(law, judge), controls, judge, templates_for(judge), args.seed)
        found[method] = effect_of(answers, pairs)
    if args.json:
        given = {"model": args.model, "weights": source.digest, "dtype": dtype, "constitution": args.constitution}
        given |= {"other": other, "pairs": args.pairs, "n": len(pairs), "principles": principles, "seed": args.seed}
        given |= {"placebos": [one.name for one in placebos], "noted": noted, "methods": found}
        print(json.dumps(plain(given), indent=1))
        return 0
    asked = f"at most {MOST} of its principles a pair" if principles == "all" else f"principles: {principles}"
    print(f"{args.model}, {dtype} on {work.device}; {args.constitution}, {asked}; {len(pairs)} pairs of {args.pairs}")
    print("\n".join(page(found, [one.name for one in placebos], other, pairs)))
    for note in noted:
        print(f"note: {note}")
    return 0


def _unasked(controls: Controls) -> list[str]:
    if not controls.opposites:
        return ["the constitution has nothing to negate: no principle has an `Against:`, and no rule knows their form"]
    return [f'"{name}" has no negation: write its `Against:`' for name in controls.missing]


# Showing --------------------------------------------------------------------------------------------------------------


def page(found: "dict[str, Effect]", placebos: Sequence[str], other: str, pairs: Sequence[Pair]) -> list[str]:
    """One table of what the text does, and, where people judged the pairs, one of agreement under each text."""
    rows = [["method", "gain", "turn", "share", "labels turned"]]
    rows += [
        [method, points(one.gain), number(one.turn), number(one.share), percent(one.flips)]
        for method, one in found.items()
    ]
    lines = ["", *columns(rows), ""]
    lines += [f"{method}: {why}" for method, one in found.items() if (why := undefined(one))]
    if all(one.gain.n == 0 for one in found.values()):
        return [*lines, "nobody judged these pairs, so there is no gain and no agreement"]
    rows = [["agreement with people under", *found]]
    for name, words in TEXTS.items():
        cells = [percent(one.agreement[name]) if name in one.agreement else "-" for one in found.values()]
        if any(cell != "-" for cell in cells):
            rows.append([f"{words}: {other}" if name == "other" else words, *cells])
        if name == "placebo":
            rows += [
                [f"  {placebo}", *(percent(one.placebos[place]) for one in found.values())]
                for place, placebo in enumerate(placebos)
            ]
    return [*lines, *columns(rows), ""]


def undefined(one: "Effect") -> str:
    """Why there is no turn, in words; "" where there is one."""
    if one.turn.n and math.isnan(one.turn.value):
        return "the text moves the log-odds no more than one placebo or another does, so no turn can be told"
    return ""


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
