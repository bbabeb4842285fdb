"""What every stage leaves that chooses between comparisons people have decided, for those that read it to find."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ItemChoice:
    """P(a better) of an item's pair; None where it cannot be said, and `fault` says why.

    first: P of the option that the file's question shows first; None where nothing is shown in an order.
    """

    pair_id: str
    p_a: float | None
    first: float | None = None
    fault: str = ""
