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
measured instead. Not yet run on a card: on a CPU alone.
"""

import argparse
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cai.bench.card_parts import SIZES, CardRun, bandwidth, multiplied, one_size
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
    began = time.monotonic()
    sizes = list(dict.fromkeys(name.strip() for name in args.sizes.split(",")))
    for name in sizes:
        if name not in SIZES:
            raise UserError(f'there is no size "{name}"', "--sizes", f"known: {', '.join(SIZES)}")
    check_device(args.device, "--device")
    device = Workbench.open(Runtime(device=args.device, threads=args.threads)).device

    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    cuda = device.startswith("cuda")
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if cuda else cpu_name(),
        "kind": "cuda" if cuda else f"{device}: no CUDA here, and no card was measured",
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if cuda else None,
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in LIBRARIES},
        "limits": {},
        "sizes": {},
    }
    session = CardRun(device, pick_dtype(args.dtype, device), began + args.budget, args.json, found)
    limits = found["limits"]
    session.part(limits, "bandwidth", "", lambda: bandwidth(session), 0)
    for dtype in ("bfloat16", "float32"):
        session.part(limits, dtype, "", lambda dtype=dtype: multiplied(session, dtype), 0)
    if cuda:
        session.part(limits, "tf32", "", lambda: multiplied(session, "float32", tf32=True), 0)
    for size in sizes:
        one_size(session, size)
        session.forget_peak()  # the network of this size is gone
    print(page(found, session.skipped))


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
        lines.append(f"\n{size} ({parts['dtype']})")
        for name, part in parts.items():
            if isinstance(part, dict) and "per_second" in part:
                memory = part["peak_bytes"] / 2**30
                lines.append(f"  {name:14} {part['per_second']:10.4g} tokens/s {memory:8.2f} GiB at most")
    return "\n".join([*lines, *(f"\nnot measured: {line}" for line in skipped)])
