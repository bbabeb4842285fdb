"""sweep.html: a small plot for each measure over the first swept key, one for each combination of the others.

One self-contained page without a script: the plots are those of the report (cai/compare/plots.py), from the rows of the
long table; the same numbers stand in a table under each plot. Plots of one measure share their axes, so that facets
compare. A dot is over all seeds, with its 95% interval; ticks beside it are single seeds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.compare import plots, table
from cai.compare.figures import Axis, Chart, Point, Series, axis_of
from cai.core.durable import write_whole
from cai.core.pages import page_templates

ROOM = 40  # characters that fit under a plot; longer names are numbered
OF_DATA = ("baseline_", "people_")  # in the table alone: what is swept does not move them
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SweptDot:
    """A number of an arm at one value of the first swept key; seeds: the numbers of the single seeds."""

    arm: str
    at: Any
    estimate: Row
    seeds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Facet:
    """Dots of one measure where the other swept keys have these values."""

    others: dict[str, Any]
    dots: tuple[SweptDot, ...]


def facets(axes: Sequence[str], rows: Sequence[Row]) -> dict[str, list[Facet]]:
    """Measure -> its facets, in the order of the rows; less those without a number, or about the data alone."""
    measures: dict[str, dict[tuple, dict[tuple[str, Any], Row]]] = {}
    seeds: dict[tuple, list[float]] = {}
    for row in rows:
        if plots.missing(row["value"]) or row["measure"].startswith(OF_DATA):
            continue
        others = tuple(row[key] for key in axes[1:])
        place = row["arm"], row[axes[0]]
        if row["seed"] is None:
            measures.setdefault(row["measure"], {}).setdefault(others, {})[place] = row
        else:
            seeds.setdefault((row["measure"], others, place), []).append(row["value"])
    return {
        measure: [
            Facet(
                dict(zip(axes[1:], others, strict=True)),
                tuple(
                    SweptDot(arm, at, row, tuple(seeds.get((measure, others, (arm, at)), ())))
                    for (arm, at), row in dots.items()
                ),
            )
            for others, dots in places.items()
        ]
        for measure, places in measures.items()
    }


def write_page(
    out: Path, name: str, question: str, axes: Sequence[str], rows: Sequence[Row], points: Sequence[str]
) -> None:
    """Write the page of a sweep to `out`. points: names of the runs, whose reports lie in folders beside it."""
    measures = facets(axes, rows)
    values = list(dict.fromkeys(row[axes[0]] for row in rows))
    names = titles(values)
    fits = all(len(title) * len(values) <= ROOM for title in names)
    ticks = names if fits else [str(number) for number in range(1, len(values) + 1)]
    arms = list(dict.fromkeys(dot.arm for some in measures.values() for facet in some for dot in facet.dots))
    env = page_templates(Path(__file__).parent)
    env.filters |= {"value": table.value, "interval": table.interval, "sample": table.sample}
    x = Axis(axes[0], (-0.5, len(values) - 0.5), tuple(enumerate(ticks)))
    shown = [
        {"measure": measure, "facets": [(facet, drawn(facet, measure, span(some), x, values, arms)) for facet in some]}
        for measure, some in measures.items()
    ]
    env.globals["plots"] = plots  # pyrefly: ignore
    page = env.get_template("sweep.html.jinja").render(
        name=name,
        question=question,
        axes=axes,
        arms=arms,
        legend=[] if fits else names,
        slugs=[point.removeprefix(f"{name}/") for point in points],
        measures=shown,
        colour=lambda arm: f"var({plots.colour(arm, arms)})",
    )
    write_whole(out, page)


def span(some: Sequence[Facet]) -> Axis:
    """The axis that all facets of a measure share: it holds every number of theirs."""
    return axis_of("", [x for facet in some for dot in facet.dots for x in (*plots.ends_of(dot.estimate), *dot.seeds)])


def titles(values: Sequence[Any]) -> list[str]:
    """What stands for each value of an axis; of sections (JSON), only in what they differ: `rate, all`."""
    if not all(isinstance(value, str) and value.startswith("{") for value in values):
        return [str(value) for value in values]
    sections = [json.loads(value) for value in values]
    alike = {k for k, v in sections[0].items() if all(k in value and value[k] == v for value in sections)}
    return [
        ", ".join(v if isinstance(v, str) else f"{k} {json.dumps(v)}" for k, v in value.items() if k not in alike)
        for value in sections
    ]


def drawn(facet: Facet, measure: str, y: Axis, x: Axis, values: Sequence[Any], arms: Sequence[str]) -> Chart:
    """Each arm's line over the values of the first swept key, arms a little aside of one another; seeds left of it."""
    here = list(dict.fromkeys(dot.arm for dot in facet.dots))
    series = []
    for i, arm in enumerate(here):
        aside = (i - (len(here) - 1) / 2) * min(0.1, 0.7 / len(here))
        points, seeds = [], []
        for dot in sorted((dot for dot in facet.dots if dot.arm == arm), key=lambda dot: values.index(dot.at)):
            at, e = values.index(dot.at) + aside, dot.estimate
            text = f"{arm}, {x.title} {dot.at}\n{plots.says(e, '')}"
            points.append(Point(at, e["value"], text, up=plots.reach(e), size=3))
            seeds += [Point(at - 0.06, value, f"{arm}, a single seed\n{value:.6g}", size=2) for value in dot.seeds]
        series.append(Series(arm, tuple(points), plots.colour(arm, arms), "solid", "circle", thin=True))
        series.append(Series(f"{arm}, single seeds", tuple(seeds), plots.colour(arm, arms), "", "tick"))
    alt = f"{measure} by {x.title}" + "".join(f", {key} {value}" for key, value in facet.others.items())
    return Chart(measure, alt + "; the numbers stand in the table below", x, y, tuple(series), (), (), 150)
