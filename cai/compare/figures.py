"""What is drawn, in its own units: strips of dots in rows, and series of points on two axes. Places are per cent."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, log, log10

Ends = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """From one end to the other, with (value, text) of each tick. unit "%": the values are shares."""

    title: str
    ends: Ends
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where a value stands: per cent of the way from the low end to the high one; what is beyond stays at it."""
        low, high, value = (log(x) if self.logarithmic else x for x in (*self.ends, value))
        return round(min(101.0, max(-1.0, 100 * (value - low) / (high - low))), 2)

    @property
    def widest(self) -> int:
        """Characters of the longest text of a tick."""
        return max((len(text) for _, text in self.ticks), default=0)

    def span(self, low: float, high: float) -> Ends:
        """(start, length) of what reaches from low to high, cut at the ends of the axis; per cent."""
        start, end = (min(100.0, max(0.0, self.at(x))) for x in (low, high))
        return start, round(end - start, 2)


@dataclass(frozen=True, slots=True)
class Mark:
    """A dot of a strip. reach: of its interval; text: what is said of it."""

    value: float
    reach: Ends | None
    text: str
    colour: str = "--ink"
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class Strip:
    """The marks of a row, one below the other, on one axis. null: a dashed line; band: shaded."""

    axis: Axis
    marks: tuple[Mark, ...]
    null: float | None = None
    band: Ends | None = None


@dataclass(frozen=True, slots=True)
class StripRow:
    """name: plain text at the left; words: at the right; group: a heading above the row, where it begins one."""

    name: str
    strips: tuple[Strip | None, ...]
    words: tuple[str, ...] = ()
    help: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Strips:
    """Rows of strips. axes: of each column of strips, drawn below; a strip may have another, whose ends are then told.

    title and alt are plain text; columns: what stands above each column of strips; `head` and `rows` are the table
    that says the same.
    """

    title: str
    alt: str
    axes: tuple[Axis, ...]
    strips: tuple[StripRow, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    columns: tuple[str, ...] = ()

    @property
    def widest(self) -> int:
        """Characters of the longest name."""
        return max(len(row.name) for row in self.strips)


@dataclass(frozen=True, slots=True)
class Point:
    """across, up: the reach of its intervals in x and y; ring: it is ringed; size: radius of its dot, in pixels."""

    x: float
    y: float
    text: str = ""
    across: Ends | None = None
    up: Ends | None = None
    size: float = 3.5
    ring: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Points, None where a line is broken. dash: of the line through them, "" for none; marker: "" for none."""

    name: str
    points: tuple[Point | None, ...]
    colour: str = "--ink"
    dash: str = ""
    marker: str = ""
    thin: bool = False

    @property
    def runs(self) -> list[list[Point]]:
        """The unbroken parts of the line."""
        runs: list[list[Point]] = [[]]
        for point in self.points:
            runs = [*runs, []] if point is None else [*runs[:-1], [*runs[-1], point]]
        return [run for run in runs if len(run) > 1]


@dataclass(frozen=True, slots=True)
class Chart:
    """Series on two axes. null: a dashed level of y; height in CSS pixels; the rest as of `Strips`."""

    title: str
    alt: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    height: int
    null: float | None = None
    legend: bool = False
    note: str = ""


Plot = Strips | Chart


def levels(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between the ends of an axis: at most `most` steps of 1, 2 or 5 times a power of ten."""
    size = 10 ** floor(log10(high - low)) / 10
    step = next(size * times for times in (1, 2, 5, 10, 20, 50, 100) if (high - low) / (size * times) <= most)
    return [round(n * step, 12) for n in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def tick(value: float, unit: str = "") -> str:
    text = f"{100 * value:.6g}%" if unit == "%" else f"{value:,.6g}"
    return text.replace("-", "−")


def axis_of(title: str, values: Iterable[float], unit: str = "", ends: Ends | None = None) -> Axis:
    """An axis on which all the values stand, with some air; air does not take a share's beyond 1, nor any below 0."""
    given = list(values)
    never_below = ends is None and min(given) >= 0
    if ends is None:
        low, high = min(given), max(given)
        air = 0.06 * (high - low or abs(high) or 1)
        floor_ = (
            -0.03 * (high - low or 1) if low >= 0 else low - air
        )  # what is never negative is not shown as if it were
        ends = max(low - air, floor_), min(high + air, 1.02) if unit == "%" and high <= 1 else high + air
    shown = [level for level in levels(*ends) if level >= 0 or not never_below]
    return Axis(title, ends, tuple((level, tick(level, unit)) for level in shown))
