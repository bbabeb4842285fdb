"""`python -m cai.judge bench FILE...`: how good a judge is, on any file of comparisons that people have decided.

    read the rows  ->  draw a sample  ->  ask by each method  ->  diagnose  ->  one table a file

Every figure is that of cai/judge/diagnostics.py, with the openings of conversations as clusters. Beside the methods
stand the multiple-choice questions exactly as a file gives them, and rulers: a judge that cannot beat "the longer
answer" has not read the answers. Progress goes to stderr, results to stdout; whatever was asked before comes from the
call cache.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cai.constitution import Constitution, read_constitution
from cai.core.draws import uniform
from cai.core.odds import side
from cai.core.records import Abstained, Estimate, Label, plain
from cai.core.textstats import words
from cai.data.comparisons import Comparisons, Item, read_comparisons
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_pairs
from cai.judge.ballots import Ballot
from cai.judge.common import (
    add_asking,
    add_common,
    check_machine,
    computed,
    judge_for,
    malformed,
    methods_named,
    open_judge,
)
from cai.judge.conduct import judge_conduct
from cai.judge.diagnostics import Diagnosis, diagnose
from cai.judge.methods import ALONE, ASKING, METHODS, cast, templates_for
from cai.models.engines.cached import CachedEngine
from cai.models.references import model_of

AS_GIVEN = "as given (multiple choice)"
CONDUCT = ", of the conduct"


@dataclass(frozen=True, slots=True)
class Row:
    """One way of judging a file.

    first: how often it votes for what is shown first; in `as given`, for option (A).
    per_second: pairs newly judged a second, without loading the model; None where the cache answered.
    diagnosis: None for a ruler, which has an accuracy and nothing else.
    """

    name: str
    accuracy: Estimate
    diagnosis: Diagnosis | None = None
    first: Estimate | None = None
    per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """What all methods share: who is asked, by which standards, and how. judge: its method is named later."""

    engine: CachedEngine
    constitution: Constitution
    judge: AskedJudge


# 1. Command line ------------------------------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """commands: what argparse's `add_subparsers` returned."""
    bench = commands.add_parser("bench", help="measure a judge on comparisons that people have decided")
    bench.add_argument("files", nargs="+", metavar="FILE", help="comparisons: .jsonl, .json, .csv or .parquet, .gz too")
    bench.add_argument("--constitution", default="constitutions/hhh.txt", metavar="FILE")
    bench.add_argument("--turns", type=int, help="the human's turns that it reads, from the last back (default: all)")
    add_common(bench, seed="the sample, the draws and the judge's thoughts")
    add_asking(bench, tuple(METHODS), "comparisons")
    bench.set_defaults(run=_bench)


def _bench(args: argparse.Namespace) -> int:
    # 1. Everything that can be wrong is found before a model is loaded.
    methods = methods_named(args.method)
    settings = judge_for(args)
    constitution = read_constitution(args.constitution)
    templates_for(settings, methods or tuple(METHODS))
    files = {file: read_comparisons(file) for file in args.files}
    source = model_of(settings)
    check_machine(args)

    # 2. Judge file by file.
    engine, dtype, device = open_judge(args, source)
    asking = Asking(engine, constitution, AskedJudge(settings, source, (), {}, dtype, args.seed))
    reports = []
    for file, comparisons in files.items():
        items = sample(comparisons.items, args.limit, args.seed)
        rows = bench_file(file, items, methods, asking)
        reports.append(report(file, comparisons, items, rows))
        if not args.json:
            read = f"; turns read: {args.turns}" if args.turns else ""
            asked = f"{args.constitution}, principles: {args.principles}{read}"
            heading = f"{args.model}, {computed(args, dtype, device)}; {asked}"
            print("\n".join([*page(reports[-1], rows, comparisons, heading), ""]), flush=True)
    if args.json:
        given = {"model": args.model, "weights": source.digest, "server": args.server, "dtype": dtype, "device": device}
        given |= {"constitution": args.constitution, "principles": settings.principles, "turns": args.turns}
        given |= {"seed": args.seed, "max_length": args.max_length, "files": reports}
        print(json.dumps(plain(given), indent=1))
    return 0


# 2. Judging -----------------------------------------------------------------------------------------------------------


