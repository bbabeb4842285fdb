"""`python -m cai.bench rerun`: what an edit costs: how long it is from a change until its outcome is seen.

again      an experiment that has run, run once more with nothing changed, as a program of its own (its libraries
           loaded, its report written anew); the first run of it is not timed
edited     one of all principles is worded otherwise, and the pairs are labelled again: what was asked before is
           found, beside labelling by all principles with nothing known (`full`), and the same by a pass of its own
           for every question, as scripts ask (`apart`). The model is loaded before.
programs   `--help`, `--plan` and lint, each a program of its own; does any import torch?
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from cai.bench.common import (
    MedianRange,
    Ratio,
    TimedTurn,
    cpu_seconds,
    open_engine,
    positive,
    run_program,
    seconds,
    show,
    take_turns,
)
from cai.bench.labels import some_pairs, votes_on
from cai.constitution import Judging, read_constitution
from cai.core.records import Pair
from cai.models.calls import CallCache
from cai.models.engines import Question, Reading
from cai.models.engines.cached import CachedEngine

CONSTITUTION, CONFIG = "constitutions/harmless.txt", "experiments/smoke.yaml"
PROGRAMS = {
    "--help": ["cai.experiment", "--help"],
    "--plan": ["cai.experiment", "experiments/quickstart.yaml", "--plan"],
    "lint": ["cai.constitution", "lint", CONSTITUTION],
}
AT_MOST = 1.0  # seconds that a program which computes nothing may take


@dataclass(frozen=True, slots=True)
class Program:
    """seconds: of the whole process; cpu: of the processor. torch: whether it imported it."""

    name: str
    seconds: MedianRange
    cpu: MedianRange
    torch: bool


@dataclass(frozen=True, slots=True)
class EditCost:
    """One of `principles` principles edited, on `pairs` pairs. Seconds, by way; asked: questions to the model, by way;
    of_full, of_apart: the edit, in what the other ways take. difference: the largest in a log-probability, between
    the edited principle's questions as they were read and each alone."""

    method: str
    principles: int
    pairs: int
    seconds: dict[str, MedianRange]
    asked: dict[str, int]
    of_full: Ratio
    of_apart: Ratio
    difference: float


# 1. Programs ----------------------------------------------------------------------------------------------------------


def imports_torch(words: Sequence[str]) -> bool:
    words = [sys.executable, "-X", "importtime", "-m", *words]
    lines = subprocess.run(words, capture_output=True, text=True, check=False).stderr.splitlines()
    return any(line.rsplit("|", 1)[-1].strip() == "torch" for line in lines if line.startswith("import time"))


def programs(rounds: int, root: Path) -> list[Program]:
    """root: of a store with nothing in it, so that `--plan` plans all."""
    words = {name: [*words, *(["--set", f"runtime.root={root}"] if name == "--plan" else [])]
             for name, words in PROGRAMS.items()}  # fmt: skip
    ways = {name: lambda words=words: run_program(words) for name, words in words.items()}
    took = take_turns(ways, rounds, "programs")
    return [Program(name, seconds(took[name]), cpu_seconds(took[name]), imports_torch(words[name])) for name in ways]


def again(config: str, root: Path, rounds: int) -> MedianRange:
    words = ["cai.experiment", config, "--set", f"runtime.root={root}"]
    run_program(words)
    return seconds(take_turns({config: lambda: run_program(words)}, rounds, "again")[config])


# 2. An edit -----------------------------------------------------------------------------------------------------------


class AsksOfJudge:
    """The engine behind a cache of its own, in a folder that is there for this benchmark alone."""

    def __init__(self, engine: Any, folder: Path) -> None:
        self.engine, self.folder, self.number = engine, folder, count()
        self.cached = self.empty()

    def empty(self) -> CachedEngine:
        cache = CallCache(self.folder / f"calls {next(self.number)}")
        return CachedEngine(lambda: self.engine, self.engine.identity, self.engine.prompt_ids, cache, len)

    def ask(self, cached: CachedEngine, questions: Sequence[Question], share: bool = True) -> list[Reading | None]:
        self.engine.share = share
        return cached.choose(questions, self.engine.limit, "questions")


