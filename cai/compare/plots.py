"""Plots as plain data: axes and marks in their own units, what the plot says in words, and its numbers as a table.

    dots     estimates with their intervals, a row each            -> Strips
    lines    one or more lines, with or without intervals          -> Chart
    plane    points with intervals in both directions, one a policy -> Chart
    curve_of_calibration  what was claimed against what came out   -> Chart

macros.html.jinja writes them as SVG, `{{ draw(plots.lines(...)) }}`: places are per cent of the box (`Axis.at`), so a
plot is as wide as its column and its texts keep their size; colours are names of the page's CSS variables ("--ink",
"--muted", "--arm-0".."--arm-5"), so that plots follow light, dark and print. Nothing needs a script but the numbers
that show up under the pointer. Estimates are those of results.json: {"value", "low", "high", "n", "clusters"}, NaN or
null where there is none; unit "%" is a share in 0..1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from cai.compare import table
from cai.compare.figures import Axis, Chart, Ends, Mark, Point, Series, Strip, StripRow, Strips, axis_of, tick

ARM_COLOURS = 6
DASHES = {"solid": "", "dash": "6 3", "dot": "1.5 2.5", "dashdot": "6 2 1.5 2", "longdash": "10 3"}  # one a seed
MARKERS = {  # outlines around (0, 0), four pixels in reach
    "circle": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0Z", "square": "M-3.2-3.2h6.4v6.4h-6.4Z",
    "diamond": "M0-4.6 4.6 0 0 4.6-4.6 0Z", "triangle": "M0-4.4 4.2 3-4.2 3Z",
    "cross": "M-1.3-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7Z",
    "tick": "M-3.5-0.6h7v1.2h-7Z",
}  # fmt: skip
SHAPES = tuple(MARKERS)[:-1]  # one a policy, or a seed
MOST_ROWS = 12  # of the table of a line's numbers: the curves are long, and the table is read by people
Estimate = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Dot:
    """What `dots` draws in a row. also: a second estimate, drawn hollow below the first."""

    name: str
    estimate: Estimate
    colour: str = "--ink"
    also: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """Of `dots`: the axis's title, what is marked on it (null, band) and its ends, where they are not the numbers'."""

    title: str = ""
    unit: str = "%"
    null: float | None = None
    band: Ends | None = None
    ends: Ends | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """What `lines` draws. y: numbers or estimates; ring: places of the points to be ringed."""

    name: str
    x: Sequence[float]
    y: Sequence[Any]
    colour: str = "--ink"
    dash: str = "solid"
    marker: str = ""
    ring: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Spot:
    """What `plane` draws: a name and two estimates."""

    name: str
    x: Estimate
    y: Estimate
    colour: str = "--ink"


@dataclass(frozen=True, slots=True)
class Axes:
    """Titles, unit and ends of a chart's axes. logarithmic: the x axis, with a tick at each place."""

    x: str
    y: str
    unit: str = ""
    x_ends: Ends | None = None
    y_ends: Ends | None = None
    null: float | None = None
    logarithmic: bool = False


def colour(arm: str | None, arms: Sequence[str]) -> str:
    """One accent an arm; muted for whatever is no arm of the experiment, such as the SFT policy."""
    return f"--arm-{list(arms).index(arm) % ARM_COLOURS}" if arm is not None and arm in arms else "--muted"


def known(estimate: Estimate | None) -> bool:
    return bool(estimate) and not missing(estimate["value"])


def missing(x: float | None) -> bool:
    return x is None or isnan(x)


def reach(estimate: Estimate) -> Ends | None:
    return None if missing(estimate["low"]) or missing(estimate["high"]) else (estimate["low"], estimate["high"])


def says(estimate: Estimate | None, unit: str = "%") -> str:
    """`52.1% [47.0, 57.3]`."""
    given = dict(estimate) if estimate else None
    return f"{table.value(given, unit)} {table.interval(given, unit)}".strip()


def ends_of(*estimates: Estimate | None) -> list[float]:
    """Every number of these estimates that a plot shows."""
    return [e[key] for e in estimates if known(e) for key in ("value", "low", "high") if not missing(e[key])]  # pyrefly: ignore


