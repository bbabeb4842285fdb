"""PPO on the judge's rating of each answer, without labels and without a reward model (d-RLAIF, Lee et al. 2023)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.core.records import Prompt, Revision, read_jsonl
from cai.core.store import Artifact, version
from cai.judge.asked import AskedJudge
from cai.models.workbench import Workbench
from cai.train.rl.given import Given, OnlineRun
from cai.train.rl.online import Ready, begin, by_ppo, load_policy, optimise
from cai.train.rl.rewards import judged_reward


@dataclass(frozen=True, slots=True)
class RatedBy:
    """The judge whose ratings are the rewards, beside a policy that has a seed of its own."""

    judge: AskedJudge

    def keyed(self) -> dict[str, Any]:
        """As `keyed` in cai/core/store.py asks for it; the policy's dtype is the judge's."""
        parts = dict(self.judge.keyed())
        del parts["dtype"]
        return {"judge_model": parts.pop("model"), "judge_seed": parts.pop("seed"), **parts}


@version(2)
def train_direct(out: Path, work: Workbench, *, run: OnlineRun, rater: RatedBy) -> None:
    """Leaves what `learn_from_rewards` leaves. An answer that the judge cannot read takes no part.

    The judge is asked through the call cache and stays in memory beside the policy.
    """
    tokenizer, prompts, counts = begin(work, run)
    known = read_jsonl(run.revisions / "revisions.jsonl", Revision)
    asked = [*prompts, *read_jsonl(run.data / "prompts.jsonl", Prompt)]  # `rl.gold` looks at others than it trains on
    reward, scale = judged_reward(rater.judge.engine(work), asked, known, rater.judge)
    counts |= {f"judge: {name}": round(value, 4) for name, value in scale.items()}
    ready = Ready(load_policy(work, run), tokenizer, prompts, reward, counts)
    optimise(out, work, run, ready, by_ppo)


def policy(stage: Callable[..., Artifact], given: Given) -> Artifact:
    arm = given.arm
    judge = AskedJudge.of(arm.judge, given.constitution, given.start.dtype, arm.seed)
    return stage(train_direct, run=OnlineRun.of(given), rater=RatedBy(judge))
