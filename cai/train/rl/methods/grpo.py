"""Advantages by group instead of a critic (Shao et al. 2024), by TRL's GRPO on PPO's terms (cai/train/rl/groups.py)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cai.config.rl import Rl
from cai.core.store import Artifact, version
from cai.models.workbench import Workbench
from cai.train.rl.given import Given, OnlineRun, RewardModel, against_rewards
from cai.train.rl.online import group_arguments, learn_from_rewards


@version(2)
def train_grpo(out: Path, work: Workbench, *, run: OnlineRun, reward: RewardModel) -> None:
    """Leaves what `learn_from_rewards` leaves."""
    learn_from_rewards(out, work, run, reward, trainer)


def trainer(network: Any, reward: Any, settings: Rl, arguments: dict[str, Any], **options: Any) -> Any:
    from trl import GRPOConfig

    from cai.train.rl.groups import ResumableGRPO

    config = GRPOConfig(**arguments | group_arguments(settings))
    penalty = settings.missing_eos_penalty
    return ResumableGRPO(network, reward, config, missing_eos_penalty=penalty, **options)


def policy(stage: Callable[..., Artifact], given: Given) -> Artifact:
    return stage(train_grpo, **against_rewards(given))
