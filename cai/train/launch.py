"""A stage that trains, in several processes: the run stays one process, which starts them with accelerate.

    cai.experiment ── accelerate launch ─┬─ cai.train.rank JOB     rank 0 writes into the stage's folder
                                         └─ cai.train.rank JOB     the others write into a folder that is thrown away

    runs/ranks/<stage>-<key>.<owner>/    the job and the ranks' logs while they run; logs of those that failed stay

The stage's function runs in each rank as it would here, with the same inputs; what tells it how many there are is the
launcher's environment (cai/train/shares.py). When the ranks are done, this process finishes the stage as any other.
A rank that dies takes the others with it, and all die with this process.
"""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cai.config.load import Arm
from cai.config.runtime import Runtime
from cai.core.durable import make_folders
from cai.core.errors import UserError
from cai.core.progress import progress
from cai.core.shipped import HOME, locate
from cai.models.workbench import Workbench
from cai.train.shares import split

PLAIN = "experiments/accelerate/ddp.yaml"
POLL = 0.1  # seconds between two looks at the ranks
GRACE = 10.0  # seconds that they have to end when they are told to
ENDED = re.compile(r"rank\s+: (\d+) .*\n\s+exitcode\s+: (-?\d+)")  # in the report of torch's launcher, the cause last
START = "import sys; from cai.train.rank import tie; tie(int(sys.argv.pop(1))); " \
        "from accelerate.commands.launch import main; main()"  # fmt: skip


@dataclass(frozen=True, slots=True)
class RankJob:
    """What each rank is told. module, stage: the function's. work: as in `Workbench`; runtime: without processes."""

    module: str
    stage: str
    out: Path
    inputs: Mapping[str, Any]
    root: Path
    runtime: Runtime
    device: str
    constitutions: Mapping[str, Any]


def launched(stage: Callable[..., None]) -> Callable[..., None]:
    """A stage that trains: in as many processes as `runtime` says. Its name, its version and its key are its own."""

    @wraps(stage)
    def run(out: Path, work: Workbench, **inputs: Any) -> None:
        runtime = work.runtime
        if runtime.ranks == 1 and runtime.accelerate is None:
            stage(out, work, **inputs)
        else:
            in_ranks(stage, out, work, inputs)

    return run


def refuse_bare_ranks() -> None:
    """A program that was itself started once for each device would do all its work as many times. Raises UserError."""
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 and "RANK" in os.environ:
        number = os.environ["WORLD_SIZE"]
        raise UserError(
            f"this is one of {number} processes that torchrun or accelerate started, and a run is one process",
            "",
            f"start it with plain python and set runtime.processes: {number}; it starts processes where it trains",
        )


def check_ranks(runtime: Runtime) -> None:
    """Can so many processes train here? Raises UserError. Imports torch where it depends on the machine."""
    if runtime.ranks == 1:
        number = runtime.device.removeprefix("cuda:")
        if number not in (runtime.device, "0"):
            problem = f"trainers compute on the first card that a process sees, and {runtime.device} is another"
            raise UserError(problem, "runtime.device", f"write cuda, and set CUDA_VISIBLE_DEVICES={number}")
        return
    key = "runtime.processes" if runtime.processes else "runtime.accelerate"
    if runtime.device not in ("auto", "cpu", "cuda"):
        problem = f"{runtime.ranks} processes cannot train on the one device {runtime.device}"
        raise UserError(problem, "runtime.device", "set it to cuda, cpu or auto")
    if runtime.device == "cpu":
        return
    import torch

    cards = torch.cuda.device_count()
    if cards and runtime.ranks > cards:
        problem = f"{runtime.ranks} processes need as many GPUs, and there {'is 1' if cards == 1 else f'are {cards}'}"
        raise UserError(problem, key, f"set {key} to at most {cards}, or runtime.device: cpu")
    if not cards and torch.backends.mps.is_available() and runtime.device == "auto":
        raise UserError("several processes cannot train on one mps device", key, "set runtime.device: cpu")


def shares_of(arm: Arm, runtime: Runtime) -> list[Callable[[], object]]:
    """Can processes have equal shares of an arm's batches? Each raises UserError where not."""
    sizes = {"sft": arm.sft.batch_size}
    sizes |= {"reward": arm.reward.batch_size} if arm.rl.reads_rewards else {}
    sizes |= {"rl": arm.rl.batch_size} if arm.rl.trains else {}
    sizes |= {"evaluate.harmfulness": arm.evaluate.harmfulness.batch_size} if arm.evaluate.harmfulness else {}
    return [partial(split, size, runtime, f"{at}.batch_size", runtime.ranks) for at, size in sizes.items()]


