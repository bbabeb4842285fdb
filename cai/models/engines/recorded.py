"""Sampling on a card without a launch for each kernel: one step is recorded as a CUDA graph, and played for each token.

A step of a small model is a few hundred kernels of some microseconds, which Python starts one after another: the card
waits for it nearly all of the time (SmolLM2-135M: 30 blocks of about 15 kernels). `generate` besides waits for the card
once a token, to see whether all rows have ended. Here keys and values stand in tensors that have their full length from
the beginning, everything that a step reads or writes stays where it is, and what it draws is decided on the card.

    1. The prompts are read as `generate` reads them.
    2. Their keys and values are laid into tensors with room for the answers.
    3. Two steps run as they are, the third is recorded, and the rest are played (`play`); whether all rows have ended
       is looked at every EVERY tokens.

For plain attention alone (no windows, no recurrent states), and where `reads_alike` found that it gives what a whole
forward does. The environment variable CAI_GRAPHS=0 leaves it out.
"""

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from cai.models.architectures import attention_window, probed

EVERY = 16  # tokens between two looks at whether all rows have ended
NO_NUMBERS = "no numbers"  # what `note_numbers` notes, for engines to refuse; a training sees it by its own loss
FIRST = 2  # steps that run as they are, for a recording must find libraries and memory ready
Draw = Callable[[Tensor, Tensor], Tensor]  # (scores (B, V) in float32, number of the step (1,)) -> tokens (B, 1)


class FixedLayer(DynamicLayer):
    """Keys and values of one block with room for so many tokens more: each is written at `place_1`, for all rows."""

    keys: Any
    values: Any

    def __init__(self, layer: Any, room: int, place_1: Tensor) -> None:
        super().__init__()
        self.keys, self.values = (torch.nn.functional.pad(part, (0, 0, 0, room)) for part in (layer.keys, layer.values))
        self.dtype, self.device, self.is_initialized = self.keys.dtype, self.keys.device, True
        self.place_1, self.read = place_1, layer.keys.shape[2]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys.index_copy_(2, self.place_1, key_states)
        self.values.index_copy_(2, self.place_1, value_states)
        return self.keys, self.values

    def get_seq_length(self, *_: Any) -> int:
        return self.read

    def get_mask_sizes(self, query_length: Any, *_: Any) -> tuple[int, int]:
        return self.keys.shape[2], 0


class Steps:
    """A batch that is sampled token by token, in tensors that stay where they are.

    answers: (B, K), padding behind what ended. scores: (B, V) of the last step.
    """

    def __init__(self, model: Any, inputs: dict[str, Any], draw: Draw, new: int, pad: int, stops: set[int]) -> None:
        """inputs: as `left_padded` gives them. new: tokens of an answer, at most."""
        name = cache_name(model)
        mask_BT, past = inputs["attention_mask"], inputs.get(name)
        read, width = past.get_seq_length() if past is not None else 0, mask_BT.shape[1]
        cache = DynamicCache() if past is None else past
        place_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
        first = model(
            input_ids=inputs["input_ids"][:, read:], attention_mask=mask_BT, position_ids=place_BT[:, read:],
            use_cache=True, logits_to_keep=1, **{name: cache},
        )  # fmt: skip
        if any(type(layer) is not DynamicLayer for layer in cache.layers):
            raise TypeError("not plain attention")
        device, rows = mask_BT.device, len(mask_BT)
        self.model, self.draw, self.pad, self.name = model, draw, pad, name
        self.stops = torch.tensor(sorted(stops), device=device)
        self.place_1 = torch.tensor([width], device=device)
        self.step_1 = torch.zeros(1, dtype=torch.long, device=device)
        self.position_B1 = place_BT[:, -1:] + 1
        self.cache = cache
        self.cache.layers = [FixedLayer(layer, new, self.place_1) for layer in cache.layers]
        hidden_BL = torch.nn.functional.pad(mask_BT == 0, (0, new), value=True)
        self.mask_B11L = torch.zeros(rows, 1, 1, width + new, dtype=model.dtype, device=device)
        self.mask_B11L.masked_fill_(hidden_BL[:, None, None], torch.finfo(model.dtype).min)
        self.answers = torch.full((rows, new), pad, device=device)
        self.done_B1 = torch.zeros(rows, 1, dtype=torch.bool, device=device)
        self.token_B1 = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.scores = first.logits[:, -1].float()
        self._take()

    def _take(self) -> None:
        """One token of each row, from the scores."""
        token_B1 = self.draw(self.scores, self.step_1).masked_fill(self.done_B1, self.pad)
        self.token_B1.copy_(token_B1)
        self.answers.index_copy_(1, self.step_1, token_B1)
        self.done_B1.logical_or_((token_B1 == self.stops).any(1, keepdim=True))
        self.step_1.add_(1)

    def step(self) -> None:
        """Read the last token of each row, and draw the next."""
        self.mask_B11L.index_fill_(3, self.place_1, 0.0)
        logits_B1V = self.model(
            input_ids=self.token_B1, attention_mask=self.mask_B11L, position_ids=self.position_B1, use_cache=True,
            **{self.name: self.cache},
        ).logits  # fmt: skip
        self.scores.copy_(logits_B1V[:, -1])
        self._take()
        self.place_1.add_(1)
        self.position_B1.add_(1)


