"""REINFORCE with the mean reward of a prompt's other answers as baseline (Ahmadian et al. 2024), by TRL's RLOO on PPO's
terms (cai/train/rl/groups.py)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cai.config.rl import Rl
from cai.core.store import Artifact, version
from cai.models.workbench import Workbench
from cai.train.rl.given import Given, OnlineRun, RewardModel, against_rewards
from cai.train.rl.online import group_arguments, learn_from_rewards


@version(2)
def train_rloo(out: Path, work: Workbench, *, run: OnlineRun, reward: RewardModel) -> None:
    """Leaves what `learn_from_rewards` leaves."""
    learn_from_rewards(out, work, run, reward, trainer)


def trainer(network: Any, reward: Any, settings: Rl, arguments: dict[str, Any], **options: Any) -> Any:
    from trl import RLOOConfig

    from cai.train.rl.groups import ResumableRLOO

    config = RLOOConfig(**arguments | group_arguments(settings))
    penalty = settings.missing_eos_penalty
    return ResumableRLOO(network, reward, config, missing_eos_penalty=penalty, **options)


def policy(stage: Callable[..., Artifact], given: Given) -> Artifact:
    return stage(train_rloo, **against_rewards(given))
