"""`publics:`: whose labels of the same pairs are held against one another, and by which arms.

publics:
  file: labels.jsonl                          people's labels (cai/data/labels.py)
  groups: {brief: [ann, bob], long: [cleo]}   who is in which group; left out: the file's column `group` says

An arm that is called as a group is its own: whatever it is made by (its people's labels, a constitution of theirs), it
is held against the arm `merged`, which is made for all. `brief-text`, `long-text` and `merged-text` are another such
family. The first, `brief`, `long` and `merged`, is made where the file has none of them: of the file's own keys, with
the labels of each group, and of all groups, each of which counts alike.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, model_validator

from cai.config.section import Section
from cai.config.tree import show
from cai.config.validation import Fault
from cai.core.places import fault_of_arm

MERGED = "merged"
Raters = tuple[Annotated[str, Field(min_length=1)], ...]


class Publics(Section):
    """No part of a key: stages are given the file and the raters."""

    file: str
    groups: dict[str, Raters] = Field(default={})

    @model_validator(mode="after")
    def _groups_are_apart(self) -> "Publics":
        if not self.file.endswith(".jsonl"):
            raise Fault(f"a file of labels is a .jsonl file, not {show(self.file)}", "name one", "file")
        if "groups" in self.model_fields_set and (why := fault_of_groups(self.groups)):
            raise Fault(why, "write groups: {one: [ann, bob], other: [cleo]}, or leave it out", "groups")
        return self


def fault_of_groups(groups: dict[str, Raters]) -> str:
    """What keeps these from being groups of raters, "" where nothing does."""
    if len(groups) < 2:
        return f"publics are two groups or more, not {len(groups)}"
    homes: dict[str, str] = {}
    for name, raters in groups.items():
        if why := fault_of_arm(name):
            return f"a group cannot be called {show(name)}: {why}"
        if name == MERGED or name.startswith(f"{MERGED}-"):
            return f"a group cannot be called {show(name)}: the arm for all groups is"
        if not raters:
            return f"nobody is in group {name}"
        for rater in raters:
            if homes.setdefault(rater, name) != name:
                return f"{rater} is in two groups, {homes[rater]} and {name}"
    return ""


@dataclass(frozen=True, slots=True)
class Family:
    """own: group -> the arm that is its own. merged: the arm for all groups. ending: what their names end in."""

    own: dict[str, str]
    merged: str
    ending: str

    @property
    def arms(self) -> tuple[str, ...]:
        return (*self.own.values(), self.merged)


def families(groups: Collection[str], arms: Iterable[str]) -> list[Family]:
    """Those of which at least one arm is there, in the order of the arms."""
    arms = list(arms)
    endings: dict[tuple[str, str], None] = {}
    for arm in arms:
        home, dot, own = arm.rpartition(".")  # among the arms of several runs: "monday.brief-text"
        for name in (*groups, MERGED):
            if own == name or own.startswith(f"{name}-"):
                endings.setdefault((home + dot, own.removeprefix(name)))
    return [
        Family({group: f"{home}{group}{ending}" for group in groups}, f"{home}{MERGED}{ending}", ending)
        for home, ending in endings
        if ending == "" or f"{home}{MERGED}{ending}" in arms
    ]
