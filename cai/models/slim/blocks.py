"""A model gone through block by block: what the linear layers of each are given for some texts, before it is changed.

Each block sees what the blocks below it give *after* they were changed (Frantar & Alistarh 2023, "SparseGPT", section
3; Sun et al. 2024 do the same): so errors do not pile up unseen. Only one block's inputs are in memory at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cai.core.errors import UserError
from cai.models.architectures import lora_targets


@dataclass(slots=True)
class LayerInputs:
    """Sums over all tokens that one linear layer was given: of squares, shape (inputs,), and where they are wanted, of
    products, shape (inputs, inputs)."""

    squares: Tensor
    gram: Tensor | None
    tokens: int = 0

    def add(self, x: Tensor) -> None:
        """x: (..., inputs)."""
        rows_TI = x.reshape(-1, x.shape[-1]).float()
        self.squares += rows_TI.square().sum(0)
        self.tokens += len(rows_TI)
        if self.gram is not None:
            self.gram += rows_TI.T @ rows_TI

    @property
    def norms(self) -> Tensor:
        return self.squares.sqrt()


def blocks_of(model: Any) -> list[tuple[nn.Module, dict[str, nn.Linear]]]:
    """Each block with its linear layers by name: those that LoRA goes on (no head, no embedding, no router). Raises
    UserError for a model that has none."""
    base = model.base_model
    decoder = getattr(base, "language_model", base)
    count = model.config.get_text_config().num_hidden_layers
    stacks = [part for part in decoder.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    targets = {name: model.get_submodule(name) for name in lora_targets(model)[0]}
    linear = {id(layer): (name, layer) for name, layer in targets.items() if isinstance(layer, nn.Linear)}
    if not stacks or not linear:
        kind = model.config.model_type
        raise UserError(f"slimming finds no linear layer in this {kind} model", "model", "use another model")
    return [(block, dict(linear[id(layer)] for layer in block.modules() if id(layer) in linear)) for block in stacks[0]]


@torch.no_grad()
def block_by_block(
    model: Any,
    rows: Sequence[list[int]],
    change: Callable[[Mapping[str, nn.Linear], Mapping[str, LayerInputs]], None],
    *,
    gram: bool,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Calls `change` with each block's layers and what they were given, from the first to the last.

    rows: token ids of the texts, one a row. gram: whether products are summed as well as squares.
    """
    blocks = blocks_of(model)

    # 1. One run of the whole model a text: what the first block is given, and with what else each block is called.
    calls: list[list[tuple[tuple, dict]]] = [[] for _ in blocks]
    states: list[Tensor] = []

    def keep(place: int, args: tuple, kwargs: dict) -> None:
        state, rest = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), ())
        calls[place].append((rest, kwargs))
        if place == 0:
            states.append(state)

    hooks = [
        block.register_forward_pre_hook(
            lambda _, args, kwargs, place=place: keep(place, args, dict(kwargs)), with_kwargs=True
        )
        for place, (block, _) in enumerate(blocks)
    ]
    for row in rows:
        model(input_ids=torch.tensor([row], device=model.device), use_cache=False)
    for hook in hooks:
        hook.remove()

    # 2. Block by block: look, change, and go on with what it gives now.
    for (block, layers), given in zip(blocks, calls, strict=True):
        seen = {name: _empty(layer, gram) for name, layer in layers.items()}
        hooks = [
            layer.register_forward_pre_hook(lambda _, args, inputs=seen[name]: inputs.add(args[0]))
            for name, layer in layers.items()
        ]
        for state, (args, kwargs) in zip(states, given, strict=True):
            block(state, *args, **kwargs)
        for hook in hooks:
            hook.remove()
        change(layers, {name: inputs for name, inputs in seen.items() if inputs.tokens})
        outputs: list[Any] = [
            block(state, *args, **kwargs) for state, (args, kwargs) in zip(states, given, strict=True)
        ]
        states = [output[0] if isinstance(output, tuple) else output for output in outputs]
        progress(1)


def _empty(layer: nn.Linear, gram: bool) -> LayerInputs:
    size, device = layer.in_features, layer.weight.device
    return LayerInputs(torch.zeros(size, device=device), torch.zeros(size, size, device=device) if gram else None)
