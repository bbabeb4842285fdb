"""Ways to make a policy, one file each, of the name that `rl.method` has for it.

A file holds its stage, and `policy(stage, given)`, which runs it on what it reads of `Given` (cai/train/rl/given.py)
and returns what it left. Trainers, which need TRL, are imported when there is something to train. To add a method: a
file here and its name in `RlMethod` (cai/config/rl.py), where also stand those that need no reward model, labels or
rollouts.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast

from cai.config.rl import RlMethod
from cai.core.store import Artifact
from cai.train.rl.given import Given


class RlMethodFile(Protocol):
    def policy(self, stage: Callable[..., Artifact], given: Given) -> Artifact | None:
        """stage: runs a stage or looks it up, as `Store.stage`. None where there is no policy."""
        ...


def method_of(name: RlMethod) -> RlMethodFile:
    return cast(RlMethodFile, import_module(f"{__name__}.{name}"))
