"""A reward model trained on soft preferences: TRL's RewardTrainer with the exact Bradley-Terry cross-entropy.

Where an AI judge answers "A, with probability 0.7", Constitutional AI (Bai et al. 2022, sections 4.1 and 4.3) trains on
the 0.7 rather than on "A". For a margin d = r(a) - r(b) and a label p = P(a better), the loss is

    -p log sigmoid(d) - (1 - p) log sigmoid(-d)

which is TRL's hard loss at p = 1, and has no gradient at d = 0 for p = 1/2.

Departure from the paper: none in the loss. The labels are not clamped here to 40-60% (the paper does so for
chain-of-thought labels); that belongs to labelling.
"""

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import RewardConfig
from trl.trainer.reward_trainer import DataCollatorForPreference, RewardTrainer

COLUMNS = ("chosen_ids", "rejected_ids", "p")


def soft_bradley_terry(margin_B: Tensor, p_B: Tensor) -> Tensor:
    """Mean cross-entropy between the labels p = P(a better) and sigmoid(r(a) - r(b)); computed in fp32."""
    margin_B, p_B = margin_B.float(), p_B.float()
    return -(p_B * logsigmoid(margin_B) + (1 - p_B) * logsigmoid(-margin_B)).mean()


@dataclass
class SoftPreferenceCollator(DataCollatorForPreference):
    """TRL's collator drops every column it does not know; this one carries `p` through."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        batch["p"] = torch.tensor([example["p"] for example in examples], dtype=torch.float32)
        return batch


class SoftRewardTrainer(RewardTrainer):
    """RewardTrainer over a tokenised dataset: `chosen_ids` (answer a), `rejected_ids` (answer b), `p` = P(a better).

    The ids of both come from `cai.trainers.score.render_scored`.

    Metrics differ from TRL's in two: `accuracy` is agreement with the label's side (p > 1/2 or p < 1/2; p == 1/2 has no
    side and is not counted) and `margin` is the reward of the preferred answer minus that of the other.
    `too_long` counts the pairs that `max_length` removed, by dataset name: TRL removes them without a word.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: RewardConfig,
        *,
        processing_class: PreTrainedTokenizerBase,
        peft_config: PeftConfig | None = None,
        **kwargs: Any,
    ) -> None:
        pad, eos = processing_class.pad_token_id, processing_class.eos_token_id
        assert isinstance(pad, int) and pad != eos, f"the padding token ({pad}) must exist and differ from eos ({eos})"
        if peft_config is not None:  # any other task type trains an adapter below a frozen random head, unwarned
            assert peft_config.task_type == "SEQ_CLS" and "score" in (
                getattr(peft_config, "modules_to_save", ()) or ()
            ), 'a reward model by LoRA needs task_type="SEQ_CLS" and modules_to_save=["score"]'
        assert args.center_rewards_coefficient is None, "the loss here is cross-entropy alone"
        self.too_long: dict[str, int] = {}
        collator = SoftPreferenceCollator(pad)
        super().__init__(model, args, collator, processing_class=processing_class, peft_config=peft_config, **kwargs)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        missing = [column for column in COLUMNS if column not in dataset.column_names]
        assert not missing, f"the {dataset_name} dataset lacks {missing}: without p, hard labels would be trained on"
        assert all(0 <= p <= 1 for p in dataset["p"]), f"p must lie in [0, 1] ({dataset_name} dataset)"
        kept: Any = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        self.too_long[dataset_name] = len(dataset) - len(kept)
        return kept

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            self._signature_columns = list(COLUMNS)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        assert "p" in inputs, "the batch lacks p: hard labels would be trained on"
        p_B = inputs.pop("p")
        # TRL's own loss takes every first answer for the better one; it is called for its metrics and its forward.
        outputs: Any = super().compute_loss(model, inputs, return_outputs=True)[1]
        chosen_B, rejected_B = outputs.logits.squeeze(-1).float().chunk(2)
        loss = soft_bradley_terry(chosen_B - rejected_B, p_B)
        self._correct_metrics((chosen_B - rejected_B).detach(), p_B, "train" if model.training else "eval")
        return (loss, outputs) if return_outputs else loss

    def _correct_metrics(self, margin_B: Tensor, p_B: Tensor, mode: str) -> None:
        """Replace what super() counted for this batch by one value a row, so that their mean is exact."""
        metrics = self._metrics[mode]
        side_B = self.accelerator.gather_for_metrics(torch.sign(p_B - 0.5))
        margin_B = self.accelerator.gather_for_metrics(margin_B)
        margins = (side_B * margin_B)[side_B != 0]
        for name, values in (("accuracy", (margins > 0).float()), ("margin", margins)):
            metrics[name].pop()
            metrics[name].extend(values.tolist())
            if not metrics[name]:  # nothing had a side yet; an empty list has no mean
                del metrics[name]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the store's manifest says how the model came about."""

    def _send_telemetry(self) -> None:
        """None."""
