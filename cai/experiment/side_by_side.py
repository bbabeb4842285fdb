"""Independent stages of a run, or of all points of a sweep, side by side (`runtime.executor`).

There is no graph to schedule: what a stage's key is depends on the contents of what came before. So the pipeline is
walked again and again, as for a plan (a walk takes a fraction of a second and makes nothing). What is there is handed
back; what could be made now, since all its inputs are there, is handed to a worker; what cannot yet is unknown, and so
is what follows from it. When a worker is done, the next walk comes further. The walk that finds everything is the run:
the pipeline reads as it does when it makes its stages itself, and what comes out is the same.

Should a stage fail, none is begun any more, those that are being made are made to the end, and then all faults are
told. A worker that died is replaced, and its stage begun again, up to TRIES times.
"""

import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from cai.compare.cells import Cell, Measured
from cai.compare.sections.provenance import DIGEST, Began
from cai.config.load import Experiment
from cai.core.durable import make_folders, unique
from cai.core.errors import UserError, UserErrors
from cai.core.owned import Taken, held, leftover
from cai.core.progress import Board
from cai.core.store import MANIFEST, Artifact, Store, canonical, is_known, keyed
from cai.experiment.executors import Died, Executor, ProcessPool, cards_of, cores, for_worker, lanes_of, threads_of
from cai.experiment.pipeline import run
from cai.experiment.worker import Orders, StageOutcome, StageTask
from cai.models.references import met
from cai.models.workbench import Workbench

TRIES = 3
LOOK = 0.2  # seconds between two looks at what workers have written
SEEN = 60.0  # seconds in which a network disk shows on one machine what another has made


@dataclass(frozen=True, slots=True)
class Ran:
    """An experiment of which every stage is there."""

    experiment: Experiment
    cells: list[Cell]
    measured: Measured
    ledger: Sequence[Artifact]


def one_by_one(grid: Sequence[Experiment], work: Workbench, board: Board) -> Generator[Ran]:
    """Every stage made in this process."""
    for experiment in grid:
        store = Store(work.root, notify=board.began, noted=board.noted)
        yield Ran(experiment, *run(experiment, store, work), list(store.ledger.values()))


def side_by_side(grid: Sequence[Experiment], work: Workbench, board: Board, began: Began) -> Generator[Ran]:
    """The experiments in their order, each as soon as all of it is there. Raises UserError."""
    with notes_of(work.root) as notes:
        executor = start(work, notes, began)
        crew = Crew(executor, board, work, notes)
        board.lanes = executor.lanes
        try:
            for done in range(len(grid)):
                while not (ran := crew.walk(grid[done:])):
                    crew.wait()
                yield ran
        finally:
            executor.end()


@contextmanager
def notes_of(root: Path) -> Iterator[Path]:
    """A folder for what workers write; gone when all went well, else when the next run begins."""
    place = root / "workers"
    notes = place / f"{unique()}.notes"
    make_folders(notes)
    for left in place.glob("*.notes"):
        with suppress(Taken, OSError), leftover(left):
            if left != notes:
                shutil.rmtree(left, ignore_errors=True)
    with held(notes):
        yield notes
        shutil.rmtree(notes, ignore_errors=True)


def start(work: Workbench, notes: Path, began: Began) -> Executor:
    """Raises UserError where the workers cannot be had."""
    runtime, here = work.runtime, cores()
    orders = partial(Orders, folder=str(Path.cwd()), notes=notes.absolute(), code=began.code[DIGEST])
    known = {"constitutions": dict(work.constitutions), "met": met()}
    if runtime.executor == "ray":
        from cai.experiment.executor_ray import OnRay  # an optional package

        ray = OnRay(runtime, work.device)
        return ray.lead(orders(runtime=for_worker(runtime, work.device, ray.lanes, ray.cpus), **known))
    cards = cards_of(work.device)
    lanes = lanes_of(runtime, here, len(cards))
    theirs = for_worker(runtime, work.device, lanes, threads_of(runtime, here, lanes))
    return ProcessPool(orders(runtime=theirs, **known), lanes, cards if len(cards) > 1 else ())


