"""In float32 the head of a language model is laid out once for a rollout, in the order in which a CPU multiplies it.

A step that writes a token of each row is mostly products of weights with few rows, and of those torch's own library
makes a poor job where the matrix is as long as a vocabulary. SmolLM2-135M's head (49,152 x 576), AVX2, one thread, CPU:
24 ms for 4 rows, and 11 by oneDNN once it is laid out; 35 and 19 for 16 rows. To lay it out takes 0.12 s, and until the
call ends the memory of its weight. Other layers gain less than their layout costs.

What comes out differs in the last bits of float32, so only rollouts ask for it; engines use `packed.py`, to the bit.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from cai.models.architectures import probed
from cai.models.engines.packed import LEAST_STEPS, ROOM, ROWS, free_memory

LEAST_WEIGHTS = 2**22  # of a head: a smaller one stays in a cache
WITHIN = 1e-4  # of the largest score


@contextmanager
def head_laid_out(model: Any, steps: int) -> Generator[None]:
    """Within: the head answers from the weight laid out, where so many steps are worth it and it answers the same."""
    head = _head(model) if steps >= LEAST_STEPS else None
    answer = _laid_out(head) if head is not None else None
    if head is None or answer is None or not _alike(model, head, answer):
        yield
        return
    vars(head)["forward"] = answer
    try:
        yield
    finally:
        del vars(head)["forward"]


def _head(model: Any) -> nn.Linear | None:
    """The head, if it is a plain one in float32 on a CPU, and nothing else answers for it."""
    head = getattr(model, "get_base_model", lambda: model)().get_output_embeddings()
    if type(head) is not nn.Linear or "forward" in vars(head) or type(head.weight) not in (Tensor, nn.Parameter):
        return None
    weight = head.weight
    fits = weight.dtype == torch.float32 and weight.device.type == "cpu" and weight.is_contiguous()
    return head if fits and weight.numel() >= LEAST_WEIGHTS and weight.nbytes <= ROOM * free_memory() else None


def _laid_out(head: nn.Linear) -> Any:
    """A forward for the head; None where this torch has no such product."""
    known = torch.ops.mkldnn
    if not (torch.backends.mkldnn.is_available() and hasattr(known, "_linear_pointwise")):
        return None
    with suppress(AttributeError, RuntimeError):
        weight = known._reorder_linear_weight(head.weight.detach(), ROWS)
        bias = None if head.bias is None else head.bias.detach()

        def answer(states: Tensor) -> Tensor:
            few = states.numel() <= ROWS * states.shape[-1] and states.is_contiguous()
            if torch.is_grad_enabled() or not few or states.dtype != torch.float32:
                return nn.functional.linear(states, head.weight, head.bias)
            return known._linear_pointwise(states, weight, bias, "none", [], "")

        return answer
    return None


@torch.no_grad()
def _alike(model: Any, head: nn.Linear, answer: Any) -> bool:
    """Whether three rows are answered as by the head itself; tried once for each model."""
    tried = probed(model)
    if "quick head" not in tried:
        states = torch.linspace(-1, 1, 3 * head.in_features).sin().view(3, 1, -1)
        with suppress(RuntimeError):
            expected = head(states)
            off = (answer(states) - expected).abs().max()
            tried["quick head"] = bool(off <= WITHIN * expected.abs().max())
    return tried.setdefault("quick head", False)
