"""Names that become folders, and places that are to be written to: what is wrong with them is said before any work."""

import errno
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from cai.core.errors import UserError

LONGEST = 100  # bytes of a name: what is made of it is longer, and file systems end at 255
# In `runs/` beside the folders of the experiments.
RESERVED = ("store", "trackers", "workers", "calls", "calls.sqlite", "calls.sqlite-wal", "calls.sqlite-shm")
# What tables call the policies that come before the arms'.
POLICIES = ("start", "sft")


def fault_of_name(name: str) -> str:
    """What keeps an experiment's name from being the name of one folder in `runs/`; "" where nothing does."""
    if not name.strip():
        return "it is empty"
    if any(unicodedata.category(letter).startswith("C") for letter in name):
        return "it has characters that cannot be seen"
    if "/" in name or "\\" in name:
        return "it is a path"
    if name[0] in ".-" or name[-1] in ". " or name[0] == " ":
        return "it begins or ends as no folder's name should"
    if name.casefold() in RESERVED:
        return "that name is taken in runs/"
    return _too_long(name)


def fault_of_arm(name: str) -> str:
    """As `fault_of_name`, of an arm, whose name also stands in tables and file names."""
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isprintable():
        return "it has other characters than letters, digits, - and _"
    if name.casefold() in POLICIES:
        return "a policy that comes before the arms' is called that"
    return _too_long(name)


def _too_long(name: str) -> str:
    return f"it is longer than {LONGEST} bytes" if len(name.encode()) > LONGEST else ""


def check_folder(folder: Path, remedy: str) -> None:
    """Can files be made in this folder, or the folder itself? Raises UserError where not. Writes nothing."""
    place = _existing(folder)
    if not place.is_dir():
        raise UserError("a file stands where a folder is needed", str(place), "move it away, or name another folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"nothing can be written here: {_why(place)}", str(place), remedy)


def check_file(file: Path, remedy: str) -> None:
    """Can this file be written, whether it is there or not? Raises UserError where not. Writes nothing."""
    if file.is_dir():
        raise UserError("a folder stands where a file is needed", str(file), "move it away, or give another name")
    if file.exists() and not os.access(file, os.W_OK):
        raise UserError(f"it cannot be written: {_why(file)}", str(file), remedy)
    if file.is_file() or not file.exists():  # else a pipe or a terminal, which is not replaced
        check_folder(file.parent, remedy)


def check_run(root: Path, names: Iterable[str], files: Iterable[str]) -> None:
    """Is there a place for the store, the calls, and each run's folder with these files? Raises UserError."""
    remedy = "make it writable, or name another folder with --set runtime.root=FOLDER"
    check_folder(root / "store", remedy)
    check_folder(root / "calls", remedy)
    for home in (root / name for name in names):
        check_folder(home, remedy)
        for file in (home / name for name in files):
            if file.is_dir():
                raise UserError("a folder stands where the run is to write a file", str(file), "move it away")


def _existing(path: Path) -> Path:
    """The path itself, or what is there of it. Raises UserError for one that no file system takes."""
    for place in (path, *path.absolute().parents):
        try:
            place.lstat()
            return place
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UserError(f"cannot look there: {error.strerror}", str(place), "name another folder") from None
    return Path(path.anchor or ".")


def _why(place: Path) -> str:
    readonly = os.statvfs(place).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if readonly else errno.EACCES).lower()
