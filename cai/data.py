"""What all data here is made of: pairs, splits and draws that depend on contents alone.

Splits are by prompt, so that no prompt is in both train and test; the order in which the two answers of a pair are
shown is drawn by hash, so that "a" is not the better one more often than "b". Where prompts and pairs come from is in
cai/sources.py.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from cai.errors import UserError
from cai.records import Pair, Prompt, Rating, SetAside, Split
from cai.settings import Data
from cai.store import digest_of


@dataclass
class Material:
    """What a source holds. counts: what was read and why rows were left out."""

    prompts: dict[str, Prompt] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)
    ratings: list[Rating] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
    aside: list[SetAside] = field(default_factory=list)

    def add(self, pair: Pair, where: str = "") -> None:
        """A pair that was judged before gets the new votes beside the old ones: an id stands for one pair."""
        known = self.pairs.setdefault(pair.id, pair)
        if known is pair:
            return
        if (known.prompt, known.a, known.b) != (pair.prompt, pair.a, pair.b):
            raise UserError(f'two different pairs share the id "{pair.id}"', where, "give each pair its own id")
        self.counts["pairs that stand more than once"] += 1
        votes = known.votes + pair.votes
        human = sum(votes) / len(votes) if votes else None
        names = [*known.raters, *[""] * (len(known.votes) - len(known.raters)), *pair.raters]
        raters = (*names, *[""] * (len(votes) - len(names))) if any(names) else ()
        self.pairs[pair.id] = replace(known, human=human, votes=votes, raters=raters)


def uniform(*parts: Any) -> float:
    """A number in [0, 1) that depends on `parts` alone: every draw in the data is made by it, none by a generator."""
    return int(digest_of(parts)[:13], 16) / 16**13


def seed_of(*parts: Any) -> int:
    """A 48-bit seed for one request to a model, from what the request is for."""
    return int(uniform(*parts) * 2**48)


def seed_of_round(seed: int, number: int) -> int:
    """The seed of round `number`, from 0, of a run: its own in the first, then 31 bits of a hash of both, so that no
    round of one run has the seed of another run's (seeds by addition did: 0 in round 1 was 1000 in round 0)."""
    return seed if number == 0 else int(uniform("round", seed, number) * 2**31)


def identity(kind: str, *parts: str) -> str:
    return f"{kind}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}"


def split_of(prompt_id: str, data: Data, seed: int) -> Split:
    spot = uniform("split", seed, prompt_id)
    return "test" if spot < data.test else "calibration" if spot < data.test + data.calibration else "train"


def make_pair(
    prompt: Prompt, better: str, worse: str, human: float, votes: Iterable[float], seed: int, raters: Iterable[str] = ()
) -> Pair:
    """A pair whose order is drawn by hash, whoever won. human, votes: P(`better` is better)."""
    pair_id = identity("pair", prompt.id, *sorted((better, worse)))
    a, b = sorted((better, worse), reverse=uniform("order", seed, pair_id) < 0.5)
    if a == better:
        return Pair(pair_id, prompt, a, b, human, tuple(votes), raters=tuple(raters))
    return Pair(pair_id, prompt, a, b, 1 - human, tuple(1 - vote for vote in votes), raters=tuple(raters))


def pick(prompts: list[Prompt], split: Split, count: int | None, seed: int) -> list[Prompt]:
    """The first `count` prompts of one split in an order that only the seed decides."""
    some = [prompt for prompt in prompts if prompt.split == split]
    return sorted(some, key=lambda prompt: uniform("pick", seed, prompt.id))[:count]
