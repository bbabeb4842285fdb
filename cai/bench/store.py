"""`python -m cai.bench store`: what a long project's own files cost: the cache of model calls, and the store of stages.

calls    a cache of so many made-up calls (two log-probabilities each, as of a judge) is written in batches,
         compacted and opened anew; then some of them are looked up, beside one SQLite table that finds them by
         their text key (what diskcache and most scripts do). Both must give the same answers.
stages   so many finished stages are keyed, found as a run with nothing to do finds them, and listed as
         `python -m cai.core gc` lists them
"""

import argparse
import hashlib
import json
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cai.bench.common import MedianRange, Ratio, cpu_seconds, positive, seconds, show, take_turns
from cai.config.sections import Judge
from cai.core.store import MANIFEST, key_of, read_stage, version
from cai.core.upkeep import manifests
from cai.models.calls import CallCache

BATCH = 512  # calls that are kept together
LOOKUP_MS, CALL_BYTES = 50.0, 1000.0  # what a lookup of a thousand calls and one call on the disk may come to
Rows = list[tuple[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class CallsCost:
    """calls: in the cache; wanted: looked up at once. write: seconds until all were kept, compaction on the way
    included; compact: of the last one, with nothing else to do. opened, lookup, table: milliseconds to open the cache,
    and to look up by the cache (cpu: of the processor) and by the table of text keys. ratio: cache to table."""

    calls: int
    wanted: int
    write: float
    compact: float
    bytes_each: float
    opened: MedianRange
    lookup: MedianRange
    cpu: MedianRange
    table: MedianRange
    ratio: Ratio


@dataclass(frozen=True, slots=True)
class StagesCost:
    """Milliseconds for all of them: to compute their keys, to find them again, and to list them for `gc`."""

    stages: int
    key: MedianRange
    find: MedianRange
    list: MedianRange


# 1. Calls -------------------------------------------------------------------------------------------------------------


def made_up(count: int) -> Iterator[Rows]:
    """Answers of a judge, in batches: keys as the cache has them, and two log-probabilities."""
    draw = random.Random(0)
    for start in range(0, count, BATCH):
        yield [
            (hashlib.sha256(b"%d" % i).hexdigest(), {"logprobs": [-draw.expovariate(1), -draw.expovariate(1)],
             "fault": ""}) for i in range(start, min(count, start + BATCH))
        ]  # fmt: skip


def text_keyed(path: Path, count: int) -> sqlite3.Connection:
    """The usual way: one SQLite table whose primary key is the text of the key."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA journal_mode=OFF")
        db.execute("CREATE TABLE calls (key TEXT PRIMARY KEY, value TEXT)")
        rows = ((key, json.dumps(value)) for batch in made_up(count) for key, value in batch)
        db.executemany("INSERT INTO calls VALUES (?, ?)", rows)
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


def measure_calls(folder: Path, count: int, wanted: int, rounds: int) -> CallsCost:
    """A cache of `count` calls in `folder`; the lookups are of other calls in each round."""
    cache, start = CallCache(folder / "calls"), time.perf_counter()
    for batch in made_up(count):
        cache.put(batch)
    written = time.perf_counter() - start
    start = time.perf_counter()
    cache.compact()
    compacted = time.perf_counter() - start
    cache.close()
    table, draw = text_keyed(folder / "plain.sqlite", count), random.Random(1)
    keys: list[str] = []

    def another() -> CallCache:
        keys[:] = [hashlib.sha256(b"%d" % draw.randrange(count)).hexdigest() for _ in range(wanted)]
        return CallCache(folder / "calls")

    def by_table() -> dict[str, Any]:
        found = {}
        for begin in range(0, len(keys), 500):
            some = keys[begin : begin + 500]
            marks = ",".join("?" * len(some))
            found |= dict(table.execute(f"SELECT key, value FROM calls WHERE key IN ({marks})", some))
        return {key: json.loads(value) for key, value in found.items()}

    opened, ours, theirs = [], [], []
    for _ in range(rounds):
        start = time.perf_counter()
        cache = another()
        opened.append(1000 * (time.perf_counter() - start))
        took = take_turns({"cache": lambda cache=cache: cache.get(keys), "table": by_table}, 1, "calls")
        assert took["cache"][0].result == took["table"][0].result and len(took["cache"][0].result) == len(set(keys))
        ours += took["cache"]
        theirs += took["table"]
        cache.close()
    table.close()
    size = sum(file.stat().st_size for file in (folder / "calls").iterdir())
    return CallsCost(
        calls=count,
        wanted=wanted,
        write=written,
        compact=compacted,
        bytes_each=size / count,
        opened=MedianRange.of(opened),
        lookup=milliseconds(seconds(ours)),
        cpu=milliseconds(cpu_seconds(ours)),
        table=milliseconds(seconds(theirs)),
        ratio=Ratio.of(ours, theirs),
    )


# 2. Stages ------------------------------------------------------------------------------------------------------------


def bench_stage(out: Path, work: Any, **_: Any) -> None:
    """What the made-up stages are said to be of; never run."""


version(1)(bench_stage)  # not above it: there stand the versions of what pipelines run


def measure_stages(folder: Path, count: int, rounds: int) -> StagesCost:
    """`count` stages with one small file each, made by hand: what a run writes, without its syncs."""
    inputs = [{"settings": Judge(principles="all"), "seed": seed, "dtype": "bfloat16"} for seed in range(count)]
    keys = [key_of(bench_stage, given) for given in inputs]
    folders = [folder / "store" / f"bench_stage-{key}" for key in keys]
    for place, key in zip(folders, keys, strict=True):
        place.mkdir(parents=True)
        (place / "rows.jsonl").write_text("{}\n")
        status = (place / "rows.jsonl").stat()
        manifest = {
            "stage": "bench_stage", "key": key, "digest": key, "seconds": 0.0, "used": {}, "made": 0.0, "calls": {},
            "files": {"rows.jsonl": [status.st_size, status.st_mtime_ns]}, "device": "cpu", "inputs": {},
        }  # fmt: skip
        (place / MANIFEST).write_text(json.dumps(manifest, indent=1))
    ways = {
        "keyed": lambda: [key_of(bench_stage, given) for given in inputs],
        "found": lambda: [read_stage(place, contents=False) for place in folders],
        "listed": lambda: manifests(folder),
    }
    took = take_turns(ways, rounds, "stages")
    assert all(turn.result == keys for turn in took["keyed"]) and all(len(t.result) == count for t in took["listed"])
    return StagesCost(count, *(milliseconds(seconds(took[name])) for name in ways))


def milliseconds(spread: MedianRange) -> MedianRange:
    return MedianRange(1000 * spread.median, 1000 * spread.low, 1000 * spread.high)


# 3. The program -------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=positive, default=1_000_000, help="in the cache (default: 1,000,000)")
    parser.add_argument("--wanted", type=positive, default=1000, help="calls that are looked up at once")
    parser.add_argument("--stages", type=positive, default=10_000, help="in the store (default: 10,000)")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--folder", type=Path, help="where they are made for the time being (default: a temporary one)")
    parser.add_argument("--only", choices=("calls", "stages"), help="one part of it")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(args: argparse.Namespace) -> None:
    """The benchmark `store`."""
    parts: dict[str, CallsCost | StagesCost] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        if args.only != "stages":
            parts["calls"] = measure_calls(Path(place), args.calls, args.wanted, args.rounds)
        if args.only != "calls":
            parts["stages"] = measure_stages(Path(place), args.stages, args.rounds)
    about = {"rounds": args.rounds, "sqlite": sqlite3.sqlite_version, "cores": os.cpu_count()}
    if args.json:
        print(json.dumps(about | {name: asdict(part) for name, part in parts.items()}, indent=1))
        return
    print(", ".join(f"{name} {value}" for name, value in about.items()), "", sep="\n")
    for part in parts.values():
        print("\n".join(calls_page(part) if isinstance(part, CallsCost) else stages_page(part)))


def calls_page(calls: CallsCost) -> Sequence[str]:
    return [
        f"{calls.calls:,} calls: kept in {calls.write:.1f} s, compacted in {calls.compact:.1f} s, "
        f"{calls.bytes_each:.0f} bytes each (at most {CALL_BYTES:.0f})",
        f"  opened in {show(calls.opened)} ms",
        f"  {calls.wanted:,} looked up in {show(calls.lookup)} ms (at most {LOOKUP_MS:.0f} for 1,000)",
        f"  in CPU milliseconds {show(calls.cpu)}",
        f"  by a table of text keys {show(calls.table)} ms; the cache takes {show(calls.ratio.clock)} of that",
    ]


def stages_page(stages: StagesCost) -> Sequence[str]:
    return [
        f"{stages.stages:,} stages: keyed in {show(stages.key)} ms, found in {show(stages.find)} ms, "
        f"listed in {show(stages.list)} ms",
    ]
