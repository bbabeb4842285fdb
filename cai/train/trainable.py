"""Records of what travels together through the stages of training. In keys each stands as its parts (`keyed`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cai.config.sections import Policy
from cai.core.errors import UserError, suggest
from cai.core.records import labelled_pairs
from cai.core.store import Artifact
from cai.data.shots import Shots
from cai.models.engines import Sampling
from cai.models.references import Dtype, ModelRef
from cai.models.workbench import Workbench

if TYPE_CHECKING:
    from cai.core.records import Chat, Comparison, Prompt, Split


@dataclass(frozen=True, slots=True)
class Trainable:
    """A model that is trained, or that answers or scores as it stands.

    ref: where its weights are. policy: its system prompt, and how it is trained. dtype: in which its weights are read.
    role: the name under which keys know it.
    """

    ref: ModelRef
    policy: Policy
    dtype: Dtype
    role: Literal["model", "sft", "reviser", "reward"] = "model"

    def keyed(self) -> dict[str, Any]:
        return {self.role: self.ref, "policy": self.policy, "dtype": self.dtype}

    @property
    def learning_dtype(self) -> Dtype:
        """LoRA leaves the base weights as they are; in full fine-tuning they must be float32, or small updates would
        vanish."""
        return self.dtype if self.policy.training == "lora" else "float32"

    def engine(self, work: Workbench) -> Any:
        """The model behind the call cache, asked under the policy's system prompt."""
        return work.engine(self.ref, dtype=self.dtype, system=self.policy.system)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pairs and their labels: one folder of each for every round so far."""

    pairs: tuple[Artifact, ...] = ()
    labels: tuple[Artifact, ...] = ()

    def with_round(self, pairs: Artifact, labels: Artifact | None) -> "Labelled":
        """labels: None where nothing reads them (`rl.method: direct`)."""
        return Labelled((*self.pairs, pairs), (*self.labels, labels)) if labels else self

    def keyed(self) -> dict[str, Any]:
        return {"pairs": self.pairs, "labels": self.labels}

    def comparisons(self, subsets: Sequence[str] = ()) -> "list[Comparison]":
        """The labelled training pairs, of these subsets of prompts alone where any is named (`reward.subsets`).

        Raises UserError where no labelled training pair is of one.
        """
        rows = labelled_pairs(self.pairs, self.labels)
        known = sorted({row.pair.prompt.subset for row in rows})
        for name in [name for name in subsets if name not in known]:
            raise UserError(f'no labelled training pair is of subset "{name}"', "reward.subsets", suggest(name, known))
        return [row for row in rows if not subsets or row.pair.prompt.subset in subsets]


@dataclass(frozen=True, slots=True)
class PromptSet:
    """`count` prompts (None: all) of one split, drawn by hash from the folder of a data stage. shots: what is shown
    before each."""

    prompts: Artifact
    split: "Split"
    count: int | None = None
    shots: Shots | None = None

    def keyed(self) -> dict[str, Any]:
        more = {"shots": self.shots} if self.shots else {}
        return {"prompts": self.prompts, "split": self.split, "count": self.count, **more}

    def asked(self, prompt: "Prompt") -> "Chat":
        """What the model is shown of a prompt: its conversation, behind worked examples if there are any."""
        return self.shots.chat(prompt) if self.shots else prompt.messages


@dataclass(frozen=True, slots=True)
class Draws:
    """How answers are sampled. The same seed gives two policies the same prompts and the same random numbers."""

    sampling: Sampling
    seed: int

    def keyed(self) -> dict[str, Any]:
        return {"sampling": self.sampling, "seed": self.seed}


@dataclass(frozen=True, slots=True)
class Scorer:
    """A reward model that reads answers under a policy's system prompt. max_length: of what it reads, in tokens."""

    reward: Trainable
    max_length: int

    def keyed(self) -> dict[str, Any]:
        return {**self.reward.keyed(), "max_length": self.max_length}