def measure_edit(
    engine: Any, pairs: Sequence[Pair], principles: Sequence[Judging], method: str, rounds: int, folder: Path
) -> EditCost:
    """Each round edits the first principle in other words, so that nothing of it is known."""
    judge, number = AsksOfJudge(engine, folder), count(1)

    def asked(some: Sequence[Judging]) -> list[Question]:
        return [question for vote in votes_on(pairs, some, method) for question in vote.questions]

    before = asked(principles)
    judge.ask(judge.cached, before)

    def edited() -> list[Reading | None]:
        worded = replace(principles[0], prefer=f"{principles[0].prefer} ({next(number)} times so.)")
        return judge.ask(judge.cached, asked([worded, *principles[1:]]))

    ways: Mapping[str, Callable[[], Any]] = {
        "edited": edited,
        "full": lambda: judge.ask(judge.empty(), before),
        "apart": lambda: judge.ask(judge.empty(), before, share=False),
    }
    took: dict[str, list[TimedTurn]] = take_turns(ways, rounds, f"{method}, {len(principles)} principles")
    full, apart = took["full"][-1].result, took["apart"][-1].result
    mine = len(asked(principles[:1]))
    return EditCost(
        method=method,
        principles=len(principles),
        pairs=len(pairs),
        seconds={name: seconds(took[name]) for name in ways},
        asked={"edited": mine, "full": len(before), "apart": len(before)},
        of_full=Ratio.of(took["edited"], took["full"]),
        of_apart=Ratio.of(took["edited"], took["apart"]),
        difference=max(
            abs(x - y)
            for one, other in zip(full, apart, strict=True)
            for x, y in zip(one.logprobs, other.logprobs, strict=True)
        ),
    )


# 3. The program -------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", default="rated-answers", help="where the pairs come from: as `data.source` in a config"
    )
    parser.add_argument("--config", default=CONFIG, help=f"the experiment that is run again (default: {CONFIG})")
    parser.add_argument("--root", type=Path, help="a store where it has run already (default: a temporary one)")
    parser.add_argument("--method", default="rate", help="how the judge asks (default: rate)")
    parser.add_argument("--pairs", type=positive, default=8)
    parser.add_argument("--principles", type=positive, default=16, help=f"of {CONSTITUTION} (default: 16)")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--only", choices=("again", "edited", "programs"), help="one part of it")


def run(args: argparse.Namespace) -> None:
    """The benchmark `rerun`."""
    parts: dict[str, Any] = {}
    about: dict[str, Any] = {"rounds": args.rounds}
    place = Path(tempfile.mkdtemp(prefix="cai-bench-"))
    try:
        if args.only in (None, "programs"):
            parts["programs"] = programs(args.rounds, place / "nothing")
        if args.only in (None, "again"):
            parts["again"] = again(args.config, args.root or place / "runs", args.rounds)
        if args.only in (None, "edited"):
            principles = read_constitution(CONSTITUTION).judging[: args.principles]
            engine, more = open_engine(args)

            def fits(pair: Pair) -> bool:
                asked = [q for vote in votes_on([pair], principles, args.method) for q in vote.questions]
                return max(len(engine.prompt_ids(question.chat)) for question in asked) <= engine.limit // 2

            about |= more | {"data": args.data}
            pairs = some_pairs(args.data, args.pairs, fits)
            parts["edited"] = measure_edit(engine, pairs, principles, args.method, args.rounds, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if args.json:
        plain = {name: [asdict(p) for p in part] if isinstance(part, list) else asdict(part)
                 for name, part in parts.items()}  # fmt: skip
        print(json.dumps(about | plain, indent=1))
    else:
        print("\n".join([", ".join(f"{name} {value}" for name, value in about.items()), "", *page(args, parts)]))


def page(args: argparse.Namespace, parts: Mapping[str, Any]) -> list[str]:
    lines = []
    for each in parts.get("programs", ()):
        imports = "imports torch" if each.torch else "no torch"
        over = "" if each.seconds.median <= AT_MOST else f", over {AT_MOST:g} s"
        lines.append(f"{each.name}: {show(each.seconds)} s ({show(each.cpu)} CPU seconds), {imports}{over}")
    if "again" in parts:
        lines.append(f"{args.config} again, nothing changed: {show(parts['again'])} s")
    if edit := parts.get("edited"):
        lines.append(f"{edit.method}, one of {edit.principles} principles edited, {edit.pairs} pairs:")
        for way, spread in edit.seconds.items():
            lines.append(f"  {way:7} {show(spread):>22} s, {edit.asked[way]} questions asked")
        for way, ratio in (("full", edit.of_full), ("apart", edit.of_apart)):
            lines.append(f"  the edit takes {show(ratio.clock)} of `{way}` (in CPU seconds {show(ratio.cpu)})")
        lines.append(f"  largest difference in a log-probability, read together from apart: {edit.difference:.2g}")
    return lines
