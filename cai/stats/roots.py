"""Where a function is 0. `scipy.optimize` says the same to the last bit, and is slow to load."""

from collections.abc import Callable
from math import copysign

NEAR, NEARER = 2e-12, 4 * 2.220446049250313e-16  # of a root: this far, and this share of it
MOST = 100  # steps


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """A root between two places at which the function has opposite signs (Brent 1973, chapter 4, as in scipy's brentq).

    Each step goes where a line through the last two places, or a hyperbola through three, is 0, and halves the span
    where that would go too far.
    """
    before, now, across = float(low), float(high), 0.0
    f_before, f_now, f_across = function(before), function(now), 0.0
    if f_before == 0 or f_now == 0:
        return before if f_before == 0 else now
    assert _opposite(f_before, f_now), (low, f_before, high, f_now)
    last = step = 0.0
    for _ in range(MOST):
        # 1. The root lies between `now` and `across`; of the two, the function is nearer to 0 at `now`.
        if f_before != 0 and f_now != 0 and _opposite(f_before, f_now):
            across, f_across, last = before, f_before, now - before
            step = last
        if abs(f_across) < abs(f_now):
            before, now, across = now, across, now
            f_before, f_now, f_across = f_now, f_across, f_now
        near, half = (NEAR + NEARER * abs(now)) / 2, (across - now) / 2
        if f_now == 0 or abs(half) < near:
            return now

        # 2. A step by the line or the hyperbola, where it is shorter than half of the one before last.
        tried = None
        if abs(last) > near and abs(f_now) < abs(f_before):
            if before == across:
                tried = -f_now * (now - before) / (f_now - f_before)
            else:
                rise, fall = (f_before - f_now) / (before - now), (f_across - f_now) / (across - now)
                tried = -f_now * (f_across * fall - f_before * rise) / (fall * rise * (f_across - f_before))
        short = tried is not None and 2 * abs(tried) < min(abs(last), 3 * abs(half) - near)
        last, step = (step, tried) if tried is not None and short else (half, half)
        before, f_before = now, f_now
        now += step if abs(step) > near else near if half > 0 else -near
        f_now = function(now)
    raise AssertionError(f"no root was found between {low} and {high}")


def _opposite(one: float, other: float) -> bool:
    return copysign(1, one) != copysign(1, other)
