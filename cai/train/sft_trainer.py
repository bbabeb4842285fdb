"""TRL's SFTTrainer, whose steps are the same in several processes and parts (cai/train/shares.py)."""

from typing import Any

from trl import SFTTrainer

from cai.train.common import Unpublished
from cai.train.heads import check_head
from cai.train.own_trainer import OwnTrainer
from cai.train.shares import StepShares


class AnswerTrainer(Unpublished, OwnTrainer, StepShares, SFTTrainer):
    """The mean over the answers' tokens of a whole step: TRL's own, which counts them in all processes and parts."""

    loss_is_scaled_for_ga: bool | None = None  # TRL says

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_head(self)
        # For its metrics TRL takes this to cut off what only fills up, in every part of an epoch's last step alike.
        setattr(self.accelerator, "gather_for_metrics", self.accelerator.gather)  # noqa: B010

    def counting(self, batch: Any, real: int) -> Any:
        """A row that only fills up has no token to learn."""
        batch["labels"][real:] = -100
        return batch

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        tokens = self.accelerator.gather((inputs["labels"][:, 1:] != -100).sum()).sum()
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        parts = self.current_gradient_accumulation_steps
        if model.training and parts > 1:  # in the mean over them, each counts as many times as it has tokens
            metrics = self._metrics["train"]
            for name in ("entropy", "mean_token_accuracy"):
                metrics[name][-1] *= (tokens / num_items_in_batch).item() * parts
        return loss
