"""How a conversation becomes token ids: rendered by the model's own template, checked, and safe from forged turns.

    chat_ids    a chat as the model sees it
    text_ids    a text that somebody has rendered already
    answer_ids  the ids with which the template writes an answer behind a chat that is opened for one
    harmless    text without anything that this tokenizer, or this template, would read as the mark of a turn

Two kinds of text meet here. What templates write (ours in prompts/, the model's, a user's own) may hold markers; what
strangers wrote (prompts, answers, principles) is neutralised message by message before it is rendered. The template of
a model is chosen, pinned and looked at in cai/models/chat_templates.py.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from cai.core.errors import UserError
from cai.core.records import Chat, Message
from cai.core.templates import neutralise
from cai.models.chat_templates import Frame, framed, render_raw, shape_of, written_by

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LETTERS = 4  # of a token, about
TEXTS = 256  # tokenised at once
ANCHORS = ("\n", "a", ":", ".")  # text to stand before a piece that is to be tokenised as the middle of a text


# 1. Chats ------------------------------------------------------------------------------------------------------------


def with_system(chat: Chat, system: str | None) -> Chat:
    """Put the system prompt first, unless the chat has its own. None leaves the model's template to itself."""
    if system is None or (chat and chat[0].role == "system"):
        return chat
    return (Message("system", system), *chat)


def answered(chat: Chat, answer: str, system: str | None) -> Chat:
    """A conversation and an answer to it: what a reward model scores."""
    return (*with_system(chat, system), Message("assistant", answer))


def folded(chat: Chat) -> Chat:
    """The chat without a system turn: what it says stands at the head of the first user turn."""
    if not chat or chat[0].role != "system":
        return chat
    system, *rest = chat
    if rest and rest[0].role == "user":
        return (Message("user", f"{system.content}\n\n{rest[0].content}"), *rest[1:])
    return (Message("user", system.content), *rest)


def plain(tokenizer: "PreTrainedTokenizerBase", chat: Chat) -> list[dict[str, str]]:
    """The chat as the libraries want it: no text that would be read as a mark of turns, no turn that is refused."""
    if chat and chat[0].role == "system" and shape_of(tokenizer).folds_system:
        chat = folded(chat)
    return [{"role": message.role, "content": harmless(tokenizer, message.content)} for message in chat]


def harmless(tokenizer: "PreTrainedTokenizerBase", text: str) -> str:
    """The text without anything that this tokenizer or its chat template would read as the mark of a turn."""
    return neutralise(text, _marks(tokenizer, str(tokenizer.chat_template), tuple(tokenizer.all_special_tokens)))


@lru_cache(maxsize=64)
def _marks(tokenizer: Any, template: str, named: tuple[str, ...]) -> tuple[str, ...]:
    # `all_special_tokens` knows the named ones alone; Llama 3's <|start_header_id|>, for one, has no name. And some
    # that a template writes (</think>) are added tokens which no tokenizer calls special.
    added = tokenizer.added_tokens_decoder.values()
    own = [str(token.content) for token in added if token.special or str(token.content) in template]
    return (*named, *own, *shape_of(tokenizer).marks)


# 2. Token ids --------------------------------------------------------------------------------------------------------


def chat_ids(tokenizer: "PreTrainedTokenizerBase", chat: Chat, *, answer: bool) -> list[int]:
    """Token ids of a chat. answer: end with the opening of an assistant turn, for the model to go on.

    Raises UserError where the template refuses the chat, or leaves a part of it out.
    """
    return encode(tokenizer, chat_text(tokenizer, chat, answer=answer))


def chat_text(tokenizer: "PreTrainedTokenizerBase", chat: Chat, *, answer: bool) -> str:
    """What `chat_ids` is made of."""
    messages = plain(tokenizer, chat)
    try:
        text = render_raw(tokenizer, messages, answer=answer)
    except Exception as error:
        if type(error).__module__.split(".")[0] != "jinja2":
            raise
        raise UserError(
            f"the model's chat template refuses the conversation: {str(error).strip() or type(error).__name__}",
            tokenizer.name_or_path,
            "let user and assistant take turns, the user first; or give another template (`template:`)",
        ) from None
    for message in messages:
        if message["content"].strip() not in text:
            raise UserError(
                f"the model's chat template leaves out what stands in a turn of the {message['role']}: "
                f'"{message["content"].strip()[:60]}"',
                tokenizer.name_or_path,
                "give another template (`template: plain`, or a .jinja file), or another model",
            )
    return text


def text_numbers(chat: Chat) -> list[int]:
    """A chat as numbers that stand for it in keys where no tokenizer is here, about as many as it has tokens."""
    text = json.dumps([[message.role, message.content] for message in chat], ensure_ascii=False)
    raw = text.encode("utf-8", "backslashreplace")
    return [int.from_bytes(raw[start : start + LETTERS], "big") for start in range(0, len(raw), LETTERS)]


def encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Ids of text that holds all its markers already."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def encoded(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> Iterator[list[int]]:
    """`encode` of many texts, in their order; a call of the tokenizer for many takes half as long as one for each."""
    rest = iter(texts)
    while some := list(islice(rest, TEXTS)):
        for text, ids in zip(some, tokenizer(some, add_special_tokens=False)["input_ids"], strict=True):
            yield list(ids) if text else []


def text_ids(tokenizer: "PreTrainedTokenizerBase", text: str, answer: str = "") -> list[int]:
    """Ids of a text as it stands, and of an answer behind it.

    The text is the caller's own, so its marks of turns are meant; the answer is not, so it can hold none. What a
    tokenizer puts before a text of its own accord (a beginning-of-sequence token) is put before one that was not
    rendered yet, or from which it was taken off again: never twice, and never where the template writes none.
    """
    bos, written = tokenizer.bos_token, _written(tokenizer, str(tokenizer.chat_template))
    whole = bool(bos) and text.startswith(str(bos))
    whole |= bos not in written and any(mark in text for mark in written)
    return list(tokenizer(text + harmless(tokenizer, answer), add_special_tokens=not whole)["input_ids"])


@lru_cache(maxsize=64)
def _written(tokenizer: Any, template: str) -> frozenset[str]:
    """What the template writes around turns. template: the tokenizer's own, for the cache."""
    return frozenset({*written_by(tokenizer), *shape_of(tokenizer).marks})


def answer_ids(tokenizer: "PreTrainedTokenizerBase", chat: Chat, answer: str) -> tuple[list[int], list[int]]:
    """(ids of the chat, opened for an answer; ids of the answer and of what ends its turn).

    The policy writes its answers behind the first, so what it learns from stands behind just that, whatever the
    template makes of a whole conversation: some write an answer otherwise than they ask for one (Mistral 0.3 moves the
    system prompt), and some tokenizers join the answer's first characters with what stands before them.
    """
    opened = chat_text(tokenizer, chat, answer=True)
    frame = frame_of(tokenizer, chat)
    if frame is None:
        chat_text(tokenizer, (*chat, Message("assistant", answer)), answer=False)  # which says why
        raise UserError(
            "the model's chat template writes no answer", tokenizer.name_or_path, "give another (`template: plain`)"
        )
    text = harmless(tokenizer, answer)
    start = encode(tokenizer, opened)
    written = frame.before + (text.strip() if frame.trims else text) + frame.behind
    return start, ids_after(tokenizer, opened, start, written)


def option_ids(
    tokenizer: "PreTrainedTokenizerBase", chat: Chat, lead: str, options: Sequence[str]
) -> tuple[list[int], list[list[int]]]:
    """The ids before the options, and each option's own ids: as the template would write them in an answer.

    lead: words that are put into the assistant's mouth. Lead and option are tokenised as one text behind the chat,
    because a tokenizer may join them; what all options then have in common with the bare lead is part of the start.
    """
    opened = chat_text(tokenizer, chat, answer=True)
    start = encode(tokenizer, opened)
    frame = frame_of(tokenizer, chat)
    lead = (frame.before if frame else "") + harmless(tokenizer, lead)
    bare = ids_after(tokenizer, opened, start, lead)
    whole = [ids_after(tokenizer, opened, start, lead + harmless(tokenizer, option)) for option in options]
    shared = 0
    while shared < len(bare) and all(len(ids) > shared and ids[shared] == bare[shared] for ids in whole):
        shared += 1
    tails = [ids[shared:] for ids in whole]
    if not all(tails) or len({tuple(tail) for tail in tails}) < len(tails):
        raise UserError(
            f"this tokenizer reads some of these answers alike: {', '.join(options)}",
            tokenizer.name_or_path,
            "use another model, or another method (judge.method)",
        )
    return start + bare[:shared], tails


def ids_after(tokenizer: "PreTrainedTokenizerBase", before: str, ids: list[int], text: str) -> list[int]:
    """Ids of `text` as it goes on from `before`, whose own ids are given and stay as they are."""
    if not text:
        return []
    whole = encode(tokenizer, before + text)
    if whole[: len(ids)] == ids:
        return whole[len(ids) :]
    # A token lies across the seam. Behind an anchor that joins with nothing the text has the ids of a text's middle.
    for anchor in ANCHORS:
        head, both = encode(tokenizer, anchor), encode(tokenizer, anchor + text)
        if both[: len(head)] == head:
            return both[len(head) :]
    return encode(tokenizer, text)


def frame_of(tokenizer: "PreTrainedTokenizerBase", chat: Chat) -> Frame | None:
    """How the template frames an answer to this chat: by its roles, whatever is in it."""
    roles = tuple(message["role"] for message in plain(tokenizer, chat))
    return framed(tokenizer, str(tokenizer.chat_template), roles)
