"""PPO on the judge's rating of each answer, without labels and without a reward model (d-RLAIF, Lee et al. 2023)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.config.sections import Judge
from cai.constitution import Judging
from cai.core.records import Prompt, Revision, read_jsonl
from cai.core.store import Artifact, version
from cai.core.templates import Template
from cai.judge.methods import principles_for, templates_for
from cai.models.references import ModelRef, model_of
from cai.models.workbench import Workbench
from cai.train.rl.given import Given, OnlineRun
from cai.train.rl.online import Ready, begin, by_ppo, load_policy, optimise
from cai.train.rl.rewards import judged_reward


@dataclass(frozen=True, slots=True)
class RatedBy:
    """The judge whose ratings are the rewards. seed: draws the principles."""

    judge: Judge
    model: ModelRef
    principles: tuple[Judging, ...]
    templates: Mapping[str, Template]
    seed: int

    def keyed(self) -> dict[str, Any]:
        asked = {"judge": self.judge, "judge_model": self.model, "judging": self.principles}
        return {**asked, "templates": self.templates, "judge_seed": self.seed}


@version(1)
def train_direct(out: Path, work: Workbench, *, run: OnlineRun, rater: RatedBy) -> None:
    """Leaves what `learn_from_rewards` leaves. An answer that the judge cannot read takes no part.

    The judge is asked through the call cache and stays in memory beside the policy.
    """
    tokenizer, prompts, counts = begin(work, run)
    engine = work.engine(rater.model, dtype=run.start.dtype, system=rater.judge.system)
    known = read_jsonl(run.revisions / "revisions.jsonl", Revision)
    asked = [*prompts, *read_jsonl(run.data / "prompts.jsonl", Prompt)]  # `rl.gold` looks at others than it trains on
    reward, scale = judged_reward(engine, asked, known, rater.judge, rater.principles, rater.templates, rater.seed)
    counts |= {f"judge: {name}": round(value, 4) for name, value in scale.items()}
    ready = Ready(load_policy(work, run), tokenizer, prompts, reward, counts)
    optimise(out, work, run, ready, by_ppo)


def policy(stage: Callable[..., Artifact], given: Given) -> Artifact:
    arm = given.arm
    rater = RatedBy(
        judge=arm.judge, model=model_of(arm.judge), principles=principles_for(given.constitution, arm.judge),
        templates=templates_for(arm.judge), seed=arm.seed,
    )  # fmt: skip
    return stage(train_direct, run=OnlineRun.of(given), rater=rater)
