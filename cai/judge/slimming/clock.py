"""`python -m cai.judge.slimming.clock JOB`: a process that judges with one model, to be timed and weighed.

Two of them, one for each model, answer by turns: so neither has the other's memory in its own, and what else the
machine does meanwhile slows both. Each loads its model once. It is told a word a line on standard input, and answers
with a line of JSON on standard output; when that input ends, so does it.

    judge       asks about the job's pairs, past every cache: {"seconds": ...}
    read        the job's texts: {"nats": ..., "tokens": ...}, the sum of their tokens' negative log-likelihood
    memory      {"bytes": ...}: the most that it took so far above what the libraries take; null where nobody knows
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.config.runtime import Runtime
from cai.core.errors import UserError
from cai.core.progress import quiet
from cai.core.records import Chat, Pair
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_pairs
from cai.models.chat import chat_ids
from cai.models.engines import Engine, Question, Reading, Reply, Request, Sampling
from cai.models.references import met

WIDEST = 512  # tokens of a text that are read


@dataclass(frozen=True, slots=True)
class TimedJudge:
    """What the process is given. texts: conversations to read. met: folders of models, by which bases are found."""

    judge: AskedJudge
    pairs: tuple[Pair, ...]
    texts: tuple[Chat, ...]
    runtime: Runtime
    device: str
    met: dict[str, str]


# The one who asks -----------------------------------------------------------------------------------------------------


class JudgeProcess:
    """One of the processes, from its start until `stop`."""

    def __init__(self, job: Path, name: str) -> None:
        self.name = name
        command = [sys.executable, "-m", "cai.judge.slimming.clock", str(job)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, word: str) -> dict[str, Any]:
        """Raises UserError where the process is gone: it was killed, most likely for want of memory."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            code = self.process.wait()
            raise UserError(
                f"the process that times {self.name} ended (exit code {code})", "judge.slim",
                "see what it wrote above; where it was killed, two models were too much for this machine's memory",
            ) from None  # fmt: skip

    def stop(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def timed(jobs: dict[str, TimedJudge]) -> Iterator[dict[str, JudgeProcess]]:
    """A process for each job, by its name; all have ended afterwards."""
    running: dict[str, JudgeProcess] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, job in jobs.items():
                file = Path(folder) / name
                file.write_bytes(pickle.dumps(job))
                running[name] = JudgeProcess(file, name)
            yield running
        finally:
            for process in running.values():
                process.stop()


# The process ----------------------------------------------------------------------------------------------------------


@dataclass
class UncachedEngine:
    """As `CachedEngine` is asked, and answered by the model each time."""

    engine: Engine

    def choose(self, questions: Sequence[Question], max_length: int, title: str) -> list[Reading | None]:
        return _in_order(self.engine.choose(questions, max_length), len(questions))

    def generate(self, requests: Sequence[Request], sampling: Sampling, title: str) -> list[Reply | None]:
        return _in_order(self.engine.generate(requests, sampling), len(requests))


def _in_order(batches: Iterator[list[tuple[int, Any]]], count: int) -> list[Any]:
    answers: list[Any] = [None] * count
    for batch in batches:
        for place, answer in batch:
            answers[place] = answer
    return answers


def main(file: Path) -> int:
    answers = os.fdopen(os.dup(1), "w")  # what libraries print is not an answer
    os.dup2(2, 1)
    job: TimedJudge = pickle.loads(file.read_bytes())
    met(job.met)

    quiet()
    import peft  # noqa: F401  (the libraries are there before anything is weighed)
    import torch

    from cai.models.engines.transformers import open_engine

    before = _resident()
    judge = job.judge
    engine: Any = open_engine(
        judge.model, dtype=judge.dtype, system=judge.settings.system, device=job.device, runtime=job.runtime
    )
    for word in sys.stdin:
        answer: dict[str, Any] = {}
        if word.strip() == "judge":
            start = time.perf_counter()
            judge_pairs(UncachedEngine(engine), job.pairs, judge, title="")
            answer = {"seconds": time.perf_counter() - start}
        elif word.strip() == "read":
            rows = [chat_ids(engine.tokenizer, chat, answer=False)[:WIDEST] for chat in job.texts]
            losses = [_loss(engine.model, row) for row in rows if len(row) > 1]
            answer = {"nats": sum(losses), "tokens": sum(len(row) - 1 for row in rows if len(row) > 1)}
        elif word.strip() == "memory":
            on_card = job.device.startswith("cuda")
            answer = {"bytes": torch.cuda.max_memory_allocated() if on_card else _peak_above(before)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def _loss(model: Any, row: list[int]) -> float:
    """Negative log-likelihood of a row's tokens after the first, summed, in nats."""
    import torch

    with torch.inference_mode():
        ids_T = torch.tensor(row, device=model.device)
        logits_TV = model(input_ids=ids_T[None], use_cache=False).logits[0, :-1].float()
        return float(torch.nn.functional.cross_entropy(logits_TV, ids_T[1:], reduction="sum"))


def _resident() -> int:
    import psutil

    return psutil.Process().memory_info().rss


def _peak_above(before: int) -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
