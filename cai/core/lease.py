"""Who makes what several processes need: one of them, by a lease that it keeps alive. The others wait for it.

    runs/store/<stage>-<key>.lease      owner, machine, whether it is locked, and a number that goes up while it lives

The file is made by O_EXCL, which gives it to one process on every file system that machines share. Its owner writes a
new number into it every BEAT seconds, and locks it (flock). Whoever waits takes the lease of a dead owner over:

- at once, where the owner ran on this machine and its lock is free;
- elsewhere, and where there are no locks, after DEAD seconds in which the number stood still. They are counted by the
  clock of the one that waits, and only while it is awake itself: clocks may differ, go back, or sleep.

A lease saves work; it guards nothing. An owner that was only slow goes on and loses nothing: both have folders of their
own, and of two results the first that is whole stays (cai/core/store.py).
"""

import fcntl
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cai.core.durable import HOST, MACHINE, unique

BEAT = 10.0  # seconds between two signs of life
DEAD = 180.0  # seconds without one after which an owner counts as dead
POLL = 2.0  # seconds between two looks of one that waits, at most
TELL = 60.0  # seconds between two notes that it waits


class Lease:
    """A lease that was taken, until `release`."""

    def __init__(self, file: Path, handle: int) -> None:
        self.file, self.owner, self.beats = file, unique(), 0
        self._handle, self._done = handle, threading.Event()
        self._locked = _lock(handle)
        self._write()
        self._heart = threading.Thread(target=self._beat, name=f"lease of {file.name}", daemon=True)
        self._heart.start()

    def _write(self) -> None:
        # Of one length, in place: it needs no room on a disk that is full by now.
        line = f"{self.owner} {MACHINE} {'locked' if self._locked else 'unlocked'} {self.beats:09d}\n"
        os.pwrite(self._handle, line.encode(), 0)
        with suppress(OSError):
            os.fsync(self._handle)  # so that other machines see it

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            self.beats += 1
            with suppress(OSError):
                self._write()
            with suppress(OSError):  # what its owner works in is no leftover: see `sweep` in cai/core/owned.py
                os.utime(self.file.with_name(f"{self.file.stem}.{self.owner}.partial"))

    def release(self) -> None:
        self._done.set()
        self._heart.join()
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._handle), self.file.stat()):  # else it was taken over
                self.file.unlink()
        os.close(self._handle)


@contextmanager
def leased(file: Path) -> Iterator[Lease]:
    """Hold a lease, when whoever has it is done or dead. Then look first whether the work is done. Raises OSError."""
    lease = _take(file) or _wait(file)
    try:
        yield lease
    finally:
        lease.release()


def drop_dead(file: Path) -> bool:
    """Remove a lease whose owner is certainly dead. Returns whether it was."""
    seen = _look(file)
    if seen is None or not seen.gone:
        return False
    _break(file, seen)
    return True


@dataclass(frozen=True, slots=True)
class _Seen:
    """A lease as one that waits sees it. gone: its owner is certainly dead."""

    text: str
    gone: bool

    @property
    def owner(self) -> str:
        return self.text.partition(" ")[0]

    def __str__(self) -> str:
        host, _, rest = self.owner.rpartition("-")[0].rpartition("-")
        where = "this machine" if host == HOST else host.rpartition("-")[0]
        return f"process {rest} on {where}" if rest else "another process"


def _take(file: Path) -> Lease | None:
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None
    try:
        return Lease(file, handle)
    except BaseException:
        file.unlink(missing_ok=True)
        os.close(handle)
        raise


def _wait(file: Path) -> Lease:
    """Wait for the lease, and say so."""
    began, told, pause = time.monotonic(), 0.0, 0.02
    last, quiet, before = "", 0.0, began
    while True:
        lease = _take(file)
        if lease:
            return lease
        seen, now = _look(file), time.monotonic()
        if seen is None:
            continue  # given back a moment ago
        # A long sleep of our own (a closed laptop) is no silence of the other's.
        quiet, last = (quiet + min(now - before, 2 * POLL) if seen.text == last else 0.0), seen.text
        if seen.gone or quiet >= DEAD:
            why = "is gone" if seen.gone else f"gave no sign of life for {DEAD:.0f} s"
            _note(f"{seen}, which was making {file.stem}, {why}: it is made here now")
            _break(file, seen)
            continue
        if now - began > 1 and (not told or now - told > TELL):
            waited = f" (for {now - began:.0f} s so far)" if told else ""
            _note(f"{file.stem} is being made by {seen}: waiting for it{waited}")
            told = now
        before, pause = now, min(1.5 * pause, POLL)
        time.sleep(pause)


def _look(file: Path) -> _Seen | None:
    """None where there is no lease."""
    try:
        handle = os.open(file, os.O_RDONLY)  # opened anew each time: a network file system asks its server then
    except FileNotFoundError:
        return None
    try:
        text = os.read(handle, 400).decode(errors="replace").rstrip("\n")
        machine, locked = [*text.split(" "), "", "", ""][1:3]
        return _Seen(text, machine == MACHINE and locked == "locked" and _free(handle))
    finally:
        os.close(handle)


def _break(file: Path, dead: _Seen) -> None:
    """Take away a dead owner's lease. One that another process has put in its place meanwhile is put back."""
    aside = file.with_name(f"{file.name}.{unique()}.dead")
    try:
        file.rename(aside)
    except FileNotFoundError:
        return
    now = _look(aside)
    if now and now.owner != dead.owner:
        with suppress(OSError):
            os.link(aside, file)
    aside.unlink(missing_ok=True)


def _lock(handle: int) -> bool:
    """Lock a new lease. Those that wait lock it for a moment, to see whether they can; they do so by LOCK_SH."""
    for _ in range(100):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:  # a file system without locks
            return False
    return False


def _free(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)
