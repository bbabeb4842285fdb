"""No policy: the arm ends with its reward model. For arms of which only that is wanted, such as a coin's labels."""

from collections.abc import Callable

from cai.core.store import Artifact
from cai.train.rl.given import Given


def policy(stage: Callable[..., Artifact], given: Given) -> None:
    """Nothing is made."""