def dots(title: str, rows: Sequence[Dot], scale: Scale, note: str = "") -> Strips | None:
    """Estimates with their intervals, a row each, from the top. None where no row has a value."""
    rows, unit = [row for row in rows if known(row.estimate)], scale.unit
    if not rows:
        return None
    marked = [x for x in (scale.null, *(scale.band or ())) if x is not None]
    values = [*ends_of(*(e for row in rows for e in (row.estimate, row.also))), *marked]
    axis = axis_of(scale.title, values, unit, scale.ends)
    strips = [
        StripRow(
            row.name,
            (
                Strip(
                    axis,
                    tuple(
                        mark(row.name, e, unit, row.colour, hollow=e is row.also)
                        for e in (row.estimate, row.also) if e and known(e)
                    ),
                    scale.null, scale.band,
                ),
            ),
        )
        for row in rows
    ]  # fmt: skip
    second = any(known(row.also) for row in rows)
    head = ("", title, *(("hollow",) if second else ()), "rows", "prompts")
    numbers = [
        (
            row.name, says(row.estimate, unit), *((says(row.also, unit),) if second else ()),
            f"{row.estimate['n']:,}", f"{row.estimate['clusters']:,}",
        )
        for row in rows
    ]  # fmt: skip
    alt = f"{title}. " + "; ".join(f"{row.name}: {says(row.estimate, unit)}" for row in rows)
    return Strips(title, alt, (axis,), tuple(strips), head, tuple(numbers), note)


def mark(name: str, estimate: Estimate, unit: str, colour: str, *, hollow: bool = False) -> Mark:
    size = table.sample(dict(estimate))
    text = f"{name}\n{says(estimate, unit)}" + (f"\n{size}" if size else "")
    return Mark(estimate["value"], reach(estimate), text, colour, hollow)


def lines(
    title: str, drawn: Sequence[Line], axes: Axes, *, note: str = "", legend: bool | None = None, height: int = 200
) -> Chart | None:
    """Lines of numbers, or of estimates. None where there is no point. legend: by default where there are several."""
    drawn = [line for line in drawn if any(known(_bare(y)) for y in line.y)]
    if not drawn:
        return None
    series, ends = [_series(line, axes) for line in drawn], []
    for line in drawn:
        last = next(e for e in map(_bare, reversed(line.y)) if known(e))
        ends.append(
            f"{line.name} ends at {says(last, axes.unit) if last['n'] else table.number(last['value'], axes.unit)}"
        )
    places = sorted({x for line in drawn for x in line.x})
    values = ends_of(*(_bare(y) for line in drawn for y in line.y))
    x = axis_of(axes.x, places, ends=axes.x_ends)
    if axes.logarithmic:
        far = (places[-1] / places[0]) ** 0.04 if len(places) > 1 else 2.0
        x = Axis(axes.x, (places[0] / far, places[-1] * far), tuple((n, f"{n:,}") for n in places), True)
    elif places[-1] - places[0] <= 8 and all(place == int(place) for place in places):  # no half steps
        whole = range(int(places[0]), int(places[-1]) + 1)
        x = Axis(axes.x, x.ends, tuple((n, tick(n)) for n in whole))
    y = axis_of(axes.y, [*values, *([axes.null] if axes.null is not None else [])], axes.unit, axes.y_ends)
    head, rows = _table_of(drawn, axes)
    alt = f"{title}: {axes.y} by {axes.x}. " + "; ".join(ends)
    shown = len(drawn) > 1 if legend is None else legend
    return Chart(title, alt, x, y, tuple(series), head, rows, height, axes.null, shown, note)


def _bare(y: Any) -> Estimate:
    """An estimate, or a number as one."""
    return y if isinstance(y, Mapping) else {"value": y, "low": None, "high": None, "n": 0, "clusters": 0}


def _series(line: Line, axes: Axes) -> Series:
    """A line has its markers where it is of estimates or short; one of a single number is a marker."""
    points: list[Point | None] = []
    for i, (x, e) in enumerate(zip(line.x, map(_bare, line.y), strict=True)):
        text = f"{line.name}, {axes.x} {tick(x)}\n" + (
            says(e, axes.unit) if e["n"] else table.number(e["value"], axes.unit)
        )
        points.append(Point(x, e["value"], text, up=reach(e), ring=i in line.ring) if known(e) else None)
    count = sum(point is not None for point in points)
    estimates = any(_bare(y)["n"] for y in line.y)
    marker = (line.marker or "circle") if estimates or count == 1 or (line.marker and count <= MOST_ROWS) else ""
    return Series(line.name, tuple(points), line.colour, line.dash, marker)


