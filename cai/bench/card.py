"""`python -m cai.bench card`: what one card (or this CPU) reads, writes and trains a second, in one go.

For networks with random weights, made on the device in the shapes of SIZES: rates depend on the shape and not on what
the weights know. In the same run, what bounds them all is measured: how fast memory is copied and matrices multiplied.

    read     labels: `choose`, a question a chat, both options read                 tokens that go through the network
    written  `generate`, all rows to the same length                                tokens that come out
    static   the same by transformers' static cache and compiled step (CUDA alone)  the same
    trained  LoRA: forward, backward and AdamW of one SFT step                      tokens learnt from, prompt included
    ppo      one rollout and its updates by our PPOTrainer, no reward model         tokens of the answers

A part that fails (out of memory) or for which the budget is too short is named, and the rest goes on; --json FILE is
written after each part, so a run that is cut off leaves what it has. Where there is no CUDA, "kind" says what was
measured instead. On one H100: experiments/benchmarks.md.
"""

import argparse
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cai.bench.card_parts import (
    COMPILES,
    SIZES,
    CardRun,
    bandwidth,
    begin_size,
    multiplied,
    random_subject,
    read,
    static,
    written,
)  # fmt: skip
from cai.bench.card_training import training_parts
from cai.bench.common import positive
from cai.config.runtime import Runtime
from cai.core.errors import UserError
from cai.models.loading import pick_dtype
from cai.models.workbench import Workbench, check_device

LIBRARIES = ("torch", "transformers", "peft", "trl")


def seconds(budget: str) -> float:
    """ "8m", "90s" or "90"."""
    number, unit = (budget[:-1], budget[-1]) if budget[-1:] in ("s", "m") else (budget, "s")
    try:
        value = float(number) * {"s": 1, "m": 60}[unit]
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError('must be a time such as "8m" or "90s"')
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", default="135m,1.5b,7b", help=f"some of {','.join(SIZES)} (default: 135m,1.5b,7b)")
    parser.add_argument("--budget", type=seconds, default=480.0, help='begin no part after so long (default: "8m")')
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=positive, help="of the CPU (default: as many as it has)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go, after each part")


def run(args: argparse.Namespace) -> None:
    """The benchmark `card`. Raises UserError for sizes that are none and a device that is not there."""
    session, sizes = begin(args)
    measure_limits(session)
    for size in sizes:
        one_size(session, size)
        session.forget_peak()  # the network of this size is gone
    print(page(session.found, session.skipped))


def one_size(session: CardRun, size: str) -> None:
    """All parts of one size, over one network."""
    subject = begin_size(session, size, random_subject)
    if subject is None:
        return
    place = session.found["sizes"][size]
    session.part(place, "read", size, lambda: read(session, subject))
    session.part(place, "written", size, lambda: written(session, subject))
    if session.cuda:
        session.part(place, "static", size, lambda: static(session, subject), COMPILES)
    training_parts(session, subject)


def begin(args: argparse.Namespace) -> tuple[CardRun, list[str]]:
    """(a run that has measured nothing yet, the sizes that are asked for). Raises UserError as `run`."""
    began = time.monotonic()
    sizes = list(dict.fromkeys(name.strip() for name in args.sizes.split(",")))
    for name in sizes:
        if name not in SIZES:
            raise UserError(f'there is no size "{name}"', "--sizes", f"known: {', '.join(SIZES)}")
    check_device(args.device, "--device")
    work = Workbench.open(Runtime(device=args.device, threads=args.threads))

    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    device, cuda = work.device, work.device.startswith("cuda")
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if cuda else cpu_name(),
        "kind": "cuda" if cuda else f"{device}: no CUDA here, and no card was measured",
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if cuda else None,
        "threads": torch.get_num_threads(),
        "batch_tokens": work.runtime.batch_tokens,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in LIBRARIES},
        "limits": {},
        "sizes": {},
    }
    dtype, until = pick_dtype(args.dtype, device), began + args.budget
    return CardRun(device, dtype, until, args.json, found, batch_tokens=work.runtime.batch_tokens), sizes


def measure_limits(session: CardRun) -> None:
    """How fast memory is copied and matrices are multiplied."""
    limits = session.found["limits"]
    session.part(limits, "bandwidth", "", lambda: bandwidth(session), 0)
    for dtype in ("bfloat16", "float32"):
        session.part(limits, dtype, "", lambda dtype=dtype: multiplied(session, dtype), 0)
    if session.device.startswith("cuda"):
        session.part(limits, "tf32", "", lambda: multiplied(session, "float32", tf32=True), 0)


def cpu_name() -> str:
    file = Path("/proc/cpuinfo")
    names = [line for line in file.read_text().splitlines() if line.startswith("model name")] if file.is_file() else []
    return names[0].partition(":")[2].strip() if names else "a CPU"


def page(found: dict[str, Any], skipped: Sequence[str]) -> str:
    """A line a part."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    lines = [f"{found['device']} ({found['kind']}), {found['date']}, {versions}", ""]
    for name, limit in found["limits"].items():
        unit = ("GB/s copied", 1e9) if name == "bandwidth" else ("TFLOP/s multiplied", 1e12)
        lines.append(f"{name:10} {limit['per_second'] / unit[1]:10.3g} {unit[0]}")
    for size, parts in found["sizes"].items():
        lines.append(f"\n{size} ({parts['dtype']}{', ' + parts['of'] if 'of' in parts else ''})")
        for name, part in parts.items():
            if isinstance(part, dict) and "per_second" in part:
                memory = part["peak_bytes"] / 2**30
                more = f"  {part['says']}" if "says" in part else ""
                unit = part.get("unit", "tokens")
                lines.append(f"  {name:14} {part['per_second']:10.4g} {unit}/s {memory:8.2f} GiB at most{more}")
    return "\n".join([*lines, *(f"\nnot measured: {line}" for line in skipped)])
