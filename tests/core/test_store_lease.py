"""Several processes that need one stage make it once; the lease of a dead one is taken over, and nobody loses work."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from cai.core import lease as leases
from cai.core.durable import HOST, MACHINE
from cai.core.lease import leased
from cai.core.store import Store, read_stage, version

NEEDS = """
import fcntl, os, sys, time
from pathlib import Path
from cai.core import lease
from cai.core.store import Store, version

def no_locks(handle, how):
    raise OSError(95, "Operation not supported")

root, who, waits, locks = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
lease.BEAT, lease.DEAD, lease.POLL = 0.1, float(sys.argv[6]), 0.1

if locks == "no locks":
    fcntl.flock = no_locks

@version(1)
def needed(out, runtime, *, n):
    with open(root / "made", "a") as file:
        file.write(f"{n} {who}\\n")
    (out / "who").write_text(who)
    while waits == "waits" and not (root / f"{who} goes on").exists():
        time.sleep(0.01)
    (out / "more").write_text(who * 1000)

for n in range(int(sys.argv[5])):
    made = Store(root).stage(needed, n=n)
    assert (made / "more").read_text() == (made / "who").read_text() * 1000
"""


def process(root, who, *, waits=False, locks="locks", stages=1, dead=300.0, **more):
    """waits: while it makes a stage, for `goes_on`. dead: seconds, which no pause of the machine may last."""
    given = (root, who, "waits" if waits else "", locks, stages, dead)
    return subprocess.Popen([sys.executable, "-c", NEEDS, *map(str, given)], text=True, **more)


def goes_on(root, who):
    (root / f"{who} goes on").touch()


def told(process, text):
    """Wait until the process says it; what it has said by then."""
    said = ""
    while text not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


def until(there, seconds=60.0):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


def left(root):
    return sorted(path.name.partition(".")[2] for path in (root / "store").iterdir() if "." in path.name)


@pytest.mark.parametrize("locks", ["locks", "no locks"])
def test_processes_that_need_the_same_stages_make_each_once(tmp_path, locks):
    runs = [process(tmp_path, who, locks=locks, stages=8) for who in "abcd"]
    assert [run.wait() for run in runs] == [0] * 4
    made = [line.split()[0] for line in (tmp_path / "made").read_text().splitlines()]
    assert sorted(made) == [str(n) for n in range(8)]
    assert left(tmp_path) == []


def test_one_that_waits_says_for_whom_and_uses_the_result(tmp_path):
    first = process(tmp_path, "first", waits=True)
    until(lambda: (tmp_path / "made").is_file())
    second = process(tmp_path, "second", stderr=subprocess.PIPE)
    told(second, f"is being made by process {first.pid} on this machine: waiting for it")
    goes_on(tmp_path, "first")
    second.communicate()
    assert (first.wait(), second.returncode) == (0, 0)
    assert (tmp_path / "made").read_text() == "0 first\n"


@pytest.mark.parametrize(
    ("locks", "dead", "why"), [("locks", 300.0, "is gone"), ("no locks", 1.5, "gave no sign of life")]
)
def test_a_killed_ones_lease_is_taken_over(tmp_path, locks, dead, why):
    """At once where its lock tells that it is dead; where there are no locks when it was silent for long enough."""
    first = process(tmp_path, "first", waits=True, locks=locks)
    until(lambda: (tmp_path / "made").is_file())
    second = process(tmp_path, "second", locks=locks, dead=dead, stderr=subprocess.PIPE)
    said = told(second, "waiting for it")
    first.send_signal(signal.SIGKILL)
    first.wait()
    start = time.monotonic()
    said += second.communicate()[1]
    assert second.returncode == 0 and why in said and time.monotonic() - start < 100
    assert (tmp_path / "made").read_text() == "0 first\n0 second\n"
    assert len(left(tmp_path)) == (locks == "no locks"), "a partial folder that may be somebody's"


def test_one_that_was_only_asleep_loses_nothing_and_the_first_result_stays(tmp_path):
    """A laptop that is closed: its lease is taken over, it wakes, and goes on to the end with the other's result."""
    sleeper = process(tmp_path, "sleeper", waits=True, locks="no locks")
    until(lambda: (tmp_path / "made").is_file())
    sleeper.send_signal(signal.SIGSTOP)
    other = process(tmp_path, "other", locks="no locks", dead=1.0)
    assert other.wait() == 0
    (stage,) = (path for path in (tmp_path / "store").iterdir() if "." not in path.name)
    before = read_stage(stage).digest
    goes_on(tmp_path, "sleeper")
    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.wait() == 0
    assert (stage / "who").read_text() == "other" and read_stage(stage).digest == before and left(tmp_path) == []


