"""Sweeps: a key that holds `{sweep: [...]}` takes each of the values in turn; several such keys make a grid.

    revise: {rounds: {sweep: [1, 2, 4]}}
    judge: {sweep: [{method: rate}, {method: choice, principles: all}]}     whole sections can be swept as well

Every point of the grid is an experiment of its own, written as the file is without the other values: faults of a value
stand at its line. `--set key=value` fixes a swept key, and `--set 'key={sweep: [...]}'` sweeps one.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from typing import Any

from cai.config.tree import SWEEP, Key, Tree, name_of, show
from cai.config.validation import raise_all
from cai.core.errors import UserError

LONGEST = 100  # characters of a point's folder
# Keys of the file that say nothing of a single arm, and why none of them is an axis.
FIXED = {
    "name": "it names the whole sweep",
    "question": "it is asked of the whole sweep",
    "seeds": "every point of the grid has them all, as its replicas",
    "arms": "arms stand beside one another in each point; sweep a key within them",
    "label_budget": "it is a list by itself",
    "publics": "it says whose labels every arm is held against",
    "runtime": "it changes no result",
}


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One point of the grid: the values of the swept keys, and the file's tree with these in place."""

    values: Mapping[str, Any]
    tree: Tree

    @property
    def overrides(self) -> tuple[str, ...]:
        """The `--set` that makes this point of the file."""
        return tuple(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in self.values.items())

    @property
    def slug(self) -> str:
        """`revise.rounds=2,judge.method=rate`, as a file name; a long one is cut and told apart by its digest."""
        parts = (f"{key}={_plain(text(value))}" for key, value in self.values.items())
        name = ",".join(parts)
        return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}-{sha256(name.encode()).hexdigest()[:8]}"


def text(value: Any) -> str:
    """A swept value as tables show it: plain text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", value).strip("-")


def points(tree: Tree) -> list[SweepPoint]:
    """The grid, the first swept key varying slowest; the tree alone where nothing is swept.

    Raises UserError, or UserErrors, for a sweep where none can be, or one without values.
    """
    axes = dict(_axes(tree.data, ()))
    raise_all(fault for path in axes for fault in _faults(tree, path, axes[path]))
    grid = product(*(range(len(axis[SWEEP])) for axis in axes.values()))
    made = [_point(tree, dict(zip(axes, places, strict=True))) for places in grid]
    slugs = [point.slug for point in made]
    if len(set(slugs)) < len(slugs):
        twice = next(slug for slug in slugs if slugs.count(slug) > 1)
        where = tree.where(next(iter(axes)))
        raise UserError(f"two points of the sweep are both {twice}", where, "let each value stand once")
    return made


def size(made: Sequence[Mapping[str, Any]]) -> str:
    """`6 runs: revise.rounds (3 values) x judge.method (2 values)`. made: the values of each point."""
    counts = {key: len({text(values[key]) for values in made}) for key in made[0]}
    runs = "1 run" if len(made) == 1 else f"{len(made)} runs"
    axes = (f"{key} ({count} value{'s' * (count != 1)})" for key, count in counts.items())
    return f"{runs}: {' x '.join(axes)}"


def _axes(data: Any, path: Key) -> Iterator[tuple[Key, dict]]:
    """Where a sweep stands, in the order of the file."""
    if isinstance(data, dict) and SWEEP in data:
        yield path, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _axes(value, (*path, key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from _axes(value, (*path, number))


def _faults(tree: Tree, path: Key, axis: dict) -> Iterator[UserError]:
    values, where, name = axis[SWEEP], tree.where((*path, SWEEP)), name_of(path)
    if not path:
        yield UserError(
            '"sweep" is no key of the file', where, "write it in the place of a value: rounds: {sweep: [1, 2]}"
        )
    elif path[0] in FIXED and (path[0] != "arms" or len(path) < 3):
        yield UserError(f"{name} cannot be swept: {FIXED[str(path[0])]}", where, "give it one value")
    elif any(isinstance(part, int) for part in path):
        yield UserError(f"{name} cannot be swept: it is one item of a list", where, "sweep the whole list")
    elif len(axis) > 1:
        others = ", ".join(f'"{key}"' for key in axis if key != SWEEP)
        yield UserError(
            f"{name} is swept, and {others} beside its values belongs to none of them", where,
            "write each value of the sweep as a whole section",
        )  # fmt: skip
    elif not isinstance(values, list) or not values:
        yield UserError(
            f"{name}: sweep must be a list of values, not {show(values)}",
            where,
            f"write {name.rpartition('.')[2]}: {{sweep: [1, 2]}}",
        )
    else:
        for number, value in enumerate(values):
            for inner, _ in _axes(value, (*path, SWEEP, number)):
                yield UserError("a sweep within a sweep", tree.where(inner), "write the values out")


def _point(tree: Tree, chosen: Mapping[Key, int]) -> SweepPoint:
    """The tree with one value of each swept key; the places of the value's own keys are those of the file."""
    values: dict[str, Any] = {}
    for path, number in chosen.items():
        here = (*path, SWEEP, number)
        values[".".join(str(part) for part in path)] = value = tree.get(here)
        places = {key: place for key, place in tree.places.items() if key[: len(path)] != path}
        places |= {path + key[len(here) :]: place for key, place in tree.places.items() if key[: len(here)] == here}
        tree = replace(tree, data=_put(tree.data, path, value), places=places)
    return SweepPoint(values, tree)


def _put(data: dict, path: Key, value: Any) -> dict:
    head, rest = str(path[0]), path[1:]
    return data | {head: _put(data[head], rest, value) if rest else value}
