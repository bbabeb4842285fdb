"""The critic of PPO: a head on the policy's own hidden states."""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class ValueHead(nn.Module):
    """V(s_t) from the trunk's last hidden state: linear, no dropout, fp32 at any precision of the trunk, 0 at first."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        with torch.autocast(hidden_BTD.device.type, enabled=False):
            return self.linear(hidden_BTD.float()).squeeze(-1)


def add_value_head(model: PreTrainedModel) -> ValueHead:
    """Make `model(..., logits_to_keep=positions_T, with_values=True)` return logits (B, T, V) and values (B, T).

    The head is a submodule of the policy and runs inside its forward. So whatever the Trainer does to the policy's
    parameters it does to the critic's: zeroing and clipping of gradients, synchronising them between processes.
    """
    head = ValueHead(model.config.get_text_config().hidden_size).to(model.device)
    model.add_module("value_head", head)
    # A saved policy is a plain language model, whoever saves it.
    not_saved = {f"value_head.{name}" for name in head.state_dict()}
    model._keys_to_ignore_on_save = set(model._keys_to_ignore_on_save or ()) | not_saved
    lm_forward = model.forward

    @functools.wraps(lm_forward)  # `generate` inspects the signature
    def forward(*args: Any, with_values: bool = False, **kwargs: Any) -> Any:
        if not with_values:
            return lm_forward(*args, **kwargs)
        output = lm_forward(*args, **kwargs | {"output_hidden_states": True})  # PEFT itself passes None
        return {"logits": output.logits, "values": head(output.hidden_states[-1][:, kwargs["logits_to_keep"]])}

    model.forward = forward
    return head
