"""A disk that forgets at a power cut whatever was not synced, on top of the real one. For the tests of power cuts.

POSIX promises of a file only what was in it at its last fsync, and of a folder only the names that it had at its last
fsync. What else survives is chance: ext4 writes names before contents, which leaves files of 0 bytes. `Disk` notes each
fsync of Python's below a folder, and `after_cut` writes what may be there when the machine starts again.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAYS = ("nothing else", "names", "chance")  # what survives besides what was synced


class Disk:
    """root: an empty folder. at_cut: called with the moment's number before and after every fsync and rename."""

    def __init__(self, root: Path, patch: Any, at_cut: Callable[[int], None] = lambda moment: None) -> None:
        self.root, self.at_cut, self.moments = root, at_cut, 0
        self._files: dict[int, bytes] = {}
        self._folders: dict[int, dict[str, int]] = {}
        self._kept: list[int] = []  # open handles, so that no inode's number is given away twice
        self._busy = False
        for name in ("fsync", "rename", "replace"):
            patch.setattr(os, name, self._watched(getattr(os, name), note=name == "fsync"))

    def _watched(self, function: Callable, note: bool) -> Callable:
        def call(*args: Any, **kwargs: Any) -> None:
            self._cut()
            function(*args, **kwargs)
            if note and not self._busy:
                self._note(args[0])
            self._cut()

        return call

    def _cut(self) -> None:
        if not self._busy:
            self._busy = True
            try:
                self.at_cut(self.moments)
            finally:
                self._busy = False
            self.moments += 1

    def _note(self, handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        path = Path(f"/proc/self/fd/{number}").readlink()
        self._kept.append(os.dup(number))
        if path.is_dir():
            self._folders[path.stat().st_ino] = {one.name: one.lstat().st_ino for one in path.iterdir()}
        else:
            self._files[path.stat().st_ino] = path.read_bytes()

    def after_cut(self, way: str, into: Path, seed: int = 0) -> Path:
        """What the disk may hold if the power is cut now, as a folder."""
        shutil.rmtree(into, ignore_errors=True)
        live = {one.lstat().st_ino: one for one in (self.root, *self.root.rglob("*"))}
        self._write(self.root.stat().st_ino, live, way, random.Random(seed), into)
        return into

    def _write(self, inode: int, live: dict[int, Path], way: str, chance: random.Random, into: Path) -> None:
        path = live.get(inode)
        if (path is not None and path.is_dir()) or inode in self._folders:
            into.mkdir()
            names = self._folders.get(inode, {})
            if path is not None and (way == "names" or (way == "chance" and chance.random() < 0.5)):
                names = {one.name: one.lstat().st_ino for one in sorted(path.iterdir())}
            for name, inner in names.items():
                self._write(inner, live, way, chance, into / name)
        else:
            content = self._files.get(inode, b"")
            if path is not None and way == "chance" and path.read_bytes() != content:
                content = chance.choice((content, path.read_bytes(), path.read_bytes()[:7]))
            into.write_bytes(content)

    def close(self) -> None:
        for handle in self._kept:
            os.close(handle)
