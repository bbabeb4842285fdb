"""Weights in the order in which a CPU multiplies them, laid out once and not at every call.

torch's bfloat16 `linear` on a CPU hands oneDNN a plain matrix, which is laid out anew for the matrix units each time.
Here the layers of a network are laid out once, for as long as one call of `generate` lasts: a step that writes a token
of each row is mostly such products. SmolLM2-135M, 16 rows of one token, one thread: its linear layers take 37 ms
instead of 50, a pass 51 instead of 58. Long rows gain nothing: `choose`, given 8,315 tokens, took 6.7 to 7.0 s instead
of 6.1 to 6.5, so what is read is read plainly. Nor does one product for layers that read the same input (queries, keys
and values), which besides rounds otherwise for some numbers of rows.
What comes out is the same to the bit:

    1. A short row must come out the same with packed layers, or there are none (`_alike`).
    2. Which product oneDNN chooses depends on the shapes and the threads. Each combination is also computed the plain
       way until so many numbers came out alike (CHECKS), with the numbers that are there; where two differ, the plain
       way stays. Sums of 576 products in another order differ by some 1e-7 and change one bfloat16 in ten thousand or
       so: three products of one row would seldom show it.

Nothing is kept from one call to the next, because weights change between calls: an optimizer's, a merged adapter's.
To lay out SmolLM2-135M takes 0.12 s, and 270 MB until the call ends. Beside LoRA the frozen layers are packed; what
needs gradients is computed plainly.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cai.models.architectures import probed

LEAST_WEIGHTS = 2**15  # of a layer: smaller ones (LoRA's own) are multiplied as quickly as they are laid out
LEAST_STEPS = 16  # to be written one after another: below, laying out takes longer than it saves
MOST_ROWS = 256  # that are multiplied at once
ROWS = 64  # for which oneDNN lays out; a layout for one row is quicker there and rounds otherwise everywhere else
CHECKS = 2**18  # numbers of a combination: a row of 576 is checked 456 times, which 30 blocks have done in 16 tokens
ROOM = 0.5  # the share of the machine's free memory that the copies may take
PROBE = (5, 1, 4, 2, 3, 1, 0, 6)  # any ids
_left: dict[tuple[int, ...], int] = {}  # shapes and threads -> numbers that are left to check, or DIFFERS
DIFFERS = -1


class PackedLayer:
    """A linear layer, and its weight as it is multiplied."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer, self.stamp = layer, _stamp(layer)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.shape = (layer.out_features, layer.in_features, int(layer.bias is not None))

    @property
    def fresh(self) -> bool:
        """Whether the weight is the one that was packed, as far as torch counts changes."""
        return self.stamp == _stamp(self.layer)

    def answer(self, states: Tensor) -> Tensor:
        """What the layer makes of states (..., in): (..., out)."""
        if torch.is_grad_enabled() or states.dtype != torch.bfloat16 or not states.is_contiguous():
            return self._plain(states)
        rows = states.numel() // self.shape[1]
        key = (*self.shape, rows, torch.get_num_threads())
        left = _left.get(key, CHECKS)
        if rows > MOST_ROWS or left == DIFFERS:
            return self._plain(states)
        outcome = torch.ops.mkldnn._linear_pointwise(states, self.weight, self.bias, "none", [], "")
        if left:
            plain = self._plain(states)
            _left[key] = max(0, left - plain.numel()) if torch.equal(outcome, plain) else DIFFERS
            return plain
        return outcome

    def _plain(self, states: Tensor) -> Tensor:
        return nn.functional.linear(states, self.layer.weight, self.layer.bias)


class Packed:
    """The packed layers of a network, for as long as its weights stay as they are."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self.layers = [PackedLayer(layer) for layer in layers]

    @contextmanager
    def in_use(self) -> Generator[None]:
        """Within: the layers answer from their packed weights. Those whose weights have changed are laid out anew."""
        self.layers = [some if some.fresh else PackedLayer(some.layer) for some in self.layers]
        changed: list[nn.Linear] = []
        try:
            for some in self.layers:
                if "forward" not in vars(some.layer):  # an outer call has done it
                    vars(some.layer)["forward"] = some.answer
                    changed.append(some.layer)
            yield
        finally:
            for layer in changed:
                vars(layer).pop("forward", None)


def packed(model: Any, steps: int) -> Packed:
    """What is worth packing of a network for so many steps that write a token of each row."""
    if steps < LEAST_STEPS:
        return Packed(())
    network: Any = getattr(model, "get_base_model", lambda: model)()
    layers = layers_of(network)
    if any(getattr(part, "merged", False) and part.disable_adapters for part in network.modules()):
        return Packed(())  # PEFT takes the adapter out of the weights as they are next used
    if not layers or sum(layer.weight.nbytes for layer in layers.values()) > ROOM * free_memory():
        return Packed(())
    known = probed(network).setdefault("packed", {})
    quick = Packed(list(layers.values()))
    names = tuple(layers)
    if names not in known:
        known[names] = _alike(network, quick)
    return quick if known[names] else Packed(())


def layers_of(network: Any) -> dict[str, nn.Linear]:
    """The layers that can be packed, by name: plain ones, in bfloat16, on a CPU whose oneDNN multiplies it."""
    known = torch.ops.mkldnn
    if not (torch.backends.mkldnn.is_available() and hasattr(known, "_linear_pointwise")):
        return {}
    if not (hasattr(known, "_reorder_linear_weight") and known._is_mkldnn_bf16_supported()):
        return {}
    return {
        name: layer
        for name, layer in network.named_modules()
        if type(layer) is nn.Linear and "forward" not in vars(layer) and _plain(layer.weight)
    }


def _plain(weight: Tensor) -> bool:
    """Not in parts (sharded.py), quantised, or elsewhere."""
    return (
        type(weight) in (Tensor, nn.Parameter)
        and weight.dtype == torch.bfloat16
        and weight.device.type == "cpu"
        and weight.is_contiguous()
        and weight.numel() >= LEAST_WEIGHTS
    )


def _stamp(layer: nn.Linear) -> list[tuple[int, int]]:
    weights = [weight for weight in (layer.weight, layer.bias) if weight is not None]
    return [(weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights]


def free_memory() -> float:
    """Bytes that the machine could still give."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return 0.0


@torch.no_grad()
def _alike(network: Any, quick: Packed) -> bool:
    """Whether a short row comes out the same to the bit."""
    with suppress(Exception):  # whatever a network makes of a row of any ids
        plain = _read(network)
        with quick.in_use():
            return torch.equal(_read(network), plain)
    return False


def _read(network: Any) -> Tensor:
    """The logits of a short row, and nothing of chance: dropout, where it is on, drops the same each time."""
    vocabulary = network.config.get_text_config().vocab_size
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        ids_BT = torch.tensor([PROBE, PROBE[::-1]]) % vocabulary
        return network(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT), use_cache=False).logits
