"""Rubrics: files of criteria that answers are scored by, one by one (`judge.rubric.file`).

A row (JSON lines, JSON, CSV or Parquet) holds criteria and says for which prompts they are:

    {"prompt": text or messages, "rubrics": [{"criterion": text, "points": 5, "tags": [...]}, ...]}     one prompt
    {"prompt_id": name, "rubrics": [...]}       one prompt, by its id in the data
    {"subset": name or names, "rubrics": [...]} all prompts of a subset
    {"rubrics": [...]}                          all prompts

That is the form of HealthBench (Arora et al. 2025), whose other columns are let be; the columns of Rubrics as Rewards
(Gunjal et al. 2025, arXiv 2507.17746: `rubric`, `description`, `weight`, `title`) are read as well. Points are above 0
for what a good answer does and below 0 for what speaks against it. Besides theirs a criterion may have

    "only_if": text     it counts only for an answer of which this is true
    "name": text        what it is called in votes and in the report; without it, its text

Criteria of all rows that are for a prompt count together; of two with one name, the one for fewer prompts, and then the
later one. Everything that is wrong is told at once, by file and line.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai.core.draws import normal
from cai.core.errors import UserError, UserErrors, suggest
from cai.core.records import Chat, Prompt
from cai.data.input_file import InputFile, input_file
from cai.data.rows.files import Raw, read_raw
from cai.data.rows.prompts import ASKED, asked_of
from cai.data.rows.values import given, number

ROWS = ("rubrics", "rubric", "criteria")
# What a criterion may hold, by each of its names.
NAMES = {
    "criterion": "criterion", "description": "criterion", "points": "points", "weight": "points", "only_if": "only_if",
    "name": "name", "title": "name", "tags": "tags",
}  # fmt: skip
FOR_ALL, FOR_SUBSET, FOR_PROMPT = range(3)


@dataclass(frozen=True, slots=True)
class RubricItem:
    """One criterion. points: above 0 for what a good answer does, below 0 for what speaks against one. only_if: "" for
    a criterion that always counts. name: by which votes know it."""

    criterion: str
    points: float
    name: str
    only_if: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RubricRow:
    """Criteria and the prompts that they are for: those of a conversation or an id, or of subsets, or all."""

    where: str
    items: tuple[RubricItem, ...]
    asked: str = ""
    prompt_id: str = ""
    subsets: tuple[str, ...] = ()

    @property
    def reach(self) -> int:
        return FOR_PROMPT if self.asked or self.prompt_id else FOR_SUBSET if self.subsets else FOR_ALL


@dataclass
class Rubrics:
    """The criteria of a file, found by prompt."""

    rows: Sequence[RubricRow] = ()
    _of_many: list[RubricRow] = field(default_factory=list)  # for all, then for subsets
    _of_prompt: dict[str, dict[int, RubricRow]] = field(default_factory=lambda: defaultdict(dict))

    def __post_init__(self) -> None:
        self._of_many = sorted((row for row in self.rows if row.reach < FOR_PROMPT), key=lambda row: row.reach)
        for place, row in enumerate(self.rows):
            for name in {row.asked, row.prompt_id} - {""}:
                self._of_prompt[name][place] = row

    def of(self, prompt: Prompt) -> tuple[RubricItem, ...]:
        """The criteria of a prompt: for all, for its subset, its own; () where there are none."""
        many = (row for row in self._of_many if row.reach == FOR_ALL or prompt.subset in row.subsets)
        own = self._of_prompt.get(prompt.id, {}) | self._of_prompt.get(spoken(prompt.messages), {})
        mine = [*many, *(own[place] for place in sorted(own))]
        return tuple({item.name: item for row in mine for item in row.items}.values())


def spoken(messages: Chat) -> str:
    """A conversation without what a system turn says, its white space and Unicode forms: what a row's is found by."""
    return "\0".join(f"{turn.role}: {normal(turn.content)}" for turn in messages if turn.role != "system")


def rubric_file(written: str) -> InputFile:
    """Raises UserError where there is none."""
    remedy = 'a row is {"subset": "...", "rubrics": [{"criterion": "...", "points": 5}]} (cai/data/rubrics.py)'
    return input_file(written, "file of rubrics", "judge.rubric.file", remedy)


