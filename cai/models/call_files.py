"""The files of the call cache (cai/models/calls.py): segments that grow, and SQLite files that are only read."""

import fcntl
import hashlib
import heapq
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import groupby
from pathlib import Path

from cai.core.durable import sync, unique

SEALED = ".sealed"  # after a segment's name: whoever writes to it begins another one
MARKS = 500  # SQLite allows 999 variables a statement
SHARED = 60.0  # seconds after which a segment of another machine that does not grow counts as nobody's

Row = tuple[str, str, str | None]  # key, value as JSON text, sum


def sum_of(key: str, value: str) -> str:
    return hashlib.sha256(f"{key}\0{value}".encode()).hexdigest()[:16]


def id_of(key: str) -> int:
    """What rows are found by: SQLite keeps those of integers in far fewer levels than those of texts."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], signed=True)


def new_name() -> str:
    """Files are asked in the order of their names, the older first."""
    return f"{time.time_ns():020d}-{unique()}"


# --- Segments ---------------------------------------------------------------------------------------------------------


class Segment:
    """What one process was answered: a line a call, as far as it has been read. A line that is torn is skipped."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.size, self.grew = 0, 0.0
        self._rest = b""

    def read(self, path: Path) -> None:
        """What was written since."""
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > self.size:
                self.grew = time.monotonic() if self.size else 0.0
                file.seek(self.size)
                self.take(file.read())

    def take(self, more: bytes) -> None:
        self.size += len(more)
        *lines, self._rest = (self._rest + more).split(b"\n")
        for line in lines:
            key, mark, value = (*line.split(b"\t", 2), b"", b"")[:3]
            if hashlib.sha256(key + b"\0" + value).hexdigest()[:16].encode() == mark:
                self.rows.setdefault(key.decode(), value)


class Writer:
    """A segment of this process's own, locked while it lives. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self.path, self._torn = folder / f"{new_name()}.rows", False
        self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sync(folder)

    def append(self, rows: Iterable[tuple[str, str]]) -> bytes:
        """On the disk when this returns; returns what was written. A batch is one write, unless the disk is full."""
        lines = "".join(f"{key}\t{sum_of(key, value)}\t{value}\n" for key, value in rows).encode()
        raw, done = (b"\n" if self._torn else b"") + lines, 0
        self._torn = True
        while done < len(raw):
            done += os.write(self._handle, raw[done:])
        os.fsync(self._handle)
        self._torn = False
        return raw

    def stands(self) -> bool:
        """Whether its file is still in its place: else it is being compacted, perhaps without what came last."""
        try:
            handle = os.open(self.path, os.O_RDONLY)  # opened: a network file system asks its server then
        except FileNotFoundError:
            return False
        try:
            return os.path.samestat(os.fstat(handle), os.fstat(self._handle))
        finally:
            os.close(handle)

    def close(self) -> None:
        os.close(self._handle)


def is_locked(path: Path) -> bool:
    """Whether the process that writes a segment lives, on this machine."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


# --- SQLite files -----------------------------------------------------------------------------------------------------


class Table:
    """A SQLite file that is only read. Raises sqlite3.Error.

    Files of an older version have rows by key; those of the oldest have no sums.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db, self.columns = db, [row[1] for row in db.execute("PRAGMA table_info(calls)")]
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")  # damage is found by its sum
        self._by_id = "id" in self.columns
        self._what = f"SELECT key, value, {'sum' if 'sum' in self.columns else 'NULL'} FROM calls"
        db.execute(f"PRAGMA mmap_size={1 << 30}")

    def get(self, keys: Sequence[str]) -> Iterator[Row]:
        known = set(keys)
        for start in range(0, len(keys), MARKS):
            some, by = keys[start : start + MARKS], "key"
            wanted: Sequence[str | int] = some
            if self._by_id:
                wanted, by = [id_of(key) for key in some], "id"
            rows = self.db.execute(f"{self._what} WHERE {by} IN ({','.join('?' * len(some))})", wanted)
            yield from (row for row in rows if not self._by_id or row[0] in known)

    def sorted(self) -> Iterator[Row]:
        """All rows of a file that was compacted, by their ids."""
        return iter(self.db.execute(f"{self._what} ORDER BY id"))


def open_table(path: Path) -> Table:
    """One that was compacted: nobody ever writes to it, so nothing is locked."""
    return Table(_connect(path, "immutable=1"))


def is_whole(path: Path) -> bool:
    """Whether all of it can be read."""
    try:
        with closing(_connect(path, "immutable=1")) as db:
            return db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.Error:
        return False


def open_old_table(path: Path) -> Table:
    """`calls.sqlite` of an older version, which it wrote in SQLite's WAL mode: that needs memory shared by all readers,
    which machines have not. What stands in the log is put into the file itself, once, where that is possible."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=1.0)) as db:
        if db.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            db.execute("PRAGMA journal_mode=DELETE")
    for how in ("mode=ro", "immutable=1"):  # the second: no locks, or a log that cannot be opened in a read-only folder
        try:
            table = Table(_connect(path, how))
            list(table.get([""]) if table.columns else ())
            return table
        except sqlite3.Error:
            if how == "immutable=1":
                raise
    raise AssertionError


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&{how}", uri=True, timeout=60.0)


def write_table(path: Path, sources: Sequence[Iterable[Row]]) -> None:
    """A new file of all rows of `sources`, each sorted by id; of several with one id, the first that is undamaged.

    It is in its place whole, or not at all. Raises OSError and sqlite3.Error.
    """
    aside = path.with_name(f"{path.name}.partial")
    try:
        with closing(sqlite3.connect(aside)) as db:
            db.execute("PRAGMA journal_mode=OFF")
            db.execute("PRAGMA synchronous=OFF")
            db.execute("CREATE TABLE calls (id INTEGER PRIMARY KEY, key TEXT, value TEXT, sum TEXT)")
            with db:
                db.executemany("INSERT INTO calls VALUES (?, ?, ?, ?)", _merged(sources))
        sync(aside)
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)


def _merged(sources: Sequence[Iterable[Row]]) -> Iterator[tuple[int, *Row]]:
    def of(place: int, rows: Iterable[Row]) -> Iterator[tuple[int, int, Row]]:
        return ((id_of(row[0]), place, row) for row in rows)

    ordered = heapq.merge(*(of(place, rows) for place, rows in enumerate(sources)))
    for number, same in groupby(ordered, key=lambda one: one[0]):
        whole = next((row for _, _, row in same if row[2] == sum_of(row[0], row[1])), None)
        if whole:
            yield (number, *whole)


def sorted_rows(rows: Mapping[str, bytes]) -> Iterator[Row]:
    return ((key, text, sum_of(key, text)) for key in sorted(rows, key=id_of) for text in (rows[key].decode(),))
