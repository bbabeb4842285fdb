"""Rows of two answers under numbered or lettered names, and a column that says which of them is better.

    our own pairs                a, b, human (P(a better)), votes, raters, prompted
    PKU-SafeRLHF                 response_0, response_1, better_response_id, safer_response_id
    AlpacaEval                   instruction, output_1, output_2, preference (1 to 2), annotator
    LLMBar                       input, output_1, output_2, label (1 or 2)
    HelpSteer 2 and 3            response_1, response_2, preference_strength; overall_preference, -3 to 3
    SHP                          history, human_ref_A, human_ref_B, labels (1: A)
    MT-bench, Chatbot Arena      conversation_a, conversation_b, winner, judge; winner_model_a, winner_model_b
    ICAI                         text_a, text_b, preferred_text; annotated pairs with `annotations`
    JudgeBench, WebGPT           response_A, response_B, label "A>B"; answer_0, answer_1, score_0, score_1

Every column that holds a verdict is read; two that disagree name no better answer, and the row is set aside.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from cai.core.errors import UserError
from cai.core.records import Chat, RaterVote
from cai.data.rows.pairs import NEEDS_TWO, PARTED, rater_of
from cai.data.rows.prompts import ASKED, about, asked_of
from cai.data.rows.records import FileRow, Judged
from cai.data.rows.turns import messages_of, transcript_in
from cai.data.rows.values import MEND, given, mapping, number, probability

_STEMS = (
    "response", "answer", "output", "completion", "text", "reply", "summary", "human_ref", "generation", "model_output",
    "conversation", "candidate",
)  # fmt: skip
_ENDS = (("0", "1"), ("1", "2"), ("a", "b"), ("A", "B"))
FIRST, SECOND, TIE = 1.0, 0.0, 0.5
_HUMAN = "must be P(a better), from 0 to 1, or null"
# Columns that hold what somebody thought of two answers. Where none that is read has a value, these are named.
_VERDICTS = re.compile(
    r"(?:.*_)?(?:labels?|preferences?|preferred\w*|winner\w*|better\w*|safer\w*|choice|chosen|verdict|rank\w*|ratings?"
    r"|scores?|judge?ments?|annotations?|human\w*|vote\w*)(?:_\w+)?",
    re.IGNORECASE,
)


def columns(row: Mapping) -> tuple[str, str, str, str] | None:
    """(column of one answer, column of the other, and what tells them apart), None where there are no such two."""
    if "a" in row and "b" in row:
        return "a", "b", "a", "b"
    for stem in _STEMS:
        for first, second in _ENDS:
            for gap in ("_", ""):
                if f"{stem}{gap}{first}" in row and f"{stem}{gap}{second}" in row:
                    return f"{stem}{gap}{first}", f"{stem}{gap}{second}", first, second
    return None


def reads(row: Mapping) -> bool:
    return columns(row) is not None or "a" in row or "b" in row


def read(row: Mapping) -> FileRow:
    names = columns(row)
    if names is None:
        raise UserError(NEEDS_TWO, "", MEND)
    first, second, *_ = names
    if first == "a":
        return _own(row)
    form = _form(row, first)
    asked, a, b = _asked(row, first, second)
    verdicts = _verdicts(row, names)
    named = [name for name, value in verdicts.items() if value is not None]
    if len({verdicts[name] for name in named}) > 1:
        where = " and ".join(f"`{name}`" for name in named)
        problem = f"{where} name different answers as the better"
        raise UserError(problem, "", "keep the column that you mean and drop the other")
    people = _people(row, names)
    if not named and not people:
        _check_unread(row, names)
    votes = tuple(RaterVote(rater_of(row), verdicts[name] or 0.0) for name in named[:1])
    return FileRow(
        form=form, messages=asked, judged=(Judged(a=a, b=b, votes=people or votes),), **about(row, named=False)
    )


# 1. Our own pairs -----------------------------------------------------------------------------------------------------


def _own(row: Mapping) -> FileRow:
    a, b, given_human = row["a"], row["b"], row.get("human")
    if not isinstance(a, str) or not isinstance(b, str):
        raise UserError(NEEDS_TWO, "", MEND)
    human = probability(given_human)
    if given_human is not None and human is None:
        raise UserError(f"`human` {_HUMAN}", "", "1 means that a is better")
    votes = row.get("votes") or ([] if human is None else [human])
    read = [probability(vote) for vote in votes] if isinstance(votes, list | tuple) else [None]
    if None in read:
        raise UserError("each of `votes` must be P(a better), from 0 to 1", "", "1 means that a is better")
    names = row.get("raters") or ([rater_of(row)] * len(read) if rater_of(row) else [])
    if not isinstance(names, list | tuple) or len(names) not in (0, len(read)):
        raise UserError("`raters` must name who gave each of `votes`", "", "give as many names as votes, or none")
    prompted = row.get("prompted")
    if prompted is not None and probability(prompted) is None:
        raise UserError(f"`prompted` {_HUMAN}", "", "1: a was told to be the better")
    if human is None and not votes:
        named = {name: value for name, value in _verdicts(row, ("a", "b", "a", "b")).items() if value is not None}
        if len(set(named.values())) > 1:
            raise UserError(f"{' and '.join(named)} name different answers as the better", "", "keep one of them")
        human = next(iter(named.values()), None)
        read, names = ([] if human is None else [human]), [rater_of(row)] if human is not None else []
        if human is None:
            _check_unread(row, ("a", "b", "a", "b"))
    people = tuple(
        RaterVote(str(name), vote or 0.0) for name, vote in zip(names or [""] * len(read), read, strict=True)
    )
    pair = Judged(
        a=a, b=b, votes=people, human=human, id=str(row.get("id") or ""), own_order=True, prompted=probability(prompted)
    )
    return FileRow(form="pair", messages=asked_of(row), judged=(pair,), **about(row, named=False))


# 2. The answers -------------------------------------------------------------------------------------------------------


def _form(row: Mapping, first: str) -> str:
    if {"is_response_0_safe", "safer_response_id"} & set(row):
        return "PKU-SafeRLHF"
    if first == "output_1":
        return "LLMBar" if "label" in row else "AlpacaEval"
    if first.startswith("human_ref"):
        return "SHP"
    if "overall_preference" in row or "preference_strength" in row:
        return "HelpSteer"
    if first.startswith("conversation"):
        return "conversations side by side"
    if "preferred_text" in row or "_icai" in row:
        return "ICAI"
    return "two answers"


def _asked(row: Mapping, first: str, second: str) -> tuple[Chat, str, str]:
    """(the conversation, one answer, the other), also where the conversation is only within the answers."""
    a, b = (
        answer.get("text") if isinstance(answer, Mapping) and "text" in answer else answer
        for answer in (row[first], row[second])
    )
    a, b = _only(a, row), _only(b, row)
    if isinstance(a, list | Mapping) and isinstance(b, list | Mapping):
        return _last_answers(messages_of(a, first), messages_of(b, second))
    if not isinstance(a, str) or not isinstance(b, str):
        wrong = first if not isinstance(a, str) else second
        raise UserError(f"`{wrong}` must be a text", "", MEND)
    names = tuple(name for name in ASKED if name not in (first, second))
    if any(given(row.get(name)) for name in names):
        return asked_of(row, names), a, b
    if transcript_in(a) and transcript_in(b):
        return _last_answers(transcript_in(a), transcript_in(b))
    problem = f"no prompt: `{first}` and `{second}` answer nothing that the row names"
    raise UserError(problem, "", "add the column `prompt`, what both are answers to")


def _only(answer: Any, row: Mapping) -> Any:
    """The text of a list of one text; Chatbot Arena's tables write such lists as JSON, the prompt's among them."""
    listed = isinstance(row.get("prompt"), str) and row["prompt"].lstrip().startswith('["')
    if listed and isinstance(answer, str) and answer.lstrip().startswith("["):
        try:
            answer = json.loads(answer)
        except (ValueError, RecursionError):
            return answer
    return answer[0] if isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], str) else answer


def _last_answers(first: Chat, second: Chat) -> tuple[Chat, str, str]:
    if not first or not second or first[-1].role != "assistant" or second[-1].role != "assistant":
        raise UserError("does not end with an answer", "", MEND)
    if first[:-1] != second[:-1]:
        raise UserError(PARTED, "", "remove this row: its answers are not to one conversation")
    return first[:-1], first[-1].content, second[-1].content


# 3. The verdict -------------------------------------------------------------------------------------------------------


def _verdicts(row: Mapping, names: tuple[str, str, str, str]) -> dict[str, float | None]:
    """column -> P(the first answer is better), of every column of verdicts that is read and has a value."""
    left, right, first, second = names
    verdicts: dict[str, float | None] = {}
    for name, read in _READERS.items():
        if given(row.get(name)):
            verdicts[name] = read(row[name], first, second, (left, right), name)
    if given(row.get("winner_model_a")) or given(row.get("winner_model_b")):
        flags = [number(int(value) if isinstance(value := row.get(n, 0), bool) else value) or 0.0
                 for n in ("winner_model_a", "winner_model_b")]  # fmt: skip
        verdicts["winner_model_a"] = TIE if flags[0] == flags[1] else float(flags[0] > flags[1])
    if not verdicts:
        for stem in ("score", "rating", "overall_score"):
            values = [number(row.get(f"{stem}_{end}", row.get(f"{stem}{end}"))) for end in (first, second)]
            if values[0] is not None and values[1] is not None:
                verdicts[stem] = TIE if values[0] == values[1] else float(values[0] > values[1])
    return verdicts


def _named(value: Any, first: str, second: str, names: tuple[str, str], column: str) -> float:
    """A verdict in words ("text_a", "model_b", "A>B", "tie"), or one of the numbers by which the answers are called."""
    which = number(value) if not isinstance(value, bool) else None
    if which is not None and first.isdigit():
        if which in (float(first), float(second)):
            return FIRST if which == float(first) else SECOND
        raise UserError(f"`{column}` must be {first} or {second}, the number of the better output", "", MEND)
    word = str(value).strip().strip("[]()").lower() if isinstance(value, str) else ""
    ours = [{names[0].lower(), first.lower(), f"model_{first}".lower(), "first", "left", f"response {first}".lower()},
            {names[1].lower(), second.lower(), f"model_{second}".lower(), "second", "right",
             f"response {second}".lower()}]  # fmt: skip
    better = re.fullmatch(r"(\w+)\s*(>{1,2}|<{1,2}|=|~=)\s*(\w+)", word)
    if better and {better[1], better[3]} == {first.lower(), second.lower()}:
        if better[2] in ("=", "~="):
            return TIE
        return FIRST if (better[1] == first.lower()) == better[2].startswith(">") else SECOND
    if word in ours[0] | ours[1]:
        return FIRST if word in ours[0] else SECOND
    if word.startswith(("tie", "both", "draw", "equal", "same", "neither")):
        return TIE
    if first.isdigit():
        raise UserError(f"`{column}` must be {first} or {second}, the number of the better output", "", MEND)
    raise UserError(f"`{column}` names neither {names[0]} nor {names[1]}, nor a tie", "", MEND)


def _between(value: Any, first: str, second: str, names: tuple[str, str], column: str) -> float:
    """AlpacaEval's preference: a number from 1 (the first) to 2 (the second), between them how sure."""
    which = number(value)
    if which is None or not first.isdigit():
        return _named(value, first, second, names, column)
    if not float(first) <= which <= float(second):
        problem = f"`{column}` must be from {first} (the first is better) to {second} (the second is)"
        raise UserError(problem, "", MEND)
    return float(second) - which


