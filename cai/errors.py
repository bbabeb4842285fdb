"""The one error a user is meant to see: what is wrong, where, and what to do about it."""

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches


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
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{text}\n  -> {self.remedy}" if self.remedy else text


class UserErrors(UserError):
    """Several faults of one input, reported at once."""

    def __init__(self, errors: Sequence[UserError]) -> None:
        assert errors
        super().__init__(f"{len(errors)} faults")
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def suggest(word: str, known: Sequence[str]) -> str:
    """`did you mean "temperature"?`, or the list of what is known when nothing is close."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else "known: " + ", ".join(known)


def run_main(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command line program: its own exit code, 2 for a user's fault, 130 for Ctrl-C; no traceback for either."""
    try:
        return main(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: everything finished so far is kept; run the same command again to go on", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno not in (28, 122):  # ENOSPC, EDQUOT
            raise
        remedy = "free some space and run the same command again: finished work is kept"
        print(f"error: {UserError('the disk is full', str(error.filename or ''), remedy)}", file=sys.stderr)
        return 2
