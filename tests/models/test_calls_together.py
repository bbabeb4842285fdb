"""Processes that need the same answers at the same time ask the model little twice, and lose nothing to a kill."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import fcntl, sys, time
from pathlib import Path
from fakes import FakeEngine, ask
from cai.models.calls import CallCache
from cai.models.engines import Request, Sampling
from cai.models.engines.cached import CachedEngine

def no_locks(handle, how):
    raise OSError(95, "Operation not supported")

if sys.argv[2] == "no locks":
    fcntl.flock = no_locks

class Slow(FakeEngine):
    def _batches(self, count):
        for batch in super()._batches(count):
            time.sleep(0.004)
            yield batch

fake = Slow(batch=4)
cache = CallCache(Path(sys.argv[1]))
engine = CachedEngine(lambda: fake, "fake", fake.prompt_ids, cache, len)
print("begins", flush=True)
requests = [Request(ask("word " * (n % 7) + str(n)), n) for n in range(600)]
replies = engine.generate(requests, Sampling(8), "answers")
assert [reply.text for reply in replies] == ["word " * (n % 7) + f"{n} {n}" for n in range(600)]
assert engine.asked + engine.found == 600 and engine.asked == sum(map(len, fake.asked))
print(engine.asked)
"""


def begin(folder: Path, locks: str) -> subprocess.Popen:
    path = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
    command = [sys.executable, "-c", path + SCRIPT, str(folder / "calls"), locks]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None and started.stdout.readline() == "begins\n"
    return started


def asked(started: subprocess.Popen) -> int:
    told = started.communicate()[0]
    assert started.returncode == 0
    return int(told)


@pytest.mark.parametrize("locks", ["locks", "no locks"])
def test_two_that_need_the_same_answers_share_the_work(tmp_path: Path, locks: str) -> None:
    first = begin(tmp_path, locks)  # the second is later by its imports
    counts = [asked(one) for one in (first, begin(tmp_path, locks))]
    assert 600 <= sum(counts) < 1000, "each alone asks 600"


def test_when_one_of_two_is_killed_the_other_asks_the_rest(tmp_path: Path) -> None:
    first, second = begin(tmp_path, "locks"), begin(tmp_path, "locks")
    time.sleep(0.3)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert asked(second) <= 600


def test_one_alone_asks_all_at_once(tmp_path: Path) -> None:
    assert asked(begin(tmp_path, "locks")) == 600
    assert asked(begin(tmp_path, "locks")) == 0
