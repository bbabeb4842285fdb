"""What the benchmarks have in common: the engine that they measure, turns taken by what is compared, and a figure with
its extremes over the rounds (of five rounds they hold the median with 94%, of six with 97%)."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from cai.config.runtime import Runtime
from cai.core.errors import UserError
from cai.core.packages import cache_folder
from cai.core.shipped import HOME
from cai.core.usage import used
from cai.models.loading import pick_dtype
from cai.models.references import find
from cai.models.workbench import Workbench


@dataclass(frozen=True, slots=True)
class MedianRange:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "MedianRange":
        return cls(median(values), min(values), max(values))


def show(spread: MedianRange) -> str:
    return f"{spread.median:.3g} [{spread.low:.3g}, {spread.high:.3g}]"


@dataclass(frozen=True, slots=True)
class TimedTurn:
    """One way, one round. seconds: by the clock; cpu: of all threads and of processes that it started. result: what it
    gave."""

    seconds: float
    cpu: float
    result: Any


def take_turns(ways: Mapping[str, Callable[[], Any]], rounds: int, title: str) -> dict[str, list[TimedTurn]]:
    """Every way once a round; each round begins with another of them, so that what slows the machine slows them all."""
    names, took = list(ways), {name: [] for name in ways}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            with used() as usage:
                result = ways[name]()
            turn = TimedTurn(usage["seconds"], usage["cpu"], result)
            took[name].append(turn)
            print(f"  {title}, round {number + 1}/{rounds}: {name}, {turn.seconds:.3g} s", file=sys.stderr, flush=True)
    return took


@dataclass(frozen=True, slots=True)
class Ratio:
    """What one way takes, as a multiple of another one, round by round: by the clock, and in CPU seconds, which other
    programs on the machine move less."""

    clock: MedianRange
    cpu: MedianRange

    @classmethod
    def of(cls, one: Sequence[TimedTurn], other: Sequence[TimedTurn]) -> "Ratio":
        pairs = list(zip(one, other, strict=True))
        least = 1e-9  # a clock may not have moved
        return cls(
            MedianRange.of([a.seconds / max(b.seconds, least) for a, b in pairs]),
            MedianRange.of([a.cpu / max(b.cpu, least) for a, b in pairs]),
        )


def seconds(turns: Sequence[TimedTurn]) -> MedianRange:
    return MedianRange.of([turn.seconds for turn in turns])


def cpu_seconds(turns: Sequence[TimedTurn]) -> MedianRange:
    return MedianRange.of([turn.cpu for turn in turns])


def run_program(words: Sequence[str], folder: Path | None = None) -> str:
    """What `python -m WORDS` prints, from this folder. Raises UserError where it fails.

    Its modules are compiled once for all: where Python is told to write no bytecode, each start would compile `cai`.
    There all libraries are compiled once more, into the cache, for Python reads that or what lies beside them.
    """
    path = os.pathsep.join([str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    if sys.dont_write_bytecode:
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(cache_folder() / "bytecode")
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-3:]) or "it said nothing"
        raise UserError(f"the program failed: {said}", f"python -m {' '.join(words)}", "see what it says by itself")
    return done.stdout


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def in_order(batches: Iterable[list[tuple[int, Any]]]) -> list[Any]:
    """What an engine's verb yields, in the order of what it was asked."""
    return [answer for _, answer in sorted((item for batch in batches for item in batch), key=lambda item: item[0])]


def open_engine(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """(the engine of --model in process, without a cache; what it runs on, for the head of the results).

    Raises UserError where the model or the device cannot be had.
    """
    runtime = Runtime(device=args.device, threads=args.threads)
    device = Workbench.open(runtime).device
    dtype, model = pick_dtype(args.dtype, device), find(args.model)

    import torch

    # heavy: only when everything else is known to be right
    from cai.models.engines.transformers import TransformersEngine

    if args.threads:
        torch.set_num_threads(args.threads)
    engine = TransformersEngine(model, dtype=dtype, device=device, system=None, batch_tokens=runtime.batch_tokens)
    return engine, {"model": args.model, "dtype": dtype, "device": device, "threads": torch.get_num_threads()}