def _signed(value: Any, first: str, second: str, names: tuple[str, str], column: str) -> float:
    """HelpSteer: below 0 where the first is better, above 0 where the second is."""
    which = number(value)
    if which is None or not -3 <= which <= 3:
        raise UserError(f"`{column}` must be from -3 to 3", "", "-3: the first answer is much better")
    return TIE if which == 0 else float(which < 0)


def _of_shp(value: Any, first: str, second: str, names: tuple[str, str], column: str) -> float:
    if not names[0].startswith("human_ref"):
        return _named(value, first, second, names, column)
    which = number(value)
    if which not in (0, 1):
        raise UserError("`labels` must be 1 (A is better) or 0", "", MEND)
    return float(which)


_READERS: dict[str, Callable[[Any, str, str, tuple[str, str], str], float]] = {
    "better_response_id": _named, "safer_response_id": _named, "preferred_text": _named, "preferred": _named,
    "preferred_response": _named, "winner": _named, "label": _named, "choice": _named, "labels": _of_shp,
    "preference": _between, "overall_preference": _signed, "preference_strength": _signed,
}  # fmt: skip


def _people(row: Mapping, names: tuple[str, str, str, str]) -> tuple[RaterVote, ...]:
    """What several people said of a row: HelpSteer's `individual_preference`, the annotations of ICAI's pairs.

    There principles stand among the annotators: what they say is a model's word, and no label.
    """
    left, right, first, second = names
    individual = row.get("individual_preference")
    if isinstance(individual, list) and individual and all(isinstance(each, Mapping) for each in individual):
        return tuple(RaterVote("", _signed(each.get("score"), "1", "2", ("", ""), "score")) for each in individual)
    individual, file = row.get("annotations"), mapping(row.get("_icai"))
    if not isinstance(individual, Mapping):
        return ()
    known, default = mapping(file.get("annotators")), mapping(file.get("metadata")).get("default_annotator")
    votes = []
    for name, each in individual.items():
        who = mapping(known.get(name))
        word = each.get("pref") if isinstance(each, Mapping) else each
        if (
            given(word)
            and word not in ("not_applicable", "invalid")
            and (name == default or who.get("type") not in ("principle", "ai", "model"))
        ):
            votes.append(RaterVote(str(who.get("name") or name), _named(word, first, second, (left, right), "pref")))
    return tuple(votes)


def _check_unread(row: Mapping, names: tuple[str, str, str, str]) -> None:
    """Raises UserError where a column that looks like a verdict would be dropped."""
    unread = [name for name in row if name not in names[:2] and _VERDICTS.fullmatch(name) and given(row[name])]
    if "is_response_0_safe" in row:
        unread.append("is_response_0_safe")
    if unread:
        problem = f"which answer is better cannot be read from {', '.join(f'`{name}`' for name in unread)}"
        raise UserError(problem, "", "say it in `human`: P(a better), 1, 0 or 0.5, of answers called `a` and `b`")
