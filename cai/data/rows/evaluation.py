"""The evaluation items of Bai et al. (2022): multiple-choice questions about a conversation, or within one.

    prompt, corrects, incorrects; some with text_correct, text_incorrect

Each is kept in both forms: as given, and as one of our pairs, so that every method of asking can be compared on it.
"""

import re
from collections.abc import Mapping

from cai.core.errors import UserError
from cai.core.records import Chat, Message, RaterVote
from cai.data.rows.records import Choice, FileRow, Judged
from cai.data.rows.turns import check_conversation, opening_of, parse_transcript
from cai.data.rows.values import MEND

# 1. The item --------------------------------------------------------------------------------------------------

_LABEL = re.compile(r"\s*\(?([A-Z])\)?\s*")
_OPTION = re.compile(r"(?m)^[ \t]*\(([A-Z])\)[ \t]*")
_MARKED = re.compile(r"\s*\[\[\[(.*)\]\]\]\s*", re.DOTALL)
_ASSISTANT = re.compile(r"(?:\A|\n)[ \t]*(?:Assistant|A):[ \t]*\Z")
# What tells a person or a model to choose, as against what somebody says in the conversation.
_ASKS = re.compile(
    r"(?is)(?=.*\b(?:choos|select|pick|compar|decid|identif|determin|indicat|evaluat|consider|which|best|better)\w*\b)"
    r"(?=.*\b(?:options?|responses?|repl(?:y|ies)|answers?|choices?|assistant|statements?)\b)"
)


def reads(row: Mapping) -> bool:
    return bool({"corrects", "incorrects"} & set(row))


def read(row: Mapping) -> FileRow:
    """The multiple choice as given, where the file has one, and the same comparison as a pair."""
    prompt = _text(row, "prompt")
    right, wrong = _first(row, "corrects"), _first(row, "incorrects")
    labels = [match[1] for option in (right, wrong) if (match := _LABEL.fullmatch(option))]
    body, lead = _opened(prompt, bool(labels))
    given = Choice((Message("user", _whole(body)),), (right, wrong), lead) if len(labels) == 2 else None
    if len(set(labels)) == 1:
        raise UserError("the right and the wrong option must be two labels, or two texts", "", MEND)

    # 1. The two answers: texts of their own, or the answers themselves, or what stands beside their labels.
    texts = None
    if isinstance(row.get("text_correct"), str) and isinstance(row.get("text_incorrect"), str):
        texts = _unmarked(row["text_correct"]), _unmarked(row["text_incorrect"])
    elif not labels:
        texts = _unmarked(right), _unmarked(wrong)
    before, options = _options(body, texts or ())
    if texts is None and not set(labels) <= set(options):
        raise UserError(f"the prompt shows no text for option {' or '.join(labels)}", "", MEND)
    better, worse = texts or (options[labels[0]], options[labels[1]])

    # 2. What they answer: the conversation; or, where the options say something about it, the question on the whole.
    turns, rest = _conversation(before, cut=bool(options))
    messages = turns or (Message("user", rest or before.strip()),)
    conduct = None
    if texts is None or (options and messages[-1].role == "assistant"):
        if len(turns) > 1 and turns[-1].role == "assistant":
            check_conversation(turns[:-1])
            conduct = (turns[:-1], turns[-1].content)
        messages = (Message("user", before.strip()),)
    opening = next((turn.content for turn in turns if turn.role == "user"), opening_of(messages))
    judged = Judged(a=better, b=worse, votes=(RaterVote("", 1.0),))
    return FileRow(
        form="evaluation item", messages=messages, judged=(judged,), choice=given, opening=opening, conduct=conduct
    )


def _text(row: Mapping, name: str) -> str:
    if not isinstance(row.get(name), str):
        raise UserError(f"`{name}` must be a text", "", MEND)
    return row[name]


def _first(row: Mapping, name: str) -> str:
    answers = row.get(name)
    if not isinstance(answers, list) or not answers or not isinstance(answers[0], str) or not answers[0].strip():
        raise UserError(f"`{name}` must be a list of texts", "", MEND)
    return answers[0]


def _unmarked(text: str) -> str:
    """Without white space around it, and without the [[[ ]]] that marks where a response begins and ends."""
    marked = _MARKED.fullmatch(text)
    return (marked[1] if marked else text).strip()


