"""Direct Preference Optimization on soft labels: TRL's DPOTrainer with the exact cross-entropy.

A policy is its own reward model: beta log(pi(y|x) / pi_ref(y|x)) is, up to a term of x alone, the reward of which pi is
the best policy under a KL penalty of price beta (Rafailov et al. 2023, eq. 5 and 7). With d the difference of that
reward between the answers a and b and p = P(a better), the loss is

    -p log sigmoid(d) - (1 - p) log sigmoid(-d)

which is DPO's own at p = 1, and conservative DPO's (Mitchell 2023) where every p is 1 - epsilon. It is the loss of our
reward models (reward_trainer.py) with the policy's implicit reward in their place.

Departure from TRL: the loss is our own, of whole answers that were tokenised beforehand; TRL gives the reference (a
copy of the adapter, or the weights that were loaded), the collator and the training loop.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import use_adapter

from cai.train.common import Unpublished
from cai.train.heads import check_head
from cai.train.own_trainer import OwnTrainer
from cai.train.reward_trainer import soft_bradley_terry
from cai.train.shares import StepShares
from cai.train.still import check_first_loss, without_dropout

COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids", "p")
MASKS = ("chosen_mask", "rejected_mask")  # of answers that hold what the policy did not write: 1 on what it did


@dataclass
class SoftPairCollator(DataCollatorForPreference):
    """TRL's collator drops every column it does not know; this one carries `p` and `MASKS` through."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples) | {"p": torch.tensor([row["p"] for row in examples], dtype=torch.float32)}
        masked = [row | {"mask": row[side]} for side in MASKS for row in examples if side in row]
        for place, row in enumerate(masked):
            start = len(row["prompt_ids"])
            batch["completion_mask"][place, start : start + len(row["mask"])] = torch.tensor(row["mask"])
        return batch


