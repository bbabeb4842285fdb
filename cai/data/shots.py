"""Worked examples drawn from what people have judged: for a judge to see how they judge, for a policy how to answer.

Only pairs of the training split are drawn from: no held-out prompt is ever among the examples. The draw is by hash, of
prompts first and then of one pair of each, so that n examples are the first n of n + 1, and another pair in the data
moves one of them at most. A prompt is never shown among its own examples: the judge would be told what to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Chat, Message, Pair, Prompt, read_jsonl
from cai.core.store import Artifact


@dataclass(frozen=True, slots=True)
class Shots:
    """data: the folder whose pairs people have judged. count: of examples. seed: of the draw. key: that asks for it."""

    data: Artifact
    count: int
    seed: int
    key: str = "judge.shots"

    def pairs(self, prompt: Prompt) -> tuple[Pair, ...]:
        """The examples for a prompt. Raises UserError where there are too few."""
        others = [pair for pair in _ordered(self.data.path, self.seed) if pair.prompt.id != prompt.id]
        if len(others) < self.count:
            raise too_few(self.key, self.count, len(others))
        return tuple(others[: self.count])

    def chat(self, prompt: Prompt) -> Chat:
        """The prompt's conversation behind others, each with the answer that people prefer."""
        shown = [turn for pair in self.pairs(prompt) for turn in _answered(pair)]
        start = int(bool(prompt.messages) and prompt.messages[0].role == "system")
        return (*prompt.messages[:start], *shown, *prompt.messages[start:])


def too_few(key: str, wanted: int, there: int) -> UserError:
    problem = f"{wanted} examples are wanted, and people's verdicts on {there} other training prompts are there"
    return UserError(problem, key, "lower it, or give data with more pairs that people have judged")


def ordered(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """One judged pair of each training prompt, in the order of the draw."""
    judged = [p for p in pairs if p.prompt.split == "train" and p.human is not None and p.human != 0.5]
    judged.sort(key=lambda pair: uniform("shot of", seed, pair.id), reverse=True)
    of = {pair.prompt.id: pair for pair in judged}  # the last one stands: the least draw
    return sorted(of.values(), key=lambda pair: uniform("shots", seed, pair.prompt.id))


@lru_cache(maxsize=8)
def _ordered(folder: Path, seed: int) -> tuple[Pair, ...]:
    return tuple(ordered(read_jsonl(folder / "pairs.jsonl", Pair), seed))


def sides(pair: Pair) -> tuple[str, str]:
    """(the answer that people prefer, the other)."""
    assert pair.human is not None
    return (pair.a, pair.b) if pair.human > 0.5 else (pair.b, pair.a)


def _answered(pair: Pair) -> Chat:
    conversation = tuple(turn for turn in pair.prompt.messages if turn.role != "system")
    return (*conversation, Message("assistant", sides(pair)[0]))
