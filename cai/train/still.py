"""What must stand still while a policy learns: dropout, and what it makes of a row whatever is beside it.

A policy that was sampled without dropout and is then evaluated with it is another policy: the ratio of its first update
is not 1, its KL to itself not 0 and DPO's first loss not ln 2. `disable_dropout` of TRL sets modules alone; many
architectures (OPT, XGLM, BioGPT, GPT-BigCode, Falcon, every `attention_dropout`) drop out by a function instead, at a
rate that a module or the config holds as a number.
"""

import math
from typing import Any

import torch
from torch import Tensor

from cai.core.errors import UserError

RANDOM = ("drop", "jitter")  # in the names of rates; jitter: the noise on a router's input


def without_dropout(model: Any) -> None:
    """Set every rate of dropout in the network to 0: of modules, of numbers that functions read, and in the config."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        holders = [vars(module)]
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "to_dict"):
            holders.append(vars(config))
        for holder in holders:
            for name, value in holder.items():
                if isinstance(value, float) and any(word in name.lower() for word in RANDOM):
                    holder[name] = 0.0


def check_first_kl(kl_BT: Tensor, dtype: torch.dtype) -> None:
    """Is the policy, before its first update, its own reference? kl_BT: log pi - log pi_ref. Raises UserError."""
    off = kl_BT.abs().max().item() if kl_BT.numel() else 0.0
    if not off <= rounding(dtype):  # also where it is not a number
        _refuse(f"before the first update its log-probabilities differ from its own by up to {off:.3g} nats a token")


def check_first_loss(margin_B: Tensor, tokens: int, dtype: torch.dtype) -> None:
    """Is DPO's first loss ln 2, which is a margin of 0 between policy and reference? Raises UserError.

    margin_B: of log-probabilities of whole answers, beta included. tokens: of the longest.
    """
    off = margin_B.abs().max().item()
    if not off <= rounding(dtype) * math.sqrt(max(tokens, 1)):
        _refuse(f"before the first update DPO's margin is {off:.3g} where it is 0, so that its loss is not ln 2")


def rounding(dtype: torch.dtype) -> float:
    """Nats a token by which two ways of computing the same may differ (FACTS: 0.00003 and 0.25)."""
    return 1e-3 if dtype == torch.float32 else 0.3


def _refuse(what: str) -> None:
    raise UserError(
        f"the policy does not read the same text in the same way twice: {what}",
        "policy.model",
        "something in this architecture stays random while it learns; use another model, or rl.method: best_of_n",
    )


def give_positions(model: Any) -> None:
    """Rows that are padded on the left get the positions that they have alone; where TRL's forwards give none.

    Without them GPT-2, GPT-Neo, GPT-BigCode, XGLM and BioGPT count the padding: up to 1.5 nats a token.
    """

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
        whole = ids is not None and mask is not None and mask.shape == ids.shape
        if whole and mask is not None and kwargs.get("position_ids") is None:
            kwargs = kwargs | {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
        return args, kwargs

    model.register_forward_pre_hook(hook, with_kwargs=True)