def play(steps: Steps, count: int) -> None:
    """So many steps, or fewer where all rows have ended: as they are on a CPU, recorded on a card."""
    if steps.answers.device.type != "cuda":
        for number in range(count):
            if number % EVERY == 0 and bool(steps.done_B1.all()):
                return
            steps.step()
        return
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(min(FIRST, count)):
            steps.step()
    torch.cuda.current_stream().wait_stream(side)
    if count <= FIRST:
        return
    graph = torch.cuda.CUDAGraph()
    # Other threads (which pin memory for a loader) may go on meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        steps.step()
    for number in range(count - FIRST):
        if number % EVERY == 0 and bool(steps.done_B1.all()):
            break
        graph.replay()
    torch.cuda.current_stream().synchronize()  # before what it wrote to is let go of


@torch.no_grad()
def drawn(
    model: Any, inputs: dict[str, Any], draw: Draw, new: int, pad: int, stops: set[int]
) -> list[list[int]] | None:
    """The answers' ids, padding behind those that ended; None where this model or device is not one to record."""
    if model.device.type != "cuda" or os.environ.get("CAI_GRAPHS") == "0":
        return None
    if torch.distributed.is_available() and torch.distributed.is_initialized():  # whose weights may be elsewhere
        return None
    if new < 2 * FIRST or not records(model, inputs["attention_mask"].shape[1] + new, pad):
        return None
    steps = Steps(model, inputs, draw, new, pad, stops)
    play(steps, new - 1)
    note_numbers(model, steps.scores)
    return steps.answers.tolist()


def note_numbers(model: Any, scores_BV: Tensor) -> None:
    """Note of a model whose scores of the last step are no numbers: something is drawn from those as from others. What
    was no number once stays none, for all that follows looks at it."""
    if scores_BV.isnan().any():
        probed(model)[NO_NUMBERS] = True


def records(model: Any, longest: int, pad: int) -> bool:
    """Whether this model's steps can be recorded, and give what a whole forward gives; tried once for each model.

    longest: tokens of a row. A model that is learning, or that computes twice, is left alone.
    """
    network: Any = getattr(model, "get_base_model", lambda: model)()
    if longest >= attention_window(model.config) or _computes_twice(network):
        return False
    known = probed(model)
    if "recorded" not in known:
        try:
            known["recorded"] = takes_places(network) and reads_alike(model, pad)
        except Exception as error:  # whatever a model makes of a cache that it does not know
            known["recorded"], known["not recorded"] = False, f"{type(error).__name__}: {error}"
    return known["recorded"]


def _computes_twice(network: Any) -> bool:
    """Gradient checkpointing, which has another name before transformers 5.20."""
    name = "is_activation_checkpointing" if hasattr(network, "is_activation_checkpointing") else None
    return bool(getattr(network, name or "is_gradient_checkpointing", False))


def takes_places(network: Any) -> bool:
    """Whether its forward is told positions, which logits to keep, and a cache."""
    known = inspect.signature(network.forward).parameters
    return {"position_ids", "logits_to_keep", "attention_mask", cache_name(network)} <= set(known)


def cache_name(model: Any) -> str:
    """What its forward calls what was read before: another name before and after transformers 5.20."""
    network: Any = getattr(model, "get_base_model", lambda: model)()
    return "cache" if "cache" in inspect.signature(network.forward).parameters else "past_key_values"


def reads_alike(model: Any, pad: int) -> bool:
    """Whether the scores after some played steps are those of the whole rows, read in one forward each."""
    vocabulary = model.config.get_text_config().vocab_size
    rows = [[(step * k + 1) % vocabulary for k in range(1, 6 * step)] for step in (3, 5)]
    width, device, new = max(map(len, rows)), model.device, FIRST + 4
    inputs = {
        "input_ids": torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=device),
        "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device),
    }
    steps = Steps(model, inputs, lambda scores, _: scores.argmax(-1, keepdim=True), new, pad, set())
    play(steps, new - 1)
    within = 0.01 if model.dtype == torch.float32 else 0.5
    return all(_like(model, row, ids, steps.scores[k], within) for k, (row, ids) in enumerate(_whole(rows, steps)))


def _whole(rows: Sequence[list[int]], steps: Steps) -> list[tuple[list[int], list[int]]]:
    return [(row, ids[:-1]) for row, ids in zip(rows, steps.answers.tolist(), strict=True)]


def _like(model: Any, row: list[int], ids: list[int], scores_V: Tensor, within: float) -> bool:
    alone = model(input_ids=torch.tensor([row + ids], device=model.device), use_cache=False).logits[0, -1]
    off = (alone.float().log_softmax(-1) - scores_V.log_softmax(-1)).abs().max()
    return bool(off <= within)  # False of what is not a number
