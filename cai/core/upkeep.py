"""A store looked after: is it whole, what of it does nobody need, and where did a stage come from.

`check` reads every file of every stage. `unneeded` finds what no run refers to. `origin` follows a stage's inputs back:
they stand in its manifest by the digests of their contents, and a stage that has such contents is where they came from.
"""

import json
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.core.durable import unique
from cai.core.errors import UserError, some, suggest
from cai.core.lease import drop_dead
from cai.core.owned import Taken, leftover, nobodys
from cai.core.progress import progress
from cai.core.store import MANIFEST, Artifact, Damage, read_stage

STAGE = re.compile(r"(\w+)-([0-9a-f]{16})")
LEFT = ("partial", "damaged", "unfinished", "lease", "dead")
DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class StageOnDisk:
    """A stage's manifest. inputs: digests of the contents that it was made from, by the name of the parameter."""

    artifact: Artifact
    made: float
    inputs: Mapping[str, tuple[str, ...]]
    bytes: int


@dataclass(frozen=True, slots=True)
class Unneeded:
    """Something that may go. why: in words."""

    path: Path
    bytes: int
    why: str


def stages(root: Path) -> list[Path]:
    """The folders that are stages, or have the name of one. Raises UserError where there is no store."""
    store = root / "store"
    if not store.is_dir():
        raise UserError("there is no store here", str(store), "name the folder that has one: --root FOLDER")
    return sorted(path for path in store.iterdir() if STAGE.fullmatch(path.name))


