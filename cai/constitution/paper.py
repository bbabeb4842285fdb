"""The principles that Bai et al. (2022) published with their paper, as JSON -> our text form.

They come as two files (github.com/anthropics/ConstitutionalHarmlessnessPaper, prompts/):
  CritiqueRevisionInstructions.json  {name: {"prompt": ["CritiqueRequest: ... Critique:"],
                                             "edit_request": "RevisionRequest: ... Revision:"}}
  RLMadisonInstructions.json         ["... Options:", ...], the standards by which the preference labels were made

Labels are taken off the two ends and nowhere else: a text may hold ": " and label words of its own. What is written is
read back and compared before it is called a success. White space runs become one space, as everywhere in our form.
"""

import json
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.constitution.parse import escape, interrupts, parse
from cai.constitution.records import Constitution
from cai.core.errors import DIGITS, UserError, UserErrors, input_text

CRITIQUE_FILE, STANDARD_FILE = "CritiqueRevisionInstructions.json", "RLMadisonInstructions.json"
TITLE = "Principles published with the Constitutional AI paper"
WIDTH = 120


@dataclass(frozen=True, slots=True)
class Requests:
    """One principle for critique and revision."""

    name: str
    critique: str
    revise: str


def import_paper(paths: Sequence[Path]) -> tuple[str, Constitution]:
    """The text of a constitution file, and what it is read back as, from one or both of the paper's files.

    Both files: full form, the n-th request paired with the n-th standard. Standards alone: short form.
    Raises UserErrors with every fault of the files, UserError where `Prefer:` would be missing.
    """
    faults: list[UserError] = []
    requests: list[tuple[Path, list[Requests]]] = []
    standards: list[tuple[Path, list[str]]] = []
    for path in paths:
        content = _read(path)
        if isinstance(content, dict):
            requests.append((path, _requests(content, path, faults)))
        elif isinstance(content, list):
            standards.append((path, _standards(content, path, faults)))
        else:
            faults.append(UserError("neither an object nor a list", str(path), _formats()))
    for kind in (requests, standards):
        faults += [
            UserError("a second file of one kind", str(path), "give one file of each kind") for path, _ in kind[1:]
        ]
    if faults:
        raise UserErrors(faults)
    if not standards:
        problem = f'these principles have no "Prefer:": {CRITIQUE_FILE} tells how to criticise and revise only'
        raise UserError(problem, str(requests[0][0]), f"give {STANDARD_FILE} as well, which holds the standards")
    source, texts = standards[0]
    if not requests:
        return _checked(_short(source, texts), [(text, "", "", text) for text in texts])
    return _paired(*requests[0], source, texts)


def _paired(path: Path, requests: list[Requests], source: Path, texts: list[str]) -> tuple[str, Constitution]:
    if len(requests) != len(texts):
        raise UserError(
            f"{len(requests)} principles for critique and revision, but {len(texts)} standards in {source}",
            str(path),
            "they are paired by position: give files of the same length, or the standards alone for the short form",
        )
    text = _full(path, requests, source, texts)
    pairs = zip(requests, texts, strict=True)
    return _checked(text, [(of.name, of.critique, of.revise, prefer) for of, prefer in pairs])


# 1. Reading the paper's files ---------------------------------------------------------------------------------------


def _formats() -> str:
    return f"it should look like {CRITIQUE_FILE} (an object) or {STANDARD_FILE} (a list of texts)"


def _read(path: Path) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """json keeps the last of two equal keys without a word, and a principle would be gone."""
        names = [name for name, _ in pairs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f'the key "{twice[0]}" stands twice', str(path), "rename or remove one of them")
        return dict(pairs)

    try:
        content = json.loads(input_text(path), object_pairs_hook=once)
        json.dumps(content, ensure_ascii=False).encode()
        return content
    except OSError as error:
        raise UserError(f"cannot read it: {error.strerror}", str(path), "give a file that exists") from None
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"
        raise UserError(f"not valid JSON: {error.msg} at column {error.colno}", where, "mend the file") from None
    except UnicodeEncodeError:
        problem = "a \\u escape that is half of a character (a lone surrogate)"
        raise UserError(problem, str(path), "write the character itself") from None
    except ValueError:
        raise UserError(f"not valid JSON: {DIGITS[0]}", str(path), DIGITS[1]) from None
    except RecursionError:
        raise UserError("not valid JSON: nested too deeply", str(path), _formats()) from None


