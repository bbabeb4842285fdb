"""Plots of how training went: curves, proxy against gold, and the policies along RL training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cai.compare import plots
from cai.compare.figures import Chart
from cai.compare.plots import Axes, Line

Results = Mapping[str, Any]


def curves(r: Results) -> list[Chart]:
    """Small multiples: one quantity a plot; those of one training, counted in the same steps, have the same x axis."""
    reach: dict[tuple[str, str], list[float]] = {}
    for curve in r["curves"]:
        for line in curve["lines"]:
            reach.setdefault((curve["training"], curve["x"]), []).extend(line["x"])
    charts = []
    for curve in r["curves"]:
        drawn = [
            Line(
                f"{line['arm']}, seed {line['seed']}", line["x"], line["y"], plots.colour(line["arm"], r["arms"]),
                dash(line["seed"], r["seeds"]),
            )
            for line in curve["lines"]
        ]  # fmt: skip
        spread = reach[curve["training"], curve["x"]] or [0.0]
        low, high = min(spread), max(spread)
        air = 0.03 * (high - low) or 0.5
        axes = Axes(curve["x"], curve["y"], x_ends=(low - air, high + air))
        named = any(line["arm"] not in r["arms"] for line in curve["lines"][1:])  # not by the legend above all of them
        charts.append(plots.lines(curve["title"], drawn, axes, legend=named, height=130))
    return [chart for chart in charts if chart]


def dash(seed: int, seeds: Sequence[int]) -> str:
    return _of_seed(tuple(plots.DASHES), seed, seeds)


def _of_seed(looks: Sequence[str], seed: int, seeds: Sequence[int]) -> str:
    """The name of a look (a dash, a marker) that stands for a seed; of one that is no seed of the run, the first."""
    return looks[list(seeds).index(seed) % len(looks) if seed in seeds else 0]


def gold(r: Results) -> list[tuple[Mapping[str, Any], list[Chart]]]:
    """(plot of the results, proxy and gold over sqrt(KL)), one an arm. Arms share their axes, so that they compare.

    A marker and a dash a seed. A ring is round the look whose policy was kept. Zero stands in the middle.
    """
    given = r["overoptimisation"]
    far = 1.05 * (max([0.0, *(x for plot in given for line in plot["lines"] for x in line["root_kl"])]) or 1)
    drawn_arms = []
    for plot in given:
        shade, charts = plots.colour(plot["arm"], r["arms"]), []
        for name, own in (("proxy", shade), ("gold", "--ink")):
            sizes = [abs(y) for other in given for line in other["lines"] for y in line[name] if not plots.missing(y)]
            most = 1.15 * (max(sizes, default=0) or 1)
            drawn = [
                Line(
                    f"{name}, seed {line['seed']}", line["root_kl"], line[name], own, dash(line["seed"], r["seeds"]),
                    _of_seed(plots.SHAPES, line["seed"], r["seeds"]),
                    [i for i, rollout in enumerate(line["rollout"]) if rollout == line["kept"]],
                )
                for line in plot["lines"] if line[name]
            ]  # fmt: skip
            axes = Axes("√KL to the SFT policy, √nats", name, "", (-0.03 * far, far), (-most, most), null=0)
            charts.append(plots.lines(f"{plot['arm']}: {name} reward", drawn, axes, height=150))
        if any(charts):
            drawn_arms.append((plot, [chart for chart in charts if chart]))
    return drawn_arms


def ways(r: Results) -> dict[tuple[str, int], list[Mapping[str, Any]]]:
    """(arm, seed) -> its policies from the SFT policy to the last one, in the order of training."""
    ways: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in r.get("snapshots", ()):
        ways.setdefault((row["arm"], row["seed"]), []).append(row)
    return ways


def along(r: Results) -> list[Chart]:
    """Elo, harmlessness and helpfulness over rollouts; a line a seed, levels of the SFT policy and the start model."""
    paths, charts = ways(r), []
    start = {"elo": next((rated["elo"] for rated in r["elo"] if rated["policy"] == "start"), None)}
    start |= next((row for row in r["plane"] if row["policy"] == "start"), {})
    of_elo = "Elo of the games on red-team prompts; the SFT policy is 1000. One fit over all games of the run: that "
    of_elo += "snapshots played too moves the other policies' ratings a little, and narrows their intervals."
    of_judge = "By the evaluation judge. Dashed: the SFT policy; dotted: the start model."
    for key, title, y, note in (
        ("elo", "Elo along RL training", "Elo", of_elo),
        ("harmlessness", "Harmlessness along RL training", "log-odds", of_judge),
        ("helpfulness", "Helpfulness along RL training", "log-odds", of_judge),
    ):
        drawn = [
            Line(
                f"{arm}, seed {seed}", [row["rollout"] for row in way], [row[key] for row in way],
                plots.colour(arm, r["arms"]), dash(seed, r["seeds"]), "circle",
            )
            for (arm, seed), way in paths.items() if any(plots.known(row[key]) for row in way)
        ]  # fmt: skip
        if not drawn:
            continue
        count = len(drawn)
        places = sorted({place for line in drawn for place in line.x})
        sft = next(way[0][key] for way in paths.values())
        for name, level, style in (("SFT policy", sft, "dash"), ("start model", start.get(key), "dot")):
            if level and plots.known(level):
                drawn.append(Line(name, places, [level["value"]] * len(places), "--muted", style))
        note = f"{note} Bars: 95% intervals over prompts, for these very policies."
        first = key == "elo"  # whose legend is that of all
        chart = plots.lines(title, drawn, Axes("rollout", y), note=note, legend=first)
        charts += [_apart(chart, count)] if chart else []
    return charts


def _apart(chart: Chart, count: int) -> Chart:
    """The first `count` lines a little aside of one another, so that their bars can be told apart; all begin as one."""
    far = max(point.x for point in chart.series[0].points if point)
    moved = []
    for i, series in enumerate(chart.series):
        aside = 0.008 * far * (i - (count - 1) / 2) if i < count else 0.0
        points = (p and replace(p, x=p.x + aside * (p.x > 0)) for p in series.points)
        moved.append(replace(series, points=tuple(points)))
    return replace(chart, series=tuple(moved))
