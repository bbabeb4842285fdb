"""A file of JSON rows that is only ever appended to, by any number of programs at once.

A row is one `os.write` to a file opened with O_APPEND, under a lock and followed by fsync: several servers may write to
one file, and a kill can cost at most the row that was being written. Such a torn row is closed off by the next writer,
named and counted by every reader, and never removed.
"""

import errno
import fcntl
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cai.core.errors import HOLE, UserError, check_input
from cai.core.records import decode
from cai.data.rows.values import HALF_WRITTEN, LAST, parse_row


class RowLog:
    """An open file of rows; what other processes append is seen after `refresh`.

    faults: (file:line, why) of each row that cannot be used. A kind of file says in `_clear` what it starts with, in
    `_kind` which record a row is, in `_take` what it makes of one, and in `strange` what it calls a row that is none.
    """

    strange: str

    def __init__(self, path: Path) -> None:
        self.path = path
        check_input(path)
        self._reset()
        self.refresh()

    def _clear(self) -> None:
        raise NotImplementedError

    def _kind(self, row: Any) -> type:
        raise NotImplementedError

    def _take(self, number: int, record: Any) -> str:
        """Take in the record of a line; what is wrong with it, and "" where it was taken."""
        raise NotImplementedError

    def _read(self, number: int, line: bytes, last: bool) -> None:
        """One line that is not blank. last: no line end follows it, so its writer may have been cut off."""
        where = f"{self.path}:{number}"
        try:
            row = parse_row(line.decode("utf-8-sig" if number == 1 else "utf-8"), last)
            fault = self._take(number, decode(row, self._kind(row), where))
        except UnicodeDecodeError:
            fault = HALF_WRITTEN if last else "a line that is not UTF-8"
        except UserError as error:
            torn = error.problem.startswith(("not valid JSON", HALF_WRITTEN, LAST, HOLE))
            fault = HALF_WRITTEN if torn else self.strange
        if fault:
            self.faults.append((where, fault))

    def _reset(self) -> None:
        self.faults: list[tuple[str, str]] = []
        self._inode, self._offset, self._line = 0, 0, 1
        self._clear()

    def refresh(self) -> None:
        """Read what was appended since; from the start where the file was replaced or cut."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            self._reset()
            return
        except IsADirectoryError:
            raise UserError("this is a folder, not a file of rows", str(self.path), "name a file in it") from None
        with file:
            _lock(file.fileno(), fcntl.LOCK_SH)  # no writer is in the middle of a row
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or status.st_size < self._offset:
                self._reset()
                self._inode = status.st_ino
            file.seek(self._offset)
            text = file.read()
        self._offset += len(text)
        lines = text.split(b"\n")
        for number, line in enumerate(lines, self._line):
            if line.strip():
                self._read(number, line, last=number == self._line + len(lines) - 1)
        self._line += len(lines) - 1

    def append(self, row: Any) -> None:
        """Write one record; it is on the disk when this returns. Raises OSError when it cannot be."""
        append_row(self.path, asdict(row))
        self.refresh()


def append_row(path: Path, row: Any) -> None:
    """Write one row of JSON to the end of a file; it is on the disk when this returns. Raises OSError."""
    line = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    fresh = not path.exists()
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        _lock(file, fcntl.LOCK_EX)
        end = os.fstat(file).st_size
        if end and os.pread(file, 1, end - 1) != b"\n":
            line = b"\n" + line  # the row before was torn by a kill: it must not swallow this one
        if os.write(file, line) != len(line):
            raise OSError(28, "No space left on device", str(path))
        os.fsync(file)
    finally:
        os.close(file)
    if fresh:
        _sync_folder(path.parent)


def _lock(file: int, how: int) -> None:
    """Where the file system has no locks, a row is still one write."""
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
            raise


def _sync_folder(folder: Path) -> None:
    """A new file's name must be on the disk as well as its contents."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
