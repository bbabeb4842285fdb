"""What a constitution is once it has been read, and the part of a principle that each stage is shown."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Principle:
    """`name` is the identity. In the short form `critique` and `revise` are empty, and `prefer` equals `name`.

    check: what a program decides by (checks.py). A principle with one may do without `prefer`, and without `critique`
    and `revise`. never: what no answer may do; a principle that has it is a limit, and has no `prefer`. priority: 1
    comes first; None comes after all that have one.
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
    never: str = ""
    priority: int | None = None


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


@dataclass(frozen=True, slots=True)
class Reasoned(Judging):
    """A principle that the judge is shown with its reason. Records of their own, for the keys, as is `Checked`."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class ReasonedCheck(Checked):
    """A `Checked` one that the judge, where it is asked, is shown with its reason."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class ReasonedRevising(Revising):
    """What the revision stage reads of a principle where its reason stands beside it."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """A hard limit: an answer that does what `never` says loses to one that does not. check: a program says whether an
    answer keeps to it; a judge is asked where that is silent."""

    name: str
    never: str
    applies_to: tuple[str, ...]
    check: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What of a constitution stands above what; false where nothing does, and then in no key.

    limits: above all. levels: (principle, its level from 1 on, which goes before 2); () where there is one level alone.
    """

    levels: tuple[tuple[str, int], ...] = ()
    limits: tuple[Limit, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.levels or self.limits)

    @property
    def checked(self) -> tuple[Checked, ...]:
        """The limits that a program looks after, as what their checks are told by."""
        return tuple(Checked(p.name, "", p.applies_to, 1.0, check=p.check) for p in self.limits if p.check)


def worded(judging: Iterable[Judging]) -> tuple[Judging, ...]:
    """Those that a judge can be asked by, as plain ones: their texts without their checks and reasons."""
    return tuple(
        Judging(name=p.name, prefer=p.prefer, applies_to=p.applies_to, weight=p.weight, against=p.against)
        for p in judging
        if p.prefer
    )


@dataclass(frozen=True, slots=True)
class Constitution:
    """reasons: who reads `Why:` ("judge", "critique", "train"; cai/constitution/reasons.py), "" for nobody."""

    title: str
    notes: str
    principles: tuple[Principle, ...]
    path: Path
    text: str = field(default="", compare=False, repr=False)  # of the whole file, as it was read
    reasons: str = ""

    @property
    def form(self) -> str:
        return "full" if any(p.critique or p.check or p.never for p in self.principles) else "short"

    @property
    def revising(self) -> tuple[Revising, ...]:
        """Without `prefer` and `why`, so that editing those never reruns a revision; of those that have both. With
        `why` where it is read."""
        text = (lambda p: "") if self.form == "full" else (lambda p: p.prefer)
        read = self.reasons == "critique"
        able = [p for p in self.principles if p.critique or self.form == "short"]
        fields = (
            {"name": p.name, "critique": p.critique, "revise": p.revise, "text": text(p), "applies_to": p.applies_to,
             "weight": p.weight}
            for p in able
        )  # fmt: skip
        return tuple(
            ReasonedRevising(**given, why=p.why) if read and p.why else Revising(**given)
            for given, p in zip(fields, able, strict=True)
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
        """`contrasting`, those that are checked among them: all by which answers can be compared, limits apart."""
        own = [p for p in self.principles if not p.never]
        texts = (
            {"name": p.name, "prefer": p.prefer, "applies_to": p.applies_to, "weight": p.weight, "against": p.against}
            for p in own
        )

        def record(text: dict[str, Any], p: Principle) -> Judging:
            if self.reasons == "judge" and p.why:
                return ReasonedCheck(**text, check=p.check, why=p.why) if p.check else Reasoned(**text, why=p.why)
            return Checked(**text, check=p.check) if p.check else Judging(**text)

        return tuple(record(text, p) for text, p in zip(texts, own, strict=True))

    @property
    def order(self) -> Order:
        """Limits, and levels by rank: 1 and 2 are the order that 10 and 20 are."""
        given = {p.name: math.inf if p.priority is None else p.priority for p in self.principles if not p.never}
        ranks = {priority: rank for rank, priority in enumerate(sorted(set(given.values())), 1)}
        levels = tuple((name, ranks[priority]) for name, priority in given.items()) if len(ranks) > 1 else ()
        limits = tuple(Limit(p.name, p.never, p.applies_to, p.check) for p in self.principles if p.never)
        return Order(levels, limits)
