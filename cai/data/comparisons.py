"""Any file of comparisons -> pairs that people have judged: what a judge is measured on (cai/data/rows reads the
files).

A row that cannot be used is named with its reason and left out; only a file without one usable row is an error.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from cai.config.sections import Data
from cai.core.draws import identity
from cai.core.records import Chat, Pair, Prompt, SetAside
from cai.core.shipped import locate
from cai.data.input_file import InputFile, input_file
from cai.data.rows.reader import PlacedPair, read_file
from cai.data.rows.turns import opening_of
from cai.models.engines import Question

SEED = 0  # which answer is called a: the same in every run, so that every run asks the same questions
ANY_LENGTH = 10**6  # words; what is too long is for the judge to say


@dataclass(frozen=True, slots=True)
class Item:
    """One comparison.

    given: the multiple choice exactly as the file has it, the right option first; None where there is none.
    conduct: what a pair is about whose two texts are statements about an assistant: the conversation up to its last
    answer, and that answer.
    cluster: stands for the opening of the conversation: those that grow out of one opening are not independent.
    where: file:line, or file:row n.
    """

    pair: Pair
    given: Question | None
    cluster: str
    where: str
    conduct: tuple[Prompt, str] | None = None


@dataclass(frozen=True, slots=True)
class Comparisons:
    """faults: (where, why) of each row that was left out. form: how many items came in which form.

    drawn: ids of pairs whose split the file does not name, but a hash.
    """

    items: tuple[Item, ...]
    faults: tuple[tuple[str, str], ...]
    form: dict[str, int]
    drawn: frozenset[str] = frozenset()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(item.pair for item in self.items)


def read_comparisons(path: str | Path, *, judged: bool = True, test: float = 0.3) -> Comparisons:
    """Every usable comparison of a file of any form that cai/data/rows reads.

    judged: leave out pairs that nobody judged. A benchmark needs the verdicts; what only asks the judge does not.
    test: the share of prompts in the test split, where a row names no split.
    Raises UserError for a file that is missing, damaged, or without a usable row.
    """
    path = locate(path)
    reading = read_file(path, Data(source=str(path), max_words=ANY_LENGTH, test=test), SEED)
    faults = [(row.where, row.reason) for row in reading.aside]
    faults += [(where, "not a comparison: a prompt without answers") for where, _ in reading.bare]
    items: list[Item] = []
    form: Counter[str] = Counter()
    for placed in reading.placed:
        if judged and placed.pair.human is None:
            faults.append((placed.where, "nobody judged this pair: `human` is missing"))
        else:
            items.append(_item(placed))
            form[placed.row.form] += 1
    if not items:
        if not reading.aside and faults:
            reading.aside = [SetAside(*faults[0], "")]
        raise reading.nothing("no comparison in this file can be used")
    drawn = frozenset(item.pair.id for item in items if item.pair.prompt.id in reading.drawn)
    return Comparisons(tuple(items), tuple(sorted(faults, key=lambda fault: _line(fault[0]))), dict(form), drawn)


def comparisons_file(path: str) -> InputFile:
    """Such a file as the input of a stage, which names its rows by the path. Raises UserError where there is none."""
    file = input_file(path, "file of comparisons", "evaluate.comparisons", "give a file that exists")
    return replace(file, keyed_as=("file", "contents"))


def _item(placed: PlacedPair) -> Item:
    row, prompt = placed.row, placed.pair.prompt
    given = Question(row.choice.chat, row.choice.options, row.choice.lead) if row.choice else None
    conduct = (
        (replace(prompt, id=_name(row.conduct[0]), messages=row.conduct[0]), row.conduct[1]) if row.conduct else None
    )
    opening = " ".join((row.opening or opening_of(row.messages)).split())
    return Item(
        pair=placed.pair, given=given, cluster=identity("opening", opening), where=placed.where, conduct=conduct
    )


def _name(messages: Chat) -> str:
    return identity("prompt", *(message.content for message in messages))


def _line(where: str) -> int:
    """The number at the end of a place: rows are named in the order of the file."""
    digits = where.rpartition(":")[2].split()[-1]
    return int(digits) if digits.isdigit() else 0
