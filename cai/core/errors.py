"""The one error a user is meant to see: what is wrong, where, and what to do about it; the machine's faults as such."""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from stat import S_ISBLK, S_ISCHR, S_ISFIFO, S_ISSOCK


class UserError(Exception):
    """A fault that the user can mend. Programs print it without a traceback and exit with code 2.

    problem: what is wrong, one sentence.
    where:   the place, as `file:line` or `file` or a config key; empty when there is none.
    remedy:  what to do about it, one sentence.
    """

    def __init__(self, problem: str, where: str = "", remedy: str = "") -> None:
        super().__init__(problem)
        self.problem, self.where, self.remedy = problem, where, remedy

    def __str__(self) -> str:
        where, problem, remedy = map(shortened, (self.where, self.problem, self.remedy))
        text = f"{where}: {problem}" if where else problem
        return f"{text}\n  -> {remedy}" if remedy else text


class UserErrors(UserError):
    """Several faults of one input, reported at once."""

    def __init__(self, errors: Sequence[UserError]) -> None:
        assert errors
        super().__init__(f"{len(errors)} faults")
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def shortened(text: str, most: int = 2000) -> str:
    """The text, or its beginning and its end: what is wrong may stand in a word of a million letters."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 4 :]}"


def suggest(word: str, known: Sequence[str]) -> str:
    """`did you mean "temperature"?`, or the list of what is known when nothing is close."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else "known: " + ", ".join(known)


def some(things: Sequence[str], most: int = 3) -> str:
    """The first of many, and how many more there are: `a, b, c and 4 more`."""
    more = len(things) - most
    return ", ".join(things[:most]) + (f" and {more} more" if more > 0 else "")


# Files that people name -----------------------------------------------------------------------------------------------

KINDS = {"a pipe": S_ISFIFO, "a socket": S_ISSOCK, "a device": S_ISCHR, "a disk": S_ISBLK}
# Python reads no whole number with more digits (sys.get_int_max_str_digits), nor writes one.
HOLE = "zero bytes stand here, as a crash may leave them"
DIGITS = ("a whole number with more digits than can be read", "write it with fewer")


def check_input(path: Path) -> None:
    """Raises UserError for a name that no file can have, and for what is neither a file nor a folder: a pipe would be
    waited on for ever. What is not there, or may not be read, is for whoever opens it to say."""
    try:
        mode = path.stat().st_mode
    except ValueError:  # a NUL, or half of a character
        problem = "no file can have this name"
        raise UserError(problem, ascii(str(path))[1:-1], "remove the characters that cannot be seen") from None
    except OSError:
        return
    kind = next((kind for kind, holds in KINDS.items() if holds(mode)), "")
    if kind:
        raise UserError(f"this is {kind}, not a file", str(path), "save what comes from it, and name that file")


def input_bytes(path: Path) -> bytes:
    """The contents of a file that a user names. Raises UserError as `check_input` does, and OSError."""
    check_input(path)
    return path.read_bytes()


def input_text(path: Path) -> str:
    """The contents of a text file that a user names, as written but for a byte order mark. Raises as `input_bytes`
    does, and UserError, with the line, for what is not UTF-8 and for zero bytes: no text has them, and a crash may
    leave a hole of them."""
    remedy = "save the file as plain text in UTF-8"
    try:
        text = input_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{path}:{error.object.count(10, 0, error.start) + 1}"
        raise UserError("not UTF-8 text", where, remedy) from None
    if (hole := text.find("\0")) >= 0:
        raise UserError(HOLE, f"{path}:{text.count(chr(10), 0, hole) + 1}", "remove them, or get the file again")
    return text


# What a machine does to a program -------------------------------------------------------------------------------------

FULL = ("the disk is full", "free some space and run the same command again: finished work is kept")
CLOSED = "nothing can be written or read here"
ELSEWHERE = "make it accessible, or name another folder (runtime.root, $CAI_CACHE, --out)"
BLOCKED = "move it away, or name another place"
BROKEN = ("the disk does not answer as it should", "look after the disk; finished work is kept")

# errno -> (what is wrong, what to do)
FAULTS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: ("a file has become larger than is allowed here", "raise the limit (ulimit -f), or free some space"),
    errno.EROFS: (f"{CLOSED}: read-only file system", ELSEWHERE),
    errno.EACCES: (f"{CLOSED}: permission denied", ELSEWHERE),
    errno.EPERM: (f"{CLOSED}: operation not permitted", ELSEWHERE),
    errno.EEXIST: ("something stands here already", BLOCKED),
    errno.ENOTDIR: ("a file stands where a folder is needed", BLOCKED),
    errno.EISDIR: ("a folder stands where a file is needed", BLOCKED),
    errno.ENAMETOOLONG: ("the name is too long", "give it a shorter one"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n) and run the same command again"),
    errno.ENOLCK: ("the file system here has no locks", "name a folder on another one (runtime.root, --out)"),
    errno.ENOTSUP: ("the file system here cannot do this", "name a folder on another one (runtime.root, --out)"),
    errno.EIO: BROKEN,
    errno.ENODEV: BROKEN,
    errno.ESTALE: BROKEN,
}
_NUMBER = re.compile(r"(?:os error |\[errno )(\d+)", re.IGNORECASE)  # as Rust (safetensors) and Arrow say it
_TORCH = re.compile(
    r"PytorchStreamWriter|inline_container\.cc.*(?:write|unexpected pos)|basic_ios::clear: iostream error", re.DOTALL
)


def fault_of_machine(error: BaseException) -> UserError | None:
    """What the machine did to the program, in words: None for an error of any other kind.

    Libraries tell of it in many ways: OSError, the texts of those that are written in Rust or C++. Behind an error of
    another kind it is looked for only where the disk failed: other faults may have been dealt with before.
    """
    seen: BaseException | None = error
    while seen is not None:
        number, place = _number(seen)
        if number in FAULTS and (seen is error or FAULTS[number] in (FULL, BROKEN)):
            return UserError(FAULTS[number][0], place, FAULTS[number][1])
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return None


def _number(error: BaseException) -> tuple[int | None, str]:
    """(errno, the file that it is about, if it says so)."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno, os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    text = str(error)
    match = _NUMBER.search(text)
    if match:
        return int(match[1]), ""
    # torch says of a write only that it failed; nothing but a disk without room makes it fail half way.
    return (errno.ENOSPC if isinstance(error, RuntimeError) and _TORCH.search(text) else None), ""


INTERRUPTED = "\ninterrupted: everything finished so far is kept; run the same command again to go on"


def quiet_interrupts() -> None:
    """Ctrl-C ends the process at once, with a message and no traceback: where it is loading, or ending, and nothing
    can be lost. It stays ignored where it was (nohup)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _leave(*_: object) -> None:
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(130)


def run_main(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command line program: its own exit code, 2 for a fault of the user or the machine, 130 for Ctrl-C, 141
    where whoever read its output went away (`| head`).

    No traceback for any of these.
    """
    program = signal.getsignal(signal.SIGINT) is _leave  # and not a call from within another
    if program:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = main(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to be flushed at the exit
        return 141
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if program:
            signal.signal(signal.SIGINT, _leave)  # a second one while it ends
        print(INTERRUPTED, file=sys.stderr, flush=True)
        return 130
    except Exception as error:
        fault = fault_of_machine(error)
        if fault is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        return 2
