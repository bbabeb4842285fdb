"""Constitutions out of what people voted: planted statements are found, a divisive one is in no merged file."""

import csv
import json
from pathlib import Path

import pytest

from cai.constitution import read_constitution
from cai.constitution.__main__ import main
from cai.core.errors import UserError
from cai.core.records import Message, Pair, Prompt, RaterVote
from cai.data.polis import files_of, read_conversation
from cai.judge.inferring.publics import named_groups, of_all, of_group, rows_of, standard

# Statement -> who agrees, of ten people in group-0 and six in group-1. All have seen all.
STATEMENTS = (
    ("Choose the response that harms nobody.", 10, 6),  # wanted by all
    ("Choose the response that is brief.", 10, 0),  # divides; the larger group wants it
    ("The assistant should explain itself", 1, 6),  # divides the other way
    ("Choose the response that flatters.", 0, 1),  # wanted by nobody
    ("Choose the response that is fair.", 9, 5),  # wanted by most
    ("Choose the response that rhymes.", 5, 3),  # by half
)


def export(folder: Path) -> Path:
    with (folder / "comments.csv").open("w", newline="") as file:
        rows = [[n, 1, text] for n, (text, *_) in enumerate(STATEMENTS)]
        csv.writer(file).writerows([["comment-id", "moderated", "comment-body"], *rows])
    with (folder / "participants-votes.csv").open("w", newline="") as file:
        head = ["participant", "group-id", *range(len(STATEMENTS))]
        people = [
            [10 * group + n, group, *(1 if n < row[1 + group] else -1 for row in STATEMENTS)]
            for group, size in ((0, 10), (1, 6))
            for n in range(size)
        ]
        csv.writer(file).writerows([head, *people])
    return folder


def names(chosen):
    return [int(each.statement.id) for each in chosen]


def test_by_hand(tmp_path):
    """Shares: 11/12 and 7/8 for the first, 10/12 and 6/8 for the fifth, so consensus 77/96 and 60/96. The sixth is at
    one half, and not sure. The second has 11/12 * 1/8, and nobody of group-1 agrees."""
    found = read_conversation(*files_of(export(tmp_path), None))
    merged = of_all(found)
    assert names(merged) == [0, 4]
    assert [each.worth for each in merged] == pytest.approx([77 / 96, 60 / 96])
    brief = of_group(found, "group-0")
    assert names(brief) == [1, 4, 0] or names(brief) == [1, 0, 4]
    assert brief[0].worth == pytest.approx((11 / 12) * (11 / 12) / (1 / 8))  # its share, over the others' 1/8
    assert names(of_group(found, "group-1"))[0] == 2 and 1 not in names(of_group(found, "group-1"))
    assert names(of_all(found, seen=7)) == []  # group-1 has six people


def test_files_are_constitutions_that_say_why(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["publics", str(export(tmp_path)), "--out", str(out)]) == 0
    merged = read_constitution(out / "merged.txt")
    assert [p.prefer for p in merged.principles] == [STATEMENTS[0][0], STATEMENTS[4][0]]
    assert all(p.critique and p.revise and p.why for p in merged.principles)
    assert "10 of 10 in group-0 agree and 0 disagree (share 0.92)" in merged.principles[0].why
    assert "Group-informed consensus 0.80" in merged.principles[0].why
    own = read_constitution(out / "group-1.txt")
    assert own.principles[0].prefer == (
        "Choose the response that better keeps to this: The assistant should explain itself."
    )
    assert "Representativeness" in own.principles[0].why
    assert "people by group: group-0 (10), group-1 (6); 0 in no group" in capsys.readouterr().out
    with pytest.raises(UserError, match="this file exists already"):
        main(["publics", str(tmp_path), "--out", str(out)])


def test_what_is_agreed_with_by_nobody_is_not_written(tmp_path, capsys):
    export(tmp_path)
    assert main(["publics", str(tmp_path), "--out", str(tmp_path / "out"), "--seen", "7"]) == 1
    assert "merged: no statement is agreed with; nothing is written" in capsys.readouterr().out
    assert not (tmp_path / "out" / "merged.txt").exists() and (tmp_path / "out" / "group-0.txt").exists()


