"""Plots as data: positions, intervals, colours and the table that says the same, by hand."""

import pytest
from reports import est

from cai.compare import plots, report_plots, training_plots


def test_dots_stand_where_the_numbers_are() -> None:
    rows = [
        {"name": "first <b>", "estimate": est(0.6, 0.5, 0.75, 40, 20), "colour": "--arm-1"},
        {"name": "nothing", "estimate": est(None, n=0, clusters=0)},
        {"name": "second", "estimate": est(0.25, None, None, 4, 1), "also": est(0.5, 0.4, 0.6)},
    ]
    plot = plots.dots("Wins", rows, null=0.5, band=(0.45, 0.55), x="share")
    first, second, hollow = plot.traces
    assert (first["x"], first["y"], first["error_x"]["array"], first["error_x"]["arrayminus"]) == (
        [60], [-0.12], [pytest.approx(15)], [pytest.approx(10)],
    )  # fmt: skip
    assert first["text"] == ["first &lt;b&gt;<br>60.0% [50.0, 75.0]<br>n 40 in 20 prompts"]
    assert (first["marker"]["color"], hollow["marker"]["color"]) == ("--arm-1", "--paper")
    assert (second["y"], second["error_x"]["visible"], hollow["y"]) == ([0.88], False, [1.2])
    assert plot.layout["yaxis"]["ticktext"] == ["first &lt;b&gt;", "second"]
    band, line = plot.layout["shapes"]
    assert (band["x0"], band["x1"], line["x0"]) == (45, pytest.approx(55), 50)
    assert plot.head == ("", "Wins", "hollow", "rows", "prompts")
    assert plot.rows == (
        ("first <b>", "60.0% [50.0, 75.0]", "no data", "40", "20"),
        ("second", "25.0% (no interval)", "50.0% [40.0, 60.0]", "4", "1"),
    )
    assert plot.alt == "Wins. first <b>: 60.0% [50.0, 75.0]; second: 25.0% (no interval)"
    assert plots.dots("Wins", rows[1:2]) is None


def test_lines_of_numbers_and_of_estimates() -> None:
    drawn = [
        {"name": "a", "x": [1, 2, 3], "y": [0.5, None, 0.25], "colour": "--arm-0", "dash": "dash"},
        {"name": "b", "x": [1, 3], "y": [est(0.1, 0.0, 0.3), None], "ring": [0]},
    ]
    plot = plots.lines("Share", drawn, x="step", y="share", unit="%", null=0.5)
    a, b, ring = plot.traces
    assert (a["y"], a["mode"], a["line"]["dash"]) == ([50, None, 25], "lines", "dash")
    assert (b["y"], b["error_y"]["array"], b["error_y"]["arrayminus"]) == ([10, None], [20, 0], [10, 0])
    assert (ring["x"], ring["y"]) == ([1], [10])
    assert plot.head == ("step", "a", "b")
    assert plot.rows == (("1", "50.0%", "10.0% [0.0, 30.0]"), ("2", "–", "–"), ("3", "25.0%", "–"))
    assert plot.layout["xaxis"]["tickvals"] == [1, 2, 3] and plot.layout["shapes"][0]["y0"] == 50
    assert plot.alt == "Share: share by step. a ends at 25.0%; b ends at 10.0% [0.0, 30.0]"
    assert plots.lines("none", [{"name": "a", "x": [1], "y": [None]}], x="", y="") is None


def test_a_long_line_is_told_at_twelve_places_the_last_among_them() -> None:
    line = {"name": "a", "x": list(range(100)), "y": [float(i) for i in range(100)]}
    plot = plots.lines("Long", [line], x="step", y="y")
    assert [row[0] for row in plot.rows] == ["0", "9", "18", "27", "36", "45", "54", "63", "72", "81", "90", "99"]
    assert plot.rows[-1] == ("99", "99.0") and len(plot.traces[0]["y"]) == 100


