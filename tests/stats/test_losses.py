"""A loss that ends higher than it began."""

import pytest

from cai.stats.losses import ended_worse


@pytest.mark.parametrize(
    ("losses", "worse"),
    [
        ([0.69, 0.7, 0.54, 2.85], (0.69, 2.85)),
        ([1.0, 3.0, 2.0, 2.0, 4.0, 4.0, 5.0, 7.0], (2.0, 6.0)),
        ([0.69, 0.5, 0.4, 0.3], None),
        ([0.69, 0.8, 0.9, 1.0], None),  # 1.45 times
        ([0.69, 5.0, 9.0], None),  # too few to tell
        ([0.69, None, 0.7, 0.54, None, 2.85], (0.69, 2.85)),
        ([], None),
    ],
)
def test_by_hand(losses: list[float | None], worse: tuple[float, float] | None) -> None:
    assert ended_worse(losses) == worse
