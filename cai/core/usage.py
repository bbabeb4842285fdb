"""What a stage takes of the machine, beside time: the processor's seconds and the most memory that it held."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PEAK = "VmHWM:"  # of /proc/self/status, in kB: the most that the process held since it was last set back
_most = [0]  # bytes, of the spans that were set back


@contextmanager
def used() -> Iterator[dict[str, float]]:
    """Within: the machine's use is counted. What is yielded is filled at the end, by what can be known here.

    seconds: by the clock. cpu: seconds, of all threads of this process and of the processes that it started and that
    have ended.
    memory: bytes that this process held at most (resident), its libraries and what it had before included; where the
    system keeps that of a span of time (Linux). card: bytes that torch had in use at most on its graphics card.
    """
    usage: dict[str, float] = {}
    start, before, card, fresh = time.perf_counter(), _cpu(), _card(), _forget_peak()
    if card:
        card.reset_peak_memory_stats()
    try:
        yield usage
    finally:
        usage["seconds"] = time.perf_counter() - start
        usage["cpu"] = round(_cpu() - before, 3)
        if fresh and (peak := _peak()):
            usage["memory"] = peak
        if card := _card():
            usage["card"] = card.max_memory_allocated()


def _cpu() -> float:
    each = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in each)


def most_memory() -> int | None:
    """Bytes that this process has held at most since it began; None where the system does not keep that (not Linux).

    What `getrusage` calls the maximum is that since the peak was last set back, and so too little after `used`.
    """
    peak = _peak()
    return None if peak is None else max(peak, *_most)


def _forget_peak() -> bool:
    """Whether the peak begins anew from what the process holds now."""
    _most[:] = [most_memory() or 0]
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return True
    return False


def _peak() -> int | None:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(PEAK):
                return int(line.split()[1]) * 1024
    return None


def _card() -> Any:
    """torch.cuda where this process has used it; nothing is imported, and no card is woken."""
    torch: Any = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda and cuda.is_initialized() else None
