"""Rows of like length together: the one way that batches are made, for generation, judging and scoring."""

from collections.abc import Iterator, Sequence


def by_length(
    indices: Sequence[int],
    lengths: Sequence[int],
    batch_tokens: int,
    *,
    rows: Sequence[int] | None = None,
    padding: float = 1.0,
) -> Iterator[list[int]]:
    """Batches of `indices`, longest first, so that too little memory shows at once and not after an hour.

    lengths: tokens of each row. batch_tokens: at most this many in a batch, padding included (a longer row goes alone).
    rows:    how many rows of that length an index needs; one where it is not given.
    padding: the share of a batch that may be padding. One forward pass costs what its tokens cost, so there it should
             be small; generation costs its steps, however many rows take part, so there any padding is worth it.
    """
    batch: list[int] = []
    width = total = used = 0
    for index in sorted(indices, key=lambda index: -lengths[index]):
        more = rows[index] if rows else 1
        full = (total + more) * width > batch_tokens
        wasteful = (used + more * lengths[index]) < (1 - padding) * (total + more) * width
        if batch and (full or wasteful):
            yield batch
            batch, total, used = [], 0, 0
        width = width if batch else lengths[index]
        batch.append(index)
        total, used = total + more, used + more * lengths[index]
    if batch:
        yield batch
