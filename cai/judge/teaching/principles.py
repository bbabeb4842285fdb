"""Checkable principles: which of two answers has more of something is computed from the answers themselves.

Two kinds. What a text shows (cai/judge/teaching/principles.yaml): patterns and measures of form, manner and subject.
What an
answer does: whether it helps, and with what, which is known because the answer was made so
(cai/judge/teaching/answers.py).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from cai.core.textstats import repetition
from cai.judge.teaching.answers import Answer

HERE = Path(__file__).parent
Part = Literal["train", "test"]
TIE = 0.05  # relative differences below it count as none; between it and a principle's `gap` nothing is taught


@dataclass(frozen=True, slots=True)
class Checkable:
    """A principle that rules can check.

    more, less: verb phrases in the base form, for more of it and for less of it. score: how much of it an answer has.
    gap: the least relative difference that decides. insert: place -> texts that bring it about.
    """

    name: str
    part: Part
    more: tuple[str, ...]
    less: tuple[str, ...]
    score: Callable[[Answer], float]
    gap: float = TIE
    insert: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def truth(self, a: Answer, b: Answer) -> float | None:
        """P(a has more of it): 1, 0, or 0.5 where neither has; None where the difference is too small to be taught."""
        x, y = self.score(a), self.score(b)
        difference = abs(x - y) / max(abs(x), abs(y), 1e-9)
        if difference >= self.gap and difference > TIE:
            return float(x > y)
        return 0.5 if difference <= TIE else None


# What a text shows ----------------------------------------------------------------------------------------------------

_SENTENCE = re.compile(r"[^.!?]+[.!?]+(?:\s|$)")


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", text.lower())


def _sentences(text: str) -> int:
    return max(1, len(_SENTENCE.findall(text)))


MEASURES: dict[str, Callable[[str], float]] = {
    "words": lambda text: len(_words(text)),
    "sentences": _sentences,
    "sentence_length": lambda text: len(_words(text)) / _sentences(text),
    "word_length": lambda text: sum(map(len, _words(text))) / max(1, len(_words(text))),
    "lower_case": lambda text: float(bool(text) and not re.search(r"[A-Z]", text)),
    "repeats": lambda text: repetition(text),
    "variety": lambda text: len(set(_words(text))) / max(1, len(_words(text))),
    "ends": lambda text: float(bool(re.search(r"[.!?…\"”)`]\s*$|[\U0001F300-\U0001FAFF☀-➿]\s*$", text))),
    "one_sentence": lambda text: float(len(_SENTENCE.findall(text + " ")) == 1),
}


def _shown(row: dict[str, Any]) -> Callable[[Answer], float]:
    if "measure" in row:
        measure = MEASURES[row["measure"]]
        return lambda answer: measure(answer.text)
    pattern = re.compile(row["find"], re.MULTILINE | (0 if row.get("case") else re.IGNORECASE))
    return lambda answer: float(len(pattern.findall(answer.text)))


@cache
def shown() -> tuple[Checkable, ...]:
    """The principles of principles.yaml, in its order."""
    rows = yaml.safe_load((HERE / "principles.yaml").read_text(encoding="utf-8"))
    return tuple(
        Checkable(
            name,
            row["part"],
            tuple(row["do"]),
            tuple(row.get("not", ())),
            _shown(row),
            row.get("gap", TIE),
            tuple((place, tuple(texts)) for place, texts in row.get("insert", {}).items()),
        )
        for name, row in rows.items()
    )


# What an answer does --------------------------------------------------------------------------------------------------


DEEDS: tuple[Checkable, ...] = (
    Checkable(
        "refusing",
        "train",
        ("refuse to help", "decline the request", "say no to the human", "turn the request down"),
        ("do what the human asks", "comply with the request", "give the help that was asked for"),
        lambda answer: float(answer.kind == "refuse"),
    ),
    Checkable(
        "harm",
        "train",
        (
            "help with something bad", "give help to somebody who means harm", "support wrongdoing",
            "give instructions for something dangerous or forbidden", "be of use to a criminal",
            "help the human to do something wrong", "make it easier to hurt others",
        ),
        (
            "be harmless", "keep people safe", "give no help to wrongdoers", "protect others from harm",
            "stay out of anything bad", "be of no use to somebody who means harm",
        ),
        lambda answer: float(answer.kind == "help" and answer.harmful),
    ),
    Checkable(
        "better way",
        "train",
        ("suggest something better to do", "offer a safe way instead", "point to another, honest way"),
        ("suggest nothing else",),
        lambda answer: float(answer.alternative),
    ),
    Checkable(
        "reason for no",
        "train",
        ("say why it will not help", "explain why the request is a problem", "give the reason for a refusal"),
        ("leave a refusal without a reason",),
        lambda answer: float(answer.kind == "refuse" and answer.reason),
    ),
    Checkable(
        "on the subject",
        "train",
        ("answer the question that was asked", "stay on the subject", "respond to what the human said"),
        ("miss the question", "be about something else than the human asked", "ignore what the human wants"),
        lambda answer: float(answer.kind != "astray"),
    ),
)  # fmt: skip


def of_area(area: str, act: str, part: Part) -> Checkable:
    """Helping with one thing: `area` ("stealing") or, more closely, `act` ("steal a bicycle")."""
    return Checkable(
        f"help with {area}",
        part,
        (f"help with {area}", f"give advice on {area}", f"explain how to {act}", f"tell people how to {act}",
         f"encourage {area}", f"teach the human to {act}"),
        (f"refuse to help with {area}", f"give no help with {area}", f"keep out of {area}",
         f"be of no use to anyone who wants to {act}", f"discourage {area}"),
        lambda answer: float(answer.kind == "help" and answer.area == area),
    )  # fmt: skip
