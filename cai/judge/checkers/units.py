"""`Check: units`: does what an answer converts come out right, and is the question's conversion answered?

    1. claims    every `5 km = 5000 m` in the answer, `=` also as "is", "are", "equals": all must be true.
    2. result    where the last question names one quantity and one unit of its kind ("How many metres are 5 km?",
                 "Convert 5 km to metres"), the last quantity of that unit in the answer must be it.

A written number is right as it stands or rounded to the decimals that it has. Unit names are looked up, one by one, in
the registry of pint; its parser never sees a text. Needs `pip install 'cai[tools]'`.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from typing import Any

from cai.core.errors import UserError
from cai.core.records import Prompt
from cai.judge.checkers.arithmetic import LENGTH, plain_signs
from cai.judge.checkers.expressions import NUMBER, TooLarge, equal, number, shown
from cai.judge.checkers.result import NOTHING, CheckResult, question_of

POWER = 6
_NAME = r"[A-Za-zµΩ°]{1,24}"
_UNIT = rf"{_NAME}(?:\^[1-9]|[²³])?(?:(?:/| per ){_NAME}(?:\^[1-9]|[²³])?)?"
_QUANTITY = rf"([-+]?(?:{NUMBER}))\s?({_UNIT})"
_CLAIM = re.compile(
    rf"(?<![\w.,/*^]){_QUANTITY}(?:\s\([^()]{{1,20}}\))?\s*(?:=|\b(?:is\s+equal\s+to|are\s+equal\s+to|equals?|is|are)\b)"
    rf"\s*{_QUANTITY}(?![\w^])"
)
_ONE = re.compile(rf"(?<![\w.,/*^]){_QUANTITY}(?![\w^])")
_WANTED = re.compile(rf"\b(?:how\s+many|in|into|to)\s+({_UNIT})\b", re.IGNORECASE)


def check(arguments: Mapping[str, str], prompt: Prompt, answer: str) -> CheckResult:
    text = plain_signs(answer[:LENGTH])
    true: list[str] = []
    for match in _CLAIM.finditer(text):
        left, right = _quantity(match[1], match[2]), unit_of(match[4])
        value = None if left is None or right is None else converted(*left, right)
        if value is None:
            continue
        if not equal(value, match[3]):
            return CheckResult(False, f"{match[1]} {match[2]} is {shown(value)} {match[4]}, not {match[3]}")
        true.append(" ".join(match[0].split()))
    asked = asked_for(question_of(prompt))
    if asked is None:
        return CheckResult(True, f"true: {'; '.join(true[:3])}") if true else CheckResult(None, NOTHING)
    value, unit, words = asked
    given = [match[1] for match in _ONE.finditer(text) if unit_of(match[2]) == unit]
    if not given:
        return CheckResult(None, NOTHING)
    right = equal(value, given[-1])
    return CheckResult(right, f"it is {shown(value)} {words}" + ("" if right else f", and it says {given[-1]}"))


def asked_for(question: str) -> tuple[Fraction, Any, str] | None:
    """(value, unit, its name) of the one conversion that a question asks for; None where there is none, or several."""
    question = plain_signs(question[-LENGTH:])
    quantities = [found for match in _ONE.finditer(question) if (found := _quantity(match[1], match[2])) is not None]
    if len(quantities) != 1:
        return None
    ((amount, unit),) = quantities
    for match in _WANTED.finditer(question):
        wanted = unit_of(match[1])
        if wanted is not None and wanted != unit and (value := converted(amount, unit, wanted)) is not None:
            return value, wanted, match[1]
    return None


def _quantity(amount: str, unit: str) -> tuple[Fraction, Any] | None:
    known = unit_of(unit)
    try:
        return None if known is None else (number(amount.lstrip("+-")) * (-1 if amount[0] == "-" else 1), known)
    except TooLarge:
        return None


def converted(amount: Fraction, unit: Any, wanted: Any) -> Fraction | None:
    """A quantity in another unit; None where they are of different kinds. Six digits and more are exact."""
    if unit.dimensionality != wanted.dimensionality:
        return None
    try:
        value = registry().Quantity(amount, unit).to(wanted).magnitude
        return value if isinstance(value, Fraction) else Fraction(value).limit_denominator(10**12)
    except Exception:  # an offset unit in a product, an overflow: whatever pint cannot convert is not checked
        return None


@cache
def unit_of(text: str) -> Any:
    """The unit of a name, a power of one, or one per another; None for what is none."""
    whole = None
    for place, part in enumerate(re.split(r"/| per ", text)):
        match = re.fullmatch(rf"({_NAME})(?:\^([1-9])|([²³]))?", part.strip())
        power = int(match[2] or {"²": 2, "³": 3}.get(match[3], 1)) if match else 0
        if not match or power > POWER or (single := _named(match[1])) is None:
            return None
        single = single**power
        whole = single if place == 0 else whole / single
    return whole


def _named(name: str) -> Any:
    known = registry()
    for spelled in (name, name.casefold(), re.sub(r"metre", "meter", name.casefold()).replace("litre", "liter")):
        # A name alone: whatever has a sign in it would be parsed.
        if spelled.isalpha() and spelled in known and not known.Unit(spelled).dimensionless:
            return known.Unit(spelled)
    return {"°C": known.degC, "°F": known.degF}.get(name)


@cache
def registry() -> Any:
    """Raises UserError where pint is not installed."""
    try:
        import pint  # pyrefly: ignore (an extra)
    except ImportError:
        problem = "`Check: units` needs the package pint, which is not installed"
        raise UserError(problem, "", "pip install 'cai[tools]'") from None
    return pint.UnitRegistry(non_int_type=Fraction)
