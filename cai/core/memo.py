"""Digests of large folders, remembered from one process to the next in the cache folder.

A memo only saves time: one that is not a digest (an empty file after a full disk, say) is none, and where none can be
written the digest is computed each time.
"""

import re
from collections.abc import Callable
from contextlib import suppress

from cai.core.durable import make_folders, write_whole
from cai.core.packages import cache_folder

_DIGEST = re.compile(r"[0-9a-f]{64}")


def remembered(stamp: str, compute: Callable[[], str]) -> str:
    """The digest that was computed for this stamp before, or else is now. stamp: stands for what is digested."""
    memo = cache_folder() / "digests" / stamp
    with suppress(OSError, UnicodeDecodeError):
        known = memo.read_text()
        if _DIGEST.fullmatch(known):
            return known
    digest = compute()
    with suppress(OSError):
        make_folders(memo.parent)
        write_whole(memo, digest)
    return digest
