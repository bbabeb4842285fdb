"""Where prompts and preference pairs come from: one file of this folder a source, and the stages that read them.

A file here declares what it is (`SOURCE`, a `Source` of cai/data/material.py) and is thereby a source: there is no list
to enter it in. Whatever the source, the outcome is a `Material`. Rows that cannot be used are counted and named, never
silently dropped.
"""

import json
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from cai.config.sections import Data
from cai.core.draws import uniform
from cai.core.errors import UserError, suggest
from cai.core.records import Pair, write_jsonl
from cai.core.shipped import locate
from cai.core.store import version
from cai.data.material import Material, Source
from cai.data.rows.files import no_file
from cai.data.sources.local_file import SOURCE as FILE
from cai.data.votes import name_aside


@version(6)
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


def _sources() -> dict[str, Source]:
    """Every module of this folder, by its name, as it declares itself."""
    return {module.name: import_module(f"{__name__}.{module.name}").SOURCE for module in iter_modules(__path__)}


def source_of(name: str) -> Source:
    """The source that answers to what an experiment calls its data; what none answers to by name is a file."""
    return next((source for source in _sources().values() if source.answers(name)), FILE)


def _existing(name: str, key: str = "data.source") -> Source:
    source = source_of(name)
    path = locate(name)
    if source is FILE and not path.is_file():
        named = [each.example for each in _sources().values() if each is not FILE]
        problem, remedy = f'there is no data source "{name}"', f"give {', '.join(named)}, or {FILE.example}"
        fault, _, rather = no_file(path, key)
        if path.is_dir():
            raise UserError(f"{problem}: {fault}", key, rather)
        near = [guess for guess in (suggest(name, named), rather) if guess.startswith("did you mean")]
        raise UserError(problem, key, f"{near[0]} (or {remedy})" if near else remedy)
    return source


def source_digest(data: Data, key: str = "data.source") -> str:
    """What stands for the source's contents in a stage key. Raises UserError, at `key`, where there is no such."""
    return _existing(data.source, key).digest(data.source, key)


def at_hand(data: Data) -> bool:
    """Whether the source can be read without fetching anything."""
    return source_of(data.source).at_hand(data.source)


def read_source(data: Data, seed: int) -> Material:
    """Prompts and pairs as the source holds them. Raises UserError where it cannot be read, or holds no prompt."""
    return _existing(data.source).read(data, seed)


def read_used(data: Data, seed: int) -> tuple[Material, list[Pair]]:
    """What the source holds, and those of its pairs that are used."""
    material = read_source(data, seed)
    return material, _limit(material, data, seed)


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
