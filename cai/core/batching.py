"""Rows of like length together: the one way that batches are made, for generation, judging and scoring."""

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