class SoftDPOTrainer(Unpublished, OwnTrainer, StepShares, DPOTrainer):
    """DPOTrainer over a tokenised dataset: `prompt_ids`, `chosen_ids` (of a), `rejected_ids` (b), `p` = P(a better);
    with `MASKS` only what they mark counts as the answer.

    Log rows: loss, accuracy (the implicit reward is on the label's side; p == 1/2 has none and is not counted), margin
    (the implicit reward of the preferred answer minus that of the other) and entropy (nats a token of the answers).
    """

    _checked = False
    _entropy: Any = 0.0  # nats and tokens of the step so far

    def __init__(
        self, model: Any, args: DPOConfig, *, processing_class: PreTrainedTokenizerBase, **kwargs: Any
    ) -> None:
        pad, eos = processing_class.pad_token_id, processing_class.eos_token_id
        assert isinstance(pad, int) and pad != eos, f"the padding token ({pad}) must exist and differ from eos ({eos})"
        plain = (args.loss_type, args.label_smoothing, args.f_divergence_type, args.ld_alpha, args.use_weighting)
        assert plain == (["sigmoid"], 0.0, "reverse_kl", None, False), "the loss here is soft DPO alone"
        assert not args.precompute_ref_log_probs and args.beta > 0
        collator = SoftPairCollator(pad)
        super().__init__(model, args=args, data_collator=collator, processing_class=processing_class, **kwargs)
        without_dropout(self.accelerator.unwrap_model(self.model))
        check_head(self)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        missing = [column for column in COLUMNS if column not in dataset.column_names]
        assert not missing, f"the {dataset_name} dataset lacks {missing}"
        assert all(0 <= p <= 1 for p in dataset["p"]), f"p must lie in [0, 1] ({dataset_name} dataset)"
        return dataset  # tokenised, and nothing in it is cut

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            self._signature_columns = [*COLUMNS, *MASKS]

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False) -> Any:
        p_B, real = inputs.pop("p"), inputs.pop("real", None)
        # 1. log pi(y|x) of both answers, a's rows before b's, and the same under the reference.
        logp_B, entropy_N, row_N = self._of_answers(model, inputs)
        a_B, b_B = logp_B.chunk(2)
        ref_a_B, ref_b_B = self.compute_ref_log_probs(self.ref_model or self.model, inputs)

        # 2. The implicit rewards' difference, and the cross-entropy with the labels.
        margin_B = self.beta * ((a_B - ref_a_B) - (b_B - ref_b_B))
        if self.is_in_train and self.state.global_step == 0 and not self._checked:
            network: Any = self.accelerator.unwrap_model(model)
            check_first_loss(margin_B.detach(), int(inputs["completion_mask"].sum(dim=1).max()), network.dtype)
            self._checked = True
        loss_B = soft_bradley_terry(margin_B, p_B, torch.arange(len(p_B), device=p_B.device))
        self._note_margins((torch.sign(p_B - 0.5) * margin_B.detach())[:real][p_B[:real] != 0.5])
        real_N = row_N % len(p_B) < len(loss_B[:real])
        self._note_entropy(entropy_N[real_N].sum(), real_N.sum())
        loss = self.mean_of(loss_B, real)
        return (loss, {"logps": logp_B.detach()}) if return_outputs else loss

    def _of_answers(self, model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """(log-probability of each answer (B,), entropy at each of their N tokens, the row of each).

        TRL's fused head, over the states before the answers' tokens alone: without Triton it would score every place.
        """
        ids_BT, mask_BT = inputs["input_ids"], inputs["completion_mask"]
        before_BT = torch.zeros_like(mask_BT, dtype=torch.bool)  # the places that predict what is learnt
        before_BT[:, :-1] = mask_BT[:, 1:] != 0
        place_N = before_BT.flatten().nonzero().squeeze(1)
        network: Any = self.accelerator.unwrap_model(model)
        base = network.get_base_model() if hasattr(network, "get_base_model") else network

        def at_answers(_module: Any, _args: Any, output: Any) -> Any:
            states_BTD = output.last_hidden_state
            output.last_hidden_state = states_BTD.flatten(0, 1).index_select(0, place_N)[None]
            return output

        hook = base.base_model.register_forward_hook(at_answers)
        try:
            outputs = model(
                input_ids=ids_BT, attention_mask=inputs["attention_mask"], use_cache=False, fused_lm_head=True,
                shift_labels=ids_BT.flatten()[place_N + 1][None],
            )  # fmt: skip
        finally:
            hook.remove()
        row_N = place_N // ids_BT.size(1)
        logp_N, entropy_N = outputs.log_probs[0], outputs.entropy
        logp_B = logp_N.new_zeros(len(ids_BT)).index_add(0, row_N, logp_N)
        return logp_B, logp_N if entropy_N is None else entropy_N[0].detach(), row_N

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> Any:
        """(of a's rows, of b's rows), each (B,): TRL's, over the answers' tokens alone."""
        adapter: Any = nullcontext()
        if self.ref_model is None and isinstance(self.model, PeftModel):
            network: Any = self.accelerator.unwrap_model(self.model)
            adapter = use_adapter(network, "ref" if "ref" in network.peft_config else None)
        policy, settings = cast(Any, self.model), cast(Any, self.args.gradient_checkpointing_kwargs)
        again = disable_gradient_checkpointing(policy, settings)
        with torch.no_grad(), again, adapter, self.accelerator.autocast():
            return self._of_answers(model, inputs)[0].chunk(2)

    def _note_margins(self, margin_B: Tensor) -> None:
        """One value a row that has a side, so that means are exact over processes and parts of a step."""
        margins = gather_object(margin_B.tolist())
        if margins:  # an empty list has no mean
            self._noted["accuracy"] += [float(margin > 0) for margin in margins]
            self._noted["margin"] += margins

    def _note_entropy(self, entropy: Tensor, tokens: Tensor) -> None:
        """One value a step: the sum over its tokens by their number."""
        self._entropy = self._entropy + torch.stack([entropy.float(), tokens.float()])
        if self.accelerator.sync_gradients or not self.is_in_train:
            entropy, tokens = self.accelerator.reduce(self._entropy, "sum")
            self._noted["entropy"].append((entropy / tokens).item())
            self._entropy = torch.zeros_like(self._entropy)

    @property
    def _noted(self) -> Any:
        return self._metrics["train" if self.model.training else "eval"]  # pyrefly: ignore
