"""Which plots the report has: results.json (schema in cai/compare/report.py) turned into cai/compare/plots.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from cai.compare import plots, table
from cai.compare.plots import Plot
from cai.compare.training_plots import ways
from cai.core.refusals import stated

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


def principles(judge: Mapping[str, Any], arms: Sequence[str]) -> Plot | None:
    """A row a principle, the one that agrees best with people first; nothing where fewer than two were asked."""
    rows = [
        {"name": one["principle"], "estimate": one["agreement"], "colour": plots.colour(judge["arm"], arms)}
        for one in judge.get("principles") or ()
        if plots.known(one["agreement"])
    ]
    if len(rows) < 2:
        return None
    return plots.dots(
        f"Principle by principle: the judge of arm {judge['arm']}",
        sorted(rows, key=lambda row: -row["estimate"]["value"]), null=0.5, x="agreement with people",
        note="Each by its own votes on the held-out pairs; intervals overlap where the votes cannot tell them apart.",
    )  # fmt: skip


def rewards(r: Results) -> Plot | None:
    found = r["reward_reliability"]
    return plots.curve_of_calibration(
        "Calibration of the reward models", found, colours={arm: plots.colour(arm, r["arms"]) for arm in found},
        note="What the sigmoid of two rewards' difference claims (mean of the seeds) against people; held-out pairs.",
    )  # fmt: skip


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
        note=f"One point a policy, mean of its seeds. Refusals: {stated()}.",
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
    paths = ways(r)
    note = "By the evaluation judge, who rates each answer alone."
    note += " Thin lines: the way of each policy from the SFT policy, by its snapshots." if paths else ""
    made = plots.plane(
        "Harmless and helpful", points, x="helpfulness, log-odds", y="harmlessness, log-odds", unit="",
        best="top right", note=note,
    )  # fmt: skip
    return made and _with_ways(made, paths, r["arms"])


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
