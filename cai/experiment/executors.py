"""Where the stages of a run that leads others are made: `runtime.executor`.

ProcessPool   worker processes on this machine, each of which keeps its model between stages
(Ray is in executor_ray.py: tasks on this machine or a cluster.)
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from itertools import count
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Protocol

from cai.config.runtime import Runtime
from cai.core.errors import UserError
from cai.experiment.worker import Orders, StageOutcome, StageTask, interrupt, make

GRACE = 10.0  # seconds that interrupted workers have to clear up
INTERRUPT = {signal.SIGINT}
FEW, EACH = 2, 4  # workers where nobody said how many: at least so many, and one for so many cores


class Died(Exception):
    """A worker is gone, and with it the stage that it was making. str: how it ended."""


class Executor(Protocol):
    """lanes: how many stages run side by side, at most."""

    lanes: int

    def submit(self, task: StageTask) -> Future[StageOutcome]:
        """The future raises Died where the worker is gone."""
        ...

    def end(self) -> None:
        """End all workers; those that are making something clear it up first."""
        ...


def check_executor(runtime: Runtime) -> None:
    """Raises UserError where the package of the executor is not installed."""
    if runtime.executor == "ray" and find_spec("ray") is None:
        remedy = "pip install 'cai[ray]' (from a clone: pip install -e '.[ray]'), or set runtime.executor: processes"
        raise UserError("the package ray is not installed", "runtime.executor", remedy)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cards_of(device: str) -> list[str]:
    """The names of the graphics cards, where `device` leaves open which."""
    if device != "cuda":
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def lanes_of(runtime: Runtime, cpus: int, cards: int) -> int:
    return runtime.workers or cards or max(FEW, cpus // EACH)


def threads_of(runtime: Runtime, cpus: int, lanes: int) -> int | None:
    """Threads of each worker, so that together they have as many as there are cores; None: the user's OMP_NUM_THREADS
    stands."""
    return runtime.threads or (None if "OMP_NUM_THREADS" in os.environ else max(1, cpus // lanes))


def for_worker(runtime: Runtime, device: str, lanes: int, threads: int | None) -> Runtime:
    """As workers have it. device: the leader's, by which it chose what weights are computed in."""
    share = max(1, runtime.concurrency // lanes)  # together they ask servers as one process would
    return runtime.model_copy(update={"device": device, "threads": threads, "concurrency": share})


# Processes ------------------------------------------------------------------------------------------------------------


class ProcessPool:
    """A thread here for each worker there: it hands over a task and waits for what becomes of it.

    cards: the names of graphics cards, which are dealt to the workers in turn; empty where there is one or none.
    """

    def __init__(self, orders: Orders, lanes: int, cards: Sequence[str] = ()) -> None:
        self.lanes, self._orders, self._cards = lanes, orders, list(cards)
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="worker")
        self._own, self._numbers, self._ended = threading.local(), count(), False
        self._all: list[BaseProcess] = []

    def submit(self, task: StageTask) -> Future[StageOutcome]:
        return self._threads.submit(self._hand_over, task)

    def _hand_over(self, task: StageTask) -> StageOutcome:
        process, line = self._worker()
        try:
            line.send((task, self._orders))
            return line.recv()
        except (EOFError, OSError):
            process.join()
            del self._own.worker
            raise Died(_ended_by(process.exitcode)) from None

    def _worker(self) -> tuple[BaseProcess, Connection]:
        """That of this thread; begun anew where the last one died."""
        if not hasattr(self._own, "worker"):
            context, number = get_context("spawn"), next(self._numbers)
            mine, theirs = context.Pipe()
            card = self._cards[number % len(self._cards)] if self._cards else None
            process = context.Process(target=serve, args=(theirs, card))
            resource_tracker.ensure_running()  # `start` would, and would unblock what is blocked here
            signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT)  # the new process has it so until it can clear up
            process.start()
            self._all.append(process)
            theirs.close()  # else nobody would see that the other end is gone
            self._own.worker = (process, mine)
        if self._ended:
            raise Died("the run has ended")
        return self._own.worker

    def end(self) -> None:
        self._ended = True
        for process in self._all:
            with suppress(OSError):  # it has just ended
                if process.pid and process.is_alive():
                    os.kill(process.pid, signal.SIGINT)
        until = time.monotonic() + GRACE
        for process in self._all:
            process.join(max(0.0, until - time.monotonic()))
            process.kill()
        self._threads.shutdown(cancel_futures=True)


def serve(line: Connection, card: str | None) -> None:
    """A worker process: it makes what it is handed until the leader hangs up, is gone, or interrupts it (Ctrl-C)."""
    signal.signal(signal.SIGINT, interrupt)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPT)
        if card is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = card
        threading.Thread(target=_end_with_leader, daemon=True).start()
        while True:
            task, orders = line.recv()
            line.send(make(task, orders))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the leader's, which may come after the terminal's
        sys.exit()


def _end_with_leader() -> None:
    leader = parent_process()
    assert leader
    leader.join()
    os._exit(1)


def _ended_by(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
