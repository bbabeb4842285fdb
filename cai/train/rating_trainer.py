"""A score of single texts, fitted to people's ratings by squared error (L2), with transformers' own Trainer.

Bai et al. (2022, section 4.4) train a model to predict how harmful people found a conversation, and score policies by
it. Departure from the paper: it rates whole conversations on a scale of 0 to 4; here an answer is rated, 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments, set_seed

from cai.core.batching import by_length
from cai.train.own_trainer import OwnTrainer
from cai.train.reward_trainer import right_padded
from cai.train.shares import StepShares

PADDING = 0.15  # the share of a forward pass that may be padding


@dataclass
class RatingCollator:
    """A batch of rows -> {"parts": right-padded tensors, each of rows of like length}.

    Refusals are short and harmful answers long: in one tensor, half of a batch would be padding. Batches of like length
    would be cheap too, and wrong: what they hold would be rated alike, and each would pull the score its own way.
    """

    pad_token_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Tensor]]]:
        lengths = [len(row["ids"]) for row in rows]
        return {
            "parts": [
                right_padded((rows[i]["ids"] for i in part), self.pad_token_id)
                | {"ratings": torch.tensor([rows[i]["rating"] for i in part], dtype=torch.float32)}
                | {"place": torch.tensor(part)}
                for part in by_length(range(len(rows)), lengths, sum(lengths) * 2, padding=PADDING)
            ]
        }


class RatingTrainer(OwnTrainer, StepShares, Trainer):
    """Trainer over rows of "ids" (of `cai.models.score.render_scored`) and "rating"; loss: the mean squared error."""

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        rows: Sequence[dict[str, Any]],
        tokenizer: PreTrainedTokenizerBase,
        adapter: PeftConfig | None,
    ) -> None:
        """model: as `cai.models.loading.load_reward` gives it. adapter: LoRA that trains the head too, or None."""
        padding, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
        assert isinstance(padding, int) and padding != eos, f"padding ({padding}) must exist and differ from {eos}, eos"
        assert model.config.num_labels == 1 and not args.remove_unused_columns
        # LoRA draws its weights here, before Trainer sets the seed: a run that went on after a kill drew others.
        set_seed(args.seed)
        network = get_peft_model(model, adapter) if adapter else model
        super().__init__(network, args, RatingCollator(padding), Dataset.from_list(list(rows)))

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        assert not return_outputs
        errors, places = [], []
        for part in inputs["parts"]:
            outputs = model(input_ids=part["input_ids"], attention_mask=part["attention_mask"], use_cache=False)
            score_B = outputs.logits.squeeze(-1).float()
            errors.append((score_B - part["ratings"]) ** 2)
            places.append(part["place"])
        real = inputs.get("real", sum(map(len, places)))
        return self.mean_of(torch.cat(errors)[torch.cat(places) < real], inputs.get("real"))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: a batch is no single tensor."""
        return 0
