"""What people voted in a conversation on Pol.is: its export, read strictly.

    comments.csv             comment-id, comment-body; moderated (-1: rejected, and left out), agrees, disagrees
    participants-votes.csv   participant, group-id, and a column for each comment: 1 agree, -1 disagree, 0 pass, empty
                             for one who has not seen it; n-agree and n-disagree, by which its rows are checked
    votes.csv                one vote a row: voter-id (or participant), comment-id, vote, and a group-id, which Pol.is's
                             own votes.csv has not

Other columns are not read. A constitution is made of what these files say, so nothing in them is guessed, and a cell
that cannot be read is no vote that is left out: it is an error with file and line, and all of them are named. Who has
no group (Pol.is groups nobody who voted on too little) is counted, and speaks for none.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai.core.errors import UserError, UserErrors, some
from cai.data.rows.files import read_raw
from cai.data.rows.values import MEND

COMMENTS, WIDE = "comments.csv", "participants-votes.csv"
VOTES = {"1": 1, "-1": -1, "0": 0}
MOST = 20  # faults that are named


@dataclass(frozen=True, slots=True)
class Statement:
    """A comment that was voted on. where: file:line."""

    id: str
    text: str
    where: str


@dataclass(frozen=True, slots=True)
class GroupVotes:
    """Of one group on one statement. seen: who agreed, disagreed or passed."""

    agree: int = 0
    disagree: int = 0
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Conversation:
    """votes: statement -> group -> what it voted. groups: name -> people in it. rejected: statements that moderators
    rejected; groupless: people who are in no group."""

    statements: tuple[Statement, ...]
    votes: Mapping[str, Mapping[str, GroupVotes]]
    groups: Mapping[str, int]
    rejected: int
    groupless: int


@dataclass(slots=True)
class _Reading:
    """What has been read so far. known: ids of comments. people: everybody's group, "" for none."""

    known: frozenset[str]
    faults: list[UserError]
    people: dict[str, str] = field(default_factory=dict)
    votes: dict[tuple[str, str], int] = field(default_factory=dict)  # (person, statement) -> 1, 0 or -1

    def fault(self, problem: str, where: str, remedy: str = MEND) -> None:
        self.faults.append(UserError(problem, where, remedy))


def files_of(source: Path, comments: Path | None) -> tuple[Path, Path]:
    """(the votes, the comments). source: the folder of an export, or the file of votes, which has the comments beside
    it where they are not named. Raises UserError for what is not there."""
    votes = source / WIDE if source.is_dir() else source
    comments = comments or votes.parent / COMMENTS
    for file, what in ((votes, "file of votes"), (comments, "file of comments")):
        if not file.is_file():
            remedy = f"name the folder of an export, with {COMMENTS} and {WIDE} in it, or the files"
            raise UserError(f"there is no {what}", str(file), remedy)
    return votes, comments


def read_conversation(votes: Path, comments: Path) -> Conversation:
    """Raises UserErrors with every fault of both files, at most 20; UserError where there are not two groups."""
    faults: list[UserError] = []
    statements, rejected = _statements(comments, faults)
    reading = _Reading(frozenset({statement.id for statement in statements} | rejected), faults)
    _read_votes(votes, reading)
    if faults:
        raise UserErrors(faults[:MOST]) if len(faults) > 1 else faults[0]
    people = reading.people
    groups = Counter(group for group in people.values() if group)
    if len(groups) < 2:
        problem = f"its people are in {len(groups)} group{'s' * (len(groups) != 1)}, and two are needed to have several"
        raise UserError(problem, str(votes), "give votes with a group-id for each person")
    counts: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
    for (person, statement), vote in reading.votes.items():
        if people[person]:
            counts[statement][people[person]][vote] += 1
    return Conversation(
        statements=tuple(statements),
        votes={
            statement.id: {group: _of(counts[statement.id][group]) for group in sorted(groups)}
            for statement in statements
        },
        groups=dict(sorted(groups.items())), rejected=len(rejected),
        groupless=sum(not group for group in people.values()),
    )  # fmt: skip


def group_name(given: Any) -> str:
    """`group-0` for Pol.is's 0; else as it is, without spaces; "" for nobody's."""
    text = "" if given is None else "-".join(str(given).split())
    whole = text.removesuffix(".0")
    return f"group-{whole}" if whole.isdecimal() else text


def _of(votes: Counter) -> GroupVotes:
    return GroupVotes(agree=votes[1], disagree=votes[-1], seen=votes.total())