def _requests(content: dict[str, Any], path: Path, faults: list[UserError]) -> list[Requests]:
    if not content:
        faults.append(UserError("no principles in this file", str(path), _formats()))
    requests: list[Requests] = []
    names: dict[str, str] = {}
    for key, value in content.items():
        name, where = _clean(key), f'{path}: "{key}"'
        before = names.setdefault(name.casefold(), key)
        if before != key or not name:
            problem = f'the same name as "{before}"' if name else "a principle without a name"
            faults.append(UserError(problem, where, "give each principle a name of its own"))
        if not isinstance(value, dict) or not {"prompt", "edit_request"} <= value.keys():
            faults.append(UserError('no "prompt" and "edit_request"', where, _formats()))
            continue
        prompt = value["prompt"]
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        revision = value["edit_request"]
        critique = _between(prompt, "CritiqueRequest:", "Critique:", f"{where}, prompt", faults)
        revise = _between(revision, "RevisionRequest:", "Revision:", f"{where}, edit_request", faults)
        requests.append(Requests(name, critique, revise))
    return requests


def _standards(content: list[Any], path: Path, faults: list[UserError]) -> list[str]:
    if not content:
        faults.append(UserError("no principles in this file", str(path), _formats()))
    texts = []
    first: dict[str, int] = {}
    for number, item in enumerate(content, 1):
        where = f"{path}: item {number}"
        text = _between(item, "", "Options:", where, faults)
        before = first.setdefault(text.casefold(), number)
        if text and before != number:
            faults.append(UserError(f"the same text as item {before}", where, "remove one of them"))
        texts.append(text)
    return texts


def _between(text: Any, start: str, end: str, where: str, faults: list[UserError]) -> str:
    """The text between a label at its beginning (which may be "") and one at its end."""
    remedy = f'it should read "{start} ... {end}"' if start else f'it should read "... {end}"'
    problem = ""
    if not isinstance(text, str):
        text, problem = "", "not one text"
    elif not (text := _clean(text)).startswith(start):
        problem = f'it does not begin with "{start}"'
    elif not text.endswith(end):
        problem = f'it does not end with "{end}"'
    elif not (text := text.removeprefix(start).removesuffix(end).strip()):
        problem = "no text between its labels"
    if problem:
        faults.append(UserError(problem, where, remedy))
    return "" if problem else text


def _clean(text: str) -> str:
    """As `read_constitution` gives texts: composed Unicode, one space for any white space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


# 2. Writing our form ------------------------------------------------------------------------------------------------


def _short(source: Path, texts: list[str]) -> str:
    notes = ["One principle a line, in the order of the file.", f"Imported from {_clean(source.name)}."]
    return "\n".join([f"# {TITLE}", "#", *(f"# {note}" for note in notes), "", *(f"- {text}" for text in texts)]) + "\n"


def _full(path: Path, requests: list[Requests], source: Path, texts: list[str]) -> str:
    parts = [
        f"# {TITLE}",
        f"Imported from {_clean(path.name)} (critique, revise) and {_clean(source.name)} (prefer).\n"
        "The paper publishes these as two separate lists that do not name each other.\n"
        "Here they are paired by position: the first request with the first standard, and so on. Check that they fit.",
    ]
    for of, prefer in zip(requests, texts, strict=True):
        fields = (("Critique", of.critique), ("Revise", of.revise), ("Prefer", prefer))
        parts += [f"## {of.name}", *(_field(name, text) for name, text in fields)]
    return "\n\n".join(parts) + "\n"


def _field(name: str, text: str) -> str:
    """`Name: text`, wrapped, unless a line would then begin with what is read as a field or a heading."""
    whole = f"{name}: {escape(text)}"
    lines = textwrap.wrap(whole, WIDTH, break_long_words=False, break_on_hyphens=False)
    return whole if any(interrupts(line) for line in lines[1:]) else "\n".join(lines)


def _checked(text: str, expected: list[tuple[str, str, str, str]]) -> tuple[str, Constitution]:
    """The text and what it reads back as, once every name and text has come back letter for letter."""
    constitution = parse(text, Path("the imported constitution"))
    got = [(p.name, p.critique, p.revise, p.prefer) for p in constitution.principles]
    if got != expected:
        lost = ", ".join(wanted[0] for wanted in expected if wanted not in got)
        remedy = "nothing was written; please report this together with the file"
        raise UserError(f"not read back as it was written: {lost or 'the order'}", "", remedy)
    return text, constitution
