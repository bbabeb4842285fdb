"""A file of the user's that a stage reads, and what stands for it in the stage's key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.core.errors import UserError
from cai.core.shipped import locate
from cai.core.store import digest_file


@dataclass(frozen=True, slots=True)
class InputFile:
    """written: the path, or the hub's id, as an experiment has it. digest: of its contents.

    keyed_as: under which names it stands in a key. ("file",): its contents alone, so that a copy elsewhere is the same
    input; ("file", "contents"): as it is written, too, because what the stage leaves says where a row was found.
    """

    written: str
    digest: str
    keyed_as: tuple[str, ...] = ("file",)

    @property
    def path(self) -> Path:
        return locate(self.written)

    def keyed(self) -> dict[str, Any]:
        """As `keyed` in cai/core/store.py asks for it."""
        if len(self.keyed_as) == 1:
            return {self.keyed_as[0]: self}
        return dict(zip(self.keyed_as, (self.written, self.digest), strict=True))


def input_file(written: str, what: str, key: str, remedy: str) -> InputFile:
    """what: what it is a file of, and `key` where an experiment names it, for the UserError where there is no file."""
    path = locate(written)
    if not path.is_file():
        raise UserError(f'there is no {what} "{written}"', key, remedy)
    return InputFile(written, digest_file(path))


def feedback_file(path: str) -> InputFile:
    """A log of live feedback (cai/data/feedback.py, which only live teaching imports). Raises UserError."""
    return input_file(path, "log of live feedback", "rl.feedback.log", "python -m cai.annotate --live makes one")
