"""Constitution files in plain words -> frozen records; every fault of a file is reported at once, with its line.

Two forms of file (constitutions/README.md shows both):
  short  one principle a line; its text is its name, and the prompt templates supply the wording around it.
  full   `# Title`, free notes, then `## name` sections of fields: Why, Critique, Revise, Prefer, Against, Check,
         Applies to, Weight, Priority, Never. A field begins at the start of a line, runs until the next one, and may be
         wrapped in any way. A principle with `Check:` (checks.py) may do without `Prefer:`, and without `Critique:` and
         `Revise:`; one with `Never:` is a limit, and prefers nothing.
         Text that only looks like the beginning of a field is written with a backslash: `Critique\\:`.
"""

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cai.constitution.checks import Check, parse_check
from cai.constitution.records import Constitution, Principle
from cai.core.errors import UserError, UserErrors, input_text, suggest
from cai.core.shipped import locate

FIELDS = ("Why", "Critique", "Revise", "Prefer", "Against", "Check", "Applies to", "Weight", "Priority", "Never")
REQUIRED = ("Critique", "Revise", "Prefer")
NOT_OF_LIMITS = ("Prefer", "Against", "Weight", "Priority")

_SECTION = re.compile(r"##(?!#)\s*(.*)")
_NAMES = "|".join(FIELDS)
_KNOWN = re.compile(rf"\b({_NAMES})\s?:")
_ESCAPED = re.compile(rf"\b((?:{_NAMES})\s?\\*)\\:")
_KNOWN_OR_ESCAPED = re.compile(rf"\b((?:{_NAMES})\s?\\*):")
_LABEL = re.compile(r"([A-Za-z]+(?: [A-Za-z]+)?)\s?:(?=\s|$)")
# A dash, a dot or a number before a principle. Those of full width, and those that nobody begins a sentence with, need
# no space behind them.
_BULLET = re.compile(
    r"(?:[-*+~]\s+|[•‐‑‒–—―−﹣－·∙●○◦‣⁃▪▫■□◆◇►▶※＊・]\s*|\(?\d+[.)]\s+|[(（]?\d+[．）、]\s*|[①-⑳]\s*|[一二三四五六七八九十]+、\s*)"
)
_BOLD = re.compile(r"\*\*(.+?)\*\*|__(.+?)__")
# Files that programs write. Read as prose, their brackets and keys would be principles.
_WRITTEN_BY_PROGRAMS = {
    ".json": "JSON", ".jsonl": "JSON lines", ".yaml": "YAML", ".yml": "YAML", ".csv": "CSV", ".tsv": "CSV",
    ".html": "HTML", ".htm": "HTML", ".xml": "XML", ".toml": "TOML",
}  # fmt: skip

Lines = list[tuple[int, str]]  # (line number from 1, text)
Faults = list[tuple[int, str, str]]  # (line, problem, remedy)


def read_constitution(path: str | Path) -> Constitution:
    """Parse a constitution of either form. Raises UserErrors with every fault of the file, each with file:line."""
    path = locate(path)
    return parse(_read_text(path), path)


def parse(text: str, path: Path) -> Constitution:
    """Parse the text of a constitution, which stands (or will stand) at `path`. Raises as `read_constitution` does."""
    if kind := _structure(text, path):
        remedy = 'write one principle a line, or sections that begin with "## name" (constitutions/README.md)'
        if kind == "JSON":
            remedy = f"python -m cai.constitution import {path} reads the paper's JSON files; or {remedy}"
        raise UserErrors([UserError(f"this is {kind}, not a constitution in plain words", str(path), remedy)])
    lines = list(enumerate(text.split("\n"), 1))
    faults: Faults = []
    of_form = _parse_full if any(_SECTION.match(line.strip()) for _, line in lines) else _parse_short
    if of_form is _parse_full and (outline := _outline(lines)):
        of_form, lines = _parse_short, outline
    title, notes, principles = of_form(lines, faults)
    if not principles:
        remedy = 'write one principle a line, or sections that begin with "## name"'
        faults.append((1, "no principles in this file", remedy))
    if faults:
        raise UserErrors([UserError(problem, f"{path}:{line}", remedy) for line, problem, remedy in sorted(faults)])
    return Constitution(title=title, notes=notes, principles=tuple(principles), path=path, text=text)


