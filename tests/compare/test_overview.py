"""The first figure: values on their scales, differences in margins of error, colour only for what is shown."""

import pytest
from reports import est

from cai.compare.overview import SHARES, overview


def measure(key: str, arms: dict, difference: dict | None = None, unit: str = "%", better: str | None = "higher"):
    return {
        "key": key,
        "title": key,
        "unit": unit,
        "better": better,
        "help": "",
        "arms": arms,
        "difference": difference,
    }


def differs(estimate: dict, noise: float | None, **tests):
    return {"estimate": estimate, "noise": noise, "of": ["ai", "human"], **tests}


def given(*measures, headline: dict | None = None, arms=("ai", "human")):
    return {"arms": list(arms), "headline": headline, "measures": list(measures)}


def test_a_difference_is_told_in_margins_of_error() -> None:
    values = {"sft": est(0.1, 0.0, 0.2), "ai": est(0.6, 0.5, 0.7), "human": est(0.5, 0.4, 0.6)}
    plot = overview(given(measure("refusals", values, differs(est(0.1, -0.1, 0.3), 0.05))))
    assert plot is not None
    (row,) = plot.strips
    left, right = row.strips
    assert left and right and left.axis == SHARES and left.null is None
    assert [(m.value, m.hollow, m.colour) for m in left.marks] == [
        (0.6, False, "--arm-0"), (0.5, False, "--arm-1"), (0.1, True, "--muted"),
    ], "the arms first, what they started from hollow below"  # fmt: skip
    (mark,) = right.marks  # half of the interval is 0.2
    assert (mark.value, mark.reach) == (pytest.approx(0.5), (pytest.approx(-0.5), pytest.approx(1.5)))
    assert (right.null, right.band) == (0, (pytest.approx(-0.25), pytest.approx(0.25)))
    assert mark.colour == "--muted", "what is not shown is grey"
    assert row.words == ("+10.0 pts [−10.0, +30.0]", "not shown") and row.group == "Refusals"
    assert right.axis.ends == (pytest.approx(-1.65), pytest.approx(1.65)), "a tenth more than the furthest end"


def test_what_is_shown_has_the_colour_of_the_arm_it_speaks_for() -> None:
    def colours(estimate: dict, better: str | None) -> str:
        tests = differs(estimate, 0.01, p_holm=0.001)
        plot = overview(given(measure("ended", {"ai": est(0.5), "human": est(0.5)}, tests, better=better)))
        assert plot and plot.strips[0].strips[1]
        return plot.strips[0].strips[1].marks[0].colour

    up, down = est(0.3, 0.2, 0.4), est(-0.3, -0.4, -0.2)
    assert [colours(up, "higher"), colours(up, "lower"), colours(down, "higher")] == ["--arm-0", "--arm-1", "--arm-1"]
    assert [colours(up, None), colours(down, None)] == ["--arm-0", "--arm-0"], "ai higher, ai lower"
    assert colours(est(0.005, 0.001, 0.009), "higher") == "--muted", "within the noise floor"


def test_games_are_measured_from_one_half_and_other_units_have_their_own_scale() -> None:
    headline = {"estimate": est(0.7, 0.6, 0.8), "noise": None, "arms": ["ai", "human"], "equivalent": False}
    words = measure("words", {"ai": est(30.0, 20.0, 40.0), "human": est(None, n=0)}, None, unit="")
    plot = overview(given(words, headline=headline))
    assert plot is not None and [(row.name, row.group) for row in plot.strips] == [
        ("ai wins against human", "Games"), ("words", "Form of the answers"),
    ]  # fmt: skip
    (games, difference), (values, empty) = (row.strips for row in plot.strips)
    assert games and games.marks[0].value == 0.7 and games.null == 0.5
    assert difference and difference.marks[0].value == pytest.approx(2) and difference.band is None
    assert values and values.axis.ends == (pytest.approx(18.8), pytest.approx(41.2)) and len(values.marks) == 1
    assert [text for _, text in values.axis.ticks] == ["18.8", "41.2"] and empty and empty.marks == ()
    assert "ai wins against human: 70.0% [60.0, 80.0]; difference +20.0 pts [+10.0, +30.0]" in plot.alt


def test_a_difference_without_an_interval_has_no_place_and_a_far_one_stays_at_the_edge() -> None:
    arms = {"ai": est(0.5), "human": est(0.5)}
    none = measure("a", arms, differs(est(0.1, None, None), None))
    far = measure("b", arms, differs(est(0.9, 0.89, 0.91), None))
    plot = overview(given(none, far))
    assert plot is not None and {row.group for row in plot.strips} == {"Other measures", ""}
    first, second = (row.strips[1] for row in plot.strips)
    assert first and first.marks == () and plot.strips[0].words[1] == "no interval"
    assert second and second.axis.ends == (-4, 4) and second.axis.at(second.marks[0].value) == 101


def test_one_arm_has_no_differences_and_nothing_is_nothing() -> None:
    plot = overview(given(measure("ended", {"ai": est(0.5)}), arms=["ai"]))
    assert (
        plot is not None and len(plot.axes) == 1 and plot.strips[0].words == () and plot.columns[0].startswith("value")
    )
    assert overview(given(measure("ended", {"ai": est(None, n=0)}), arms=["ai"])) is None and overview(given()) is None