def _statements(file: Path, faults: list[UserError]) -> tuple[list[Statement], set[str]]:
    """(those that stand, ids of those that moderators rejected)."""
    statements: list[Statement] = []
    rejected: set[str] = set()
    places: dict[str, str] = {}
    for where, row in _rows(file, ("comment-id", "comment-body"), faults):
        name, text = _whole(row["comment-id"]), " ".join(str(row["comment-body"] or "").split())
        moderated = _whole(row.get("moderated"))
        if not name.isdecimal():
            faults.append(UserError(f'comment-id is a whole number, not "{name}"', where, MEND))
        elif name in places:
            faults.append(UserError(f"comment {name} stands twice: at {places[name]} too", where, "remove one of them"))
        elif moderated not in ("", "-1", "0", "1"):
            faults.append(UserError(f'moderated is 1, 0 or -1, not "{moderated}"', where, MEND))
        elif moderated == "-1":
            rejected.add(name)
        elif not text:
            faults.append(UserError(f"comment {name} has no comment-body", where, MEND))
        else:
            statements.append(Statement(name, text, where))
        places.setdefault(name, where)
    return statements, rejected


def _read_votes(file: Path, reading: _Reading) -> None:
    wide = None
    for where, row in _rows(file, (), reading.faults):
        if wide is None:
            wide = "comment-id" not in row
            if missing := [name for name in _needed(row, wide) if name not in row]:
                problem = f"votes without a column {' and '.join(missing)}: it has {some(list(map(str, row)), 8)}"
                remedy = f"give {WIDE} of the export, or a table of voter-id, group-id, comment-id, vote"
                reading.fault(problem, f"{file}:1", remedy)
                return
            if wide and (unknown := [name for name in _columns(row) if name not in reading.known]):
                problem = f"no comment has the id {some(unknown)}, and there are votes on it"
                reading.fault(problem, f"{file}:1", f"give the {COMMENTS} of this export")
                return
        (_read_person if wide else _read_vote)(where, row, reading)


def _needed(row: Mapping, wide: bool) -> tuple[str, ...]:
    if wide:
        return ("participant", "group-id")
    return ("voter-id" if "participant" not in row else "participant", "group-id", "comment-id", "vote")


def _columns(row: Mapping) -> list[str]:
    """Of a wide table: those that are named by comments."""
    return [name for name in row if str(name).isdecimal()]


def _read_person(where: str, row: Mapping, reading: _Reading) -> None:
    """A row of all votes of one person."""
    person = _whole(row["participant"])
    if not person or person in reading.people:
        reading.fault(f"participant {person} stands twice" if person else "no participant is named", where)
        return
    reading.people[person] = group_name(row["group-id"])
    votes = {name: VOTES.get(_whole(row[name])) for name in _columns(row) if row[name] is not None}
    if bad := [name for name, vote in votes.items() if vote is None]:
        reading.fault(f'a vote is 1, 0, -1 or empty, not "{row[bad[0]]}" (comment {bad[0]})', where)
        return
    counted = Counter(votes.values())
    for column, vote, what in (("n-agree", 1, "agrees with"), ("n-disagree", -1, "disagrees with")):
        given = _whole(row.get(column))
        if given and given != str(counted[vote]):
            turned = given == str(counted[-vote])
            problem = f"{column} is {given}, and this person {what} {counted[vote]} comments"
            remedy = "1 must stand for agree and -1 for disagree: turn the votes round" if turned else MEND
            reading.fault(problem, where, remedy)
            return
    reading.votes |= {(person, name): vote for name, vote in votes.items() if vote is not None}


def _read_vote(where: str, row: Mapping, reading: _Reading) -> None:
    """A row of one vote."""
    person, group = _whole(row.get("voter-id", row.get("participant"))), group_name(row["group-id"])
    statement, vote = _whole(row["comment-id"]), VOTES.get(_whole(row["vote"]))
    before = reading.people.get(person, group)
    if not person:
        reading.fault("nobody is named", where)
    elif statement not in reading.known:
        reading.fault(f"no comment has the id {statement}", where)
    elif vote is None:
        reading.fault(f'a vote is 1, 0 or -1, not "{row["vote"]}"', where)
    elif before != group:
        reading.fault(f"{person} is in group {group or 'none'} here, and in {before or 'none'} above", where)
    elif (person, statement) in reading.votes:
        reading.fault(f"{person} votes twice on comment {statement}", where, "keep the later vote alone")
    else:
        reading.people[person], reading.votes[person, statement] = group, vote


def _rows(file: Path, columns: Sequence[str], faults: list[UserError]) -> Iterator[tuple[str, dict]]:
    """(where, row) of each row that is one; the others are faults."""
    first = True
    for raw in read_raw(file):
        if raw.fault or not isinstance(raw.value, dict):
            faults.append(UserError(raw.fault or "not a row of a table", raw.where, raw.remedy or MEND))
            continue
        if first and (missing := [name for name in columns if name not in raw.value]):
            problem = f"no column {' and '.join(missing)}: it has {some(list(map(str, raw.value)), 8)}"
            faults.append(UserError(problem, f"{file}:1", "give the file as Pol.is exports it"))
            return
        first = False
        yield raw.where, raw.value
    if first and not faults:
        faults.append(UserError("there is no row in it", str(file), "give the file as Pol.is exports it"))


def _whole(given: Any) -> str:
    """A cell as text; 3.0 is 3, as spreadsheets have it."""
    text = "" if given is None else str(given).strip()
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdecimal() else text
