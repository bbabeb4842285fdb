"""Progress on the terminal: a bar with an estimate where there is a screen, a line now and then where there is none."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """`with progress("label", 300) as step: ... step(8)`. Everything goes to stderr, results to stdout."""
    if not total:
        yield lambda done: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("  {task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            bar = bars.add_task(title, total=total)
            yield lambda done: bars.advance(bar, done)
    else:
        yield _lines(title, total)


def _lines(title: str, total: int, every: float = 20.0) -> Callable[[int], None]:
    start = shown = time.monotonic()
    count = 0

    def step(done: int) -> None:
        nonlocal count, shown
        count += done
        now = time.monotonic()
        if now - shown >= every and count < total:
            left = (now - start) / max(count, 1) * (total - count)
            print(f"    {title}: {count}/{total}, about {left:.0f} s left", file=sys.stderr, flush=True)
            shown = now

    return step


def quiet() -> None:
    """Our own progress bars tell what goes on; the libraries' load bars and advice do not."""
    import logging
    import warnings

    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in ("trl", "peft", "accelerate", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="(trl|peft|torch|transformers|accelerate).*")
    import datasets

    datasets.disable_progress_bars()
