"""A file's tree before it is typed: an arm's keys laid over the file's, and the names that arms may have."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cai.config.tree import Tree, merge, show
from cai.core.errors import UserError
from cai.core.places import fault_of_arm, fault_of_name

OWN_KEYS = ("name", "question", "seeds", "label_budget", "arms", "runtime")


def arm_of(shared: Tree, own: Tree) -> Tree:
    """The arm's keys laid over the file's. Its `labels` replace the file's: two forms laid over each other are none."""
    base = shared.without("labels") if own.get(("labels",)) is not None else shared
    return with_pool(merge(base, own))


def with_pool(tree: Tree) -> Tree:
    """Each judge of `simulated.pool` laid over `judge:`, so that it says only what it does otherwise."""
    pool, judge = tree.get(("simulated", "pool")), tree.get(("judge",))
    if not isinstance(pool, list) or not isinstance(judge, dict):
        return tree
    base = tree.at("judge").without("calibrate", "preflight")
    whole = [
        merge(base, tree.at("simulated", "pool", i)) if isinstance(pool[i], dict) else None for i in range(len(pool))
    ]
    items = [judge_tree.data if judge_tree else pool[i] for i, judge_tree in enumerate(whole)]
    places = dict(tree.places)
    for i, judge_tree in enumerate(whole):
        inner = judge_tree.places.items() if judge_tree else ()
        places |= {("simulated", "pool", i, *key): place for key, place in inner if key}
    return replace(tree, data={**tree.data, "simulated": {**tree.data["simulated"], "pool": items}}, places=places)


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
