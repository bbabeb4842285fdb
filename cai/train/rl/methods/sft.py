"""No RL: the arm ends with its SFT policy, to be measured as others are. For arms that differ in what SFT learns."""

from collections.abc import Callable

from cai.core.store import Artifact
from cai.train.rl.given import Given


def policy(stage: Callable[..., Artifact], given: Given) -> Artifact:
    """It is made already."""
    return given.sft
