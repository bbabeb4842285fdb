"""LoRA's layers, computed with fewer passes over memory than PEFT's own: the same product, to rounding.

PEFT keeps adapters in float32 beside a bfloat16 model. Of each layer's input it makes a float32 copy that is kept for
the backward pass, and the product in float32 is scaled, added to and cast in a pass each: 44% of an adapted layer's
forward on a CPU, and more than half of the memory that a step keeps. Here

    y = x W' + s (x A') B'        A: (r, D), B: (O, r), in float32; x, W, y in the model's own precision

is one function: the scale goes on (x A'), which is narrow; the sum is made in place; and kept for the backward pass are
x, which the layer before keeps anyway, and (x A'), again narrow. It goes over the tokens in parts that fit a cache.
Without gradients the same is computed, and the base layer asked for its product: where s is a power of two, as ours is
(2), the bits are PEFT's own. Of few rows PEFT's way is quicker (by 0.05 ms a layer), and it is left to it. But where a
policy samples, what counts is the number of calls: SmolLM2 has 210 such layers, asked for each token. There one product
is made into the other, without PEFT's modules (40 us a layer and call besides the products' own, instead of 70 to 80).

What is no plain LoRA on a frozen linear layer (DoRA, biases, dropout, quantised weights, several adapters at once) is
left to PEFT.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

PART = 256  # tokens at a time on a CPU
FEW = 64  # tokens


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_XD: Tensor, weight_OD: Tensor, bias_O: Tensor | None, a_RD: Tensor, b_OR: Tensor, scale: float
    ) -> Tensor:
        x_ND = x_XD.reshape(-1, x_XD.shape[-1])
        y_XO = linear(x_XD, weight_OD, bias_O)  # returned itself: of a view, nobody could change anything in place
        narrow_NR = _add(y_XO.view(len(x_ND), -1), x_ND, a_RD, b_OR, scale)
        ctx.save_for_backward(x_XD, weight_OD, a_RD, b_OR, narrow_NR)
        ctx.scale = scale
        return y_XO

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        x_XD, weight_OD, a_RD, b_OR, narrow_NR = ctx.saved_tensors
        x_ND = x_XD.reshape(-1, x_XD.shape[-1])
        y_NO = gradients[0].reshape(len(x_ND), -1)
        of_a, of_b = torch.zeros_like(a_RD), torch.zeros_like(b_OR)
        of_x = y_NO @ weight_OD if ctx.needs_input_grad[0] else None
        size = _size(x_ND)
        for start in range(0, len(x_ND), size):
            part = slice(start, start + size)
            y = y_NO[part].to(b_OR.dtype)
            of_b.addmm_(y.t(), narrow_NR[part])
            of_narrow = (y @ b_OR).mul_(ctx.scale)
            of_a.addmm_(of_narrow.t(), x_ND[part].to(a_RD.dtype))
            if of_x is not None:
                of_x[part] = (of_narrow @ a_RD).add_(of_x[part])
        return (of_x.view_as(x_XD) if of_x is not None else None), None, None, of_a, of_b, None


def _add(y_NO: Tensor, x_ND: Tensor, a_RD: Tensor, b_OR: Tensor, scale: float) -> Tensor:
    """Add s (x A') B' to y, in place. Returns s (x A'), (N, R)."""
    narrow_NR, size = x_ND.new_empty(len(x_ND), len(a_RD), dtype=a_RD.dtype), _size(x_ND)
    for x, y, narrow in zip(x_ND.split(size), y_NO.split(size), narrow_NR.split(size), strict=True):
        wide = torch.mm(x.to(a_RD.dtype), a_RD.t(), out=narrow).mul_(scale) @ b_OR.t()
        if y.dtype == wide.dtype:
            y += wide
        else:
            y.copy_(wide.add_(y))
    return narrow_NR


def _size(x_ND: Tensor) -> int:
    return max(PART if x_ND.device.type == "cpu" else len(x_ND), 1)


def quicken(network: Any) -> int:
    """Let the plain LoRA layers of a network that PEFT wrapped compute so; how many there are."""
    from peft.tuners.lora import Linear

    layers = [module for module in network.modules() if type(module) is Linear and _is_plain(module)]
    for layer in layers:
        layer.forward = functools.partial(_forward, layer, layer.forward)
    return len(layers)


def _is_plain(layer: Any) -> bool:
    base = layer.get_base_layer()
    still = type(base) is nn.Linear and base.weight.is_floating_point()
    return still and not any(p.requires_grad for p in base.parameters()) and not layer.lora_variant


def _forward(layer: Any, own: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    few = not torch.is_grad_enabled() and x.numel() < FEW * x.shape[-1]
    a_token_each = x.dim() == 3 and x.shape[1] == 1
    if few and not a_token_each:
        return own(x, *args, **kwargs)
    parts = layer._modules  # PyTorch's own way to them takes a microsecond each
    names = [name for name in layer.active_adapters if name in parts["lora_A"]]
    if (
        args
        or kwargs
        or layer.disable_adapters
        or layer.merged
        or len(names) != 1
        or names[0] in layer.lora_variant
        or torch.is_autocast_enabled(x.device.type)
    ):
        return own(x, *args, **kwargs)
    a, b, base = parts["lora_A"][names[0]], parts["lora_B"][names[0]], parts["base_layer"]
    dropout = parts["lora_dropout"][names[0]]
    weight, a_RD = base.weight, a.weight
    rests = isinstance(dropout, nn.Identity) or getattr(dropout, "p", 1.0) == 0.0
    if a.bias is not None or b.bias is not None or not rests or x.dtype != weight.dtype:
        return own(x)
    scale = layer.scaling[names[0]]
    if torch.is_grad_enabled():
        return _LoraLinear.apply(x, weight, base.bias, a_RD, b.weight, scale)
    if few:
        if not x.dtype == a_RD.dtype == torch.float32:  # else packed weights answer, and PEFT casts
            return own(x)
        y = linear(x, weight, base.bias)
        y.view(len(x), -1).addmm_(linear(x, a_RD).view(len(x), -1), b.weight.t(), alpha=scale)
        return y
    y = base(x)  # itself: where a model samples, it may answer from packed weights (models/engines/packed.py)
    _add(y.view(-1, y.shape[-1]), x.reshape(-1, x.shape[-1]), a_RD, b.weight, scale)
    return y
