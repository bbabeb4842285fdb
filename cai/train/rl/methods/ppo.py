"""PPO against a reward model (Schulman et al. 2017; Ziegler et al. 2019). The trainer is in cai/train/rl/ppo.py."""

from collections.abc import Callable
from pathlib import Path

from cai.core.store import Artifact, version
from cai.models.workbench import Workbench
from cai.train.launch import launched
from cai.train.rl.given import Given, OnlineRun, RewardModel, against_rewards
from cai.train.rl.online import by_ppo, learn_from_rewards


@launched
@version(5)
def train_ppo(out: Path, work: Workbench, *, run: OnlineRun, reward: RewardModel) -> None:
    """Leaves what `learn_from_rewards` leaves."""
    learn_from_rewards(out, work, run, reward, by_ppo)


def policy(stage: Callable[..., Artifact], given: Given) -> Artifact:
    return stage(train_ppo, **against_rewards(given))
