"""The data source that is a path: a file of prompts or of comparisons of any form (cai/data/rows)."""

from pathlib import Path

from cai.config.sections import Data
from cai.core.shipped import locate
from cai.core.store import digest_file
from cai.data.material import Material, Source
from cai.data.rows.reader import FileContents
from cai.data.rows.reader import read_file as read_rows_of


def read_file(path: Path, data: Data, seed: int) -> Material:
    """Raises UserError where it holds no prompt."""
    return material_of(read_rows_of(path, data, seed))


def material_of(reading: FileContents) -> Material:
    if not reading.prompts:
        raise reading.nothing("no prompts in this file")
    return Material(
        prompts=reading.prompts, pairs=reading.pairs, ratings=[], counts=reading.counts(), aside=reading.aside
    )


SOURCE = Source(
    example="a file that exists (.jsonl, .json, .csv, .parquet; .gz too)",
    answers=lambda name: False,  # it is asked for what no other source answers to
    digest=lambda name, key: digest_file(locate(name)),
    at_hand=lambda name: True,
    read=lambda data, seed: read_file(locate(data.source), data, seed),
)
