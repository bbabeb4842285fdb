"""What lies below LoRA, read once: the states that a base's frozen blocks give for a row of tokens are kept.

With `policy.lora_layers: n` the reward models of all arms and seeds, the policy and its reference differ in the last n
blocks alone, and so do they from one epoch to the next. What the blocks below (the trunk) make of a row depends on the
row. So it is computed once for all of them: of SmolLM2's 30 blocks, 24 are read once and 6 are trained.

A row goes through the trunk alone, never in a batch: bfloat16 rounds by the shape of a batch, and what is kept must not
depend on what happened to stand beside a row, or a run that goes on with nothing kept would come to other numbers.

    body        the network without its head: embeddings, blocks, norm
    forward     of a batch without a cache: the kept states take the place of what the first blocks would give
    otherwise   (generation, a model that computes in parts) the body runs as ever

A model on which this does not come out the same, to the bit, is left as it is: that is tried on the first row (of one
that drops out at random it never does). Adapters that change a base below their first block share nothing.
"""

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cai.core.store import digest_of

LIMIT = 1 << 30  # bytes of states that one process keeps: some 4,000 rows of 200 tokens of SmolLM2


class States:
    """Rows of tokens -> what a trunk gives for them, (T, D); the ones that were asked for last."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit, self.bytes, self.computed = limit, 0, 0
        self._kept: OrderedDict[tuple[str, tuple[int, ...]], Tensor] = OrderedDict()

    def of(self, trunk: str, row: tuple[int, ...], compute: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        """trunk: the name of base, dtype and number of blocks. row: its token ids."""
        key = trunk, row
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self.computed += 1
        states_TD = compute(row)
        self._kept[key] = states_TD
        self.bytes += states_TD.nbytes
        while self.bytes > self.limit:
            self.bytes -= self._kept.popitem(last=False)[1].nbytes
        return states_TD

    def forget(self, trunk: str, row: tuple[int, ...]) -> None:
        """What is kept of a row is not to be relied on."""
        if (states_TD := self._kept.pop((trunk, row), None)) is not None:
            self.bytes -= states_TD.nbytes


def read_once(network: Any, base: str, states: States) -> "Trunk | None":
    """From here on a network with LoRA reads its trunk through `states`. Its trunk, or None where it has none.

    network: as PEFT wraps it, on its device. base: the digest of its base's weights.
    """
    from peft import PeftModel

    if not isinstance(network, PeftModel) or not all(map(_adds_alone, network.peft_config.values())):
        return None
    found = body_of(network.get_base_model())
    if found is None:
        return None
    body, blocks = found
    trunk = vars(body).get("trunk")
    if trunk is None:
        height = _height(body, blocks)
        if not height:
            return None
        name = digest_of([base, str(network.dtype), height])
        trunk = body.__dict__["trunk"] = Trunk(body, blocks, height, name, states)
    return trunk


class Trunk:
    """The first `height` blocks of a body, in whose place stands what they gave before."""

    def __init__(self, body: nn.Module, blocks: nn.ModuleList, height: int, name: str, states: States) -> None:
        self.height, self.name, self.states = height, name, states
        self.sound: bool | None = None  # until it was tried
        self._read: str = "whole"  # or: "below" the height, "above" it
        self._given_BTD: Tensor | None = None
        self._tuple = False  # whether blocks return their states in a tuple
        self._body, self.whole = body, body.forward
        self._names = tuple(inspect.signature(body.forward).parameters)  # heads hand the ids over by their place
        body.forward = _as(self.whole, self._forward)
        for place, block in enumerate(blocks):
            block.forward = _as(block.forward, functools.partial(self._block, place, block.forward))

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        kwargs |= zip(self._names, args, strict=False)
        rows = None if self._read != "whole" or self.sound is False else rows_alone(kwargs)
        if not rows or not self._is_sound(rows[0]):
            return self.whole(**kwargs)
        ids_BT = kwargs["input_ids"]
        kept = torch.cat([self.states.of(self.name, row, self._below) for row in rows])
        given_BTD = kept.new_zeros(*ids_BT.shape, kept.shape[-1])
        mask_BT = kwargs.get("attention_mask")
        given_BTD[torch.ones_like(ids_BT).bool() if mask_BT is None else mask_BT.bool()] = kept
        with self._reading("above", given_BTD):
            return self.whole(**kwargs)

    def _block(self, place: int, own: Callable[..., Any], states_BTD: Tensor, *args: Any, **kwargs: Any) -> Any:
        """One block. Below the height nothing is computed where all was given; above it, where only that is asked."""
        if self._read == "whole" or (self._read == "below") == (place < self.height):
            output = own(states_BTD, *args, **kwargs)
            self._tuple = isinstance(output, tuple)
            return output
        if self._read == "below" and place == self.height:
            self._given_BTD = states_BTD
        elif place == 0:
            assert self._given_BTD is not None
            packed = vars(self._body).get("packed")  # where rows are read without their padding (train/unpadded.py)
            states_BTD = packed.pack(self._given_BTD) if packed else self._given_BTD
        return (states_BTD,) if self._tuple else states_BTD

    @torch.no_grad()
    def _below(self, row: tuple[int, ...]) -> Tensor:
        """The states of one row that enter the block at the height, (T, D)."""
        with self._reading("below", None):
            self.whole(**self._alone(row))
            assert self._given_BTD is not None
            return self._given_BTD[0].detach()

    @torch.no_grad()
    def _is_sound(self, row: tuple[int, ...]) -> bool:
        """Whether a row comes out the same, to the bit, as through the whole body."""
        if self.sound is None:
            alone = self._alone(row)
            whole = self.whole(**alone)[0]
            try:
                below = self.states.of(self.name, row, self._below)
                with self._reading("above", below[None]):
                    self.sound = below.dim() == 2 and torch.equal(self.whole(**alone)[0], whole)
            except Exception:  # whatever a block makes of what those before it did not leave: keys and values, say
                self.sound = False
            if not self.sound:  # others on this base rely on what is kept
                self.states.forget(self.name, row)
        return self.sound

    def _alone(self, row: tuple[int, ...]) -> dict[str, Any]:
        ids_1T = torch.tensor([row], device=next(self._body.parameters()).device)
        return {"input_ids": ids_1T, "attention_mask": torch.ones_like(ids_1T), "use_cache": False}

    @contextmanager
    def _reading(self, what: str, given_BTD: Tensor | None) -> Iterator[None]:
        self._read, self._given_BTD = what, given_BTD
        try:
            yield
        finally:
            self._read, self._given_BTD = "whole", None


def _as(named: Callable[..., Any], does: Callable[..., Any]) -> Callable[..., Any]:
    """A function that looks like another: its signature is asked for."""

    @functools.wraps(named)
    def function(*args: Any, **kwargs: Any) -> Any:
        return does(*args, **kwargs)

    return function


_LOOKED_INTO: list[bool] = []  # how often `looked_into` is entered


@contextmanager
def looked_into() -> Iterator[None]:
    """Within: every block is given all rows of a batch, padding and all, for those who look at what it is given."""
    _LOOKED_INTO.append(True)
    try:
        yield
    finally:
        _LOOKED_INTO.pop()


def rows_alone(kwargs: dict[str, Any]) -> list[tuple[int, ...]] | None:
    """The rows of a batch without their padding; None where they are not all that is read: with a cache, with another
    tensor (embeddings, kinds of tokens), or with places other than those that a row has alone; or where a block is
    looked into."""
    ids_BT, mask_BT = kwargs.get("input_ids"), kwargs.get("attention_mask")
    if _LOOKED_INTO or ids_BT is None or kwargs.get("use_cache") is not False:
        return None
    caches = any(kwargs.get(name) is not None for name in ("cache", "past_key_values"))
    known = ("input_ids", "attention_mask", "position_ids")
    if caches or any(isinstance(value, Tensor) for name, value in kwargs.items() if name not in known):
        return None
    if mask_BT is None:
        mask_BT = torch.ones_like(ids_BT)
    if mask_BT.shape != ids_BT.shape:
        return None
    place_BT = mask_BT.long().cumsum(1) - 1
    positions = kwargs.get("position_ids")
    inside_BT = mask_BT.bool()
    if positions is not None and not torch.equal(positions.expand_as(ids_BT)[inside_BT], place_BT[inside_BT]):
        return None
    # Without holes, the unmasked places of a row are as many as from its first to its last.
    first_B, last_B = mask_BT.long().argmax(1), mask_BT.shape[1] - 1 - mask_BT.long().flip(1).argmax(1)
    count_B = mask_BT.long().sum(1)
    if not bool(((last_B - first_B + 1 == count_B) | (count_B == 0)).all()):
        return None
    ids, starts, counts = ids_BT.tolist(), first_B.tolist(), count_B.tolist()
    return [tuple(row[start : start + count]) for row, start, count in zip(ids, starts, counts, strict=True) if count]


def body_of(network: nn.Module) -> tuple[nn.Module, nn.ModuleList] | None:
    """The module that runs through the blocks, and the blocks; None where that is not plain to see."""
    count = network.config.get_text_config().num_hidden_layers  # pyrefly: ignore
    lists = [
        (module, child)
        for module in network.modules()
        for child in module.children()
        if isinstance(child, nn.ModuleList) and len(child) == count
    ]
    return lists[0] if len(lists) == 1 else None


def _height(body: nn.Module, blocks: nn.ModuleList) -> int:
    """How many blocks, from the first, learn nothing and carry no adapter; 0 where something below them does."""
    of_blocks = {id(module) for module in blocks.modules()}
    if not _still(module for module in body.modules() if id(module) not in of_blocks and module is not body):
        return 0
    return next((place for place, block in enumerate(blocks) if not _still(block.modules())), 0)


def _adds_alone(adapter: Any) -> bool:
    """Whether an adapter's settings leave blocks without one as the base has them: its biases, and their number."""
    return getattr(adapter, "bias", "none") == "none" and not getattr(adapter, "layer_replication", None)


def _still(modules: Iterator[nn.Module]) -> bool:
    """Whether modules are the base's. One that an adapter brought whole (`modules_to_save`) is not, learning or not."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    return not any(
        isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper))
        or any(p.requires_grad for p in module.parameters(recurse=False))
        for module in modules
    )
