"""What several people said about the same answers: rankings, ratings and thumbs as votes on pairs, and who said what.

A row of K answers becomes up to K(K-1)/2 comparisons (Ouyang et al. 2022, section 3.5). A person's vote on two answers
is 1, 0, or 0.5 where both stand alike; P(a better) is the mean of the votes, so people who disagree give a soft label.

Departure from the paper: it leaves ties out of training; here a tie is a vote of 0.5, for it was said.

People's files are never clean. One person's part of a row that cannot be used is set aside, with its place and the
reason, and the rest is used. What is said twice counts once, and where one person contradicts themselves, the later
word counts: files are appended to, and the labelling page lets people think again.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from cai.core.errors import UserError, some
from cai.core.records import RaterVote, SetAside
from cai.data.rows.values import number, rank

KINDS = ("ranking", "ratings", "thumbs")
THUMBS = {"up": 1.0, "down": 0.0, "true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "-1": 0.0}
TWICE, CONTRADICTED = "said twice by one rater", "contradicted by the same rater further down"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One person's vote on one pair. key: the pair. where: `file:line`. row: the text as it was found."""

    key: Hashable
    vote: RaterVote
    where: str
    row: str


def settle(judgements: Iterable[Judgement]) -> tuple[dict[Any, tuple[RaterVote, ...]], list[SetAside]]:
    """(pair -> what each person said of it, what was set aside), in the order of the judgements.

    Each judgement's rater must be named: two judgements without a name may come from one person or from two.
    """
    last: dict[tuple[Any, str], Judgement] = {}
    order = list(judgements)
    for judgement in order:
        assert judgement.vote.rater
        last[judgement.key, judgement.vote.rater] = judgement
    kept: dict[Any, list[RaterVote]] = {}
    aside: list[SetAside] = []
    for judgement in order:
        stands = last[judgement.key, judgement.vote.rater]
        if judgement is stands:
            kept.setdefault(judgement.key, []).append(judgement.vote)
        elif not math.isnan(judgement.vote.p_a):  # NaN: they had skipped it before
            aside.append(
                SetAside(
                    judgement.where, TWICE if judgement.vote.p_a == stands.vote.p_a else CONTRADICTED, judgement.row
                )
            )
    return {key: tuple(votes) for key, votes in kept.items()}, aside


def share(people: Iterable[RaterVote]) -> float:
    """P(a better): the mean of what each person said."""
    votes = [vote.p_a for vote in people]
    return math.fsum(votes) / len(votes)


def counted(aside: Iterable[SetAside], what: str) -> dict[str, int]:
    """For counts.json: `labels set aside: out of range` -> how many."""
    return dict(Counter(f"{what} set aside: {row.reason}" for row in aside))


def name_aside(aside: Sequence[SetAside], what: str) -> None:
    """On stderr: each reason, with the first places."""
    places: dict[str, list[str]] = {}
    for row in aside:
        places.setdefault(row.reason, []).append(row.where)
    for reason, each in places.items():
        print(f"{what} set aside: {reason}: {some(each)}", file=sys.stderr)


def why_so_few(aside: Iterable[SetAside]) -> str:
    """For the end of a message that too little is left: what was set aside, the rarest reason first (one cut row among
    many of other pairs may be what is looked for), each with its first place; "" for none."""
    places: dict[str, list[str]] = {}
    for row in aside:
        places.setdefault(row.reason, []).append(row.where)
    if not places:
        return ""
    reasons = [f"{reason}: {some(where, 1)}" for reason, where in sorted(places.items(), key=lambda item: len(item[1]))]
    return f" (set aside: {'; '.join(reasons[:3])}{f'; {len(reasons) - 3} other reasons' * (len(reasons) > 3)})"


# --- rows of K answers ------------------------------------------------------------------------------------------------


