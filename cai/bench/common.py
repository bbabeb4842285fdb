"""What the benchmarks have in common: the engine that they measure, and a figure with its extremes over the rounds."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from cai.config.runtime import Runtime
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
