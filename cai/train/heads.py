"""Does TRL's fused head give the log-probabilities that the model itself gives?

For SFT, DPO, RLOO and GRPO TRL multiplies the last hidden states with the vocabulary matrix itself, and takes from the
config by what they are scaled and capped. A model whose head does more (ModernBERT's decoder: a dense layer and a norm
before) would be trained on the log-probabilities of another model, and nothing of it would show: policy and reference
are off alike, and a loss falls whatever it is of. So one row is read both ways before anything is learnt.
"""

from typing import Any

import torch

from cai.core.errors import UserError
from cai.train.still import rounding

ROW = 16  # tokens


@torch.no_grad()
def check_head(trainer: Any) -> None:
    """Raises UserError where the two differ. trainer: one of TRL's, made and not yet training."""
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:  # whose weights may be elsewhere
        return
    for network in (trainer.model, getattr(trainer, "ref_model", None)):
        if network is not None:
            off = _off(network, getattr(trainer.args, "temperature", 1.0))
            if not off <= rounding(network.dtype):  # also where it is not a number
                problem = f"TRL's log-probabilities are not this model's: they differ by up to {off:.3g} nats a token"
                raise UserError(problem, "policy.model", "its head is more than one product; use another model")


def _off(network: Any, temperature: float) -> float:
    """By how much the log-probabilities of a row's tokens differ, at most."""
    vocabulary = network.config.get_text_config().vocab_size
    ids_1T = torch.tensor([[(11 * k + 3) % vocabulary for k in range(ROW)]], device=network.device)
    given = {"input_ids": ids_1T, "attention_mask": torch.ones_like(ids_1T), "use_cache": False}
    training = network.training
    network.eval()
    try:
        logits_1TV = network(**given).logits[:, :-1].float() / temperature
        fused_1T = network(**given, labels=ids_1T, fused_lm_head=True).log_probs
    finally:
        network.train(training)
    own_1T = logits_1TV.log_softmax(-1).gather(-1, ids_1T[:, 1:, None])[..., 0]
    return float((own_1T - fused_1T.view_as(own_1T)).abs().max())
