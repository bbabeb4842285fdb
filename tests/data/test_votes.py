"""Rankings, ratings and thumbs as votes on pairs: by hand, with who said what, and with every kind of bad row."""

import json

import pytest

from cai.config.sections import Data
from cai.core.errors import UserError
from cai.core.records import RaterVote, SetAside
from cai.data.sources.local_file import read_file
from cai.data.votes import Judgement, judgements_of, settle, share

ANSWERS = ["one", "two", "three"]


def said(**row) -> dict:
    """(i, j) -> {rater: P(answer i is better)}, what was set aside under "aside"."""
    found: dict = {}
    for one in judgements_of({"answers": ANSWERS, **row}, "file:1"):
        if isinstance(one, SetAside):
            found.setdefault("aside", []).append(one.reason)
        else:
            found.setdefault(one.key, {})[one.vote.rater] = one.vote.p_a
    return found


def test_a_ranking_is_all_its_pairs_and_a_tie_is_half():
    assert said(ranking=[2, 1, 2], rater="ann") == {
        (0, 1): {"ann": 0.0}, (0, 2): {"ann": 0.5}, (1, 2): {"ann": 1.0},
    }  # fmt: skip


def test_ratings_of_several_people_keep_who_said_what_and_who_said_nothing():
    assert said(ratings={"ann": [5, 1, None], "bob": [2, 2, 4]}) == {
        (0, 1): {"ann": 1.0, "bob": 0.5}, (0, 2): {"bob": 0.0}, (1, 2): {"bob": 0.0},
    }  # fmt: skip
    assert said(ratings=[[3, 1, 2], [1, 3, 2]])[0, 1] == {"rater 1": 1.0, "rater 2": 0.0}


def test_ranks_and_ratings_may_be_floats_or_texts_and_thumbs_numbers():
    assert said(ranking=[1.0, "2", "3.0"]) == said(ranking=[1, 2, 3])
    assert said(ratings=["5", 1.0, "2.5"], scale=["1", 5]) == said(ratings=[5, 1, 2.5])
    assert said(thumbs=[1.0, "0", -1.0]) == said(thumbs=["up", "down", "down"])
    assert said(ranking=[True, 2, 3]) == {"aside": ["ranking: a rank must be a whole number"]}


def test_thumbs():
    assert said(thumbs=["up", "down", None]) == {(0, 1): {"": 1.0}}
    assert said(thumbs={"ann": [True, -1, "up"]})[0, 2] == {"ann": 0.5}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"ranking": [1, 2]}, "ranking: 2 values for 3 answers"),
        ({"ranking": [1, None, 2]}, "ranking: a rank is missing"),
        ({"ranking": [1, 2, 4]}, "ranking: a rank is out of range"),
        ({"ranking": [0, 1, 2]}, "ranking: a rank is out of range"),
        ({"ranking": [1, 2, 2.5]}, "ranking: a rank must be a whole number"),
        ({"ranking": "abc"}, "ranking: not a list"),
        ({"ratings": {"bob": [1, 9, 2]}, "scale": [1, 5]}, "ratings: a rating is out of range (rater bob)"),
        ({"ratings": [1, "x", 2]}, "ratings: a rating must be a number"),
        ({"thumbs": ["up", "sideways", "down"]}, "thumbs: a thumb must be up or down"),
    ],
)
def test_what_cannot_be_used_is_named(row, reason):
    assert said(**row) == {"aside": [reason]}


def test_one_persons_bad_list_costs_nobody_else_theirs():
    found = said(ratings={"ann": [1, 2], "bob": [3, 2, 1]})
    assert found.pop("aside") == ["ratings: 2 values for 3 answers (rater ann)"]
    assert found == {(0, 1): {"bob": 1.0}, (0, 2): {"bob": 1.0}, (1, 2): {"bob": 1.0}}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"answers": ["one"], "ranking": [1]}, "two or more texts"),
        ({"answers": ["one", "one"], "ranking": [1, 2]}, "stands twice"),
        ({"answers": ANSWERS}, "not none"),
        ({"answers": ANSWERS, "ranking": [1, 2, 3], "thumbs": [1, 0, 1]}, "not ranking and thumbs"),
    ],
)
def test_a_row_that_ranks_nothing_is_refused(row, problem):
    with pytest.raises(UserError, match=problem) as error:
        list(judgements_of(row, "file:7"))
    assert error.value.where == "file:7"


def test_of_what_one_person_says_again_the_last_counts():
    def judgement(rater, p, line):
        return Judgement("pair", RaterVote(rater, p), f"f:{line}", "row")

    kept, aside = settle(
        [judgement("ann", 1.0, 1), judgement("bob", 1.0, 2), judgement("ann", 1.0, 3), judgement("bob", 0.0, 4)]
    )
    assert [(one.rater, one.p_a) for one in kept["pair"]] == [("ann", 1.0), ("bob", 0.0)]
    assert share(kept["pair"]) == pytest.approx(1 / 2)
    assert [(one.where, one.reason) for one in aside] == [
        ("f:1", "said twice by one rater"),
        ("f:2", "contradicted by the same rater further down"),
    ]


def test_a_file_of_rankings_becomes_pairs_with_soft_labels_and_names(tmp_path):
    path = tmp_path / "ranked.jsonl"
    rows = [
        {"prompt": "Hi?", "answers": ["x", "y", "z"], "ranking": [1, 2, 3], "rater": "ann"},
        {"prompt": "Hi?", "answers": ["z", "y", "x"], "ranking": [1, 1, 2], "rater": "bob"},
        {"prompt": "Hi?", "answers": ["z", "x"], "ranking": [1, 3], "rater": "cat"},
        {"prompt": "Hi?", "answers": ["x", "y"], "ranking": [1, 2], "rater": "ann"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    material = read_file(path, Data(source=str(path)), 0)
    pairs = {
        frozenset((pair.a, pair.b)): {"human": pair.human, **dict(zip(pair.raters, pair.votes, strict=True))}
        if pair.a < pair.b
        else {"human": 1 - pair.human, **{r: 1 - v for r, v in zip(pair.raters, pair.votes, strict=True)}}
        for pair in material.pairs.values()
    }
    # By the alphabet: x over y says ann, y over x says bob; bob ties y and z.
    assert pairs == {
        frozenset("xy"): {"human": 0.5, "ann": 1.0, "bob": 0.0},
        frozenset("xz"): {"human": 0.5, "ann": 1.0, "bob": 0.0},
        frozenset("yz"): {"human": 0.75, "ann": 1.0, "bob": 0.5},
    }
    assert [(one.where, one.reason) for one in material.aside] == [
        (f"{path}:3", "ranking: a rank is out of range (rater cat)"),
        (f"{path}:1", "said twice by one rater"),
    ]
    assert material.counts["rows set aside: said twice by one rater"] == 1
    assert material.counts["judgements of ranked or rated answers"] == 7
    assert json.loads(material.aside[0].row)["rater"] == "cat"
    assert len(material.prompts) == 1
