"""`python -m cai.judge select PAIRS CONSTITUTION...`: which way of asking a judge agrees best with people?

    split the openings  ->  ask every way about the first part  ->  pick  ->  measure the pick on the part kept aside

Beside the pick stand the first way named, placebos, and rules that read nothing (cai/judge/selecting/ways.py says what
is what). Progress goes to stderr, results to stdout; whatever was asked before comes from the call cache.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.constitution import Constitution, read_constitution
from cai.core.errors import UserError
from cai.core.records import Estimate, Pair, plain
from cai.data.comparisons import Item, read_comparisons
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
from cai.judge.methods import ASKING, templates_for
from cai.judge.preflight import platt_both_ways
from cai.judge.reads.command import columns
from cai.judge.reads.placebos import Placebo, check, read_placebos, unrelated
from cai.judge.reads.verdict import percent, points
from cai.judge.selecting.ways import (
    CategoryFigures,
    PairVotes,
    Way,
    WayFigures,
    ahead,
    by_category,
    figures,
    hits,
    odds_of,
    split,
    trivial,
    votes_on,
    ways_of,
)
from cai.models.references import model_of

FEWEST = 5  # openings in each part


@dataclass(frozen=True, slots=True)
class WaySelection:
    """What came of it. tried: every way, on the part to choose on. The rest is of the part kept aside: the pick, and
    the first way named (None where that was picked), by how much the one is ahead of the other under the text and
    under placebos, what rules that read nothing agree with people on, and calibration with the slope that was fitted
    on the first part (NaN where none could be)."""

    picked: Way
    tried: list[WayFigures]
    pick: WayFigures
    first: WayFigures | None
    ahead: Estimate | None
    ahead_placebo: Estimate | None
    trivial: dict[str, Estimate]
    slope: float
    categories: list[CategoryFigures]


# 1. Command line ------------------------------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """commands: what argparse's `add_subparsers` returned."""
    select = commands.add_parser("select", help="pick a way of asking on some labelled pairs, measure it on others")
    select.add_argument(
        "pairs", metavar="PAIRS", help="pairs that people judged: .jsonl, .json, .csv or .parquet, .gz too"
    )
    select.add_argument("constitutions", nargs="+", metavar="CONSTITUTION", help="a text, or several wordings of one")
    select.add_argument("--choose", type=float, default=1 / 3, metavar="SHARE", help="of openings, to pick on")
    select.add_argument("--placebo", action="append", default=[], metavar="FILE", help="in place of the shipped ones")
    select.add_argument("--turns", type=int, help="the human's turns that it reads, from the last back (default: all)")
    add_common(select, seed="the split, the sample, the draws and the judge's thoughts")
    add_asking(select, ASKING, "pairs")
    select.set_defaults(run=_select)


def _select(args: argparse.Namespace) -> int:
    # 1. Everything that can be wrong is found before a model is loaded.
    methods = asking_methods(args.method, "it is no way of asking")
    if not 0 < args.choose < 1:
        raise UserError(f"{args.choose:g} is no share between 0 and 1", "--choose", "give one such as 0.33")
    settings = judge_for(args)
    texts = {path: read_constitution(path) for path in args.constitutions}
    comparisons = read_comparisons(args.pairs)
    items = sample(comparisons.items, args.limit, args.seed)
    placebos, noted = _placebos(args.placebo, texts, [item.pair for item in items])
    parts = split(items, args.choose, args.seed)
    for part in parts:
        if (openings := len({item.cluster for item in part})) < FEWEST:
            problem = f"a part of the pairs has {openings} openings of conversations, and {FEWEST} are needed in each"
            raise UserError(problem, args.pairs, "give more labelled pairs, or another share with --choose")
    templates_for(settings, methods)
    source = model_of(settings)
    check_machine(args)

    # 2. Ask, pick, and measure.
    engine, dtype, device = open_judge(args, source)
    judge = AskedJudge(settings, source, (), {}, dtype, args.seed)
    judges = {(path, method): judge.by(method).under(text) for path, text in texts.items() for method in methods}
    several = settings.principles == "all" or settings.principles > 1
    selected = selection(engine, ways_of(list(texts), methods, several), judges, parts, placebos)
    if args.json:
        given = {"model": args.model, "weights": source.digest, "server": args.server, "dtype": dtype}
        given |= {"pairs": args.pairs, "constitutions": list(texts), "principles": settings.principles}
        given |= {"turns": args.turns, "seed": args.seed, "choose": args.choose, "noted": noted, "selection": selected}
        given["malformed"] = [{"where": where, "why": why} for where, why in comparisons.faults]
        print(json.dumps(plain(given), indent=1))
        return 0
    read = f"; turns read: {args.turns}" if args.turns else ""
    print(f"{args.model}, {computed(args, dtype, device)}; principles: {args.principles}{read}")
    print("\n".join([*page(selected, parts, args.pairs), *(f"note: {note}" for note in noted)]))
    if comparisons.faults:
        print("\n".join(malformed(comparisons.faults)))
    return 0


def _placebos(
    files: Sequence[str], texts: dict[str, Constitution], pairs: Sequence[Pair]
) -> tuple[tuple[Placebo, ...], list[str]]:
    """The placebos to ask under. Raises UserError where one is a constitution, speaks of the pairs, or where no
    principle can be asked about or applies to a pair."""
    placebos, noted = unrelated(read_placebos(files), pairs, least=1)
    for path, text in texts.items():
        asked = [principle for principle in text.judging if principle.prefer]
        if not asked:
            raise UserError("no principle has a text that a judge can be asked by", path, "write its Prefer:")
        check(placebos, asked)
        for subset in sorted({pair.prompt.subset for pair in pairs}):
            if not any(not p.applies_to or subset in p.applies_to for p in asked):
                remedy = 'change "Applies to:" of a principle, or add a principle without it'
                raise UserError(f'no principle applies to the pairs of category "{subset}"', path, remedy)
    return placebos, noted