def _opened(prompt: str, labelled: bool) -> tuple[str, str]:
    """(what is asked, the words with which the answer begins). An opened assistant's turn is left to the template."""
    body = prompt.rstrip()
    if closed := _ASSISTANT.search(body):
        return body[: closed.start()].rstrip(), ""
    head, _, last = body.rpartition("\n")
    if not labelled or not head.strip() or _OPTION.match(last):
        return body, ""
    return head.rstrip(), last.strip().removeprefix("Assistant:").strip()


def _whole(body: str) -> str:
    """One user message: a prompt that is one turn of "Human:" as a whole loses that name to the template as well."""
    turns = parse_transcript(body)
    alone = len(turns) == 1 and turns[0].role == "user" and body.lstrip().startswith("Human:")
    return turns[0].content if alone else body.strip()


def _options(body: str, texts: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """(what stands before the options, label -> text). texts: the two answers, where they are known."""
    marks = list(_OPTION.finditer(body))
    starts = [mark for mark in marks if mark[1] == "A"]
    # An answer, or a turn of the conversation, may itself hold a list from (A) on.
    known = [m for m in starts if any(body[m.end() :].lstrip("\n [").startswith(text[:40]) for text in texts)]
    start = (known or starts or [None])[-1]
    if start is None or not any(mark[1] == "B" and mark.start() > start.start() for mark in marks):
        return body, {}
    options: dict[str, str] = {}
    shown = [mark for mark in marks if mark.start() >= start.start()]
    for mark, end in zip(shown, [*(mark.start() for mark in shown[1:]), len(body)], strict=True):
        options.setdefault(mark[1], _unmarked(body[mark.end() : end]))
    return body[: start.start()], options


# 2. Conversations -----------------------------------------------------------------------------------------------------


def _conversation(text: str, cut: bool) -> tuple[Chat, str]:
    """(turns, the text without instructions). cut: take what asks for a choice off the end.

    Turns are those of "Human:" and "Assistant:", or of "H:" and "A:"; what stands before the first one is a heading.
    Empty turns are dropped, and one speaker's turns in a row are joined.
    """
    rest = _without_request(text) if cut else text.strip()
    turns: list[Message] = []
    for turn in parse_transcript(_spelt_out(rest)):
        if turns and turn.content and turns[-1].role == turn.role:
            turns[-1] = Message(turn.role, f"{turns[-1].content}\n\n{turn.content}")
        elif turn.content:
            turns.append(turn)
    return tuple(turns), rest


def _without_request(text: str) -> str:
    """Without the paragraphs, or the last lines of a turn, that ask to choose between the options."""
    joined = not re.search(r"\n[ \t]*\n[ \t]*\Z", text)  # nothing between the last paragraph and the options
    paragraphs = re.split(r"\n[ \t]*\n", text.strip())
    while paragraphs:
        last = paragraphs[-1].strip()
        if not _SPEAKER.match(last) and (_ASKS.match(last) or last == "{}" or (joined and last.endswith(":"))):
            paragraphs.pop()
        elif _SPEAKER.match(last) and "\n" in last and _ASKS.match(last.rpartition("\n")[2]):
            paragraphs[-1] = last.rpartition("\n")[0]
        else:
            break
        joined = False
    return "\n\n".join(paragraphs)


_SPEAKER = re.compile(r"(?:Human|Assistant|H|A):")
_SPELT = {"H": "Human", "A": "Assistant", "Human": "Human", "Assistant": "Assistant"}


def _spelt_out(text: str) -> str:
    """The conversation as an HH-RLHF transcript, without what stands before its first turn; "" where there is none."""
    # Short names may stand inside a turn of "Human:" that holds the whole question, so they are looked for first;
    # names that begin a line, without a blank line before, are turns only where nothing else is.
    for gap in ("\n\n", "\n"):
        for human, assistant in (("H", "A"), ("Human", "Assistant")):
            turn = re.compile(rf"(?:\A|{gap})[ \t]*({human}|{assistant}):")
            first = turn.search(text)
            if first is None or not re.search(rf"(?:\A|{gap})[ \t]*{human}:", text):
                continue
            if human == "H" and re.search(r"(?:\A|\n)Assistant:", text):
                continue  # "H:" is said within a conversation of "Human:" and "Assistant:"
            inner = text[first.start() :]
            if gap == "\n\n" and len(turn.findall(inner)) == 1 and re.search(rf"\n[ \t]*{assistant}:", inner):
                continue  # one turn that holds the others
            return turn.sub(lambda match: f"\n\n{_SPELT[match[1]]}:", inner)
    return ""
