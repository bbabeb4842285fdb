"""Plots as data: positions, intervals, colours and the table that says the same, by hand."""

import pytest
from reports import est

from cai.compare import plots, report_plots, training_plots
from cai.compare.figures import Axis, axis_of, levels, tick
from cai.compare.plots import Axes, Dot, Line, Scale, Spot


def test_an_axis_says_where_a_value_stands_in_per_cent() -> None:
    axis = Axis("", (2.0, 6.0), ())
    assert [axis.at(x) for x in (2, 3, 6, 100, -100)] == [0, 25, 100, 101, -1], "what is beyond stays at the edge"
    assert axis.span(3, 5) == (25, 50) and axis.span(0, 4) == (0, 50) and axis.span(7, 9) == (100, 0)
    assert [Axis("", (10, 1000), (), True).at(x) for x in (10, 100, 1000)] == [0, 50, 100]


def test_ticks_are_round_numbers_between_the_ends() -> None:
    assert levels(0.0, 1.0) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert levels(-3.2, 41) == [0, 10, 20, 30, 40] and levels(-1.17, 1.02) == [-1, -0.5, 0, 0.5, 1]
    assert [tick(x, unit) for x, unit in ((0.5, "%"), (-1500, ""), (0.05, ""))] == ["50%", "−1,500", "0.05"]


def test_air_makes_no_share_negative_and_none_above_one() -> None:
    assert axis_of("", [0.0, 1.0], "%").ends == (-0.03, 1.02)
    assert axis_of("", [0.0, 0.0]).ticks[0] == (0, "0"), "nothing below 0 where nothing is negative"
    assert axis_of("", [-1.0, 1.0]).ends == pytest.approx((-1.12, 1.12))


def test_dots_stand_where_the_numbers_are() -> None:
    rows = [
        Dot("first <b>", est(0.6, 0.5, 0.75, 40, 20), "--arm-1"),
        Dot("nothing", est(None, n=0, clusters=0)),
        Dot("second", est(0.25, None, None, 4, 1), also=est(0.5, 0.4, 0.6)),
    ]
    plot = plots.dots("Wins", rows, Scale("share", null=0.5, band=(0.45, 0.55)))
    assert plot is not None and [row.name for row in plot.strips] == ["first <b>", "second"] and plot.widest == 9
    strips = [row.strips[0] for row in plot.strips]
    assert [len(strip.marks) for strip in strips if strip] == [1, 2]
    (first,), (second, hollow) = (strip.marks for strip in strips if strip)
    assert (first.value, first.reach, first.colour) == (0.6, (0.5, 0.75), "--arm-1")
    assert first.text == "first <b>\n60.0% [50.0, 75.0]\nn 40 in 20 prompts"
    assert (second.reach, second.hollow, hollow.value, hollow.hollow) == (None, False, 0.5, True)
    assert strips[0] and (strips[0].null, strips[0].band) == (0.5, (0.45, 0.55))
    (axis,) = plot.axes
    assert axis is not None and axis.title == "share" and axis.ticks[0] == (0.3, "30%")
    assert plot.head == ("", "Wins", "hollow", "rows", "prompts")
    assert plot.rows == (
        ("first <b>", "60.0% [50.0, 75.0]", "no data", "40", "20"),
        ("second", "25.0% (no interval)", "50.0% [40.0, 60.0]", "4", "1"),
    )
    assert plot.alt == "Wins. first <b>: 60.0% [50.0, 75.0]; second: 25.0% (no interval)"
    assert plots.dots("Wins", rows[1:2], Scale()) is None


def test_lines_of_numbers_and_of_estimates() -> None:
    drawn = [
        Line("a", [1, 2, 3], [0.5, None, 0.25], "--arm-0", "dash"),
        Line("b", [1, 3], [est(0.1, 0.0, 0.3), None], ring=[0]),
    ]
    plot = plots.lines("Share", drawn, Axes("step", "share", "%", null=0.5))
    assert plot is not None and plot.legend and plot.null == 0.5
    a, b = plot.series
    assert [p and p.y for p in a.points] == [0.5, None, 0.25] and (a.dash, a.marker) == ("dash", "")
    assert a.runs == [], "one point between gaps is no line"
    (point, nothing) = b.points
    assert point and (point.x, point.y, point.up, point.ring) == (1, 0.1, (0.0, 0.3), True) and nothing is None
    assert point.text == "b, step 1\n10.0% [0.0, 30.0]" and b.marker == "circle"
    assert plot.head == ("step", "a", "b")
    assert plot.rows == (("1", "50.0%", "10.0% [0.0, 30.0]"), ("2", "–", "–"), ("3", "25.0%", "–"))
    assert [text for _, text in plot.x.ticks] == ["1", "2", "3"], "no half steps"
    assert plot.alt == "Share: share by step. a ends at 25.0%; b ends at 10.0% [0.0, 30.0]"
    assert plots.lines("none", [Line("a", [1], [None])], Axes("", "")) is None