def size_of(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(one.lstat().st_size for one in path.rglob("*") if not one.is_dir())


# 1. Check -------------------------------------------------------------------------------------------------------------


def check(root: Path) -> list[tuple[Path, str]]:
    """(folder, what is wrong) of every stage that is not what was made. Contents are read whatever times say."""
    faults = []
    folders = stages(root)
    with progress("stages checked", len(folders)) as step:
        for folder in folders:
            try:
                read_stage(folder)
            except Damage as damage:
                faults.append((folder, str(damage)))
            except OSError as error:
                faults.append((folder, f"it cannot be read: {error.strerror}"))
            step(1)
    return faults


# 2. What nobody needs -------------------------------------------------------------------------------------------------


def manifests(root: Path) -> dict[str, StageOnDisk]:
    """What is known of each stage whose manifest can be read, by the folder's name."""
    known = {}
    for folder in stages(root):
        with suppress(Damage, OSError):
            artifact = read_stage(folder, contents=False)
            read = json.loads((folder / MANIFEST).read_bytes())
            given, at = read.get("inputs") or {}, read.get("made") or 0.0
            if artifact and isinstance(given, dict) and isinstance(at, int | float):
                inputs = {name: tuple(_digests(value)) for name, value in given.items()}
                known[folder.name] = StageOnDisk(artifact, at, inputs, size_of(folder))
    return known


def referred(root: Path, known: Mapping[str, StageOnDisk]) -> set[str]:
    """The stages that a run's links.json or results.json names, and all that those were made from.

    Raises UserError for a links.json that cannot be read: what its run needs is not known.
    """
    wanted: set[str] = set()
    for links in _runs(root):
        try:
            wanted |= {Path(link).name for link in _texts(json.loads(links.read_bytes()))}
            results = links.with_name("results.json")
            if results.is_file():
                rows = json.loads(results.read_bytes()).get("stages") or []
                begun = tuple(f"{row['stage']}-{row['key']}" for row in rows)
                wanted |= {name for name in known if name.startswith(begun)}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            problem = "links.json or results.json is cut off, or was not written by a run: what it needs is not known"
            raise UserError(problem, str(links.parent), "run its experiment again, or remove its folder") from None
    sources = _sources(known)
    new = wanted & known.keys()
    needed = set(new)
    while new:
        digests = {digest for name in new for part in known[name].inputs.values() for digest in part}
        new = {name for digest in digests for name in sources.get(digest, ())} - needed
        needed |= new
    return needed


def unneeded(root: Path, days: float) -> list[Unneeded]:
    """Stages that no run refers to, and what killed processes left. days: what was used since then stays: a run that
    is not finished refers to nothing yet."""
    known, now = manifests(root), time.time()
    needed = referred(root, known)
    found = []
    for name, made in known.items():
        used = (now - made.artifact.path.stat().st_mtime) / DAY
        if name not in needed and used >= days:
            found.append(Unneeded(made.artifact.path, made.bytes, f"no run refers to it, last used {_ago(used)}"))
    for path in sorted((root / "store").iterdir()):
        kind = path.name.rpartition(".")[2]
        with suppress(OSError):
            if kind in LEFT and not STAGE.fullmatch(path.name):
                found += _left(path, kind, days)
            elif STAGE.fullmatch(path.name) and path.name not in known:
                found.append(Unneeded(path, size_of(path), "it is damaged"))
    return found


def _left(path: Path, kind: str, days: float) -> Iterator[Unneeded]:
    """What a killed process left, if its owner is dead as far as can be known."""
    since = (time.time() - path.stat().st_mtime) / DAY
    if kind == "lease":
        if since >= days:
            yield Unneeded(path, size_of(path), f"the lease of a process that has not been seen since {_ago(since)}")
    elif kind == "partial":
        with suppress(Taken), leftover(path):
            yield Unneeded(path, size_of(path), "a killed process was making it")
    elif kind == "unfinished":
        if since >= days:
            with suppress(Taken), nobodys(path):
                yield Unneeded(path, size_of(path), f"checkpoints of a stage that was killed {_ago(since)}")
    else:
        yield Unneeded(path, size_of(path), "it was damaged and set aside" if kind == "damaged" else "a leftover")


def free(found: Iterable[Unneeded]) -> int:
    """Remove it; returns how many bytes. A stage is renamed first: half of one never stands in its place."""
    freed = 0
    found = list(found)
    with progress("removed", len(found)) as step:
        for one in found:
            with ExitStack() as stack, suppress(Taken, FileNotFoundError):
                kind = one.path.name.rpartition(".")[2]
                if kind in ("partial", "unfinished"):  # somebody may have begun since
                    stack.enter_context(leftover(one.path) if kind == "partial" else nobodys(one.path))
                if kind == "lease":
                    if not drop_dead(one.path):
                        one.path.unlink()
                elif one.path.is_dir() and not one.path.is_symlink():
                    aside = one.path.with_name(f"{one.path.name.partition('.')[0]}.{unique()}.damaged")
                    one.path.rename(aside)
                    shutil.rmtree(aside)
                else:
                    one.path.unlink()
                freed += one.bytes
            step(1)
    return freed


def _runs(root: Path) -> list[Path]:
    """links.json of every run in the folder of the store, those of sweeps' points as well."""
    aside = {"store", "calls", "trackers"}
    homes = [path for path in root.iterdir() if path.is_dir() and path.name not in aside]
    return sorted(links for home in homes for links in home.rglob("links.json"))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def _digests(value: Any) -> Iterator[str]:
    """Of the contents among an input's parts."""
    if isinstance(value, Mapping):
        if isinstance(value.get("digest"), str):
            yield value["digest"]
        for inner in value.values():
            yield from _digests(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _digests(inner)


def _sources(known: Mapping[str, StageOnDisk]) -> dict[str, list[str]]:
    """The stages that have these contents, the oldest first."""
    by_digest: dict[str, list[str]] = {}
    for name in sorted(known, key=lambda name: known[name].made):
        by_digest.setdefault(known[name].artifact.digest, []).append(name)
    return by_digest


def _ago(days: float) -> str:
    return f"{days:.0f} days ago" if days >= 1.5 else f"{days * 24:.0f} hours ago"


# 3. Where a stage came from -------------------------------------------------------------------------------------------


def find(known: Mapping[str, StageOnDisk], text: str) -> str:
    """A stage's name from its beginning, its key's beginning, or its folder. Raises UserError for none, or several."""
    text = Path(text).name
    hits = [name for name in known if name.startswith(text) or name.rpartition("-")[2].startswith(text)]
    if text in known or len(hits) == 1:
        return text if text in known else hits[0]
    if hits:
        raise UserError(f"{len(hits)} stages begin so", text, f"name one: {some(hits, 5)}")
    kinds = sorted({name.rpartition("-")[0] for name in known})
    raise UserError("there is no such stage", text, suggest(text.rpartition("-")[0] or text, kinds))


def origin(known: Mapping[str, StageOnDisk], name: str) -> list[str]:
    """Lines: the stage, and below it what it was made from, back to the beginning; each stage in full once."""
    sources, shown, lines = _sources(known), set(), []

    def tell(name: str, parameter: str, depth: int) -> None:
        made = known[name]
        again = name in shown
        shown.add(name)
        lines.append("  " * depth + (f"{parameter}: " if parameter else "") + name + ("  (above)" if again else ""))
        if again:
            return
        lines.append("  " * depth + f"    {_facts(made)}")
        for parameter, digests in made.inputs.items():
            for digest in digests:
                of = [one for one in sources.get(digest, ()) if one != name]
                if of:
                    tell(of[0], parameter, depth + 2)
                else:
                    lines.append("  " * (depth + 2) + f"{parameter}: contents {digest[:12]}, not made by a stage here")

    tell(name, "", 0)
    return lines


def _facts(made: StageOnDisk) -> str:
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(made.made)) if made.made else "at an unknown time"
    calls = ", ".join(f"{number:,} {kind}" for kind, number in made.artifact.calls.items() if number)
    parts: Sequence[str] = (
        f"digest {made.artifact.digest[:12]}",
        f"made {at}",
        f"{made.artifact.seconds:.1f} s",
        amount(made.bytes),
        f"calls: {calls}" if calls else "",
    )
    return "; ".join(part for part in parts if part)


def amount(size: int) -> str:
    """`512 bytes`, `3.4 MB`."""
    for unit, limit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= limit:
            return f"{size / limit:.1f} {unit}"
    return f"{size} bytes"
