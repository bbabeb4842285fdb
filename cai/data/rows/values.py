"""What a cell of a row may hold, by one rule for every file: numbers, probabilities, ranks, and what is a row at all.

A number may stand as a JSON number or as text ("1", "1.0": CSV has nothing else); `true` and `false` are the
probabilities 1 and 0 and no other number. NaN and infinities are no numbers.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from cai.core.errors import DIGITS, HOLE, UserError

MEND = "mend or remove this row"
HALF_WRITTEN, LAST = "a half-written line", "a half-written last line"


def number(value: Any) -> float | None:
    """The finite number that a cell holds, None where it holds none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return read if math.isfinite(read) else None


def probability(value: Any) -> float | None:
    """A number from 0 to 1, `true` or `false`; None for anything else."""
    if isinstance(value, bool):
        return float(value)
    read = number(value)
    return read if read is not None and 0 <= read <= 1 else None


def rank(value: Any) -> int | None:
    """A whole number: 2, 2.0, "2" or "2.0"; None for anything else."""
    read = number(value)
    return int(read) if read is not None and read.is_integer() else None


def given(value: Any) -> bool:
    """Whether a cell says anything: null, an empty text and an empty list do not."""
    return value is not None and value != "" and value != [] and value != {}


def mapping(value: Any) -> Mapping[str, Any]:
    """What a cell holds by names; empty where it holds anything else."""
    return value if isinstance(value, Mapping) else {}


def parse_row(line: str, last: bool = False) -> Any:
    """The JSON value of one line. last: nothing follows it, so that its writer may have been cut off.

    Raises UserError for what is no JSON, for a key that stands twice, for brackets that are nested too deeply, and for
    half of a character (a lone surrogate), which no file can be written with.
    """
    if "\0" in line:
        raise UserError(HOLE, "", MEND)
    try:
        value = json.loads(line, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        torn = error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated")
        problem = (LAST if last else HALF_WRITTEN) if torn else f"not valid JSON: {error.msg} at column {error.colno}"
        raise UserError(problem, "", "each line must be one whole JSON object; the file may be cut off") from None
    except ValueError:
        raise UserError(f"not valid JSON: {DIGITS[0]}", "", DIGITS[1]) from None
    except RecursionError:
        raise UserError("not valid JSON: nested too deeply", "", MEND) from None
    return whole_text(value)


def whole_text(value: Any) -> Any:
    """The value itself. Raises UserError where it holds half of a character, or is nested too deeply to be walked."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise UserError("a \\u escape that is half of a character", "", "write the character itself") from None
    except RecursionError:
        raise UserError("not valid JSON: nested too deeply", "", MEND) from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """json keeps the last of two equal keys without a word."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f'the key "{twice}" stands twice', "", "remove one of the two")
    return row
