"""Runs a command and ends it, with all that it has started, when whoever started it is gone or wants it ended.

    python guard.py COMMAND [ARGUMENT ...]

Standard input is the leash: a pipe whose other end the starter holds. It closes when the starter closes it, and when
the starter dies, however it dies. A file of the standard library alone: it must be up at once, in any environment.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from types import FrameType

GRACE = 10.0  # seconds from asking the command to end until it is killed
PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> int:
    """The exit code of the command, as a shell has it: 127 where it cannot be started, 128 and a signal's number."""
    ends: list[int] = []  # signals to this process

    def end(number: int, frame: FrameType | None) -> None:
        ends.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    while child.poll() is None and not ends and not cut():
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(OSError):  # the whole group: workers outlive the process that started them
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def cut() -> bool:
    """Has the leash been cut? Waits a little for it."""
    ready, _, _ = select.select([0], [], [], 0.1)
    return bool(ready) and not os.read(0, 1)


def die_with_parent() -> None:
    """In the child, before it runs the command: where the system can, it dies with this process, were that killed."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
