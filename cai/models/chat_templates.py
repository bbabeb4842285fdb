"""The chat template of a tokenizer: which one it is, what it is told, and what it makes of turns.

`template:` in a config is one of
    nothing        the model's own
    plain          PLAIN below, for base models that have none: "### Human:" and "### Assistant:" on lines of their own
    a name         of one of several that the tokenizer brings
    a .jinja file  a template of the user's
    arguments      {enable_thinking: false}: what the model's own template is told

A template that prints today's date would make other prompts, and other keys, each day: for all of them it is DATE.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cai.core.errors import UserError, input_text, suggest
from cai.core.shipped import at_home

Choice = str | Mapping[str, Any] | None

PLAIN_NAME = "plain"
PLAIN = (
    "{% if bos_token is defined and bos_token %}{{ bos_token }}{% endif %}"
    "{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ m['content'] + '\n\n' }}"
    "{% elif m['role'] == 'user' %}{{ '### Human:\n' + m['content'] + '\n\n' }}"
    "{% else %}{{ '### Assistant:\n' + m['content'] + eos_token + '\n\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)
# Of the models that are made here: the marks are special tokens, which no text can hold (`harmless` in chat.py).
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# 26 July 2024, the day that Llama 3's template takes where it knows no other.
DATE = {
    "%d": "26", "%-d": "26", "%e": "26", "%b": "Jul", "%B": "July", "%m": "07", "%-m": "7", "%Y": "2024", "%y": "24",
    "%A": "Friday", "%a": "Fri", "%H": "12", "%I": "12", "%M": "00", "%S": "00", "%p": "PM", "%j": "208", "%Z": "UTC",
    "%z": "+0000", "%F": "2024-07-26", "%T": "12:00:00",
}  # fmt: skip
PINNED = "{% macro strftime_now(format) %}{{ format" + "".join(
    f" | replace({key!r}, {value!r})" for key, value in DATE.items()
) + " }}{% endmacro %}"  # fmt: skip
WORD = "Zanzibar"  # no template writes it by itself
NOT_FOR_TALK = ("tool_use", "rag")  # names under which tokenizers keep templates of other kinds


# 1. Which one --------------------------------------------------------------------------------------------------------


def settle(tokenizer: Any, choice: Choice, name: str) -> None:
    """Give the tokenizer the one template that all chats are rendered by. name: of the model, for messages.

    Raises UserError where there is none, or several and none is named.
    """
    own = tokenizer.chat_template
    if isinstance(choice, str):
        tokenizer.chat_template = _named(own, choice, name)
    elif own is None:
        raise UserError(
            f'the tokenizer of "{name}" has no chat template',
            "template",
            "for a base model set `template: plain` beside `model:`; else use an instruction-tuned one",
        )
    elif isinstance(own, Mapping):
        tokenizer.chat_template = _only(own, name)
    given = "".join(
        f"{{% set {key} = {_literal(value, key)} %}}" for key, value in sorted(dict(_arguments(choice)).items())
    )
    pinned = PINNED if "strftime_now" in tokenizer.chat_template and PINNED not in tokenizer.chat_template else ""
    tokenizer.chat_template = pinned + given + tokenizer.chat_template


def _arguments(choice: Choice) -> Mapping[str, Any]:
    return choice if isinstance(choice, Mapping) else {}


def _named(own: Any, choice: str, name: str) -> str:
    if choice == PLAIN_NAME:
        return PLAIN
    if isinstance(own, Mapping) and choice in own:
        return own[choice]
    file = at_home(choice)
    if file.suffix in (".jinja", ".jinja2", ".j2") and file.is_file():
        return _of_file(file)
    known = [PLAIN_NAME, *(own if isinstance(own, Mapping) else ())]
    raise UserError(
        f'"{name}" has no chat template called "{choice}"',
        "template",
        f"{suggest(choice, known)}, or give a .jinja file",
    )


def _of_file(file: Path) -> str:
    text = input_text(file)
    if not text.strip():
        raise UserError("this chat template is empty", str(file), "write one, or leave `template` out")
    return text


def _only(own: Mapping[str, str], name: str) -> str:
    """The one of several that is for talk."""
    for_talk = [key for key in own if key not in NOT_FOR_TALK]
    if "default" not in own and len(for_talk) != 1:
        raise UserError(
            f'"{name}" has several chat templates and none is the default: {", ".join(own)}',
            "template",
            "name one: `template: NAME` beside `model:`",
        )
    return own["default"] if "default" in own else own[for_talk[0]]


def _literal(value: Any, key: str) -> str:
    """A value as jinja writes it, which is as JSON but for null."""
    if not key.isidentifier() or isinstance(value, (list, dict)):
        raise UserError(f"a template cannot be told {key}: {value}", "template", "give names with plain values")
    return "none" if value is None else json.dumps(value)


# 2. What it makes of turns -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurnForm:
    """folds_system: it refuses a system turn or leaves it out. marks: plain words that mark its turns ("[INST]")."""

    folds_system: bool
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands between the opening of an answer and its text, and behind the text; trims: white space at its ends
    is taken off."""

    before: str
    behind: str
    trims: bool


