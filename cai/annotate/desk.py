"""What the labelling page may ask of its server, without any HTTP: the next question, a label, undo, the summary.

Everything is worked out from the log at each request, so a server that was killed goes on where it was, and several
servers on one log see each other's rows. What a rater is shown says nothing of who wrote an answer or what the judge
thinks of it; that can be asked for after the choice, and then the choice stands.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from cai.annotate.sheet import Order, PairsToLabel, Task
from cai.core.draws import uniform
from cai.core.errors import UserError, suggest
from cai.data.label_log import LabelLog, LabelRow, make_row, p_for

Side = Literal["a", "b"]
LONGEST_NAME, LONGEST_NOTE = 40, 4000  # characters
PACE_FROM = 3  # labels, before a pace is worth showing


@dataclass(frozen=True, slots=True)
class Decision:
    """What the page sends. again: the line of the log from which on a skip stands (see `Desk.next_task`)."""

    rater: str
    pair_id: str
    principle: str | None
    choice: Literal["left", "right", "tie", "skip"]
    note: str
    seconds: float
    again: int = 0


def known_rater(name: str, raters: Sequence[str]) -> str:
    """The name, tidied. raters: the names allowed; empty for any. Raises UserError for one that is not allowed."""
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        problem = f"a name has 1 to {LONGEST_NAME} letters, and none that cannot be seen"
        raise UserError(problem, "", "choose another")
    if raters and name not in raters:
        raise UserError(f'there is no rater "{name}"', "", suggest(name, raters))
    return name


def left_of(rater: str, pair_id: str) -> Side:
    """Which answer stands on the left for this rater: drawn by hash, and the same for every principle."""
    return "a" if uniform("left", rater, pair_id) < 0.5 else "b"


@dataclass
class Desk:
    """Tasks on one side, the log on the other. raters: the names allowed; empty for any."""

    name: str
    tasks: Sequence[Task]
    place: PairsToLabel
    log: LabelLog
    order: Order = "given"
    raters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._by_key = {task.key: task for task in self.tasks}
        self._shown: set[tuple] = set()  # choices after which the rater asked what the judge said

    # Who ------------------------------------------------------------------------------------------------------------

    def welcome(self) -> dict[str, Any]:
        """What the page needs before a rater has a name: who may label, and who has."""
        self.log.refresh()
        done: Counter[str] = Counter()
        for row in self.rows():
            done[row.rater] += row.p_a is not None
        names = list(self.raters) or sorted(done)
        return {
            "name": self.name,
            "raters": [{"name": name, "done": done[name]} for name in names],
            "open": not self.raters,
            "total": len(self.tasks),
            "pairs": len({task.pair.id for task in self.tasks}),
        }

    def rater(self, name: str) -> str:
        """The name, tidied. Raises UserError for one that is not allowed."""
        return known_rater(name, self.raters)

    # What -----------------------------------------------------------------------------------------------------------

    def state(self, rater: str, again: int = 0, task: Task | None = None) -> dict[str, Any]:
        """Progress and the question to show; no question when all is done."""
        rater = self.rater(rater)
        self.log.refresh()
        task = task or self.next_task(rater, again)
        return {"rater": rater, "progress": self.progress(rater), "task": task and self._shown_as(task, rater)}

    def next_task(self, rater: str, again: int = 0) -> Task | None:
        """The first task that this rater has no row for.

        again: skips above this line of the log are asked again; 0 lets all skips stand.
        """
        others = set()
        if self.order == "uncertain":  # what no other rater has labelled is worth more
            others = {row.pair_id for row in self.rows() if row.p_a is not None and row.rater != rater}
        todo = (task for task in self.tasks if self.log.get((rater, *task.key)) is None)
        first = later = next(todo, None)
        while first and first.pair.id in others:
            first = next(todo, None)
        if first or later:
            return first or later
        skipped = {row.key[1:] for row in self.log.in_force(rater) if row.choice == "skip"}
        return next(
            (task for task in self.tasks if task.key in skipped and self.log.line_of((rater, *task.key)) < again), None
        )

    def progress(self, rater: str) -> dict[str, Any]:
        """Counts, and the seconds that the rest takes at this rater's own median pace (None until that is known)."""
        mine = self.rows(rater)
        labelled = [row for row in mine if row.p_a is not None]
        rest = len(self.tasks) - len(mine)
        pace = median(row.seconds for row in labelled) if len(labelled) >= PACE_FROM else None
        return {
            "total": len(self.tasks),
            "labelled": len(labelled),
            "skipped": len(mine) - len(labelled),
            "seconds_left": None if pace is None else pace * rest,
            "line": self.log.line_of(mine[-1].key) + 1 if mine else 1,
        }

    def _shown_as(self, task: Task, rater: str) -> dict[str, Any]:
        pair, before = task.pair, self.log.get((rater, *task.key))
        left = left_of(rater, pair.id)
        return {
            "pair_id": pair.id,
            "principle": task.principle and {"name": task.principle.name, "prefer": task.principle.prefer},
            "messages": [{"role": message.role, "content": message.content} for message in pair.prompt.messages],
            "left": pair.a if left == "a" else pair.b,
            "right": pair.b if left == "a" else pair.a,
            "note": before.note if before else "",
        }

    # Labels ---------------------------------------------------------------------------------------------------------

    def label(self, decision: Decision) -> dict[str, Any]:
        """Write a decision to the log and give the next question. It is on the disk before this returns."""
        rater, task = self.rater(decision.rater), self._task(decision.pair_id, decision.principle)
        if not 0 <= decision.seconds < 1e7:
            raise UserError(f"seconds out of range: {decision.seconds}", "", "reload the page")
        if len(decision.note) > LONGEST_NOTE:
            raise UserError(f"the note is longer than {LONGEST_NOTE} characters", "", "shorten it")
        left = left_of(rater, task.pair.id)
        right: Side = "b" if left == "a" else "a"
        choice = {"left": left, "right": right}.get(decision.choice, decision.choice)
        # pyrefly: ignore
        row = make_row(task.pair, rater, choice, left, decision.principle, decision.note.strip(), decision.seconds)
        self.log.refresh()
        before = self.log.get(row.key)
        # An answer that got lost on its way is sent again, with the same time to the millisecond: once is enough.
        if not (before and (before.choice, before.note, before.seconds) == (row.choice, row.note, row.seconds)):
            self.log.append(row)
        self._shown.discard(row.key)
        return self.state(rater, decision.again)

    def undo(self, rater: str) -> dict[str, Any]:
        """Cancel the rater's last decision and show its pair again, with its note."""
        rater = self.rater(rater)
        self.log.refresh()
        mine = self.rows(rater)
        if not mine:
            raise UserError("there is nothing to undo", "", "label a pair first")
        last = mine[-1]
        if last.key in self._shown:
            raise UserError("you have seen what the judge said, so this choice stands", "", "go on with the next pair")
        task = self._task(last.pair_id, last.principle)
        self.log.append(make_row(task.pair, rater, "undo", last.left, last.principle))
        state = self.state(rater, task=task)
        state["task"] |= {"note": last.note, "before": _side_of(last)}
        return state

    def reveal(self, rater: str, pair_id: str, principle: str | None) -> dict[str, Any]:
        """What judge, reward model, the data's own raters and other raters say. Only after the rater's own choice."""
        rater, task = self.rater(rater), self._task(pair_id, principle)
        self.log.refresh()
        row = self.log.get((rater, *task.key))
        if row is None or row.p_a is None:
            raise UserError("first say which answer is better", "", "what others said is shown afterwards")
        self._shown.add(row.key)

        def of_left(p_a: float | None) -> float | None:
            return p_a if p_a is None or row.left == "a" else 1 - p_a

        margin = self.place.margins.get(pair_id)
        others = [r for r in self.rows() if r.key[1:] == row.key[1:] and r.rater != rater and r.p_a is not None]
        return {
            "mine": of_left(row.p_a),
            "judge": of_left(self.place.judge.get(pair_id)),
            "reward": margin if margin is None or row.left == "a" else -margin,
            "human": of_left(task.pair.human),
            "raters": [{"name": other.rater, "left": of_left(p_for(other, task.pair))} for other in others],
        }

    def rows(self, rater: str | None = None) -> list[LabelRow]:
        """Rows in force for what is to be labelled here. rater: of this one alone."""
        return [row for row in self.log.in_force(rater) if row.key[1:] in self._by_key]

    def _task(self, pair_id: str, principle: str | None) -> Task:
        task = self._by_key.get((pair_id, principle))
        if task is None:
            raise UserError(f'there is no pair "{pair_id}" to label here', "", "reload the page")
        return task


def _side_of(row: LabelRow) -> str:
    if row.choice in ("a", "b"):
        return "left" if row.choice == row.left else "right"
    return row.choice