def _read_text(path: Path) -> str:
    """The file's text: line ends as "\\n", Unicode in its composed form, so that equal names are equal strings."""
    try:
        text = input_text(path)
    except OSError as error:
        raise UserErrors([UserError(f"cannot read it: {error.strerror}", str(path), _siblings(path))]) from None
    except UserError as error:
        raise UserErrors([error]) from None
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def _structure(text: str, path: Path) -> str:
    """The name of a structured format that a text is in, by the file's name or by how it begins; "" for prose."""
    if kind := _WRITTEN_BY_PROGRAMS.get(path.suffix.lower()):
        return kind
    start = text.lstrip()
    if start[:1] in ("{", "["):
        try:
            json.loads(start)
            return "JSON"
        except (ValueError, RecursionError):
            return "JSON" if re.match(r'[{\[]\s*["{\[]', start) else ""
    if re.match(r"<(?:!doctype|html|\?xml|head|body|div|ul|ol|p)\b", start, re.IGNORECASE):
        return "XML" if start.startswith("<?xml") else "HTML"
    keys = re.search(r"(?m)^[a-z_]+:[ \t]*\n[ \t]*- [a-z_]+:", start)
    return "YAML" if keys or (start.startswith("---\n") and re.search(r"(?m)^[a-z_]+: ", start)) else ""


def _outline(lines: Lines) -> Lines:
    """A Markdown document of headings and lists: its list items are the principles, its prose are notes.

    [] for a document with a field of the full form, or without a list.
    """
    stripped = [line.strip() for _, line in lines]
    if any(_KNOWN.match(line) for line in stripped) or not any(_BULLET.match(line) for line in stripped):
        return []
    kept: Lines = []
    inside = False
    for number, line in lines:
        bullet = bool(_BULLET.match(line.strip()))
        inside = bullet or (inside and line[:1].isspace() and bool(line.strip()))
        text = _BOLD.sub(lambda match: match[1] or match[2], line)
        kept.append(
            (number, text if inside or not line.strip() or line.lstrip().startswith("#") else f"# {line.strip()}")
        )
    return kept


def _siblings(path: Path) -> str:
    names = sorted(str(p) for p in path.parent.glob("*.txt"))
    return suggest(str(path), names) if names else "give the path of a text file with principles"


def _parse_short(lines: Lines, faults: Faults) -> tuple[str, str, list[Principle]]:
    comments: list[str] = []
    items: list[tuple[int, str]] = []
    after_item = False  # the line before belongs to a principle
    for number, line in lines:
        text = " ".join(line.split())
        bullet = _BULLET.match(text)
        if not text or text.startswith("#"):
            comments += [text.lstrip("# ")] if text else []
            after_item = False
        elif after_item and not bullet and line[0].isspace():
            items[-1] = (items[-1][0], f"{items[-1][1]} {text}")
        else:
            if after_item and not bullet and text[0].islower():
                remedy = 'one principle a line: join the two lines, or begin a new principle with "- "'
                faults.append((number, "this looks like the rest of the line above", remedy))
            if label := _KNOWN.match(text):
                remedy = 'fields belong to the full form: begin the principle with a line "## name"'
                faults.append((number, f'field "{label[1]}:" outside any section', remedy))
            items.append((number, text[bullet.end() :] if bullet else text))
            after_item = True
    _fault_duplicates(items, "this principle stands twice", faults)
    principles = [
        Principle(
            name=text, critique="", revise="", prefer=text, against="", why="", applies_to=(), weight=1.0, line=line
        )
        for line, text in items
    ]
    return (comments[0] if comments else ""), " ".join(comments[1:]), principles


def _parse_full(lines: Lines, faults: Faults) -> tuple[str, str, list[Principle]]:
    lines = [(number, line.strip()) for number, line in lines]
    starts = [i for i, (_, line) in enumerate(lines) if _SECTION.match(line)]
    title, notes = _parse_notes(lines[: starts[0]], faults)
    heads: list[tuple[int, str]] = []
    principles = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        number, line = lines[start]
        name = " ".join(line.lstrip("#").split())
        if not name:
            faults.append((number, "a section without a name", "write the principle's name after the ##"))
        heads.append((number, name))
        principles.append(_principle(name, number, _fields(lines[start + 1 : end], faults), faults))
    _fault_duplicates(heads, "two sections with one name", faults)
    return title, notes, principles


def _parse_notes(lines: Lines, faults: Faults) -> tuple[str, str]:
    """Title and notes. What looks like a principle here would be lost without a word, hence a fault."""
    title, notes = "", []
    for number, line in lines:
        if line.startswith("#") and not title:
            title = line.lstrip("# ")
        elif _KNOWN.match(line) or _BULLET.match(line):
            remedy = 'move it below a line "## name"; notes before the first section are plain prose'
            faults.append((number, "this looks like a principle, but stands before the first section", remedy))
        else:
            notes.append(line)
    return title, " ".join(" ".join(notes).split())


