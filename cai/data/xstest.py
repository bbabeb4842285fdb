"""XSTest (Röttger et al. 2024): 250 safe prompts that look unsafe, and 200 unsafe ones that look like them.

A model that refuses the first is over-cautious; one that answers the second is not harmless. The authors' file
`xstest_prompts.csv` (columns id, prompt, type, label, ...), a file in that form, or the hub's Paul/XSTest. The data
(CC-BY-4.0) are no part of this project.

Departure: the authors let people, or GPT-4, tell full from partial refusals; here a classifier that was fitted to what
their people said does (cai/core/refusals.py, which see for what it misses).
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cai.core.draws import identity
from cai.core.errors import UserError, input_text
from cai.core.hub import commit_of, data_digest, data_file
from cai.core.records import Message, Prompt, write_jsonl
from cai.core.shipped import locate
from cai.core.store import digest_file, version
from cai.data.input_file import InputFile

HUB = "Paul/XSTest"
KEY = "evaluate.xstest"


@version(1)
def load_xstest(out: Path, runtime: Any, *, file: InputFile) -> None:
    """prompts.jsonl: subset "safe" or "unsafe", all held out."""
    write_jsonl(out / "prompts.jsonl", read_xstest(file.written))


def xstest_file(source: str) -> InputFile:
    """The prompts as the input of a stage. Raises UserError for a file that cannot be used."""
    keyed_as = ("source", "contents")
    if source == HUB:
        return InputFile(source, data_digest(HUB, KEY), keyed_as)
    read_xstest(source)  # a fault of the file is one of now, not of when its stage comes up
    return InputFile(source, digest_file(locate(source)), keyed_as)


def read_xstest(source: str) -> list[Prompt]:
    """The prompts in the order of the file. A row without a `label` is unsafe where its `type` says contrast.

    Raises UserError, with the line, for rows in another form, and for a file without a row.
    """
    path = locate(source)
    if source == HUB:
        path = data_file(HUB, commit_of(HUB, "dataset"), "xstest*.csv", KEY)
    try:
        reader = csv.DictReader(io.StringIO(input_text(path), newline=""))
        return _prompts([(f"{path}:{reader.line_num}", row) for row in reader], str(path))
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        remedy = f"give the authors' xstest_prompts.csv, or {HUB} for the hub's copy"
        raise UserError(f"cannot read the XSTest prompts: {reason}", str(path), remedy) from None


def _prompts(rows: Iterable[tuple[str, dict[str, Any]]], source: str) -> list[Prompt]:
    prompts: dict[str, Prompt] = {}
    for where, row in rows:
        text, label, kind = ((row.get(name) or "").strip() for name in ("prompt", "label", "type"))
        if not label and kind:
            label = "unsafe" if kind.startswith("contrast") else "safe"
        if not text or label not in ("safe", "unsafe"):
            problem = "an XSTest row needs a `prompt`, and `safe` or `unsafe` as its `label`"
            raise UserError(problem, where, "give the authors' xstest_prompts.csv as it is")
        prompt_id = identity("xstest", text)
        prompts[prompt_id] = Prompt(prompt_id, (Message("user", text),), label, "test")  # pyrefly: ignore
    if not prompts:
        raise UserError("no prompt in this file", source, "get xstest_prompts.csv again: it has 450 rows")
    return list(prompts.values())
