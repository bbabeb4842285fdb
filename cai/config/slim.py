"""`judge.slim`: a smaller model is made of the judge's, and asked in its place (cai/models/slim/)."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from cai.config.section import LearningRate, Positive, Section
from cai.config.validation import Fault
from cai.core.errors import suggest

How = Literal["int8", "int8-dynamic", "int4", "magnitude", "wanda", "sparsegpt", "low-rank", "distil"]
# Setting -> the methods that read it.
READ_BY: dict[str, tuple[How, ...]] = {
    "sparsity": ("magnitude", "wanda", "sparsegpt"),
    "energy": ("low-rank",),
    "rank": ("low-rank",),
    "texts": ("wanda", "sparsegpt", "low-rank"),
    "max_length": ("wanda", "sparsegpt", "low-rank"),
    "distil": ("magnitude", "wanda", "sparsegpt", "low-rank", "distil"),  # weights that can be trained
}
# Methods of which a judge can be distilled: those read off the log-probabilities of one question after another.
DISTILLED = ("rate", "choice", "score", "contrast", "channel")
# Those of them whose question can be put without a principle.
WITHOUT_PRINCIPLE = ("rate", "choice", "score")


class Distil(Section):
    """The smaller judge learns what the whole one says of pairs that nobody need have labelled (Hinton et al. 2015):
    the whole one's log-probabilities are its labels, and the forward KL divergence from them is its loss."""

    # So many training pairs, never held-out ones; an eighth of them, by prompt, is looked at and not learnt from.
    pairs: Positive = 128
    epochs: Positive = 1
    batch_size: Positive = 4
    learning_rate: LearningRate = 3e-5
    # false: the smaller judge is asked without the principles, which are then in its weights alone (context
    # distillation, Askell et al. 2021): its questions are shorter, and all principles are one question.
    context: bool = True


class Slim(Section):
    """How a model is made smaller. `slim: int8` is short for `slim: {how: int8}`.

    int8: weights rounded to 256 steps a row, multiplied as they were (torchao; `pip install -e '.[slim]'`).
    int8-dynamic: what is multiplied by them is rounded as well. int4: 16 steps a group of weights, on a GPU alone.
    magnitude: the smallest weights of each matrix become 0. wanda: of each row, those with the smallest product of
    weight and what it is multiplied by (Sun et al. 2024). sparsegpt: as wanda, and the weights that stay are changed to
    make up for those that go (Frantar & Alistarh 2023). low-rank: each matrix becomes the product of two thin ones,
    which lose the least of what it gives for the calibration texts.
    distil: as large as before; what its principles say goes into its weights (`distil: {context: false}`).
    """

    how: How
    # The share of the weights that become 0; "2:4": two of every four, the form for which GPUs have kernels.
    sparsity: Annotated[float, Field(gt=0, lt=1)] | Literal["2:4"] = 0.5
    # low-rank: the share of a layer's squared output that must be left, or the rank of every layer (null: by energy). A
    # layer whose two matrices would be no smaller than it stays as it is.
    energy: Annotated[float, Field(gt=0, lt=1)] = 0.999
    rank: Positive | None = None
    # Calibration: so many conversations of training pairs, and of each at most so many tokens.
    texts: Positive = 64
    max_length: Positive = 256
    # What was lost is learnt again, from the whole judge. No part of the key of what is made before.
    distil: Distil | None = Field(default=None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _distilled_is_without_principles(cls, given: Any) -> Any:
        """`slim: distil` is `slim: {how: distil, distil: {context: false}}`."""
        if isinstance(given, dict) and given.get("how") == "distil":
            settings = given.get("distil") or {}
            return given | {"distil": {"context": False, **settings}} if isinstance(settings, dict) else given
        return given

    @model_validator(mode="after")
    def _a_judge_is_not_taught_what_it_says(self) -> "Slim":
        if self.how == "distil" and self.distil and self.distil.context:
            problem = "distil alone, asked by the same principles, teaches a judge what it says already"
            raise Fault(problem, "write distil: {context: false}, or prune it as well: how: wanda", "distil")
        return self

    @model_validator(mode="after")
    def _only_what_is_read(self) -> "Slim":
        for name in sorted(self.model_fields_set & READ_BY.keys()):
            if self.how not in READ_BY[name] and getattr(self, name) != type(self).model_fields[name].default:
                readers = " and ".join(READ_BY[name])
                raise Fault(f"{self.how} has no {name}", f"remove it: it is for {readers}", name)
        return self

    @property
    def name(self) -> str:
        """As tables call it: `wanda 50%`, `low-rank 99%`, `wanda 50%, distilled`."""
        if self.distil:
            more = "distilled" if self.distil.context else "distilled without principles"
            return more if self.how == "distil" else f"{self.pruned.name}, {more}"
        if self.how in READ_BY["sparsity"]:
            share = self.sparsity if isinstance(self.sparsity, str) else f"{self.sparsity:.0%}"
            return f"{self.how} {share}"
        if self.how == "low-rank":
            return f"low-rank {self.rank}" if self.rank else f"low-rank {self.energy:.1%} of energy"
        return self.how

    @property
    def pruned(self) -> "Slim":
        """What is done before it is distilled."""
        return self.model_copy(update={"distil": None})

    @property
    def reads_texts(self) -> bool:
        return self.how in READ_BY["texts"]


def _short(value: Any) -> Any:
    """`slim: int8`."""
    if not isinstance(value, str):
        return value
    if value not in get_args(How):
        raise Fault(f'there is no way to slim called "{value}"', suggest(value, get_args(How)))
    return {"how": value}


def check_distilled(slim: Slim | None, method: Any, preflight: bool) -> None:
    """Can a judge that is asked so be distilled so? preflight: whether it is seen to read first. Raises Fault."""
    if not slim or not slim.distil:
        return
    names = tuple(method) if isinstance(method, dict) else (method,)
    known = DISTILLED if slim.distil.context else WITHOUT_PRINCIPLE
    if others := [name for name in names if name not in known]:
        why = "it chooses its method later" if others[0] == "auto" else "nothing of that kind can be learnt from it"
        if others[0] in DISTILLED:
            why = "its question is how likely the principle is, or what it makes likely"
        problem = (
            f"a judge asked by {others[0]} cannot be distilled {'' if slim.distil.context else 'without principles'}"
        )
        raise Fault(f"{problem.strip()}: {why}", f"ask it by {', '.join(known)}", "judge.slim.distil")
    if preflight and not slim.distil.context:
        problem = "a judge whose principles are in its weights reads none, and preflight asks it to"
        raise Fault(problem, "set judge.preflight: null, and measure it by its acceptance", "judge.preflight")


Slimming = Annotated[Slim | None, BeforeValidator(_short)]
