"""Several reward models as one reward: each on its own scale, then weighed (`criteria:`, cai/config/criteria.py).

1. *Scale.* A reward model's outputs have no unit: of two trained on labels of unlike certainty, one may speak ten times
   as loud, and a plain sum would be its alone. So each is brought to mean 0 and variance 1, as one reward model is
   (Ziegler et al. 2019, section 2.1, on samples of the initial policy; Huang et al. 2024), on the same fixed answers:
   those that the SFT policy was trained on. RL begins among such answers. The pairs' answers would not do: where they
   come from other models (`pairs.source: data`), a criterion that tells those apart easily, and the policy's own
   hardly, would be paid by far less than its weight. The scale is taken once (`scale_reward` in cai/train/scores.py)
   and does not follow the policy: what it gains must stay gained.
2. *Weight.* The sum is of weight / (sum of weights) each, as in Safe RLHF (Dai et al. 2023), where reward and cost are
   added and divided by 1 + lambda: only the weights' ratios matter, and a policy that gains one spread by every
   criterion gains 1. The sum is not brought to variance 1 again: where criteria oppose one another it is small because
   nothing is to be gained, and blown up it would be noise. So `rl.kl_coef` weighs more than for one reward model, by
   sqrt(n) for n equal criteria that have nothing to do with one another; counts.json has the sum's own spread.

Departure from Moskovitz et al. 2023 ("Confronting reward model overoptimization with constrained RLHF"): weights are
fixed, where they learn them so that no reward model is driven beyond where it still tells better from worse. The report
shows what each was paid by, beside a judge that RL does not see.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from cai.config.sections import Policy
from cai.core.errors import UserError
from cai.core.records import Chat, Revision, read_jsonl
from cai.core.store import Artifact
from cai.models.chat import answered
from cai.models.references import ModelRef

Values = Sequence[float | None]  # one an answer; None where a reward model cannot read it


# 1. Scale -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RewardScale:
    """What a reward model's outputs are brought to mean 0 and variance 1 by."""

    mean: float
    spread: float

    def of(self, values: Values) -> list[float | None]:
        return [None if value is None else (value - self.mean) / self.spread for value in values]


FLOOR = 1e-6  # of a spread: below it a reward says nothing


def scale_of(values: Values, fault: UserError) -> RewardScale:
    """Of what there is; raises `fault` where that is nothing."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        raise fault
    return RewardScale(fmean(known), max(pstdev(known), FLOOR))


def tells_apart(values: Values) -> bool:
    """Whether there is more of a spread than rounding makes, however loud or quiet the model is."""
    known = [value for value in values if value is not None]
    return pstdev(known) > 1e-6 * max(map(abs, known))


def reference_answers(revisions: Artifact, policy: Policy) -> list[Chat]:
    """The answers that the SFT policy was trained on, on which every reward is normalised."""
    known = read_jsonl(revisions / "revisions.jsonl", Revision)
    return [answered(revision.prompt.messages, revision.final, policy.system) for revision in known]


def no_scale(name: str = "") -> UserError:
    of = f" of criterion {name}" if name else ""
    return UserError(f"the reward model{of} can score no answer of the SFT policy", "reward.max_length", "raise it")


def spread_of(values: Values, fault: UserError, who: str, key: str) -> RewardScale:
    """`scale_of`. Raises UserError too where all values are alike: RL would learn from what rounding left of them.

    who: gave them. key: where what makes them stands.
    """
    scale = scale_of(values, fault)
    if scale.spread <= FLOOR or not tells_apart(values):
        count = sum(value is not None for value in values)
        problem = (
            f"{who} gives all {count} answers of the SFT policy the same reward, {scale.mean:.4g}: RL has nothing "
        )
        remedy = "train the reward model longer (reward.epochs, reward.learning_rate), or look at its labels"
        if key != "reward":
            remedy = "name another method or model, or reword the principles"
        raise UserError(problem + "to learn from", key, remedy)
    return scale


# 2. Weight ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CriterionReward:
    """A criterion's reward model in a sum. scale: what `scale_reward` left. share: of the sum of weights."""

    name: str
    ref: ModelRef
    scale: Artifact
    share: float

    def read(self) -> dict[str, Any]:
        return json.loads((self.scale / "scale.json").read_text())

    def read_scale(self) -> RewardScale:
        given = self.read()
        return RewardScale(given["mean"], given["spread"])


@dataclass(frozen=True, slots=True)
class WeighedRewards:
    """The reward models of all criteria, in place of one reward model."""

    parts: tuple[CriterionReward, ...]

    @property
    def name(self) -> str:
        return " + ".join(f"{part.share:.3g} {part.name}" for part in self.parts)

    def keyed(self) -> dict[str, Any]:
        """Shares and not weights: twice all weights is the same reward."""
        parts = {part.name: {"reward": part.ref, "scale": part.scale, "share": part.share} for part in self.parts}
        return {"criteria": parts}

    def of(self, outputs: Mapping[str, Values]) -> list[float | None]:
        """The weighed sum of each answer. outputs: criterion -> those of its reward model."""
        columns = [part.read_scale().of(outputs[part.name]) for part in self.parts]
        return summed(columns, [part.share for part in self.parts])

    def spread(self) -> float:
        """Standard deviation of the sum on the answers that each reward model was scaled on."""
        sums = self.of({part.name: part.read()["outputs"] for part in self.parts})
        return pstdev([value for value in sums if value is not None])


Scorers = ModelRef | WeighedRewards  # what RL, and the best of n answers, is paid by


def keyed_scorers(reward: Scorers) -> dict[str, Any]:
    """As the key of a stage has it."""
    return reward.keyed() if isinstance(reward, WeighedRewards) else {"reward": reward}


def rewards_by(reward: Scorers, read: Callable[[ModelRef], Values]) -> Values:
    """One reward an answer. read: outputs of one reward model on all answers."""
    if not isinstance(reward, WeighedRewards):
        return read(reward)
    return reward.of({part.name: read(part.ref) for part in reward.parts})


def summed(columns: Sequence[Values], shares: Sequence[float]) -> list[float | None]:
    """sum of share * value for each answer, whatever the order of the criteria; None where any value is missing."""
    return [
        None if None in row else math.fsum(share * value for share, value in zip(shares, row, strict=True))  # pyrefly: ignore
        for row in zip(*columns, strict=True)
    ]
