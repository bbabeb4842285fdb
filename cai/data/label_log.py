"""The label log: what people said about pairs, one JSON row for each decision, only ever appended.

    {"pair_id", "rater", "choice": "a"|"b"|"tie"|"skip"|"undo", "p_a": 1|0|0.5|null, "left": "a"|"b",
     "principle": text|null, "note", "seconds", "at": ISO time, "a_sha": start of the sha256 of answer a}

An undo row cancels that rater's last row for that pair (and principle); skip and undo have a null `p_a`. How rows are
written, and what a kill may cost, is in append.py.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from cai.core.errors import UserError
from cai.core.records import Pair
from cai.data.append import RowLog

Choice = Literal["a", "b", "tie", "skip", "undo"]
Key = tuple[str, str, str | None]  # rater, pair, principle
P_A: dict[str, float] = {"a": 1.0, "b": 0.0, "tie": 0.5}  # of those that decide; skip and undo do not


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One decision of one rater.

    p_a:     P(a better): 1, 0, or 0.5 for a tie; None for skip and undo.
    left:    which answer stood on the left.
    seconds: from the moment the pair was shown, without the time in which the page was hidden.
    a_sha:   tells which text was called a (see `sha`): some sources name the two answers by their seed; "" is unknown.
    """

    pair_id: str
    rater: str
    choice: Choice
    p_a: float | None
    left: Literal["a", "b"]
    principle: str | None
    note: str
    seconds: float
    at: str
    a_sha: str = ""

    @property
    def key(self) -> Key:
        return self.rater, self.pair_id, self.principle


def sha(answer: str) -> str:
    """12 hexadecimal digits that stand for an answer's text."""
    return hashlib.sha256(answer.encode("utf-8", "replace")).hexdigest()[:12]


def make_row(
    pair: Pair,
    rater: str,
    choice: Choice,
    left: Literal["a", "b"],
    principle: str | None = None,
    note: str = "",
    seconds: float = 0.0,
) -> LabelRow:
    """A row that says this now."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return LabelRow(
        pair_id=pair.id, rater=rater, choice=choice, p_a=P_A.get(choice), left=left, principle=principle, note=note,
        seconds=round(seconds, 3), at=at, a_sha=sha(pair.a),
    )  # fmt: skip


def p_for(row: LabelRow, pair: Pair) -> float | None:
    """P(a better) for `pair` as it stands now: turned round where its answers have changed places since.

    None for a skip. Raises UserError where the rater saw other answers than the pair now has.
    """
    if row.a_sha in ("", sha(pair.a)) or row.p_a is None:
        return row.p_a
    if row.a_sha == sha(pair.b):
        return 1 - row.p_a
    raise UserError(f'pair "{row.pair_id}" has other answers than {row.rater} saw', "", "label it again")


class LabelLog(RowLog):
    """A label log that is open for reading and appending; what other processes append is seen after `refresh`.

    faults: (file:line, why) of each row that cannot be used.
    rows:   how many can, undo rows among them.
    """

    strange = "a row that is no label"

    def _clear(self) -> None:
        self.rows = 0
        # rater -> (pair, principle) -> (line, row) of each decision that is not undone, the last one in force
        self._stacks: dict[str, dict[tuple[str, str | None], list[tuple[int, LabelRow]]]] = {}

    def _kind(self, row: Any) -> type:
        return LabelRow

    def _take(self, number: int, record: LabelRow) -> str:
        stack = self._stacks.setdefault(record.rater, {}).setdefault(record.key[1:], [])
        if fault := _fault(record):
            return fault
        if record.choice == "undo":
            if not stack:
                return "an undo with nothing to undo"
            stack.pop()
        else:
            stack.append((number, record))
        self.rows += 1
        return ""

    def in_force(self, rater: str | None = None) -> list[LabelRow]:
        """Each rater's last row, skips among them, for each pair and principle, as written. rater: of one alone."""
        tops = sorted((stack[-1] for stack in self._all(rater) if stack), key=lambda top: top[0])
        return [row for _, row in tops]

    def _all(self, rater: str | None = None) -> Iterator[list[tuple[int, LabelRow]]]:
        for stacks in self._stacks.values() if rater is None else [self._stacks.get(rater, {})]:
            yield from stacks.values()

    def get(self, key: Key) -> LabelRow | None:
        """The row in force for a rater, a pair and a principle."""
        stack = self._stacks.get(key[0], {}).get(key[1:])
        return stack[-1][1] if stack else None

    def line_of(self, key: Key) -> int:
        """The line of the row in force."""
        return self._stacks[key[0]][key[1:]][-1][0]

    def repeated(self) -> list[tuple[str, str]]:
        """(file:line, why) of each row in force that one rater's later row for the same pair replaces."""
        twice = []
        for stack in self._all():
            decided = [(number, row) for number, row in stack if row.p_a is not None]
            for number, row in decided[:-1]:
                same = row.p_a == decided[-1][1].p_a
                why = "the same label twice by one rater" if same else "two labels by one rater: the later one counts"
                twice.append((f"{self.path}:{number}", why))
        return sorted(twice)


def _fault(row: LabelRow) -> str:
    if row.p_a != P_A.get(row.choice):
        return "p_a is not what the choice says"
    if not row.rater.strip() or not row.pair_id:
        return "a row without rater or pair"
    return "" if math.isfinite(row.seconds) and row.seconds >= 0 else "seconds out of range"
