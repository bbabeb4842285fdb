"""A batch is read without its padding, and what its rows begin with in common is read once.

Rows of a batch differ in length, and the two answers of a pair stand behind the same prompt. So the tokens of all rows
go through the network as one row: each token once for all the rows that begin alike up to it (a trie), at the place
that it has in its own row. Only attention looks from one token at another, so there alone they stand in rows again:

    rows        (B, W) tokens, filled up on the right, where causal attention looks at nothing that is filled up; on a
                CPU each row by itself, because attention and its gradient take a third of a step there
    packed      (N,) tokens, N <= the number of unpadded ones
    body        the network without its head; its callers get padded states, as ever

Of the rated answers of the quickstart, in batches of 8 pairs, half of what is read is padding or a prompt read twice.

How attention is computed stays the model's own (SDPA), put between the two gatherings by transformers' interface for
attention functions. A model that does not go through it, or that mixes tokens elsewhere too (recurrent states,
convolutions, windows shorter than a row, places that are counted by itself) is found out by trying, and reads padded
batches. Gradients of what is shared are added up in float32.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cai.models.architectures import attention_window
from cai.models.trunk import body_of, rows_alone

NAME = "rows_of_packed"  # of our attention function
WORTH = 0.95  # of the places of a padded batch: where more are left, it is read as it is
WITHIN = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}  # relative, of states; a wrong place: over 0.3


def trie(rows: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """For each row: an earlier one that it begins like (itself where there is none), and for how many tokens."""
    parents, shared = [], []
    for place, row in enumerate(rows):
        longest = [(_common(row, rows[other]), -other) for other in range(place)]
        count, other = max(longest, default=(0, -place))
        parents.append(-other if count else place)
        shared.append(count)
    return parents, shared


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


class PackedRows:
    """Where the tokens of a batch are in the one row that is read.

    ids, positions: (1, N). padded: whether the caller's mask shows a place, (B, T) flattened to the places shown.
    """

    def __init__(self, rows: Sequence[Sequence[int]], mask_BT: Tensor) -> None:
        device = mask_BT.device
        self.parents, self.shared = trie(rows)
        self.lengths = [len(row) for row in rows]
        self.width = width = max(self.lengths)
        ids: list[int] = []
        positions: list[int] = []
        first: list[int] = []  # of each packed token, its first place in the rows, flattened
        places: list[list[int]] = []
        for number, (row, parent, count) in enumerate(zip(rows, self.parents, self.shared, strict=True)):
            fresh = range(len(ids), len(ids) + len(row) - count)
            places.append([*(places[parent][:count] if count else ()), *fresh, *[0] * (width - len(row))])
            ids += row[count:]
            positions += range(count, len(row))
            first += range(number * width + count, number * width + len(row))
        self.ids, self.positions = (torch.tensor([numbers], device=device) for numbers in (ids, positions))
        self.first_N = torch.tensor(first, device=device)
        self.place_R = torch.tensor(places, device=device).flatten()
        # The caller's places: its rows may be padded on the left.
        shown_BT = mask_BT.bool()
        own_M = torch.tensor([k for row, at in zip(rows, places, strict=True) for k in at[: len(row)]], device=device)
        self.caller_BT = torch.zeros_like(mask_BT, dtype=torch.long).masked_scatter(shown_BT, own_M)
        spots = torch.arange(mask_BT.numel(), device=device).view_as(mask_BT)[shown_BT]
        # Of a token's places the first: what is there is alike, and yet not to the bit where rows were read alone.
        beyond_N = torch.full_like(self.first_N, mask_BT.numel())
        self.caller_first_N = beyond_N.scatter_reduce(0, own_M, spots, "amin")
        self.mask_BT = shown_BT

    def pack(self, states_BTD: Tensor) -> Tensor:
        """(1, N, D) of the caller's (B, T, D), which need no gradient."""
        return states_BTD.flatten(0, 1).index_select(0, self.caller_first_N)[None]

    def rows(self, packed_NX: Tensor) -> Tensor:
        """(B, W, ...) of (N, ...)."""
        return _ToRows.apply(packed_NX, self)

    def packed(self, rows_BWX: Tensor) -> Tensor:
        """(N, ...) of (B, W, ...)."""
        return _ToPacked.apply(rows_BWX, self.first_N)

    def gradient(self, rows_BWX: Tensor) -> Tensor:
        """(N, ...): each token's, over all the rows that have it."""
        if any(self.shared):
            total = rows_BWX.to(torch.float32, copy=True) if rows_BWX.dtype.itemsize < 4 else rows_BWX.clone()
            for row in range(len(self.shared) - 1, -1, -1):  # what a row was given by a later one goes on to its parent
                if count := self.shared[row]:
                    total[self.parents[row], :count] += total[row, :count]
        else:
            total = rows_BWX
        return total.flatten(0, 1).index_select(0, self.first_N).to(rows_BWX.dtype)


