"""Rows of a conversation and the answer to learn from it: demonstrations, in every way that files write them.

Alpaca, Dolly    instruction (with input, or context), output or response
TRL              prompt, completion: texts or messages; messages that end with an answer
ShareGPT         conversations: {"from", "value"}, the last of them an answer
others           question and answer; system, prompt and response; history, instruction and output

Of a long conversation the last answer is what is learnt. A row in which somebody compared or rated answers is refused:
what people said of them would be dropped in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cai.core.errors import UserError
from cai.core.records import Chat
from cai.data.rows import evaluation, pairs, several, trees, versus
from cai.data.rows.prompts import ASKED, about, asked_of, check_columns, system_of
from cai.data.rows.turns import check_conversation, messages_of, with_system
from cai.data.rows.values import MEND, given

FORMS = (
    "a demonstration needs prompt + completion, instruction + output, question + answer, or messages that end with "
    "the answer"
)
ANSWERS = ("completion", "response", "output", "answer", "assistant_response", "generation")
WHOLE = ("messages", "conversations", "conversation")  # that may hold the answer
QUESTIONS = ("instruction", "question", "query", "prompt")


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """messages: the conversation, up to the person's last turn. id, split: as the row gives them, "" for none."""

    messages: Chat
    answer: str
    id: str
    subset: str
    split: str


def read_answered(row: Any) -> AnsweredRow:
    """Raises UserError naming why a row cannot be learnt from."""
    if not isinstance(row, Mapping):
        raise UserError("a row must be a JSON object", "", 'for example {"prompt": "...", "completion": "..."}')
    families = (pairs.reads, versus.reads, several.reads_list, several.reads_single, evaluation.reads)
    if any(reads(row) for reads in (*families, trees.reads_tree, trees.reads_message)):
        raise UserError(
            "answers that somebody compared or rated, and no demonstration", "",
            "name the file in data.source and set sft.learns: preferred, or drop the columns of ratings",
        )  # fmt: skip
    check_columns(row)
    name = next((name for name in ANSWERS if given(row.get(name))), None)
    messages, answer = _beside(row, name) if name else _within(row)
    check_conversation(messages)
    if not answer.strip():
        raise UserError("an answer without words", "", MEND)
    return AnsweredRow(messages, answer.strip(), **about(row, named=True))


def _beside(row: Mapping, name: str) -> tuple[Chat, str]:
    """Of a row with a column for the answer."""
    names = tuple(other for other in ASKED if other != name)
    asked, answer = asked_of(_with_context(row), names), row[name]
    if isinstance(answer, str):
        return asked, answer
    turns = messages_of(answer, name)
    if turns[-1].role != "assistant":
        raise UserError(f"`{name}` does not end with an answer", "", MEND)
    return (*asked, *turns[:-1]), turns[-1].content


def _with_context(row: Mapping) -> Mapping:
    """A text that a question is about follows it, as an Alpaca row's `input` follows the instruction."""
    context = row.get("context")
    name = next((name for name in QUESTIONS if isinstance(row.get(name), str) and row[name]), None)
    if not isinstance(context, str) or not name:
        return row
    return {**row, name: f"{row[name]}\n\n{context}".strip(), "context": None}


def _within(row: Mapping) -> tuple[Chat, str]:
    """Of a row whose conversation ends with the answer."""
    turns = next((row[name] for name in WHOLE if given(row.get(name))), None)
    if turns is None:
        raise UserError(f"no answer: its fields are {', '.join(map(str, row)) or 'none'}", "", FORMS)
    chat = with_system(messages_of(turns), system_of(row))
    if chat[-1].role != "assistant":
        raise UserError("a conversation that does not end with an answer", "", FORMS)
    return chat[:-1], chat[-1].content