def read_rubrics(path: Path) -> Rubrics:
    """Raises UserErrors with all faults of its rows, and UserError for a file without a row."""
    rows, faults = [], []
    for raw in read_raw(path):
        try:
            rows.append(_row(raw))
        except UserErrors as error:
            faults += [UserError(each.problem, raw.where, each.remedy) for each in error.errors]
        except UserError as error:
            faults.append(UserError(error.problem, raw.where, error.remedy))
    faults += _named_twice(rows)
    if not rows and not faults:
        raise UserError("it has no criteria", str(path), 'write {"rubrics": [{"criterion": "...", "points": 5}]}')
    if faults:
        raise UserErrors(faults) if len(faults) > 1 else faults[0]
    return Rubrics(rows)


def _row(raw: Raw) -> RubricRow:
    if raw.fault:
        raise UserError(raw.fault, "", raw.remedy)
    row = raw.value
    key = next((name for name in ROWS if isinstance(row, Mapping) and given(row.get(name))), None)
    if key is None or not isinstance(row[key], list):
        remedy = 'write {"rubrics": [{"criterion": "...", "points": 5}]}'
        raise UserError('a row without criteria: it has no list "rubrics"', "", remedy)
    items, faults = [], []
    for place, value in enumerate(row[key], 1):
        try:
            items.append(_item(value))
        except UserError as error:
            faults.append(UserError(f"criterion {place}: {error.problem}", "", error.remedy))
    if faults:
        raise UserErrors(faults)
    names = [item.name for item in items]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f'the criterion "{twice[:60]}" stands twice', "", "leave one out, or give it another name")
    asked = spoken(asked_of(row)) if any(given(row.get(name)) for name in ASKED) else ""
    subsets = row.get("subset") or ()
    subsets = (subsets,) if isinstance(subsets, str) else tuple(subsets)
    if not all(isinstance(name, str) for name in subsets):
        raise UserError("subset must be a text, or a list of texts", "", "write the names of subsets")
    return RubricRow(raw.where, tuple(items), asked, str(row.get("prompt_id") or ""), subsets)


def _item(value: Any) -> RubricItem:
    if not isinstance(value, Mapping):
        raise UserError("it is no section of keys", "", 'write {"criterion": "...", "points": 5}')
    if unknown := next((name for name in value if name not in NAMES), None):
        raise UserError(f'unknown key "{unknown}"', "", suggest(unknown.replace("-", "_").replace(" ", "_"), [*NAMES]))
    held = {NAMES[name]: cell for name, cell in value.items() if given(cell)}
    for key in ("criterion", "name", "only_if"):
        if not isinstance(held.get(key, ""), str):
            raise UserError(f"{key} must be a text", "", "put it in quotes")
    text = held.get("criterion", "").strip()
    if not text:
        raise UserError("it has no text", "", 'write {"criterion": "..."}')
    points = number(held.get("points"))
    if not points:
        remedy = "write a number above 0 for what a good answer does, below 0 for what speaks against one"
        raise UserError(
            "it has no points" if points is None else "it has 0 points, and would decide nothing", "", remedy
        )
    tags = held.get("tags", ())
    tags = (tags,) if isinstance(tags, str) else tags
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise UserError("tags must be a list of texts", "", 'write "tags": ["..."]')
    name = normal(held.get("name", "")) or normal(text)
    return RubricItem(text, points, name, held.get("only_if", "").strip(), tuple(tags))


def _named_twice(rows: Iterable[RubricRow]) -> list[UserError]:
    """A name is one text in the whole file, whatever points it has for a prompt: votes are known by that."""
    first: dict[str, tuple[str, str]] = {}
    faults = []
    for row in rows:
        for item in row.items:
            text, where = first.setdefault(item.name, (item.criterion, row.where))
            if normal(text) != normal(item.criterion):
                problem = f'the criterion "{item.name[:60]}" has another text at {where}'
                faults.append(UserError(problem, row.where, "give one of them another name"))
    return faults