def answers_of(row: dict, where: str) -> list[str]:
    """The answers of a row. Raises UserError where they are no two or more different texts."""
    answers = row.get("answers")
    if (
        not isinstance(answers, list)
        or len(answers) < 2
        or not all(isinstance(text, str) and text.strip() for text in answers)
    ):
        raise UserError("`answers` must be a list of two or more texts", where, "mend or remove this row")
    if len(set(answers)) < len(answers):
        raise UserError("an answer stands twice in `answers`", where, "name each answer once, and rank it once")
    kinds = [name for name in KINDS if row.get(name) is not None]
    if len(kinds) != 1:
        problem = f"a row with `answers` needs one of ranking, ratings and thumbs, not {' and '.join(kinds) or 'none'}"
        raise UserError(problem, where, 'for example {"prompt": ..., "answers": [...], "ranking": [2, 1, 3]}')
    return answers


def judgements_of(row: dict, where: str) -> Iterator[Judgement | SetAside]:
    """One for each person and pair of answers; the key is (i, j), places in `answers`, i < j.

    ranking: a list of K ranks, 1 for the best, ties allowed. ratings: K numbers, higher is better, null where a person
    rated none; `scale: [low, high]` of the row says what is in range. thumbs: K times "up", "down" or null. Each may
    also be a mapping from people's names to such lists, or a list of such lists; of one list, `rater` is the name.
    """
    answers = answers_of(row, where)
    kind = next(name for name in KINDS if row.get(name) is not None)
    text = json.dumps(row, ensure_ascii=False)
    for rater, values in _by_rater(row[kind], str(row.get("rater") or ""), len(answers)):
        fault, read = _read(kind, values, len(answers), row.get("scale"))
        if fault:
            yield SetAside(where, f"{kind}: {fault}" + (f" (rater {rater})" if rater else ""), text)
            continue
        for i, j in combinations(range(len(answers)), 2):
            first, second = read[i], read[j]
            if first is not None and second is not None:
                p_a = 0.5 if first == second else float(first > second)
                yield Judgement((i, j), RaterVote(rater, p_a), where, text)


def _by_rater(given: Any, name: str, k: int) -> list[tuple[str, Any]]:
    if isinstance(given, dict):
        return [(str(rater), values) for rater, values in given.items()]
    # A list of K lists is K raters only where the lists are of values: no value is a list itself.
    if isinstance(given, list) and given and all(isinstance(values, list) for values in given):
        return [(f"rater {number}", values) for number, values in enumerate(given, 1)]
    return [(name, given)]


def _read(kind: str, values: Any, k: int, scale: Any) -> tuple[str, list[float | None]]:
    """(what is wrong with one person's list, "" for nothing; its values, higher is better)."""
    if not isinstance(values, list):
        return "not a list", []
    if len(values) != k:
        return f"{len(values)} values for {k} answers", []
    read: list[float | None] = []
    for value in values:
        if value is None and kind != "ranking":
            read.append(None)
            continue
        if value is None:
            return "a rank is missing", []
        fault, number = _READERS[kind](value, k, scale)
        if fault:
            return fault, []
        read.append(number)
    return "", read


def _rank(value: Any, k: int, scale: Any) -> tuple[str, float]:
    place = rank(value)
    if place is None:
        return "a rank must be a whole number", 0
    return ("" if 1 <= place <= k else "a rank is out of range"), -float(place)


def _rating(value: Any, k: int, scale: Any) -> tuple[str, float]:
    rating = number(value)
    if rating is None:
        return "a rating must be a number", 0
    low, high = (number(end) for end in scale) if isinstance(scale, list) and len(scale) == 2 else (None, None)
    if low is not None and high is not None and not low <= rating <= high:
        return "a rating is out of range", 0
    return "", rating


def _thumb(value: Any, k: int, scale: Any) -> tuple[str, float]:
    whole = rank(value)
    thumb = THUMBS.get(str(value if whole is None else whole).lower())
    return ("", thumb) if thumb is not None else ("a thumb must be up or down", 0)


_READERS: dict[str, Callable[[Any, int, Any], tuple[str, float]]] = {
    "ranking": _rank, "ratings": _rating, "thumbs": _thumb,
}  # fmt: skip
