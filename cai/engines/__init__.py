"""Two verbs for every model, wherever it runs: `generate` answers and `choose` between given options.

An engine yields its results batch by batch, so that the call cache (cached.py) keeps each batch the moment it is done.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from cai.records import Chat


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to be generated. seed: the draw depends on it and the chat alone, never on the rest of a batch."""

    chat: Chat
    seed: int


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    finish: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Question:
    """Options to choose from as the next words of the assistant's turn, after `lead` (words put into its mouth).

    An option is text, space and all: " (A)" and "(A)" are different tokens and are told apart.
    """

    chat: Chat
    options: tuple[str, ...]
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """logprobs: log P(option | chat), natural log, one for each option, over the model's whole vocabulary."""

    logprobs: tuple[float, ...]

    @property
    def mass(self) -> float:
        """The share of probability that the options have together: what is missing went to other words.

        Of options none of which begins another one: the probability of "Yes!" is part of that of "Yes".
        """
        return math.fsum(math.exp(value) for value in self.logprobs)


class Engine(Protocol):
    """identity: stands for weights, dtype and default system prompt in the key of every call."""

    identity: str

    def prompt_ids(self, chat: Chat) -> list[int]:
        """The chat as the model sees it, opened for an answer."""
        ...

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[tuple[int, Reply | None]]]:
        """(index, reply) in batches, in any order; None for a chat that leaves no room for an answer."""
        ...

    def choose(self, questions: Sequence[Question], max_length: int) -> Iterator[list[tuple[int, Reading | None]]]:
        """(index, reading) in batches, in any order; None for a question longer than max_length tokens."""
        ...
