"""`python -m cai.train.rank FOLDER`: one of the processes that train a stage together; see cai/train/launch.py."""

import ctypes
import json
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from cai.core import progress
from cai.core.errors import UserError, fault_of_machine
from cai.models.workbench import Workbench
from cai.train.launch import RankJob

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tie(parent: int) -> None:
    """Let this process be killed when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has died meanwhile
        os._exit(1)


def main(folder: Path) -> int:
    """Run the stage of the job that lies in `folder`. Returns the exit code."""
    rank = int(os.environ["RANK"])
    tie(os.getppid())
    log = os.open(folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # every rank warns of what DDP need not have looked for
    job: RankJob = pickle.loads((folder / "job").read_bytes())
    out = job.out
    if rank:  # what it writes is what rank 0 writes, too
        out = folder / f"rank-{rank}" / out.name
        out.mkdir(parents=True)
    else:
        progress.relay = _teller(folder / "progress")
    try:
        work = _workbench(job)
        getattr(import_module(job.module), job.stage)(out, work, **job.inputs)
        _leave()
    except Exception as error:
        fault = error if isinstance(error, UserError) else fault_of_machine(error)
        if fault is None:  # not onto the screen: of several that fail, all but one fail because of that one
            (folder / f"rank-{rank}.error").write_text("".join(traceback.format_exception(error)))
            return 1
        _fault(folder / f"fault-{rank}", fault)
        return 2
    if not rank:
        kinds = ("asked", "found", "read", "written")
        counts = {kind: sum(getattr(engine, kind) for engine in work._made) for kind in kinds}
        (folder / "counts").write_text(json.dumps(counts))
    return 0


def _workbench(job: RankJob) -> Workbench:
    """On this rank's own device, before anything is loaded: "cuda" would be the first card for all."""
    if job.device.startswith("cuda"):
        import torch

        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return Workbench(job.root, job.runtime, job.device, dict(job.constitutions))


def _leave() -> None:
    """Together, when all have written."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def _fault(file: Path, error: UserError) -> None:
    where, remedy = error.where, error.remedy
    problem = str(error) if type(error) is not UserError else error.problem  # several at once are a text
    aside = file.with_name(f".{file.name}")
    aside.write_text(json.dumps({"problem": problem, "where": where, "remedy": remedy}))
    aside.rename(file)


def _teller(file: Path) -> Callable[[str, int], Callable[[int], None]]:
    """Progress for the process that has the screen: a line a bar, and a line a step."""

    def write(event: dict[str, Any]) -> None:
        with file.open("a") as lines:
            lines.write(json.dumps(event) + "\n")

    def bar(title: str, total: int) -> Callable[[int], None]:
        write({"title": title, "total": total})
        return lambda done: write({"done": done})

    return bar


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
