"""PPO on the judge's rating of each answer, without labels and without a reward model (d-RLAIF, Lee et al. 2023)."""

from collections.abc import Callable
from pathlib import Path

from cai.core.store import Artifact, version
from cai.models.workbench import Workbench
from cai.train.rl.given import Given, OnlineRun
from cai.train.rl.judged import RatedBy, learn_from_judge
from cai.train.rl.online import by_ppo


@version(4)
def train_direct(out: Path, work: Workbench, *, run: OnlineRun, rater: RatedBy) -> None:
    """Leaves what `learn_from_rewards` leaves. An answer that the judge cannot read takes no part."""
    learn_from_judge(out, work, run, rater.judge, "alone", by_ppo)


def policy(stage: Callable[..., Artifact], given: Given) -> Artifact:
    return stage(train_direct, run=OnlineRun.of(given), rater=RatedBy.of(stage, given))
