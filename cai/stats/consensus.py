"""Who agrees with a statement: each group for itself, and all groups alike. The measures of Pol.is.

A group's share is (agree + 1) / (seen + 2): a group that has said little is drawn towards one half. Then, after Small
et al. 2021 ("Polis: Scaling deliberation by mapping high dimensional opinion spaces") and Pol.is's own code:

    consensus           the product over groups of their shares: high only where every group agrees, however large
    representativeness  a group's share over the share of all others together; above 1 the statement is more its own
    agrees, differs     z of the group's share against one half, and against the others'; `sure` at 90%, one-sided

Huang et al. 2024 (arXiv 2406.07814) chose the principles of a public's constitution by the first.
"""

from collections.abc import Sequence
from math import prod, sqrt

SURE = 1.2816  # z at 90%, one-sided


def share(agree: int, seen: int) -> float:
    """Of a group, 0 to 1. seen: who agreed, disagreed or passed."""
    return (agree + 1) / (seen + 2)


def consensus(groups: Sequence[tuple[int, int]]) -> float:
    """Group-informed consensus, 0 to 1. groups: (agree, seen) of each."""
    return prod(share(agree, seen) for agree, seen in groups)


def representativeness(group: tuple[int, int], others: Sequence[tuple[int, int]]) -> float:
    """Above 1 where the group agrees more than all others taken together. (agree, seen) of each."""
    return share(*group) / share(*_together(others))


def agrees(agree: int, seen: int) -> float:
    """z of more than half agreeing, one more who agrees added, as Pol.is adds it."""
    return 2 * sqrt(seen + 1) * ((agree + 1) / (seen + 1) - 0.5)


def differs(group: tuple[int, int], others: Sequence[tuple[int, int]]) -> float:
    """z of the group agreeing more than all others taken together, one more who agrees added to either side."""
    (agree, seen), (agree_2, seen_2) = ((a + 1, n + 1) for a, n in (group, _together(others)))
    pooled = (agree + agree_2) / (seen + seen_2)
    if pooled == 1:  # everybody agrees
        return 0.0
    return (agree / seen - agree_2 / seen_2) / sqrt(pooled * (1 - pooled) * (1 / seen + 1 / seen_2))


def _together(groups: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(agree for agree, _ in groups), sum(seen for _, seen in groups)
