"""`Check: mymodule:function`: a function of the user's own, run only where `judge.checkers` names it.

    def function(prompt: Prompt, answer: str) -> bool | None                       holds, does not, nothing to check
                                               | tuple[bool | None, str]           with the reason

The module is found as Python finds modules: in the folder that the experiment is started from, or installed. An answer
that the function raises on is a failed check, counted with the name of the exception.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cai.core.errors import UserError
from cai.core.records import Prompt
from cai.core.store import digest_file
from cai.judge.checkers.result import CheckResult

FORM = "it takes (prompt, answer) and returns True, False, None, or one of them with a reason"


class Failed(Exception):
    """The function raised, or returned something else than an outcome."""


def check(arguments: Mapping[str, str], prompt: Prompt, answer: str) -> CheckResult:
    name = f"{arguments['module']}:{arguments['function']}"
    try:
        made = load(name)(prompt, answer)
    except UserError:
        raise
    except Exception as error:
        raise Failed(f"{name} raised {type(error).__name__}") from error
    holds, reason = made if isinstance(made, tuple) and len(made) == 2 else (made, "")
    if holds not in (True, False, None) or (isinstance(holds, int) and not isinstance(holds, bool)):
        raise UserError(f"{name} returned {made!r:.60}", "judge.checkers", FORM)
    return CheckResult(holds, str(reason))


@cache
def load(name: str) -> Callable[[Prompt, str], Any]:
    """Raises UserError where there is no such function."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:
        problem = f"cannot import {module} for the check {name}: {type(error).__name__}: {error}"
        raise UserError(problem, "judge.checkers", "put it beside the experiment's folder, or install it") from None
    if not callable(found):
        raise UserError(f"{module} has no function {function}", "judge.checkers", FORM)
    return found


def source_digest(name: str) -> str:
    """Of the file that the function stands in: an edit of it makes the labels anew."""
    load(name)
    file = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
    return digest_file(Path(file)) if file else ""
