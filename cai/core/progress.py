"""Progress on stderr: where there is a screen, a list of stages with bars, rates and the time left; else plain lines.

A `Board` knows the stages of a whole run and how long each was expected to take (cai/experiment/timings.py), or that
nobody knows. What has been seen so far corrects what is still to come: stages of a name that ran by how long those
took, all others by how long stages took on the whole. `progress` is one bar: on the board while there is one, by itself
otherwise. Of stages that other processes make (`lanes` side by side), the board shows the lines that they write.
"""

import re
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

EVERY = 20.0  # seconds between two plain lines of one bar
COMING = 4  # stages to come that are shown by name
STEP = re.compile(r" {4}\S.*: \d+/\d+")  # a plain line of a bar
TRUST = 30.0  # seconds of expected work that count as seen and right: one odd short stage moves little


class Made(Protocol):
    """What a board is told of a stage that is there: an Artifact of cai/core/store.py."""

    @property
    def stage(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def seconds(self) -> float: ...
    @property
    def cached(self) -> bool: ...


@dataclass
class ProgressBar:
    """So many of `total` done since `start`. note: what else there is to say of it, asked whenever it is shown."""

    title: str
    total: int
    start: float
    done: int = 0
    note: Callable[[], str] = str

    def left(self, now: float) -> float | None:
        """Seconds to go at the rate so far; None before there is one."""
        return (now - self.start) / self.done * (self.total - self.done) if self.done else None

    def rate(self, now: float) -> str:
        """`3.1/s`, `4.2 s each`; empty before there is one."""
        if not self.done or now <= self.start:
            return ""
        each = (now - self.start) / self.done
        return f"{each:.1f} s each" if each > 1 else f"{1 / each:.1f}/s"


@dataclass
class Running:
    """A stage that is being made. began: when. seconds: expected. said: how far it is, by its own words."""

    stage: str
    key: str
    began: float
    seconds: float | None
    said: str = ""


@dataclass
class Board:
    """The stages of a run.

    expected: (stage, seconds; 0 where it is there already, None where nobody knows), in the order of the pipeline.
    lanes: how many run side by side.

    began and noted are the store's hooks: before a stage runs, and once for each stage that is there.
    """

    expected: Sequence[tuple[str, float | None]]
    time: Callable[[], float] = time.perf_counter
    lanes: int = 1
    running: list[Running] = field(default_factory=list)
    bar: ProgressBar | None = None
    seen: set[Path] = field(default_factory=set)
    # Seconds, by stage and in all ("").
    took: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    promised: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    unforeseen: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # of which none knew
    live: Any = None

    def __post_init__(self) -> None:
        self.start, self.todo = self.time(), deque(self.expected)

    def began(self, stage: str, key: str) -> None:
        seconds = next((seconds for name, seconds in self.todo if name == stage), 0.0)
        self.running.append(Running(stage, key, self.time(), seconds))
        if not self.live:
            print(f"{self._stamp()} {_words(stage)} ({key[:6]}){self._ahead()}", file=sys.stderr, flush=True)

    def noted(self, made: Made) -> None:
        if made.path in self.seen:
            return
        self.seen.add(made.path)
        entry = next((each for each in self.todo if each[0] == made.stage), None)
        if entry:
            self.todo.remove(entry)
        if made.cached:
            return
        promised = entry[1] if entry else made.seconds
        if promised is None:
            self.unforeseen[made.stage].append(made.seconds)
        else:
            for name in (made.stage, ""):
                self.took[name] += made.seconds
                self.promised[name] += promised
        self.running = [one for one in self.running if f"{one.stage}-{one.key}" != made.path.name]
        self.bar = None
        if self.live:
            self.live.console.print(
                f"{self._stamp()} {_words(made.stage)}: {clock(made.seconds)}", highlight=False, markup=False
            )

    def lost(self, stage: str, key: str) -> None:
        """A stage that was being made will not be: it failed, or whoever made it is gone."""
        self.running = [one for one in self.running if (one.stage, one.key) != (stage, key)]

    def said(self, stage: str, key: str, line: str) -> None:
        """A line that another process wrote while it made a stage."""
        if STEP.match(line):
            for one in self.running:
                one.said = line.strip() if (one.stage, one.key) == (stage, key) else one.said
            if self.live:
                return
        self.tell(f"    {_words(stage)}: {line.strip()}")

    def tell(self, line: str) -> None:
        if self.live:
            self.live.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def left(self) -> list[float | None]:
        """Seconds that are still to go, of each stage to come and the running ones; None where nobody knows."""
        coming, now = self._coming(), self.time()
        by_rate = self.bar.left(now) if self.bar and self.bar.done >= 0.1 * self.bar.total else None
        rest: list[float | None] = []
        for one in self.running:
            whole = self._corrected(one.stage, one.seconds)
            rest.append(None if whole is None else max(0.0, whole - now + one.began))
        if self.running and by_rate is not None:  # a bar is that of this process, which makes one stage at a time
            rest[-1] = by_rate
        return rest + [self._corrected(name, seconds) for name, seconds in coming]

    def _coming(self) -> list[tuple[str, float | None]]:
        """The stages that neither are there nor run."""
        coming = list(self.todo)
        for one in self.running:
            here = next((each for each in coming if each[0] == one.stage), None)
            if here:
                coming.remove(here)
        return coming

    def _corrected(self, stage: str, seconds: float | None) -> float | None:
        if seconds is None:  # as the others of its name, once there are some
            seen = self.unforeseen[stage]
            return sum(seen) / len(seen) if seen else None
        if self.promised[stage]:
            return seconds * self.took[stage] / self.promised[stage]
        return seconds * (self.took[""] + TRUST) / (self.promised[""] + TRUST)

    def _stamp(self) -> str:
        minutes, seconds = divmod(int(self.time() - self.start), 60)
        return f"[{minutes:02d}:{seconds:02d}]"

    def _ahead(self) -> str:
        """`; 3 of 27, about 12 min left`: the stage that began last is the third."""
        if not self.expected:
            return ""
        place = len(self.expected) - len(self.todo) + max(1, len(self.running))
        left = [None if seconds is None else seconds / self.lanes for seconds in self.left()]
        return f"; {min(place, len(self.expected))} of {len(self.expected)}, {total(left)} left"

    # --- on a screen --------------------------------------------------------------------------------------------------

    def __enter__(self) -> "Board":
        global _board
        _board = self
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(
                get_renderable=self.page, console=Console(stderr=True), transient=True, refresh_per_second=4
            )
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        global _board
        _board = None
        if self.live:
            self.live.stop()
            self.live = None

    def page(self) -> Any:
        """What the screen shows: the running stages, each with its bar or words, the next ones, and the whole."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table, now = Table.grid(padding=(0, 2)), self.time()
        coming, bar = self._coming(), self.bar
        for one in self.running:
            cells: list[Any] = [clock(now - one.began), one.said, ""]
            if bar and one is self.running[-1]:
                rest = bar.left(now)
                about = "" if rest is None else f"{clock(rest)} left"
                how = "  ".join(filter(None, (f"{bar.done}/{bar.total}", bar.rate(now), bar.note())))
                cells = [ProgressBar(bar.total, bar.done, width=24), how, about]
            table.add_row(f"> {_words(one.stage)}", *cells, style="bold")
        ahead = [(name, self._corrected(name, seconds)) for name, seconds in coming if seconds != 0]
        for name, seconds in ahead[:COMING]:
            table.add_row(f"  {_words(name)}", total([seconds]), style="dim")
        if ahead[COMING:]:
            table.add_row(f"  and {len(ahead) - COMING} more", total([each for _, each in ahead[COMING:]]), style="dim")
        table.add_row(f"{self._stamp()}{self._ahead().replace(';', '')}")
        return table


_board: Board | None = None  # the one on the screen; stages know nothing of it
# In a process that trains for another one (cai/train/rank.py): tells that one of a bar, and gives what moves it.
relay: Callable[[str, int], Callable[[int], None]] | None = None


@contextmanager
def progress(title: str, total: int, note: Callable[[], str] = str) -> Iterator[Callable[[int], None]]:
    """`with progress("label", 300) as step: ... step(8)`. Everything goes to stderr, results to stdout.

    note: what is shown beside the bar, asked anew each time.
    """
    if not total:
        yield lambda done: None
    elif relay:
        yield relay(title, total)
    elif _board:
        bar = _board.bar = ProgressBar(title, total, _board.time(), note=note)
        yield _shown(bar) if _board.live else _lines(bar, _board.time)
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        what, more = TextColumn("  {task.description:<28}"), TextColumn("{task.fields[note]}")
        columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), more)
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(title, total=total, note="")
            yield lambda done: bars.update(task, advance=done, note=note())
    else:
        yield _lines(ProgressBar(title, total, time.monotonic(), note=note), time.monotonic)


def _shown(bar: ProgressBar) -> Callable[[int], None]:
    def step(done: int) -> None:
        bar.done += done

    return step


def _lines(bar: ProgressBar, clock_: Callable[[], float]) -> Callable[[int], None]:
    shown = bar.start

    def step(done: int) -> None:
        nonlocal shown
        bar.done += done
        now = clock_()
        if now - shown >= EVERY and bar.done < bar.total:
            left = bar.left(now)
            about = "" if left is None else f", about {left:.0f} s left"
            more = f" ({note})" if (note := bar.note()) else ""
            print(f"    {bar.title}: {bar.done}/{bar.total}{about}{more}", file=sys.stderr, flush=True)
            shown = now

    return step


def clock(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def total(seconds: Sequence[float | None]) -> str:
    """`about 12 min`; `at least 12 min, 3 stages unknown`; `unknown` where nothing else is left."""
    known, unknown = sum(each or 0.0 for each in seconds), sum(each is None for each in seconds)
    if not unknown:
        return f"about {clock(known)}"
    if not known:
        return "unknown"
    return f"at least {clock(known)}, {unknown} stage{'s' * (unknown > 1)} unknown"


def _words(stage: str) -> str:
    return stage.replace("_", " ")


def quiet() -> None:
    """Our own progress bars tell what goes on; the libraries' load bars and advice do not."""
    import logging
    import warnings

    import transformers

    # A level that is set, be it the same, makes logging forget what it knows of every logger.
    if transformers.utils.logging.get_verbosity() != logging.ERROR:
        transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in ("trl", "peft", "accelerate", "datasets", "torchao", "torch.utils._pytree"):
        if (logger := logging.getLogger(name)).level != logging.ERROR:
            logger.setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="(trl|peft|torch|transformers|accelerate).*")
    import datasets

    datasets.disable_progress_bars()
