"""`moderation:` in the pipeline: where it is applied, and what each place left."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cai.config.load import Arm
from cai.core.store import Artifact
from cai.judge.moderation import Moderator
from cai.models.workbench import Workbench
from cai.train.moderate import Rows, moderate

Stage = Callable[..., Artifact]


@dataclass
class Sieve:
    """Lets through what an arm's filters do; all of it where it has none. made: place -> what was left there."""

    stage: Stage
    arm: Arm
    by: Moderator | None = None
    made: dict[str, Artifact] = field(default_factory=dict)

    @classmethod
    def of(cls, stage: Stage, work: Workbench, arm: Arm) -> "Sieve":
        return cls(stage, arm, moderator_of(work, arm))

    def __call__(self, kind: Rows, rows: Artifact, prompts: Artifact | None = None, name: str = "") -> Artifact:
        """prompts: that responses answer. name: under which it is counted; the kind's unless given."""
        if self.by is None or self.arm.moderation is None or kind not in self.arm.moderation.at:
            return rows
        self.made[name or kind] = self.stage(moderate, rows=rows, kind=kind, prompts=prompts, by=self.by)
        return self.made[name or kind]


def moderator_of(work: Workbench, arm: Arm) -> Moderator | None:
    """Raises UserError, or UserErrors, for a filter that is not there."""
    if arm.moderation is None:
        return None
    return Moderator.of(arm.moderation, work, arm.policy, work.dtype(arm), arm.seed)
