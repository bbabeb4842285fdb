"""The cache of model calls: what was answered is never asked again, also after a kill or a power cut.

    runs/calls/<time>-<owner>.rows      what one process was answered: a line a call, only ever appended to
    runs/calls/<time>-<owner>.sqlite    many calls, compacted from those: written once, then only read
    runs/calls.sqlite                   of older versions: only read

Any number of processes on any machines may share it: each writes to a file of its own, in one write a batch, and
reads those of all others as they grow. No lock is needed for that, and no SQLite file ever has a writer. Of two answers
to one call the older file's stands. A row carries a sum of its key and value: one that does not fit (a kill tore it, a
disk changed it) is as good as not there, and asked again.

Compaction. When the growing files hold more than LIMIT bytes, or are many, whoever sees it renames them (so their
owners begin new ones, and write there anew what came after the rename), merges them with the smaller SQLite files into
one, and then removes what was merged. Killed at any moment, it leaves rows twice, never none.
"""

import errno
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cai.core.durable import HOST, make_folders
from cai.core.errors import UserError
from cai.core.owned import Taken, held
from cai.models import call_files as files
from cai.models.call_files import SEALED, SHARED, Segment, Table, Writer

LIMIT = 16 << 20  # bytes in growing files, which are held in memory
MANY = 64  # growing files
PAUSE = 20.0  # seconds between two compactions by one process: should one fail, the next may as well
SMALL = 1 << 20  # bytes of a SQLite file that is always merged; a larger one when as much is new as half of it
LARGEST = 256 << 20  # bytes of a SQLite file: one that large is not merged any more
COLUMNS = (["key", "value", "sum"], ["key", "value"])
AGAIN = "move it away: its calls will be made again"
ELSEWHERE = "make it writable, or name another folder with --set runtime.root=FOLDER"
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


