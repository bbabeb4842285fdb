"""What a worker does: it makes stages for a run that another process leads (cai/experiment/side_by_side.py).

A worker has a workbench of its own, which it keeps from one stage to the next, and shares the store: a stage is made
under its lease, as by any process. What it writes on stdout and stderr goes to a file, which the leader reads.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai.compare.sections.provenance import digest_of_code
from cai.config.runtime import Runtime
from cai.config.serve import OwnServer
from cai.constitution import Constitution
from cai.core.durable import NODE
from cai.core.errors import UserError, UserErrors, fault_of_machine
from cai.core.store import Artifact, Store, key_of
from cai.models.references import ModelRef, met
from cai.models.shared_spending import SharedSpending
from cai.models.workbench import Workbench


@dataclass(frozen=True, slots=True)
class StageTask:
    """A stage that is to be made: `function` of `inputs`. wanted: with the key under which the leader asks for it."""

    function: Callable[..., None]
    wanted: Artifact
    inputs: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.wanted.path.name


@dataclass(frozen=True, slots=True)
class Orders:
    """What the workers of a run have in common.

    folder: where they work, so that relative paths lead where they lead the leader. notes: a folder for what they
    write, one file a stage, and for the count of what servers took. constitutions: as the leader has read them. met:
    the folders of models that it knows. code: the digest of its code, which must be theirs.
    """

    runtime: Runtime
    folder: str
    notes: Path
    code: str
    constitutions: Mapping[str, Constitution] = field(default_factory=dict)
    met: Mapping[str, str] = field(default_factory=dict)

    def log(self, task: StageTask) -> Path:
        return self.notes / f"{task.name}.log"


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What became of a stage. faults: (problem, where, remedy) of each fault of the user's or the machine's. trace: of
    an error of ours. host: who made it."""

    host: str
    made: Artifact | None = None
    faults: tuple[tuple[str, str, str], ...] = ()
    trace: str = ""


_bench: tuple[Path, Workbench] | None = None  # of the run that this process works for


def make(task: StageTask, orders: Orders) -> StageOutcome:
    """The stage in the store; or why not, as data: exceptions do not travel well."""
    try:
        os.chdir(orders.folder)
        with interrupted_once(), written_to(orders.log(task)):
            work = workbench(orders)
            if key_of(task.function, task.inputs) != task.wanted.key:
                raise other_code()
            return StageOutcome(NODE, Store(work.root).provide(task.function, task.wanted, work, dict(task.inputs)))
    except UserError as error:
        return StageOutcome(NODE, faults=faults_of(error))
    except Exception as error:
        fault = fault_of_machine(error) or lost_folder(error, orders)
        if fault:
            return StageOutcome(NODE, faults=faults_of(fault))
        return StageOutcome(NODE, trace=traceback.format_exc())


def workbench(orders: Orders) -> Workbench:
    """That of this process, opened once. Raises UserError where the code here is not the leader's."""
    global _bench
    if _bench is None or _bench[0] != orders.notes:
        if digest_of_code() != orders.code:
            raise other_code()
        work = Workbench.open(orders.runtime)
        work.constitutions.update(orders.constitutions)
        work.side_by_side = True
        if orders.runtime.max_tokens or orders.runtime.max_cost or orders.runtime.prices:
            work.spending = SharedSpending.within(orders.runtime, orders.notes / "spending")
        met(orders.met)
        _bench = (orders.notes, work)
    return _bench[1]


def faults_of(error: UserError) -> tuple[tuple[str, str, str], ...]:
    each = error.errors if isinstance(error, UserErrors) else (error,)
    return tuple((one.problem, one.where, one.remedy) for one in each)


def other_code() -> UserError:
    return UserError(
        f"the code of cai on {NODE} is not the code that leads this run", str(Path(__file__).parents[1]),
        "install the same version on all machines, or run from one folder that they share",
    )  # fmt: skip


def lost_folder(error: Exception, orders: Orders) -> UserError | None:
    if not isinstance(error, FileNotFoundError) or error.filename not in (orders.folder, str(orders.notes)):
        return None
    problem = f"this folder is not there on {NODE}, which is to make a stage"
    return UserError(problem, error.filename, "run in a folder that all machines share, under one path")


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Ctrl-C, from the terminal and from the leader: the second one does not break off the clearing up."""
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt(*_: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def written_to(log: Path) -> Iterator[None]:
    """All that this process writes on stdout and stderr is appended to a file: by Python, and by libraries in C."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    kept = [(stream, os.dup(number), number) for stream, number in ((sys.stdout, 1), (sys.stderr, 2))]
    try:
        for stream, _, number in kept:
            stream.flush()
            os.dup2(handle, number)
        yield
    finally:
        for stream, before, number in kept:
            stream.flush()
            os.dup2(before, number)
            os.close(before)
        os.close(handle)


def uses_device(value: Any) -> bool:
    """Whether a stage with these inputs computes with a model here: in process, or by a server that the run starts."""
    if isinstance(value, ModelRef):
        return value.server is None or value.server.same or isinstance(value.server, OwnServer)
    if isinstance(value, Mapping):
        return any(map(uses_device, value.values()))
    if isinstance(value, list | tuple):
        return any(map(uses_device, value))
    slots = getattr(type(value), "__dataclass_fields__", {})
    return any(uses_device(getattr(value, name)) for name in slots)
