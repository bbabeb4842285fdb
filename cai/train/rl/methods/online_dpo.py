"""DPO on fresh pairs of the policy's answers, which the judge labels at every step (Guo et al. 2024). No labels and no
reward model; the trainer is in cai/train/rl/online_dpo.py.

`rl.beta` is its beta, `rl.steps` times `rl.batch_size` / 2 are the pairs that the judge is asked about, and `rl.epochs`
the updates on each step's pairs.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from cai.core.store import Artifact, version
from cai.models.workbench import Workbench
from cai.train.rl.given import Given, OnlineRun
from cai.train.rl.judged import RatedBy, learn_from_judge
from cai.train.rl.online import COMPARED, by_online_dpo

COLUMNS = (*COMPARED, "loss", "accuracy", "margin")


@version(3)
def train_online_dpo(out: Path, work: Workbench, *, run: OnlineRun, rater: RatedBy, beta: float) -> None:
    """Leaves what `learn_from_rewards` leaves. A pair that the judge cannot read takes no part, and is counted."""
    learn_from_judge(out, work, run, rater.judge, "pairs", partial(by_online_dpo, beta), COLUMNS)


def policy(stage: Callable[..., Artifact], given: Given) -> Artifact:
    beta = given.arm.rl.beta
    return stage(train_online_dpo, run=OnlineRun.of(given), rater=RatedBy.of(stage, given), beta=beta)