# --- The parent -------------------------------------------------------------------------------------------------------


def in_ranks(stage: Callable[..., None], out: Path, work: Workbench, inputs: Mapping[str, Any]) -> None:
    """Run a stage in its ranks. Raises UserError where one of them fails."""
    runtime, name = work.runtime, out.name.removesuffix(".partial")
    work.release()
    folder = (work.root / "ranks" / name).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    make_folders(folder)
    job = RankJob(
        module=stage.__module__, stage=stage.__name__, out=out, inputs=dict(inputs), root=work.root,
        runtime=runtime.model_copy(update={"processes": None, "accelerate": None}),
        device=work.device, constitutions=dict(work.constitutions),
    )  # fmt: skip
    (folder / "job").write_bytes(pickle.dumps(job))
    with (folder / "launcher.log").open("wb") as log, _tied(_command(folder, runtime), log) as process:
        for _ in _shown(folder, process):
            time.sleep(POLL)
    if process.returncode:
        (folder / "job").unlink()
        raise _failure(folder, stage.__name__, runtime)
    with suppress(FileNotFoundError):
        counts = json.loads((folder / "counts").read_text())
        work._made.append(SimpleNamespace(**counts))  # pyrefly: ignore
    for each in folder.parent.glob(f"{name.partition('.')[0]}.*"):
        if each == folder or not (each / "job").exists():  # what failed before; else another process is at it
            shutil.rmtree(each, ignore_errors=True)


def _command(folder: Path, runtime: Runtime) -> list[str]:
    """accelerate's launcher, which dies with this process; on a free port, as several runs may train at one time."""
    file = locate(runtime.accelerate) if runtime.accelerate else HOME / PLAIN  # never the user's own default
    how = ["--config_file", str(file), "--num_processes", str(runtime.ranks), "--main_process_port", "0"]
    return [sys.executable, "-c", START, str(os.getpid()), *how, "-m", "cai.train.rank", str(folder)]


@contextmanager
def _tied(command: list[str], log: Any) -> Iterator[subprocess.Popen]:
    """A process in a group of its own, which is gone afterwards, whatever happens."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        for end in (signal.SIGTERM, signal.SIGKILL):  # on the first, the launcher ends the ranks
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, end)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)


def _shown(folder: Path, process: subprocess.Popen) -> Iterator[None]:
    """While the ranks run, and once more: pass on what rank 0 prints, and show its progress as this process's own."""
    printed, events = _Tail(folder / "rank-0.log"), _Tail(folder / "progress")
    bar: Callable[[int], None] | None = None
    with ExitStack() as stack:
        while True:
            running = process.poll() is None
            sys.stderr.write("".join(printed.lines()))
            for event in map(json.loads, events.lines()):
                if "title" in event:
                    stack.close()
                    bar = stack.enter_context(progress(event["title"], event["total"]))
                elif bar:
                    bar(event["done"])
            if not running:
                return
            yield


@dataclass
class _Tail:
    """A file that grows."""

    file: Path
    read: int = 0

    def lines(self) -> list[str]:
        """The whole lines that came since the last time."""
        with suppress(FileNotFoundError), self.file.open("rb") as file:
            file.seek(self.read)
            whole = file.read().rpartition(b"\n")[0]
            if whole:
                self.read += len(whole) + 1
                return [f"{line}\n" for line in whole.decode("utf-8", "replace").split("\n")]
        return []


def _failure(folder: Path, stage: str, runtime: Runtime) -> UserError:
    """What a rank said, if it was the user's fault or the machine's; else which one died, and of what."""
    told = sorted(folder.glob("fault-*"), key=lambda file: file.stat().st_mtime_ns)
    if told:
        return UserError(**json.loads(told[0].read_text()))
    ended = [(int(rank), int(code)) for rank, code in ENDED.findall((folder / "launcher.log").read_text())]
    killed = [each for each in ended if each[1] < 0 and each[1] != -signal.SIGTERM]  # which the launcher sends the rest
    number, remedy = runtime.ranks, "what is finished is kept: run the same command again, with fewer processes or {}"
    remedy = remedy.format("a smaller runtime.micro_batch if memory ran out")
    for rank, code in [*killed, *ended[-1:]][:1]:
        file = folder / f"rank-{rank}.error"  # of what Python raised
        file = file if file.is_file() else file.with_suffix(".log")
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
        return UserError(f"rank {rank} of {number} {how} in {stage}{_last_line(file)}", str(file), remedy)
    file = folder / "launcher.log"
    return UserError(f"the {number} processes of {stage} could not be started{_last_line(file)}", str(file), remedy)


def _last_line(file: Path) -> str:
    lines = [line.strip() for line in file.read_text(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""
