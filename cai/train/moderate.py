"""`moderation:` as stages: what a filter removes from training, and how often it is wrong on XSTest.

`moderate` leaves a folder as it found it, less the training rows that a filter removes: whatever reads the one reads
the other. Rows of held-out prompts stay, whoever is measured on them (cai/config/moderation.py says why).
"""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cai.core.errors import UserError
from cai.core.records import Pair, Prompt, Rating, Response, Revision, read_jsonl, write_jsonl
from cai.core.store import MANIFEST, Artifact, version
from cai.judge.false_alarms import flagged
from cai.judge.moderation import Flag, ModeratedText, Moderator, removes
from cai.models.workbench import Workbench

Rows = Literal["prompts", "revisions", "everyday", "pairs"]
FILES: dict[Rows, tuple[str, type]] = {
    "prompts": ("prompts.jsonl", Prompt),
    "revisions": ("revisions.jsonl", Revision),
    "everyday": ("responses.jsonl", Response),
    "pairs": ("pairs.jsonl", Pair),
}
SHOWN = 300  # characters of a removed text that are kept


@dataclass(frozen=True, slots=True)
class RemovedRow:
    """id: of a prompt or a pair. text: what was found, its first characters. flags: of every filter that found it."""

    id: str
    text: str
    flags: tuple[Flag, ...]


@version(1)
def moderate(
    out: Path, work: Workbench, *, rows: Artifact, kind: Rows, prompts: Artifact | None, by: Moderator
) -> None:
    """The folder of `rows` without the training rows that are removed; removed.jsonl and moderation.json.

    prompts: to which responses are answers; other rows have theirs with them. Raises UserError where nothing is left.
    """
    name, record = FILES[kind]
    given: list[Any] = read_jsonl(rows / name, record)
    asked = {prompt.id: prompt for prompt in read_jsonl(prompts / "prompts.jsonl", Prompt)} if prompts else {}
    texts = [_texts(row, asked) for row in given]
    training = [bool(mine) for mine in texts]
    flat = [text for mine in texts for text in mine]
    of_each = iter(by.flags(work, flat))
    flags = [[(text, flag) for text in mine for flag in next(of_each)] for mine in texts]
    gone = [removes([flag for _, flag in mine]) for mine in flags]
    if any(training) and all(gone[place] for place, trained in enumerate(training) if trained):
        problem = f"moderation leaves none of the {sum(training)} rows to train on ({kind})"
        raise UserError(
            problem, "moderation", f"move a threshold, shorten the list, or take {kind} out of moderation.at"
        )
    removed = [_removed(row, mine) for row, mine, away in zip(given, flags, gone, strict=True) if away]
    kept = [row for row, away in zip(given, gone, strict=True) if not away]
    for file in rows.path.iterdir():
        if file.is_file() and file.name not in (MANIFEST, name):
            shutil.copy(file, out / file.name)
    write_jsonl(out / name, kept)
    if kind == "prompts":
        _without(out, {row.id for row in removed})
    write_jsonl(out / "removed.jsonl", removed)
    (out / "moderation.json").write_text(json.dumps(_counts(sum(training), removed, flags), indent=1))


def _texts(row: Any, asked: dict[str, Prompt]) -> list[ModeratedText]:
    """What is looked at in a row; nothing of one that is held out."""
    if isinstance(row, Prompt):
        texts = [ModeratedText(row)]
    elif isinstance(row, Revision):
        texts = [ModeratedText(row.prompt, row.final)]
    elif isinstance(row, Response):
        texts = [ModeratedText(asked[row.prompt_id], row.text)]
    else:
        texts = [ModeratedText(row.prompt, row.a), ModeratedText(row.prompt, row.b)]
    return texts if texts[0].prompt.split == "train" else []


def _removed(row: Any, flags: Sequence[tuple[ModeratedText, Flag]]) -> RemovedRow:
    text = next(text for text, flag in flags if not flag.unread)
    name = row.id if isinstance(row, Prompt | Pair) else text.prompt.id
    return RemovedRow(name, text.text[:SHOWN], tuple(flag for _, flag in flags if not flag.unread))


def _counts(looked: int, removed: Sequence[RemovedRow], flags: Sequence[Sequence[tuple[Any, Flag]]]) -> dict[str, Any]:
    """reasons: how many rows each reason of each filter found; a row that several found is in each of them."""
    reasons = Counter(pair for row in removed for pair in dict.fromkeys((f.filter, f.reason) for f in row.flags))
    unread = Counter(
        pair for mine in flags for pair in dict.fromkeys((f.filter, f.reason) for _, f in mine if f.unread)
    )
    listed = lambda counts: [[*pair, n] for pair, n in sorted(counts.items())]  # noqa: E731
    return {"looked": looked, "removed": len(removed), "reasons": listed(reasons), "unread": listed(unread)}


def _without(out: Path, gone: set[str]) -> None:
    """Pairs and rated answers go with their prompts."""
    for name, record in (("pairs.jsonl", Pair), ("ratings.jsonl", Rating)):
        if (out / name).is_file():
            rows: list[Any] = read_jsonl(out / name, record)
            whose = [row.prompt.id if isinstance(row, Pair) else row.prompt_id for row in rows]
            write_jsonl(out / name, [row for row, prompt in zip(rows, whose, strict=True) if prompt not in gone])


@version(1)
def flag_prompts(out: Path, work: Workbench, *, prompts: Artifact, by: Moderator) -> None:
    """flags.jsonl: what the filters say of each of XSTest's prompts, of which none is removed."""
    write_jsonl(out / "flags.jsonl", flagged(by, work, read_jsonl(prompts / "prompts.jsonl", Prompt)))