# 2. Picking and measuring ---------------------------------------------------------------------------------------------


def selection(
    engine: Any,
    ways: Sequence[Way],
    judges: dict[tuple[str, str], AskedJudge],
    parts: tuple[Sequence[Item], Sequence[Item]],
    placebos: Sequence[Placebo],
) -> WaySelection:
    """The way that agrees most often with people on the first part (the first of several alike), on the second part."""
    from cai.stats import intervals as statistics

    choosing, aside = parts

    def votes(wanted: Sequence[Way], items: Sequence[Item], what: str) -> dict[tuple[str, str], PairVotes]:
        keys = dict.fromkeys((path, way.method) for way in wanted for path in way.constitutions)
        asked = {}
        for path, method in keys:
            title = f"{what}: {Path(path).name}, {method}"
            print(f"{title}, {len(items)} pairs", file=sys.stderr, flush=True)
            asked[path, method] = votes_on(engine, [i.pair for i in items], judges[path, method], placebos, title)
        return asked

    # 1. Pick.
    asked = votes(ways, choosing, "choose")
    odds = {way: odds_of(way, asked) for way in ways}
    tried = [figures(way.name, odds[way], choosing) for way in ways]
    scores = [of.agreement.value for of in tried]
    place = scores.index(max(scores))
    picked, first = ways[place], ways[0]
    known = [
        (value, item.pair.human)
        for value, item in zip(odds[picked].text, choosing, strict=True)
        if not math.isnan(value) and item.pair.human is not None
    ]
    slope = platt_both_ways(known)[0] if len({value for value, _ in known}) > 1 else math.nan

    # 2. Measure.
    asked = votes([first, picked], aside, "measure")
    mine, theirs = odds_of(picked, asked), odds_of(first, asked)
    gained = ahead(mine, theirs, aside) if picked != first else (None, None)
    clusters = [item.cluster for item in aside]
    return WaySelection(
        picked=picked,
        tried=tried,
        pick=figures(picked.name, mine, aside),
        first=figures(first.name, theirs, aside) if picked != first else None,
        ahead=gained[0],
        ahead_placebo=gained[1],
        trivial={name: statistics.mean(hits(rule, aside), clusters) for name, rule in trivial(aside).items()},
        slope=slope,
        categories=by_category(mine, aside, slope),
    )


# 3. Telling -----------------------------------------------------------------------------------------------------------


def page(selected: WaySelection, parts: tuple[Sequence[Item], Sequence[Item]], file: str) -> list[str]:
    choosing, aside = ([*part] for part in parts)
    sizes = [f"{len(part)} pairs of {len({item.cluster for item in part})} openings" for part in (choosing, aside)]
    head = ["agrees with people", "under placebos", "gain, points", "AUC", "read"]
    rows = [["way", *head], *([of.name, *_cells(of)] for of in selected.tried)]
    lines = [f"{file}: chosen on {sizes[0]}, measured on {sizes[1]}", "", "chosen on:", *columns(rows), ""]

    measured = [selected.pick, *([selected.first] if selected.first else [])]
    rows = [["way", *head, "Brier", "ECE"]]
    rows += [[of.name, *_cells(of), _decimals(of.brier), _decimals(of.ece)] for of in measured]
    rows += [[name, percent(of), *[""] * 6] for name, of in selected.trivial.items()]
    lines += ["kept aside:", *columns(rows), "", *verdict(selected)]
    if selected.categories and not math.isnan(selected.slope):
        rows = [["category", "pairs", "agrees with people", "Brier", "calibrated", "ECE", "calibrated"]]
        rows += [
            [of.subset, str(of.pairs), percent(of.agreement), _decimals(of.brier), _decimals(of.brier_fitted),
             _decimals(of.ece), _decimals(of.ece_fitted)]
            for of in selected.categories
        ]  # fmt: skip
        lines += ["", f"calibration of the pick, kept aside (slope fitted where it was chosen: {selected.slope:.2f}):"]
        lines += columns(rows)
    return lines


def verdict(selected: WaySelection) -> list[str]:
    """What was shown, in words."""
    pick, best = selected.pick, max(selected.trivial.items(), key=lambda row: row[1].value)
    lines = [f"picked of {len(selected.tried)} ways: {selected.picked.name}"]
    if selected.ahead is None or selected.ahead_placebo is None:
        lines.append("that is the first way named: nothing else came before it where it was chosen")
    else:
        shown = (
            "ahead of"
            if selected.ahead.low > 0
            else "behind"
            if selected.ahead.high < 0
            else "not shown to differ from"
        )
        lines.append(f"it is {shown} the first way named: {points(selected.ahead)} points")
        lines.append(f"  under placebos by {points(selected.ahead_placebo)}: what those gain too is not from the text")
    gains = "gains" if pick.gain.low > 0 else "loses" if pick.gain.high < 0 else "is not shown to gain"
    lines.append(f"its text {gains} over placebos: {points(pick.gain)} points")
    if best[1].value >= pick.agreement.value:
        lines.append(f'"{best[0]}" agrees with people as often without reading: {percent(best[1])}')
    return lines


def _cells(of: WayFigures) -> list[str]:
    auc = "-" if math.isnan(of.auc.value) else f"{of.auc.value:.3f}"
    return [percent(of.agreement), percent(of.placebo), points(of.gain), auc, str(of.read)]


def _decimals(of: Estimate) -> str:
    return "-" if not of.n or math.isnan(of.value) else f"{of.value:.3f}"