def _table_of(drawn: Sequence[Line], axes: Axes) -> tuple[tuple[str, ...], tuple]:
    """A row a place on the x axis, a column a line; long lines at evenly spread places, the last one among them."""
    places = sorted({a for line in drawn for a in line.x})
    if len(places) > MOST_ROWS:
        step = (len(places) - 1) / (MOST_ROWS - 1)
        places = [places[round(i * step)] for i in range(MOST_ROWS)]
    columns = [dict(zip(line.x, line.y, strict=True)) for line in drawn]

    def cell(y: Any) -> str:
        return says(y, axes.unit) if isinstance(y, Mapping) else table.number(y, axes.unit)

    rows = [
        (f"{place:,}" if place == int(place) else table.number(place), *(cell(column.get(place)) for column in columns))
        for place in places
    ]
    return (axes.x, *(line.name for line in drawn)), tuple(rows)


def plane(title: str, spots: Sequence[Spot], axes: Axes, *, note: str = "", best: str = "") -> Chart | None:
    """A point a policy, with intervals both ways. best: "top left" or so. None where no spot has both estimates."""
    spots = [spot for spot in spots if known(spot.x) and known(spot.y)]
    if not spots:
        return None
    series = []
    for i, spot in enumerate(spots):
        text = f"{spot.name}\n{axes.x}: {says(spot.x, axes.unit)}\n{axes.y}: {says(spot.y, axes.unit)}"
        point = Point(spot.x["value"], spot.y["value"], text, reach(spot.x), reach(spot.y))
        marker = SHAPES[i % len(SHAPES)]
        series.append(Series(spot.name, (point,), spot.colour, marker=marker))
    x = axis_of(axes.x, ends_of(*(spot.x for spot in spots)), axes.unit, axes.x_ends)
    y = axis_of(axes.y, ends_of(*(spot.y for spot in spots)), axes.unit, axes.y_ends)
    rows = tuple((spot.name, says(spot.x, axes.unit), says(spot.y, axes.unit)) for spot in spots)
    alt = f"{title}. " + "; ".join(f"{name}: {axes.x} {a}, {axes.y} {b}" for name, a, b in rows)
    note = note + (f" Best is {best}." if best else "")
    return Chart(title, alt, x, y, tuple(series), ("policy", axes.x, axes.y), rows, 330, legend=True, note=note)


def curve_of_calibration(
    title: str, curves: Mapping[str, Sequence[tuple[float, float, int]]], colours: Mapping[str, str], note: str = ""
) -> Chart | None:
    """What was claimed against what people said: a dot a bin, its area the bin's rows. None where all are empty.

    curves: name -> (mean P claimed, people's mean P, rows) of each bin, from cai/stats/calibration.py.
    """
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return None
    most = max(n for points in curves.values() for *_, n in points)
    series = [Series("claims come true", (Point(0, 0), Point(1, 1)), "--muted", "dash")]
    rows = []
    for name, bins in curves.items():
        points = []
        for p, h, n in bins:
            rows.append((name, f"{100 * p:.0f}%", f"{100 * h:.0f}%", f"{n:,}"))
            text = f"{name}\nclaimed {rows[-1][1]}, people say {rows[-1][2]}\n{n} rows"
            points.append(Point(p, h, text, size=2.5 + 7 * (n / most) ** 0.5))
        dash = "dot" if colours[name] == "--muted" else "solid"
        series.append(Series(name, tuple(points), colours[name], dash, "circle"))
    quarters = tuple((q / 4, f"{25 * q}%") for q in range(5))
    x, y = (Axis(text, (-0.03, 1.03), quarters) for text in ("claimed: P(this answer is better)", "people who say so"))
    alt = f"{title}. " + "; ".join(f"{name}: claimed {p}, people {h} on {n} rows" for name, p, h, n in rows)
    head = ("", "claimed", "people", "rows")
    return Chart(title, alt, x, y, tuple(series), head, tuple(rows), 250, legend=len(curves) > 1, note=note)
