"""The one way a reward model sees a conversation: reward training, PPO and evaluation all read it through here.

Two things silently ruin a reward model when they differ between training and use: the text that is rendered (is there a
line break after the end-of-turn token?) and the position at which the scalar is read. `render_scored` fixes the first,
`score` the second: the value is read at the last token of the rendered conversation, in every batch.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from cai.core.batching import by_length, in_order
from cai.core.errors import UserError
from cai.core.records import Chat
from cai.models.chat import chat_text, encoded

if TYPE_CHECKING:  # transformers speaks when imported: whoever loads models silences it first (cai/models/loading.py)
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def render_scored(tokenizer: "PreTrainedTokenizerBase", chat: Chat) -> list[int]:
    """Token ids of a whole conversation that ends with the assistant's answer, without a generation prompt."""
    return next(render_all_scored(tokenizer, [chat]))


def render_all_scored(tokenizer: "PreTrainedTokenizerBase", chats: Iterable[Chat]) -> Iterator[list[int]]:
    """`render_scored` of each, in their order."""

    def text_of(chat: Chat) -> str:
        assert chat and chat[-1].role == "assistant", "a reward model scores an answer, the assistant's last turn"
        return chat_text(tokenizer, chat, answer=False)

    return encoded(tokenizer, map(text_of, chats))


def score(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    chats: Sequence[Chat],
    *,
    max_length: int,
    batch_tokens: int,
    progress: Callable[[int], None] | None = None,
    packs: bool = False,
) -> list[float | None]:
    """Scalar reward of each chat, in the order given; None for a chat of more than `max_length` tokens.

    model: a sequence-classification model with one label, plain or wrapped by PEFT.
    batch_tokens: at most this many tokens, padding included, in one forward (a single longer chat goes alone).
    progress: called after each batch with the number of chats it scored.
    packs: whether the model reads batches without padding, and what neighbours begin with once (train/unpadded.py).
    """
    rows = list(render_all_scored(tokenizer, chats))
    limits: dict[str, Any] = {"max_length": max_length, "batch_tokens": batch_tokens}
    return score_rows(model, tokenizer, rows, **limits, progress=progress, packs=packs)


def score_rows(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[list[int]],
    *,
    max_length: int,
    batch_tokens: int,
    progress: Callable[[int], None] | None = None,
    packs: bool = False,
) -> list[float | None]:
    """`score` of already rendered rows."""
    assert model.config.num_labels == 1, "a reward model has one label"
    rewards: list[float | None] = [None] * len(rows)
    fitting = [i for i, ids in enumerate(rows) if len(ids) <= max_length]
    was_training = model.training
    model.eval()
    try:
        lengths = [len(ids) for ids in rows]
        like = by_length(fitting, lengths, batch_tokens, padding=0.1)
        for batch in in_order(fitting, lengths, batch_tokens) if packs else like:
            for i, reward in zip(batch, score_ids(model, tokenizer, [rows[i] for i in batch]), strict=True):
                rewards[i] = finite(reward, model)
            if progress is not None:
                progress(len(batch))
    finally:
        model.train(was_training)
    return rewards


def finite(reward: float, model: "PreTrainedModel") -> float:
    """The reward itself. Raises UserError where it is no number: a model that diverged would make of every answer one
    that it could not read."""
    if not math.isfinite(reward):
        remedy = "train it again with a lower learning rate, or name another"
        raise UserError(f"a reward model gives {reward} to an answer: it diverged", model.name_or_path or "", remedy)
    return reward


@torch.no_grad()
def score_ids(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", rows: list[list[int]]) -> list[float]:
    """Rewards of already rendered rows, in one right-padded batch.

    transformers reads the logit at the last token that is not the padding token. That is the last real token exactly
    when no row ends with the padding token, so such a batch is padded with another one: the mask hides it anyway.
    """
    ends = {row[-1] for row in rows}
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    assert isinstance(pad, int) and pad != eos, f"the padding token ({pad}) must exist and differ from eos ({eos})"
    if pad in ends:
        pad = next(token for token in range(len(ends) + 1) if token not in ends)
    model.config.get_text_config().pad_token_id = pad
    device = next(model.parameters()).device
    width = max(len(row) for row in rows)
    ids_BT = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=device)
    mask_BT = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    rewards_B = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits.squeeze(-1)
    return rewards_B.float().tolist()
