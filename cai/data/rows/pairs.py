"""Rows of two answers of which one was chosen.

HH-RLHF              chosen, rejected: transcripts that differ in the last answer
TRL and its like     chosen, rejected as texts or messages, with `prompt` or with the conversation within them
UltraFeedback        prompt (text), chosen, rejected: whole conversations; score_chosen, score_rejected
RewardBench          prompt, chosen, rejected (texts); version 2: chosen and rejected are lists, each with each
LLaMA-Factory        conversations, chosen, rejected: one message each
OpenAI               input: {messages}, preferred_output, non_preferred_output
rm-static, DPO mixes prompt (a transcript), response, chosen, rejected; system, question, chosen, rejected
Stack Exchange       question, response_j (the better), response_k
"""

from collections.abc import Mapping
from typing import Any

from cai.core.errors import UserError
from cai.core.records import Chat, RaterVote
from cai.data.rows.prompts import ASKED, about, asked_of, check_columns, system_of
from cai.data.rows.records import FileRow, Judged
from cai.data.rows.turns import messages_of, parse_transcript, transcript_in, with_system
from cai.data.rows.values import MEND, given, number

NAMES = (("chosen", "rejected"), ("preferred_output", "non_preferred_output"), ("response_j", "response_k"))
NEEDS_TWO = "a pair needs two answers as texts: `a` and `b`, or `chosen` and `rejected`"
PARTED = "the two conversations part before the last answer"


def reads(row: Mapping) -> bool:
    return "chosen" in row or "rejected" in row or any(better in row and worse in row for better, worse in NAMES)


def read(row: Mapping) -> FileRow:
    better, worse = next(
        ((row[first], row[second]) for first, second in NAMES if first in row and second in row), (None, None)
    )
    if better is None and worse is None:
        raise UserError(NEEDS_TWO, "", MEND)
    _scored_alike(row)
    if any(given(row.get(name)) for name in ASKED):
        return _answers_to(row, better, worse)
    if isinstance(better, str) and isinstance(worse, str):
        return _transcripts(row, better, worse)
    if isinstance(better, list) and isinstance(worse, list):
        check_columns(row)
        messages, answers = _parted(messages_of(better, "chosen"), messages_of(worse, "rejected"))
        judged = (_pair(*answers, row),)
        return FileRow(
            form="messages", messages=with_system(messages, system_of(row)), judged=judged, **about(row, named=False)
        )
    raise UserError("chosen and rejected must be transcripts", "", "see HH-RLHF: \\n\\nHuman: ... \\n\\nAssistant: ...")


def _scored_alike(row: Mapping) -> None:
    """Some files call one of two answers with one score `chosen`: nobody has said so."""
    first, second = (number(row.get(f"score_{name}", row.get(f"{name}_score"))) for name in ("chosen", "rejected"))
    if first is not None and second is not None and first <= second:
        problem = "chosen and rejected have one score" if first == second else "chosen has a lower score than rejected"
        raise UserError(problem, "", "remove this row: nobody preferred this answer")


def _transcripts(row: Mapping, better: str, worse: str) -> FileRow:
    chosen, rejected = parse_transcript(better), parse_transcript(worse)
    if not chosen or not rejected:
        chosen, rejected = transcript_in(better), transcript_in(worse)
    messages, answers = _parted(chosen, rejected)
    judged = (_pair(*answers, row),)
    known = about({"subset": "harmless", **row}, named=False)  # what HH-RLHF's own files are read as
    return FileRow(form="HH-RLHF", messages=with_system(messages, system_of(row)), judged=judged, **known)


def _parted(chosen: Chat, rejected: Chat) -> tuple[Chat, tuple[str, str]]:
    """(the conversation, the two answers to it) of two conversations that differ in their last answer."""
    if not chosen or not rejected or chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise UserError("does not end with an answer", "", MEND)
    if chosen[:-1] != rejected[:-1]:
        raise UserError(PARTED, "", "remove this row: its answers are not to one conversation")
    return chosen[:-1], (chosen[-1].content, rejected[-1].content)


