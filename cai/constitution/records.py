"""What a constitution is once it has been read, and the part of a principle that each stage is shown."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Principle:
    """`name` is the identity. In the short form `critique` and `revise` are empty, and `prefer` equals `name`.

    check: what a program decides by (checks.py). A principle with one may do without `prefer`, and without `critique`
    and `revise`.
    """

    name: str
    critique: str
    revise: str
    prefer: str
    against: str
    why: str
    applies_to: tuple[str, ...]
    weight: float
    line: int
    check: str = ""


@dataclass(frozen=True, slots=True)
class Revising:
    """What the revision stage reads of a principle. text: the principle itself, in the short form only; else empty."""

    name: str
    critique: str
    revise: str
    text: str
    applies_to: tuple[str, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class Judging:
    """What a judge reads of a principle. against: the opposite of `prefer`, for methods that read both; else empty."""

    name: str
    prefer: str
    applies_to: tuple[str, ...]
    weight: float
    against: str = ""


@dataclass(frozen=True, slots=True)
class Checked(Judging):
    """A principle whose votes a program computes; a judge is asked where that is silent, and `prefer` is not empty.

    A record of its own, so that the keys of principles without a check are what they were.
    """

    check: str = ""


def worded(judging: Iterable[Judging]) -> tuple[Judging, ...]:
    """Those that a judge can be asked by, as plain ones: their texts without their checks."""
    return tuple(
        Judging(name=p.name, prefer=p.prefer, applies_to=p.applies_to, weight=p.weight, against=p.against)
        for p in judging
        if p.prefer
    )


@dataclass(frozen=True, slots=True)
class Constitution:
    title: str
    notes: str
    principles: tuple[Principle, ...]
    path: Path
    text: str = field(default="", compare=False, repr=False)  # of the whole file, as it was read

    @property
    def form(self) -> str:
        return "full" if any(p.critique or p.check for p in self.principles) else "short"

    @property
    def revising(self) -> tuple[Revising, ...]:
        """Without `prefer` and `why`, so that editing those never reruns a revision; of those that have both."""
        text = (lambda p: "") if self.form == "full" else (lambda p: p.prefer)
        return tuple(
            Revising(
                name=p.name,
                critique=p.critique,
                revise=p.revise,
                text=text(p),
                applies_to=p.applies_to,
                weight=p.weight,
            )
            for p in self.principles
            if p.critique or self.form == "short"
        )

    @property
    def judging(self) -> tuple[Judging, ...]:
        """What a judge can be asked by. Without `against`, so that editing it never reruns what does not read it."""
        return tuple(replace(j, against="") for j in self.contrasting)

    @property
    def contrasting(self) -> tuple[Judging, ...]:
        """`judging` with `against`; empty where the file gives none, and the template then supplies an opposite."""
        return worded(self.checking)

    @property
    def checking(self) -> tuple[Judging, ...]:
        """`contrasting`, those that are checked among them: all by which answers can be compared."""
        texts = (
            {"name": p.name, "prefer": p.prefer, "applies_to": p.applies_to, "weight": p.weight, "against": p.against}
            for p in self.principles
        )
        return tuple(
            Checked(**text, check=p.check) if p.check else Judging(**text)
            for text, p in zip(texts, self.principles, strict=True)
        )
