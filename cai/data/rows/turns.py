"""Conversations in every way that files write them -> messages, or a fault that names what would have been lost.

    a list of messages     {"role", "content"} (OpenAI, TRL), {"from", "value"} (ShareGPT); content as a text or parts
    a transcript           HH-RLHF's "\\n\\nHuman: ...\\n\\nAssistant: ...", with User for Human, with any line ends
    a text                 one turn of a person

A conversation here is: a system turn or none, then a person's and an assistant's turns in turn, a person's last. Turns
of tools, system turns further on, pictures and calls of functions are refused: a model would be asked about another
conversation than people judged.
"""

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from cai.core.errors import UserError
from cai.core.records import Chat, Message
from cai.data.rows.values import MEND, given

ROLES: dict[str, str] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user", "person": "user", "customer": "user", "student": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "ai": "assistant", "chatbot": "assistant", "bing": "assistant", "bard": "assistant",
}  # fmt: skip
TOOLS = ("tool", "function", "observation", "ipython", "function_call", "tool_call", "tool_response", "environment")
# What a message may hold besides its text that is a part of what was said.
_MORE = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking", "images", "audio", "refusal")

_TURN = re.compile(r"\n\n(Human|Assistant):")
_SPEAKERS = (("Human", "Assistant"), ("User", "Assistant"), ("USER", "ASSISTANT"), ("User", "AI"), ("H", "A"))
# A prompt that some template has already rendered.
_RENDERED = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>)?\s*"
    r"(?:<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|\[INST\]|<\|(?:user|prompter|system)\|>)"
    r"|\s*Below is an instruction that describes a task\b.*### Response:\s*\Z",
    re.DOTALL,
)


# 1. Transcripts -------------------------------------------------------------------------------------------------------


def one_line_end(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_transcript(text: str) -> Chat:
    """An HH-RLHF transcript as messages. A turn begins at a blank line and a speaker's name, not at any colon."""
    parts = _TURN.split("\n\n" + one_line_end(text).lstrip())
    roles = {"Human": "user", "Assistant": "assistant"}
    return tuple(Message(roles[parts[i]], parts[i + 1].strip()) for i in range(1, len(parts) - 1, 2))  # pyrefly: ignore


def transcript_in(text: str) -> Chat:
    """The turns of a prompt that is a transcript, less the answer that it opens; () for a text that is none.

    It is one where it begins with a person's name and a colon, and goes on with the assistant's, or opens with a blank
    line as HH-RLHF's do.
    """
    plain = one_line_end(text)
    for human, assistant in _SPEAKERS:
        for gap in ("\n\n", "\n"):
            starts = re.match(rf"\s*{human}:", plain)
            if not starts or not (re.search(rf"{gap}{assistant}:", plain) or plain.startswith(f"\n\n{human}:")):
                continue
            names = re.compile(rf"(?:\A\s*|{gap}[ \t]*)({human}|{assistant}):")
            spelt = names.sub(lambda m: "\n\nHuman:" if m[1] == human else "\n\nAssistant:", plain)  # noqa: B023
            turns = parse_transcript(spelt)
            return turns[:-1] if turns and turns[-1] == Message("assistant", "") else turns
    return ()


# 2. Messages ----------------------------------------------------------------------------------------------------------


def messages_of(turns: Any, what: str = "messages") -> Chat:
    """A list of messages, or one message. Raises UserError naming what is not read."""
    if isinstance(turns, Mapping):
        turns = [turns]
    if isinstance(turns, str) and turns.lstrip()[:1] == "[":  # a list as text, as tables hold it
        try:
            turns = json.loads(turns)
        except (ValueError, RecursionError):
            raise UserError(f"`{what}` must be a list of messages", "", MEND) from None
    if not isinstance(turns, list) or not turns:
        raise UserError(f"`{what}` must be a list of messages", "", MEND)
    return tuple(_message(turn) for turn in turns)


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise UserError(
            f"not a Message: {json.dumps(turn, default=str)[:40]}", "", 'write {"role": ..., "content": ...}'
        )
    role = next((turn[name] for name in ("role", "from", "speaker") if given(turn.get(name))), None)
    if role is None:
        raise UserError("not a Message: role: it has none", "", 'write {"role": ..., "content": ...}')
    if str(role).lower() in TOOLS:
        raise UserError(f'a turn of a tool (role "{role}")', "", "only what people and assistants say is read here")
    known = ROLES.get(str(role).lower())
    if known is None:
        raise UserError(f'not a Message: role: "{role}" is none of system, user and assistant', "", MEND)
    for name in _MORE:
        if given(turn.get(name)):
            raise UserError(f"a message holds `{name}` besides its text", "", "only what is said in words is read here")
    content = next((turn[name] for name in ("content", "value", "text") if name in turn), None)
    return Message(known, _words(content))  # pyrefly: ignore


def _words(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise UserError("not a Message: content: it must be a text", "", MEND)
    texts: list[str] = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None
        if kind not in ("text", "input_text", "output_text") or not isinstance(text, str):
            raise UserError(f'a message holds a part of the type "{kind}"', "", "only text is read here")
        texts.append(text)
    return "\n".join(texts)


# 3. What a row asks ---------------------------------------------------------------------------------------------------


def conversation_of(turns: Any, system: Any = None) -> Chat:
    """What a prompt of any kind asks: a text, a transcript, messages; with the `system` column's turn before it."""
    if isinstance(turns, list) and len(turns) == 1 and isinstance(turns[0], str):
        turns = turns[0]
    if isinstance(turns, str) and turns.lstrip()[:2] in ('["', "[{"):
        try:
            return conversation_of(json.loads(turns), system)
        except (ValueError, RecursionError):
            pass
    if isinstance(turns, str):
        if _RENDERED.match(turns):
            problem = "a prompt that a chat template has already rendered"
            raise UserError(problem, "", "give the conversation as a list of messages")
        messages = transcript_in(turns) or (Message("user", turns),)
    elif isinstance(turns, list | Mapping) and turns:
        messages = messages_of(turns, "prompt")
    else:
        problem = "a row needs `prompt` (a text) or `messages` (a list)"
        raise UserError(problem, "", 'for example {"prompt": "..."}')
    return with_system(messages, system)


def with_system(messages: Chat, system: Any) -> Chat:
    if not given(system):
        return messages
    if not isinstance(system, str):
        raise UserError("`system` must be a text", "", MEND)
    if messages and messages[0].role == "system":
        if messages[0].content.strip() == system.strip():
            return messages
        raise UserError("`system` is not the system turn of the conversation", "", "keep one of them")
    return (Message("system", system), *messages)


def check_conversation(messages: Chat) -> None:
    """The one check of every conversation. Raises UserError for what no model can be asked."""
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    if any(not message.content.strip() for message in messages):
        raise UserError("a message without words", "", MEND)
    if any(message.role == "system" for message in turns):
        problem = "a system turn in the middle of the conversation"
        raise UserError(problem, "", "put it first, or remove this row: chat templates have no place for it")
    if turns and turns[-1].role != "user":
        problem = "the conversation must end with the user's turn"
        raise UserError(problem, "", "give two answers to compare, or take the last answer off")
    if not turns or turns[0].role != "user":
        raise UserError("does not begin with, or answer, a person", "", MEND)
    if any(first.role == second.role for first, second in pairwise(turns)):
        problem = "one speaker has two turns in a row"
        raise UserError(problem, "", "join them: many chat formats refuse that")


def opening_of(messages: Chat) -> str:
    """What the person said first; conversations that grow out of one opening are not independent of one another."""
    return next((message.content for message in messages if message.role == "user"), "")
