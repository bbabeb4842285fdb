"""Groups of people in a file of labels, what they say together, and the arms of an experiment that are theirs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from cai.config.comparable import policy_faults, uneven_faults
from cai.config.labels import Sources
from cai.config.load import Experiment
from cai.config.publics import MERGED, Family, Publics, Raters, families, fault_of_groups
from cai.config.validation import raise_all
from cai.core.errors import UserError, UserErrors
from cai.core.records import RaterVote, SetAside
from cai.data.input_file import InputFile, input_file
from cai.data.labels import UNNAMED
from cai.data.rows.files import read_raw
from cai.data.votes import share, why_so_few

COLUMN = "group"


def public_file(publics: Publics) -> InputFile:
    """Raises UserError where there is none."""
    return input_file(publics.file, "file of labels", "publics.file", "python -m cai.annotate makes one")


def groups_in(path: Path) -> dict[str, Raters]:
    """Group -> its raters, by the column `group` of a file of labels; in the order of the alphabet.

    Raises UserErrors for every row that says no group and for raters who are in two; UserError where what they make is
    no groups, with the first row that cannot be read: its group may be the one that is missing. Where the others make
    groups, such rows, as those that are no labels, are left to `read_labels`, which names them.
    """
    homes: dict[str, tuple[str, str]] = {}
    faults: list[UserError] = []
    aside: list[SetAside] = []
    for raw in read_raw(path):
        row = raw.value
        if raw.fault:
            aside.append(SetAside(raw.where, raw.fault, raw.text))
        if raw.fault or not isinstance(row, dict) or not row.get("pair_id"):
            continue
        rater, group = str(row.get("rater") or UNNAMED), row.get(COLUMN)
        if not isinstance(group, str) or not group.strip():
            problem = f"the group of {rater} is not said"
            faults.append(UserError(problem, raw.where, f"add `{COLUMN}` to each row, or write publics.groups"))
            continue
        first, where = homes.setdefault(rater, (group.strip(), raw.where))
        if first != group.strip():
            problem = f"{rater} is in group {group.strip()} here, and in {first} at {where}"
            faults.append(UserError(problem, raw.where, "a rater is in one group"))
    if faults:
        raise UserErrors(faults[:20]) if len(faults) > 1 else faults[0]
    groups: dict[str, Raters] = {}
    for rater, (group, _) in sorted(homes.items()):
        groups[group] = (*groups.get(group, ()), rater)
    groups = dict(sorted(groups.items()))
    if why := fault_of_groups(groups):
        raise UserError(why + why_so_few(aside), str(path), f"mend its column `{COLUMN}`, or write publics.groups")
    return groups


def share_of_groups(people: Sequence[RaterVote], groups: Mapping[str, Sequence[str]]) -> float:
    """P(a better) by all groups: the mean of their means, so that a group counts as one however many of it spoke.

    A group that said nothing of a pair is no voice for either answer: it counts one half. people: of these groups.
    """
    means = []
    for raters in groups.values():
        mine = [vote for vote in people if vote.rater in raters]
        means.append(share(mine) if mine else 0.5)
    return math.fsum(means) / len(means)


def with_publics(experiment: Experiment) -> Experiment:
    """The experiment with its groups as they are, and with the arms of the groups where the file has none of them.

    Raises UserError(s) for a file that says no groups, and for families of arms that are not whole.
    """
    publics = experiment.publics
    if publics is None:
        return experiment
    groups = publics.groups or groups_in(public_file(publics).path)
    publics = publics.model_copy(update={"groups": groups})
    arms, trees = experiment.arms, dict(experiment.trees)
    those = families(groups, arms)
    if all(family.ending for family in those):
        arms = _made(experiment, publics) | arms
        trees = dict.fromkeys(arms, next(iter(trees.values()))) | trees
    for family in those:
        if missing := [arm for arm in family.arms if arm not in arms]:
            problem = f"{', '.join(family.arms)} go together, and there is no arm {' and no arm '.join(missing)}"
            at = next(arm for arm in family.arms if arm in arms)
            raise UserError(problem, experiment.where(at, ""), "add it, or give the others names that are no group's")
    tree = next(iter(trees.values()), None)
    raise_all([*uneven_faults(tree, arms), *policy_faults(tree, arms)] if tree else [])
    return experiment.model_copy(update={"publics": publics, "arms": arms, "trees": trees})


def _made(experiment: Experiment, publics: Publics) -> dict:
    """The arms of the groups' own labels, and of all groups'."""
    base = experiment.base
    assert base
    if not base.rl.reads_labels:
        problem = f"rl.method: {base.rl.method} reads no label, and publics: makes arms of people's labels"
        raise UserError(problem, "rl.method", "name another, or write arms called as the groups, and merged")

    def by(**who: object) -> object:
        return base.model_copy(update={"labels": Sources(default="human", file=publics.file, **who)})  # pyrefly: ignore

    return {name: by(raters=raters) for name, raters in publics.groups.items()} | {MERGED: by(groups=publics.groups)}


def families_of(experiment: Experiment) -> list[Family]:
    """Of an experiment whose publics are known (`with_publics`)."""
    return families(experiment.publics.groups, experiment.arms) if experiment.publics else []


def constitutions_of(experiment: Experiment) -> dict[str, str]:
    """Group -> the arm whose constitution is the group's own: of the first family in which they are several files.

    Empty where no family has constitutions of its own."""
    for family in families_of(experiment):
        whole = experiment.arms.keys() >= {*family.arms}
        if whole and len({experiment.arms[arm].constitution.file for arm in family.own.values()}) == len(family.own):
            return family.own
    return {}
