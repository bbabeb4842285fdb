"""How the seeds of two arms become a line of the table: the difference, its tests, its noise floor."""

from typing import Any

import pytest

from cai.compare.measures import adjusted, left_out, noise, paired
from cai.compare.schema import Difference, Headline, MeasureLine
from cai.compare.sections.notes import fallen_out
from cai.compare.table import fell_out
from cai.stats.intervals import EMPTY

FIRST = [{"x": 1.0, "y": 1, "z": 1, "only here": 0}, {"x": 1, "y": 0, "z": 1}]
SECOND = [{"x": 0.0, "y": 1, "z": 0}, {"x": 0, "y": 0, "z": 1}]


def line(title: str, difference: Any) -> MeasureLine:
    return MeasureLine(key=title, title=title, unit="%", better=None, help="", arms={}, difference=difference)


def test_arms_are_paired_by_row_and_seed() -> None:
    found = paired(FIRST, SECOND, lambda row: row, margin=0.05, reach=1)
    estimate = found["estimate"]  # differences: x 1 and 1, y 0 and 0, z 1 and 0
    assert (estimate.value, estimate.n, estimate.clusters, found["seeds"]) == (0.5, 3, 3, 2)
    assert found["equivalent"] is False and found["margin"] == 0.05
    # Sums over seeds 2, 0 and 1: of the four sign patterns two reach 3.
    assert found["p_these_seeds"] == 0.5
    assert paired([{"x": 0.3}], [{"x": 0.2}], str)["p_these_seeds"] is None
    assert paired([{}], [{"x": 0.2}], str)["estimate"].n == 0


def test_rows_that_fall_out_of_a_pair_are_counted_for_the_arm_that_lacks_them() -> None:
    # "only here" is in one seed of the first arm alone: that arm lacks it in the other seed, the second arm in both.
    assert left_out({"ai": FIRST, "human": SECOND}, ["ai", "human"]) == {"ai": 1, "human": 1}
    found = left_out({"ai": [{"x": 1.0}], "human": [{"x": 1.0, "y": 0.0, "z": 0.0}]}, ["ai", "human"])
    assert found == {"ai": 2, "human": 0}
    assert fell_out({"left_out": found}) == "rows fell out: 2 that ai lacks, 0 that human lacks"
    assert fell_out({"left_out": {"ai": 0, "human": 0}}) == fell_out({}) == ""
    lines = [line("length", Difference(estimate=EMPTY, of=("ai", "human"), left_out=found)), line("loops", None)]
    won = Headline(estimate=EMPTY, arms=("ai", "human"), judge="", length_controlled=EMPTY, left_out=found)
    assert fallen_out(won, lines) == [
        "Not compared on all that was asked (games, length): rows fell out: 2 that ai lacks, 0 that human lacks."
    ]
    assert fallen_out(None, lines[1:]) == []


def test_noise_floor_is_of_seeds_of_one_arm() -> None:
    found = noise([FIRST, SECOND])  # means over x, y, z: 1 against 2 / 3, and 1 / 3 against 1 / 3
    assert found is not None and found.value == pytest.approx((1 / 9 / 2) ** 0.5)
    assert (found.n, found.clusters) == (2, 2) and noise([FIRST[:1]]) is None


def test_the_table_is_one_family() -> None:
    lines = [line(str(p), p and Difference(estimate=EMPTY, of=("ai", "human"), p=p)) for p in (0.02, None, 0.01)]
    assert [one.difference and one.difference.p_holm for one in adjusted(lines)] == [0.02, None, 0.02]
