"""`python -m cai.constitution publics SOURCE --out FOLDER`: a constitution for each group of people, and a merged one.

SOURCE is either

    an export of Pol.is   what people voted on statements (cai/data/polis.py). Chosen as below, nobody is asked
    judged pairs          with `--labels FILE`, people's labels of them by groups: each group's are read back as
                          `python -m cai.constitution infer` does, and those of all groups, each of which counts alike

The rule for statements, with the measures of cai/stats/consensus.py, all of which each principle's `Why:` states:

    able    so many people of a group have seen it (--seen), its share of those who agree is above one half, and that
            is sure at 90% by Pol.is's own test
    group   the statements for which the group is able, by share times representativeness: what is more its own than
            the others' comes first, then what it agrees with
    merged  the statements for which *every* group is able, by group-informed consensus (Huang et al. 2024)

and the first of each (--most). So a divisive statement is in the file of the group that wants it, and never in the
merged one, however large that group is.
"""

import argparse
import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cai.config.publics import MERGED, Raters, fault_of_groups
from cai.constitution.parse import escape, parse
from cai.core.durable import make_folders
from cai.core.errors import UserError, some
from cai.core.records import Pair, RaterVote, SetAside
from cai.data.labels import label_file, read_labels
from cai.data.polis import Conversation, GroupVotes, Statement, files_of, read_conversation
from cai.data.publics import groups_in, share_of_groups
from cai.data.votes import share
from cai.judge.inferring.candidates import shortened
from cai.judge.inferring.labelled import labelled, pairs_of
from cai.stats import consensus as counted

KEEPS = "Choose the response that better keeps to this: "


@dataclass(frozen=True, slots=True)
class Chosen:
    """A statement of one constitution. worth: what it was ordered by, of the rule above."""

    statement: Statement
    votes: Mapping[str, GroupVotes]
    worth: float


def run(args: argparse.Namespace) -> int:
    """Raises UserError(s) for what cannot be read, written or chosen."""
    if args.labels:
        return _by_labels(args)
    if args.group:
        problem = "the groups of an export are in it, and --group names those of --labels"
        raise UserError(problem, "--group", "leave it out, or give --labels FILE")
    votes, comments = files_of(Path(args.source), args.comments)
    conversation = read_conversation(votes, comments)
    if why := next((why for name in conversation.groups if (why := _unable(name))), ""):
        raise UserError(why, str(votes), "rename the group")
    chosen = {group: of_group(conversation, group, args.seen)[: args.most] for group in conversation.groups}
    chosen[MERGED] = of_all(conversation, args.seen)[: args.most]
    files = {name: args.out / f"{name}.txt" for name in chosen}
    _check_free(files.values())
    print(_about(conversation, votes))
    make_folders(args.out)
    for name, statements in chosen.items():
        if not statements:
            print(f"{name}: no statement is agreed with; nothing is written")
            continue
        text = written(name, statements, conversation, f"{votes.name} and {comments.name}", args.seen)
        parse(text, files[name])  # it can be read back
        files[name].write_text(text, encoding="utf-8", newline="\n")
        print(f"{files[name]}: {len(statements)} principles, the first: {statements[0].statement.text}")
    return 0 if chosen[MERGED] else 1


# 1. Statements that people voted on ------------------------------------------------------------------------------


def able(votes: GroupVotes, seen: int) -> bool:
    """Whether a group is known to agree with a statement. seen: how many of it must have seen it."""
    sure = counted.agrees(votes.agree, votes.seen) > counted.SURE
    return votes.seen >= seen and counted.share(votes.agree, votes.seen) > 0.5 and sure


def of_group(conversation: Conversation, group: str, seen: int = 1) -> list[Chosen]:
    """A group's statements, those first that are most its own."""
    found = []
    for statement in conversation.statements:
        votes = conversation.votes[statement.id]
        if able(votes[group], seen):
            worth = counted.share(votes[group].agree, votes[group].seen) * _own(votes, group)
            found.append(Chosen(statement, votes, worth))
    return sorted(found, key=lambda each: -each.worth)


def of_all(conversation: Conversation, seen: int = 1) -> list[Chosen]:
    """Statements that every group agrees with, by group-informed consensus."""
    found = []
    for statement in conversation.statements:
        votes = conversation.votes[statement.id]
        if all(able(each, seen) for each in votes.values()):
            worth = counted.consensus([(each.agree, each.seen) for each in votes.values()])
            found.append(Chosen(statement, votes, worth))
    return sorted(found, key=lambda each: -each.worth)


def _own(votes: Mapping[str, GroupVotes], group: str) -> float:
    mine, others = _apart(votes, group)
    return counted.representativeness(mine, others)


def _apart(votes: Mapping[str, GroupVotes], group: str) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """((agree, seen) of a group, of each other one)."""
    sides = {name: (each.agree, each.seen) for name, each in votes.items()}
    return sides.pop(group), list(sides.values())


