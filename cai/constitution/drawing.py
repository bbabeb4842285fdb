"""The draw of a principle by hash.

Departure from Bai et al. (2022, sections 3.1 and 4.1), who sample a principle at random for every revision and every
comparison: here the draw is a weighted rendezvous hash of (seed, key, name). It needs no generator, so it depends
neither on the order of the work nor on the order of the file, and an edit moves only the draws that it must move.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from cai.core.errors import UserError


class Drawable(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def applies_to(self) -> tuple[str, ...]: ...
    @property
    def weight(self) -> float: ...


P = TypeVar("P", bound=Drawable)


def draw(principles: Sequence[P], *, seed: int, key: str, subset: str = "", n: int = 1) -> tuple[P, ...]:
    """Up to n distinct principles that apply to `subset`, best first: the smallest Exponential(rate=weight) variates.

    The variate of a principle is a hash of (seed, key, its name), so principle i comes first with probability
    weight_i / sum(weights), and the others do not change its variate (weighted rendezvous hashing).
    Raises UserError when no principle applies.
    """
    assert n >= 1
    able = [p for p in principles if not p.applies_to or subset in p.applies_to]
    if not able:
        problem = f'none of the {len(principles)} principles applies to subset "{subset}"'
        raise UserError(problem, "", 'change "Applies to:" of a principle, or add a principle without it')
    return tuple(sorted(able, key=lambda p: (_variate(seed, key, p.name) / p.weight, p.name))[:n])


def _variate(seed: int, key: str, name: str) -> float:
    """A draw of Exponential(1), fixed by its arguments; 52 bits of the hash keep u inside (0, 1) exactly."""
    digest = hashlib.sha256(json.dumps([seed, key, name]).encode()).digest()
    return -math.log(((int.from_bytes(digest[:8], "big") >> 12) + 0.5) / 2**52)


def some(principles: Sequence[P], n: int | None, *, seed: int) -> tuple[P, ...]:
    """n of the principles, drawn by hash, in the order of the file; all of them for None.

    The draws are nested: the n + 1 for a seed are the n and one more, so that a sweep over n adds and never exchanges.
    Raises UserError where there are fewer than n.
    """
    if n is None:
        return tuple(principles)
    if n > len(principles):
        problem = f"{n} principles are asked for, and the constitution has {len(principles)}"
        raise UserError(problem, "revise.principles", f"lower it to {len(principles)} or less, or leave it out")
    kept = sorted(principles, key=lambda p: (_variate(seed, "subset", p.name), p.name))[:n]
    return tuple(p for p in principles if p in kept)
