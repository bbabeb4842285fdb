"""Principles that may explain labels: a bank of them, constitutions that are given, what a model proposes, and decoys.

A decoy speaks of something that no answer is about (constitutions/placebo/). It is a candidate like any other: where
one is selected, the judge goes by something else than what it reads, and what it says of the others means little.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cai.constitution import Constitution, Principle, read_constitution
from cai.constitution.negation import as_standard, negate
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Pair
from cai.judge.reads.placebos import read_placebos, unrelated

BANK = "constitutions/bank/principles.txt"
DECOY, PROPOSED = "decoy", "proposed"
ALIKE = 0.8  # share of common words above which a proposed sentence says what another candidate says


@dataclass(frozen=True, slots=True)
class Candidate:
    """principle: its `name` is unique among candidates. origin: the stem of the file that it stands in, or one of
    DECOY and PROPOSED."""

    principle: Principle
    origin: str

    @property
    def name(self) -> str:
        return self.principle.name

    @property
    def opposite(self) -> str | None:
        """Its opposite as a standard: `Against:`, else by rule; None where there is none, or no text at all."""
        principle = self.principle
        if principle.against:
            return as_standard(principle.against)
        return negate(principle.prefer) if principle.prefer else None


def candidates(files: Sequence[str], decoys: Sequence[str] = ()) -> list[Candidate]:
    """Those of all files, in order, each text once: the first file that says it has it. Then the decoys.

    Raises UserErrors for a file that is no constitution, UserError where there is no principle at all.
    """
    rows: list[Candidate] = []
    for file in files:
        constitution = read_constitution(file)
        rows = merged(rows, (Candidate(p, constitution.path.stem) for p in constitution.principles))
    if not rows:
        problem = "there is no candidate: no bank and no constitution is named"
        raise UserError(problem, "--bank, --constitution", f"name a file of principles, such as {BANK}")
    return merged(rows, (Candidate(plain_principle(text), DECOY) for text in decoys))


def merged(rows: Sequence[Candidate], more: Iterable[Candidate]) -> list[Candidate]:
    """Rows, and of `more` those that say something else; a name that is taken gets its file's name behind it."""
    kept = list(rows)
    texts = {_key(row.principle) for row in kept}
    names = {row.name.casefold() for row in kept}
    for row in more:
        if _key(row.principle) in texts:
            continue
        name = row.name if row.name.casefold() not in names else f"{row.name} ({row.origin})"
        while name.casefold() in names:
            name += "'"
        kept.append(replace(row, principle=replace(row.principle, name=name)))
        texts.add(_key(row.principle))
        names.add(name.casefold())
    return kept


def _key(principle: Principle) -> tuple[str, str, tuple[str, ...]]:
    return principle.prefer.casefold(), principle.check, principle.applies_to


def plain_principle(text: str) -> Principle:
    """A sentence as a principle of the short form."""
    return Principle(
        name=text, critique="", revise="", prefer=text, against="", why="", applies_to=(), weight=1.0, line=0
    )


def decoy_sentences(pairs: Sequence[Pair], count: int, seed: int) -> list[str]:
    """`count` sentences of the shipped placebos, drawn by hash, none of which speaks of what a prompt speaks of.

    Raises UserError where there are fewer."""
    if not count:
        return []
    kept, _ = unrelated(read_placebos(), pairs, least=0)
    texts = [text for placebo in kept for text in placebo.sentences if len(text.split()) <= 14]
    if len(texts) < count:
        problem = f"{len(texts)} sentences of the placebos have nothing to do with these prompts, and {count} are asked"
        raise UserError(problem, "--decoys", f"lower it to {len(texts)} or less")
    return sorted(texts, key=lambda text: uniform("decoy", seed, text))[:count]


def constitution_of(rows: Sequence[Candidate]) -> Constitution:
    """All candidates as one constitution, for a judge that is asked by every one of them."""
    return Constitution("candidates", "", tuple(row.principle for row in rows), Path("candidates"))


def shortened(text: str, most: int = 60) -> str:
    """A principle's text as a name: without the frame that all of them have, and cut to the width of a table."""
    short = re.sub(r"^Choose the response (?:that |which )?", "", text).rstrip(".") or text
    return short if len(short) <= most else short[: most - 3] + "..."


def alike(text: str, other: str) -> bool:
    left, right = (set(re.findall(r"\w+", each.casefold())) for each in (text, other))
    return len(left & right) / max(1, len(left | right)) > ALIKE
