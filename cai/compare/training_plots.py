"""Plots of how training went: curves, proxy against gold, and the policies along RL training."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from cai.compare import plots
from cai.compare.plots import Plot

Results = Mapping[str, Any]


def curves(r: Results) -> list[Plot]:
    """Small multiples: one quantity a plot; those of one training have the same x axis."""
    reach: dict[tuple[str, str], list[float]] = {}
    for curve in r["curves"]:
        for line in curve["lines"]:
            reach.setdefault(_training(curve), []).extend(line["x"])
    found = []
    for curve in r["curves"]:
        drawn = [
            {
                "name": f"{line['arm']}, seed {line['seed']}", "x": line["x"], "y": line["y"],
                "colour": plots.colour(line["arm"], r["arms"]), "dash": dash(line["seed"], r["seeds"]),
            }
            for line in curve["lines"]
        ]  # fmt: skip
        spread = reach[_training(curve)] or [0.0]
        low, high = min(spread), max(spread)
        air = 0.03 * (high - low) or 0.5
        plot = plots.lines(
            curve["title"], drawn, x=curve["x"], y=curve["y"], legend=False, x_range=(low - air, high + air), height=210
        )
        if plot:
            found.append(plot)
    return found


def _training(curve: Mapping[str, Any]) -> tuple[str, str]:
    """What is trained, and the steps that are counted: `policy: reward` and `policy: KL` are of one training."""
    return curve["title"].partition(":")[0], curve["x"]


def dash(seed: int, seeds: Sequence[int]) -> str:
    return plots.DASHES[list(seeds).index(seed) % len(plots.DASHES)] if seed in seeds else "solid"


def gold(r: Results) -> list[tuple[Mapping[str, Any], Plot]]:
    """(plot of the results, proxy and gold over sqrt(KL)), one an arm. All arms share their axes, each scale its own.

    A marker a seed. A ring is round the look whose policy was kept. Zeros stand at one height.
    """
    given = r["overoptimisation"]
    most = {name: 1.15 * (max(_sizes(given, name), default=0) or 1) for name in ("proxy", "gold")}
    far = 1.05 * (max([0.0, *(x for plot in given for line in plot["lines"] for x in line["root_kl"])]) or 1)
    found = []
    for plot in given:
        drawn, shade = [], plots.colour(plot["arm"], r["arms"])
        for name, own, style in (("proxy", shade, "solid"), ("gold", "--ink", "dash")):
            for line in plot["lines"]:
                if line[name]:
                    marker = (
                        plots.MARKERS[r["seeds"].index(line["seed"]) % len(plots.MARKERS)]
                        if line["seed"] in r["seeds"]
                        else "circle"
                    )
                    ring = [i for i, rollout in enumerate(line["rollout"]) if rollout == line["kept"]]
                    drawn.append(
                        {
                            "name": f"{name}, seed {line['seed']}", "x": line["root_kl"], "y": line[name],
                            "colour": own, "dash": style, "marker": marker, "ring": ring,
                        }
                    )  # fmt: skip
        made = plots.lines(
            f"{plot['arm']}: proxy and gold reward", drawn, x="√KL to the SFT policy, √nats", y="proxy (solid)",
            null=0, legend=False, x_range=(-0.03 * far, far), y_range=(-most["proxy"], most["proxy"]), height=280,
        )  # fmt: skip
        if made:
            found.append((plot, _on_two_axes(made, most["gold"])))
    return found


def _sizes(given: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [abs(y) for plot in given for line in plot["lines"] for y in line[name] if y is not None and not isnan(y)]


def _on_two_axes(made: Plot, most: float) -> Plot:
    """Gold (the dashed lines, and their rings) on an axis of its own at the right."""
    traces, right = [], False
    for trace in made.traces:
        right = trace["line"]["dash"] == "dash" if "line" in trace else right
        traces.append(trace | ({"yaxis": "y2"} if right else {}))
    second = {
        "overlaying": "y",
        "side": "right",
        "range": [-most, most],
        "title": {"text": "gold (dashed)"},
        "tickformat": ".2~g",
    }
    layout = made.layout | {"yaxis2": second | {"showgrid": False}}
    return Plot(made.title, made.alt, tuple(traces), layout, made.head, made.rows, made.height, made.note)


def ways(r: Results) -> dict[tuple[str, int], list[Mapping[str, Any]]]:
    """(arm, seed) -> its policies from the SFT policy to the last one, in the order of training."""
    ways: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in r.get("snapshots", ()):
        ways.setdefault((row["arm"], row["seed"]), []).append(row)
    return ways


def along(r: Results) -> list[Plot]:
    """Elo, harmlessness and helpfulness over rollouts; a line a seed, levels of the SFT policy and the start model."""
    paths, found = ways(r), []
    start = {"elo": next((one["elo"] for one in r["elo"] if one["policy"] == "start"), None)}
    start |= next((row for row in r["plane"] if row["policy"] == "start"), {})
    of_elo = "Elo of the games on red-team prompts; the SFT policy is 1000. One fit over all games of the run: that "
    of_elo += "snapshots played too moves the other policies' ratings a little, and narrows their intervals."
    of_judge = "By the evaluation judge. Dashed: the SFT policy; dotted: the start model."
    for key, title, y, note in (
        ("elo", "Elo along RL training", "Elo", of_elo),
        ("harmlessness", "Harmlessness along RL training", "log-odds", of_judge),
        ("helpfulness", "Helpfulness along RL training", "log-odds", of_judge),
    ):
        drawn: list[dict[str, Any]] = [
            {
                "name": f"{arm}, seed {seed}", "x": [row["rollout"] for row in way], "y": [row[key] for row in way],
                "colour": plots.colour(arm, r["arms"]), "dash": dash(seed, r["seeds"]), "marker": "circle",
            }
            for (arm, seed), way in paths.items() if any(plots.known(row[key]) for row in way)
        ]  # fmt: skip
        if not drawn:
            continue
        count = len(drawn)
        places = sorted({place for line in drawn for place in line["x"]})
        sft = next(way[0][key] for way in paths.values())
        for name, level, style in (("SFT policy", sft, "dash"), ("start model", start.get(key), "dot")):
            if level and plots.known(level):
                flat = {"x": places, "y": [level["value"]] * len(places)}
                drawn.append({"name": name, "colour": "--muted", "dash": style, **flat})
        note = f"{note} Bars: 95% intervals over prompts, for these very policies.".strip()
        first = key == "elo"  # whose legend is that of all
        made = plots.lines(title, drawn, x="rollout", y=y, height=340 if first else 260, note=note, legend=first)
        if made:
            found.append(_apart(made, count))
    return found


def _apart(made: Plot, count: int) -> Plot:
    """The first `count` lines a little aside of one another, so that their bars can be told apart; all begin as one."""
    reach = max(made.traces[0]["x"])
    traces = []
    for i, trace in enumerate(made.traces):
        aside = 0.008 * reach * (i - (count - 1) / 2) if i < count else 0.0
        traces.append(trace | {"x": [place + aside * (place > 0) for place in trace["x"]]})
    return Plot(made.title, made.alt, tuple(traces), made.layout, made.head, made.rows, made.height, made.note)
