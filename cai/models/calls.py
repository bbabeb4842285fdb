"""The cache of model calls: what was answered is never asked again, also after a kill or a power cut.

    runs/calls.sqlite       calls(key, value, sum): one row a model call, in SQLite (WAL); a value is JSON text

Several processes may write at once; the first answer for a key stands. A row carries a sum of its key and value: one
that no longer fits is damage, which is said, dropped, and asked again. Rows of older versions, which had no sums, are
given theirs when the file is first opened.
"""

import errno
import hashlib
import json
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cai.core.durable import make_folders
from cai.core.errors import UserError

COLUMNS = ["key", "value", "sum"]
WAIT = 60.0  # seconds for another process to be done with the file
AGAIN = "move it away, with the -wal and -shm files beside it: its calls will be made again"


class CallCache:
    """The open file. Raises UserError, or OSError for a full disk, where the file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        make_folders(path.parent)
        with self._named():
            self._db = sqlite3.connect(path, timeout=WAIT)
            self._db.text_factory = lambda raw: raw.decode("utf-8", "replace")  # damage is found by its sum
            self._db.create_function("sum_of", 2, _sum, deterministic=True)
            self._share()
            self._db.execute("PRAGMA synchronous=FULL")  # a put is a batch of calls: one fsync is nothing beside it
            self._lay_out()

    def _share(self) -> None:
        """WAL: readers and one writer at a time. SQLite does not wait by itself for another process that sets it."""
        until = time.monotonic() + WAIT
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def _lay_out(self) -> None:
        """Make the table, or add the sums to that of an older version. Raises UserError for a table of another kind."""
        if self._columns() != COLUMNS:
            self._db.execute("BEGIN IMMEDIATE")  # another process may be at it as well
            with self._db:
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, value TEXT NOT NULL, sum TEXT) "
                    "WITHOUT ROWID"
                )
                if self._columns() == COLUMNS[:2]:
                    self._db.execute("ALTER TABLE calls ADD COLUMN sum TEXT")
                    self._db.execute("UPDATE calls SET sum = sum_of(key, value)")
        if self._columns() != COLUMNS:
            raise UserError(
                f"this is no call cache: its table holds {', '.join(self._columns())}", str(self.path), AGAIN
            )

    def _columns(self) -> list[str]:
        return [row[1] for row in self._db.execute("PRAGMA table_info(calls)")]

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The answers that are known, by key."""
        found: dict[str, Any] = {}
        damaged: list[str] = []
        with self._named():
            for start in range(0, len(keys), 500):  # SQLite allows 999 variables a statement
                some = keys[start : start + 500]
                marks = ",".join("?" * len(some))
                rows = self._db.execute(f"SELECT key, value, sum FROM calls WHERE key IN ({marks})", some)
                for key, value, known in rows:
                    if known == _sum(key, value):
                        found[key] = json.loads(value)
                    else:
                        damaged.append(key)
            if damaged:
                with self._db:
                    self._db.executemany("DELETE FROM calls WHERE key = ?", [(key,) for key in damaged])
                said = f"{self.path}: {len(damaged)} answer{'s' * (len(damaged) > 1)} changed since they were written"
                print(f"note: {said}; asked again", file=sys.stderr, flush=True)
        return found

    def put(self, rows: Iterable[tuple[str, Any]]) -> None:
        """Keep answers; they are on the disk when this returns."""
        texts = [(key, _text(value)) for key, value in rows]
        with self._named(), self._db:
            self._db.executemany(
                "INSERT OR IGNORE INTO calls VALUES (?, ?, ?)", [(key, text, _sum(key, text)) for key, text in texts]
            )

    def close(self) -> None:
        with self._named():
            self._db.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """SQLite's faults, which are the machine's or the file's, as what they mean."""
        try:
            yield
        except sqlite3.Error as error:
            code = _code(error)
            if code == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, "No space left on device", str(self.path)) from None
            problem, remedy = _FAULTS.get(code, ("is no call cache, or damaged", AGAIN))
            raise UserError(f"the file {problem} ({error})", str(self.path), remedy) from None


_ELSEWHERE = "make it writable, or name another folder with --set runtime.root=FOLDER"
_FAULTS = {
    sqlite3.SQLITE_PERM: ("cannot be written", _ELSEWHERE),
    sqlite3.SQLITE_READONLY: ("cannot be written", _ELSEWHERE),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", _ELSEWHERE),
    sqlite3.SQLITE_BUSY: ("is held by another process for too long", "run the same command again"),
    sqlite3.SQLITE_LOCKED: ("is held by another process for too long", "run the same command again"),
    sqlite3.SQLITE_IOERR: ("could not be read or written", "see whether the disk is full or gone, then run it again"),
}


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where an error of Python's module has none."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _text(value: Any) -> str:
    """As JSON; half of an emoji, which has no UTF-8 form, as its escape."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _sum(key: Any, value: Any) -> str:
    return hashlib.sha256(f"{key}\0{value}".encode()).hexdigest()[:16]