def _answers_to(row: Mapping, better: Any, worse: Any) -> FileRow:
    """Answers beside a prompt of their own: texts, messages that go on from it, or conversations that hold it."""
    asked = _asked(row, better)
    texts = [
        answer if isinstance(answer, list) and answer and isinstance(answer[0], str) else [answer]
        for answer in (better, worse)
    ]
    if len(texts[0]) * len(texts[1]) > 1:  # RewardBench 2: each right answer against each wrong one
        judged = tuple(_pair(_text(first), _text(second), row) for first in texts[0] for second in texts[1])
        return FileRow(form="best of several", messages=asked, judged=judged, **about(row, named=False))
    first, second = texts[0][0], texts[1][0]
    if isinstance(first, str) and isinstance(second, str):
        whole = parse_transcript(first), parse_transcript(second)
        if all(len(turns) > 1 for turns in whole) and whole[0][:-1] == whole[1][:-1] == asked:
            first, second = (turns[-1].content for turns in whole)
        elif isinstance(row.get("prompt"), str) and transcript_in(row["prompt"]):
            first, second = first.strip(), second.strip()  # the space that stood behind "Assistant:"
        return FileRow(
            form="chosen and rejected", messages=asked, judged=(_pair(first, second, row),), **about(row, named=False)
        )
    if isinstance(first, str) or isinstance(second, str):
        raise UserError(NEEDS_TWO, "", MEND)
    chosen, rejected = messages_of(better, "chosen"), messages_of(worse, "rejected")
    messages, answers = _parted(chosen, rejected)
    messages = messages if _holds(messages, asked) else (*asked, *messages)
    return FileRow(form="messages", messages=messages, judged=(_pair(*answers, row),), **about(row, named=False))


def _asked(row: Mapping, better: Any) -> Chat:
    """The prompt; of a row that has `messages` beside whole conversations, it is the conversation itself."""
    asked = asked_of(row)
    if asked[-1].role == "assistant" and isinstance(better, list) and better and isinstance(better[0], Mapping):
        return messages_of(better, "chosen")[:-1]  # UltraFeedback's `messages` are `chosen` again
    return asked


def _holds(messages: Chat, asked: Chat) -> bool:
    """Whether a conversation holds the prompt that stands beside it: all of it, or its first or last turn."""
    if not messages:
        return False
    if not any(message.role == "user" for message in messages):
        return False
    if len(asked) > 1 and messages[-len(asked) :] == asked:
        return True
    of_person = [message.content.strip() for message in messages if message.role == "user"]
    alone = [message.content.strip() for message in asked if message.role == "user"]
    if messages[: len(asked)] == asked or (len(alone) == 1 and alone[0] in (of_person[0], of_person[-1])):
        return True
    if messages[0].role in ("system", "user"):
        raise UserError("`prompt` is not what `chosen` and `rejected` answer", "", "make them agree, or drop `prompt`")
    return False


def _text(answer: Any) -> str:
    if not isinstance(answer, str):
        raise UserError(NEEDS_TWO, "", MEND)
    return answer


def _pair(better: str, worse: str, row: Mapping) -> Judged:
    """Named by the file's own judge, where it says who that was."""
    if not isinstance(better, str) or not isinstance(worse, str):
        raise UserError(NEEDS_TWO, "", MEND)
    return Judged(a=better, b=worse, votes=(RaterVote(rater_of(row), 1.0),))


def rater_of(row: Mapping) -> str:
    """Who judged a row, "" where it does not say."""
    names = ("rater", "annotator", "annotator_id", "worker", "worker_id", "judge", "completed_by", "user_id")
    name_given = next((row[name] for name in names if given(row.get(name))), "")
    return " ".join(map(str, name_given)) if isinstance(name_given, list) else str(name_given)