def sample(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """At most `limit` items, in the order of the file. Openings are drawn by hash, and each brings all of its items."""
    order = sorted(items, key=lambda item: (uniform("bench", seed, item.cluster), item.pair.id))
    kept = {item.where for item in order[:limit]}
    return [item for item in items if item.where in kept]


def bench_file(file: str, items: Sequence[Item], methods: Sequence[str], asking: Asking) -> list[Row]:
    """Every method (all that apply, where none is named), conduct, the questions as given, then the rulers."""
    if not methods:
        prompted = any(item.pair.prompted is not None for item in items)
        methods = [*ASKING, *(["provenance"] if prompted else [])]
    rows = []
    for method in methods:
        print(f"{Path(file).name}: {method}, {len(items)} comparisons", file=sys.stderr, flush=True)
        rows.append(by_method(method, items, asking))
    about = [item for item in items if item.conduct]
    rows += [by_conduct(method, about, asking) for method in methods if method in ALONE and about]
    if any(item.given for item in items):
        rows.append(as_given([item for item in items if item.given], asking))
    return rows + rulers(items)


def by_method(method: str, items: Sequence[Item], asking: Asking) -> Row:
    row = _by(judge_pairs, [item.pair for item in items], method, method, items, asking)
    return replace(row, first=row.diagnosis.first_shown) if row.diagnosis and METHODS[method].both_orders else row


def by_conduct(method: str, items: Sequence[Item], asking: Asking) -> Row:
    """Of pairs of statements about an assistant: what it said is judged instead (cai/judge/conduct.py)."""
    return _by(judge_conduct, items, method, f"{method}{CONDUCT}", items, asking)


def _by(
    judged_by: Callable[..., list[Label | Abstained]], asked: Sequence[Any], method: str, name: str,
    items: Sequence[Item], asking: Asking,
) -> Row:  # fmt: skip
    """asked: what `judged_by` is given, one for each item."""
    judge = asking.judge.by(method).under(asking.constitution)

    def verdicts(of: Sequence[Any]) -> list[Label | Abstained]:
        return judged_by(asking.engine, of, judge, title=name)

    verdicts(asked[:1])  # loads the model where it is needed: that is not part of the speed
    clock = Clock(asking.engine)
    judged = verdicts(asked)
    speed = clock.per_second(len(items))
    diagnosis = diagnose([item.pair for item in items], judged, [item.cluster for item in items])
    return Row(name, diagnosis.accuracy, diagnosis, None, speed)


def as_given(items: Sequence[Item], asking: Asking) -> Row:
    """The file's own questions, each in the one order that it has: a liking for a letter cannot cancel."""
    from cai.stats import intervals as statistics

    questions, orders = [], []
    for item in items:
        assert item.given is not None
        right, wrong = item.given.options
        questions.append(replace(item.given, options=tuple(sorted((right, wrong)))))  # (A) before (B), as shown
        orders.append("ab" if (right < wrong) == ((item.pair.human or 0) > 0.5) else "ba")
    settings = asking.judge.settings
    asking.engine.choose(questions[:1], settings.max_length, AS_GIVEN)
    clock = Clock(asking.engine)
    readings = asking.engine.choose(questions, settings.max_length, AS_GIVEN)
    speed = clock.per_second(len(items))

    verdicts: list[Label | Abstained] = []
    first = []
    for item, question, order, reading in zip(items, questions, orders, readings, strict=True):
        vote = cast(Ballot("choice", AS_GIVEN, order, (question,)), [reading], settings.min_mass)
        label = Label(item.pair.id, vote.p_a, "ai", (vote,))
        verdicts.append(Abstained(item.pair.id, vote.fault, (vote,)) if vote.fault else label)
        first.append(math.nan if vote.fault else vote.p_a if order == "ab" else 1 - vote.p_a)
    clusters = [item.cluster for item in items]
    diagnosis = diagnose([item.pair for item in items], verdicts, clusters)
    return Row(AS_GIVEN, diagnosis.accuracy, diagnosis, statistics.win_rate(first, clusters), speed)


def rulers(items: Sequence[Item]) -> list[Row]:
    """What can be had without reading the answers: their length in words. Equal lengths count half."""
    from cai.stats import intervals as statistics

    longer = [0.5 + 0.5 * side(words(item.pair.a), words(item.pair.b)) for item in items]
    human, clusters = [item.pair.human for item in items], [item.cluster for item in items]
    sides = {"longer answer": longer, "shorter answer": [1 - p for p in longer]}
    return [Row(name, statistics.accuracy(p, human, clusters)) for name, p in sides.items()]  # pyrefly: ignore


class Clock:
    """Pairs newly judged a second: of calls that were partly in the cache, the share that was not."""

    def __init__(self, engine: CachedEngine) -> None:
        self.engine, self.asked, self.found, self.start = engine, engine.asked, engine.found, time.perf_counter()

    def per_second(self, pairs: int) -> float | None:
        seconds = time.perf_counter() - self.start
        asked, found = self.engine.asked - self.asked, self.engine.found - self.found
        return pairs * asked / (asked + found) / seconds if asked else None


# 3. Telling -----------------------------------------------------------------------------------------------------------


def report(file: str, comparisons: Comparisons, items: Sequence[Item], rows: Sequence[Row]) -> dict[str, Any]:
    """Everything about one file, for --json."""
    return {
        "file": file,
        "forms": comparisons.form,
        "comparisons": len(comparisons.items),
        "judged": len(items),
        "clusters": len({item.cluster for item in items}),
        "malformed": [{"where": where, "why": why} for where, why in comparisons.faults],
        "rows": {row.name: _row(row) for row in rows},
    }


def _row(row: Row) -> dict[str, Any]:
    if row.diagnosis is None:
        return {"accuracy": asdict(row.accuracy)}
    return {
        **asdict(row.diagnosis),
        "first_shown": asdict(row.first) if row.first else None,
        "per_second": row.per_second,
    }


HEAD = (
    "method", "accuracy, 95% interval", "orders agree", "kappa", "AUC", "Brier", "ECE", "log-loss", "mass", "judged",
    "abstained", "pairs/s",
)  # fmt: skip


def page(of: dict[str, Any], rows: Sequence[Row], comparisons: Comparisons, settings: str) -> list[str]:
    """The lines of one file's table, plain ASCII."""
    sampled = "" if of["judged"] == of["comparisons"] else f" (a sample of {of['comparisons']})"
    forms = ", ".join(f"{count} {name}" for name, count in comparisons.form.items())
    lines = [
        f"{of['file']}: {of['judged']} comparisons{sampled} with {of['clusters']} openings; read: {forms}",
        settings,
        "",
        *_columns([HEAD, *(_cells(row) for row in rows)]),
        "",
    ]
    for row in rows:
        if row.first and row.first.n:
            what = "option (A)" if row.name == AS_GIVEN else "the answer shown first"
            lines.append(f"position: {row.name} votes for {what} in {_share(row.first)} of {row.first.n} votes")
    for row in rows:
        if row.diagnosis and row.diagnosis.abstained:
            lines.append(
                f"abstained: {row.name}: {', '.join(f'{why}: {n}' for why, n in row.diagnosis.abstained.items())}"
            )
    if any(row.name.endswith(CONDUCT) for row in rows):
        lines.append(
            f"*{CONDUCT}: a conversation's last answer is judged alone, and a threshold that is fitted on nine"
        )
        lines.append("  tenths of the other openings says which statement that speaks for (cai/judge/conduct.py)")
    lines += malformed(comparisons.faults)
    return lines


def _cells(row: Row) -> tuple[str, ...]:
    diagnosis = row.diagnosis
    if diagnosis is None:
        return (row.name, _share(row.accuracy))
    numbers = (diagnosis.kappa, diagnosis.auc, diagnosis.brier, diagnosis.ece, diagnosis.log_loss)
    return (
        row.name,
        _share(row.accuracy),
        f"{diagnosis.consistency.value:.1%}" if diagnosis.consistency.n else "-",
        *("-" if math.isnan(number.value) else f"{number.value:.3f}" for number in numbers),
        "-" if diagnosis.mass is None else f"{diagnosis.mass:.2f}",
        str(diagnosis.labelled),
        str(diagnosis.n - diagnosis.labelled),
        "cached" if row.per_second is None else f"{row.per_second:.3g}",
    )


def _share(estimate: Estimate) -> str:
    if not estimate.n:
        return "-"
    ends = "" if math.isnan(estimate.low) else f" [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    return f"{estimate.value:.1%}{ends}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows if place < len(row)) for place in range(len(HEAD))]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]
