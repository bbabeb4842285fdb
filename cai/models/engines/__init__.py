"""Two verbs for every model, wherever it runs: `generate` answers and `choose` between given options.

An engine yields its results batch by batch, so that the call cache (cached.py) keeps each batch the moment it is done.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from cai.core.records import Chat


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to be generated. seed: the draw depends on it and the chat alone, never on the rest of a batch.

    options: what the answer is to be one of; an engine that can hold it to them (structured output) does.
    """

    chat: Chat
    seed: int
    options: tuple[str, ...] = ()


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
    """logprobs: of each option, log P(the reply begins with it and with no longer option that goes on from it).

    Natural log, over the model's whole vocabulary. Of "Yes" and "Yes, sir" the first is P("Yes") - P("Yes, sir"): the
    options of a question exclude one another.

    fault: why there are none, where the engine could not read them; nothing is then made up.
    """

    logprobs: tuple[float, ...]
    fault: str = ""

    @property
    def mass(self) -> float:
        """The share of probability that the options have together, in [0, 1]: what is missing went to other words.

        0 where they could not be read.
        """
        return math.fsum(math.exp(value) for value in self.logprobs)


LEAST = 1e-9  # the least share of an option's probability that the longer options leave to it: its log stays finite


def reading(tails: Sequence[Sequence[int]], logps: Sequence[float]) -> Reading:
    """From log P(the reply begins with the option), one for each, to options that exclude one another.

    tails: the token ids of each option. "1" loses the probability of "10" where that is tokenised 1, 0, and none where
    it is a token of its own. Only the direct longer options count: what goes on from "10" is part of "10" already.
    """
    left = []
    for direct, logp in zip(longer_options(tails), logps, strict=True):
        # In logarithms, because whole answers have probabilities that no float can hold.
        taken = math.fsum(math.exp(min(logps[k] - logp, 0.0)) for k in direct)
        left.append(logp + math.log1p(-min(taken, 1 - LEAST)))
    return Reading(tuple(left))


def longer_options(tails: Sequence[Sequence[int]]) -> list[list[int]]:
    """Of each option, the places of the direct longer ones: those that go on from it and from no longer one."""
    longer = [[k for k, other in enumerate(tails) if _goes_on(other, tail)] for tail in tails]
    return [[k for k in own if not any(_goes_on(tails[k], tails[between]) for between in own)] for own in longer]


def _goes_on(long: Sequence[int], short: Sequence[int]) -> bool:
    return len(long) > len(short) and list(long[: len(short)]) == list(short)


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
