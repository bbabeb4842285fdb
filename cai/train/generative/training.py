"""How an arm's reward model is made, of whichever kind."""

from collections.abc import Callable
from dataclasses import replace

from cai.config.load import Arm
from cai.constitution import Constitution
from cai.core.store import Artifact
from cai.models.references import trained
from cai.train.generative.asking import RationaleAsking
from cai.train.generative.stages import (
    PairsToJudge,
    RationaleTraining,
    draw_rationales,
    learn_rationales,
    prefer_rationales,
)
from cai.train.reward import train_reward
from cai.train.trainable import Labelled, Trainable

Stage = Callable[..., Artifact]


def reward_model(
    stage: Stage, arm: Arm, constitution: Constitution, labelled: Labelled, start: Trainable, seed: int
) -> Artifact:
    """An arm's reward model, of whichever kind."""
    if not arm.reward.generates:
        return stage(train_reward, labelled=labelled, start=start, settings=arm.reward, seed=seed)
    asking = RationaleAsking.of(arm.reward, constitution, arm.seed, samples=arm.reward.draws)
    settings = RationaleTraining.of(arm.reward)
    shared = {"judged": PairsToJudge(labelled, arm.reward.subsets, asking), "seed": seed}
    drawn = stage(draw_rationales, model=start, **shared)
    learnt = stage(learn_rationales, rationales=drawn, start=start, settings=settings, **shared)
    if not arm.reward.dpo:
        return learnt
    model = replace(start, ref=trained(learnt, "rationales"))
    again = stage(draw_rationales, model=model, **shared)
    return stage(prefer_rationales, rationales=again, start=model, settings=settings, **shared)
