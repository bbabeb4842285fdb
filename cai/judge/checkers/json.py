"""`Check: json`, `json with keys name, age`: is the answer JSON, and an object that has these keys?

The answer is JSON as a whole, or holds one fenced block (```json ... ```) that is. Strictly: no NaN, no key twice. What
the principle asks of an answer is a form, so an answer without any JSON does not hold; there is always something to
check.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from cai.constitution.checks import keys_of
from cai.core.records import Prompt
from cai.judge.checkers.result import CheckResult

LENGTH = 1_000_000  # characters
_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


class _NotJson(Exception):
    """What Python's reader would let pass."""


def check(arguments: Mapping[str, str], prompt: Prompt, answer: str) -> CheckResult:
    if len(answer) > LENGTH:
        return CheckResult(False, f"longer than {LENGTH} characters")
    blocks = _FENCED.findall(answer)
    if len(blocks) > 1:
        return CheckResult(False, f"{len(blocks)} blocks, not one")
    try:
        value = json.loads(blocks[0] if blocks else answer, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        return CheckResult(False, f"no JSON: {error.msg} at line {error.lineno}, column {error.colno}")
    except RecursionError:
        return CheckResult(False, "no JSON: nested too deeply")
    except _NotJson as error:
        return CheckResult(False, f"no JSON: {error}")
    except ValueError:  # Python reads integers of up to 4300 digits
        return CheckResult(False, "no JSON: a number too long")
    wanted = keys_of(arguments.get("keys", ""))
    if wanted and not isinstance(value, dict):
        return CheckResult(False, "JSON, but no object with keys")
    if lacking := [key for key in wanted if key not in value]:
        return CheckResult(False, f"without {', '.join(lacking)}")
    return CheckResult(True, f"JSON with {', '.join(wanted)}" if wanted else "JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise _NotJson(f"the key {twice[:40]!r} stands twice")
    return dict(pairs)


def _no_number(name: str) -> Any:
    raise _NotJson(f"it has no {name}")
