"""Files of rows, one format each, told apart by their first bytes and their name: where each row stands, and its value.

    JSON lines, a JSON array or one JSON object; CSV and TSV (cells that hold JSON are read as it); Parquet;
    any of them packed by gzip, bzip2 or xz; text in UTF-8, or in UTF-16 that says so

A row that cannot be parsed is named and costs itself alone. A file is refused only where there is no telling what the
rest of it holds: an archive that is cut off, bytes of another kind. What is not read is refused by its name.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from cai.core.errors import DIGITS, HOLE, UserError, check_input
from cai.data.rows.values import MEND, parse_row, whole_text


@dataclass(frozen=True, slots=True)
class Raw:
    """One row. where: `file:line`, or `file:row n`. value: what it holds. text: as it was found.

    fault: why it cannot be parsed, "" where it can; remedy: what to do about it.
    """

    where: str
    value: Any
    text: str
    fault: str = ""
    remedy: str = ""


_PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_LINES = "save it as JSON lines (.jsonl), CSV or Parquet"
# The first bytes of what people take for such a file -> (what it is, what to do).
_NOT_READ = {
    b"PK\x03\x04": ("a zip archive or an Excel workbook", "unpack it, or export the sheet as CSV"),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "export the sheet as CSV"),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", "unpack it: zstd -d FILE"),
    b"ARROW1": ("an Arrow file", "save it as Parquet"),
    b"\xff\xff\xff\xff": ("an Arrow stream", "save it as Parquet: Dataset.to_parquet(FILE)"),
    b"SQLite format 3": ("an SQLite database", _LINES),
    b"%PDF": ("a PDF", _LINES),
    b"\x89HDF": ("an HDF5 file", _LINES),
    b"\x80\x04": ("a Python pickle", _LINES),
    b"\x80\x05": ("a Python pickle", _LINES),
    b"version https://git-lfs": ("the pointer of Git LFS, not the file itself", "fetch the file: git lfs pull"),
}
_BY_NAME = {
    ".xlsx": "an Excel workbook", ".xls": "an Excel workbook", ".yaml": "YAML", ".yml": "YAML", ".xml": "XML",
    ".html": "HTML", ".htm": "HTML", ".arrow": "an Arrow file", ".pkl": "a Python pickle", ".tar": "a tar archive",
    ".tgz": "a tar archive", ".zst": "packed by zstd", ".md": "Markdown", ".toml": "TOML", ".db": "a database",
}  # fmt: skip


def read_raw(path: Path) -> Iterator[Raw]:
    """The rows of a file. Raises UserError for a file that is missing, damaged, or of a kind that is not read."""
    raw = _bytes(path)
    kind = path.name.lower()
    for ending in (".gz", ".bz2", ".xz"):
        kind = kind.removesuffix(ending)
    if raw.startswith(b"PAR1"):
        yield from _parquet(path, raw)
        return
    _refuse(path, raw, kind)
    if kind.endswith((".csv", ".tsv")):
        yield from _table(path, _text(path, raw), "\t" if kind.endswith(".tsv") else ",")
        return
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or _zeros(raw):
        raw = _text(path, raw).encode("utf-8", "surrogatepass")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if _is_array(raw, kind):
        yield from _array(path, raw)
        return
    if raw.lstrip()[:1] == b"{" and kind.endswith(".json") and (rows := _object(path, raw)):
        yield from rows
        return
    yield from _lines(path, raw)


def read_text(path: Path) -> str:
    """A file of running text, unpacked. Raises UserError where it cannot be read, or is no text."""
    text = _text(path, _bytes(path))
    if (hole := text.find("\0")) >= 0:
        raise UserError(HOLE, f"{path}:{text.count(chr(10), 0, hole) + 1}", "remove them, or get the file again")
    return text


def no_file(path: Path, where: str) -> tuple[str, str, str]:
    """(what is wrong, `where`, what to do) of a path at which there is no file: a folder of Hugging Face's datasets,
    another folder, or nothing, where a file beside it may have been meant."""
    for name, split in (("dataset_dict.json", '["train"]'), ("dataset_info.json", "")):
        if (path / name).is_file():
            remedy = (
                f"write its rows to one file: datasets.load_from_disk({str(path)!r}){split}.to_parquet('rows.parquet')"
            )
            return "this is a folder that datasets' save_to_disk wrote, not a file", where, remedy
    if path.is_dir():
        return "this is a folder, not a file", where, "name a file in it: a .jsonl, .csv or .parquet"
    try:
        beside = [file.name for file in islice(path.parent.iterdir(), 1000)]
    except OSError:
        beside = []
    near = get_close_matches(path.name, beside, n=1)
    remedy = f'did you mean "{path.with_name(near[0])}"?' if near else "give a file that exists"
    return "cannot read it: No such file or directory", where, remedy


def _bytes(path: Path) -> bytes:
    """The unpacked contents."""
    check_input(path)
    if path.is_dir():
        raise UserError(*no_file(path, str(path)))
    number, text = 0, bytearray()
    try:
        with path.open("rb") as file:
            head = file.read(6)
        opener = next((unpack for magic, unpack in _PACKED.items() if head.startswith(magic)), None)
        if opener is None and path.suffix.lower() in (".gz", ".bz2", ".xz"):
            raise gzip.BadGzipFile(f"not a {path.suffix} archive")
        with (opener or open)(path, "rb") as file:
            while chunk := file.read1(1 << 20):  # pyrefly: ignore
                text += chunk
                number += chunk.count(b"\n")
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise _damaged(path, number, str(error)) from None
    except OSError as error:
        if error.errno is None:  # what bz2 and gzip say of a damaged archive
            raise _damaged(path, number, str(error)) from None
        if isinstance(error, FileNotFoundError):
            raise UserError(*no_file(path, str(path))) from None
        raise UserError(f"cannot read it: {error.strerror}", str(path), "give a file that may be read") from None
    return bytes(text)


def _damaged(path: Path, lines: int, why: str) -> UserError:
    remedy = "the file is cut off or damaged: get it again"
    return UserError(f"cannot be read on from here: {why}", f"{path}:{lines + 1}", remedy)


def _refuse(path: Path, raw: bytes, kind: str) -> None:
    """Raises UserError, with its name, for a file of a kind that is not read."""
    for magic, (what, remedy) in _NOT_READ.items():
        if raw.startswith(magic):
            raise UserError(f"this is {what}, which is not read", str(path), remedy)
    if raw.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        problem = "this is a page of HTML or XML, not data: perhaps what a server said instead of the file"
        raise UserError(problem, str(path), "get the file itself, as JSON lines, CSV or Parquet")
    if what := next((what for ending, what in _BY_NAME.items() if kind.endswith(ending)), ""):
        raise UserError(f"this is {what}, which is not read", str(path), _LINES)


def _text(path: Path, raw: bytes) -> str:
    """Text as it says that it is: UTF-8, or UTF-16 or UTF-32 by their marks or by where their zeros stand."""
    names = ["utf-8-sig"]
    if raw.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        names = ["utf-32"]
    elif raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        names = ["utf-16"]
    elif zeros := _zeros(raw):
        names = [zeros]
    try:
        return raw.decode(names[0])
    except UnicodeDecodeError as error:
        where = f"{path}:{raw[: error.start].count(10) + 1}"
        problem = f"not {names[0].removesuffix('-sig').upper()} text: {error.reason}"
        raise UserError(problem, where, "save the file as UTF-8") from None


def _zeros(raw: bytes) -> str:
    """UTF-16 that does not say so, by every other of its first bytes, which are zeros (of most letters one byte is);
    "" for anything else: a few zeros are a hole in a text of another kind."""
    even, odd = (raw[at:64:2] for at in (0, 1))
    for name, zero, other in (("utf-16-be", even, odd), ("utf-16-le", odd, even)):
        if 2 * zero.count(0) > len(zero) and 0 not in other:
            return name
    return ""


def _lines(path: Path, raw: bytes) -> Iterator[Raw]:
    lines = raw.split(b"\n")
    for n, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where, text = f"{path}:{n}", line.decode("utf-8", "replace").strip(" \t\r\ufeff")
        if not text:
            continue
        try:
            line.decode()
            yield Raw(where=where, value=parse_row(text, last=n == len(lines)), text=text)
        except UnicodeDecodeError:
            yield Raw(
                where=where, value=None, text=text, fault="text that is not UTF-8", remedy="save the file as UTF-8"
            )
        except UserError as error:
            yield Raw(where=where, value=None, text=text, fault=error.problem, remedy=error.remedy)


def _is_array(raw: bytes, kind: str) -> bool:
    """Whether it is one JSON array: by its name, or because its first line is no row by itself."""
    if raw.lstrip()[:1] != b"[":
        return False
    first = raw.lstrip().split(b"\n", 1)[0].strip()
    try:
        items = json.loads(first)
    except (ValueError, RecursionError):
        return kind.endswith(".json") or first[1:].lstrip()[:1] in (b"", b"{")
    return kind.endswith(".json") or (bool(items) and all(isinstance(item, dict) for item in items))


def _array(path: Path, raw: bytes) -> Iterator[Raw]:
    """The items of a JSON array, one by one, so that what is broken costs none that stands before it."""
    text = _text(path, raw)
    decoder, at, n = json.JSONDecoder(), text.index("[") + 1, 0
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if text[at : at + 1] == "]":
            if text[at + 1 :].strip():
                where = f"{path}:{text.count(chr(10), 0, at + 1) + 1}"
                yield Raw(
                    where=where,
                    value=None,
                    text=text[at + 1 :].strip(),
                    fault="text after the end of the array",
                    remedy=MEND,
                )
            return
        n += 1
        where = f"{path}:row {n}"
        try:
            _, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            why = "nested too deeply" if isinstance(error, RecursionError) else DIGITS[0]
            problem = f"not valid JSON from here on: {error.msg if isinstance(error, json.JSONDecodeError) else why}"
            yield Raw(
                where=where, value=None, text=text[at:], fault=problem, remedy="the file may be cut off: get it again"
            )
            return
        try:
            yield Raw(where=where, value=parse_row(text[at:end]), text=text[at:end])
        except UserError as error:
            yield Raw(where=where, value=None, text=text[at:end], fault=error.problem, remedy=error.remedy)
        at = end


def _object(path: Path, raw: bytes) -> list[Raw]:
    """One JSON object that is the whole file: a row, or one list of rows under a name. [] where it is JSON lines."""
    text = _text(path, raw)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return []
    lists = [name for name, rows in content.items() if isinstance(rows, list) and rows and isinstance(rows[0], dict)]
    of_comparisons = "comparisons" in content and isinstance(content["comparisons"], list)  # ICAI's annotated pairs
    if of_comparisons or (len(lists) == 1 and lists[0] in ("data", "rows", "train", "test", "examples", "instances")):
        name = "comparisons" if of_comparisons else lists[0]
        more = {"annotators": content.get("annotators"), "metadata": content.get("metadata")} if of_comparisons else {}
        rows_read = []
        for n, row in enumerate(content[name], 1):
            row = row["row"] if isinstance(row, dict) and set(row) >= {"row_idx", "row"} else row
            value = {**row, "_icai": more} if more and isinstance(row, dict) else row
            rows_read.append(_checked(f"{path}:{name} {n}", value, json.dumps(row, ensure_ascii=True)))
        return rows_read
    return [_checked(f"{path}:row 1", content, text)]


def _checked(where: str, value: Any, text: str) -> Raw:
    try:
        return Raw(where=where, value=whole_text(value), text=text)
    except UserError as error:
        return Raw(where=where, value=None, text=text, fault=error.problem, remedy=error.remedy)


def _table(path: Path, text: str, comma: str) -> Iterator[Raw]:
    """CSV: the first line names the columns. A spreadsheet may have written semicolons or tabs for commas."""
    head = text.split("\n", 1)[0]
    comma = max((comma, ",", ";", "\t"), key=head.count)
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=comma)
    try:
        names = [name.strip() for name in next(reader, [])]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f'two columns are called "{twice}"', f"{path}:1", "rename or remove one of them")
        line = reader.line_num + 1
        for cells in reader:
            where, line = f"{path}:{line}", reader.line_num + 1
            text_of_row = comma.join(cells)
            if not any(cell.strip() for cell in cells):
                continue
            fault = HOLE if "\0" in text_of_row else ""
            if len(cells) != len(names):
                fault = fault or f"{len(cells)} cells for {len(names)} columns"
            if fault:
                yield Raw(where=where, value=None, text=text_of_row, fault=fault, remedy=MEND)
            else:
                yield _checked(where, {name: _cell(cell) for name, cell in zip(names, cells, strict=True)}, text_of_row)
    except csv.Error as error:
        raise UserError(f"not CSV from here on: {error}", f"{path}:{reader.line_num}", "save it as CSV again") from None


def _cell(cell: str) -> Any:
    """A cell's text, or the list or object that it holds as JSON; an empty one is null."""
    if cell.lstrip()[:2] in ("[{", '["', '{"', "[[", "[1", "[2", "[3", "[4", "[5", "[0", "[n"):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell or None


def _parquet(path: Path, raw: bytes) -> Iterator[Raw]:
    import pyarrow as arrow
    from pyarrow import parquet

    n = 0
    try:
        for batch in parquet.ParquetFile(io.BytesIO(raw)).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                n += 1
                yield _checked(f"{path}:row {n}", row, json.dumps(row, default=str))
    except (arrow.ArrowException, OSError) as error:
        why = str(error).splitlines()[0][:100]
        remedy = "the file is cut off or damaged: get it again"
        raise UserError(f"cannot be read on from here: {why}", f"{path}:row {n + 1}", remedy) from None
