"""Many token sequences as a few rows: what neighbouring sequences have in common is read once ("tree attention").

A row is a trie of sequences in depth-first order. Each token is one node: its position is its depth, and it sees its
ancestors and itself alone, so a forward pass computes for it what it would compute in a row of its own (SpecInfer, Miao
et al. 2024, section 4.2, reads a tree of guesses so). Depth-first order makes the mask two comparisons: node j is seen
by node i where j <= i < ends[j].
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

BLOCK = 128  # queries that attend together on a CPU
SAVES = 4  # a sequence joins a row where it finds at least one in SAVES of its tokens there already


@dataclass(frozen=True, slots=True)
class Span:
    """What is asked: log P(ids[begin:] | ids[:begin]). The last token is predicted and never read."""

    ids: tuple[int, ...]
    begin: int

    def __post_init__(self) -> None:
        assert 0 < self.begin < len(self.ids), (self.begin, len(self.ids))


@dataclass(slots=True)
class TreeRow:
    """tokens, depths: of each node, in depth-first order. ends: one past the last node of the subtree below each.

    asked: (index of a span, the nodes that predict its tokens, one a token).
    """

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    asked: list[tuple[int, list[int]]] = field(default_factory=list)

    @property
    def plain(self) -> bool:
        """One sequence, which an ordinary causal mask reads rightly."""
        return not self.depths or self.depths[-1] == len(self.depths) - 1

    @property
    def predictors(self) -> list[int]:
        """The nodes that predict a token that is asked about, each once."""
        return sorted({node for _, nodes in self.asked for node in nodes})

    def add(self, index: int, span: Span, path: list[int], same: int) -> list[int]:
        """Read a span whose first `same` tokens are the first nodes of `path`; returns the nodes of its own path."""
        fresh = span.ids[same:-1]
        path = [*path[:same], *range(len(self.tokens), len(self.tokens) + len(fresh))]
        self.tokens += fresh
        self.depths += range(same, same + len(fresh))
        end = len(self.tokens)
        self.ends += [end] * len(fresh)
        if same and path[same - 1] == same - 1:  # the row's first nodes: in one go, as they are many
            self.ends[:same] = [end] * same
        else:
            for node in path[:same]:
                self.ends[node] = end
        self.asked.append((index, path[span.begin - 1 :]))
        return path


def pack(spans: Sequence[Span], row_tokens: int, most: int, *, share: bool = True) -> list[TreeRow]:
    """Rows that read every span. Equal sequences, and those that only begin another one, cost nothing.

    row_tokens: how wide a row of several sequences may be, or twice its first sequence where that is more.
    most:       no row of several sequences is wider. share: False gives each sequence a row of its own.
    """
    rows: list[TreeRow] = []
    path: list[int] = []  # the nodes of the sequence before
    before: tuple[int, ...] = ()
    room = 0  # the greatest width of this row
    # Sorted, sequences stand next to those with which they have most in common, and a beginning before what it begins.
    for index in sorted(range(len(spans)), key=lambda index: spans[index].ids[:-1]):
        ids = spans[index].ids[:-1]
        same = _common(before, ids)
        goes_on = bool(rows) and same == len(before) and (rows[-1].plain or same == len(ids))
        joins = share and SAVES * same >= len(ids) and len(rows[-1].tokens) + len(ids) - same <= room
        if not (goes_on or joins):
            rows.append(TreeRow())
            same, room = 0, min(max(row_tokens, 2 * len(ids)), most)
        path = rows[-1].add(index, spans[index], path, same)
        before = ids
    return rows


def _common(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """How many tokens both begin with. By halves: Python compares two slices much faster than their tokens."""
    same, apart = 0, min(len(first), len(second)) + 1
    while apart - same > 1:
        middle = (same + apart) // 2
        same, apart = (middle, apart) if first[same:middle] == second[same:middle] else (same, middle)
    return same


def tree_mask(rows: Sequence[TreeRow], dtype: torch.dtype, device: Any = "cpu") -> torch.Tensor:
    """What is added to the attention scores, (B, 1, T, T): 0 where a token sees another, the lowest number elsewhere.

    Made on the device: what goes there is a number a node. Rows are padded on the right; padding sees itself, because a
    softmax over nothing is not a number.
    """
    width = max(len(row.tokens) for row in rows)
    ends_BT = torch.tensor([row.ends + list(range(len(row.ends) + 1, width + 1)) for row in rows], device=device)
    node_T = torch.arange(width, device=device)
    # query i, key j: j <= i < ends[j]
    sees_BTT = (node_T[None, None, :] <= node_T[None, :, None]) & (node_T[None, :, None] < ends_BT[:, None, :])
    mask_BTT = torch.full(sees_BTT.shape, torch.finfo(dtype).min, dtype=dtype, device=device)
    mask_BTT.masked_fill_(sees_BTT, 0.0)
    return mask_BTT[:, None]


def blocks(row: TreeRow, size: int) -> list[tuple[int, int, list[int]]]:
    """(first query, one past the last, the keys that any of them sees), for every `size` queries of a row."""
    cut = [(start, min(start + size, len(row.tokens))) for start in range(0, len(row.tokens), size)]
    return [(start, end, [j for j in range(end) if row.ends[j] > start]) for start, end in cut]


@contextmanager
def block_attention(rows: Sequence[TreeRow], mask_B1TT: torch.Tensor) -> Iterator[None]:
    """While this is entered, `sdpa` attention computes no score that the mask only throws away.

    Of a row of 16 branches most of the T x T scores are thrown away. For a CPU (on a GPU one large call is the better
    one): each block of queries attends to the keys that it sees. SmolLM2-135M, 4 pairs by 16 principles, one thread,
    bfloat16: `rate` 14.5 s without this and 9.2 s with it, `choice` 13.7 s and 10.7 s. A model that takes its attention
    from elsewhere reads the whole mask, with the same outcome.
    """
    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]
    plan = [
        (b, start, end, keys, mask_B1TT[b : b + 1, :, start:end, keys])
        for b, row in enumerate(rows)
        for start, end, keys in ((s, e, torch.tensor(k)) for s, e, k in blocks(row, BLOCK))
    ]

    def attend(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **more: Any) -> Any:
        out_BTHD = query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1])
        for b, start, end, keys, mask_11QK in plan:
            some = slice(b, b + 1)
            q, k, v = query[some, :, start:end], key[some].index_select(2, keys), value[some].index_select(2, keys)
            out_BTHD[some, start:end] = plain(module, q, k, v, mask_11QK, **more)[0]
        return out_BTHD, None

    ALL_ATTENTION_FUNCTIONS["sdpa"] = attend
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = plain
