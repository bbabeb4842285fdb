"""Keys and values that grow in place while a batch is sampled.

transformers' dynamic cache puts a new token behind what was read by copying all of it (`torch.cat`, twice a block and
token). On a CPU that copying is a quarter of the time of a step: SmolLM2-135M, 16 rows of 250 tokens, one thread,
bfloat16: 212 ms a token, and 162 ms with room set aside. What is attended to is the same numbers, so what comes out is
the same to the bit.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer


@contextmanager
def growing_in_place(room: int) -> Generator[None]:
    """Within: plain layers of dynamic caches set aside `room` tokens more than they hold whenever they are full.

    Layers of other kinds (windows, recurrent states) are as ever. What else is done to a layer (rows that are repeated,
    chosen or cut off) makes other tensors, which are taken over with new room when they next grow.
    """
    own = DynamicLayer.update

    def update(layer: Any, keys: torch.Tensor, values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if type(layer) is not DynamicLayer:
            return own(layer, keys, values, *args, **kwargs)
        if not layer.is_initialized:
            layer.lazy_initialization(keys, values)
        layer.keys = _extended(layer, "keys", keys, room)
        layer.values = _extended(layer, "values", values, room)
        return layer.keys, layer.values

    DynamicLayer.update = update
    try:
        yield
    finally:
        DynamicLayer.update = own


def _extended(layer: Any, name: str, new_BHTD: torch.Tensor, room: int) -> torch.Tensor:
    """What the layer holds under this name and what is new, (B, H, T, D): a view into memory with room behind it."""
    held = getattr(layer, name)
    count, more = (held.shape[-2] if held.numel() else 0), new_BHTD.shape[-2]
    spare = vars(layer).get(f"spare_{name}")
    ours = spare is not None and held.data_ptr() == spare.data_ptr() and held.shape[:2] == spare.shape[:2]
    if not ours or spare.shape[-2] < count + more:
        batch, heads, _, width = new_BHTD.shape
        spare = new_BHTD.new_empty(batch, heads, count + more + room, width)
        if count:
            spare[:, :, :count] = held
        setattr(layer, f"spare_{name}", spare)
    spare[:, :, count : count + more] = new_BHTD
    return spare[:, :, : count + more]
