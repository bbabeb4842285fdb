"""What the servers of a run have read and written, where several processes ask them: one count, in one file.

A process that dies leaves what it had set aside: its requests were sent, and whoever serves them may have done the work
(cai/models/engines/spending.py). The file is locked (flock) for as long as a number in it takes to change.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cai.config.runtime import Runtime
from cai.models.engines.spending import Spending

COUNTS = ("read", "written", "cost", "tokens_aside", "cost_aside")


@dataclass
class SharedSpending(Spending):
    """As `Spending`, its counts in a file. Raises OSError where that cannot be read or written."""

    file: Path | None = None
    locked: bool = False

    @classmethod
    def within(cls, runtime: Runtime, file: Path) -> "SharedSpending":
        return cls(runtime.max_tokens, runtime.max_cost, dict(runtime.prices), file=file)

    @contextmanager
    def _counts(self) -> Iterator[None]:
        """As all processes have counted, and then as this one has."""
        if self.locked:
            yield
            return
        assert self.file
        with self.file.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            for name, count in json.loads(file.read() or b"{}").items():
                setattr(self, name, count)
            self.locked = True
            try:
                yield
            finally:
                self.locked = False
            file.truncate(0)
            file.write(json.dumps({name: getattr(self, name) for name in COUNTS}).encode())

    def set_aside(self, model: str, read: int, written: int) -> None:
        with self._counts():
            super().set_aside(model, read, written)

    def hold(self, tokens: int = 0, cost: float = 0.0) -> None:
        with self._counts():
            super().hold(tokens, cost)

    def give_back(self, model: str, read: int, written: int) -> None:
        with self._counts():
            super().give_back(model, read, written)

    def took(self, model: str, read: int, written: int) -> None:
        with self._counts():
            super().took(model, read, written)