class CallCache:
    """The open cache. Raises UserError, or OSError for a full disk, where it cannot be read or written.

    folder: `runs/calls`; a file of an older version is looked for beside it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tables: dict[str, Table] = {}  # by name of the file
        self._segments: dict[str, Segment] = {}
        self._writer: Writer | None = None
        self._old, self._compacted = self._open_old(folder.with_suffix(".sqlite")), -PAUSE
        self.refresh()
        if len(self._segments) > MANY or self._growing() > LIMIT:
            self.compact()

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The answers that are known, by key; also those that other processes were given until now."""
        self.refresh()
        found: dict[str, Any] = {}
        damaged: set[str] = set()
        left = list(dict.fromkeys(keys))
        for name in ["", *sorted([*self._tables, *self._segments])]:
            if name in self._segments:
                rows = self._segments[name].rows
                found |= {key: json.loads(rows[key]) for key in left if key in rows}
            else:
                for key, value, known in self._rows(name, left):
                    if known is None or known == files.sum_of(key, value):
                        found[key] = json.loads(value)
                    else:
                        damaged.add(key)
            left = [key for key in left if key not in found]
        lost = len(damaged - found.keys())
        if lost:
            said = f"{self.folder}: {lost} answer{'s' * (lost > 1)} changed since they were written"
            print(f"note: {said}; asked again", file=sys.stderr, flush=True)
        return found

    def put(self, rows: Iterable[tuple[str, Any]]) -> None:
        """Keep answers; they are on the disk when this returns."""
        texts = [(key, _text(value)) for key, value in rows]
        if not texts:
            return
        with self._named(self.folder):
            while True:
                if self._writer is None:
                    make_folders(self.folder)
                    self._writer = Writer(self.folder)
                try:
                    self._writer.append(texts)
                    if self._writer.stands():
                        break
                except OSError as error:
                    if error.errno != errno.ESTALE:  # as a file that another machine has removed
                        raise
                self._writer.close()
                self._writer = None
            with suppress(FileNotFoundError):
                self._segments.setdefault(self._writer.path.name, Segment()).read(self._writer.path)
        if self._growing() > LIMIT and time.monotonic() - self._compacted > PAUSE:
            self.compact()

    def shared(self) -> bool:
        """Whether other processes ask models just now and keep the answers here, as far as can be seen."""
        self.refresh()
        now, mine = time.monotonic(), f"-{HOST}-{os.getpid()}-"
        for name, segment in self._segments.items():
            if mine not in name and (
                (segment.grew and now - segment.grew < SHARED)
                or (f"-{HOST}-" in name and files.is_locked(self.folder / name))
            ):
                return True
        return False

    def refresh(self) -> None:
        """See what other processes have written since."""
        with self._named(self.folder):
            try:
                names = {entry.name for entry in os.scandir(self.folder)}
            except FileNotFoundError:
                return
            new = {name for name in names if name.endswith(".sqlite")} - self._tables.keys()
            if not all(self._open(name) for name in new):
                self.refresh()
                return
            segments = {
                name.removesuffix(SEALED): name for name in names if name.removesuffix(SEALED).endswith(".rows")
            }
            for name, stands in segments.items():
                with suppress(FileNotFoundError):  # compacted a moment ago
                    self._segments.setdefault(name, Segment()).read(self.folder / stands)
        if new:  # what is gone is in one of these
            for name in self._segments.keys() - segments.keys():
                del self._segments[name]
            for name in self._tables.keys() - names:
                self._tables.pop(name).db.close()

    def compact(self) -> None:
        """Put the growing files and the smaller compacted ones into one. Should it fail, all is as it was."""
        self._compacted = time.monotonic()
        with suppress(Taken, OSError, sqlite3.Error), held(self.folder):
            for path in self.folder.glob("*.rows"):
                with suppress(FileNotFoundError):  # another machine, whose locks are not seen here, is at it as well
                    path.rename(path.with_name(path.name + SEALED))
            rows: dict[Path, Iterator[files.Row]] = {}
            total = 0
            for path in self.folder.glob(f"*.rows{SEALED}"):
                segment = Segment()
                segment.read(path)
                rows[path] = files.sorted_rows(segment.rows)
                total += segment.size
            for path in sorted(self.folder.glob("*.sqlite"), key=_size):
                if _size(path) > max(2 * total, SMALL) or _size(path) + total > LARGEST:
                    break
                if files.is_whole(path):
                    rows[path] = files.open_table(path).sorted()
                    total += _size(path)
            if rows:
                sources = sorted(rows, key=lambda path: path.name)
                # In the place of the oldest of them, so that the answer that stood before stands now.
                name = f"{sources[0].name.partition('-')[0]}-{files.new_name()}.sqlite"
                files.write_table(self.folder / name, [rows[path] for path in sources])
                for path in sources:
                    path.unlink(missing_ok=True)
        self.refresh()

    def close(self) -> None:
        for table in (*self._tables.values(), *([self._old] if self._old else [])):
            table.db.close()
        if self._writer:
            self._writer.close()
        self._writer, self._old, self._tables = None, None, {}

    def _growing(self) -> int:
        return sum(segment.size for segment in self._segments.values())

    def _open(self, name: str) -> bool:
        """Returns False where it has gone by now: another process has put it into a file that was not there yet."""
        path = self.folder / name
        with self._named(path):
            try:
                if path.stat().st_size:
                    self._tables[name] = files.open_table(path)
            except (FileNotFoundError, sqlite3.Error) as error:
                if not os.path.lexists(path):
                    return False
                if isinstance(error, sqlite3.Error):
                    raise
        return True

    def _open_old(self, path: Path) -> Table | None:
        if not path.is_file():
            return None
        with self._named(path):
            table = files.open_old_table(path)
        if table.columns and table.columns not in COLUMNS:
            columns = ", ".join(table.columns)
            raise UserError(f"this is no call cache: its table holds {columns}", str(path), AGAIN)
        return table if table.columns else None

    def _rows(self, name: str, keys: Sequence[str]) -> Iterable[files.Row]:
        """Of a SQLite file; "" is that of an older version."""
        table = self._tables.get(name) if name else self._old
        if table is None:
            return []
        path = self.folder / name if name else self.folder.with_suffix(".sqlite")
        try:
            return list(table.get(keys))
        except sqlite3.Error:  # on a network file system, also when another machine has compacted and removed it
            self._tables.pop(name, None)
            self.refresh()
            with self._named(path):
                if not name:
                    raise
                table = self._tables.get(name)
                return list(table.get(keys)) if table else []

    @contextmanager
    def _named(self, path: Path) -> Iterator[None]:
        """The faults of the machine and of files as what they mean."""
        try:
            yield
        except sqlite3.Error as error:
            code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
            problem, remedy = _FAULTS.get(code, ("is no call cache, or damaged", AGAIN))
            raise UserError(f"the file {problem} ({error})", str(path), remedy) from None
        except OSError as error:
            if error.errno in FORBIDDEN:
                raise UserError(f"the calls cannot be kept here: {error.strerror}", str(path), ELSEWHERE) from None
            error.filename = error.filename or str(path)
            raise


_FAULTS = {
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", ELSEWHERE),
    sqlite3.SQLITE_BUSY: ("is held by another process for too long", "run the same command again"),
    sqlite3.SQLITE_LOCKED: ("is held by another process for too long", "run the same command again"),
    sqlite3.SQLITE_IOERR: ("could not be read", "see whether the disk is full or gone, then run it again"),
}


def _size(path: Path) -> int:
    return path.stat().st_size


def _text(value: Any) -> str:
    """As JSON on one line; half of an emoji, which has no UTF-8 form, as its escape."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
