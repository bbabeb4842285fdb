"""Groups of raters: in a file's column, in a config, and the arms that are made for them."""

import json
from pathlib import Path

import pytest

from cai.config.load import read_experiment
from cai.config.publics import families
from cai.core.errors import UserError
from cai.core.records import RaterVote
from cai.data.publics import constitutions_of, families_of, groups_in, share_of_groups, with_publics

GROUPS = {"brief": ("ann", "bob"), "long": ("cleo",)}
FILE = """
constitution: law.txt
policy: {model: tiny-random}
data: {source: pairs.jsonl}
"""


def rows(*given: tuple[str, str | None], folder: Path) -> Path:
    lines = [{"pair_id": f"p{n}", "rater": rater, "choice": "a"} | ({"group": group} if group else {})
             for n, (rater, group) in enumerate(given)]  # fmt: skip
    (folder / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "labels.jsonl"


def experiment(folder: Path, more: str):
    (folder / "mine.yaml").write_text(FILE + more)
    return read_experiment(folder / "mine.yaml")


def test_groups_of_a_column(tmp_path):
    file = rows(("cleo", "long"), ("bob", "brief"), ("ann", "brief"), ("bob", "brief"), folder=tmp_path)
    assert groups_in(file) == GROUPS
    assert list(groups_in(file)) == ["brief", "long"]


@pytest.mark.parametrize(
    ("given", "where", "says"),
    [
        ([("ann", "brief"), ("bob", None), ("cleo", "long")], ":2", "the group of bob is not said"),
        ([("ann", "brief"), ("ann", "long"), ("cleo", "long")], ":2", "ann is in group long here, and in brief at"),
        ([("ann", "brief")], "labels.jsonl", "publics are two groups or more, not 1"),
        ([("ann", "brief"), ("bob", "merged")], "labels.jsonl", 'a group cannot be called "merged"'),
        ([("ann", "brief"), ("bob", "a/b")], "labels.jsonl", 'a group cannot be called "a/b"'),
    ],
)
def test_faults_of_a_column(tmp_path, given, where, says):
    with pytest.raises(UserError) as error:
        groups_in(rows(*given, folder=tmp_path))
    assert error.value.where.endswith(where) and says in error.value.problem


def test_each_group_counts_alike():
    """brief: 1 and 0; long: 1. The mean of 1/2 and 1, where three raters would say 2/3. A silent group counts 1/2."""
    votes = [RaterVote("ann", 1.0), RaterVote("bob", 0.0), RaterVote("cleo", 1.0)]
    assert share_of_groups(votes, GROUPS) == 0.75
    assert share_of_groups(votes[2:], GROUPS) == 0.75
    assert share_of_groups([RaterVote("ann", 1.0), RaterVote("bob", 1.0)], GROUPS) == 0.75


def test_arms_are_made_of_the_file(tmp_path):
    made = with_publics(
        experiment(tmp_path, "publics: {file: labels.jsonl, groups: {brief: [ann, bob], long: [cleo]}}")
    )
    assert list(made.arms) == ["brief", "long", "merged"]
    assert made.arms["brief"].labels.known == ("ann", "bob") and made.arms["merged"].labels.groups == GROUPS
    assert made.arms["merged"].labels.known == ("ann", "bob", "cleo")
    assert str(made.arms["merged"].labels) == "people (labels.jsonl, brief and long alike)"
    assert str(made.arms["long"].labels) == "people (labels.jsonl, cleo)"
    (family,) = families_of(made)
    assert (family.own, family.merged) == ({"brief": "brief", "long": "long"}, "merged")
    assert constitutions_of(made) == {}  # they all have the file's


def test_families_of_constitutions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows(("ann", "brief"), ("cleo", "long"), folder=tmp_path)
    arms = "arms: {brief-text: {constitution: b.txt}, long-text: {constitution: l.txt}, merged-text: {}, brief-x: {}}\n"
    made = with_publics(experiment(tmp_path, "publics: {file: labels.jsonl}\n" + arms))
    assert list(made.arms) == ["brief", "long", "merged", "brief-text", "long-text", "merged-text", "brief-x"]
    assert made.publics and made.publics.groups == {"brief": ("ann",), "long": ("cleo",)}
    assert [family.ending for family in families_of(made)] == ["", "-text"]
    assert constitutions_of(made) == {"brief": "brief-text", "long": "long-text"}


@pytest.mark.parametrize("arms", ["{brief: {}, merged: {}}", "{merged-text: {}, brief-text: {}}"])
def test_a_family_is_whole(tmp_path, arms):
    given = experiment(tmp_path, f"publics: {{file: l.jsonl, groups: {{brief: [ann], long: [cleo]}}}}\narms: {arms}\n")
    with pytest.raises(UserError, match="go together, and there is no arm long"):
        with_publics(given)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("publics: {file: l.csv}", "a file of labels is a .jsonl file"),
        ("publics: {file: l.jsonl, groups: {one: [ann]}}", "publics are two groups or more, not 1"),
        ("publics: {file: l.jsonl, groups: {one: [ann], two: [ann]}}", "ann is in two groups, one and two"),
        ("publics: {file: l.jsonl, groups: {one: [ann], two: []}}", "nobody is in group two"),
        (
            "labels: {default: human, groups: {one: [a], two: [b]}}",
            "labels.groups says whose labels in a file are known",
        ),
        (
            "labels: {default: human, file: l.jsonl, raters: [a], groups: {one: [a], two: [b]}}",
            "labels.raters and labels.groups each say whose labels are known",
        ),
    ],
)
def test_faults_of_a_config(tmp_path, more, says):
    with pytest.raises(UserError) as error:
        experiment(tmp_path, more)
    assert says in str(error.value) and "mine.yaml:" in str(error.value)


def test_without_publics_nothing_changes(tmp_path):
    given = experiment(tmp_path, "labels: ai")
    assert with_publics(given) is given and families_of(given) == []
    assert families(("a", "b"), ["a-1", "b-2", "c"]) == []


def test_arms_of_several_runs_make_families_within_each_run():
    """An arm merged of one run is not for the groups' own arms of another."""
    arms = [f"{run}.{arm}" for run in ("monday", "tues.day") for arm in ("a", "b", "merged", "merged-x")]
    found = families(("a", "b"), [*arms, "wednesday.a-x", "a"])
    assert [(family.own, family.merged) for family in found[:-1]] == [
        ({"a": "monday.a", "b": "monday.b"}, "monday.merged"),
        ({"a": "monday.a-x", "b": "monday.b-x"}, "monday.merged-x"),
        ({"a": "tues.day.a", "b": "tues.day.b"}, "tues.day.merged"),
        ({"a": "tues.day.a-x", "b": "tues.day.b-x"}, "tues.day.merged-x"),
    ]
    assert found[-1].merged == "merged", "that of a run with one arm, which is called as the run; and is not there"
