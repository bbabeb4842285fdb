"""`pretrain:`, the stage before all others: a small language model from random weights, from which all then starts."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from cai.config.section import Amount, LearningRate, Positive, Rate, Section, Share
from cai.config.validation import Fault

MADE_HERE = "pretrained"  # what `policy.model` is called in an experiment that makes it
BYTES, MARKS = 256, 4  # tokens that every vocabulary has: a byte each, and the special ones (cai/models/vocabulary.py)


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class Pretrain(Section):
    """Next-token pretraining of a small Llama, with a tokenizer of its own.

    text: one text or several: books that a pip package carries (cai/data/texts.py has their names), local files (.txt,
    or rows with a `text` as JSON lines, CSV or Parquet; packed ones too), or owner/name/FILE of a data set of the hub.
    held_out: the share of documents that nothing is learnt from; perplexity is measured on these.
    """

    # No part of a key: the stage is given the digests of their contents.
    text: Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1, exclude=True)]
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.05
    # Tokens: byte pairs merged by how often they stand in the training text, the bytes and special tokens among them.
    vocabulary: Annotated[int, Field(ge=BYTES + MARKS)] = 2048
    # Tokens that the model reads at most, and that a block of packed text has.
    context: Annotated[int, Field(ge=2)] = 256
    layers: Positive = 4
    width: Positive = 256
    heads: Positive = 4
    # Times that the text is gone through; batch_size: blocks a step; warmup: share of the steps. The rate then falls by
    # a cosine to a tenth of `learning_rate`.
    epochs: Rate = 1
    batch_size: Positive = 16
    learning_rate: LearningRate = 1e-3
    warmup: Share = 0.05
    weight_decay: Amount = 0.1

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "Pretrain":
        if self.width % (2 * self.heads):
            problem = f"{self.heads} heads cannot have equal, even shares of a width of {self.width}"
            raise Fault(problem, f"make width a multiple of {2 * self.heads}", "width")
        return self
