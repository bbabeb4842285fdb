"""Did a training learn anything? Its loss when it began, and when it ended."""

from collections.abc import Sequence
from statistics import fmean

WORSE = 1.5  # times the loss that it began with: far beyond what one batch differs from another
FEWEST = 4  # steps


def ended_worse(losses: Sequence[float | None]) -> tuple[float, float] | None:
    """(mean loss of the first quarter of the steps, of the last) where the last is so much higher that nothing was
    learnt; None where it is not, or there are too few steps to tell. Of cross-entropies, which are never below 0."""
    known = [loss for loss in losses if loss is not None]
    quarter = len(known) // FEWEST
    if not quarter:
        return None
    began, ended = fmean(known[:quarter]), fmean(known[-quarter:])
    return (began, ended) if ended > WORSE * began else None
