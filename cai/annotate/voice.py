"""The policy that a person talks to: several answers to one conversation, with the features that they are ranked by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cai.core.records import Chat
from cai.models.chat import chat_ids, with_system
from cai.models.engines import Sampling
from cai.models.engines.sampling import sample_ids, stop_ids
from cai.models.loading import load_causal, load_tokenizer
from cai.models.references import Dtype, ModelRef
from cai.train.live.features import AnswerFeatures
from cai.train.live.reward import read_answers


@dataclass(frozen=True, slots=True)
class Drawn:
    """One answer. tokens: without what ends the turn. pieces: their texts. read: its features."""

    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    read: AnswerFeatures


class Voice:
    """A policy, frozen. Draws depend on their own seed alone, so the same conversation can be had again."""

    def __init__(
        self, model: ModelRef, *, dtype: Dtype, device: str, system: str | None, sampling: Sampling, batch_tokens: int
    ) -> None:
        self.tokenizer: Any = load_tokenizer(model)
        self.model: Any = load_causal(model, dtype, device).eval()  # pyrefly: ignore
        self.digest, self.system, self.sampling, self.batch_tokens = model.digest, system, sampling, batch_tokens
        limit = getattr(self.model.config, "max_position_embeddings", None) or 2**31
        self.room = limit - sampling.max_new_tokens  # tokens of a conversation
        self._stops = stop_ids(self.model, self.tokenizer)

    def ids(self, chat: Chat) -> list[int]:
        return chat_ids(self.tokenizer, with_system(chat, self.system), answer=True)

    @torch.inference_mode()
    def answers(self, chat: Chat, seeds: Sequence[int]) -> list[Drawn]:
        """One answer for each seed, in one batch."""
        ids = self.ids(chat)
        drawn = sample_ids(
            self.model, [ids] * len(seeds), seeds, self.sampling, self.tokenizer.pad_token_id, self._stops
        )
        tokens = [tuple(token for token in answer if token not in self._stops) for answer in drawn]
        read = self.read([(chat, answer) for answer in tokens])
        return [
            Drawn(answer, pieces(self.tokenizer, answer), features)
            for answer, features in zip(tokens, read, strict=True)
        ]

    def read(self, answers: Sequence[tuple[Chat, Sequence[int]]]) -> list[AnswerFeatures]:
        """The features of each answer to a conversation."""
        chats = [(with_system(chat, self.system), tokens) for chat, tokens in answers]
        return read_answers(self.model, self.tokenizer, chats, self.batch_tokens)


def pieces(tokenizer: Any, tokens: Sequence[int]) -> tuple[str, ...]:
    """The text that each token adds. A character that several tokens make comes with the last of them."""
    made, done = [], ""
    for end in range(1, len(tokens) + 1):
        text = tokenizer.decode(list(tokens[:end]))
        # U+FFFD at the end stands for the beginning of a character; at the end of the answer it stays one.
        whole = text if end == len(tokens) else text.rstrip("\ufffd")
        made.append(whole[len(done) :] if whole.startswith(done) else "")
        done = whole if whole.startswith(done) else done
    return tuple(made)
