"""`judge.slim`: a smaller model is made of the judge's, and asked in its place (cai/models/slim/)."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from cai.config.section import Positive, Section
from cai.config.validation import Fault
from cai.core.errors import suggest

How = Literal["int8", "int8-dynamic", "int4", "magnitude", "wanda", "sparsegpt", "low-rank"]
# Setting -> the methods that read it.
READ_BY: dict[str, tuple[How, ...]] = {
    "sparsity": ("magnitude", "wanda", "sparsegpt"),
    "energy": ("low-rank",),
    "rank": ("low-rank",),
    "texts": ("wanda", "sparsegpt", "low-rank"),
    "max_length": ("wanda", "sparsegpt", "low-rank"),
}


class Slim(Section):
    """How a model is made smaller. `slim: int8` is short for `slim: {how: int8}`.

    int8: weights rounded to 256 steps a row, multiplied as they were (torchao; `pip install -e '.[slim]'`).
    int8-dynamic: what is multiplied by them is rounded as well. int4: 16 steps a group of weights, on a GPU alone.
    magnitude: the smallest weights of each matrix become 0. wanda: of each row, those with the smallest product of
    weight and what it is multiplied by (Sun et al. 2024). sparsegpt: as wanda, and the weights that stay are changed to
    make up for those that go (Frantar & Alistarh 2023). low-rank: each matrix becomes the product of two thin ones,
    which lose the least of what it gives for the calibration texts.
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

    @model_validator(mode="after")
    def _only_what_is_read(self) -> "Slim":
        for name in sorted(self.model_fields_set & READ_BY.keys()):
            if self.how not in READ_BY[name] and getattr(self, name) != type(self).model_fields[name].default:
                readers = " and ".join(READ_BY[name])
                raise Fault(f"{self.how} has no {name}", f"remove it: it is for {readers}", name)
        return self

    @property
    def name(self) -> str:
        """As tables call it: `wanda 50%`, `low-rank 99%`."""
        if self.how in READ_BY["sparsity"]:
            share = self.sparsity if isinstance(self.sparsity, str) else f"{self.sparsity:.0%}"
            return f"{self.how} {share}"
        if self.how == "low-rank":
            return f"low-rank {self.rank}" if self.rank else f"low-rank {self.energy:.1%} of energy"
        return self.how

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


Slimming = Annotated[Slim | None, BeforeValidator(_short)]
