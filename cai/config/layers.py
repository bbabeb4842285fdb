"""A file's tree before it is typed: an arm's keys laid over the file's, and the names that arms may have."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cai.config.tree import Tree, merge, show
from cai.core.errors import UserError
from cai.core.places import fault_of_arm, fault_of_name

OWN_KEYS = ("name", "question", "seeds", "label_budget", "publics", "arms", "runtime")


def arm_of(shared: Tree, own: Tree) -> Tree:
    """The arm's keys laid over the file's. Its `labels` replace the file's: two forms laid over each other are none."""
    base = shared.without("labels") if own.get(("labels",)) is not None else shared
    return with_judges(merge(spelt_out(base), spelt_out(own)))


def with_judges(tree: Tree) -> Tree:
    """Each judge of `simulated.pool` and of `judge.panel` laid over `judge:`, so that it says only what it does
    otherwise."""
    tree = spelt_out(tree)
    judge = tree.at("judge") if isinstance(tree.get(("judge",)), dict) else None
    if judge is None:
        return tree
    base = judge.without("panel", "rubric", "slim", "attacks")
    tree = _laid_over(base.without("calibrate", "preflight"), tree, ("simulated", "pool"))
    return _laid_over(base, tree, ("judge", "panel", "judges"))


def spelt_out(tree: Tree) -> Tree:
    """`judge.panel: [...]` as the section that it is short for, `{judges: [...]}`."""
    short = ("judge", "panel")
    if not isinstance(panel := tree.get(short), list):
        return tree
    inner = {key[2:]: place for key, place in tree.places.items() if key[:2] == short}
    places = {key: place for key, place in tree.places.items() if key[:2] != short or key == short}
    places |= {(*short, "judges", *key): place for key, place in inner.items()}
    return replace(tree, data=_put(tree.data, short, {"judges": panel}), places=places)


def _laid_over(base: Tree, tree: Tree, at: tuple[str, ...]) -> Tree:
    """The tree with each section of the list that stands there laid over `base`."""
    listed = tree.get(at)
    if not isinstance(listed, list):
        return tree
    whole = [merge(base, tree.at(*at, i)) if isinstance(one, dict) else None for i, one in enumerate(listed)]
    items = [judge.data if judge else listed[i] for i, judge in enumerate(whole)]
    places = dict(tree.places)
    for i, judge in enumerate(whole):
        inner = judge.places.items() if judge else ()
        places |= {(*at, i, *key): place for key, place in inner if key}
    return replace(tree, data=_put(tree.data, at, items), places=places)


def _put(data: Any, at: tuple[str, ...], value: Any) -> Any:
    """The mapping with a value at a key path that it has."""
    return {**data, at[0]: _put(data[at[0]], at[1:], value)} if at else value


def faults_of_names(tree: Tree, path: Path, name: str, arms: Sequence[str]) -> Iterator[UserError]:
    """Of the experiment and its arms: a name is no path, and what stands in its place elsewhere is not overwritten."""
    if why := fault_of_name(name):
        given = tree.get(("name",)) is not None
        where = tree.where(("name",)) if given else str(path)
        remedy = "use letters, digits, -, _ and ." if given else "give it another one: name: mine"
        yield UserError(f"an experiment cannot be called {show(name)}: {why}", where, remedy)
    for arm in arms:
        if why := fault_of_arm(str(arm)):
            where, remedy = tree.where(("arms", arm)), "use letters, digits, - and _"
            yield UserError(f"an arm cannot be called {show(arm)}: {why}", where, remedy)
        elif [str(other).casefold() for other in arms].index(str(arm).casefold()) < arms.index(arm):
            problem = f"two arms are called {show(arm)}, but for capitals: some disks know no difference"
            yield UserError(problem, tree.where(("arms", arm)), "give one another name")
    for key, place in _texts(tree.data, ()):
        if "\0" in key:
            yield UserError("a NUL character stands in this text", tree.where(place), "remove it")


def _texts(data: Any, place: tuple) -> Iterator[tuple[str, tuple]]:
    """Every text in a tree, with its key path."""
    if isinstance(data, dict | list):
        for key, inner in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _texts(inner, (*place, key))
    elif isinstance(data, str):
        yield data, place
