"""Our pages in HTML: jinja templates of the package, which escape whatever is put into them.

A template is translated to Python once in a process, not for each page: half a second of a report's time, and a rater's
page is made anew whenever one opens it.
"""

from pathlib import Path
from types import CodeType

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket


class _Translated(BytecodeCache):
    """In memory. The key is the template's name and place, the checksum its source's: an edited one is another."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], CodeType | None] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._kept.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key, bucket.checksum] = bucket.code


_TRANSLATED = _Translated()


def page_templates(*folders: Path) -> Environment:
    """The templates in these folders, with filters and globals of its own.

    What a filter makes of a constant is translated with the template: one name is one function wherever it is used.
    """
    return Environment(
        loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, bytecode_cache=_TRANSLATED,
    )  # fmt: skip
