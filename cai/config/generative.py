"""`reward: {kind: generative}`: a reward model that writes a rationale before it says which answer is better.

It learns from the labels that a scalar one learns from, with the same `epochs`, `batch_size`, `learning_rate` and
`max_length` (here of the question with both answers and the rationale), and is asked in the words of
prompts/reason.jinja and prompts/verdict.jinja by a principle of the arm's constitution. How: cai/train/generative/.
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from cai.config.section import Positive, Rate, Section, Share, Temperature
from cai.config.validation import Fault

SCALAR_ALONE = ("group",)
# Read by a generative one alone; of no key where the reward model is a scalar one, whose stages are not given them.
GENERATIVE_ALONE = ("samples", "draws", "rationale_tokens", "temperature", "dpo", "beta", "min_mass")
# What can follow a reward model that compares two answers and gives none a number.
METHODS = ("none", "best_of_n")


class RewardKind(Section):
    """What kind of reward model, and what it learns from.

    samples: rationales for each order of a pair when it judges; the probabilities they lead to are averaged. draws: the
    same when it learns. dpo: after SFT on rationales that led to the right verdict, DPO on right against wrong ones;
    beta: the price of a nat there. min_mass: as in `judge:`. subsets: it learns from training pairs of these alone (a
    scalar one as well), so that the other held-out pairs are out of its distribution; empty: from all.
    """

    kind: Literal["scalar", "generative"] = Field(default="scalar", exclude=True)
    samples: Positive = Field(default=4, exclude=True)
    draws: Positive = Field(default=4, exclude=True)
    rationale_tokens: Positive = Field(default=64, exclude=True)
    temperature: Temperature = Field(default=1.0, exclude=True)
    dpo: bool = Field(default=True, exclude=True)
    beta: Rate = Field(default=0.1, exclude=True)
    min_mass: Share = Field(default=0.02, exclude=True)
    subsets: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)

    @property
    def generates(self) -> bool:
        return self.kind == "generative"

    @model_validator(mode="after")
    def _only_what_is_read(self) -> "RewardKind":
        unread = SCALAR_ALONE if self.generates else GENERATIVE_ALONE
        for name in unread:
            if getattr(self, name) != type(self).model_fields[name].default:
                other = "scalar" if self.generates else "generative"
                problem = f"a {self.kind} reward model has no {name}"
                raise Fault(problem, f"remove it, or write kind: {other}", name)
        if self.generates and self.draws > 1 and not self.temperature:
            problem = f"at temperature 0 the {self.draws} draws of a rationale are one"
            raise Fault(problem, "write draws: 1, or temperature: 1", "temperature")
        return self


def check_generative(arm: Any) -> None:
    """Raises Fault for what a reward model cannot do that gives no answer a number. arm: an `Arm`."""
    if not arm.reward.generates:
        return
    method = arm.rl.method
    if method not in METHODS or not arm.rl.reads_rewards:
        problem = f"kind: generative compares two answers and gives none a number, which rl.method: {method} is paid by"
        raise Fault(problem, f"kind: generative goes with rl: {{method: {'|'.join(METHODS)}}}", "reward.kind")
    if arm.criteria:
        problem = "criteria weigh numbers, and kind: generative compares two answers and gives none a number"
        raise Fault(problem, "remove criteria, or write kind: scalar", "reward.kind")
