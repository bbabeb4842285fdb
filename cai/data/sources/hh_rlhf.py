"""The data source `hh-rlhf/PART`: the training rows of one part of HH-RLHF (Bai et al. 2022), on the hub."""

from collections.abc import Iterator
from dataclasses import replace

from cai.config.sections import Data
from cai.core.hub import commit_of, data_digest, data_file, is_unreachable
from cai.data.material import Material, Source
from cai.data.rows.files import Raw, read_raw
from cai.data.rows.reader import read
from cai.data.sources.local_file import material_of

NAME, HUB = "hh-rlhf", "Anthropic/hh-rlhf"


def read_hh(data: Data, seed: int) -> Material:
    """Raises UserError where the hub has no such part, or cannot be reached."""
    return material_of(read(_rows(data.source), data.source, data, seed))


def _rows(name: str) -> Iterator[Raw]:
    """At the commit that stands in the key (`digest`)."""
    part = name.partition("/")[2] or "harmless-base"
    file = data_file(HUB, commit_of(HUB, "dataset"), f"{part}/train.jsonl.gz")
    for raw in read_raw(file):
        value = raw.value | {"subset": part.partition("-")[0]} if isinstance(raw.value, dict) else raw.value
        yield replace(raw, where=f"{name}:{raw.where.rpartition(':')[2]}", value=value)


SOURCE = Source(
    example=f"{NAME}/harmless-base",
    answers=lambda name: name.split("/")[0] == NAME,
    digest=lambda name, key: data_digest(HUB, key),
    at_hand=lambda name: not is_unreachable(data_digest(HUB, "data.source")),
    read=read_hh,
)
