"""What the pipeline gives to a method of RL, and the records that the methods' stages are given of it.

`Given` is all there is. A method (a file of cai/train/rl/methods/) picks what its stage reads; for those that sample as
they learn from a reward model that is `against_rewards(given)`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cai.config.load import Arm
from cai.config.rl import Rl
from cai.config.sections import Policy
from cai.constitution import Constitution
from cai.core.records import Revision
from cai.core.store import Artifact
from cai.models.references import ModelRef, trained
from cai.train.live.shaping import LiveShaping
from cai.train.trainable import Labelled, Trainable

RewardFunction = Callable[..., list[float | None]]  # as TRL calls it: one reward an answer, None where there is none


@dataclass(frozen=True, slots=True)
class Given:
    """start: the SFT policy, or the last round's. data, helpful: prompts. revisions: the answers that SFT learnt.

    sft: what SFT left. labelled: the pairs of all rounds so far and their labels; empty where the method reads none.
    reward: None likewise. gold: what `yardstick` in cai/train/rl/gold.py says. seed: of this replica and round.
    """

    arm: Arm
    constitution: Constitution
    start: Trainable
    data: Artifact
    helpful: Artifact | None
    revisions: Artifact
    sft: Artifact
    labelled: Labelled
    reward: Artifact | None
    gold: Mapping[str, Any] | None
    seed: int

    @property
    def reward_model(self) -> ModelRef:
        assert self.reward is not None, f"rl.method: {self.arm.rl.method} is said to need no reward model"
        return trained(self.reward, "reward")


@dataclass(frozen=True, slots=True)
class OnlineRun:
    """What every method that samples as it learns is given.

    start: the policy to start from, which is also the reference; in later rounds the last round's. data, helpful: the
    prompts that are answered. revisions: the SFT policy's answers, on which rewards are normalised. gold: what
    `yardstick` in cai/train/rl/gold.py says. snapshots: rollouts after which the policy is left in
    snapshots/<rollout>/ as well.
    """

    start: Trainable
    data: Artifact
    helpful: Artifact | None
    revisions: Artifact
    settings: Rl
    gold: Mapping[str, Any] | None
    seed: int
    snapshots: tuple[int, ...] = ()

    @classmethod
    def of(cls, given: Given) -> "OnlineRun":
        settings = given.arm.rl
        return cls(
            start=given.start, data=given.data, helpful=given.helpful, revisions=given.revisions, settings=settings,
            gold=given.gold, seed=given.seed, snapshots=settings.kept_rollouts,
        )  # fmt: skip

    def keyed(self) -> dict[str, Any]:
        """Snapshots stand there only where there are some."""
        names = ("data", "helpful", "revisions", "settings", "gold", "seed")
        more = {"snapshots": self.snapshots} if self.snapshots else {}
        return {**self.start.keyed(), **{name: getattr(self, name) for name in names}, **more}


class Shaping(Protocol):
    """What adds something of its own to the reward model's rewards."""

    def keyed(self) -> dict[str, Any]: ...

    def shaped(
        self, reward: RewardFunction, network: Any, tokenizer: Any, policy: Policy, known: Sequence[Revision],
        updates: int, batch_tokens: int,
    ) -> tuple[RewardFunction, dict[str, Any]]:  # fmt: skip
        """The shaped reward, and what to count. network: the SFT policy, before it learns. known: its answers.

        updates: optimizer steps a rollout. A reward with an attribute `reference` has it set to the trainer's: within
        it the network is what it was before.
        """
        ...


@dataclass(frozen=True, slots=True)
class RewardModel:
    """max_length: of what it reads, in tokens. shaping: what is added to its rewards, if anything."""

    reward: ModelRef
    max_length: int
    shaping: Shaping | None = None

    @classmethod
    def of(cls, given: Given) -> "RewardModel":
        feedback = given.arm.rl.feedback
        shaping = LiveShaping.of(feedback) if feedback else None
        return cls(given.reward_model, given.arm.reward.max_length, shaping)

    def keyed(self) -> dict[str, Any]:
        shaping = self.shaping.keyed() if self.shaping else {}
        return {"reward": self.reward, "reward_max_length": self.max_length, **shaping}


def against_rewards(given: Given) -> dict[str, Any]:
    """The inputs of a stage that samples as it learns from a reward model."""
    return {"run": OnlineRun.of(given), "reward": RewardModel.of(given)}
