"""sweep.html: a small plot for each measure over the first swept key, one for each combination of the others.

One self-contained page without a script: plots are inline SVG, drawn here from the rows of the long table, with the
colours of the page's CSS variables; the same numbers stand in a table under each plot. Plots of one measure share
their axes, so that facets compare. A dot is over all seeds, with its 95% interval; ticks beside it are single seeds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isnan, log10
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cai.compare import table
from cai.core.durable import write_whole

ARM_COLOURS = 6
WIDTH, HEIGHT = 300, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 10, 34
ROOM = 40  # characters that fit under a plot; longer names are numbered
OF_DATA = ("baseline_", "people_")  # in the table alone: what is swept does not move them
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Dot:
    """A number of an arm at one value of the first swept key; seeds: the numbers of the single seeds."""

    arm: str
    at: Any
    estimate: Row
    seeds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Facet:
    """Dots of one measure where the other swept keys have these values."""

    others: dict[str, Any]
    dots: tuple[Dot, ...]


def facets(axes: Sequence[str], rows: Sequence[Row]) -> dict[str, list[Facet]]:
    """Measure -> its facets, in the order of the rows; less those without a number, or about the data alone."""
    found: dict[str, dict[tuple, dict[tuple[str, Any], Row]]] = {}
    seeds: dict[tuple, list[float]] = {}
    for row in rows:
        if missing(row["value"]) or row["measure"].startswith(OF_DATA):
            continue
        others = tuple(row[key] for key in axes[1:])
        place = row["arm"], row[axes[0]]
        if row["seed"] is None:
            found.setdefault(row["measure"], {}).setdefault(others, {})[place] = row
        else:
            seeds.setdefault((row["measure"], others, place), []).append(row["value"])
    return {
        measure: [
            Facet(
                dict(zip(axes[1:], others, strict=True)),
                tuple(
                    Dot(arm, at, row, tuple(seeds.get((measure, others, (arm, at)), ())))
                    for (arm, at), row in dots.items()
                ),
            )
            for others, dots in places.items()
        ]
        for measure, places in found.items()
    }


def missing(x: float | None) -> bool:
    return x is None or isnan(x)


def write_page(
    out: Path, name: str, question: str, axes: Sequence[str], rows: Sequence[Row], points: Sequence[str]
) -> None:
    """Write the page of a sweep to `out`. points: names of the runs, whose reports lie in folders beside it."""
    found = facets(axes, rows)
    values = list(dict.fromkeys(row[axes[0]] for row in rows))
    names = titles(values)
    fits = all(len(title) * len(values) <= ROOM for title in names)
    ticks = names if fits else [str(number) for number in range(1, len(values) + 1)]
    arms = list(dict.fromkeys(dot.arm for some in found.values() for facet in some for dot in facet.dots))
    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    env.filters |= {"value": table.value, "interval": table.interval, "sample": table.sample}
    shown = []
    for measure, some in found.items():
        plots = [{"facet": one, "plot": drawn(one, span(some), values, ticks)} for one in some]
        shown.append({"measure": measure, "facets": plots})
    page = env.get_template("sweep.html.jinja").render(
        name=name,
        question=question,
        axes=axes,
        arms=arms,
        legend=[] if fits else names,
        slugs=[one.removeprefix(f"{name}/") for one in points],
        plots=shown,
        colour=lambda arm: f"var(--arm-{arms.index(arm) % ARM_COLOURS})",
    )
    write_whole(out, page)


def span(some: Sequence[Facet]) -> tuple[float, float]:
    """The axis that all facets of a measure share: from the least number to the greatest, with some air."""
    ends = [
        one
        for facet in some
        for dot in facet.dots
        for one in (*(dot.estimate[key] for key in ("value", "low", "high")), *dot.seeds)
        if not missing(one)
    ]
    low, high = min(ends), max(ends)
    air = 0.06 * (high - low) or 0.5
    return low - air, high + air


def titles(values: Sequence[Any]) -> list[str]:
    """What stands for each value of an axis; of sections (JSON), only in what they differ: `rate, all`."""
    if not all(isinstance(one, str) and one.startswith("{") for one in values):
        return [str(one) for one in values]
    sections = [json.loads(one) for one in values]
    alike = {k for k, v in sections[0].items() if all(k in one and one[k] == v for one in sections)}
    return [
        ", ".join(v if isinstance(v, str) else f"{k} {json.dumps(v)}" for k, v in one.items() if k not in alike)
        for one in sections
    ]


def levels(low: float, high: float) -> list[float]:
    """Three to six round numbers between the ends of an axis: multiples of 1, 2 or 5 times a power of ten."""
    size = 10 ** floor(log10(high - low)) / 10
    step = next(size * times for times in (1, 2, 5, 10, 20) if (high - low) / (size * times) <= 5)
    return [round(n * step, 12) for n in range(ceil(low / step), floor(high / step) + 1)]


def drawn(facet: Facet, ends: tuple[float, float], values: Sequence[Any], ticks: Sequence[str]) -> dict[str, Any]:
    """Where everything of a plot stands, in SVG units, for the template to write down. ticks: a text for each value."""
    low, high = ends

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    here = list(dict.fromkeys(dot.arm for dot in facet.dots))
    step = (WIDTH - LEFT - RIGHT) / len(values)

    def x(dot: Dot) -> float:
        aside = (here.index(dot.arm) - (len(here) - 1) / 2) * min(9.0, 0.7 * step / len(here))
        return round(LEFT + step * (values.index(dot.at) + 0.5) + aside, 1)

    marks = [
        {
            "arm": dot.arm, "x": x(dot), "y": y(dot.estimate["value"]),
            "ends": [] if missing(dot.estimate["low"]) or missing(dot.estimate["high"])
            else [y(dot.estimate["low"]), y(dot.estimate["high"])],
            "seeds": [y(one) for one in dot.seeds],
        }
        for dot in facet.dots
    ]  # fmt: skip
    lines = []
    for arm in here:
        path = sorted((mark["x"], mark["y"]) for mark in marks if mark["arm"] == arm)
        lines.append({"arm": arm, "points": " ".join(f"{a},{b}" for a, b in path)})
    return {
        "marks": marks, "lines": lines if len(values) > 1 else [], "width": WIDTH, "height": HEIGHT, "left": LEFT,
        "right": WIDTH - RIGHT, "bottom": HEIGHT - BOTTOM,
        "ticks": [(y(level), f"{level:.6g}".replace("-", "−")) for level in levels(low, high)],
        "values": [(round(LEFT + step * (n + 0.5), 1), tick) for n, tick in enumerate(ticks)],
    }  # fmt: skip