class _ToRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, packed_NX: Tensor, layout: PackedRows) -> Tensor:
        ctx.layout = layout
        gathered = packed_NX.index_select(0, layout.place_R)
        return gathered.view(-1, layout.width, *packed_NX.shape[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.layout.gradient(gradients[0]), None


class _ToPacked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_BWX: Tensor, first_N: Tensor) -> Tensor:
        ctx.save_for_backward(first_N)
        ctx.shape = rows_BWX.shape
        return rows_BWX.flatten(0, 1).index_select(0, first_N)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (first_N,) = ctx.saved_tensors
        rows = gradients[0].new_zeros(ctx.shape)
        rows.view(-1, *ctx.shape[2:]).index_copy_(0, first_N, gradients[0])
        return rows, None


class _ToCaller(torch.autograd.Function):
    """(B, T, D) of (N, D), where the caller has its padding; zeros there."""

    @staticmethod
    def forward(ctx: Any, packed_ND: Tensor, layout: PackedRows) -> Tensor:
        ctx.layout, ctx.count = layout, len(packed_ND)
        states_BTD = packed_ND.index_select(0, layout.caller_BT.flatten()).view(*layout.caller_BT.shape, -1)
        return states_BTD * layout.mask_BT[..., None]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        layout, (states_BTD,) = ctx.layout, gradients
        mask_M = layout.mask_BT.flatten()
        total_ND = states_BTD.new_zeros((ctx.count, states_BTD.shape[-1]), dtype=torch.float32)
        total_ND.index_add_(0, layout.caller_BT.flatten()[mask_M], states_BTD.flatten(0, 1)[mask_M].float())
        return total_ND.to(states_BTD.dtype), None


def _attention(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any) -> Any:
    """The model's own attention over rows. query, key, value: (1, heads, N, width)."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    layout = _READING[-1]
    assert attention_mask is None, "this model masks attention in its own way"
    given = [layout.rows(states[0].transpose(0, 1)) for states in (query, key, value)]
    if query.device.type != "cpu":  # one call, whatever the filling costs
        q, k, v = (states.transpose(1, 2) for states in given)
        output, weights = sdpa_attention_forward(module, q, k, v, None, **kwargs)
        return layout.packed(output)[None], weights
    fresh: list[Tensor] = []
    for number, row in enumerate(zip(*(states.unbind(0) for states in given), strict=True)):
        q, k, v = (states[: layout.lengths[number]].transpose(0, 1)[None] for states in row)
        output, _ = sdpa_attention_forward(module, q, k, v, None, **kwargs)
        fresh.append(output[0, layout.shared[number] :])
    return torch.cat(fresh)[None], None


_READING: list[PackedRows] = []  # the batch that is being read


class Unpadded:
    """A body that reads batches packed. whole: its own forward. on: whether it does."""

    def __init__(self, body: nn.Module, whole: Callable[..., Any]) -> None:
        self.on, self.read, self._body, self._whole = True, 0, body, whole
        self.window = attention_window(body.config)
        self._names = tuple(inspect.signature(whole).parameters)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        kwargs |= zip(self._names, args, strict=False)
        layout = self._layout(kwargs) if self.on else None
        if layout is None:
            return self._whole(**kwargs)
        left_out = ("input_ids", "attention_mask", "position_ids")
        others = {name: value for name, value in kwargs.items() if name not in left_out}
        with self._reading(layout):
            output = self._whole(input_ids=layout.ids, attention_mask=None, position_ids=layout.positions, **others)
        output.last_hidden_state = _ToCaller.apply(output.last_hidden_state[0], layout)
        self.read += 1
        return output

    def _layout(self, kwargs: dict[str, Any]) -> PackedRows | None:
        """None where the batch is to be read as it is."""
        more = ("output_hidden_states", "output_attentions")
        if any(kwargs.get(name) for name in more) or kwargs.get("return_dict") is False:
            return None
        rows, ids_BT = rows_alone(kwargs), kwargs.get("input_ids")
        if rows is None or len(rows) < 2 or ids_BT is None or max(map(len, rows)) > self.window:
            return None
        mask_BT = kwargs.get("attention_mask")
        layout = PackedRows(rows, torch.ones_like(ids_BT) if mask_BT is None else mask_BT)
        return layout if layout.ids.numel() <= WORTH * ids_BT.numel() else None

    @contextmanager
    def _reading(self, layout: PackedRows) -> Iterator[None]:
        config: Any = self._body.config
        before = config._attn_implementation
        config._attn_implementation = NAME
        _READING.append(layout)
        self._body.__dict__["packed"] = layout
        try:
            yield
        finally:
            del self._body.__dict__["packed"]
            _READING.pop()
            config._attn_implementation = before


def read_unpadded(network: Any) -> Unpadded | None:
    """From here on a network reads batches packed; None, and nothing is changed, where it does not come out the same.

    network: on its device, with or without an adapter.
    """
    from transformers import AttentionInterface

    base = network.get_base_model() if hasattr(network, "get_base_model") else network
    found = body_of(base)
    if found is None or getattr(getattr(found[0], "config", None), "_attn_implementation", None) != "sdpa":
        return None
    body = found[0]
    trunk = vars(body).get("trunk")  # which takes rows as they are: what reads them packed stands beneath it
    own = trunk.whole if trunk else body.forward
    AttentionInterface.register(NAME, _attention)
    unpadded = Unpadded(body, own)
    if not _comes_out_alike(unpadded, own):
        return None
    unpadded.read = 0
    packs = functools.wraps(own)(lambda *args, **kwargs: unpadded.forward(*args, **kwargs))
    if trunk:
        trunk.whole = packs
    else:
        body.forward = packs
    return unpadded


@torch.no_grad()
def _comes_out_alike(unpadded: Unpadded, own: Callable[..., Any]) -> bool:
    """Whether rows of three lengths, two of which begin alike, come out as they do from padded batches."""
    body = unpadded._body
    vocabulary = body.config.get_text_config().vocab_size  # pyrefly: ignore
    device = next(body.parameters()).device
    same = [(11 * k + 2) % vocabulary for k in range(1, 20)]
    rows = [[*same, *((7 * k + 1) % vocabulary for k in range(1, 12))], [*same, 3], [5, 6, 4]]
    ids_BT, mask_BT = torch.zeros(3, 30, dtype=torch.long), torch.zeros(3, 30, dtype=torch.long)
    for place, row in enumerate(rows):
        ids_BT[place, : len(row)], mask_BT[place, : len(row)] = torch.tensor(row), 1
    batch = {"input_ids": ids_BT.to(device), "attention_mask": mask_BT.to(device), "use_cache": False}
    training = body.training
    body.eval()
    try:
        packed = unpadded.forward(**batch).last_hidden_state[mask_BT.bool().to(device)].float()
        padded = own(**batch).last_hidden_state[mask_BT.bool().to(device)].float()
    except Exception:  # whatever a model makes of places that it was given, or of no mask
        return False
    finally:
        body.train(training)
    off = (packed - padded).norm(dim=-1) / padded.norm(dim=-1).clamp(min=1e-6)
    return unpadded.read == 1 and bool(off.max() <= WITHIN.get(_dtype(body), 0.1))


def _dtype(body: nn.Module) -> torch.dtype:
    return next(body.parameters()).dtype
