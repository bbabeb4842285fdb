"""Documents packed into blocks of equal length for next-token prediction, so that no token is lost.

Documents, each with the token that ends it, stand one behind the other, and the stream is cut into blocks. Each block
begins with the last token of the one before it, which it reads and does not predict: every token but the first of all
is predicted once. The last block is filled up with padding that is not learnt. Attention crosses the ends of documents
in a block, as in GPT-3 (Brown et al. 2020, appendix B).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from cai.data.texts import Document
from cai.models.vocabulary import document_ids

UNLEARNT = -100  # the label of what is not learnt


def packed(tokenizer: Any, documents: Sequence[Document], context: int) -> list[dict[str, list[int]]]:
    """Rows of `context` input_ids, labels and attention_mask, as a Trainer takes them."""
    stream = [token for document in documents for token in document_ids(tokenizer, document.text)]
    return rows_of(stream, context, tokenizer.pad_token_id)


def rows_of(stream: Sequence[int], context: int, pad: int) -> list[dict[str, list[int]]]:
    """As `packed`, of documents that are tokens already, one behind the other."""
    return [_row(block, context, pad) for block in blocks_of(stream, context)]


def blocks_of(stream: Sequence[int], context: int) -> Iterator[list[int]]:
    """Each begins with the last token of the one before; the last one may be shorter. stream: two tokens or more."""
    for start in range(0, len(stream) - 1, context - 1):
        yield list(stream[start : start + context])


def _row(block: list[int], context: int, pad: int) -> dict[str, list[int]]:
    fill = context - len(block)
    return {
        "input_ids": block + [pad] * fill,
        "labels": block + [UNLEARNT] * fill,
        "attention_mask": [1] * len(block) + [0] * fill,
    }


def learnt_tokens(rows: Sequence[dict[str, list[int]]]) -> int:
    """Tokens that are predicted: all of a row but its first and its filling."""
    return sum(sum(row["attention_mask"]) - 1 for row in rows)
