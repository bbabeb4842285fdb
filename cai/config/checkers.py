"""`checkers:` of a judge: what `Check:` of its constitution may run (cai/judge/checkers/). A constitution is text from
strangers: unless it is named here, nothing runs.

checkers: [code]                 Python in answers, shut in
checkers: [unconfined code]      the same with limits of time and memory alone
checkers: [mymodule:function]    a function of one's own
"""

import re
from typing import Annotated

from pydantic import AfterValidator

from cai.config.validation import Fault


def _named(given: tuple[str, ...]) -> tuple[str, ...]:
    """Raises Fault, reported at its line, for what no check could run."""
    for name in given:
        if name not in ("code", "unconfined code") and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
            problem = f'"{name}" is nothing that a check could run'
            raise Fault(problem, "write code, unconfined code, or mymodule:function")
    return given


Checkers = Annotated[tuple[str, ...], AfterValidator(_named)]
