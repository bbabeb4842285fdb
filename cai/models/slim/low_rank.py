"""A linear layer as the product of two thin matrices, which lose the least of what the layer gives.

With G the sum of x x' over the inputs x of the calibration texts, the best approximation of rank r in the sense of
sum |W x - W' x|^2 is W' = U U' W, with U the r leading eigenvectors of W G W': what is lost is the sum of the other
eigenvalues (Eckart & Young 1936, applied to W G^1/2). It is what SVD-LLM (Wang et al. 2024, section 3.1) reaches by
whitening, without the inverse of a factor of G, which need not exist. Without texts G is the identity, the eigenvalues
are the squared singular values of W, and this is the truncated SVD.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class LowRankLinear(nn.Module):
    """up(down(x)): what `nn.Linear(inputs, outputs)` is where its matrix has a low rank."""

    def __init__(self, inputs: int, outputs: int, rank: int, bias: bool, **where: Any) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = inputs, outputs, rank
        self.down = nn.Linear(inputs, rank, bias=False, **where)
        self.up = nn.Linear(rank, outputs, bias=bias, **where)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


def directions(weight_OI: Tensor, gram_II: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(eigenvalues, eigenvectors as columns) of W G W', the largest first, in float64: shapes (O,) and (O, O)."""
    w = weight_OI.double()
    outputs_OO = w @ (w.T if gram_II is None else gram_II.double() @ w.T)
    values, vectors = torch.linalg.eigh((outputs_OO + outputs_OO.T) / 2)
    return values.flip(0).clamp(min=0), vectors.flip(1)


def rank_for(values: Tensor, energy: float) -> int:
    """The least rank that leaves this share of the sum of the eigenvalues."""
    if not values.sum() > 0:
        return 1
    shares = values.cumsum(0) / values.sum()
    return int((shares < energy).sum()) + 1


def saves(inputs: int, outputs: int, rank: int) -> bool:
    return rank * (inputs + outputs) < inputs * outputs


def factorised(layer: nn.Linear, vectors_OO: Tensor, rank: int) -> LowRankLinear:
    """The layer projected on the leading directions of its outputs. A bias stays whole."""
    weight = layer.weight
    made = LowRankLinear(
        layer.in_features, layer.out_features, rank, layer.bias is not None, dtype=weight.dtype, device=weight.device
    )
    kept_OR = vectors_OO[:, :rank]
    made.up.weight.data = kept_OR.to(weight.dtype).contiguous()
    made.down.weight.data = (kept_OR.T @ weight.double()).to(weight.dtype).contiguous()
    if layer.bias is not None:
        made.up.bias.data = layer.bias.data.clone()
    return made


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    holder, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(holder), leaf, layer)


RANKS = "linear_ranks"  # in config.json as well, which alone a hub is asked for before its weights are read


# Read back ------------------------------------------------------------------------------------------------------------


def load_factorised(kind: Any, folder: Path, ranks: dict[str, int], dtype: Any) -> Any:
    """A model of which some layers are two thin ones. kind: the Auto class of its architecture; ranks: layer -> rank.

    transformers builds a model by its config alone, which knows nothing of such layers: so they are put in their
    places before the weights are. Raises ValueError where these do not fit.
    """
    from accelerate import init_empty_weights
    from safetensors.torch import load_file
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    with init_empty_weights(include_buffers=False):
        model: Any = kind.from_config(config, dtype=dtype)
        for name, rank in ranks.items():
            whole: Any = model.get_submodule(name)
            bias = whole.bias is not None
            replace_layer(model, name, LowRankLinear(whole.in_features, whole.out_features, rank, bias, dtype=dtype))
    state = {}
    for file in sorted(folder.glob("*.safetensors")):
        state |= {key: tensor.to(dtype) for key, tensor in load_file(file).items()}
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    unset = [name for name, weight in model.named_parameters() if weight.is_meta]
    if unset or unexpected:
        raise ValueError(f"its weights are not those of its layers: {(unset or unexpected or missing)[0]}")
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    return model.eval()
