"""`python -m cai.bench train`: steps of a reward model and of DPO, beside TRL's own RewardTrainer and DPOTrainer.

    reward, dpo         what is trained, on pairs of answers that people rated; the better answer is preferred
    last 6, all         the blocks that have LoRA: the quickstart's, and every one

Each training is a process of its own; the two that are compared take turns step by step (train_run.py says what is the
same in both). A round is one step of each, on the same batch; its ratio is ours to TRL's. The first step warms up and
is in no figure but memory. Every batch is new, as in one epoch: with more, ours takes less, because what lies below
LoRA is read once (cai/models/trunk.py). Memory is resident memory at its peak while steps are made, the libraries and
the model's weights included; on a card, what torch allocated.

That both train the same is seen in their losses: the largest difference of a step's is told.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from cai.bench.common import MedianRange, positive, show
from cai.config.sections import Data, Policy
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Pair
from cai.data.sources import read_source
from cai.models.chat import answer_ids, answered, with_system
from cai.models.loading import load_tokenizer, pick_device, pick_dtype
from cai.models.references import find

METHODS = ("reward", "dpo")
WAYS = ("ours", "trl")
LAST, MAX_LENGTH = 6, 320  # the quickstart's


@dataclass(frozen=True, slots=True)
class TrainRun:
    """One training. seconds, cpu: of each step but the first. process, training: bytes (None where not known)."""

    seconds: list[float]
    cpu: list[float]
    losses: list[float]
    process: int
    training: int | None
    trl: str
    threads: int


@dataclass(frozen=True, slots=True)
class TrainCase:
    """What is trained and where LoRA is; seconds and CPU seconds of a step and peak GB while training, by way.

    time, cpu_time, memory: ours to TRL's. losses: by way, of every step; difference: the largest of one step.
    """

    method: str
    layers: str
    seconds: dict[str, MedianRange]
    cpu: dict[str, MedianRange]
    gigabytes: dict[str, float]
    time: MedianRange
    cpu_time: MedianRange
    memory: float
    losses: dict[str, list[float]]
    difference: float


# 1. What both are given -----------------------------------------------------------------------------------------------


def preferred(pair: Pair) -> tuple[str, str] | None:
    """(the better answer, the other) by people's ratings; None where they are no better than one another."""
    if pair.human is None or pair.human == 0.5:
        return None
    return (pair.a, pair.b) if pair.human > 0.5 else (pair.b, pair.a)


def rows_of(model: str, source: str, count: int, method: str) -> list[dict[str, list[int]]]:
    """`count` pairs as token ids, drawn by hash, as the stages render and cut them. Raises UserError for too few."""
    from cai.models.score import render_scored  # heavy

    tokenizer, rows = load_tokenizer(find(model)), []
    pairs = read_source(Data(source=source, max_words=160, pairs_per_prompt=3), seed=0).pairs.values()
    for pair in sorted(pairs, key=lambda pair: uniform("bench", pair.id)):
        texts = preferred(pair)
        if texts is None:
            continue
        chat = pair.prompt.messages
        if method == "reward":
            chosen, rejected = (render_scored(tokenizer, answered(chat, text, Policy().system)) for text in texts)
            row = {"chosen_ids": chosen, "rejected_ids": rejected}
        else:
            opened = with_system(chat, Policy().system)
            (start, chosen), (_, rejected) = (answer_ids(tokenizer, opened, text) for text in texts)
            row = {"prompt_ids": start, "chosen_ids": chosen, "rejected_ids": rejected}
        if len(row.get("prompt_ids", ())) + max(len(chosen), len(rejected)) <= MAX_LENGTH:
            rows.append(row)
        if len(rows) == count:
            return rows
    raise UserError(f"only {len(rows)} pairs are rated and short enough", source, "ask for fewer --rounds or --pairs")


# 2. Measuring ---------------------------------------------------------------------------------------------------------


class Training:
    """A process of train_run.py that has loaded everything and waits for its turns."""

    def __init__(self, spec: dict[str, Any], folder: Path) -> None:
        self.way, file = spec["way"], folder / f"{spec['way']}.json"
        self.log = Path(tempfile.gettempdir()) / f"cai-bench-train-{spec['way']}.log"
        file.write_text(json.dumps(spec | {"folder": str(folder / spec["way"])}))
        quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
        quiet |= {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "2000")}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cai.bench.train_run", str(file)], env=os.environ | quiet, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def heard(self) -> dict[str, Any]:
        """Its next answer. Raises UserError with its last line where it ended without one."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            last = (self.log.read_text().strip().splitlines() or ["it said nothing"])[-1]
            raise UserError(f"the training of {self.way} failed: {last}", str(self.log), "the log says more")
        return json.loads(line)

    def step(self) -> dict[str, float]:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.heard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def both(spec: dict[str, Any]) -> Any:
    """A training of each way, ready."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Training(spec | {"way": "ours"}, folder) as ours, Training(spec | {"way": "trl"}, folder) as trl:
            for training in (ours, trl):
                training.heard()
            yield {"ours": ours, "trl": trl}


