"""Folders that belong to one process at a time, where several processes, on one machine or many, share a store.

A process that makes something does so in a folder of its own name, which it holds by a lock (flock) while it lives:
what nobody holds is a leftover. Process ids tell nothing of other machines, nor of containers, where each has its own.
"""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from cai.core.durable import HOST, make_folders, unique

ABANDONED = 7 * 24 * 3600.0  # seconds without a change after which another machine's unlocked folder is a leftover


class Taken(Exception):
    """Another process holds the folder, or has removed it or put another one in its place."""


@contextmanager
def held(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock a folder that only one process at a time may write to; the lock goes with the process that holds it.

    wait: for another process to be done. Yields False on a file system without locks. Raises Taken.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        raise Taken from None
    try:
        locked = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise Taken from None
            locked = False
        try:
            same = os.path.samestat(os.fstat(handle), folder.stat())
        except FileNotFoundError:
            same = False
        if not same:
            raise Taken
        yield locked
    finally:
        os.close(handle)


@contextmanager
def own_folder(place: Path) -> Iterator[Path]:
    """A new partial folder beside `place`, this process's alone; gone afterwards, unless it was moved to `place`."""
    while True:
        partial = place.with_name(f"{place.name}.{unique()}.partial")
        partial.mkdir()
        with ExitStack() as stack:
            try:
                stack.enter_context(held(partial))
            except Taken:
                continue  # another process's `sweep` came between
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            yield partial
            return


def sweep(store: Path) -> None:
    """Remove the work of processes that were killed: `.partial` folders that nobody holds.

    Where locks are not passed on between machines, another one's say nothing: its work must be old as well.
    """
    for partial in store.glob("*.partial"):
        owner = partial.name.split(".")[-2]
        with suppress(Taken, OSError), held(partial) as locked:
            own = owner.isdecimal() or owner.startswith(f"{HOST}-")
            if locked and (own or time.time() - partial.stat().st_mtime > ABANDONED):
                shutil.rmtree(partial, ignore_errors=True)


def _unfinished(place: Path) -> Path:
    return place.with_name(f"{place.name.partition('.')[0]}.unfinished")


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A folder in which a stage finds again what it wrote there before it was killed. `out`: the stage's own folder.

    It belongs to one process at a time: another one that runs the same stage just then is given a folder that it
    shares with nobody and that is thrown away.
    """
    folder = _unfinished(out)
    while True:
        make_folders(folder)
        with ExitStack() as stack:
            try:
                stack.enter_context(held(folder))
            except Taken:
                if not folder.is_dir():
                    continue  # the process that had it is done, and has removed it
                folder = Path(stack.enter_context(TemporaryDirectory(dir=out)))
            yield folder
            return


def drop_unfinished(place: Path) -> None:
    """Remove what `unfinished` kept for a stage that is done; another process that is still at it will do so then."""
    folder = _unfinished(place)
    with suppress(Taken), held(folder):
        shutil.rmtree(folder, ignore_errors=True)
