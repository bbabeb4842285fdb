"""The memory of a device that a model takes: weights, what learns, what is kept of a batch. In bytes, from a `Shape`.

Counted block by block as transformers, PEFT and autocast keep tensors for the backward pass. The same is counted on
fake tensors in tests/models/test_memory.py; the two agree within 15%. What is kept of a token:

lora   The weights stand still, so no linear layer keeps its input; but PEFT copies the input of each to float32 for its
       own two matrices. A norm keeps its input in float32; attention queries, keys, values and its output; the gate of
       an MLP three products.
full   Weights in float32 under autocast to bfloat16: each linear layer keeps its input, norms keep both sides.

Gradient checkpointing keeps the input of each block, and of one block at a time all that is above.
"""

from dataclasses import dataclass
from typing import Literal

from cai.models.shapes import Shape

GIB = 2**30
BYTES = {"float32": 4, "bfloat16": 2}
HEAD_ROWS = 256  # predictions whose logits TRL's chunked head holds in float32 at one time
# What a context of CUDA takes, and what an allocator loses between its blocks; no part of what tensors take.
CONTEXT, LOST = 0.7 * GIB, 0.06


@dataclass(frozen=True, slots=True)
class Learning:
    """How a model is trained. dtype: of the weights as they are read; rank, layers: of LoRA (layers None: all).

    sharded: how many devices share weights, gradients and Adam's averages (FSDP2, ZeRO-3); 1: each has its own.
    accumulates: whether several passes make a step, so that gradients stay while the next batch is read.
    """

    training: Literal["lora", "full"]
    dtype: str
    rank: int = 16
    layers: int | None = None
    checkpointing: bool = False
    accumulates: bool = False
    sharded: int = 1

    @property
    def lora(self) -> bool:
        return self.training == "lora"

    def trained(self, shape: Shape) -> int:
        """Weights that learn."""
        return shape.lora(self.rank, self.layers) if self.lora else shape.parameters


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes through a model at a time. tokens: with padding. states: whether all blocks' outputs are kept, as a
    critic on the last one asks for. head: bytes that the loss takes, logits and their gradients.
    """

    tokens: float
    states: bool = False
    head: float = 0.0


def weights(shape: Shape, dtype: str) -> float:
    return float(shape.parameters * BYTES[dtype])


def resident(shape: Shape, how: Learning) -> float:
    """On one device between two steps: weights, and Adam's two averages of what learns, in float32."""
    frozen = weights(shape, how.dtype) if how.lora else 0.0
    return (frozen + 12 * how.trained(shape)) / how.sharded


def training(shape: Shape, how: Learning, batch: Batch) -> float:
    """On one device at the fullest moment of a step.

    Either all of a batch is kept and no gradient is there yet, or all gradients are and nothing else; unless earlier
    passes have left theirs, or blocks are computed again.
    """
    copied = 0.0  # autocast's matrices in bfloat16; sharded, two blocks at a time are whole
    if how.sharded > 1:
        copied = 2.0 * shape.block() * BYTES[how.dtype]
    elif not how.lora and how.dtype == "bfloat16":
        copied = 2.0 * shape.layers * shape.block()
    gradients = 4 * how.trained(shape) / how.sharded
    kept = activations(shape, how, batch) + copied
    together = how.accumulates or how.checkpointing  # the last block is computed again beside all gradients
    return resident(shape, how) + (kept + gradients if together else max(kept, gradients))


def learnt(shape: Shape, how: Learning) -> float:
    """A copy of the weights that learn: what PPO remembers its reference by."""
    return 4 * how.trained(shape) / how.sharded


def block_kept(shape: Shape, how: Learning) -> float:
    """Of a token, what one block keeps for the backward pass."""
    hidden, queries, inner = shape.hidden, shape.heads * shape.head, shape.inner * shape.active
    narrow, ups = BYTES[how.dtype], 2 if shape.gated else 1
    norms = 8 * hidden  # two, in float32
    attention = 4 * queries * narrow + 4 * shape.heads  # q, k, v, output; and the logarithm of each row's sum
    gate = (3 if shape.gated else 4) * inner * narrow
    if how.lora:
        reads = 3 + ups if narrow == 2 else 2  # copies of their input that matrices keep; float32 needs no copy
        inputs = 4 * (reads * hidden + queries + inner)
        return norms + inputs + attention + gate + 4 * how.rank * (4 + (ups + 1) * shape.active)
    if narrow == 2:
        return 2 * norms + 2 * ((3 + ups) * hidden + queries + inner) + attention + gate
    return 2 * norms + 4 * (2 * hidden + queries + inner) + attention + gate


def transient(shape: Shape, how: Learning) -> float:
    """Of a token, what a block's backward pass holds besides."""
    inner = shape.inner * shape.active
    return 6.0 * inner + 4 * shape.hidden if how.lora else 8.0 * inner + 8 * shape.hidden


def activations(shape: Shape, how: Learning, batch: Batch) -> float:
    """Of a batch, when its backward pass begins."""
    block, beyond = block_kept(shape, how), batch.tokens * transient(shape, how)
    norm = 4 * shape.hidden  # the last one
    if how.checkpointing:  # the loss's gradients are gone when the first block is computed again
        stream = batch.tokens * (_handed_on(shape, how) + norm)
        return stream + max(batch.head, batch.tokens * block + beyond)
    blocks = shape.layers if how.layers is None or not how.lora else min(how.layers, shape.layers)
    kept = blocks * block + (_handed_on(shape, how) if batch.states else 0.0)
    return batch.tokens * (kept + norm) + max(batch.head, beyond)


def _handed_on(shape: Shape, how: Learning) -> float:
    """Of a token, what blocks hand on to one another."""
    return shape.layers * shape.hidden * (BYTES[how.dtype] if how.lora else 4)


def reading(shape: Shape, dtype: str, tokens: float) -> float:
    """Of a batch that is only read: what one block holds at a time."""
    inner = shape.inner * shape.active
    return tokens * (BYTES[dtype] * (4 * shape.hidden + 3 * inner) + 8 * shape.hidden)


def cache(shape: Shape, dtype: str, tokens: float) -> float:
    """Keys and values of so many tokens, and one layer of them twice, as each new token makes it longer."""
    layer = tokens * 2 * shape.kv_heads * shape.head * BYTES[dtype]
    return layer * (shape.layers + 1)


def head(shape: Shape, dtype: str, rows: float) -> float:
    """Logits of so many predictions in the model's precision, and of a few of them in float32."""
    return shape.vocabulary * (rows * BYTES[dtype] + min(rows, HEAD_ROWS) * 4 * 2)


def choices(shape: Shape, how: Learning, rows: float) -> float:
    """Logits of so many choices of a policy and their gradient (cai/train/rl/ppo_math.py), in what it computes in."""
    return shape.vocabulary * (rows * 2 * BYTES[how.dtype] + min(rows, HEAD_ROWS) * 4 * 2)


def sampling(shape: Shape, rows: float) -> float:
    """Of one step of so many answers: logits, probabilities, their sums and what is left possible, in float32."""
    return shape.vocabulary * rows * 4 * 6


def on_device(tensors: float) -> float:
    """What a card has to have for tensors of so many bytes."""
    return tensors * (1 + LOST) + CONTEXT