def measure(spec: dict[str, Any], title: str) -> dict[str, TrainRun]:
    """`steps` steps of both ways; each round begins with another."""
    steps: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with both(spec) as trainings:
        for number in range(spec["steps"]):
            for way in WAYS[number % 2 :] + WAYS[: number % 2]:
                steps[way].append(took := trainings[way].step())
                what = "warm-up" if not number else f"round {number}/{spec['steps'] - 1}"
                print(f"  {title}, {what}: {way}, {took['seconds']:.3g} s", file=sys.stderr, flush=True)
        ends = {way: trainings[way].heard() for way in WAYS}
    return {
        way: TrainRun([s["seconds"] for s in steps[way][1:]], [s["cpu"] for s in steps[way][1:]], **ends[way])
        for way in WAYS
    }


def case_of(method: str, layers: str, runs: dict[str, TrainRun]) -> TrainCase:
    ours, trl = runs["ours"], runs["trl"]
    peak = {way: run.training or run.process for way, run in runs.items()}
    return TrainCase(
        method=method,
        layers=layers,
        seconds={way: MedianRange.of(run.seconds) for way, run in runs.items()},
        cpu={way: MedianRange.of(run.cpu) for way, run in runs.items()},
        gigabytes={way: bytes_ / 1e9 for way, bytes_ in peak.items()},
        time=MedianRange.of([a / b for a, b in zip(ours.seconds, trl.seconds, strict=True)]),
        cpu_time=MedianRange.of([a / b for a, b in zip(ours.cpu, trl.cpu, strict=True)]),
        memory=peak["ours"] / peak["trl"],
        losses={way: run.losses for way, run in runs.items()},
        difference=max(abs(a - b) for a, b in zip(ours.losses, trl.losses, strict=True)),
    )


# 3. The program -------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="rated-answers", help="where the pairs come from: as `data.source`")
    parser.add_argument("--pairs", type=positive, default=4, help="in a batch (default: 4)")
    parser.add_argument("--rounds", type=positive, default=5, help="timed steps (default: 5)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--layers", nargs="+", choices=("last", "all"), default=("last", "all"))
    parser.add_argument("--last", type=positive, default=LAST, help=f"how many blocks `last` is (default: {LAST})")


def run(args: argparse.Namespace) -> None:
    """The benchmark `train`."""
    device = pick_device(args.device)
    dtype, cases, threads = pick_dtype(args.dtype, device), [], 0
    for method in args.methods:
        rows = rows_of(args.model, args.data, args.pairs * (args.rounds + 1), method)
        for layers in args.layers:
            spec = {
                "method": method, "layers": args.last if layers == "last" else None, "rows": rows,
                "model": args.model, "rank": Policy().lora_rank, "batch": args.pairs, "steps": args.rounds + 1,
                "device": device, "dtype": dtype, "threads": args.threads,
            }  # fmt: skip
            where = f"last {args.last}" if layers == "last" else "all"
            runs = measure(spec, f"{method}, {where}")
            threads = runs["ours"].threads
            cases.append(case_of(method, where, runs))
    about = {
        "model": args.model, "dtype": dtype, "device": device, "threads": threads, "data": args.data,
        "pairs": args.pairs, "rounds": args.rounds, "TRL": version("trl"), "PEFT": version("peft"),
        "transformers": version("transformers"), "torch": version("torch"),
    }  # fmt: skip
    text = json.dumps(about | {"cases": [asdict(case) for case in cases]}, indent=1)
    print(text if args.json else page(about, cases))


def page(about: dict[str, Any], cases: Sequence[TrainCase]) -> str:
    """A line a case and way: median and, in brackets, the extremes over the rounds."""
    lines = [", ".join(f"{name} {value}" for name, value in about.items()), ""]
    lines.append(f"  {'':6}  {'LoRA on':8}  {'':4}  {'s a step':>20}  {'CPU s':>20}  {'peak GB':>8}")
    for case in cases:
        for way in WAYS:
            cells = f"{show(case.seconds[way]):>20}  {show(case.cpu[way]):>20}  {case.gigabytes[way]:>8.2f}"
            lines.append(f"  {case.method:6}  {case.layers:8}  {way:4}  {cells}")
        ratios = f"{show(case.time):>20}  {show(case.cpu_time):>20}  {case.memory:>8.2f}"
        lines.append(f"  {'':6}  {'':8}  {'is':4}  {ratios}  losses within {case.difference:.2g}")
    return "\n".join(lines)
