"""How the seeds of two arms become a line of the table: the difference, its tests, its noise floor."""

from typing import Any

import pytest

from cai.compare.measures import adjust, noise, paired

FIRST = [{"x": 1.0, "y": 1, "z": 1, "only here": 0}, {"x": 1, "y": 0, "z": 1}]
SECOND = [{"x": 0.0, "y": 1, "z": 0}, {"x": 0, "y": 0, "z": 1}]


def test_arms_are_paired_by_row_and_seed() -> None:
    found = paired(FIRST, SECOND, lambda row: row, margin=0.05, reach=1)
    estimate = found["estimate"]  # differences: x 1 and 1, y 0 and 0, z 1 and 0
    assert (estimate.value, estimate.n, estimate.clusters, found["seeds"]) == (0.5, 3, 3, 2)
    assert found["equivalent"] is False and found["margin"] == 0.05
    # Sums over seeds 2, 0 and 1: of the four sign patterns two reach 3.
    assert found["p_these_seeds"] == 0.5
    assert paired([{"x": 0.3}], [{"x": 0.2}], str)["p_these_seeds"] is None
    assert paired([{}], [{"x": 0.2}], str)["estimate"].n == 0


def test_noise_floor_is_of_seeds_of_one_arm() -> None:
    found = noise([FIRST, SECOND])  # means over x, y, z: 1 against 2 / 3, and 1 / 3 against 1 / 3
    assert found is not None and found.value == pytest.approx((1 / 9 / 2) ** 0.5)
    assert (found.n, found.clusters) == (2, 2) and noise([FIRST[:1]]) is None


def test_the_table_is_one_family() -> None:
    lines: list[dict[str, Any]] = [{"difference": {"p": 0.02}}, {"difference": None}, {"difference": {"p": 0.01}}]
    adjust(lines)
    assert [line["difference"] and line["difference"]["p_holm"] for line in lines] == [0.02, None, 0.02]