def test_plane_and_calibration() -> None:
    points = [
        {"name": "ai", "x": est(0.1, 0.0, 0.2), "y": est(0.5, 0.4, 0.7), "colour": "--arm-0"},
        {"name": "sft", "x": est(0.1, 0.0, 0.2), "y": est(None, n=0)},
    ]
    plot = plots.plane("Plane", points, x="over", y="right", best="top left")
    (trace,) = plot.traces
    assert (trace["x"], trace["y"], trace["error_y"]["array"]) == ([10], [50], [pytest.approx(20)])
    assert plot.rows == (("ai", "10.0% [0.0, 20.0]", "50.0% [40.0, 70.0]"),) and plot.note == " Best is top left."
    plot = plots.curve_of_calibration("C", {"none": [], "ai": [(0.2, 0.1, 9), (0.8, 0.9, 36)]}, colours={"ai": "--ink"})
    assert plot.traces[1]["x"] == [20, 80] and plot.traces[1]["y"] == [10, 90]
    assert plot.traces[1]["marker"]["size"] == [5 + 14 * 0.5, 19]
    assert plot.rows == (("ai", "20%", "10%", "9"), ("ai", "80%", "90%", "36"))
    assert plots.curve_of_calibration("C", {"none": []}, colours={}) is None


def test_proxy_and_gold_share_their_axes_over_the_arms_and_have_a_scale_each() -> None:
    def run(arm: str, proxy: list[float], gold: list[float], kl: list[float]):
        line = {"seed": 1, "rollout": [0, 5], "root_kl": kl, "proxy": proxy, "gold": gold, "kept": 5}
        return {"arm": arm, "by": "judge", "lines": [line]}

    given = {"arms": ["ai", "human"], "seeds": [0, 1]}
    given["overoptimisation"] = [run("ai", [0, 2], [0, -0.1], [0, 3]), run("human", [0, 1], [0, 0.2], [0, 1])]
    (_, ai), (_, human) = training_plots.gold(given)
    for plot in (ai, human):
        assert plot.layout["yaxis"]["range"] == [pytest.approx(-2.3), pytest.approx(2.3)]
        assert plot.layout["yaxis2"]["range"] == [pytest.approx(-0.23), pytest.approx(0.23)]
        assert plot.layout["xaxis"]["range"][1] == pytest.approx(3.15)
    proxy, ring, gold, gold_ring = ai.traces
    assert (proxy["line"]["color"], gold["line"]["color"], proxy["marker"]["symbol"]) == ("--arm-0", "--ink", "square")
    assert "yaxis" not in proxy | ring and gold["yaxis"] == gold_ring["yaxis"] == "y2"
    assert (ring["x"], ring["y"], gold_ring["y"]) == ([3], [2], [-0.1])


def test_curves_of_one_training_share_their_x_axis() -> None:
    def curve(title: str, reach: int):
        return {
            "title": title,
            "x": "step",
            "y": "y",
            "lines": [{"arm": "ai", "seed": 0, "x": [0, reach], "y": [1, 2]}],
        }

    curves = [curve("reward model: loss", 100), curve("reward model: accuracy", 50), curve("SFT: loss", 10)]
    made = training_plots.curves({"arms": ["ai"], "seeds": [0], "curves": curves})
    assert [plot.layout["xaxis"]["range"] for plot in made] == [[-3, 103], [-3, 103], [-0.3, 10.3]]


def test_each_arm_keeps_its_colour() -> None:
    arms = [str(i) for i in range(8)]
    assert [plots.colour(arm, arms) for arm in ("0", "5", "6", "sft", None)] == [
        "--arm-0", "--arm-5", "--arm-0", "--muted", "--muted",
    ]  # fmt: skip


def test_principles_stand_in_the_order_of_their_agreement() -> None:
    def judged(*values: float | None) -> dict:
        said = [{"principle": f"p{i}", "agreement": est(value)} for i, value in enumerate(values)]
        return {"arm": "ai", "principles": said}

    plot = report_plots.principles(judged(0.5, 0.75, None), ["ai"])
    assert plot is not None and [row[0] for row in plot.rows] == ["p1", "p0"]
    assert [trace["x"] for trace in plot.traces] == [[75], [50]]
    assert report_plots.principles(judged(0.5, None), ["ai"]) is None, "one principle is no comparison"
    assert report_plots.principles({"arm": "ai"}, ["ai"]) is None
