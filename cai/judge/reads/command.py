"""`python -m cai.judge reads CONSTITUTION PAIRS`: does a judge read its constitution?

    the same pairs under the text, its negation, placebos, nothing, another text  ->  gain, turn, share

What the words mean is in cai/judge/reads/effect.py, what the texts are in cai/judge/reads/controls.py. Progress goes to
stderr, results to stdout; whatever was asked before comes from the call cache.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.constitution import Constitution, read_constitution
from cai.core.errors import UserError
from cai.core.records import Pair, plain
from cai.data.comparisons import read_comparisons
from cai.judge.asked import AskedJudge
from cai.judge.bench import sample
from cai.judge.common import (
    add_asking,
    add_common,
    asking_methods,
    check_machine,
    computed,
    judge_for,
    malformed,
    open_judge,
)
from cai.judge.methods import ASKING
from cai.judge.reads.controls import MOST, Controls, ask_under, controls_for, effect_of, unheard
from cai.judge.reads.placebos import read_placebos, unrelated
from cai.judge.reads.verdict import number, percent, points
from cai.models.references import model_of

if TYPE_CHECKING:
    from cai.judge.reads.effect import Effect

OTHERS = ("constitutions/helpful.txt", "constitutions/harmless.txt")
TEXTS = {
    "text": "the constitution", "placebo": "placebos", "negated": "negated", "none": "none (one neutral principle)",
    "other": "another constitution", "exchanged": "another category's principles",
}  # fmt: skip


def add_command(commands: Any) -> None:
    """commands: what argparse's `add_subparsers` returned."""
    reads = commands.add_parser("reads", help="does the judge read its constitution? Placebos and negations say")
    reads.add_argument("constitution", metavar="CONSTITUTION")
    reads.add_argument(
        "pairs", metavar="PAIRS", help="pairs (.jsonl, .json, .csv or .parquet, .gz too); people's verdicts help"
    )
    reads.add_argument("--other", metavar="FILE", help="another constitution (default: a shipped one)")
    reads.add_argument("--placebo", action="append", default=[], metavar="FILE", help="in place of the shipped ones")
    add_common(reads, seed="the sample, the draws and the judge's thoughts")
    add_asking(reads, ASKING, "pairs")
    reads.set_defaults(run=_reads)


def _reads(args: argparse.Namespace) -> int:
    # 1. Everything that can be wrong is found before a model is loaded.
    methods = asking_methods(args.method, "it has no log-probabilities and there is nothing to read")
    settings = judge_for(args)
    constitution = read_constitution(args.constitution)
    other = args.other or next(path for path in OTHERS if Path(path).name != constitution.path.name)
    comparisons = read_comparisons(args.pairs, judged=False)
    items = sample(comparisons.items, args.limit, args.seed)
    pairs = [item.pair for item in items]
    placebos, noted = unrelated(read_placebos(args.placebo), pairs)
    controls = controls_for(constitution, placebos, other=read_constitution(other), everything=True)
    check_tested(constitution, pairs, controls)
    noted += [f'"{name}" has no negation: write its `Against:`' for name in controls.missing]
    noted += unheard(constitution.judging, pairs)
    source = model_of(settings)
    check_machine(args)

    # 2. Ask by one method after the other.
    engine, dtype, device = open_judge(args, source)
    judge = AskedJudge(settings, source, (), {}, dtype, args.seed)
    effects: dict[str, Effect] = {}
    for method in methods:
        print(f"{method}: {len(pairs)} pairs", file=sys.stderr, flush=True)
        answers = ask_under(engine, pairs, judge.by(method).under(constitution), controls)
        effects[method] = effect_of(answers, pairs)
    if args.json:
        given = {"model": args.model, "weights": source.digest, "dtype": dtype, "server": args.server}
        given |= {
            "constitution": args.constitution,
            "other": other,
            "pairs": args.pairs,
            "n": len(pairs),
            "principles": settings.principles,
        }
        given |= {
            "seed": args.seed,
            "placebos": [placebo.name for placebo in placebos],
            "noted": noted,
            "methods": effects,
        }
        given["malformed"] = [{"where": where, "why": why} for where, why in comparisons.faults]
        print(json.dumps(plain(given), indent=1))
        return 0
    drawn = settings.principles
    tested = f"at most {MOST} of its principles a pair" if drawn == "all" else f"principles: {drawn}"
    asked = f"{args.model}, {computed(args, dtype, device)}; {args.constitution}, {tested}"
    print(f"{asked}; {len(pairs)} pairs of {args.pairs}")
    print("\n".join(page(effects, [placebo.name for placebo in placebos], other, pairs)))
    for note in noted:
        print(f"note: {note}")
    if comparisons.faults:
        print("\n".join(malformed(comparisons.faults)))
    return 0


def check_tested(constitution: Constitution, pairs: Sequence[Pair], controls: Controls) -> None:
    """Raises UserError where nothing can be put to the test: nothing to negate, or no pair that a principle is for.

    What only some principles or pairs lack is a note.
    """
    if not controls.opposites:
        problem = "the constitution has nothing to negate: no principle has an `Against:`, and no rule knows their form"
        raise UserError(
            problem, str(constitution.path), "write an `Against:`, or begin with `Choose the response that ...`"
        )
    subsets = {pair.prompt.subset for pair in pairs}
    bare = sorted(
        name for name in subsets if not any(not p.applies_to or name in p.applies_to for p in constitution.judging)
    )
    if bare:
        named = ", ".join(f'"{name}"' for name in bare)
        others = sorted({name for p in constitution.judging for name in p.applies_to} - subsets)
        known = f" (no pair is of {', '.join(others)})" if others else ""
        remedy = 'change "Applies to:" of a principle, or add a principle without it'
        raise UserError(f"no principle applies to the pairs of category {named}{known}", str(constitution.path), remedy)


# Showing --------------------------------------------------------------------------------------------------------------


def page(effects: "dict[str, Effect]", placebos: Sequence[str], other: str, pairs: Sequence[Pair]) -> list[str]:
    """One table of what the text does, and, where people judged the pairs, one of agreement under each text."""
    rows = [["method", "gain", "turn", "share", "labels turned"]]
    rows += [
        [method, points(effect.gain), number(effect.turn), number(effect.share), percent(effect.flips)]
        for method, effect in effects.items()
    ]
    lines = ["", *columns(rows), ""]
    lines += [f"{method}: {why}" for method, effect in effects.items() if (why := undefined(effect))]
    if "channel" in effects:
        lines.append("channel: asked about both sides, labels turn by construction; turn and share are of one side")
    if all(effect.gain.n == 0 for effect in effects.values()):
        known = any(pair.human is not None for pair in pairs)
        why = "no pair that people judged could be read" if known else "nobody judged these pairs"
        return [*lines, f"{why}, so there is no gain and no agreement"]
    rows = [["agreement with people under", *effects]]
    for name, words in TEXTS.items():
        cells = [percent(effect.agreement[name]) if name in effect.agreement else "-" for effect in effects.values()]
        if any(cell != "-" for cell in cells):
            rows.append([f"{words}: {other}" if name == "other" else words, *cells])
        if name == "placebo":
            rows += [
                [f"  {placebo}", *(percent(effect.placebos[place]) for effect in effects.values())]
                for place, placebo in enumerate(placebos)
            ]
    return [*lines, *columns(rows), ""]


def undefined(effect: "Effect") -> str:
    """Why there is no turn, in words; "" where there is one."""
    if effect.turn.n and math.isnan(effect.turn.value):
        return "the text moves the log-odds no more than one placebo or another does, so no turn can be told"
    return ""


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
