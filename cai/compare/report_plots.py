"""Which plots the report has: results.json (schema in cai/compare/report.py) turned into cai/compare/plots.py."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cai.compare import plots, table
from cai.compare.figures import Chart, Point, Series, Strips, axis_of
from cai.compare.plots import Axes, Dot, Line, Scale, Spot
from cai.compare.training_plots import ways
from cai.core.refusals import stated

Results = Mapping[str, Any]


def labels(r: Results) -> Strips | None:
    """A row a source: filled dot for accuracy, hollow one below it for length-balanced accuracy; people shaded."""
    lines = [line for line in r["labels"] if plots.known(line["accuracy"])]
    splits = {line["split"] for line in lines}
    ceilings = [line["accuracy"] for line in lines if line["kind"] == "ceiling" and line["accuracy"]["low"] is not None]
    rows = [
        Dot(
            line["title"]
            + (f" ({line['split']})" if len(splits) > 1 else ""),
            line["accuracy"],
            plots.colour(line["arm"], r["arms"]) if line.get("arm") in r["arms"]
            else "--ink" if line["kind"] in ("judge", "reward") else "--muted",
            line["balanced"],
        )
        for line in lines
    ]  # fmt: skip
    band = (ceilings[0]["low"], ceilings[0]["high"]) if ceilings else None
    return plots.dots("Which answer do people prefer?", rows, Scale("agreement with people", null=0.5, band=band))


def position(r: Results) -> Strips | None:
    """How often each AI judge, and each method that its preflight tried, picks the answer that is shown first."""
    rows = []
    for judge in r["judges"]:
        shade = plots.colour(judge["arm"], r["arms"])
        name = f"{judge['method']}, labels of {judge['arm']}"
        rows.append(Dot(name, judge["labels"]["first_shown"], shade))
        for trial in (judge["preflight"] or {}).get("tried", ()):
            method = trial["method"] if isinstance(trial["method"], str) else " + ".join(trial["method"])
            name = f"{method}, preflight of {judge['arm']}"
            rows.append(Dot(name, trial["found"]["first_shown"], "--muted"))
    note = "50% is no liking for a position. Methods that show one answer at a time have no position and no row."
    scale = Scale("picks the first", null=0.5, ends=(0, 1))
    return plots.dots("Position bias: picks the answer shown first", rows, scale, note)


def reliability(judge: Mapping[str, Any], arms: Sequence[str]) -> Chart | None:
    """What the judge claimed of the held-out pairs against people, before and after calibration where it has one."""
    shade = plots.colour(judge["arm"], arms)
    calibrated = (judge["calibration"] or {}).get("reliability")
    if calibrated:
        curves = {"before calibration": calibrated["before"], "after": calibrated["after"]}
        colours = {"before calibration": "--muted", "after": shade}
    else:
        curves, colours = {"as labelled": judge.get("reliability") or []}, {"as labelled": shade}
    note = "On the dashed line claims come true. Each pair counts both ways round; a dot's area is its rows."
    return plots.curve_of_calibration(f"Calibration of the AI judge of arm {judge['arm']}", curves, colours, note)


def principles(judge: Mapping[str, Any], arms: Sequence[str]) -> Strips | None:
    """A row a principle, the one that agrees best with people first; nothing where fewer than two were asked."""
    rows = [
        Dot(entry["principle"], entry["agreement"], plots.colour(judge["arm"], arms))
        for entry in judge.get("principles") or ()
        if plots.known(entry["agreement"])
    ]
    if len(rows) < 2:
        return None
    return plots.dots(
        f"Principle by principle: the judge of arm {judge['arm']}",
        sorted(rows, key=lambda row: -row.estimate["value"]),
        Scale("agreement with people", null=0.5),
        "Each by its own votes on the held-out pairs; intervals overlap where the votes cannot tell them apart.",
    )  # fmt: skip


def rewards(r: Results) -> Chart | None:
    curves = r["reward_reliability"]
    return plots.curve_of_calibration(
        "Calibration of the reward models", curves, {arm: plots.colour(arm, r["arms"]) for arm in curves},
        "What the sigmoid of two rewards' difference claims (mean of the seeds) against people; held-out pairs.",
    )  # fmt: skip


def frontier(r: Results) -> Chart | None:
    """Refusals of harmful prompts against refusals of everyday ones: one point a policy."""
    by_key = {measure["key"]: measure for measure in r["measures"]}
    if "refusals" not in by_key or "over_refusal" not in by_key:
        return None
    harmful, everyday = by_key["refusals"]["arms"], by_key["over_refusal"]["arms"]
    spots = [
        Spot(name, everyday[name], harmful[name], plots.colour(name, r["arms"]))
        for name in table.columns(dict(r))
        if name in harmful and name in everyday
    ]
    return plots.plane(
        "Refusing what it should, answering what it should", spots,
        Axes("refuses everyday prompts", "refuses red-team prompts", "%"), best="top left",
        note=f"One point a policy, mean of its seeds. Refusals: {stated()}.",
    )  # fmt: skip


def elo(r: Results) -> Strips | None:
    rows = []
    for rated in r["elo"]:
        rows.append(Dot(rated["policy"], rated["elo"], plots.colour(rated["arm"], r["arms"])))
    return plots.dots(
        "Elo of every policy that played", rows, Scale("Elo", "", null=1000),
        "From the games that the evaluation judge decided; the SFT policy is 1000, and 400 points are odds of ten "
        "to one. Intervals are over prompts: they hold for these very policies.",
    )  # fmt: skip


def plane(r: Results) -> Chart | None:
    """Harmlessness against helpfulness as the evaluation judge rates them, one point a policy."""
    spots = [
        Spot(row["policy"], row["helpfulness"], row["harmlessness"], plots.colour(row["arm"], r["arms"]))
        for row in r["plane"]
    ]
    paths = ways(r)
    note = "By the evaluation judge, who rates each answer alone."
    note += " Thin lines: the way of each policy from the SFT policy, by its snapshots." if paths else ""
    rated = [
        row for way in paths.values() for row in way
        if plots.known(row["helpfulness"]) and plots.known(row["harmlessness"])
    ]  # fmt: skip
    axes = Axes("helpfulness, log-odds", "harmlessness, log-odds")
    chart = plots.plane("Harmless and helpful", spots, axes, best="top right", note=note)
    return chart and _with_ways(chart, rated, r["arms"])


def _with_ways(chart: Chart, rated: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> Chart:
    """A thin line a way, below the points of the plane; what is no point there is told in words and numbers as well."""
    ways: dict[tuple[str, int], list[Point]] = {}
    rows, named = [], {row[0] for row in chart.rows}
    for row in rated:
        x, y = (plots.says(row[key], "") for key in ("helpfulness", "harmlessness"))
        text = f"{row['policy']}, rollout {row['rollout']}\n{chart.head[1]}: {x}\n{chart.head[2]}: {y}"
        point = Point(row["helpfulness"]["value"], row["harmlessness"]["value"], text, size=2)
        ways.setdefault((row["arm"], row["seed"]), []).append(point)
        rows += [(row["policy"], x, y)] if row["policy"] not in named else []
    series = [
        Series(f"{arm}, seed {seed}", tuple(points), plots.colour(arm, arms), "solid", "circle", thin=True)
        for (arm, seed), points in ways.items()
    ]
    alt = chart.alt + "".join(f"; {name}: {chart.head[1]} {x}, {chart.head[2]} {y}" for name, x, y in rows)
    x, y = (
        axis_of(axis.title, [*axis.ends, *(getattr(p, way) for points in ways.values() for p in points)])
        if ways else axis
        for axis, way in ((chart.x, "x"), (chart.y, "y"))
    )  # fmt: skip
    return replace(chart, alt=alt, x=x, y=y, series=(*series, *chart.series), rows=(*chart.rows, *rows))


def audit(r: Results) -> Chart | None:
    """How harmless the draft and each revision are."""
    drawn = []
    for entry in r["audit"]:
        plain = entry["critique"] or entry.get("learns", "revisions") != "revisions"
        name = ", ".join(entry["arms"]) + ("" if plain else ", without critique")
        x, y = ([step[key] for step in entry["steps"]] for key in ("step", "harmlessness"))
        drawn.append(Line(name, x, y, plots.colour(entry["arms"][0], r["arms"]), marker="circle"))
    axes = Axes("revision (0 is the draft)", "log-odds by the evaluation judge")
    return plots.lines("Harmlessness of the draft and of each revision", drawn, axes)


def crossing(r: Results) -> Chart | None:
    """Agreement with people over the number of human labels, beside what the judge's labels come to."""
    given = r["crossing"]
    if not given:
        return None
    judge, people = given["arms"]
    counts = [row["labels"] for row in given["budgets"]]
    level = [min(counts), max(counts)], [given["judge"]["agreement"]] * 2
    agreement, shade = [row["agreement"] for row in given["budgets"]], plots.colour(people, r["arms"])
    drawn = [
        Line(f"{people}, this many labels", counts, agreement, shade, marker="circle"),
        Line("its nearest curve that never falls", counts, given["fit"], dash="dot"),
        Line(f"{judge}, all its labels", *level, plots.colour(judge, r["arms"]), "dash", "square"),
    ]
    axes = Axes("human labels (log scale)", "agreement with people", "%", logarithmic=True)
    return plots.lines("Human labels against the judge's", drawn, axes, height=260)


def harmfulness(r: Results) -> Chart | None:
    """People's ratings of held-out answers over the score that was fitted to such ratings."""
    given = r["harmfulness"]
    if not given:
        return None
    scores = [point["score"] for point in given["curve"]]
    drawn = [
        Line("people's ratings", scores, [point["people"] for point in given["curve"]], marker="circle"),
        Line("as scored", scores, scores, "--muted", "dash"),
    ]
    return plots.lines(
        "What people say of answers with a given score", drawn,
        Axes("mean score of a bin", "people's mean rating", y_ends=(0, 1)), height=220,
        note="Held-out rated answers in order of their score, in bins of equal size.",
    )  # fmt: skip
