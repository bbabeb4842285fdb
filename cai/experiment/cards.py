"""How long stages take on a card that none has run on: the largest of what its arithmetic, its memory and its launches
allow, and the loading. A model of time, not a measurement: whoever prints these says "modelled".

Peaks and bandwidths are those of the makers' data sheets (dense bfloat16, without sparsity). What is assumed:

- of the peak, half where text is read and 40% where it is learnt from; of the bandwidth 70%;
- a step of transformers' `generate` launches its kernels one by one: 0.8 ms a block;
- a text is half as long as its limit, and an answer as long as its own;
- weights come from a disk at 2 GB/s. Several processes lose a tenth to one another.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cai.config.runtime import Runtime
from cai.experiment.needs import PROMPT, Need, spread
from cai.models import memory
from cai.models.memory import GIB

READS, LEARNS, STREAMS = 0.5, 0.4, 0.7  # of the peak, of the peak, of the bandwidth
LAUNCH = 0.8e-3  # seconds a block takes at least, in one forward pass
FILL = 0.5  # of a limit
LIBRARIES, DISK = 8.0, 2e9  # seconds; bytes a second
TOGETHER = 0.9  # of what several processes could do if they never waited
VERDICT, STRUCTURED = 1, 8  # tokens that a served judge writes: where one is read off, and where an object is sampled
ORDERS = ("label_by_judge", "preflight", "label_by_simulation", "rate_controlled")  # asked twice for each question


@dataclass(frozen=True, slots=True)
class Card:
    """name: as it is printed. words: in what the driver calls it. usable: bytes; flops, bandwidth: a second."""

    name: str
    words: tuple[str, ...]
    usable: float
    flops: float
    bandwidth: float


CARDS = {
    "h100": Card("H100 80 GB (SXM)", ("H100",), 79 * GIB, 989e12, 3.35e12),
    "h200": Card("H200 141 GB", ("H200",), 139 * GIB, 989e12, 4.8e12),
    "a100": Card("A100 80 GB (SXM)", ("A100",), 79 * GIB, 312e12, 2.04e12),
    "l40s": Card("L40S 48 GB", ("L40S",), 44 * GIB, 362e12, 0.864e12),
    "rtx4090": Card("RTX 4090 24 GB", ("4090",), 23.5 * GIB, 165e12, 1.01e12),
}


def card_called(device: str) -> Card | None:
    """Of what a driver calls a device."""
    return next((card for card in CARDS.values() if any(word in device for word in card.words)), None)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of a served judge: questions, and what they read and write."""

    calls: float
    read: float
    written: float


def seconds_on(card: Card, need: Need, inputs: Mapping[str, Any], count: float, runtime: Runtime) -> float:
    """Of one stage. count: what it has to do (work.py)."""
    if need.served:
        return 0.0
    load = LIBRARIES + memory.weights(need.shape, need.dtype) / DISK
    if need.kind == "write":
        return load + _writing(card, need, count, need.rows)
    if need.kind in ("read", "score"):
        texts = count * _texts(need, inputs)
        return load + _reading(card, need, texts * FILL * need.width, runtime.batch_tokens)
    ranks, _ = spread(runtime)
    share = ranks * TOGETHER if ranks > 1 else 1.0
    if need.kind == "train":
        sides = 2 if need.stage in ("train_reward", "train_dpo") else 1
        return load + _learning(card, need, count * sides * FILL * need.width) / share
    settings = inputs["settings"]
    answers = settings["steps"] * settings["batch_size"]
    tokens = answers * (FILL * (need.width - need.new) + need.new)
    written = _writing(card, need, answers * need.new / ranks, need.generated)
    # The policy as it was, the reference and the reward model read each answer.
    read = _reading(card, need, 3 * tokens / ranks, need.rows * need.width)
    return load + written + read + _learning(card, need, tokens * settings["epochs"]) / share


def tokens_of(need: Need, inputs: Mapping[str, Any], count: float) -> Tokens:
    """What a served judge, or reviser, is asked, reads and writes."""
    if need.kind == "write":  # counted in tokens, of texts as long as they may be
        calls = count / need.new
        return Tokens(calls, calls * FILL * (need.width - need.new), count * FILL)
    judge = inputs.get("judge") or {}
    sampled, reasons = judge.get("verdict") == "sampled", judge.get("method") == "reason"
    thought = judge["reason"]["max_new_tokens"] if reasons else 0
    calls = count * _texts(need, inputs) * (judge.get("samples", 5) if sampled else 1)
    calls /= max(1, thought)  # a chain of thought's count holds its length already
    return Tokens(calls, calls * FILL * need.width, calls * (thought + (STRUCTURED if sampled else VERDICT)))


def _texts(need: Need, inputs: Mapping[str, Any]) -> int:
    return 2 if need.stage in (*ORDERS, "score_pairs") else 1


def _reading(card: Card, need: Need, tokens: float, at_once: float) -> float:
    passes = math.ceil(tokens / max(at_once, 1))
    streamed = passes * memory.weights(need.shape, need.dtype) / (card.bandwidth * STREAMS)
    arithmetic = 2 * need.shape.read * tokens / (card.flops * READS)
    return max(arithmetic, streamed, passes * need.shape.layers * LAUNCH)


def _writing(card: Card, need: Need, tokens: float, rows: float) -> float:
    """Answers in batches: each step reads all weights, and what is kept of every row so far."""
    answers = tokens / need.new
    rows = max(1.0, min(rows, answers))
    steps = answers / rows * need.new
    kept = memory.cache(need.shape, need.dtype, rows * (PROMPT + need.new / 2))
    streamed = (memory.weights(need.shape, need.dtype) + kept) / (card.bandwidth * STREAMS)
    arithmetic = 2 * need.shape.read * rows / (card.flops * READS)
    step = max(streamed, arithmetic, need.shape.layers * LAUNCH)
    return steps * step + _reading(card, need, answers * FILL * (need.width - need.new), rows * need.width)


def _learning(card: Card, need: Need, tokens: float) -> float:
    """LoRA needs no gradients of the frozen matrices: two passes' work for three; checkpointing reads once more."""
    assert need.learning is not None
    work = (4 if need.learning.lora else 6) + 2 * need.learning.checkpointing
    arithmetic = work * need.shape.read * tokens / (card.flops * LEARNS)
    passes = tokens / max(need.rows * need.width * FILL, 1)
    return max(arithmetic, passes * need.shape.layers * LAUNCH * (work / 2))
