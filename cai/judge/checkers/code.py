"""`Check: python code runs`, `python code prints 42`: the answer's Python, run in a process of its own.

What runs are the answer's fenced blocks that are marked python, in order, as one program (unmarked ones where none is
marked). It holds if the program ends without an error and, if so asked, has printed that and nothing else. Without a
block there is nothing to check.

The process (walls.py) has no environment, an empty folder, the standard library and nothing installed, `CPU` seconds,
`MEMORY` bytes, nothing to read from, and output of `OUTPUT` bytes. Where the system can shut it in it reads no other
file, writes none, opens no connection and starts no process; where it cannot, nothing is run and an error says so,
unless `judge.checkers` says `unconfined code`. `code` must stand there in any case: what it runs has been written by a
model, or by whoever wrote the data.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from cai.core.errors import UserError
from cai.core.records import Prompt
from cai.judge.checkers import walls
from cai.judge.checkers.result import NOTHING, CheckResult

CPU, WALL = 5, 15.0  # seconds
MEMORY = 512 * 2**20
OUTPUT = 100_000
SOURCE = 100_000  # characters
UNCONFINED = "unconfined code"
_BLOCK = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CodeRun:
    """code: the exit status, negative for a signal; None where it was stopped for its time."""

    code: int | None
    output: str
    errors: str


def check(arguments: Mapping[str, str], prompt: Prompt, answer: str) -> CheckResult:
    source = source_of(answer)
    if source is None:
        return CheckResult(None, NOTHING)
    if len(source) > SOURCE:
        return CheckResult(False, f"more than {SOURCE} characters of code")
    ran = run(source, confined=UNCONFINED not in arguments)
    if ran.code != 0:
        return CheckResult(False, _why(ran))
    wanted = arguments.get("prints")
    if wanted is None or ran.output.strip() == wanted.strip():
        return CheckResult(True, f"it runs and prints {wanted}" if wanted else "it runs")
    return CheckResult(False, f"it prints {ran.output.strip()[:60] or 'nothing'}, not {wanted}")


def source_of(answer: str) -> str | None:
    """The program in an answer; None for none."""
    blocks = [(match[1].casefold(), match[2]) for match in _BLOCK.finditer(answer)]
    marked = [code for mark, code in blocks if mark in ("python", "python3", "py")]
    chosen = marked or [code for mark, code in blocks if not mark]
    return "\n".join(chosen) if any(code.strip() for code in chosen) else None


def run(source: str, *, confined: bool) -> CodeRun:
    """Raises UserError where it is to be confined and cannot be."""
    limits = [str(CPU), str(MEMORY), str(OUTPUT), "confined" if confined else "unconfined"]
    command = [sys.executable, "-I", "-S", "-B", "-X", "utf8", walls.__file__, *limits]
    with (
        tempfile.TemporaryDirectory(prefix="cai-code-") as folder,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=errors, cwd=folder, env={}, start_new_session=True
        )
        try:
            process.communicate(source.encode("utf-8", "replace"), timeout=WALL)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None or not confined:
                _stop(process)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read(OUTPUT).decode("utf-8", "replace"))
    if confined and code == walls.NO_WALLS and texts[1].strip():
        raise UserError(
            f"the code in answers cannot be shut in here: {texts[1].strip()[:200]}",
            "judge.checkers",
            f"run it on Linux 6.2 or later, in a container or a virtual machine; or write `{UNCONFINED}`, which limits "
            "time and memory and leaves files and network open to it",
        )
    return CodeRun(code, *texts)


def _stop(process: subprocess.Popen) -> None:
    """It and whatever it has started, which unconfined code may have."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@cache
def ready() -> None:
    """Raises UserError where code cannot be shut in: found before anything is asked."""
    run("pass", confined=True)


def _why(ran: CodeRun) -> str:
    if ran.code is None or ran.code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"it did not end within {CPU} s of computing, {WALL:g} s in all"
    if ran.code < 0:
        return f"it was stopped by signal {-ran.code}"
    last = [line for line in ran.errors.splitlines() if line.strip()][-1:]
    return last[0].strip()[:160] if last else f"it ended with {ran.code}"
