"""`executor: ray`: each stage is a task of Ray, on this machine or on a cluster that runs.

Which machine makes a stage is Ray's decision, by what the task needs (`runtime.task`). All machines share the store,
the folder in which the run was begun, and the code. Worker processes are kept by Ray between tasks, and with them their
model; those that use a GPU end with their task, so that its memory is free for the next one (Ray's own default).

https://docs.ray.io/en/latest/ray-core/scheduling/resources.html, .../ray-core/fault_tolerance/tasks.html
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from cai.config.runtime import Runtime
from cai.core.errors import UserError
from cai.experiment.executors import GRACE, Died, cores, lanes_of
from cai.experiment.worker import Orders, StageOutcome, StageTask, make, uses_device

LOCAL = "local"
PATIENCE = 10.0  # seconds in which a cluster must answer
FORWARDED = (
    "CAI_",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "PYTHONPATH",
)  # of the environment; keys of servers are not, see below


class OnRay:
    """Raises UserError where the cluster is not reached, or has no machine for such tasks.

    Ray shows the environment that it hands on to whoever looks at the cluster: so keys are not among it, and workers
    must have them in their own.
    """

    def __init__(self, runtime: Runtime, device: str) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is told to anybody
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of tasks without a GPU
        import ray  # pyrefly: ignore

        self._ray, self._running = ray, dict[Future, StageTask]()
        self.address = runtime.ray or os.environ.get("RAY_ADDRESS") or LOCAL
        self._connect(runtime)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus = int(sum(node.get("CPU", 0) for node in nodes))
        self.gpus = runtime.task.gpus if runtime.task.gpus is not None else float(device.startswith("cuda"))
        cards = int(sum(node.get("GPU", 0) for node in nodes) / self.gpus) if self.gpus else 0
        self.lanes = lanes_of(runtime, cpus, cards)
        self.cpus = runtime.task.cpus or runtime.threads or max(1, cpus // self.lanes)
        if not any(node.get("CPU", 0) >= self.cpus and node.get("GPU", 0) >= self.gpus for node in nodes):
            self._ray.shutdown()
            largest = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), default={})
            raise UserError(
                f"no machine has {self.cpus} CPUs and {self.gpus:g} GPUs for a stage: the largest has "
                f"{largest.get('CPU', 0):g} and {largest.get('GPU', 0):g}",
                "runtime.task", "ask for less: runtime.task: {cpus: 4, gpus: 1}",
            )  # fmt: skip
        faults = ray.exceptions
        deaths = (faults.WorkerCrashedError, faults.NodeDiedError, faults.OutOfMemoryError, faults.LocalRayletDiedError)
        self._faults = {**dict.fromkeys(deaths, died), faults.RayTaskError: unread}

    def _connect(self, runtime: Runtime) -> None:
        environment = {name: text for name, text in os.environ.items() if name.startswith(FORWARDED)}
        own: dict[str, Any] = {"include_dashboard": False}
        if self.address == LOCAL:  # so many tasks as were asked for, whatever this machine has
            own["num_cpus"] = max(cores(), runtime.workers or 1)
        try:
            knock(self.address)
            self._ray.init(
                self.address, runtime_env={"env_vars": environment}, log_to_driver=False, configure_logging=True,
                logging_level=logging.ERROR, **(own if self.address == LOCAL else {}),
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            where = "runtime.ray" if runtime.ray else "RAY_ADDRESS" if self.address != LOCAL else "runtime.executor"
            remedy = "start a cluster (ray start --head) and name its address, or leave it out for this machine alone"
            raise UserError(f"Ray is not reached at {self.address}: {reason}", where, remedy) from None

    def lead(self, orders: Orders) -> "OnRay":
        self._orders = self._ray.put(orders)
        return self

    def submit(self, task: StageTask) -> Future[StageOutcome]:
        asks: dict[str, Any] = {"num_cpus": 1}
        if uses_device(task.inputs):
            asks = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        # Who counts the tries is side_by_side.py, for all executors alike.
        remote = self._ray.remote(make).options(**asks, max_retries=0, name=task.name)
        future = remote.remote(task, self._orders).future()
        self._running[future] = task
        future.add_done_callback(lambda done: self._running.pop(done))
        return told(future, self._faults)

    def end(self) -> None:
        leases = [task.wanted.path.with_name(f"{task.name}.lease") for task in self._running.values()]
        for future in [*self._running]:
            with suppress(Exception):
                self._ray.cancel(future.object_ref)  # pyrefly: ignore
        # Ray says at once that a task is cancelled: its worker clears up for a while longer.
        until = time.monotonic() + GRACE
        while any(lease.exists() for lease in leases) and time.monotonic() < until:
            time.sleep(0.1)
        self._ray.shutdown()


def knock(address: str) -> None:
    """Raises OSError where nobody listens: Ray itself takes minutes to say so."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()


def told(theirs: Future, faults: Mapping[type[Exception], Callable[[Exception], Exception]]) -> Future[StageOutcome]:
    """The same future, with what Ray says of its faults in words of ours."""
    ours: Future[StageOutcome] = Future()

    def done(_: Future) -> None:
        try:
            ours.set_result(theirs.result())
        except BaseException as error:
            known = next((say for kind, say in faults.items() if isinstance(error, kind)), None)
            ours.set_exception(known(error) if known and isinstance(error, Exception) else error)

    theirs.add_done_callback(done)
    return ours


def died(error: Exception) -> Died:
    return Died((str(error).strip() or type(error).__name__).splitlines()[0])


def unread(error: Exception) -> UserError:
    """`make` raises nothing itself: it was not reached."""
    why = str(error).strip().splitlines()[-1].strip()
    remedy = "install the same version of cai, and of what it needs, on all machines of the cluster"
    return UserError(f"a worker of Ray could not begin: {why}", "runtime.executor", remedy)
