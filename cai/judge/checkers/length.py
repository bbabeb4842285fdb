"""`Check: at most 60 words`, `at least 2 sentences`, `between 20 and 400 characters`.

There is always something to count. Words as in cai/core/textstats.py, in any script. A sentence ends with . ! ? or …
before white space or the end (。！？ anywhere), and so does a line that has none; "e.g." ends one as well.
"""

import re
from collections.abc import Callable, Mapping

from cai.core.records import Prompt
from cai.core.textstats import words
from cai.judge.checkers.result import CheckResult

_END = re.compile(r"[.!?…]+[\"'”’)*]*(?=\s|$)|[。！？]+|\n+")


def sentences(text: str) -> int:
    return sum(bool(re.search(r"\w", part)) for part in _END.split(text))


def characters(text: str) -> int:
    return len(text.strip())


COUNTS: dict[str, Callable[[str], int]] = {"word": words, "sentence": sentences, "character": characters}


def check(arguments: Mapping[str, str], prompt: Prompt, answer: str) -> CheckResult:
    unit = arguments["unit"].casefold()
    count = COUNTS[unit](answer)
    low, high = int(arguments.get("least", 0)), int(arguments.get("most", count))
    return CheckResult(low <= count <= high, f"{count} {unit}{'' if count == 1 else 's'}")
