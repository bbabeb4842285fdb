"""Exports of Pol.is: votes by group counted by hand, and every fault with its line."""

from pathlib import Path

import pytest

from cai.core.errors import UserError, UserErrors
from cai.data.polis import GroupVotes, files_of, group_name, read_conversation

COMMENTS = """timestamp,datetime,comment-id,author-id,agrees,disagrees,moderated,comment-body
1,Mon,0,7,3,1,1,"Be kind, and ""say"" why."
1,Mon,1,7,2,2,1,Be brief.
1,Mon,2,7,0,0,-1,Buy my soap.
"""
WIDE = """participant,group-id,n-comments,n-votes,n-agree,n-disagree,0,1,2
0,0,0,2,2,0,1,1,
1,0,0,2,1,0,1,0,
2,1,1,3,1,2,1,-1,-1
3,1,0,1,0,1,,-1,
4,,0,1,1,0,1,,
"""
LONG = """voter-id,group-id,comment-id,vote
0,a,0,1
0,a,1,-1
1,b,0,0
"""


def files(folder: Path, votes: str = WIDE, comments: str = COMMENTS) -> tuple[Path, Path]:
    (folder / "comments.csv").write_text(comments)
    (folder / "participants-votes.csv").write_text(votes)
    return files_of(folder, None)


def test_votes_by_group_by_hand(tmp_path):
    found = read_conversation(*files(tmp_path))
    assert [(each.id, each.text) for each in found.statements] == [("0", 'Be kind, and "say" why.'), ("1", "Be brief.")]
    assert found.statements[0].where.endswith("comments.csv:2")
    assert (found.groups, found.rejected, found.groupless) == ({"group-0": 2, "group-1": 2}, 1, 1)
    assert found.votes["0"] == {"group-0": GroupVotes(2, 0, 2), "group-1": GroupVotes(1, 0, 1)}
    assert found.votes["1"] == {"group-0": GroupVotes(1, 0, 2), "group-1": GroupVotes(0, 2, 2)}  # a pass is seen


def test_one_vote_a_row(tmp_path):
    found = read_conversation(*files(tmp_path, LONG))
    assert found.groups == {"a": 1, "b": 1}
    assert found.votes["0"] == {"a": GroupVotes(1, 0, 1), "b": GroupVotes(0, 0, 1)}
    assert found.votes["1"] == {"a": GroupVotes(0, 1, 1), "b": GroupVotes()}


def test_names_of_groups():
    assert [group_name(given) for given in ("0", "1.0", "The young", None)] == ["group-0", "group-1", "The-young", ""]


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        (("0,0,0,2,2,0,1,1,", "0,0,0,2,2,0,1,2,"), "participants-votes.csv:2", 'a vote is 1, 0, -1 or empty, not "2"'),
        (("1,0,0,2,1,0,1,0,", "0,0,0,2,1,0,1,0,"), "participants-votes.csv:3", "participant 0 stands twice"),
        (("3,1,0,1,0,1,,-1,", "3,1,0,1,1,0,,-1,"), "participants-votes.csv:5", "n-agree is 1, and this person agrees"),
        (("participant,group-id", "participant,cluster"), "participants-votes.csv:1", "without a column group-id"),
        (("n-disagree,0,1,2", "n-disagree,0,1,9"), "participants-votes.csv:1", "no comment has the id 9"),
        (("2,1,1,3,1,2,1,-1,-1", "2,1,1"), "participants-votes.csv:4", "3 cells for 9 columns"),
        (("2,1,1,3", "2,0,1,3"), "", ""),
    ],
)
def test_faults_of_votes_are_named_by_line(tmp_path, change, where, says):
    if not where:  # no fault: another group
        assert read_conversation(*files(tmp_path, WIDE.replace(*change))).groups == {"group-0": 3, "group-1": 1}
        return
    with pytest.raises(UserError) as error:
        read_conversation(*files(tmp_path, WIDE.replace(*change)))
    assert error.value.where.endswith(where) and says in error.value.problem


def test_votes_that_are_turned_round_are_found_out(tmp_path):
    """Pol.is's database has -1 for agree, its exports 1: the counts in a row tell which it is."""
    turned = WIDE.replace("0,0,0,2,2,0,1,1,", "0,0,0,2,2,0,-1,-1,")
    with pytest.raises(UserError) as error:
        read_conversation(*files(tmp_path, turned))
    assert error.value.remedy.startswith("1 must stand for agree")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("2,a,9,1", "no comment has the id 9"),
        ("2,a,0,yes", 'a vote is 1, 0 or -1, not "yes"'),
        ("0,b,1,1", "0 is in group b here, and in a above"),
        ("0,a,0,1", "0 votes twice on comment 0"),
        (",a,0,1", "nobody is named"),
    ],
)
def test_faults_of_single_votes(tmp_path, row, says):
    with pytest.raises(UserError) as error:
        read_conversation(*files(tmp_path, LONG + row + "\n"))
    assert error.value.where.endswith(":5") and says in error.value.problem


def test_every_fault_is_named(tmp_path):
    comments = COMMENTS + "1,Mon,1,7,0,0,1,Again.\n1,Mon,x,7,0,0,1,What?\n1,Mon,4,7,0,0,1,\n1,Mon,5,7,0,0,maybe,Well.\n"
    with pytest.raises(UserErrors) as error:
        read_conversation(*files(tmp_path, comments=comments))
    lines = str(error.value)
    for says in (
        ":5: comment 1 stands twice",
        ':6: comment-id is a whole number, not "x"',
        ":7: comment 4 has no",
        ":8: ",
    ):
        assert says in lines


def test_one_group_is_no_publics(tmp_path):
    with pytest.raises(UserError, match="its people are in 1 group, and two are needed"):
        read_conversation(*files(tmp_path, LONG.replace(",b,", ",a,")))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="there is no file of votes"):
        files_of(tmp_path, None)
    (tmp_path / "participants-votes.csv").write_text(WIDE)
    with pytest.raises(UserError, match="there is no file of comments"):
        files_of(tmp_path / "participants-votes.csv", None)
    (tmp_path / "comments.csv").write_text("comment,text\n0,Be kind.\n")
    with pytest.raises(UserError, match="no column comment-id and comment-body"):
        read_conversation(*files_of(tmp_path, None))
