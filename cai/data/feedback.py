"""The log of live feedback: which answers a person saw, and what they said of them, one JSON row each.

    {"id", "rater", "policy", "prompt_id", "messages": [...], "tokens": [ids], "pieces": [text of each token],
     "candidates", "predicted", "error", "at": ISO time}                                      an answer, before it shows
    {"answer": id, "rater", "value": signed, "seconds", "shown": [seconds], "ended": seconds | null, "at"}   a press
    {"left": id, "right": id, "chosen": id, "rater", "seconds", "at"}          which of two answers is the better one

All seconds count from the moment when the answer's first token stood on the page, by the page's clock; `shown` has the
tokens that were there when the key was pressed, and `ended` is null while more were to come. Of a choice they count
from when both answers stood there, and the last choice between two answers stands. One key is one row, and it is on the
disk before anything is learned from it (append.py).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cai.core.records import Message
from cai.data.append import RowLog

LARGEST = 10  # presses in one row; the page sends 1


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """An answer as it was shown. policy: digest of the weights. predicted, error: of its reward, None at first."""

    id: str
    rater: str
    policy: str
    prompt_id: str
    messages: tuple[Message, ...]
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    candidates: int
    predicted: float | None
    error: float | None
    at: str

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Feedback:
    """One press. See the module."""

    answer: str
    rater: str
    value: float
    seconds: float
    shown: tuple[float, ...]
    ended: float | None
    at: str


@dataclass(frozen=True, slots=True)
class AnswerChoice:
    """One choice between two answers. See the module."""

    left: str
    right: str
    chosen: str
    rater: str
    seconds: float
    at: str


class FeedbackLog(RowLog):
    """answers: by id, as written. given: the presses on each, as written. choices: by (left, right)."""

    strange = "a row that is no feedback"

    def _clear(self) -> None:
        self.answers: dict[str, ShownAnswer] = {}
        self.given: dict[str, list[Feedback]] = {}
        self.choices: dict[tuple[str, str], AnswerChoice] = {}

    def _kind(self, row: Any) -> type:
        keys = row if isinstance(row, dict) else {}
        return Feedback if "answer" in keys else AnswerChoice if "chosen" in keys else ShownAnswer

    def _take(self, number: int, record: ShownAnswer | Feedback | AnswerChoice) -> str:
        if fault := self._fault(record):
            return fault
        if isinstance(record, ShownAnswer):
            self.answers[record.id], self.given[record.id] = record, []
        elif isinstance(record, AnswerChoice):
            self.choices[record.left, record.right] = record
        else:
            self.given[record.answer].append(record)
        return ""

    def _fault(self, row: ShownAnswer | Feedback | AnswerChoice) -> str:
        if isinstance(row, ShownAnswer):
            if row.id in self.answers:
                return "an answer that stands twice"
            return "" if len(row.tokens) == len(row.pieces) else "an answer with other tokens than pieces"
        if isinstance(row, AnswerChoice):
            return self.fault_of_choice(row.left, row.right, row.chosen, row.rater, row.seconds)
        answer = self.answers.get(row.answer)
        if answer is None:
            return "feedback on an answer that is not in the log"
        if row.rater != answer.rater:
            return "feedback by another rater than the answer was shown to"
        return fault_of(row.value, row.seconds, row.shown, row.ended, len(answer.tokens))

    def fault_of_choice(self, left: str, right: str, chosen: str, rater: str, seconds: float) -> str:
        """What is wrong with a choice between two answers; "" where nothing is."""
        first, second = self.answers.get(left), self.answers.get(right)
        if first is None or second is None:
            return "a choice between answers that are not in the log"
        if left == right or first.messages != second.messages:
            return "a choice between answers that are not two to one conversation"
        if chosen not in (left, right):
            return "a choice of neither answer"
        if {first.rater, second.rater} != {rater}:
            return "a choice by another rater than the answers were shown to"
        return "" if math.isfinite(seconds) and seconds >= 0 else "seconds out of range"

    def keys(self) -> int:
        """How often a key was pressed: on an answer, or for one of two."""
        return sum(map(len, self.given.values())) + len(self.choices)

    def choices_of(self, rater: str) -> list[AnswerChoice]:
        return [choice for choice in self.choices.values() if choice.rater == rater]

    def of(self, rater: str | None = None, policy: str | None = None) -> list[ShownAnswer]:
        """Answers shown to one rater (None: to all) by one policy (None: by any), as written."""
        return [
            answer
            for answer in self.answers.values()
            if rater in (None, answer.rater) and policy in (None, answer.policy)
        ]

    def count(self) -> Counter[str]:
        """How often each kind of fault occurs."""
        return Counter(why for _, why in self.faults)


def fault_of(value: float, seconds: float, shown: Sequence[float], ended: float | None, tokens: int) -> str:
    """What is wrong with one press on an answer of so many tokens; "" where nothing is."""
    times = [*shown, *([] if ended is None else [ended])]
    if not (math.isfinite(value) and 0 < abs(value) <= LARGEST):
        return "a value out of range"
    if not all(math.isfinite(time) and time >= 0 for time in (seconds, *times)):
        return "seconds out of range"
    if len(shown) > tokens or list(times) != sorted(times) or (ended is not None and len(shown) < tokens):
        return "times that no answer can have been shown at"
    return ""