def _fields(lines: Lines, faults: Faults) -> dict[str, tuple[int, str]]:
    """Field name -> (line, text) of one section.

    Re-wrapping a paragraph must never change a value unnoticed: a field's name that has slipped into the middle of a
    line is a fault, so a wrong wrap can only fail aloud.
    """
    fields: dict[str, tuple[int, str]] = {}
    current, fresh = None, True  # fresh: this line begins a paragraph
    for number, line in lines:
        if not line:
            fresh = True
            continue
        known, label = _KNOWN.match(line), _LABEL.match(line)
        if line.startswith("#"):
            faults.append((number, "a heading inside a section", 'a principle begins with exactly two #: "## name"'))
        elif known:
            current, line = known[1], line[known.end() :]
            if current in fields:
                remedy = "keep one of them; paragraphs of one field need no second label"
                faults.append((number, f'"{current}:" is given twice (first on line {fields[current][0]})', remedy))
            fields.setdefault(current, (number, ""))
        elif label and (fresh or _close(label[1])):
            remedy = f"{suggest(label[1].capitalize(), FIELDS)} (or reword the text: a colon here marks a field)"
            faults.append((number, f'unknown field "{label[1]}:"', remedy))
            current = "?"  # keeps the text of the unknown field out of the one before
        elif current is None:
            remedy = f'begin it with a field, such as "Prefer:" (known: {", ".join(FIELDS)})'
            faults.append((number, "text outside any field", remedy))
            current = "?"
        if inner := _KNOWN.search(line):
            remedy = f"begin the field on a line of its own, or write {inner[1]}\\: where it is a part of the text"
            faults.append((number, f'"{inner[1]}:" in the middle of a line', remedy))
        first, text = fields.get(current or "?", (number, ""))
        fields[current or "?"] = (first, f"{text} {line}")
        fresh = False
    return {name: (line, _unescape(" ".join(text.split()))) for name, (line, text) in fields.items() if name != "?"}


def escape(text: str) -> str:
    """Text as it must be written into a field: what looks like a field's beginning gets a backslash more."""
    return _KNOWN_OR_ESCAPED.sub(r"\1\\:", text)


def _unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1:", text)


def interrupts(line: str) -> bool:
    """Whether a line inside a field would be read as something else than its text."""
    label = _LABEL.match(line)
    return line.startswith("#") or bool(label and _close(label[1]))


def _close(word: str) -> bool:
    return bool(get_close_matches(word.capitalize(), FIELDS, n=1, cutoff=0.8))


def _principle(name: str, line: int, fields: dict[str, tuple[int, str]], faults: Faults) -> Principle:
    """Check one section's fields and make the record; with faults, a record that nobody will see."""
    for field in _required(fields):
        if field not in fields:
            remedy = f'add a paragraph that begins with "{field}:"'
            faults.append((line, f'principle "{name}" has no "{field}:"', remedy))
    for field, (number, value) in fields.items():
        if not value:
            faults.append((number, f'"{field}:" is empty', "write its text after the colon, or remove it"))
    get = {field: value for field, (_, value) in fields.items()}.get
    subsets = tuple(part.strip() for part in get("Applies to", "").split(",") if part.strip())
    weight = 1.0
    if raw := get("Weight"):
        weight = _positive(raw)
        if not weight:
            remedy = 'write a number above 0, such as "Weight: 2"'
            faults.append((fields["Weight"][0], f'weight "{raw}" is not a positive number', remedy))
    priority = None
    if raw := get("Priority"):
        priority = int(raw) if re.fullmatch(r"[1-9][0-9]{0,8}", raw) else None
        if priority is None:
            remedy = 'write a whole number from 1, which comes first: "Priority: 1"'
            faults.append((fields["Priority"][0], f'priority "{raw}" is not a whole number from 1', remedy))
    for field in NOT_OF_LIMITS if "Never" in fields else ():
        if field in fields:
            remedy = "a limit stands above every principle and is weighed against none: make two sections of it"
            faults.append((fields[field][0], f'"{name}" has a "Never:", and "{field}:" beside it', remedy))
    critique, revise, prefer, against, why, check, never = (
        get(field, "") for field in ("Critique", "Revise", "Prefer", "Against", "Why", "Check", "Never")
    )
    if check and not isinstance(known := parse_check(check), Check):
        faults.append((fields["Check"][0], *known))
    return Principle(
        name=name, critique=critique, revise=revise, prefer=prefer, against=against, why=why, applies_to=subsets,
        weight=weight, line=line, check=check, never=never, priority=priority,
    )  # fmt: skip


def _required(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """A check or a limit speaks for itself; a revision is asked for in whole or not at all, and an opposite is of
    something."""
    if not {"Check", "Never"} & fields.keys():
        return REQUIRED
    both = ("Critique", "Revise") if {"Critique", "Revise"} & fields.keys() else ()
    return (*both, "Prefer") if "Against" in fields and "Never" not in fields else both


def _positive(raw: str) -> float:
    """The number, or 0.0 where it is not a positive, finite number."""
    try:
        number = float(raw)
    except ValueError:
        return 0.0
    return number if 0 < number < math.inf else 0.0


def _fault_duplicates(items: list[tuple[int, str]], problem: str, faults: Faults) -> None:
    first: dict[str, int] = {}
    for line, name in items:
        before = first.setdefault(name.casefold(), line)
        if before != line and name:
            faults.append((line, f'{problem}: "{name}" (first on line {before})', "rename or remove one of them"))
