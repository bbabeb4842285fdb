"""Rows of K answers that people ranked or rated, and rows of one answer that somebody rated by itself.

    our own rankings    answers, and one of ranking, ratings, thumbs (cai/data/votes.py)
    UltraFeedback raw   instruction, completions: [{response, overall_score}]
    Nectar              prompt (a transcript), answers: [{answer, rank}]
    HelpSteer           prompt, response, helpfulness (with correctness, coherence, complexity, verbosity)
    KTO                 prompt, completion, label (true or false); BeaverTails: response, is_safe
    rated answers       prompt, response, and one of score, rating, thumb

Answers that were rated one a row are compared within one conversation, each with each, where one rater rated both.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from cai.core.errors import UserError
from cai.core.records import Chat, RaterVote, SetAside
from cai.data.rows.pairs import rater_of
from cai.data.rows.prompts import ASKED, about, asked_of
from cai.data.rows.records import FileRow, Judged, ScoredAnswer
from cai.data.rows.turns import messages_of
from cai.data.rows.values import MEND, given, number
from cai.data.votes import KINDS, THUMBS, judgements_of

_LISTS = ("answers", "completions", "responses", "candidates", "outputs", "generations", "model_outputs")
_TEXTS = ("response", "answer", "text", "content", "completion", "output")
# Kind of judgement -> what the list of them, and one of them, is called.
_LISTED = {
    "ranking": ("ranking", "ranks", "rank", "rankings"),
    "ratings": ("ratings", "scores", "rating", "score", "overall_scores", "overall_score"),
    "thumbs": ("thumbs", "labels"),
}
_JUDGED_BY = {
    "ranking": ("rank",),
    "ratings": ("overall_score", "score", "rating", "overall", "quality"),
    "thumbs": ("thumb", "label", "is_safe"),
}
_SINGLE = ("response", "completion", "answer", "output", "assistant_response", "generation")
_HELPSTEER = {"helpfulness", "correctness", "coherence", "complexity", "verbosity"}


# 1. K answers in one row ----------------------------------------------------------------------------------------------


def reads_list(row: Mapping) -> bool:
    return any(isinstance(row.get(name), list) and not _steps(row) for name in _LISTS) or "answers" in row


def _steps(row: Mapping) -> bool:
    """Steps of one solution, each right or wrong (stepwise supervision): no answers to be compared."""
    labels = row.get("labels")
    return isinstance(labels, list) and any(isinstance(label, bool) for label in labels)


def read_list(row: Mapping) -> FileRow:
    column = next(name for name in _LISTS if name in row)
    items = row[column]
    own: dict[str, Any] = {**{kind: row.get(kind) for kind in KINDS}, "answers": items, "scale": row.get("scale")}
    if isinstance(items, list) and items and all(isinstance(item, Mapping) for item in items):
        own |= {"answers": [_answer_text(item) for item in items], **_judged_each(items)}
    elif not any(given(own[kind]) for kind in KINDS):
        for kind, names in _LISTED.items():
            own[kind] = next((row[name] for name in names if given(row.get(name))), None)
    own["rater"] = rater_of(row)
    judged: dict[tuple[int, int], list[RaterVote]] = defaultdict(list)
    aside = []
    for item in judgements_of(own, ""):
        if isinstance(item, SetAside):
            aside.append(item.reason)
        else:
            judged[item.key].append(item.vote)  # pyrefly: ignore
    answers = own["answers"]
    pairs = tuple(Judged(a=answers[i], b=answers[j], votes=tuple(votes)) for (i, j), votes in sorted(judged.items()))
    names = tuple(name for name in ASKED if name != column)
    return FileRow(
        form="several answers",
        messages=asked_of(row, names),
        judged=pairs,
        aside=tuple(aside),
        **about(row, named=False),
    )


def _answer_text(item: Mapping) -> Any:
    return next((item[name] for name in _TEXTS if isinstance(item.get(name), str)), None)


def _judged_each(items: Sequence[Mapping]) -> dict[str, Any]:
    """The judgements that stand with each answer: of one kind, the first that is there."""
    for kind, names in _JUDGED_BY.items():
        for name in names:
            if any(given(item.get(name)) for item in items):
                values = [item.get(name) for item in items]
                if kind == "ranking" and 0 in [number(value) for value in values]:
                    values = [None if value is None else (number(value) or 0) + 1 for value in values]
                return {kind: values}
    return {}


# 2. One answer a row --------------------------------------------------------------------------------------------------


def reads_single(row: Mapping) -> bool:
    return _single(row) is not None


def _single(row: Mapping) -> tuple[str, str, str] | None:
    """(the column of the answer, that of its rating, the kind of rating)."""
    answer = next((name for name in _SINGLE if isinstance(row.get(name), str)), None)
    if answer is None and _conversation_with_answer(row):
        answer = "messages"
    if answer is None:
        return None
    if _HELPSTEER & set(row):
        return answer, "helpfulness", "ratings"
    for kind in ("ratings", "thumbs"):
        for name in _JUDGED_BY[kind]:
            if name in row and name != answer:
                return answer, name, kind
    return None


def _conversation_with_answer(row: Mapping) -> bool:
    turns = row.get("messages")
    return (
        isinstance(turns, list)
        and bool(turns)
        and isinstance(turns[-1], Mapping)
        and (turns[-1].get("role") == "assistant")
    )


def read_single(row: Mapping) -> ScoredAnswer:
    answer, column, kind = _single(row) or ("", "", "")
    judgement = row.get(column)
    if kind == "thumbs":
        value = THUMBS.get(str(judgement).lower()) if given(judgement) else None
        if value is None:
            raise UserError(f"`{column}` must be true or false", "", MEND)
    else:
        value = number(judgement)
        if value is None:
            raise UserError(f"`{column}` must be a number", "", MEND)
    form = "HelpSteer" if column == "helpfulness" else f"single answers ({column})"
    if answer == "messages":
        turns = messages_of(row["messages"])
        return ScoredAnswer(
            FileRow(form, turns[:-1], **about(row, named=False)), turns[-1].content, rater_of(row), value
        )
    names = tuple(name for name in ASKED if name != answer)
    prompt = FileRow(form, asked_of(row, names), **about(row, named=False))
    return ScoredAnswer(prompt, row[answer], rater_of(row), value)


def compare(scored: Iterable[tuple[str, ScoredAnswer]]) -> tuple[list[tuple[str, FileRow]], list[SetAside]]:
    """(rows of pairs at the place of the later answer, answers with none to compare them with).

    scored: (where, a rated answer). One rater's second word on one answer is a repetition, or the later one counts.
    """
    groups: dict[Chat, list[tuple[str, ScoredAnswer]]] = defaultdict(list)
    for where, answer in scored:
        groups[answer.row.messages].append((where, answer))
    rows, aside = [], []
    for group in groups.values():
        words: dict[str, dict[str, tuple[str, ScoredAnswer]]] = defaultdict(dict)  # rater -> answer -> the last word
        for where, answer in group:
            before, earlier = words[answer.rater].get(answer.answer, ("", answer))
            if before and earlier.value == answer.value:
                aside.append(SetAside(where, f"the same rating as {before}", answer.answer))
            elif before and answer.rater:
                aside.append(SetAside(before, f"rated otherwise by the same rater at {where}", answer.answer))
            elif before:
                aside.append(SetAside(where, f"contradicts the rating at {before}", answer.answer))
            if not before or answer.rater:
                words[answer.rater][answer.answer] = (where, answer)
        compared: dict[tuple[str, str], list[RaterVote]] = defaultdict(list)
        places: dict[tuple[str, str], str] = {}
        for rater, answers in words.items():
            for (_, answer), (where, other) in combinations(answers.values(), 2):
                a, b = sorted((answer, other), key=lambda each: each.answer)
                p_a = 0.5 if a.value == b.value else float(a.value > b.value)
                compared[a.answer, b.answer].append(RaterVote(rater, p_a))
                places.setdefault((a.answer, b.answer), where)
        first = group[0][1].row
        for (a, b), votes in compared.items():
            pair = Judged(a=a, b=b, votes=tuple(votes))
            row = FileRow(
                form=first.form, messages=first.messages, judged=(pair,), subset=first.subset, split=first.split
            )
            rows.append((places[a, b], row))
        if not compared:
            rows.append((group[0][0], first))
        for where, answer in (next(iter(own.values())) for own in words.values() if len(own) == 1):
            aside.append(SetAside(where, "a rated answer with no other to compare it with", answer.answer))
    return rows, aside
