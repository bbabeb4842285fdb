"""`rl.feedback`: a person's live feedback as a part of the reward. The one thing of this folder that RL knows of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cai.config.rl import LiveFeedback
from cai.config.sections import Policy
from cai.core.records import Revision
from cai.data.feedback import FeedbackLog
from cai.data.input_file import InputFile, feedback_file
from cai.models.chat import harmless, with_system

LEARNER = 2  # to be raised where the same log begins to teach something else: no other stage's version need be


@dataclass(frozen=True, slots=True)
class LiveShaping:
    """A `Shaping` (cai/train/rl/given.py): reward model + weight * decay^rollout * human reward."""

    log: InputFile
    weight: float
    decay: float

    @classmethod
    def of(cls, settings: LiveFeedback) -> "LiveShaping":
        """Raises UserError where there is no such log."""
        return cls(feedback_file(settings.log), settings.weight, settings.decay)

    def keyed(self) -> dict[str, Any]:
        return {"feedback": {"log": self.log, "weight": self.weight, "decay": self.decay, "learner": LEARNER}}

    def shaped(
        self, reward: Any, network: Any, tokenizer: Any, policy: Policy, known: Sequence[Revision], updates: int,
        batch_tokens: int,
    ) -> tuple[Any, dict[str, Any]]:  # fmt: skip
        """The reward with the person's share in it, and what to count. network: the SFT policy, before it learns.

        known: the SFT answers, on which the human reward is normalised. updates: optimizer steps a rollout.
        """
        from cai.train.live.reward import Annealing, Shaped, of_log  # torch: only when there is something to train

        learnt, learned = of_log(FeedbackLog(self.log.path), network.eval(), tokenizer, policy.system, batch_tokens)
        made = Shaped(reward, learnt, network, tokenizer, Annealing(self.weight, self.decay, updates), batch_tokens)
        answers = [
            (
                with_system(revision.prompt.messages, policy.system),
                tokenizer(harmless(tokenizer, revision.final), add_special_tokens=False)["input_ids"],
            )
            for revision in known
        ]
        scale = made.normalise(answers)
        correlation = learnt.correlation()
        counts: dict[str, Any] = {f"live feedback: {what}": n for what, n in learned.items()}
        counts |= {f"human reward {name} on the SFT answers": round(value, 4) for name, value in scale.items()}
        if correlation is not None:
            counts["live feedback: correlation with what is predicted of it"] = round(correlation, 3)
        return made, counts
