"""Prompts and preference pairs: from the human-rated answers that a pip package carries, HH-RLHF, or a file.

Whatever the source, the outcome is the same two lists (cai/core/draws.py). Files of any form are read by cai/data/rows,
by one reader with one check. Rows that cannot be used are counted and named, never silently dropped.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cai.config.sections import Data
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.hub import commit_of, data_digest, data_file, is_unreachable
from cai.core.packages import PYRIT, cache_folder
from cai.core.records import Pair, write_jsonl
from cai.core.shipped import locate
from cai.core.store import digest_file, version
from cai.data.material import Material
from cai.data.rated_answers import rated_answers
from cai.data.rows.files import Raw, read_raw
from cai.data.rows.reader import Reading, read
from cai.data.rows.reader import read_file as read_rows_of
from cai.data.votes import name_aside

HUB_HH = "hh-rlhf"
HH = "Anthropic/hh-rlhf"
RATED = "rated-answers"  # the one source in which people rated single answers


@version(5)
def load_data(out: Path, runtime: Any, *, data: Data, contents: str, seed: int) -> None:
    """prompts.jsonl, pairs.jsonl, ratings.jsonl (where people rated answers), set_aside.jsonl and counts.json.

    contents: `source_digest(data)`, so that an edited file is reread.
    """
    material, pairs = read_used(data, seed)
    name_aside(material.aside, "data")
    write_jsonl(out / "prompts.jsonl", material.prompts.values())
    write_jsonl(out / "pairs.jsonl", pairs)
    write_jsonl(out / "ratings.jsonl", material.ratings)
    write_jsonl(out / "set_aside.jsonl", material.aside)
    (out / "counts.json").write_text(json.dumps(dict(material.counts), indent=1))


def source_digest(data: Data, key: str = "data.source") -> str:
    """What stands for the source's contents in a stage key. Raises UserError, at `key`, when a file is missing."""
    if data.source == RATED:
        return PYRIT.sha256
    if data.source.split("/")[0] == HUB_HH:
        return data_digest(HH, key)
    return digest_file(_existing(data.source, key))


def _existing(source: str, key: str = "data.source") -> Path:
    path = locate(source)
    if not path.is_file():
        raise UserError(
            f'there is no data source "{source}"',
            key,
            "give rated-answers, hh-rlhf/harmless-base, or a file that exists (.jsonl, .json, .csv, .parquet; .gz too)",
        )
    return path


def read_used(data: Data, seed: int) -> tuple[Material, list[Pair]]:
    """What the source holds, and those of its pairs that are used."""
    material = read_source(data, seed)
    return material, _limit(material, data, seed)


def at_hand(data: Data) -> bool:
    """Whether the source can be read without fetching anything."""
    if data.source == RATED:
        return (cache_folder() / "packages" / f"{PYRIT.name}-{PYRIT.version}").is_dir()
    return data.source.split("/")[0] != HUB_HH or not is_unreachable(source_digest(data))


def read_source(data: Data, seed: int) -> Material:
    if data.source == RATED:
        return rated_answers(data, seed)
    if data.source.split("/")[0] == HUB_HH:
        return _material(read(_hub_rows(data.source), data.source, data, seed))
    return read_file(_existing(data.source), data, seed)


def _limit(material: Material, data: Data, seed: int) -> list[Pair]:
    """At most `train_pairs`, `calibration_pairs` and `test_pairs`, chosen by hash; at most `pairs_per_prompt` each."""
    by_prompt: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(material.pairs.values(), key=lambda pair: uniform("pair", seed, pair.id)):
        if len(by_prompt[pair.prompt.id]) < data.pairs_per_prompt:
            by_prompt[pair.prompt.id].append(pair)
    kept: list[Pair] = []
    limits = {"train": data.train_pairs, "calibration": data.calibration_pairs, "test": data.test_pairs}
    for split, most in limits.items():
        some = [pair for pairs in by_prompt.values() for pair in pairs if pair.prompt.split == split]
        kept += sorted(some, key=lambda pair: uniform("limit", seed, pair.id))[:most]
    material.counts["pairs over the limits of the config"] += len(material.pairs) - len(kept)
    material.counts["pairs used"] = len(kept)
    return kept


@version(3)
def load_helpful(out: Path, runtime: Any, *, source: str, contents: str, test: float, seed: int) -> None:
    """prompts.jsonl: harmless everyday prompts. contents: the digest of the file, so that an edit is seen."""
    material = read_helpful(source, test, seed)
    name_aside(material.aside, "helpful prompts")
    write_jsonl(out / "prompts.jsonl", material.prompts.values())
    write_jsonl(out / "set_aside.jsonl", material.aside)
    (out / "counts.json").write_text(json.dumps(dict(material.counts), indent=1))


def read_helpful(source: str, test: float, seed: int) -> Material:
    """Everyday prompts, whatever else the source holds."""
    return read_source(Data(source=source, test=test), seed)


# --- HH-RLHF on the hub, files ----------------------------------------------------------------------------------------


def _hub_rows(source: str) -> Iterator[Raw]:
    """The training rows of one part of HH-RLHF, at the commit that stands in the key (`source_digest`)."""
    part = source.partition("/")[2] or "harmless-base"
    file = data_file(HH, commit_of(HH, "dataset"), f"{part}/train.jsonl.gz")
    for raw in read_raw(file):
        value = raw.value | {"subset": part.partition("-")[0]} if isinstance(raw.value, dict) else raw.value
        yield replace(raw, where=f"{source}:{raw.where.rpartition(':')[2]}", value=value)


def read_file(path: Path, data: Data, seed: int) -> Material:
    """A file of prompts or of comparisons of any form (cai/data/rows). Raises UserError where it holds no prompt."""
    return _material(read_rows_of(path, data, seed))


def _material(reading: Reading) -> Material:
    if not reading.prompts:
        raise reading.nothing("no prompts in this file")
    return Material(reading.prompts, reading.pairs, [], reading.counts(), reading.aside)
