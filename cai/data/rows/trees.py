"""Open Assistant's trees of messages: each person's message with its ranked answers is a row of K answers.

Two files hold them: a tree a row (`prompt` with `replies` within `replies`), or a message a row (`message_id`,
`parent_id`). Ranks begin at 0, for the best; answers without a rank, deleted or under review are not compared.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

from cai.core.errors import UserError
from cai.core.records import Chat, Message, RaterVote
from cai.data.rows.records import FileRow, Judged, Node
from cai.data.rows.turns import ROLES
from cai.data.rows.values import MEND, given, rank

FORM = "OASST tree"


def reads_tree(row: Mapping) -> bool:
    return "message_tree_id" in row and isinstance(row.get("prompt"), Mapping)


def reads_message(row: Mapping) -> bool:
    return {"message_id", "parent_id", "role", "text"} <= set(row)


def read_tree(row: Mapping) -> list[FileRow]:
    """A row for each person's message that has two ranked answers or more; the first message alone if none has."""
    branches = list(_walk(row["prompt"], ()))
    return branches or [FileRow(FORM, (_message(row["prompt"]),))]


def _walk(node: Mapping, before: Chat) -> Iterator[FileRow]:
    path = (*before, _message(node))
    replies = node.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, Mapping) for reply in replies):
        raise UserError("`replies` must be a list of messages", "", MEND)
    replies = [reply for reply in replies if not reply.get("deleted") and reply.get("review_result") is not False]
    if path[-1].role == "user":
        ranked = [(_message(reply).content, place) for reply in replies if (place := _place(reply)) is not None]
        if len(ranked) > 1:
            yield _row(path, ranked)
    for reply in replies:
        yield from _walk(reply, path)


def _message(node: Mapping) -> Message:
    role = ROLES.get(str(node.get("role")).lower())
    if role is None or not isinstance(node.get("text"), str):
        raise UserError("a message of a tree needs `role` (prompter or assistant) and `text`", "", MEND)
    return Message(role, node["text"])  # pyrefly: ignore


def _place(node: Mapping) -> int | None:
    if not given(node.get("rank")):
        return None
    place = rank(node["rank"])
    if place is None:
        raise UserError("`rank` must be a whole number, 0 for the best", "", MEND)
    return place


def _row(messages: Chat, ranked: list[tuple[str, int]]) -> FileRow:
    judged = []
    for (first_text, first), (second_text, second) in combinations(ranked, 2):
        p_a = 0.5 if first == second else float(first < second)
        judged.append(Judged(a=first_text, b=second_text, votes=(RaterVote("", p_a),)))
    return FileRow(form=FORM, messages=messages, judged=tuple(judged))


# A message a row ------------------------------------------------------------------------------------------------------


def read_message(row: Mapping) -> Node | None:
    """None for a message that was taken back."""
    if row.get("deleted") is True or row.get("review_result") is False:
        return None
    message = _message(row)
    parent: Any = row.get("parent_id")
    return Node(
        id=str(row["message_id"]),
        parent=str(parent) if given(parent) else "",
        role=message.role,
        text=message.content,
        rank=_place(row),
    )


def join(placed: Iterable[tuple[str, Node]]) -> tuple[list[tuple[str, FileRow]], list[tuple[str, str]]]:
    """((where, row) of each person's message with ranked answers, (where, why) of messages without their parent)."""
    nodes: dict[str, tuple[str, Node]] = {}
    rows, lost = [], []
    for where, node in placed:
        if node.id in nodes:
            lost.append((where, f'another message has the id "{node.id}": {nodes[node.id][0]}'))
        nodes.setdefault(node.id, (where, node))
    answers: dict[str, list[Node]] = defaultdict(list)
    for _, node in nodes.values():
        if node.role == "assistant" and node.rank is not None:
            answers[node.parent].append(node)
    for where, node in nodes.values():
        if node.role != "user":
            if node.parent not in nodes:
                lost.append((where, "an answer to a message that is not in the file"))
            continue
        path = _path(node, nodes)
        if path is None:
            lost.append((where, "its conversation is not in the file from the beginning"))
            continue
        ranked = [(reply.text, reply.rank) for reply in answers[node.id] if reply.rank is not None]
        rows.append((where, _row(path, ranked) if len(ranked) > 1 else FileRow(FORM, path)))
    return rows, lost


def _path(node: Node, nodes: Mapping[str, tuple[str, Node]]) -> Chat | None:
    path: list[Message] = []
    seen: set[str] = set()
    at: Node | None = node
    while at is not None:
        path.append(Message(at.role, at.text))  # pyrefly: ignore
        if not at.parent:
            return tuple(reversed(path))
        if at.parent in seen or at.parent not in nodes:
            return None
        seen.add(at.parent)
        at = nodes[at.parent][1]
    return None
