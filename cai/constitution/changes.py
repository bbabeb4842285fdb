"""What differs between two constitutions, principle by principle, as far as their text tells."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from cai.constitution.lint import short
from cai.constitution.records import Constitution, Principle

FIELDS = ("critique", "revise", "prefer", "against", "check", "why", "applies_to", "weight", "priority", "never")
# A principle that is gone and one that is new are taken for one, renamed or reworded, when their standards share this
# much (difflib's ratio of words). In the short form the text is the name, so every edit looks like that.
SAME = 0.6


@dataclass(frozen=True, slots=True)
class Change:
    """One principle that is not what it was. old: None where it was added; new: None where it was removed."""

    old: Principle | None
    new: Principle | None
    fields: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        if self.old is None or self.new is None:
            return "added" if self.old is None else "removed"
        by_field: dict[tuple[str, ...], str] = {
            ("weight",): "reweighted",
            ("priority",): "reordered",
            ("name",): "renamed",
        }
        return by_field.get(self.fields, "reworded")

    @property
    def name(self) -> str:
        """The principle's name today, or its last one."""
        principle = self.new or self.old
        assert principle is not None
        return principle.name


def changes(old: Constitution, new: Constitution) -> list[Change]:
    """In the order of the new file, and then what was removed, in the order of the old one."""
    before = {p.name: p for p in old.principles}
    after = {p.name: p for p in new.principles}
    gone = [p for name, p in before.items() if name not in after]
    fresh = [p for name, p in after.items() if name not in before]
    partner = _partners(gone, fresh)
    changed = []
    for name, p in after.items():
        known = before.get(name) or partner.get(name)
        if known is None:
            changed.append(Change(None, p))
        elif fields := _differing(known, p):
            changed.append(Change(known, p, fields))
    kept = {p.name for p in partner.values()}
    return changed + [Change(p, None) for p in gone if p.name not in kept]


def _partners(gone: Sequence[Principle], fresh: Sequence[Principle]) -> dict[str, Principle]:
    """Name of a new principle -> the removed one that it continues; the most alike first, each of them once."""
    alike = [
        (_alike(p.prefer or p.never or p.check, q.prefer or q.never or q.check), i, j)
        for i, p in enumerate(gone)
        for j, q in enumerate(fresh)
    ]
    partner: dict[str, Principle] = {}
    taken: set[int] = set()
    for ratio, i, j in sorted(alike, key=lambda row: (-row[0], row[1:])):
        if ratio >= SAME and i not in taken and fresh[j].name not in partner:
            partner[fresh[j].name] = gone[i]
            taken.add(i)
    return partner


def _alike(a: str, b: str) -> float:
    return SequenceMatcher(None, a.casefold().split(), b.casefold().split(), autojunk=False).ratio()


def _differing(old: Principle, new: Principle) -> tuple[str, ...]:
    fields = tuple(field for field in FIELDS if getattr(old, field) != getattr(new, field))
    by_text = old.name == old.prefer and new.name == new.prefer  # short form: the name is no field of its own
    return fields if old.name == new.name or by_text else ("name", *fields)


def applied(old: Constitution, change: Change) -> Constitution:
    """The old constitution with this change alone."""
    kept = [p for p in old.principles if p is not change.old]
    return replace(old, principles=(*kept, *((change.new,) if change.new else ())))


def headline(changed: Sequence[Change]) -> str:
    """`1 added, 2 reworded`"""
    counts = Counter(change.kind for change in changed)
    kinds = ("added", "removed", "reworded", "renamed", "reweighted", "reordered")
    return ", ".join(f"{counts[kind]} {kind}" for kind in kinds if counts[kind]) or "no principle differs"


def show(change: Change) -> str:
    """One change, with the old (-) and the new (+) text of each field that differs."""
    lines = [f"{change.kind:<11}{short(change.name)}"]
    if change.old is None or change.new is None:
        principle, mark = (change.new, "+") if change.old is None else (change.old, "-")
        assert principle is not None
        texts = [f"    {mark} {field}: {getattr(principle, field)}" for field in _standards(principle)]
        return "\n".join([*lines, *texts])
    for field in change.fields:
        lines += [f"    - {field}: {_shown(change.old, field)}", f"    + {field}: {_shown(change.new, field)}"]
    return "\n".join(lines)


def _standards(principle: Principle | None) -> tuple[str, ...]:
    """By which of its fields answers are compared."""
    return tuple(field for field in ("prefer", "never", "check") if getattr(principle, field))


def _shown(principle: Principle, field: str) -> str:
    value: Any = getattr(principle, field)
    if field == "applies_to":
        return ", ".join(value) or "everything"
    return f"{value:g}" if field == "weight" else str(value or "(none)")


def as_json(change: Change) -> dict[str, Any]:
    fields = change.fields or _standards(change.new or change.old)
    return {
        "kind": change.kind,
        "name": change.name,
        "fields": {
            field: {"before": getattr(change.old, field, None), "after": getattr(change.new, field, None)}
            for field in fields
        },
    }