def test_the_first_of_them_alone(tmp_path):
    assert main(["publics", str(export(tmp_path)), "--out", str(tmp_path / "out"), "--most", "1"]) == 0
    assert len(read_constitution(tmp_path / "out" / "merged.txt").principles) == 1


def test_statements_as_standards():
    assert standard("Choose the answer that is kind") == "Choose the answer that is kind."
    assert standard("Be kind!") == "Choose the response that better keeps to this: Be kind!"


def test_labels_by_groups():
    """Of two pairs: ann and bob of one group are split on the first, cleo of the other labelled the second alone."""
    prompt = Prompt("q", (Message("user", "What?"),), "all", "train")
    pairs = [Pair("p", prompt, "A.", "B."), Pair("r", prompt, "C.", "D.")]
    votes = {
        "p": (RaterVote("ann", 1.0), RaterVote("bob", 0.0)),
        "r": (RaterVote("ann", 1.0), RaterVote("cleo", 0.0)),
    }
    rows = rows_of(pairs, votes, {"brief": ("ann", "bob"), "long": ("cleo",)})
    assert {name: [(pair.id, p) for pair, p in of] for name, of in rows.items()} == {
        "brief": [("p", 0.5), ("r", 1.0)],
        "long": [("r", 0.0)],
        "merged": [("p", 0.5), ("r", 0.5)],
    }


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["brief"], '"brief" names no group'),
        (["a=x", "a=y"], "group a is named twice"),
        (["a=x"], "publics are two groups or more"),
        (["a=x", "b=x"], "x is in two groups"),
    ],
)
def test_groups_on_the_command_line(given, says):
    with pytest.raises(UserError, match=says):
        named_groups(given)
    assert named_groups(["a=x, y", "b=z"]) == {"a": ("x", "y"), "b": ("z",)}


def test_each_publics_labels_are_read_back(tmp_path, monkeypatch, capsys):
    """A made judge: its votes are the truth of two principles. One group wants kind answers, the other short ones."""
    from cai.judge.inferring import command
    from cai.judge.inferring.voting import VoteTable

    kind, brief = "Choose the response that is kind.", "Choose the response that is brief."
    (tmp_path / "bank.txt").write_text(f"- {kind}\n- {brief}\n")
    rows, labels, truth = [], [], {}
    for n in range(40):
        good, short = n % 2, (n // 2) % 2
        rows.append(
            {"id": f"p{n}", "prompt": f"Question number {n}?", "a": f"Answer {n}.", "b": f"Other {n}.", "human": None}
        )
        truth[f"p{n}"] = (1.0 if good else -1.0, 1.0 if short else -1.0)
        labels += [{"pair_id": f"p{n}", "rater": "ann", "group": "kind", "choice": "a" if good else "b"},
                   {"pair_id": f"p{n}", "rater": "bob", "group": "brief", "choice": "a" if short else "b"}]  # fmt: skip
    for name, lines in (("pairs.jsonl", rows), ("labels.jsonl", labels)):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def votes(engine, pairs, judge, candidates, title):
        return VoteTable(
            tuple(row.name for row in candidates), {pair.id: truth[pair.id] for pair in pairs}, frozenset()
        )

    monkeypatch.setattr(command, "cast_votes", votes)
    monkeypatch.setattr(command, "open_judge", lambda args, source: (None, "float32", None))
    monkeypatch.setattr(command, "relabelled", lambda *given: {})
    given = ["publics", str(tmp_path / "pairs.jsonl"), "--labels", str(tmp_path / "labels.jsonl"), "--decoys", "0"]
    given += ["--bank", str(tmp_path / "bank.txt"), "--out", str(tmp_path / "out"), "--model", "tiny-random"]
    assert main(given) == 0
    assert [p.prefer for p in read_constitution(tmp_path / "out" / "kind.txt").principles] == [kind]
    assert [p.prefer for p in read_constitution(tmp_path / "out" / "brief.txt").principles] == [brief]
    assert {p.prefer for p in read_constitution(tmp_path / "out" / "merged.txt").principles} == {kind, brief}
