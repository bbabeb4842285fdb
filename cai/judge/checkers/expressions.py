"""Exact arithmetic as people write it, by a small grammar of its own. Nothing is ever handed to `eval` or to sympy.

    expression  term (("+" | "-") term)*            sums and products go from left to right
    term        factor (("*" | "/") factor)*
    factor      ("+" | "-")* power
    power       atom ("^" factor)?                  2^3^2 is 2^9, and -2^2 is -4
    atom        number "%"? ("of" factor)? | "(" expression ")"     12% of 80: "of" binds as a product

Numbers are ASCII digits with a point or with commas between groups of three, as fractions without any rounding. The
text may be hostile, for a policy learns from what is made of it: digits, tokens, depth and the size of every result are
bounded, so that no expression takes long.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

DIGITS = 40  # of a number
TOKENS = 200  # of an expression
DEPTH = 40
EXPONENT = 256
BITS = 2048  # of a numerator or a denominator

NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_TOKEN = re.compile(rf"\s*(?:({NUMBER})|(of\b|[-+*/^%()]))")


class Unreadable(Exception):
    """Not an expression, or one beyond the limits."""


class TooLarge(Unreadable):
    """An expression whose value nobody wants to know."""


class ByZero(Exception):
    """It divides by zero: an expression without a value."""


def evaluate(text: str) -> Fraction:
    """The value of an expression in plain signs. Raises Unreadable, TooLarge or ByZero."""
    tokens, place = [], 0
    text = text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if not match:
            raise Unreadable(f"{text[place : place + 10]!r}")
        tokens.append(match[1] or match[2])
        place = match.end()
        if len(tokens) > TOKENS:
            raise TooLarge("more than it may hold")
    reader = _Descent(tokens)
    value = reader.expression(0)
    if reader.place != len(tokens):
        raise Unreadable(f"{tokens[reader.place]!r}")
    return value


def number(text: str) -> Fraction:
    """The value of one number. Raises TooLarge for one of too many digits."""
    if len(text) > DIGITS:
        raise TooLarge("a number of too many digits")
    return Fraction(text.replace(",", ""))


@dataclass
class _Descent:
    """Recursive descent; place: of the next token."""

    tokens: list[str]
    place: int = 0

    def _next(self, *wanted: str) -> str | None:
        """The next token, taken, if it is one of those."""
        if self.place < len(self.tokens) and self.tokens[self.place] in wanted:
            self.place += 1
            return self.tokens[self.place - 1]
        return None

    def expression(self, depth: int) -> Fraction:
        value = self._term(depth)
        while sign := self._next("+", "-"):
            value = _bounded(value + self._term(depth) * (1 if sign == "+" else -1))
        return value

    def _term(self, depth: int) -> Fraction:
        value = self._factor(depth)
        while sign := self._next("*", "/"):
            by = self._factor(depth)
            if sign == "/" and not by:
                raise ByZero
            value = _bounded(value * by if sign == "*" else value / by)
        return value

    def _factor(self, depth: int) -> Fraction:
        sign = 1
        while mark := self._next("+", "-"):
            sign *= -1 if mark == "-" else 1
        return sign * self._power(depth)

    def _power(self, depth: int) -> Fraction:
        base = self._atom(depth)
        if not self._next("^"):
            return base
        if depth >= DEPTH:
            raise TooLarge("nested too deeply")
        exponent = self._factor(depth + 1)
        if exponent.denominator != 1:
            raise Unreadable("a root")
        if abs(exponent) > EXPONENT or abs(exponent) * _bits(base) > 2 * BITS:
            raise TooLarge("a power too high")
        if not base and exponent < 0:
            raise ByZero
        return _bounded(base ** int(exponent))

    def _atom(self, depth: int) -> Fraction:
        if self._next("("):
            if depth >= DEPTH:
                raise TooLarge("nested too deeply")
            value = self.expression(depth + 1)
            if not self._next(")"):
                raise Unreadable("a bracket that is not closed")
            return value
        if self.place >= len(self.tokens) or self.tokens[self.place][0] not in "0123456789.":
            raise Unreadable("a number is missing")
        value = number(self.tokens[self.place])
        self.place += 1
        if self._next("%"):
            value /= 100
            if self._next("of"):
                if depth >= DEPTH:
                    raise TooLarge("nested too deeply")
                value = _bounded(value * self._factor(depth + 1))
        return value


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _bounded(value: Fraction) -> Fraction:
    if _bits(value) > BITS:
        raise TooLarge("a value too large")
    return value


# Written numbers ------------------------------------------------------------------------------------------------------


def equal(exact: Fraction, text: str, *, rounded: bool = True) -> bool:
    """Whether a written number is a value. rounded: or that value rounded to as many decimals as it has, one or more:
    1/3 may be written 0.33, and 7/2 may not be written 4."""
    written = number(text.lstrip("+-")) * (-1 if text.startswith("-") else 1)
    decimals = len(text.partition(".")[2])
    return written == exact or (rounded and decimals > 0 and 2 * abs(written - exact) * 10**decimals <= 1)


def shown(value: Fraction) -> str:
    """A value as people write it: whole, as a decimal where that ends soon, else rounded to six decimals."""
    if value.denominator == 1:
        text = str(value.numerator)
        return text if len(text) <= DIGITS else f"{text[:12]}... ({len(text)} digits)"
    text = f"{float(value):.6f}".rstrip("0") if abs(value) < 10**9 else f"{float(value):.6g}"
    return text
