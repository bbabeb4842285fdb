"""What every stage of rewards leaves, for those that read it to find."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Score:
    """The reward of one answer; None where it is too long for the reward model."""

    id: str
    side: str
    reward: float | None