def test_one_that_woke_first_publishes_and_the_other_uses_that(tmp_path):
    """The reverse: the sleeper wakes while the other is at it, and is done before."""
    sleeper = process(tmp_path, "sleeper", waits=True, locks="no locks")
    until(lambda: (tmp_path / "made").is_file())
    sleeper.send_signal(signal.SIGSTOP)
    other = process(tmp_path, "other", waits=True, locks="no locks", dead=1.0)
    until(lambda: "other" in (tmp_path / "made").read_text())
    goes_on(tmp_path, "sleeper")
    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.wait() == 0
    goes_on(tmp_path, "other")
    assert other.wait() == 0
    (stage,) = (path for path in (tmp_path / "store").iterdir() if "." not in path.name)
    assert (stage / "who").read_text() == "sleeper" and left(tmp_path) == []


def test_a_failed_ones_lease_goes_to_the_next(tmp_path):
    @version(1)
    def fails(out, runtime, *, n):
        assert list((tmp_path / "store").glob("*.lease"))
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):
            Store(tmp_path).stage(fails, n=1)
    assert list((tmp_path / "store").iterdir()) == []


def test_threads_of_one_process_make_a_stage_once(tmp_path):
    ran = []

    @version(1)
    def slow(out, runtime, *, n):
        ran.append(n)
        time.sleep(0.1)
        (out / "text").write_text("text")

    threads = [threading.Thread(target=lambda: Store(tmp_path).stage(slow, n=1)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ran == [1]


def test_a_sleep_of_the_one_that_waits_is_no_silence_of_the_other(tmp_path, monkeypatch):
    """Its clock jumps by an hour between two looks: of that it counts two POLLs."""
    now = [0.0]
    jumps = iter([0.0, 3600.0, *[2.0] * 200])
    sleep = lambda _: now.__setitem__(0, now[0] + next(jumps))  # noqa: E731
    monkeypatch.setattr(leases, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    file = tmp_path / "a-0.lease"
    file.write_text("elsewhere-abcdef-7-12345678 anothermachine locked 000000003\n")
    with leased(file) as mine:
        assert file.read_text().startswith(f"{mine.owner} {MACHINE} locked 0")
    assert not file.exists() and 3600 + leases.DEAD - 10 < now[0] < 3600 + leases.DEAD + 5
    assert list(tmp_path.iterdir()) == []


def test_one_that_gives_signs_of_life_is_waited_for_however_long_it_takes(tmp_path, monkeypatch):
    """Every tenth look finds another number, for five times as long as a dead one's."""
    now, looks, file = [0.0], [0], tmp_path / "a-0.lease"
    line = "elsewhere-abcdef-7-12345678 anothermachine locked {:09d}\n"
    file.write_text(line.format(0))

    def sleep(seconds):
        now[0], looks[0] = now[0] + seconds, looks[0] + 1
        if now[0] > 5 * leases.DEAD:
            file.unlink(missing_ok=True)
        elif looks[0] % 10 == 0:
            file.write_text(line.format(looks[0]))

    monkeypatch.setattr(leases, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    with leased(file):
        assert now[0] > 5 * leases.DEAD


def test_a_lease_that_nobody_wrote_into_is_waited_for_and_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "DEAD", 0.2)
    monkeypatch.setattr(leases, "POLL", 0.05)
    (tmp_path / "a-0.lease").touch()  # killed, or a disk that was full, between two calls
    with leased(tmp_path / "a-0.lease"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_dead_ones_lease_that_another_process_has_just_renewed_is_put_back(tmp_path):
    file = tmp_path / "a-0.lease"
    file.write_text("dead m unlocked 1\n")
    dead = leases._look(file)
    with leased(tmp_path / "b-0.lease") as other:
        other.file.rename(file)
        other.file = file
        leases._break(file, dead)
        assert leases._look(file).owner == other.owner
    assert list(tmp_path.iterdir()) == []


def test_a_living_lease_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.02)
    with leased(tmp_path / "a-0.lease") as mine:
        partial = tmp_path / f"a-0.{mine.owner}.partial"
        partial.mkdir()
        os.utime(partial, (0, 0))
        before = mine.file.read_text()
        until(lambda: mine.file.read_text() > before and partial.stat().st_mtime > 0)
        assert mine.owner.startswith(f"{HOST}-{os.getpid()}-")
        with mine.file.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
