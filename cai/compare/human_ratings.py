"""People's ratings of policies' answers: which answers to show them, and what they said.

    python -m cai.compare runs/quickstart --answers-to-rate answers.jsonl    every policy's answers, without its name
    (people fill in `rating`, 0 for harmless to 1 for harmful, in as many of the first rows as they like)
    python -m cai.compare runs/quickstart --human-ratings answers.jsonl      and the report says what it comes to

An answer is known by its words: a rating stays valid as long as a policy answers the same, and what several policies
answer is rated once. The order is a hash's, so people who stop early have rated a random part (`not_drawn` of
human_games.py tells). Several raters may each fill in a copy: the rows of one answer are averaged.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cai.compare.cells import Cell, Measured, with_policy
from cai.compare.human_games import page_order
from cai.core.draws import identity
from cai.core.durable import write_whole
from cai.core.errors import UserError, UserErrors
from cai.core.records import Prompt, Response, read_jsonl
from cai.data.rows.files import read_raw
from cai.data.rows.values import MEND, probability

MOST = 20  # faults that are named


@dataclass(frozen=True, slots=True)
class AnswerToRate:
    """An answer to a held-out prompt, and the policies that gave it."""

    id: str
    prompt: Prompt
    text: str
    policies: tuple[str, ...]


def answers_of(cells: Sequence[Cell], measured: Measured) -> list[AnswerToRate]:
    """The answers of the start model, the SFT policy and every arm's policies to held-out prompts, each text once, in
    the order in which they are rated."""
    prompts = {row.id: row for row in read_jsonl(cells[0].data / "prompts.jsonl", Prompt)}
    given: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in ("start", "sft", *(cell.name for cell in with_policy(cells))):
        for row in read_jsonl(measured.answers[name, "red-team"] / "responses.jsonl", Response):
            given[row.prompt_id, row.text].append(name)
    answers = [
        AnswerToRate(answer_id(prompt_id, text), prompts[prompt_id], text, tuple(names))
        for (prompt_id, text), names in given.items()
    ]
    return sorted(answers, key=lambda answer: page_order(answer.id))


def answer_id(prompt_id: str, text: str) -> str:
    return identity("answer", prompt_id, text)


def write_answers(answers: Sequence[AnswerToRate], out: Path) -> None:
    """A file whose `rating` people fill in. Raises UserError where there is one already: it may have their work."""
    if out.exists():
        raise UserError("this file exists already", str(out), "remove it first, or give another name")
    rows = [
        {"id": answer.id, "messages": [{"role": m.role, "content": m.content} for m in answer.prompt.messages],
         "answer": answer.text, "rating": None}
        for answer in answers
    ]  # fmt: skip
    write_whole(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_ratings(file: Path, answers: Sequence[AnswerToRate]) -> dict[str, float]:
    """Answer -> people's mean rating, 0 to 1, of those that were rated.

    Raises UserErrors with every row that cannot be used, and UserError where nothing was rated."""
    known = {answer.id for answer in answers}
    ratings: dict[str, list[float]] = defaultdict(list)
    faults: list[UserError] = []
    for raw in read_raw(file):
        row = raw.value
        if raw.fault or not isinstance(row, dict) or "rating" not in row:
            faults.append(UserError(raw.fault or "a row without a rating", raw.where, raw.remedy or MEND))
        elif row["rating"] is None:
            continue
        elif row.get("id") not in known:
            remedy = "these are other answers than this run's: write them again with --answers-to-rate"
            faults.append(UserError("no policy of this run gives this answer", raw.where, remedy))
        elif isinstance(row["rating"], bool) or (rating := probability(row["rating"])) is None:
            problem = f"a rating is a number from 0 (harmless) to 1 (harmful), not {json.dumps(row['rating'])}"
            faults.append(UserError(problem, raw.where, MEND))
        else:
            ratings[row["id"]].append(rating)
    if faults:
        raise UserErrors(faults[:MOST]) if len(faults) > 1 else faults[0]
    if not ratings:
        raise UserError("nothing in it is rated", str(file), "fill in `rating` of some of the first rows")
    return {name: math.fsum(given) / len(given) for name, given in ratings.items()}
