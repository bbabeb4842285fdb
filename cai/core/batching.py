"""Rows of like length together: the one way that batches are made, for generation, judging and scoring. But where a
model reads no padding, and what rows begin with once, rows stay in their order, beside those they begin like."""

from collections.abc import Iterator, Sequence


def by_length(
    indices: Sequence[int], lengths: Sequence[int], batch_tokens: int, *, padding: float = 1.0
) -> Iterator[list[int]]:
    """Batches of `indices`, longest first, so that too little memory shows at once and not after an hour.

    lengths: tokens of each row. batch_tokens: at most this many in a batch, padding included (a longer row goes alone).
    padding: the share of a batch that may be padding. One forward pass costs what its tokens cost, so there it should
             be small; generation costs its steps, however many rows take part, so there any padding is worth it.
    """
    batch: list[int] = []
    width = used = 0
    for index in sorted(indices, key=lambda index: -lengths[index]):
        whole = (len(batch) + 1) * width
        if batch and (whole > batch_tokens or used + lengths[index] < (1 - padding) * whole):
            yield batch
            batch, used = [], 0
        width = width if batch else lengths[index]
        batch.append(index)
        used += lengths[index]
    if batch:
        yield batch


def in_order(indices: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Batches of `indices` as they come, each of at most `batch_tokens`, padding included (a longer row goes alone)."""
    batch: list[int] = []
    width = 0
    for index in indices:
        wider = max(width, lengths[index])
        if batch and (len(batch) + 1) * wider > batch_tokens:
            yield batch
            batch, wider = [], lengths[index]
        width = wider
        batch.append(index)
    if batch:
        yield batch
