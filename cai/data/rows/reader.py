"""A file of any form -> prompts, pairs and who judged them: the one reader, and the one check, of everything that reads
rows (data.source, judge bench, the labelling page, constitutions on trial).

    1. each row is parsed and told apart (files.py, forms.py); rated answers and messages of trees are put together
    2. one check of conversations and answers
    3. prompts get their names and their side of the split: by the normalised opening, whatever the form
    4. what was said of a pair twice is said once

What cannot be used is set aside, named by file and line, and costs nothing else.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from cai.config.sections import Data
from cai.core.draws import identity
from cai.core.errors import UserError
from cai.core.records import Pair, Prompt, RaterVote, SetAside
from cai.core.textstats import words
from cai.data.material import Openings, make_pair
from cai.data.rows import several, trees
from cai.data.rows.files import Raw, read_raw
from cai.data.rows.forms import FORMS, read_row
from cai.data.rows.records import FileRow, Judged, Node, ScoredAnswer
from cai.data.rows.turns import check_conversation, opening_of
from cai.data.rows.values import MEND
from cai.data.votes import Judgement, settle, share


class PlacedPair(NamedTuple):
    """A pair at its place in the file, and the row that it came from."""

    where: str
    row: FileRow
    pair: Pair


@dataclass
class FileContents:
    """What a file holds.

    prompts, pairs: by id, in the order of the file. placed: each pair and where it stands. bare: (where, prompt without
    answers).
    aside: what was not used, and why; remedies: why -> what to do about it. rows: how many were read.
    drawn: ids of prompts whose side no row names. judgements: how often people ranked or rated answers.
    """

    name: str
    prompts: dict[str, Prompt] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)
    placed: list[PlacedPair] = field(default_factory=list)
    bare: list[tuple[str, Prompt]] = field(default_factory=list)
    aside: list[SetAside] = field(default_factory=list)
    remedies: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    drawn: set[str] = field(default_factory=set)
    judgements: int = 0

    def counts(self) -> Counter:
        """`rows read`, and `rows set aside: why` -> how many; places within a reason are not told apart."""
        place = re.compile(re.escape(self.name) + r":(?:\w+ )?\d+")
        counts = Counter(f"rows set aside: {place.sub('another row', row.reason)}" for row in self.aside)
        return counts + Counter({"rows read": self.rows, "judgements of ranked or rated answers": self.judgements})

    def nothing(self, problem: str) -> UserError:
        """The error of a file of which nothing can be used: its first fault says why."""
        if not self.aside:
            empty = ": it is empty" if not self.rows else ""
            return UserError(problem + empty, self.name, f"a row needs {FORMS}")
        first = self.aside[0]
        remedy = self.remedies.get(first.reason, "")
        if not remedy or "JSON" in remedy:
            remedy += f"{'; ' if remedy else ''}a row needs {FORMS}"
        return UserError(f"{problem}: {first.reason} ({first.where})", self.name, remedy)


def read_file(path: Path, data: Data, seed: int) -> FileContents:
    """Everything of a file that can be used. Raises UserError for a file that cannot be read at all."""
    return read(read_raw(path), str(path), data, seed)


def read(raws: Iterable[Raw], name: str, data: Data, seed: int) -> FileContents:
    """The rows of any source. name: what their places begin with."""
    work = _Work(FileContents(name), data, seed)
    rows = work.parse(raws)
    rows = [(where, row) for where, row in rows if work.check(where, row)]
    asked = work.assign(rows)
    work.judge(asked)
    return work.reading


class _Work:
    """The steps of one reading (see above)."""

    def __init__(self, reading: FileContents, data: Data, seed: int) -> None:
        self.reading, self.data, self.seed = reading, data, seed
        self.texts: dict[str, str] = {}
        self.places: dict[str, str] = {}  # id of a pair -> where it stands

    def set_aside(self, where: str, error: UserError | str) -> None:
        if isinstance(error, UserError):
            self.reading.remedies.setdefault(error.problem, error.remedy)
        reason = error.problem if isinstance(error, UserError) else error
        self.reading.aside.append(SetAside(where, reason, self.texts.get(where, "")))

    # 1. Rows
    def parse(self, raws: Iterable[Raw]) -> list[tuple[str, FileRow]]:
        rows: list[tuple[str, FileRow]] = []
        scored: list[tuple[str, ScoredAnswer]] = []
        nodes: list[tuple[str, Node]] = []
        for raw in raws:
            self.reading.rows += 1
            self.texts[raw.where] = raw.text
            if raw.fault:
                self.set_aside(raw.where, UserError(raw.fault, "", raw.remedy))
                continue
            try:
                parts = read_row(raw.value)
            except UserError as error:
                self.set_aside(raw.where, error)
                continue
            except RecursionError:
                self.set_aside(raw.where, UserError("not valid JSON: nested too deeply", "", MEND))
                continue
            for part in parts:
                if isinstance(part, FileRow):
                    rows.append((raw.where, part))
                elif isinstance(part, ScoredAnswer):
                    scored.append((raw.where, part))
                else:
                    nodes.append((raw.where, part))
        return rows + self._joined(scored, nodes)

    def _joined(
        self, scored: list[tuple[str, ScoredAnswer]], nodes: list[tuple[str, Node]]
    ) -> list[tuple[str, FileRow]]:
        good = [(where, answer) for where, answer in scored if self.check(where, answer.row, answer.answer)]
        of_answers, alone = several.compare(good)
        of_trees, lost = trees.join(nodes)
        for answer in alone:
            self.set_aside(answer.where, answer.reason)
        for where, why in lost:
            self.set_aside(where, why)
        self.reading.judgements += len(good)
        return of_answers + of_trees

    # 2. One check
    def check(self, where: str, row: FileRow, *answers: str) -> bool:
        try:
            check_conversation(row.messages)
            for answer in answers:
                _check_answer(answer)
        except UserError as error:
            self.set_aside(where, error)
            return False
        most = self.data.max_words
        if sum(words(message.content) for message in row.messages) > most:
            self.set_aside(where, UserError("too long", "", f"raise data.max_words ({most})"))
            return False
        for reason in row.aside:
            self.set_aside(where, UserError(reason, "", MEND))
        return True

    def _fits(self, where: str, judged: Judged) -> bool:
        try:
            _check_answer(judged.a)
            _check_answer(judged.b)
            if judged.a.strip() == judged.b.strip():
                raise UserError("both answers are the same", "", "remove this row: there is nothing to compare")
            if max(words(judged.a), words(judged.b)) > self.data.max_words:
                raise UserError("too long", "", f"raise data.max_words ({self.data.max_words})")
        except UserError as error:
            self.set_aside(where, error)
            return False
        return True

    # 3. Prompts
    def assign(self, rows: list[tuple[str, FileRow]]) -> list[tuple[str, FileRow, Prompt]]:
        """Each row with its prompt. A row that names another side, subset or text for a known prompt is set aside."""
        openings = Openings(self.data, self.seed)
        for _, row in rows:
            openings.add(opening_of(row.messages), _kind(row))
        sides: dict[str, tuple[str, str]] = {}  # opening -> (side, where it is said first)
        for where, row in rows:
            if row.split:
                sides.setdefault(openings.key(opening_of(row.messages)), (row.split, where))
        prompts, places = self.reading.prompts, {}
        asked = []
        for where, row in rows:
            key = openings.key(opening_of(row.messages))
            named = sides.get(key)
            if row.split and named and named[0] != row.split:
                problem = f"conversations that begin alike are in the split {named[0]} at {named[1]}"
                self.set_aside(
                    where, UserError(problem, "", "keep them on one side: a prompt would be held out and learnt")
                )
                continue
            fitting = tuple(judged for judged in row.judged if self._fits(where, judged))
            if row.judged and not fitting:
                continue
            split = named[0] if named else openings.split(opening_of(row.messages))
            name = row.id or identity(_kind(row), *(message.content for message in row.messages))
            prompt = Prompt(name, row.messages, row.subset, split)  # pyrefly: ignore
            known = prompts.get(name, prompt)
            if known.messages != prompt.messages:
                problem = f'two different prompts share the id "{name}": the other is at {places[name]}'
                self.set_aside(where, UserError(problem, "", "give each prompt its own id"))
                continue
            if known.subset != prompt.subset:
                problem = f'this prompt is of the subset "{known.subset}" at {places[name]}, here of "{row.subset}"'
                self.set_aside(where, UserError(problem, "", "make its rows agree"))
                continue
            prompts[name] = known
            places.setdefault(name, where)
            if not named:
                self.reading.drawn.add(name)
            asked.append((where, replace(row, judged=fitting), known))
        return asked

    # 4. Judgements
    def judge(self, asked: list[tuple[str, FileRow, Prompt]]) -> None:
        groups: dict[tuple[str, str, str], list[tuple[str, FileRow, Judged]]] = defaultdict(list)
        of: dict[str, Prompt] = {}
        for where, row, prompt in asked:
            of[prompt.id] = prompt
            if not row.judged:
                self.reading.bare.append((where, prompt))
            if row.form in ("several answers", trees.FORM):
                self.reading.judgements += sum(len(judged.votes) for judged in row.judged)
            for judged in row.judged:
                low, high = sorted((judged.a, judged.b))
                groups[prompt.id, low, high].append((where, row, judged))
        for (prompt_id, _, _), rows in groups.items():
            self._add(of[prompt_id], rows)

    def _add(self, prompt: Prompt, rows: list[tuple[str, FileRow, Judged]]) -> None:
        where, row, first = rows[0]
        votes, human = self._votes_on(rows)
        pair = _pair(prompt, first, votes, human, self.seed)
        if pair.id in self.reading.pairs:
            problem = f'another pair has the id "{pair.id}": {self.places[pair.id]}'
            self.set_aside(where, UserError(problem, "", "give each pair its own id"))
            return
        self.reading.pairs[pair.id] = pair
        self.places[pair.id] = where
        self.reading.placed.append(PlacedPair(where, row, pair))

    def _votes_on(self, rows: list[tuple[str, FileRow, Judged]]) -> tuple[tuple[RaterVote, ...], float | None]:
        """(who said what of a pair, P(a better)), a being the first row's.

        A person who is named has one word, the last. Of rows without names two alike may be copies of one, and of two
        that contradict each other nothing tells which holds: the first stands.
        """
        first = rows[0][2]
        named: list[Judgement] = []
        unnamed: list[RaterVote] = []
        stands: tuple[str, float] | None = None
        for where, _, judged in rows:
            votes = tuple(_turned(each, judged, first) for each in judged.votes)
            text = self.texts.get(where, "")
            named += [Judgement("", each, where, text) for each in votes if each.rater]
            nobody = [each for each in votes if not each.rater]
            if stands and (nobody or not votes):
                alike = not votes or abs(share(nobody) - stands[1]) < 1e-9
                problem = f"{'the same pair as' if alike else 'contradicts the same pair at'} {stands[0]}"
                self.set_aside(where, UserError(problem, "", "name who judged each (`rater`), or keep one of them"))
            elif nobody:
                unnamed, stands = nobody, (where, share(nobody))
            elif not votes and where != rows[0][0]:
                self.set_aside(where, f"the same pair as {rows[0][0]}")
        kept, aside = settle(named)
        self.reading.aside += aside
        people = (*unnamed, *kept.get("", ()))
        alone = len(rows) == 1 or (stands is not None and stands[0] == rows[0][0] and len(people) == len(first.votes))
        if alone and first.human is not None:
            return people, first.human
        return people, share(people) if people else None


def _kind(row: FileRow) -> str:
    """What identities are made with; labels and keys of other days know prompts by these."""
    return "hh" if row.form == "HH-RLHF" else "prompt"


def _check_answer(text: str) -> None:
    if not text.strip():
        raise UserError("an answer without words", "", "remove this row: nobody can prefer nothing")


def _turned(vote: RaterVote, judged: Judged, first: Judged) -> RaterVote:
    """P(a better) of the pair as its first row has it."""
    return vote if judged.a == first.a else replace(vote, p_a=1 - vote.p_a)


def _pair(prompt: Prompt, first: Judged, people: tuple[RaterVote, ...], human: float | None, seed: int) -> Pair:
    votes = tuple(vote.p_a for vote in people)
    raters = tuple(vote.rater for vote in people) if any(vote.rater for vote in people) else ()
    if first.own_order:
        name = first.id or identity("pair", prompt.id, first.a, first.b)
        return Pair(
            id=name, prompt=prompt, a=first.a, b=first.b, human=human, votes=votes, prompted=first.prompted,
            raters=raters,
        )  # fmt: skip
    if human is None:
        return replace(make_pair(prompt, first.a, first.b, 1.0, (), seed), human=None)
    return make_pair(prompt, first.a, first.b, human, votes, seed, raters)