def test_a_line_is_broken_where_a_number_is_missing() -> None:
    plot = plots.lines("t", [Line("a", [0, 1, 2, 3, 4], [1.0, 2.0, None, 3.0, 4.0])], Axes("x", "y"))
    assert plot is not None and [[p.x for p in run] for run in plot.series[0].runs] == [[0, 1], [3, 4]]


def test_a_long_line_is_told_at_twelve_places_the_last_among_them() -> None:
    line = Line("a", list(range(100)), [float(i) for i in range(100)])
    plot = plots.lines("Long", [line], Axes("step", "y"))
    assert plot is not None
    assert [row[0] for row in plot.rows] == ["0", "9", "18", "27", "36", "45", "54", "63", "72", "81", "90", "99"]
    assert plot.rows[-1] == ("99", "99.0") and len(plot.series[0].points) == 100 and not plot.legend


def test_plane_and_calibration() -> None:
    spots = [
        Spot("ai", est(0.1, 0.0, 0.2), est(0.5, 0.4, 0.7), "--arm-0"),
        Spot("sft", est(0.1, 0.0, 0.2), est(None, n=0)),
    ]
    plot = plots.plane("Plane", spots, Axes("over", "right", "%"), best="top left")
    assert plot is not None
    (series,) = plot.series
    (point,) = series.points
    assert point and (point.x, point.y, point.across, point.up) == (0.1, 0.5, (0.0, 0.2), (0.4, 0.7))
    assert plot.rows == (("ai", "10.0% [0.0, 20.0]", "50.0% [40.0, 70.0]"),) and plot.note == " Best is top left."
    plot = plots.curve_of_calibration("C", {"none": [], "ai": [(0.2, 0.1, 9), (0.8, 0.9, 36)]}, {"ai": "--ink"})
    assert plot is not None
    bins = [p for p in plot.series[1].points if p]
    assert [(p.x, p.y) for p in bins] == [(0.2, 0.1), (0.8, 0.9)]
    assert [p.size for p in bins] == [2.5 + 3.5, 9.5], "the area is the rows"
    assert plot.rows == (("ai", "20%", "10%", "9"), ("ai", "80%", "90%", "36"))
    assert plots.curve_of_calibration("C", {"none": []}, {}) is None


def test_proxy_and_gold_have_a_plot_each_and_arms_share_their_axes() -> None:
    def run(arm: str, proxy: list[float], gold: list[float], kl: list[float]):
        line = {"seed": 1, "rollout": [0, 5], "root_kl": kl, "proxy": proxy, "gold": gold, "kept": 5}
        return {"arm": arm, "by": "judge", "lines": [line]}

    given = {"arms": ["ai", "human"], "seeds": [0, 1]}
    given["overoptimisation"] = [run("ai", [0, 2], [0, -0.1], [0, 3]), run("human", [0, 1], [0, 0.2], [0, 1])]
    (_, ai), (_, human) = training_plots.gold(given)
    for proxy, gold in (ai, human):
        assert proxy.y.ends == pytest.approx((-2.3, 2.3)) and gold.y.ends == pytest.approx((-0.23, 0.23))
        assert proxy.x.ends[1] == gold.x.ends[1] == pytest.approx(3.15)
    (proxy,), (gold,) = ai[0].series, ai[1].series
    assert (proxy.colour, gold.colour, proxy.marker, proxy.dash) == ("--arm-0", "--ink", "square", "dash")
    assert [p and (p.x, p.y, p.ring) for p in proxy.points] == [(0, 0, False), (3, 2, True)]
    assert [p and (p.y, p.ring) for p in gold.points] == [(0, False), (-0.1, True)]


def test_curves_of_one_training_share_their_x_axis() -> None:
    def curve(title: str, reach: int):
        return {
            "title": title,
            "x": "step",
            "y": "y",
            "training": title.split(":")[0],
            "lines": [{"arm": "ai", "seed": 0, "x": [0, reach], "y": [1, 2]}],
        }

    curves = [curve("reward model: loss", 100), curve("reward model: accuracy", 50), curve("SFT: loss", 10)]
    made = training_plots.curves({"arms": ["ai"], "seeds": [0], "curves": curves})
    assert [plot.x.ends for plot in made] == [(-3, 103), (-3, 103), (-0.3, 10.3)]


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
    assert plot is not None and [row.name for row in plot.strips] == ["p1", "p0"]
    assert [row[0] for row in plot.rows] == ["p1", "p0"]
    assert report_plots.principles(judged(0.5, None), ["ai"]) is None, "one principle is no comparison"
    assert report_plots.principles({"arm": "ai"}, ["ai"]) is None
