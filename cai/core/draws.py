"""Draws, seeds and identities that depend on contents alone, never on a running generator or on an order of rows.

What is split and drawn by them is in cai/data/material.py.
"""

import hashlib
import unicodedata
from typing import Any

from cai.core.records import Prompt, Split
from cai.core.store import digest_of


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


def normal(text: str) -> str:
    """The text in its compatible composed form (NFKC), without characters that show nothing, one space for any gap."""
    if text.isascii():  # nothing to compose, and nothing that does not show: the quick way for most texts
        return " ".join(text.split())
    composed = unicodedata.normalize("NFKC", text)
    return " ".join("".join(" " if char in _BLANK else char for char in composed if _shows(char)).split())


_BLANK = "\u2800\u3164"  # drawn as nothing, and no white space by Unicode


def _shows(char: str) -> bool:
    return unicodedata.category(char) != "Cf"


def pick(prompts: list[Prompt], split: Split, count: int | None, seed: int) -> list[Prompt]:
    """The first `count` prompts of one split in an order that only the seed decides."""
    some = [prompt for prompt in prompts if prompt.split == split]
    return sorted(some, key=lambda prompt: uniform("pick", seed, prompt.id))[:count]
