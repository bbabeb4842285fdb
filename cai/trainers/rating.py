"""A score of single texts, fitted to people's ratings by squared error (L2): transformers' own Trainer and loss.

Bai et al. (2022, section 4.4) train a model to predict how harmful people found a conversation and score policies by
it. A sequence-classification model with one label, of problem type "regression", has that loss built in.

Departure from the paper: it rates whole conversations on a scale of 0 to 4; here an answer is rated, 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from cai.trainers.reward import right_padded


@dataclass
class RatingCollator:
    """Rows of `rating_trainer` -> one right-padded batch."""

    pad_token_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        ratings = torch.tensor([row["rating"] for row in rows], dtype=torch.float32)
        return right_padded((row["ids"] for row in rows), self.pad_token_id) | {"labels": ratings}


def rating_trainer(
    model: PreTrainedModel,
    args: TrainingArguments,
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    adapter: PeftConfig | None,
) -> Trainer:
    """A trainer over rows of "ids" (of `cai.trainers.score.render_scored`) and "rating"; its loss is the mean square.

    model: with one label, as `cai.models.load_reward` gives it. adapter: LoRA that trains the head too, or None.
    """
    padding, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    assert isinstance(padding, int) and padding != eos, f"padding ({padding}) must exist and differ from eos ({eos})"
    assert model.config.num_labels == 1 and not args.remove_unused_columns
    model.config.problem_type = "regression"
    network = get_peft_model(model, adapter) if adapter else model
    return Trainer(network, args, RatingCollator(padding), Dataset.from_list(list(rows)))
