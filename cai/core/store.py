"""The store of stages, content-addressed. The cache of model calls is in cai/models/calls.py.

    runs/store/<stage>-<key>/                   what one stage made; immutable; manifest.json is written last
    runs/store/<stage>-<key>.<owner>.partial/   what a process is making; locked by it while it lives
    runs/store/<stage>-<key>.<owner>.damaged/   a stage that is no longer what was made; set aside, and made again
    runs/store/<stage>-<key>.unfinished/        checkpoints of a long stage that was killed; gone when the stage is done
    runs/store/<stage>-<key>.lease              who makes it just now; others that need it wait (cai/core/lease.py)

A stage's key is the sha256 of its name and version, its own parameters, and the digests of its inputs' *contents*:
an upstream stage that is run again and comes out the same stops the ripple there. What only says where and how fast
to run (`runtime:`, the engine, the progress bar) is never part of a key.

A folder with a manifest is a result, whoever made it. Processes that need the same stage make it once, as far as its
lease can tell; should two make it all the same (one was thought dead), the first one's stays. What a manifest says of
its files is checked whenever the stage is used: names, sizes and times each time, the contents once in a process.
"""

import errno
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cai.core.durable import make_folders, publish, sync_tree, unique, write_whole
from cai.core.errors import UserError
from cai.core.lease import leased
from cai.core.owned import drop_unfinished, held, own_folder, sweep
from cai.core.usage import used

MANIFEST = "manifest.json"
PLAIN = frozenset({type(None), str, int, float, bool})  # their own form: the thousands of ids in a call's key
UNKNOWN = "?"  # a digest of what does not exist yet begins so
JUNK = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini|\._.*|\.nfs.*")  # what desktops and network disks leave


def canonical(value: Any) -> Any:
    """`value` as plain JSON data with one spelling: what a key is made of."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if hasattr(value, "digest"):
        return {"digest": value.digest}
    if isinstance(value, BaseModel):
        # A setting's key is its first name: a better one is given with `serialization_alias="old"`, and no key changes.
        return canonical(value.model_dump(by_alias=True))
    if is_dataclass(value) and not isinstance(value, type):
        return canonical({one.name: getattr(value, one.name) for one in fields(value)})
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in sorted(value.items())}
    assert isinstance(value, (list, tuple)), f"no canonical form for {type(value)}"
    return list(value) if PLAIN.issuperset(map(type, value)) else [canonical(item) for item in value]


def keyed(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's inputs as its key has them. A record of what travels together stands there as its parts.

    Such a record has a method `keyed() -> Mapping[str, Any]`: so parameters may become one record, and a store that
    was made before is hit.
    """
    parts: dict[str, Any] = {}
    for name, value in inputs.items():
        more = value.keyed() if hasattr(value, "keyed") else {name: value}
        assert not parts.keys() & more.keys(), f"{sorted(parts.keys() & more.keys())} are given twice"
        parts |= more
    return parts