def written(name: str, chosen: Sequence[Chosen], conversation: Conversation, source: str, seen: int) -> str:
    """The text of a constitution of the full form."""
    of = "every group agrees with" if name == MERGED else f"group {name} agrees with"
    order = "group-informed consensus" if name == MERGED else "share times representativeness"
    lines = [
        f"# What {of}",
        "",
        f"Made by python -m cai.constitution publics from {source}: {len(conversation.statements)} statements, "
        f"{sum(conversation.groups.values())} people in {len(conversation.groups)} groups. Statements that {of}, as "
        f"far as at least {seen} of each have seen them and more than half agree (sure at 90%), by {order}.",
    ]
    names: dict[str, int] = {}
    for each in chosen:
        title = _title(each.statement.text)
        names[title.casefold()] = names.get(title.casefold(), 0) + 1
        title += f" ({each.statement.id})" if names[title.casefold()] > 1 else ""
        lines += ["", f"## {title}"]
        for field, text in _fields(name, each).items():
            lines += ["", f"{field}: {escape(text)}"]
    return "\n".join(lines) + "\n"


def standard(statement: str) -> str:
    """A statement as a standard of choice: as it is, where it is one, and else what to keep to."""
    text = statement if statement[-1] in ".!?" else f"{statement}."
    if re.match(r"(?:please )?(?:choose|prefer|select|pick) the ", text, re.IGNORECASE):
        return text
    return f"{KEEPS}{text}"


def _fields(name: str, each: Chosen) -> dict[str, str]:
    said = "; ".join(
        f"{votes.agree} of {votes.seen} in {group} agree and {votes.disagree} disagree (share "
        f"{counted.share(votes.agree, votes.seen):.2f})"
        for group, votes in each.votes.items()
    )
    why = f"{said}. "
    if name == MERGED:
        why += f"Group-informed consensus {each.worth:.2f}."
    else:
        mine, others = _apart(each.votes, name)
        sure = "" if counted.differs(mine, others) > counted.SURE else ", not sure at 90%"
        why += f"Representativeness {counted.representativeness(mine, others):.2f}{sure}."
    text = standard(each.statement.text)
    rule = f"{shortened(text.removeprefix(KEEPS), 400)}."
    return {
        "Why": why,
        "Critique": f"Say in which ways the assistant's last response does not do this: {rule}",
        "Revise": f"Rewrite the response so that it does this: {rule}",
        "Prefer": text,
    }


def _title(statement: str) -> str:
    """The name of a principle: a heading has no backslash, and does not end in a mark."""
    return shortened(statement, 80).replace("\\", "/").strip("# ") or "statement"


def _about(conversation: Conversation, votes: Path) -> str:
    groups = ", ".join(f"{name} ({people})" for name, people in conversation.groups.items())
    return (
        f"{votes}: {len(conversation.statements)} statements ({conversation.rejected} more were rejected by "
        f"moderators); people by group: {groups}; {conversation.groupless} in no group"
    )


# 2. Labels of pairs, by groups -----------------------------------------------------------------------------------


def _by_labels(args: argparse.Namespace) -> int:
    """`infer` for each group, and for all of them."""
    from cai.judge.inferring import command
    from cai.judge.inferring.command import Matter

    file = label_file(args.labels).path
    groups = named_groups(args.group) if args.group else groups_in(file)
    pairs, faults = pairs_of(args.source, args.test)
    votes, aside = read_labels(file, pairs, [rater for raters in groups.values() for rater in raters])
    outs = {name: args.out / f"{name}.txt" for name in (*groups, MERGED)}
    _check_free(outs.values())
    make_folders(args.out)
    for name, rows in rows_of(pairs, votes, groups).items():
        own = copy.copy(args)
        own.out, own.annotated = outs[name], None
        print(f"=== {name}: {len(rows)} pairs", flush=True)
        matter = Matter(
            f"{args.labels} ({name})", (labelled(name, rows, args.test),), faults=(*faults, *_places(aside))
        )
        command.run(own, matter)
    return 0


def rows_of(
    pairs: Sequence[Pair], votes: Mapping[str, Sequence[RaterVote]], groups: Mapping[str, Raters]
) -> dict[str, list[tuple[Pair, float]]]:
    """Group, or `merged` -> (pair, P(a better) by it) of each pair that it labelled."""
    rows: dict[str, list[tuple[Pair, float]]] = {name: [] for name in (*groups, MERGED)}
    for pair in pairs:
        people = votes.get(pair.id, ())
        for name, raters in groups.items():
            if mine := [vote for vote in people if vote.rater in raters]:
                rows[name].append((pair, share(mine)))
        if people:
            rows[MERGED].append((pair, share_of_groups(people, groups)))
    return rows


def named_groups(given: Sequence[str]) -> dict[str, Raters]:
    """`brief=ann,bob` -> brief: (ann, bob). Raises UserError for what names no groups."""
    groups: dict[str, Raters] = {}
    for text in given:
        name, sign, raters = text.partition("=")
        if not sign or name in groups:
            problem = f'"{text}" names no group' if not sign else f"group {name} is named twice"
            raise UserError(problem, "--group", "write --group NAME=RATER,RATER once for each group")
        groups[name.strip()] = tuple(rater.strip() for rater in raters.split(",") if rater.strip())
    if why := fault_of_groups(groups):
        raise UserError(why, "--group", "write --group NAME=RATER,RATER once for each group")
    return groups


def _unable(name: str) -> str:
    """What keeps this from being the name of a group's file; "" where nothing does."""
    return fault_of_groups({name: ("one",), "other" if name != "other" else "another": ("two",)})


def _check_free(files) -> None:
    if taken := [str(file) for file in files if file.exists()]:
        raise UserError("this file exists already", some(taken), "remove it first, or give another --out")


def _places(aside: Sequence[SetAside]) -> tuple[tuple[str, str], ...]:
    return tuple((row.where, row.reason) for row in aside)
