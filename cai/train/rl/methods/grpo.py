"""Advantages by group instead of a critic (Shao et al. 2024), by TRL's GRPO on PPO's terms (cai/train/rl/groups.py)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from cai.config.rl import Judging
from cai.core.store import Artifact, version
from cai.models.workbench import Workbench
from cai.train.launch import launched
from cai.train.rl.given import Given, OnlineRun, RewardModel, against_rewards
from cai.train.rl.judged import RatedBy, learn_from_judge
from cai.train.rl.online import by_groups, learn_from_rewards


@launched
@version(5)
def train_grpo(out: Path, work: Workbench, *, run: OnlineRun, reward: RewardModel) -> None:
    """Leaves what `learn_from_rewards` leaves."""
    learn_from_rewards(out, work, run, reward, partial(by_groups, "grpo"))


@version(3)
def train_judged_grpo(out: Path, work: Workbench, *, run: OnlineRun, rater: RatedBy, asked: Judging) -> None:
    """As `train_grpo`, on the judge (cai/train/rl/judged.py)."""
    learn_from_judge(out, work, run, rater.judge, asked, partial(by_groups, "grpo"))


def policy(stage: Callable[..., Artifact], given: Given) -> Artifact:
    if given.arm.rl.judging:
        run, rater = OnlineRun.of(given), RatedBy.of(stage, given)
        return stage(train_judged_grpo, run=run, rater=rater, asked=given.arm.rl.judging)
    return stage(train_grpo, **against_rewards(given))
