"""The critic of PPO: a head on the policy's own hidden states, or a model of its own."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cai.core.errors import UserError
from cai.models.architectures import head_width
from cai.train.still import without_dropout

INPUTS = ("input_ids", "attention_mask", "position_ids")  # what policy and critic both read


class ValueHead(nn.Module):
    """V(s_t) from the trunk's last hidden state: linear, no dropout, fp32 at any precision of the trunk, 0 at first."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        with torch.autocast(hidden_BTD.device.type, enabled=False):
            return self.linear(hidden_BTD.float()).squeeze(-1).clone()  # FSDP2 warns of views


class ValueModel(nn.Module):
    """V(s_t) by a separate model: one with a one-label `score` head, such as a reward model, read at every token.

    It reads the policy's token ids, so it must have been made with the policy's tokenizer. Raises UserError.
    """

    def __init__(self, model: Any, vocabulary: int) -> None:
        super().__init__()
        network = getattr(model, "get_base_model", lambda: model)()
        if model.config.num_labels != 1 or not hasattr(network, "score"):
            raise UserError("a critic has one label and a head called score", "value_model", "give a reward model")
        if model.config.get_text_config().vocab_size != vocabulary:
            raise UserError(
                f"the critic knows {model.config.get_text_config().vocab_size} tokens and the policy {vocabulary}",
                "value_model",
                "give one that was made with the policy's tokenizer, or none",
            )
        without_dropout(model)
        self.model = model

    def forward(self, positions_T: Tensor, **inputs: Any) -> Tensor:
        network = getattr(self.model, "get_base_model", lambda: self.model)()
        hidden_BTD = getattr(network, network.base_model_prefix)(**inputs, use_cache=False).last_hidden_state
        return network.score(hidden_BTD[:, positions_T]).squeeze(-1).float()


@contextmanager
def last_states(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Within: each forward adds its last hidden states, (B, T, D), to the list. Those of the other layers are not
    kept, as they are with `output_hidden_states`."""
    states: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output.last_hidden_state)

    hook = model.get_decoder().register_forward_hook(keep)
    try:
        yield states
    finally:
        hook.remove()


def add_critic(model: PreTrainedModel, value_model: Any = None) -> ValueHead | ValueModel:
    """Make `model(..., logits_to_keep=positions_T, with_values=True)` return logits (B, T, V) and values (B, T).

    The critic is a submodule of the policy and runs inside its forward. So whatever the Trainer does to the policy's
    parameters it does to the critic's: zeroing and clipping of gradients, synchronising them between processes.
    """
    config = model.config.get_text_config()
    critic = ValueHead(head_width(model)) if value_model is None else ValueModel(value_model, config.vocab_size)
    critic.to(model.device)
    model.add_module("value_head", critic)
    # A saved policy is a plain language model, whoever saves it.
    not_saved = {f"value_head.{name}" for name in critic.state_dict()}
    model._keys_to_ignore_on_save = set(model._keys_to_ignore_on_save or ()) | not_saved
    lm_forward = model.forward

    @functools.wraps(lm_forward)  # `generate` inspects the signature
    def forward(*args: Any, with_values: bool = False, **kwargs: Any) -> Any:
        if not with_values:
            return lm_forward(*args, **kwargs)
        positions_T, separate = kwargs["logits_to_keep"], isinstance(critic, ValueModel)
        with last_states(model) as states:
            output = lm_forward(*args, **kwargs)
        if separate:
            values_BT = critic(positions_T, **{name: kwargs[name] for name in INPUTS})
        else:
            (hidden_BTD,) = states
            values_BT = critic(hidden_BTD[:, positions_T])
        return {"logits": output.logits, "values": values_BT}

    model.forward = forward
    return critic
