"""What a constitution is once it has been read, and the part of a principle that each stage is shown."""

from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Principle:
    """`name` is the identity. In the short form `critique` and `revise` are empty, and `prefer` equals `name`."""

    name: str
    critique: str
    revise: str
    prefer: str
    against: str
    why: str
    applies_to: tuple[str, ...]
    weight: float
    line: int


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
class Constitution:
    title: str
    notes: str
    principles: tuple[Principle, ...]
    path: Path
    text: str = field(default="", compare=False, repr=False)  # of the whole file, as it was read

    @property
    def form(self) -> str:
        return "full" if self.principles[0].critique else "short"

    @property
    def revising(self) -> tuple[Revising, ...]:
        """Without `prefer` and `why`, so that editing those never reruns a revision."""
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
        )

    @property
    def judging(self) -> tuple[Judging, ...]:
        """Without `against`, so that editing it never reruns a method that does not read it."""
        return tuple(
            Judging(name=p.name, prefer=p.prefer, applies_to=p.applies_to, weight=p.weight) for p in self.principles
        )

    @property
    def contrasting(self) -> tuple[Judging, ...]:
        """`judging` with `against`; empty where the file gives none, and the template then supplies an opposite."""
        return tuple(replace(j, against=p.against) for j, p in zip(self.judging, self.principles, strict=True))
