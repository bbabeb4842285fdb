"""Plots of the report as plain data: what plotly.js is to draw, what it says in words, and its numbers as a table.

    dots     estimates with their intervals, a row each
    lines    one or more lines, with or without intervals
    plane    points with intervals in both directions, one a policy
    curve_of_calibration  what was claimed against what came out

Nothing is drawn here. The page draws a plot when it comes into view, with colours that are names of the page's CSS
variables ("--ink", "--muted", "--rule", "--band", "--paper", "--arm-0".."--arm-5"), so plots follow light, dark and
print. A template draws with `{{ draw(plots.lines(...)) }}` (macros.html.jinja). Estimates are those of results.json:
{"value", "low", "high", "n", "clusters"}, NaN or null where there is none; unit "%" is a share in 0..1.
Plotly reads a few tags in its texts, so every text goes through `safe`.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import isnan
from typing import Any

from cai.compare import table

ARM_COLOURS = 6
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # one a seed
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross")
PLACES = ("top right", "bottom right", "top left", "bottom left")  # of names, so that near points can be told apart
MOST_ROWS = 12  # of the table of a line's numbers: the curves are long, and the table is read by people
Estimate = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plot:
    """title and alt are plain text; `head` and `rows` are the table that says the same; height in CSS pixels."""

    title: str
    alt: str
    traces: tuple[dict[str, Any], ...]
    layout: dict[str, Any]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    height: int
    note: str = ""


def colour(arm: str | None, arms: Sequence[str]) -> str:
    """One accent an arm; muted for whatever is no arm of the experiment, such as the SFT policy."""
    return f"--arm-{list(arms).index(arm) % ARM_COLOURS}" if arm is not None and arm in arms else "--muted"


def safe(text: object, width: int = 0) -> str:
    """Text as plotly shows it literally; broken into lines of about `width` characters where that is given."""
    lines = textwrap.wrap(str(text), width) if width else [str(text)]
    return "<br>".join(escape(line, quote=False) for line in lines)


def known(estimate: Estimate | None) -> bool:
    return bool(estimate) and not missing(estimate["value"])


def missing(x: float | None) -> bool:
    return x is None or isnan(x)


def says(estimate: Estimate | None, unit: str = "%") -> str:
    """`52.1% [47.0, 57.3]`."""
    given = dict(estimate) if estimate else None
    return f"{table.value(given, unit)} {table.interval(given, unit)}".strip()


def dots(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    unit: str = "%",
    null: float | None = None,
    band: tuple[float, float] | None = None,
    x: str = "",
    note: str = "",
    span: tuple[float, float] | None = None,
) -> Plot | None:
    """Estimates with their intervals, a row each, from the top. None where no row has a value.

    rows: {"name", "estimate", "colour"?, "also"?: a second estimate, drawn hollow below}. null: a dashed line (what no
    effect would be). band: shaded (such as a noise floor). span: of the axis; else what the numbers need.
    """
    rows = [row for row in rows if known(row["estimate"])]
    if not rows:
        return None
    times, traces, ends = (100 if unit == "%" else 1), [], []
    second = any(known(row.get("also")) for row in rows)
    for place, row in enumerate(rows):
        for estimate, hollow in ((row["estimate"], False), (row.get("also"), True)):
            if estimate and known(estimate):
                at = place + (0 if not second else 0.2 if hollow else -0.12)
                traces.append(_dot(row["name"], estimate, at, row.get("colour", "--ink"), hollow, unit))
                ends += [times * estimate[key] for key in ("value", "low", "high") if not missing(estimate[key])]
    ends += [times * x for x in (null, *(band or ())) if x is not None]
    low, high = min(ends), max(ends)
    air = 0.06 * (high - low or abs(high) or 1)
    left, right = [times * end for end in span] if span else (low - air, high + air)
    if unit == "%":
        left, right = max(left, -2.0 if low >= 0 else left), min(right, 102.0 if high <= 100 else right)
    layout = {
        "xaxis": {"range": [left, right], "title": {"text": safe(x)}, "ticksuffix": "%" if unit == "%" else ""},
        "yaxis": {
            "tickvals": list(range(len(rows))), "ticktext": [safe(row["name"], 26) for row in rows],
            "range": [len(rows) - 0.4, -0.6], "showgrid": False, "fixedrange": True, "own": "names",
        },
        "shapes": _guides(null, band, times), "showlegend": False, "margin": {"l": 12, "r": 18, "t": 8, "b": 48},
    }  # fmt: skip
    named = any(known(row.get("also")) for row in rows)
    head = ("", title, *(("hollow",) if named else ()), "rows", "prompts")
    numbers = [
        (
            str(row["name"]), says(row["estimate"], unit), *((says(row.get("also"), unit),) if named else ()),
            f"{row['estimate']['n']:,}", f"{row['estimate']['clusters']:,}",
        )
        for row in rows
    ]  # fmt: skip
    alt = f"{title}. " + "; ".join(f"{row['name']}: {says(row['estimate'], unit)}" for row in rows)
    height = 72 + sum(max(26, 15 * (1 + safe(row["name"], 26).count("<br>")) + 8) for row in rows)
    return Plot(title, alt, tuple(traces), layout, head, tuple(numbers), height, note)


def _dot(name: str, estimate: Estimate, y: float, colour: str, hollow: bool, unit: str) -> dict[str, Any]:
    times = 100 if unit == "%" else 1
    size = table.sample(dict(estimate))
    return {
        "type": "scatter", "mode": "markers", "name": safe(name), "x": [times * estimate["value"]], "y": [y],
        "marker": {"size": 9, "color": "--paper" if hollow else colour, "line": {"width": 1.6, "color": colour}},
        "error_x": _whiskers(estimate, times, colour, 1.2 if hollow else 1.8),
        "text": [f"{safe(name)}<br>{says(estimate, unit)}" + (f"<br>{size}" if size else "")],
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _whiskers(estimate: Estimate, times: float, colour: str, width: float = 1.5) -> dict[str, Any]:
    if missing(estimate["low"]) or missing(estimate["high"]):
        return {"visible": False}
    value = estimate["value"]
    return {
        "type": "data", "symmetric": False, "array": [times * (estimate["high"] - value)],
        "arrayminus": [times * (value - estimate["low"])], "color": colour, "thickness": width, "width": 0,
    }  # fmt: skip


def _guides(null: float | None, band: tuple[float, float] | None, times: float) -> list[dict[str, Any]]:
    full = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    shapes: list[dict[str, Any]] = []
    if band:
        ends = {"x0": times * band[0], "x1": times * band[1]}
        shapes.append({"type": "rect", **full, **ends, "fillcolor": "--band", "line": {"width": 0}})
    if null is not None:
        line = {"color": "--muted", "width": 1, "dash": "dash"}
        shapes.append({"type": "line", **full, "x0": times * null, "x1": times * null, "line": line})
    return shapes


def lines(
    title: str,
    drawn: Sequence[Mapping[str, Any]],
    *,
    x: str,
    y: str,
    unit: str = "",
    null: float | None = None,
    note: str = "",
    legend: bool | None = None,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    logarithmic: bool = False,
    height: int = 250,
) -> Plot | None:
    """Lines of numbers, or of estimates. None where there is no point.

    drawn: {"name", "x": [...], "y": [number | None, or Estimate | None], "colour"?, "dash"?, "marker"?, "ring"?: places
    of points to be ringed}. legend: by default where there are several lines. null: a dashed level.
    logarithmic: the x axis, with a tick at each place.
    """
    times, traces, said = (100 if unit == "%" else 1), [], []
    for line in drawn:
        points = [(a, b if isinstance(b, Mapping) else _bare(b)) for a, b in zip(line["x"], line["y"], strict=True)]
        if not any(known(b) for _, b in points):
            continue
        traces += _line(line, points, times, unit)
        last = next(b for _, b in reversed(points) if known(b))
        said.append(f"{line['name']} ends at {says(last, unit) if last['n'] else table.number(last['value'], unit)}")
    if not traces:
        return None
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": safe(x)}, **({"range": list(x_range)} if x_range else {})},
        "yaxis": {"title": {"text": safe(y)}, "ticksuffix": "%" if unit == "%" else ""},
        "showlegend": len(drawn) > 1 if legend is None else legend,
    }
    places = sorted({a for line in drawn for a in line["x"]})
    if places[-1] - places[0] <= 8 and all(place == int(place) for place in places):
        layout["xaxis"]["tickvals"] = list(range(int(places[0]), int(places[-1]) + 1))  # no half steps
    if logarithmic:
        layout["xaxis"] |= {"type": "log", "tickvals": places, "ticktext": [f"{place:,}" for place in places]}
    if y_range:
        layout["yaxis"]["range"] = [times * end for end in y_range]
    if null is not None:
        rule = {"color": "--muted", "width": 1, "dash": "dash"}
        layout["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": times * null, "y1": times * null, "line": rule}
        ]
    head, rows = _table_of(drawn, x, unit)
    alt = f"{title}: {y} by {x}. " + "; ".join(said)
    return Plot(title, alt, tuple(traces), layout, head, rows, height, note)


def _bare(x: float | None) -> Estimate:
    return {"value": x, "low": None, "high": None, "n": 0, "clusters": 0}


def _line(
    line: Mapping[str, Any], points: Sequence[tuple[Any, Estimate]], times: float, unit: str
) -> list[dict[str, Any]]:
    shade, name = line.get("colour", "--ink"), safe(line["name"])
    values = [None if not known(b) else times * b["value"] for _, b in points]
    few = sum(value is not None for value in values) <= MOST_ROWS and (line.get("marker") or len(values) == 1)
    trace = {
        "type": "scatter", "mode": "lines+markers" if few else "lines", "name": name, "x": [a for a, _ in points],
        "y": values, "line": {"color": shade, "width": 1.6, "dash": line.get("dash", "solid")},
        "marker": {"size": 6, "color": shade, "symbol": line.get("marker") or "circle"},
    }  # fmt: skip
    if any(b["n"] for _, b in points):
        ends = [known(b) and not missing(b["low"]) and not missing(b["high"]) for _, b in points]
        up = [times * (b["high"] - b["value"]) if there else 0 for there, (_, b) in zip(ends, points, strict=True)]
        down = [times * (b["value"] - b["low"]) if there else 0 for there, (_, b) in zip(ends, points, strict=True)]
        trace |= {
            "mode": "lines+markers", "text": [f"{name}<br>{says(b, unit)}" for _, b in points],
            "hovertemplate": "%{text}<extra></extra>",
            "error_y": {
                "type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": shade, "thickness": 1.2,
                "width": 0,
            },
        }  # fmt: skip
    traces: list[dict[str, Any]] = [trace]
    if line.get("ring"):
        places = [place for place in line["ring"] if values[place] is not None]
        ring = {"size": 13, "color": "rgba(0,0,0,0)", "line": {"color": shade, "width": 1.6}}
        traces.append(
            {
                "type": "scatter", "mode": "markers", "x": [points[place][0] for place in places],
                "y": [values[place] for place in places], "marker": ring, "showlegend": False, "hoverinfo": "skip",
            }
        )  # fmt: skip
    return traces


def _table_of(drawn: Sequence[Mapping[str, Any]], x: str, unit: str) -> tuple[tuple[str, ...], tuple]:
    """A row a place on the x axis, a column a line; long lines at evenly spread places, the last one among them."""
    places = sorted({a for line in drawn for a in line["x"]})
    if len(places) > MOST_ROWS:
        step = (len(places) - 1) / (MOST_ROWS - 1)
        places = [places[round(i * step)] for i in range(MOST_ROWS)]
    columns = [dict(zip(line["x"], line["y"], strict=True)) for line in drawn]

    def cell(point: Any) -> str:
        return says(point, unit) if isinstance(point, Mapping) else table.number(point, unit)

    rows = [
        (f"{place:,}" if place == int(place) else table.number(place), *(cell(column.get(place)) for column in columns))
        for place in places
    ]
    return (x, *(str(line["name"]) for line in drawn)), tuple(rows)


def plane(
    title: str, points: Sequence[Mapping[str, Any]], *, x: str, y: str, unit: str = "%", note: str = "", best: str = ""
) -> Plot | None:
    """A point a policy, with intervals both ways. points: {"name", "x": E, "y": E, "colour"?}; best: "top left" or so.

    None where no point has both.
    """
    points = [point for point in points if known(point["x"]) and known(point["y"])]
    if not points:
        return None
    times = 100 if unit == "%" else 1
    traces = []
    for i, point in enumerate(points):
        shade, name = point.get("colour", "--ink"), safe(point["name"])
        traces.append(
            {
                "type": "scatter", "mode": "markers+text", "name": name, "x": [times * point["x"]["value"]],
                "y": [times * point["y"]["value"]], "textposition": PLACES[i % len(PLACES)],
                "texttemplate": name, "textfont": {"color": shade}, "cliponaxis": False,
                "marker": {"size": 10, "color": shade, "symbol": MARKERS[i % len(MARKERS)]},
                "error_x": _whiskers(point["x"], times, shade), "error_y": _whiskers(point["y"], times, shade),
                "text": [f"{name}<br>{safe(x)}: {says(point['x'], unit)}<br>{safe(y)}: {says(point['y'], unit)}"],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )  # fmt: skip
    suffix = "%" if unit == "%" else ""
    layout = {
        "xaxis": {"title": {"text": safe(x)}, "ticksuffix": suffix},
        "yaxis": {"title": {"text": safe(y)}, "ticksuffix": suffix},
        "showlegend": False,
    }
    rows = tuple((str(point["name"]), says(point["x"], unit), says(point["y"], unit)) for point in points)
    alt = f"{title}. " + "; ".join(f"{name}: {x} {a}, {y} {b}" for name, a, b in rows)
    note = note + (f" Best is {best}." if best else "")
    return Plot(title, alt, tuple(traces), layout, ("policy", x, y), rows, 380, note)


def curve_of_calibration(
    title: str, curves: Mapping[str, Sequence[tuple[float, float, int]]], *, colours: Mapping[str, str], note: str = ""
) -> Plot | None:
    """What was claimed against what people said: a dot a bin, its area the bin's rows. None where all are empty.

    curves: name -> (mean P claimed, people's mean P, rows) of each bin, from cai/stats/calibration.py.
    """
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return None
    most = max(n for points in curves.values() for *_, n in points)
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", "x": [0, 100], "y": [0, 100], "hoverinfo": "skip", "showlegend": False,
            "line": {"color": "--muted", "width": 1, "dash": "dash"},
        }
    ]  # fmt: skip
    rows = []
    for name, points in curves.items():
        shade = colours[name]
        reads = [(f"{100 * p:.0f}%", f"{100 * h:.0f}%", f"{n:,}") for p, h, n in points]
        rows += [(name, *read) for read in reads]
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": safe(name),
                "x": [100 * p for p, _, _ in points], "y": [100 * h for _, h, _ in points],
                "line": {"color": shade, "width": 1.4, "dash": "dot" if shade == "--muted" else "solid"},
                "marker": {"color": shade, "size": [5 + 14 * (n / most) ** 0.5 for *_, n in points], "opacity": 0.85},
                "text": [f"{safe(name)}<br>claimed {p}, people say {h}<br>{n} rows" for p, h, n in reads],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )  # fmt: skip
    quarters = [0, 25, 50, 75, 100]
    axis = {"range": [-3, 103], "tickvals": quarters, "ticktext": [f"{tick}%" for tick in quarters]}
    layout = {
        "xaxis": axis | {"title": {"text": "claimed: P(this answer is better)"}},
        "yaxis": axis | {"title": {"text": "people who say so"}},
        "showlegend": len(curves) > 1,
    }
    alt = f"{title}. " + "; ".join(f"{name}: claimed {p}, people {h} on {n} rows" for name, p, h, n in rows)
    return Plot(title, alt, tuple(traces), layout, ("", "claimed", "people", "rows"), tuple(rows), 340, note)
