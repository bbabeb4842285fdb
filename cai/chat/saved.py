"""A pair to label: the last turn's two answers as a row that `data.source` and `python -m cai.annotate` read.

The row says nothing of who wrote which answer where a page shows it, and which answer is called a is drawn by hash.
A pair saved twice by one rater counts once, with what they said last.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cai.chat.talk import Exchange
from cai.core.draws import identity
from cai.core.errors import UserError
from cai.core.places import check_file
from cai.core.records import Prompt
from cai.core.textstats import wordless
from cai.data.append import append_row
from cai.data.comparisons import read_comparisons
from cai.data.material import make_pair

SEED = 0  # which answer is called a: as in files that are read
PREFERRED = {"a": 1.0, "b": 0.0, "tie": 0.5}  # P(the first policy's answer is better)


def check_saved(file: Path) -> None:
    """Raises UserError for a file that cannot be appended to, or that holds something else than pairs."""
    if file.suffix != ".jsonl":
        raise UserError(f"pairs are saved to a .jsonl file, not {file}", "--out", "name one")
    if not file.parent.is_dir():
        raise UserError("there is no such folder", str(file.parent), "make it, or mend --out")
    check_file(file, "give --out a place that can be written to")
    if file.is_file() and file.stat().st_size:
        try:
            read_comparisons(file, judged=False)
        except UserError as error:
            problem = f"this file holds no pairs to add to: {error.problem}"
            raise UserError(problem, str(file), "give --out the name of another, or of a new file") from None


def save(turn: Exchange | None, names: tuple[str, ...], preferred: str | None, rater: str, file: Path) -> str:
    """Append the pair, and say what was saved. preferred: a, b, tie, or None for a pair that is still to be labelled.

    Raises UserError for two answers that are no pair.
    """
    row = row_of(turn, names, preferred, rater)
    append_row(file, row)
    shown = {None: "to be labelled", "tie": "neither is better"}
    return shown.get(preferred) or f"{names['ab'.index(preferred)]} is better"  # pyrefly: ignore


def row_of(turn: Exchange | None, names: tuple[str, ...], preferred: str | None, rater: str) -> dict[str, Any]:
    """As `save`, the row itself."""
    if turn is None:
        raise UserError("there is no answer yet", "/save", "say something first")
    if len(turn.answers) < 2:
        raise UserError("a pair needs two answers", "/save", "start with two policies: --arm ai --arm human")
    if not turn.comparable:
        problem = "the two answers are to different conversations, so neither can be called better"
        raise UserError(problem, "/save", "/reset begins one that both share; or start without --own-history")
    first, second = (answer.text for answer in turn.answers)
    if wordless(first) or wordless(second):
        raise UserError("an answer has no words: there is nothing to compare", "/save", "/regenerate draws others")
    if first == second:
        raise UserError("both answers are the same: there is nothing to compare", "/save", "/regenerate draws others")
    chat = turn.chats[0]
    prompt = Prompt(identity("prompt", *(message.content for message in chat)), chat, "all", "train")
    p = PREFERRED.get(preferred or "tie", 0.5)
    pair = make_pair(prompt, first, second, p, [p] if preferred else [], SEED, [rater] if preferred else [])
    row = asdict(pair if preferred else replace(pair, human=None))
    del row["prompt"]["split"], row["prompted"]  # the experiment that reads the file draws the split
    return row | {"written_by": dict(zip("ab", names if pair.a == first else names[::-1], strict=True))}
