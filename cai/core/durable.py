"""Files and folders that are whole or not there, also after a kill, a full disk or a power cut.

After a power cut a file may have its name and none of its contents, and a folder the names of a minute ago: only what
was synced is on the disk. So whatever is to be found again is written in this order: the contents of every file, the
folders that name them, the file that says "complete", the rename to the place where it is looked for, and the folder
around that place (`publish`, `whole`, `make_folders`).
"""

import errno
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # some network file systems sync no folder


def _boot() -> str:
    """What this start of this machine calls itself; "" where the system does not say. Containers on it share it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


NODE = re.sub(r"[^A-Za-z0-9-]+", "-", platform.node())[:40] or "host"
MACHINE = _boot() or NODE  # where locks hold
HOST = f"{NODE}-{MACHINE[:6]}"  # cloned machines have one name


def unique() -> str:
    """A name that no other process gives, on any machine or in any container: host, process, random number."""
    return f"{HOST}-{os.getpid()}-{secrets.token_hex(4)}"


def sync(path: Path) -> None:
    """What a file holds, or which names a folder has, is on the disk when this returns. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno in NO_SYNC):
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """`sync` of every file below a folder, then of the folders, the innermost first."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            file = Path(place, name)
            if S_ISREG(file.lstat().st_mode):
                sync(file)
        sync(Path(place))


def make_folders(folder: Path) -> None:
    """`mkdir -p`, each new name on the disk. Raises OSError."""
    if not folder.is_dir():
        if folder.parent != folder:
            make_folders(folder.parent)
        try:
            folder.mkdir(exist_ok=True)
        except FileNotFoundError:  # where only the system makes names, as in /proc
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder)) from None
        sync(folder.parent)


def publish(folder: Path, place: Path) -> None:
    """Move a finished folder to its place: there, it is whole. Raises OSError, also where something stands there."""
    sync_tree(folder)
    folder.rename(place)
    sync(place.parent)


def publish_first(folder: Path, place: Path) -> None:
    """`publish`, unless another process has put there the same, however late: whoever was first is kept."""
    try:
        publish(folder, place)
    except OSError:
        if not (place.is_dir() and any(place.iterdir())):
            raise


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the other's place when all is written, and is gone after an error.

    Whoever reads `path` finds what was there before, or all that is there now. Not for pipes and devices.
    """
    path = Path(os.path.realpath(path))  # of a link, what it leads to
    aside = path.with_name(f".{path.name[:100]}.{unique()}")
    try:
        yield aside
        if path.is_file():
            shutil.copymode(path, aside)
        sync(aside)
        aside.replace(path)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)  # a write that fails names no file
        raise
    sync(path.parent)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file as `whole` does. Half of an emoji, which has no UTF-8 form, is written as its escape."""
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe, a terminal
        path.write_bytes(raw)
        return
    with whole(path) as aside:
        aside.write_bytes(raw)
