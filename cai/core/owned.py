"""Folders that belong to one process at a time, where several processes, on one machine or many, share a store.

A process that makes something does so in a folder of its own name, which it holds by a lock (flock) while it lives:
what nobody holds is a leftover. Process ids tell nothing of other machines, nor of containers, where each has its own.
Where locks are not seen, on another machine or on a file system without them, a folder is a leftover when its owner,
which touches it while it lives (cai/core/lease.py), has not done so for a week.
"""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cai.core.durable import HOST, make_folders, unique
from cai.core.lease import drop_dead

ABANDONED = 7 * 24 * 3600.0  # seconds without a touch after which a folder whose lock is not seen here is a leftover
OWNER = ".owner"  # in a folder of checkpoints: the partial folder of the process that has it


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
def own_folder(place: Path, owner: str) -> Iterator[Path]:
    """A new partial folder beside `place`, its owner's alone; gone afterwards, unless it was moved to `place`."""
    while True:
        partial = place.with_name(f"{place.name}.{owner}.partial")
        partial.mkdir()
        with ExitStack() as stack:
            try:
                stack.enter_context(held(partial))
            except Taken:  # another process's `sweep` came between
                owner = unique()
                continue
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            yield partial
            return


def sweep(store: Path) -> None:
    """Remove what killed processes left: leases, `.partial` folders that nobody holds, and checkpoints of stages that
    are done."""
    for lease in store.glob("*.lease"):
        with suppress(OSError):
            drop_dead(lease)
    for partial in store.glob("*.partial"):
        with suppress(Taken, OSError), leftover(partial):
            shutil.rmtree(partial, ignore_errors=True)
    for folder in store.glob("*.unfinished"):
        place = store / folder.name.partition(".")[0]
        if place.is_dir():
            drop_unfinished(place)


@contextmanager
def leftover(partial: Path, abandoned: float = ABANDONED) -> Iterator[None]:
    """Hold a partial folder whose owner is dead, as far as can be known. Raises Taken for another one, and OSError."""
    owner = partial.name.split(".")[-2]
    with held(partial) as locked:
        own = owner.isdecimal() or owner.startswith(f"{HOST}-")
        if not (locked and own) and time.time() - partial.stat().st_mtime <= abandoned:
            raise Taken
        yield


# --- Checkpoints of a long stage --------------------------------------------------------------------------------------


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A folder in which a stage finds again what it wrote there before it was killed. `out`: the stage's own folder.

    It belongs to one process at a time. Where the one that has it may still be alive, a copy is handed out: what of
    it is whole must be seen from itself, and whichever process is killed, the newest goes on.
    """
    stem, _, owner = out.name.removesuffix(".partial").partition(".")
    own = out.with_name(f"{stem}.{owner}.unfinished")
    folder = max(_unfinished(out.parent, stem), key=_changed, default=out.with_name(f"{stem}.unfinished"))
    with ExitStack() as stack:
        try:
            make_folders(folder)
            stack.enter_context(nobodys(folder, out.name))
        except Taken:
            make_folders(own)
            with suppress(shutil.Error, OSError):  # the other one may be about to remove some of it
                shutil.copytree(folder, own, dirs_exist_ok=True)
            folder = own
            stack.enter_context(held(own))
        (folder / OWNER).write_text(out.name)
        yield folder


def drop_unfinished(place: Path) -> None:
    """Remove what `unfinished` kept for a stage that is done; another process that is still at it will do so then."""
    for folder in _unfinished(place.parent, place.name):
        with suppress(Taken, OSError), nobodys(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _unfinished(store: Path, stem: str) -> list[Path]:
    return [*store.glob(f"{stem}.unfinished"), *store.glob(f"{stem}.*.unfinished")]


def _changed(folder: Path) -> float:
    with suppress(OSError):
        return max((one.stat().st_mtime for one in folder.iterdir() if one.name != OWNER), default=0.0)
    return 0.0


@contextmanager
def nobodys(folder: Path, me: str = "") -> Iterator[None]:
    """Hold a folder of checkpoints. Raises Taken where the process that had it last may be alive: its own partial
    folder, which `sweep` removes when it is dead, is there."""
    with held(folder):
        try:
            owner = (folder / OWNER).read_text()
        except OSError:
            owner = ""
        if owner and owner != me and Path(owner).name == owner and (folder.parent / owner).is_dir():
            raise Taken
        yield