@dataclass
class Crew:
    """The workers, and what is known of all stages. made: those that are there, by the name of their folder."""

    executor: Executor
    board: Board
    work: Workbench
    notes: Path
    made: dict[str, Artifact] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)  # those that were looked for, and are the crew's to make
    running: dict[Future[StageOutcome], StageTask] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    faults: list[UserError] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    read: dict[str, int] = field(default_factory=dict)  # bytes of each worker's lines that were shown
    told: set[str] = field(default_factory=set)

    def walk(self, grid: Sequence[Experiment]) -> Ran | None:
        """The first experiment, if it is there; what can be made of it, and then of the others, is handed out."""
        first: Ran | None = None
        for experiment in grid:
            if self.idle <= 0 and experiment is not grid[0]:
                break
            store = Walk(self.work.root, noted=self.note, crew=self)
            try:
                ran = Ran(experiment, *run(experiment, store, self.work), list(store.ledger.values()))
            except UserError as error:
                if experiment is grid[0]:  # of another one it is told when its turn has come, as without workers
                    self.fail(error)
                break
            if experiment is grid[0] and not store.missing:
                first = ran
                self.made.update({each.path.name: replace(each, cached=True) for each in store.ledger.values()})
        return first

    @property
    def idle(self) -> int:
        return 0 if self.failed else self.executor.lanes - len(self.running)

    @property
    def failed(self) -> bool:
        return bool(self.faults or self.traces)

    def note(self, made: Artifact) -> None:
        if made.path.name in self.made:
            self.board.noted(made)

    def offer(self, task: StageTask) -> None:
        """Hand a stage out, if a worker is idle and it is not being made."""
        if self.idle > 0 and task.name not in self.names:
            self.running[self.executor.submit(task)] = task
            self.board.began(task.wanted.stage, task.wanted.key)

    @property
    def names(self) -> set[str]:
        return {task.name for task in self.running.values()}

    def wait(self) -> None:
        """Until a stage is done. Raises the faults, when none is being made any more."""
        assert self.running or self.failed, "something is missing, and nothing can be made"
        while self.running:
            done, _ = wait(self.running, LOOK, FIRST_COMPLETED)
            for task in self.running.values():
                self.show(task)
            for future in done:
                self.settle(self.running.pop(future), future)
            if done and not (self.failed and self.running):
                break
        if not self.failed:
            return
        if self.traces:
            raise RuntimeError(self.traces[0])
        faults = list({str(fault): fault for fault in self.faults}.values())
        raise faults[0] if len(faults) == 1 else UserErrors(faults)

    def settle(self, task: StageTask, future: Future[StageOutcome]) -> None:
        """See what became of a stage."""
        name, (stage, key) = task.name, (task.wanted.stage, task.wanted.key)
        try:
            outcome = future.result()
        except Died as how:
            self.board.lost(stage, key)
            self.tries[name] = self.tries.get(name, 0) + 1
            if self.tries[name] < TRIES:
                self.board.tell(f"note: the worker that was making {name} died ({how}): it is begun again")
                return
            problem = f"the worker that was to make {name} died {TRIES} times (at last: {how})"
            remedy = "if there was too little memory: fewer runtime.workers, or a smaller runtime.batch_tokens"
            self.fail(UserError(problem, str(self.log(task)), remedy), task)
            return
        except UserError as error:
            self.board.lost(stage, key)
            self.fail(error, task)
            return
        if outcome.made is None:
            self.board.lost(stage, key)
            if outcome.trace:
                self.traces.append(f"{name} failed on {outcome.host}:\n{outcome.trace}")
            for problem, where, remedy in outcome.faults:
                self.fail(UserError(problem, where, remedy), task)
            return
        self.show(task)
        with suppress(OSError):
            self.log(task).unlink()
        if not outcome.made.cached:
            self.work.elsewhere.update(outcome.made.calls)
        if see(outcome.made.path):
            self.made[name] = outcome.made
        else:
            problem = f"{outcome.host} made {name}, and it is not to be seen here"
            remedy = "runtime.root must be on a disk that all machines share"
            self.fail(UserError(problem, str(self.work.root / "store"), remedy))

    def fail(self, error: UserError, task: StageTask | None = None) -> None:
        """Begin nothing any more."""
        self.faults.append(error)
        if self.running:
            what = f"{task.wanted.stage}: {error.problem}" if task else error.problem
            rest = ", ".join(sorted(self.names))
            self.board.tell(f"note: {what}; what is being made is made to the end first ({rest})")

    def log(self, task: StageTask) -> Path:
        return self.notes / f"{task.name}.log"

    def show(self, task: StageTask) -> None:
        """What a worker has written since, by whole lines. What several workers say alike is shown once."""
        with suppress(FileNotFoundError), self.log(task).open("rb") as file:
            file.seek(self.read.get(task.name, 0))
            text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self.read[task.name] = self.read.get(task.name, 0) + len(whole)
            for line in whole.decode(errors="replace").splitlines():
                if line.strip() and not (line.startswith("note:") and line in self.told):
                    self.told.add(line)
                    self.board.said(task.wanted.stage, task.wanted.key, line)


@dataclass
class Walk(Store):
    """A store that makes nothing itself: a stage that is not there is offered to the crew, and unknown for now."""

    crew: Crew | None = None
    missing: int = 0

    def look_up(self, name: str, key: str, folder: Path, inputs: Mapping[str, Any]) -> Artifact | None:
        assert self.crew
        made = self.crew.made.get(folder.name)
        if made is None and folder.name not in self.crew.absent:
            made = super().look_up(name, key, folder, inputs)
            if made:
                self.crew.made[folder.name] = made
            else:
                self.crew.absent.add(folder.name)
        return made

    def provide(self, function: Any, wanted: Artifact, runtime: Any, inputs: dict[str, Any]) -> Artifact:
        assert self.crew
        self.missing += 1
        if is_known(canonical(keyed(inputs))):
            self.crew.offer(StageTask(function, wanted, inputs))
        return wanted


def see(folder: Path) -> bool:
    """Whether a stage that a worker has made is here: a network disk may show it a while later."""
    until = time.monotonic() + SEEN
    while True:
        next(folder.parent.iterdir(), None)  # asks the disk's server anew
        if (folder / MANIFEST).is_file():
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
