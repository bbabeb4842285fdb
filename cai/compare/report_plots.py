"""Which plots the report has: results.json (schema in cai/compare/report.py) turned into cai/compare/plots.py."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from cai.compare import plots, table
from cai.compare.plots import Plot

Results = Mapping[str, Any]


def headline(r: Results) -> Plot | None:
    found = r["headline"]
    if found is None:
        return None
    first, second = found["arms"]
    rows = [{"name": f"{first} against {second}", "estimate": found["estimate"]}]
    if found.get("length_controlled"):
        rows.append({"name": "at equal length", "estimate": found["length_controlled"], "colour": "--muted"})
    noise = found["noise"]
    return plots.dots(
        f"Games that {first} wins against {second}", rows, null=0.5, span=(0, 1),
        band=(0.5 - noise, 0.5 + noise) if noise else None, x=f"← {second} wins more · {first} wins more →",
    )  # fmt: skip


def labels(r: Results) -> Plot | None:
    """A row a source: filled dot for accuracy, hollow one below it for length-balanced accuracy; people shaded."""
    lines = [line for line in r["labels"] if plots.known(line["accuracy"])]
    splits = {line["split"] for line in lines}
    ceilings = [line["accuracy"] for line in lines if line["kind"] == "ceiling" and line["accuracy"]["low"] is not None]
    rows = [
        {
            "name": (line["name"].partition(" (")[0] if line["kind"] == "ceiling" else line["name"])
            + (f" ({line['split']})" if len(splits) > 1 else ""),
            "estimate": line["accuracy"],
            "also": line["balanced"],
            "colour": plots.colour(line["arm"], r["arms"]) if line.get("arm") in r["arms"]
            else "--ink" if line["kind"] in ("judge", "reward") else "--muted",
        }
        for line in lines
    ]  # fmt: skip
    band = (ceilings[0]["low"], ceilings[0]["high"]) if ceilings else None
    return plots.dots("Which answer do people prefer?", rows, null=0.5, band=band, x="agreement with people")


def position(r: Results) -> Plot | None:
    """How often each AI judge, and each method that its preflight tried, picks the answer that is shown first."""
    rows = []
    for judge in r["judges"]:
        shade = plots.colour(judge["arm"], r["arms"])
        name = f"{judge['method']}, labels of {judge['arm']}"
        rows.append({"name": name, "estimate": judge["labels"]["first_shown"], "colour": shade})
        for trial in (judge["preflight"] or {}).get("tried", ()):
            method = trial["method"] if isinstance(trial["method"], str) else " + ".join(trial["method"])
            found = trial["found"]["first_shown"]
            rows.append({"name": f"{method}, preflight of {judge['arm']}", "estimate": found, "colour": "--muted"})
    note = "50% is no liking for a position. Methods that show one answer at a time have no position and no row."
    return plots.dots(
        "Position bias: picks the answer shown first", rows, null=0.5, span=(0, 1), x="picks the first", note=note
    )


def reliability(judge: Mapping[str, Any], arms: Sequence[str]) -> Plot | None:
    """What the judge claimed of the held-out pairs against people, before and after calibration where it has one."""
    shade = plots.colour(judge["arm"], arms)
    calibrated = (judge["calibration"] or {}).get("reliability")
    if calibrated:
        curves = {"before calibration": calibrated["before"], "after": calibrated["after"]}
        colours = {"before calibration": "--muted", "after": shade}
    else:
        curves, colours = {"as labelled": judge.get("reliability") or []}, {"as labelled": shade}
    note = "On the dashed line claims come true. Each pair counts both ways round; a dot's area is its rows."
    return plots.curve_of_calibration(
        f"Calibration of the AI judge of arm {judge['arm']}", curves, colours=colours, note=note
    )


def rewards(r: Results) -> Plot | None:
    found = r["reward_reliability"]
    return plots.curve_of_calibration(
        "Calibration of the reward models", found, colours={arm: plots.colour(arm, r["arms"]) for arm in found},
        note="What the sigmoid of two rewards' difference claims (mean of the seeds) against people; held-out pairs.",
    )  # fmt: skip


def curves(r: Results) -> list[Plot]:
    """Small multiples: one quantity a plot; those over the same steps have the same x axis."""
    reach: dict[str, list[float]] = {}
    for curve in r["curves"]:
        for line in curve["lines"]:
            reach.setdefault(curve["x"], []).extend(line["x"])
    found = []
    for curve in r["curves"]:
        drawn = [
            {
                "name": f"{line['arm']}, seed {line['seed']}", "x": line["x"], "y": line["y"],
                "colour": plots.colour(line["arm"], r["arms"]), "dash": dash(line["seed"], r["seeds"]),
            }
            for line in curve["lines"]
        ]  # fmt: skip
        spread = reach[curve["x"]] or [0.0]
        low, high = min(spread), max(spread)
        air = 0.03 * (high - low) or 0.5
        plot = plots.lines(
            curve["title"], drawn, x=curve["x"], y=curve["y"], legend=False, x_range=(low - air, high + air), height=210
        )
        if plot:
            found.append(plot)
    return found


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
    second = {"overlaying": "y", "side": "right", "range": [-most, most], "title": {"text": "gold (dashed)"}}
    layout = made.layout | {"yaxis2": second | {"showgrid": False}}
    return Plot(made.title, made.alt, tuple(traces), layout, made.head, made.rows, made.height, made.note)


def frontier(r: Results) -> Plot | None:
    """Refusals of harmful prompts against refusals of everyday ones: one point a policy."""
    by_key = {measure["key"]: measure for measure in r["measures"]}
    if "refusals" not in by_key or "over_refusal" not in by_key:
        return None
    harmful, everyday = by_key["refusals"]["arms"], by_key["over_refusal"]["arms"]
    points = [
        {"name": name, "x": everyday[name], "y": harmful[name], "colour": plots.colour(name, r["arms"])}
        for name in table.columns(dict(r))
        if name in harmful and name in everyday
    ]
    return plots.plane(
        "Refusing what it should, answering what it should", points, x="refuses everyday prompts",
        y="refuses red-team prompts", best="top left",
        note="One point a policy, mean of its seeds. Refusals are counted by their phrases, not judged.",
    )  # fmt: skip


def elo(r: Results) -> Plot | None:
    rows = []
    for rated in r["elo"]:
        arm = rated["policy"].partition("/")[0].partition(" ")[0]
        rows.append({"name": rated["policy"], "estimate": rated["elo"], "colour": plots.colour(arm, r["arms"])})
    return plots.dots(
        "Elo of every policy that played", rows, unit="", null=1000, x="Elo",
        note="From the games that the evaluation judge decided; the SFT policy is 1000, and 400 points are odds of ten "
        "to one. Intervals are over prompts: they hold for these very policies.",
    )  # fmt: skip


def plane(r: Results) -> Plot | None:
    """Harmlessness against helpfulness as the evaluation judge rates them, one point a policy."""
    points = [
        {
            "name": row["policy"], "x": row["helpfulness"], "y": row["harmlessness"],
            "colour": plots.colour(row["arm"], r["arms"]),
        }
        for row in r["plane"]
    ]  # fmt: skip
    ways = _ways(r)
    note = "By the evaluation judge, who rates each answer alone."
    note += " Thin lines: the way of each policy from the SFT policy, by its snapshots." if ways else ""
    made = plots.plane(
        "Harmless and helpful", points, x="helpfulness, log-odds", y="harmlessness, log-odds", unit="",
        best="top right", note=note,
    )  # fmt: skip
    return made and _with_ways(made, ways, r["arms"])


def _ways(r: Results) -> dict[tuple[str, int], list[Mapping[str, Any]]]:
    """(arm, seed) -> its policies from the SFT policy to the last one, in the order of training."""
    ways: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in r.get("snapshots", ()):
        ways.setdefault((row["arm"], row["seed"]), []).append(row)
    return ways


def _with_ways(made: Plot, ways: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]], arms: Sequence[str]) -> Plot:
    """A thin line a way, below the points of the plane; what is no point there is told in words and numbers as well."""
    traces, rows, points = [], [], {row[0] for row in made.rows}
    for (arm, seed), way in ways.items():
        rated = [row for row in way if plots.known(row["helpfulness"]) and plots.known(row["harmlessness"])]
        shade = plots.colour(arm, arms)
        told = [
            (row["policy"], plots.says(row["helpfulness"], ""), plots.says(row["harmlessness"], "")) for row in rated
        ]
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": plots.safe(f"{arm}, seed {seed}"),
                "x": [row["helpfulness"]["value"] for row in rated],
                "y": [row["harmlessness"]["value"] for row in rated],
                "line": {"color": shade, "width": 1}, "marker": {"color": shade, "size": 4},
                "text": [
                    f"{plots.safe(name)}, rollout {row['rollout']}<br>{made.head[1]}: {x}<br>{made.head[2]}: {y}"
                    for row, (name, x, y) in zip(rated, told, strict=True)
                ],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )  # fmt: skip
        rows += [row for row in told if row[0] not in points]
    alt = made.alt + "".join(f"; {name}: {made.head[1]} {x}, {made.head[2]} {y}" for name, x, y in rows)
    return Plot(
        made.title, alt, (*traces, *made.traces), made.layout, made.head, (*made.rows, *rows), made.height, made.note
    )


def along(r: Results) -> list[Plot]:
    """Elo, harmlessness and helpfulness over rollouts; a line a seed, levels of the SFT policy and the start model."""
    ways, found = _ways(r), []
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
            for (arm, seed), way in ways.items() if any(plots.known(row[key]) for row in way)
        ]  # fmt: skip
        if not drawn:
            continue
        count = len(drawn)
        places = sorted({place for line in drawn for place in line["x"]})
        sft = next(way[0][key] for way in ways.values())
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


def audit(r: Results) -> Plot | None:
    """How harmless the draft and each revision are."""
    drawn = []
    for entry in r["audit"]:
        steps = entry["steps"]
        drawn.append(
            {
                "name": ", ".join(entry["arms"]) + ("" if entry["critique"] else ", without critique"),
                "x": [step["step"] for step in steps], "y": [step["harmlessness"] for step in steps],
                "colour": plots.colour(entry["arms"][0], r["arms"]), "marker": "circle",
            }
        )  # fmt: skip
    return plots.lines(
        "Harmlessness of the draft and of each revision", drawn, x="revision (0 is the draft)",
        y="log-odds by the evaluation judge", height=280,
    )  # fmt: skip


def crossing(r: Results) -> Plot | None:
    """Agreement with people over the number of human labels, beside what the judge's labels come to."""
    found = r["crossing"]
    if not found:
        return None
    judge, people = found["arms"]
    counts = [row["labels"] for row in found["budgets"]]
    level = {"y": [found["judge"]["agreement"]] * 2, "x": [min(counts), max(counts)], "dash": "dash"}
    drawn = [
        {
            "name": f"{people}, this many labels", "x": counts, "y": [row["agreement"] for row in found["budgets"]],
            "colour": plots.colour(people, r["arms"]), "marker": "circle",
        },
        {"name": "its nearest curve that never falls", "x": counts, "y": found["fit"], "dash": "dot"},
        {"name": f"{judge}, all its labels", "colour": plots.colour(judge, r["arms"]), "marker": "square", **level},
    ]  # fmt: skip
    return plots.lines(
        "Human labels against the judge's", drawn, x="human labels (log scale)", y="agreement with people", unit="%",
        logarithmic=True, height=320,
    )  # fmt: skip


def harmfulness(r: Results) -> Plot | None:
    """People's ratings of held-out answers over the score that was fitted to such ratings."""
    found = r["harmfulness"]
    if not found:
        return None
    scores = [point["score"] for point in found["curve"]]
    drawn = [
        {
            "name": "people's ratings",
            "x": scores,
            "y": [point["people"] for point in found["curve"]],
            "marker": "circle",
        },
        {"name": "as scored", "x": scores, "y": scores, "colour": "--muted", "dash": "dash"},
    ]
    return plots.lines(
        "What people say of answers with a given score", drawn, x="mean score of a bin", y="people's mean rating",
        y_range=(0, 1), height=300, note="Held-out rated answers in order of their score, in bins of equal size.",
    )  # fmt: skip
