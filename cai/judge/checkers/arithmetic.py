"""`Check: arithmetic`: does what an answer calculates come out right, and is the question's sum answered?

    1. claims    every `expression = number` in the answer, `=` also as "is", "equals", "gives" or "makes"; a chain
                 3 + 4 = 7 = 14 / 2 is one claim for each `=`. All must be true.
    2. result    where the last question of the human holds one expression (17 * 23, "12 percent of 80"), the answer's
                 result must be its value. The result is the last number that stands neither in a claim nor in the
                 question; where there is none, what the last chain comes to; where there is no chain, the last number
                 that does not merely say the question again.

A written number is right as it stands or rounded to the decimals that it has (`exact arithmetic`: only as it stands).
An answer without either, and a number that is written as a word, give nothing to check. So does what cannot be read:
"5 apples + 3 apples", a root, 9^9^9. Known limits: "2 + 2 = 5 is wrong" is read as a claim, and an answer that says
more numbers after its result is taken at the last of them.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from cai.core.records import Prompt
from cai.judge.checkers.expressions import NUMBER, ByZero, TooLarge, Unreadable, equal, evaluate, shown
from cai.judge.checkers.result import NOTHING, CheckResult, question_of

LENGTH = 20_000  # characters of an answer that are read
_EQUALS = r"(?:=|\b(?:is\s+equal\s+to|equals|makes|gives|is)\b)"
# What people and models write, as the signs of expressions.py. In this order.
_SIGNS = (
    (re.compile(r"^[ \t]*(?:[-*+•][ \t]+|\(?[0-9]{1,3}[.)][ \t]+)", re.MULTILINE), ""),  # a list's item
    (re.compile(r"\\(?:left|right|[()\[\],;!]|quad|boxed)|\$|`"), " "),
    (re.compile(r"\\d?frac\{(" + NUMBER + r")\}\{(" + NUMBER + r")\}"), r"(\1/\2)"),
    (re.compile(r"\\(?:times|cdot)\b|[×·∙⋅✕]"), " * "),
    (re.compile(r"\\div\b|÷"), " / "),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"(?<=[0-9)])[ ]?\*\*[ ]?(?=[0-9(])"), "^"),
    (re.compile(r"\*\*|__|\\%"), lambda match: "%" if match[0] == r"\%" else " "),
    (re.compile(r"(?<=[0-9)])²"), "^2 "),
    (re.compile(r"(?<=[0-9)])³"), "^3 "),
    (re.compile(r"(?<=[0-9)])\s+[xX]\s+(?=[0-9(])|(?<=[0-9)])[xX](?=[0-9(])"), " * "),
    (re.compile(r"(?<=[0-9)])\s*\b(?:multiplied by|times)\b\s*(?=[-0-9(])", re.IGNORECASE), " * "),
    (re.compile(r"(?<=[0-9)])\s*\b(?:divided by)\b\s*(?=[-0-9(])", re.IGNORECASE), " / "),
    (re.compile(r"(?<=[0-9)%])\s*\bplus\b\s*(?=[-0-9(])", re.IGNORECASE), " + "),
    (re.compile(r"(?<=[0-9)%])\s*\bminus\b\s*(?=[-0-9(])", re.IGNORECASE), " - "),
    (re.compile(r"(?<=[0-9])\s*\b(?:percent|per cent)\b", re.IGNORECASE), "%"),
)
# A run of what expressions are made of. Digits are ASCII: others are letters to it.
_RUN = re.compile(rf"(?:{NUMBER}|[-+*/^%()]|(?<=%)\s*of\b(?=\s*[-(0-9.])|{_EQUALS}|[ \t])+", re.IGNORECASE | re.ASCII)
_SPLIT = re.compile(_EQUALS, re.IGNORECASE)
_WRITTEN = re.compile(rf"(?<![\w.,])[-+]?(?:{NUMBER})(?![\w]|[.,][0-9])", re.ASCII)
_LONE = re.compile(rf"\s*([-+]?(?:{NUMBER}))\s*")


@dataclass(frozen=True, slots=True)
class Claim:
    """Two sides of one "=" that can both be read. left, right: as written; value: what the left side comes to; None
    where it divides by zero."""

    left: str
    right: str
    value: Fraction | None
    true: bool


def check(arguments: Mapping[str, str], prompt: Prompt, answer: str) -> CheckResult:
    rounded = "exact" not in arguments
    text = plain_signs(answer[:LENGTH])
    made, spans = claims(text, rounded=rounded)
    if wrong := next((claim for claim in made if not claim.true), None):
        value = "nothing: it divides by zero" if wrong.value is None else shown(wrong.value)
        return CheckResult(False, f"{wrong.left} is {value}, not {wrong.right}")
    asked = asked_for(question_of(prompt))
    if asked is None:
        reason = "; ".join(f"{claim.left} = {claim.right}" for claim in made[:3])
        return CheckResult(True, f"true: {reason}") if made else CheckResult(None, NOTHING)
    expression, value = asked
    given = result_of(text, spans, plain_signs(question_of(prompt)), made)
    if given is None:
        return CheckResult(None, NOTHING)
    right = equal(value, given, rounded=rounded)
    return CheckResult(right, f"{expression} is {shown(value)}" + ("" if right else f", and it says {given}"))


def plain_signs(text: str) -> str:
    for pattern, sign in _SIGNS:
        text = pattern.sub(sign, text)
    return text


def claims(text: str, *, rounded: bool) -> tuple[list[Claim], list[tuple[int, int]]]:
    """The claims of a text in plain signs, in order, and where the runs of text lie in which they stand."""
    made: list[Claim] = []
    spans: list[tuple[int, int]] = []
    for run in _RUN.finditer(text):
        sides = _SPLIT.split(run[0])
        if len(sides) < 2 or not any(_is_sum(side) for side in sides):
            continue
        mine = [claim for left, right in pairwise(sides) if (claim := _claim(_trimmed(left), _trimmed(right), rounded))]
        if mine:
            made += mine
            spans.append(run.span())
    return made, spans


def asked_for(question: str) -> tuple[str, Fraction] | None:
    """The one expression that a question holds, and its value; None where it holds none, several, or one too large."""
    found: dict[Fraction, str] = {}
    for run in _RUN.finditer(plain_signs(question[-LENGTH:])):
        for side in map(_trimmed, _SPLIT.split(run[0])):
            if _is_sum(side):
                try:
                    found.setdefault(evaluate(side), side)
                except (Unreadable, ByZero):
                    return None
    return next(((text, value) for value, text in found.items()), None) if len(found) == 1 else None


def result_of(text: str, spans: list[tuple[int, int]], question: str, made: list[Claim]) -> str | None:
    """The number that an answer gives as its result; None where it gives none."""
    outside = [
        match[0] for match in _WRITTEN.finditer(text) if not any(low <= match.start() < high for low, high in spans)
    ]
    of_question = Counter(_WRITTEN.findall(question))
    if fresh := [given for given in outside if given not in of_question]:
        return fresh[-1]
    if made and (last := _LONE.fullmatch(made[-1].right)):
        return last[1]
    # All its numbers are the question's. Those that say the question again are no result.
    if not of_question - Counter(outside):
        for given in of_question.elements():
            outside.remove(given)
    return outside[-1] if outside else None


def _claim(left: str, right: str, rounded: bool) -> Claim | None:
    """None where a side cannot be read."""
    try:
        value = evaluate(left)
        if lone := _LONE.fullmatch(right):
            return Claim(left, right, value, equal(value, lone[1], rounded=rounded))
        other = evaluate(right)
        same = equal(other, lone[1], rounded=rounded) if (lone := _LONE.fullmatch(left)) else other == value
        return Claim(left, right, value, same)
    except ByZero:
        return Claim(left, right, None, False)
    except (TooLarge, Unreadable):
        return None


def _is_sum(side: str) -> bool:
    """Whether a side holds more than a number: something is calculated."""
    return bool(re.search(r"[0-9)%]\s*(?:[-+*/^]|of\b)\s*[-+(0-9.]", side))


def _trimmed(side: str) -> str:
    """Without the signs of a sentence around it: a bracket that is open, a dash before a list's item."""
    side = " ".join(side.split())
    while side and side.count("(") < side.count(")") and side.endswith(")"):
        side = side[:-1].strip()
    while side and side.count("(") > side.count(")") and side.startswith("("):
        side = side[1:].strip()
    return side.rstrip("-+*/^ ") if not _SPLIT.search(side) else side
