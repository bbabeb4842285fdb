"""A pipeline of toy stages, for what stages side by side do: workers import it by its name."""

import os
import signal
import sys
import time
from pathlib import Path

from cai.core.errors import UserError
from cai.core.store import version


@version(1)
def number(out, runtime, *, n):
    (out / "n").write_text(str(n))


@version(1)
def add(out, runtime, *, parts, place=""):
    """place: a folder in which it writes down that it ran."""
    if place:
        with (Path(place) / "made").open("a") as file:
            file.write(f"{[part.path.name for part in parts]} {os.getpid()}\n")
    (out / "n").write_text(str(sum(int((part / "n").read_text()) for part in parts)))


@version(1)
def meet(out, runtime, *, me, other, place):
    """Done only when another one runs at the same time."""
    (Path(place) / me).touch()
    until = time.monotonic() + 300
    while not (Path(place) / other).exists():
        assert time.monotonic() < until, "alone"
        time.sleep(0.01)
    (out / "n").write_text("1")


@version(1)
def slow(out, runtime, *, place, seconds, after=False):
    """after: `fails` has failed."""
    (Path(place) / "slow").write_text(str(os.getpid()))
    while after and (not (Path(place) / "slow.failing").exists() or list(out.parent.glob("fails-*.lease"))):
        time.sleep(0.01)
    until = time.monotonic() + seconds
    while time.monotonic() < until:  # by steps: Ray interrupts between two lines of Python alone
        time.sleep(0.02)
    (out / "n").write_text("1")


@version(1)
def killed(out, runtime, *, place, times):
    """It kills its own process so often."""
    file = Path(place) / "killed"
    before = len(file.read_text()) if file.exists() else 0
    if before < times:
        file.write_text("x" * (before + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    (out / "n").write_text("1")


@version(1)
def fails(out, runtime, *, how, wait=""):
    """wait: for this file."""
    if wait:
        Path(f"{wait}.failing").touch()
    while wait and not Path(wait).exists():
        time.sleep(0.01)
    if how == "user":
        raise UserError("it cannot be", "toys.yaml:3: key", "let it be")
    if how == "disk":
        raise OSError(28, "No space left on device", "/full")
    raise ValueError("a mistake of ours")


@version(1)
def speaks(out, runtime, *, n):
    print("note: all of them say so", file=sys.stderr)
    print(f"mine is {n}", file=sys.stderr, flush=True)
    os.write(2, b"as libraries in C do\n")
    print("    asked: 3/9, about 5 s left", file=sys.stderr)
    (out / "n").write_text("1")


@version(1)
def reads_constitution(out, runtime, *, path):
    (out / "text").write_text(runtime.constitution(path).text)
    (out / "threads").write_text(f"{os.environ.get('OMP_NUM_THREADS')} {runtime.runtime.concurrency}")