def digest_of(value: Any) -> str:
    text = json.dumps(canonical(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def key_of(function: Callable[..., None], inputs: Mapping[str, Any]) -> str:
    """The key of a stage with these inputs."""
    parts = {"stage": function.__name__, "version": function.version, "inputs": keyed(inputs)}  # pyrefly: ignore
    return digest_of(parts)[:16]


def is_known(parts: Any) -> bool:
    """Whether inputs in their canonical form are those of a stage that can be made: nothing in them is yet to come."""
    if isinstance(parts, Mapping):
        return not str(parts.get("digest", "")).startswith(UNKNOWN) and all(map(is_known, parts.values()))
    return all(map(is_known, parts)) if isinstance(parts, list) else True


def digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path, skip: Sequence[str] = ()) -> str:
    """sha256 over the names and contents of all files below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in skip)
    return digest_of([[path.relative_to(folder).as_posix(), digest_file(path)] for path in files])


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a stage made.

    digest: of its contents. In a plan they cannot be known for what does not exist yet; then it is "?" and the key,
    which is enough to tell apart, and to recognise, what would be made from it.
    calls: the model calls that it took, and their tokens, where its runtime counts them. used: of the machine, when it
    was made (cai/core/usage.py). inputs: in a plan, those of a stage that is to run, as its manifest will have them.
    """

    stage: str
    key: str
    path: Path
    digest: str
    seconds: float = 0.0
    cached: bool = True
    calls: Mapping[str, int] = field(default_factory=dict, compare=False)
    used: Mapping[str, float] = field(default_factory=dict, compare=False)
    inputs: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __truediv__(self, name: str) -> Path:
        return self.path / name


def root_of(home: Path) -> Path | None:
    """The folder whose `store` a run's folder belongs to: the nearest around it that has one."""
    return next((one for one in home.resolve().parents if (one / "store").is_dir()), None)


def version(number: int) -> Callable:
    """Mark a stage function with its version; raise it when the same inputs would now give another result."""

    def mark(function: Callable) -> Callable:
        function.version = number  # pyrefly: ignore
        return function

    return mark


@dataclass
class Store:
    """Runs stages, or looks them up. `ledger` holds every stage asked for so far, in order.

    plan:   True only looks up and writes nothing: a stage that would run is returned with a digest of "?" and its key.
    notify: called with (stage name, key) just before a stage runs. noted: with each stage that is there, once.
    """

    root: Path
    plan: bool = False
    notify: Callable[[str, str], None] = lambda stage, key: None
    noted: Callable[[Artifact], None] = lambda artifact: None
    ledger: dict[Path, Artifact] = field(default_factory=dict)  # all that was asked for, in order, by its path

    def stage(self, function: Callable[..., None], *, runtime: Any = None, **inputs: Any) -> Artifact:
        """`function(out, runtime, **inputs)` once for each distinct key; afterwards the same folder is handed back.

        An Artifact among the inputs reaches the function as itself (`labels / "labels.jsonl"`); its contents, not its
        place, are in the key. An exception leaves no trace in the store, and what a kill leaves is thrown away when a
        stage runs next (`sweep`): what is dear inside a stage is kept by the call cache (model calls) or, where a stage
        has asked for it, in `unfinished` (checkpoints of a training).
        """
        name, key = function.__name__, key_of(function, inputs)
        folder = self.root / "store" / f"{name}-{key}"
        made = self.look_up(name, key, folder, inputs)
        if made and not self.plan:
            with suppress(OSError):  # a store that is only read
                os.utime(folder)  # it is in use: see `gc` in cai/core/upkeep.py
        wanted = Artifact(name, key, folder, f"{UNKNOWN}{key}", cached=False)
        return self._note(made or self.provide(function, wanted, runtime, inputs))

    def stage_with(self, runtime: Any) -> Callable[..., Artifact]:
        """`stage` with the runtime already given: what the pipeline calls."""
        return lambda function, **inputs: self.stage(function, runtime=runtime, **inputs)

    def look_up(self, name: str, key: str, folder: Path, inputs: Mapping[str, Any]) -> Artifact | None:
        """The stage if it is there and undamaged; in a plan, also what is known of one that is not."""
        try:
            made, was = read_stage(folder, contents=not self.plan), None
        except Damage as damage:
            made, was = None, damage.made
            print(f"note: {folder} is damaged: {damage}; it will be made again", file=sys.stderr, flush=True)
        if made is None and self.plan:  # what is made again comes out as it was, as far as anybody knows
            digest, given = was.digest if was else f"{UNKNOWN}{key}", canonical(keyed(inputs))
            return Artifact(name, key, folder, digest, cached=False, inputs=given)
        return made

    def provide(
        self, function: Callable[..., None], wanted: Artifact, runtime: Any, inputs: dict[str, Any]
    ) -> Artifact:
        """The stage made here; or by another process, while this one waited for it."""
        folder = wanted.path
        make_folders(folder.parent)
        with leased(folder.with_name(f"{folder.name}.lease")) as lease:
            sweep(folder.parent)
            with suppress(Damage):
                if made := read_stage(folder):
                    return made
            with own_folder(folder, lease.owner) as partial:
                made = self._make(function, partial, wanted, runtime, inputs)
            drop_unfinished(folder)
        return made

    def _make(
        self, function: Callable[..., None], partial: Path, wanted: Artifact, runtime: Any, inputs: dict[str, Any]
    ) -> Artifact:
        self.notify(wanted.stage, wanted.key)
        before = (count := getattr(runtime, "counts", dict))()
        with used() as usage:
            function(partial, runtime, **inputs)
        seconds = usage.pop("seconds")
        files = _listing(partial)
        digest = _digest(partial, files)
        calls = {kind: number - before.get(kind, 0) for kind, number in count().items()}
        manifest: dict[str, Any] = {"stage": wanted.stage, "key": wanted.key, "digest": digest}
        manifest |= {"seconds": round(seconds, 3), "used": usage, "made": time.time(), "calls": calls, "files": files}
        manifest |= {"device": getattr(runtime, "device", ""), "inputs": canonical(keyed(inputs))}
        sync_tree(partial)  # the manifest vouches for them: they are on the disk before it is
        write_whole(partial / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
        return _put(partial, replace(wanted, digest=digest, seconds=seconds, calls=calls, used=usage))

    def _note(self, artifact: Artifact) -> Artifact:
        if artifact.path not in self.ledger:
            self.ledger[artifact.path] = artifact
            self.noted(artifact)
        return artifact


class Damage(Exception):
    """A stage's folder is not what was made. made: what its manifest says was there, if that can still be read."""

    def __init__(self, fault: str, made: Artifact | None = None) -> None:
        super().__init__(fault)
        self.made = made


_checked: dict[Path, str] = {}  # folder -> the stamp under which this process found its contents to be right


def read_stage(folder: Path, *, contents: bool = True) -> Artifact | None:
    """What a stage made; None where there is no such folder. Raises Damage where it is not what was made.

    contents: False trusts files whose names, sizes and times are as they were; what has another time is read.
    """
    if not folder.is_dir():
        if folder.is_symlink() or folder.exists():
            raise Damage("it is no folder")
        return None
    manifest = _manifest(folder)
    name, key, known = manifest["stage"], manifest["key"], manifest["files"]
    if folder.name != f"{name}-{key}":
        raise Damage(f"its {MANIFEST} is that of {name}-{key}")
    taken = {"calls": manifest["calls"], "used": manifest["used"]}
    made = Artifact(name, key, folder, manifest["digest"], manifest["seconds"], **taken)
    files = _listing(folder)
    if known is not None:
        for names, fault in ((known.keys() - files, "is gone"), (files.keys() - known, "was not there")):
            if names:
                raise Damage(f"{min(names)} {fault}", made)
        other = next((file for file, (size, _) in files.items() if size != known[file][0]), None)
        if other:
            raise Damage(f"{other} has {files[other][0]} bytes, and had {known[other][0]}", made)
    stamp = _stamp(made.digest, files)
    trusted = not contents and (known is None or known == files)
    if not trusted and _checked.get(folder.resolve()) != stamp:
        if _digest(folder, files) != made.digest:
            touched = [file for file in files if known and files[file] != known[file]]
            which = f" ({', '.join(touched)} changed since)" if touched else ""
            raise Damage(f"its contents are not those that were made{which}", made)
        _checked[folder.resolve()] = stamp
    return made


def linked(root: Path, link: str, home: Path) -> Artifact:
    """The stage that a run's links.json names: found by its name, for the store may have been moved since.

    root: of the store. home: the run's folder. Raises UserError for one that is lost or damaged.
    """
    path = root / "store" / Path(link).name
    again = "run its experiment again: what is damaged or lost is made anew"
    try:
        made = read_stage(path)
    except Damage as damage:
        raise UserError(f"{path} is damaged: {damage}", str(home), again) from None
    if made is None:
        raise UserError(f"the store has lost {path.name}", str(home), again)
    return made


def _manifest(folder: Path) -> dict[str, Any]:
    """Raises Damage for one that is missing, cut off, or says something else than a manifest says."""
    try:
        read = json.loads((folder / MANIFEST).read_bytes())
        if not isinstance(read, dict):
            raise TypeError
        said: dict[str, Any] = {"calls": {}, "used": {}, "files": None} | read
        words = all(isinstance(said[name], str) and said[name] for name in ("stage", "key", "digest"))
        counts = all(isinstance(count, int | float) for part in ("calls", "used") for count in said[part].values())
        files = said["files"] and {name: [int(size), int(at)] for name, (size, at) in said["files"].items()}
        if not (words and counts and isinstance(said["seconds"], int | float)):
            raise TypeError
    except (FileNotFoundError, IsADirectoryError):
        raise Damage(f"it has no {MANIFEST}") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise Damage(f"{MANIFEST} is cut off or is no manifest") from None
    return said | {"files": files}


def _listing(folder: Path) -> dict[str, list[int]]:
    """Size and time (ns) of every file that a stage made, in one order."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not JUNK.fullmatch(path.name))
    status = {path.relative_to(folder).as_posix(): path.stat() for path in found if path != folder / MANIFEST}
    return {file: [one.st_size, one.st_mtime_ns] for file, one in status.items()}


def _digest(folder: Path, files: Iterable[str]) -> str:
    try:
        return digest_of([[file, digest_file(folder / file)] for file in files])
    except FileNotFoundError as error:
        raise Damage(f"{error.filename} is gone") from None


def _stamp(digest: str, files: Mapping[str, Sequence[int]]) -> str:
    return digest_of([digest, files])


def _put(partial: Path, made: Artifact) -> Artifact:
    """Move a finished stage to its place, or hand back what another process has put there meanwhile.

    What stands in the place and is no whole result is set aside.
    """
    folder = made.path
    with held(folder.parent, wait=True):  # one process at a time moves folders; without locks a rename may fail
        while True:
            try:
                if first := read_stage(folder):
                    return replace(first, seconds=made.seconds, cached=False, calls=made.calls, used=made.used)
                publish(partial, folder)
                _checked[folder.resolve()] = _stamp(made.digest, _listing(folder))
                return made
            except Damage as damage:
                aside = folder.with_name(f"{folder.name}.{unique()}.damaged")
                folder.rename(aside)
                print(f"note: {folder}: {damage}; set aside as {aside.name}", file=sys.stderr, flush=True)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
