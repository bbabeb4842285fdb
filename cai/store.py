"""The store: content-addressed stages and the cache of model calls.

    runs/store/<stage>-<key>/                what one stage made; immutable; manifest.json is written last
    runs/store/<stage>-<key>.<pid>.partial/  what a process is making
    runs/store/<stage>-<key>.unfinished/     checkpoints of a long stage that was killed; gone when the stage is done
    runs/calls.sqlite                        one row a model call

A stage's key is the sha256 of its name and version, its own parameters, and the digests of its inputs' *contents*:
an upstream stage that is run again and comes out the same stops the ripple there. What only says where and how fast
to run (`runtime:`, the engine, the progress bar) is never part of a key.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel

from cai.errors import UserError


def canonical(value: Any) -> Any:
    """`value` as plain JSON data with one spelling: what a key is made of."""
    if hasattr(value, "digest"):
        return {"digest": value.digest}
    if isinstance(value, BaseModel):
        return canonical(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        return canonical({one.name: getattr(value, one.name) for one in fields(value)})
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    assert value is None or isinstance(value, (str, int, float, bool)), f"no canonical form for {type(value)}"
    return value


def digest_of(value: Any) -> str:
    text = json.dumps(canonical(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


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
    calls: the model calls that it took, and their tokens, where its runtime counts them.
    """

    stage: str
    key: str
    path: Path
    digest: str
    seconds: float = 0.0
    cached: bool = True
    calls: Mapping[str, int] = field(default_factory=dict, compare=False)

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
    ledger: list[Artifact] = field(default_factory=list)

    def stage(self, function: Callable[..., None], *, runtime: Any = None, **inputs: Any) -> Artifact:
        """`function(out, runtime, **inputs)` once for each distinct key; afterwards the same folder is handed back.

        An Artifact among the inputs reaches the function as itself (`labels / "labels.jsonl"`); its contents, not its
        place, are in the key. An exception leaves no trace in the store, and what a kill leaves is thrown away when a
        stage runs next (`sweep`): what is dear inside a stage is kept by the call cache (model calls) or, where a stage
        has asked for it, in `unfinished` (checkpoints of a training).
        """
        name = function.__name__
        key = digest_of({"stage": name, "version": function.version, "inputs": inputs})[:16]  # pyrefly: ignore
        folder = self.root / "store" / f"{name}-{key}"
        if (folder / "manifest.json").is_file():
            manifest = json.loads((folder / "manifest.json").read_text())
            known = manifest["digest"], manifest["seconds"]
            return self._note(Artifact(name, key, folder, *known, calls=manifest.get("calls", {})))
        if self.plan:
            return self._note(Artifact(name, key, folder, f"?{key}", cached=False))
        return self._note(self._run(function, name, key, folder, runtime, inputs))

    def stage_with(self, runtime: Any) -> Callable[..., Artifact]:
        """`stage` with the runtime already given: what the pipeline calls."""
        return lambda function, **inputs: self.stage(function, runtime=runtime, **inputs)

    def _run(
        self, function: Callable[..., None], name: str, key: str, folder: Path, runtime: Any, inputs: dict
    ) -> Artifact:
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        sweep(folder.parent)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with ExitStack() as held:
            with suppress(OSError):  # a file system without locks, on which `sweep` removes nothing
                held.enter_context(_held(partial))
            self.notify(name, key)
            start, count = time.perf_counter(), getattr(runtime, "counts", dict)
            before = count()
            try:
                function(partial, runtime, **inputs)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            seconds = time.perf_counter() - start
            digest = digest_folder(partial)
            calls = {kind: number - before.get(kind, 0) for kind, number in count().items()}
            manifest: dict[str, Any] = {"stage": name, "key": key, "digest": digest, "seconds": round(seconds, 3)}
            manifest |= {"made": time.time(), "calls": calls}
            manifest["inputs"] = canonical(inputs)
            write_durably(partial / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False))
            shutil.rmtree(folder, ignore_errors=True)  # a folder without a manifest is a leftover, never a result
            partial.rename(folder)
        shutil.rmtree(_unfinished(partial), ignore_errors=True)
        return Artifact(name, key, folder, digest, seconds, cached=False, calls=calls)

    def _note(self, artifact: Artifact) -> Artifact:
        if all(known.path != artifact.path for known in self.ledger):
            self.ledger.append(artifact)
            self.noted(artifact)
        return artifact


def sweep(store: Path) -> None:
    """Remove the work of processes that were killed: `.partial` folders whose process is gone."""
    for partial in store.glob("*.partial"):
        pid = partial.name.split(".")[-2]
        if pid.isdecimal() and not _alive(int(pid)):
            # Process ids are those of one machine, and a store may be shared by several: the lock tells of the others.
            with suppress(OSError), _held(partial):
                shutil.rmtree(partial, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock a folder that only its own process may write to. Raises OSError where another one holds it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _unfinished(out: Path) -> Path:
    return out.with_name(f"{out.name.partition('.')[0]}.unfinished")


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A folder in which a stage finds again what it wrote there before it was killed. `out`: the stage's own folder.

    It belongs to one process at a time: another one that runs the same stage just then is given a folder that it
    shares with nobody and that is thrown away.
    """
    folder = _unfinished(out)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with TemporaryDirectory(dir=out) as alone:
                yield Path(alone)
        else:
            yield folder


def write_durably(path: Path, text: str) -> None:
    """Write `text` and fsync it, so that a manifest that exists is whole."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


class CallCache:
    """One row a model call, in SQLite (WAL): what was answered is never asked again, also after a kill.

    A value is JSON text. Several processes may write at once; the first answer for a key stands.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, timeout=60)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
            )
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"cannot open the call cache: {error}", str(path), "move the file away; its calls will be made again"
            ) from None

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for start in range(0, len(keys), 500):  # SQLite allows 999 variables a statement
            some = keys[start : start + 500]
            marks = ",".join("?" * len(some))
            rows = self._db.execute(f"SELECT key, value FROM calls WHERE key IN ({marks})", some)
            found.update((key, json.loads(value)) for key, value in rows)
        return found

    def put(self, rows: Iterable[tuple[str, Any]]) -> None:
        with self._db:
            try:
                self._db.executemany(
                    "INSERT OR IGNORE INTO calls VALUES (?, ?)",
                    [(key, json.dumps(value, ensure_ascii=False)) for key, value in rows],
                )
            except sqlite3.OperationalError as error:
                if "full" in str(error):
                    raise OSError(28, "No space left on device", "runs/calls.sqlite") from None
                raise

    def close(self) -> None:
        self._db.close()
