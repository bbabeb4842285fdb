"""What an arm of several `criteria:` has apart: a reward model for each, its scale and its share of the reward."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from cai.compare.cells import CriterionMade
from cai.config.load import Arm
from cai.core.store import Artifact
from cai.experiment.labelling import Labelling
from cai.models.references import trained
from cai.train.criteria import CriterionReward, WeighedRewards
from cai.train.scores import scale_reward
from cai.train.trainable import Scorer, Trainable


def weighed(
    stage: Callable[..., Artifact], arm: Arm, models: Mapping[str, Artifact], revisions: Artifact, start: Trainable
) -> WeighedRewards | None:
    """The reward models of an arm's criteria, each with its scale and its share; None for an arm without any.

    models: criterion -> its reward model, trained from `start`.
    """
    if not arm.criteria or not models:
        return None
    total = math.fsum(criterion.weight for criterion in arm.criteria.values())
    parts = []
    for name, criterion in arm.criteria.items():
        ref = trained(models[name], name)
        scorer = Scorer(replace(start, ref=ref, role="reward"), arm.reward.max_length)
        scale = stage(scale_reward, revisions=revisions, scorer=scorer)
        parts.append(CriterionReward(name, ref, scale, criterion.weight / total))
    return WeighedRewards(tuple(parts))


def apart(
    labelling: Mapping[str, Labelling], rewards: Mapping[str, Artifact], total: WeighedRewards | None
) -> dict[str, CriterionMade]:
    """What a round left for each criterion; nothing of an arm without `criteria:`."""
    return {
        part.name: CriterionMade(
            labels=labelling[part.name].labels, labellers=labelling[part.name].by_labeller,
            preflight=labelling[part.name].preflight, reward=rewards[part.name], scale=part.scale, share=part.share,
        )
        for part in (total.parts if total else ())
    }  # fmt: skip