def render_raw(tokenizer: Any, messages: list[dict[str, str]], *, answer: bool) -> str:
    """Text of messages, as they are."""
    return tokenizer.apply_chat_template(messages, add_generation_prompt=answer, tokenize=False)


def shape_of(tokenizer: Any) -> TurnForm:
    """What the tokenizer's template makes of a few words in each role, tried once for each template."""
    return _shape(tokenizer, str(tokenizer.chat_template))


@lru_cache(maxsize=64)
def _shape(tokenizer: Any, template: str) -> TurnForm:
    system, user, reply, again = (f"{WORD}{place}x" for place in range(4))
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]
    longer = [*turns, {"role": "user", "content": again}]
    folds = system not in _try(tokenizer, [{"role": "system", "content": system}, turns[0]], answer=True)
    special = sorted({str(token) for token in tokenizer.added_tokens_decoder.values()}, key=len, reverse=True)
    marks: set[str] = set()
    for messages in (longer, [{"role": "system", "content": system}, *longer]):
        text = _try(tokenizer, messages, answer=True)
        words = [message["content"] for message in messages if message["content"] in text]
        pieces = re.split("|".join(map(re.escape, words)), text) if words else []
        if pieces:  # before the first turn stand notes of the template's own; only what opens the turn is a mark
            pieces[0] = (pieces[0].strip().splitlines() or [""])[-1]
        for piece in pieces:
            marks |= _marks_in(piece, special)
    return TurnForm(folds, tuple(sorted(marks)))


@lru_cache(maxsize=256)
def framed(tokenizer: Any, template: str, roles: tuple[str, ...]) -> Frame | None:
    """How the template frames an answer to turns of these roles; None where it refuses it, or leaves it out.

    template: the tokenizer's own, for the cache.
    """
    turns = [{"role": role, "content": f"{WORD}{place}x"} for place, role in enumerate(roles)]
    answer = f"\t{WORD}{len(roles)}x\t"  # no template writes a tab by itself
    opened = _try(tokenizer, turns, answer=True)
    whole = _try(tokenizer, [*turns, {"role": "assistant", "content": answer}], answer=False)
    trims = answer not in whole
    head, middle, behind = whole.rpartition(answer.strip() if trims else answer)
    if not middle:
        return None
    if head.startswith(opened):
        return Frame(head[len(opened) :], behind, trims)
    # It renders the conversation otherwise than it asks for an answer: compare what stands behind the last turn.
    last = turns[-1]["content"]
    asked, written = opened.rpartition(last)[2], head.rpartition(last)[2]
    return Frame(written[len(asked) :] if written.startswith(asked) else "", behind, trims)


def written_by(tokenizer: Any) -> set[str]:
    """The tokenizer's own tokens that its template writes around turns."""
    turns = [{"role": "user", "content": WORD}, {"role": "assistant", "content": WORD}]
    text = _try(tokenizer, turns, answer=False) + _try(tokenizer, turns[:1], answer=True)
    text += _try(tokenizer, [{"role": "system", "content": WORD}, turns[0]], answer=True)
    return {str(token) for token in tokenizer.added_tokens_decoder.values() if str(token) in text}


def _try(tokenizer: Any, messages: list[dict[str, str]], *, answer: bool) -> str:
    """The text, or nothing where the template refuses it."""
    try:
        return render_raw(tokenizer, messages, answer=answer)
    except Exception:  # whatever a template does with turns that it does not know
        return ""


# [INST], <</SYS>>, <|user|>, <start_of_turn>, and a line (or the end of one) such as "### Response:" or "USER:"
BRACKETS = re.compile(r"\[\|?/?[A-Za-z_]{3,}\|?\]|<<?[|/]*[A-Za-z_]+[|/]*>>?|<\|[^|<>\s]+\|>")
HEADING = re.compile(r"^\s*((?:#+ *)?[A-Z][\w ]{2,30}:|#{2,} *\w[\w ]{0,30})\s*$")


def _marks_in(piece: str, special: list[str]) -> set[str]:
    """Marks of turns in what a template writes between two of them, but for the tokenizer's own tokens."""
    for token in special:
        piece = piece.replace(token, "\n")
    marks = set(BRACKETS.findall(piece))
    for mark in marks:
        piece = piece.replace(mark, "\n")
    return marks | {match[1] for line in piece.splitlines() if (match := HEADING.match(line))}
