"""The mathematics of PPO on plain tensors, each with its source; tests/train/test_ppo.py computes them by hand.

Tensor names end in their shape: B answers, T answer tokens, V vocabulary. mask_BT is 1 on the tokens that the policy
chose, the end-of-turn token included, and 0 elsewhere.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 128  # tokens whose logits are in fp32 at one time


def masked_mean(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over valid tokens; 0 where there is none."""
    return (x_BT * mask_BT).sum() / mask_BT.sum().clamp(min=1)


def masked_variance(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Variance over valid tokens (division by their number)."""
    return masked_mean((x_BT - masked_mean(x_BT, mask_BT)) ** 2, mask_BT)


def whiten(x_BT: Tensor, mask_BT: Tensor, *, keep_mean: bool = False) -> Tensor:
    """Variance 1 over valid tokens, and mean 0 or the mean as it was; 0 elsewhere.

    Huang et al. 2023: advantages are whitened to mean 0, rewards keep their mean.
    """
    mean = masked_mean(x_BT, mask_BT)
    scaled_BT = (x_BT - mean) * torch.rsqrt(masked_variance(x_BT, mask_BT) + 1e-8)
    return (scaled_BT + mean if keep_mean else scaled_BT) * mask_BT


def adapted_kl_coef(kl_coef: float, kl: float, target: float, gain: float) -> float:
    """The coefficient for the next rollout, after one whose KL was `kl` (Ziegler et al. 2019, section 2.2).

    Proportional control of the coefficient's logarithm: the relative error, cut to +-0.2, times the gain. The paper's
    gain K_beta is 0.1. NaN (nothing could be scored) changes nothing.
    """
    if math.isnan(kl):
        return kl_coef
    error = min(max(kl / target - 1, -0.2), 0.2)
    return kl_coef * (1 + gain * error)


def gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16); 0 on padding.

    delta_t = r_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lam A_{t+1}. An answer is an episode: past its last
    token, ended or cut off, the value is 0.
    """
    values_BT = values_BT * mask_BT
    advantages_BT = torch.zeros_like(values_BT)
    next_value_B = next_advantage_B = torch.zeros_like(values_BT[:, 0])
    for t in reversed(range(values_BT.size(1))):
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        next_advantage_B = (delta_B + gamma * lam * next_advantage_B) * mask_BT[:, t]
        next_value_B = values_BT[:, t]
        advantages_BT[:, t] = next_advantage_B
    return advantages_BT


def policy_loss(ratio_BT: Tensor, advantages_BT: Tensor, mask_BT: Tensor, cliprange: float) -> Tensor:
    """Clipped surrogate (Schulman et al. 2017, eq. 7), negated, mean over valid tokens. ratio: new over old."""
    clipped_BT = ratio_BT.clamp(1 - cliprange, 1 + cliprange)
    return masked_mean(torch.maximum(-advantages_BT * ratio_BT, -advantages_BT * clipped_BT), mask_BT)


def value_loss(
    values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor, cliprange_value: float
) -> Tensor:
    """Half the squared error, the worse of the value and the value clipped to old +- cliprange_value (Huang et al.
    2023)."""
    clipped_BT = old_values_BT + (values_BT - old_values_BT).clamp(-cliprange_value, cliprange_value)
    error_BT = torch.maximum((values_BT - returns_BT) ** 2, (clipped_BT - returns_BT) ** 2)
    return 0.5 * masked_mean(error_BT, mask_BT)


def explained_variance(values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """1 - Var(return - value) / Var(return): 1 for a perfect critic, 0 for a constant one, NaN for equal returns."""
    total = masked_variance(returns_BT, mask_BT)
    return torch.where(total > 0, 1 - masked_variance(returns_BT - values_BT, mask_BT) / total, torch.nan)


class _Choice(torch.autograd.Function):
    """`logprobs_and_entropy` of (N, V), a few tokens at a time: what is held of all of them is the logits alone."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, actions_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        parts = []
        for part_NV, action_N in zip(logits_NV.split(CHUNK), actions_N.split(CHUNK), strict=True):
            scaled_NV = part_NV.float() if temperature == 1 else part_NV.float() / temperature
            norm_N = scaled_NV.logsumexp(-1)
            logprobs_NV = scaled_NV - norm_N.unsqueeze(1)
            chosen_N = logprobs_NV.gather(1, action_N.unsqueeze(1)).squeeze(1)
            parts.append((norm_N, chosen_N, -logprobs_NV.exp().mul_(logprobs_NV).sum(-1)))
        norm_N, chosen_N, entropy_N = (torch.cat(column) for column in zip(*parts, strict=True))
        ctx.save_for_backward(logits_NV, actions_N, norm_N)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_N)
        return chosen_N, entropy_N

    @staticmethod
    @once_differentiable
    # pyrefly: ignore  (the decorator hides the type)
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None, None]:
        """d log p(a) / d logit(v) = ([v = a] - p(v)) / temperature."""
        logits_NV, actions_N, norm_N = ctx.saved_tensors
        out_NV, scale_N = torch.empty_like(logits_NV), grad_outputs[0] / ctx.temperature
        split = (tensor.split(CHUNK) for tensor in (logits_NV, actions_N, norm_N, scale_N, out_NV))
        for part_NV, action_N, norm, scale, out in zip(*split, strict=True):
            scaled_NV = part_NV.float() if ctx.temperature == 1 else part_NV.float() / ctx.temperature
            grad_NV = (scaled_NV - norm.unsqueeze(1)).exp_().mul_(-scale.unsqueeze(1))
            out.copy_(grad_NV.scatter_add_(1, action_N.unsqueeze(1), scale.unsqueeze(1)))
        return out_NV, None, None


def logprobs_and_entropy(logits_BTV: Tensor, actions_BT: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Of each choice under softmax(logits / temperature), (B, T) both: log-probability of the action, and entropy.

    In nats and in fp32, without ever holding all logits in fp32; the entropy is for the log and has no gradient. The
    temperature of sampling belongs to the policy (Huang et al. 2023).
    """
    chosen_N, entropy_N = cast(Any, _Choice).apply(logits_BTV.flatten(0, 1), actions_BT.flatten(), temperature)
    return chosen_N.view_as(actions_BT), entropy_N.view_as(actions_BT)
