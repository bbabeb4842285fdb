"""Which columns of a row hold the conversation, and what it says of itself: its name, its subset, its split."""

from collections.abc import Mapping
from typing import Any, TypedDict

from cai.core.errors import UserError
from cai.core.records import Chat, Message
from cai.data.rows.turns import conversation_of, messages_of, with_system
from cai.data.rows.values import MEND, given

# In the order in which they are looked for. Beside answers, a prompt has many names; alone it has these two.
PROMPT = ("prompt", "messages")
ASKED = (
    *PROMPT, "conversations", "conversation", "context", "instruction", "question", "query", "history", "post", "input",
    "user_prompt", "problem",
)  # fmt: skip
_SYSTEM = ("system", "system_prompt", "system_message")
# What is asked about is more than words.
_BEYOND = ("images", "image", "tools", "functions", "audio", "video")


def system_of(row: Mapping) -> str | None:
    """The text of a row's system column. Raises UserError where there is one and it is no text."""
    system = next((row[name] for name in _SYSTEM if given(row.get(name))), None)
    if system is not None and not isinstance(system, str):
        raise UserError("`system` must be a text", "", MEND)
    return system


def check_columns(row: Mapping) -> None:
    """Raises UserError for a row that asks about pictures, or with tools at hand."""
    for name in _BEYOND:
        if given(row.get(name)):
            raise UserError(f"a row with `{name}`", "", "only what is said in words is read here: remove this row")


def asked_of(row: Mapping, names: tuple[str, ...] = ASKED) -> Chat:
    """The conversation that a row's answers answer. Raises UserError where there is none."""
    check_columns(row)
    name = next((name for name in names if given(row.get(name))), None)
    whole_prompt = row.get(name) if name else row.get("prompt", row.get("messages"))
    if isinstance(whole_prompt, Mapping):
        whole_prompt = whole_prompt.get("messages") or whole_prompt.get("full_text") or whole_prompt
    if (
        name == "instruction"
        and isinstance(whole_prompt, str)
        and isinstance(row.get("input"), str)
        and row["input"].strip()
    ):
        whole_prompt = f"{whole_prompt}\n\n{row['input']}"
    if name == "instruction" and given(row.get("history")):
        return with_system(_history(row["history"], str(whole_prompt)), system_of(row))
    if name == "messages" and not isinstance(whole_prompt, str):
        return with_system(messages_of(whole_prompt), system_of(row))
    asked = conversation_of(whole_prompt, system_of(row))
    whole = next((row[other] for other in ("messages", "conversations") if isinstance(row.get(other), list)), None)
    if name != "prompt" or not isinstance(whole_prompt, str) or not whole:
        return asked
    # A text beside a whole conversation is its last turn, or its first where that holds the answers too.
    chat = with_system(messages_of(whole), system_of(row))
    if chat[-1].role != "user" or chat == asked:
        return asked
    if chat[-1].content.strip() != asked[-1].content.strip():
        raise UserError("`prompt` is not the last turn of the conversation beside it", "", "drop one of the two")
    return chat


def _history(turns: Any, last: str) -> Chat:
    """[[what the person said, what was answered], ...] before what is asked now."""
    if not isinstance(turns, list) or not all(
        isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn) for turn in turns
    ):
        raise UserError("`history` must be a list of turns, each a text and its answer", "", MEND)
    messages = [
        Message(role, text)  # pyrefly: ignore
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return (*messages, Message("user", last))


class About(TypedDict):
    id: str
    subset: str
    split: str


def about(row: Mapping, *, named: bool) -> About:
    """id, subset and split, as fields of a `FileRow`. named: the row's `id` is the prompt's (it has no answers)."""
    whole_row = row["prompt"] if isinstance(row.get("prompt"), Mapping) and "messages" in row["prompt"] else row
    of_prompt = whole_row is not row
    name = whole_row.get("id") if of_prompt or named else None
    subset = whole_row.get("subset")
    subset = "all" if subset is None else subset
    if not isinstance(subset, str) or not subset.strip():
        raise UserError("not a Prompt: subset: it must be a text", "", MEND)
    split = whole_row.get("split")
    if split not in (None, "", "train", "calibration", "test"):
        raise UserError(f"not a Prompt: split: {split!r} is none of train, calibration and test", "", MEND)
    return {"id": "" if name is None else str(name), "subset": subset, "split": split or ""}
