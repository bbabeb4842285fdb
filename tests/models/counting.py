"""Counts the bytes that a training step holds, on fake tensors: nothing is computed, so a model of 7B fits anywhere."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from peft import get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoModelForCausalLM

from cai.models.architectures import lora
from cai.models.memory import Learning


class Counter(TorchDispatchMode):
    """now and peak: bytes of all storages that operators made and that are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self.seen:
            self.seen[storage] = size = storage.nbytes()
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in tree_iter(made):
            if isinstance(value, torch.Tensor):
                self.add(value)
        return made


def faked(model: Any) -> Any:
    """Of a model on the meta device: its weights as fake tensors of a CPU, where attention is fused as on a card."""
    known: dict[int, torch.nn.Parameter] = {}  # a matrix that is tied stays one
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                whole = torch.empty(weight.shape, dtype=weight.dtype)
                module._parameters[name] = known.setdefault(
                    id(weight), torch.nn.Parameter(whole, requires_grad=weight.requires_grad)
                )
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return model


def step_bytes(
    config: Any,
    how: Learning,
    shape: tuple[int, int],
    loss: Callable[[Any, torch.Tensor], torch.Tensor],
    prepare: Callable[[Any], Any] = lambda model: None,
) -> int:
    """The most that a second step (Adam has its averages by then) holds of a batch of this shape, rows x tokens.

    Where gradients accumulate, a step is of two passes. prepare: what is done to the model before.
    """
    dtype = torch.float32 if not how.lora else getattr(torch, how.dtype)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
        if how.lora:
            model = get_peft_model(model, lora(model, how.rank, how.layers))
        prepare(model)
    with FakeTensorMode(allow_non_fake_inputs=True):
        faked(model).train()
        if how.checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            if how.lora:
                model.enable_input_require_grads()
        optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad])
        ids = torch.zeros(shape, dtype=torch.long)
        counter = Counter()
        for tensor in (*model.parameters(), *model.buffers()):
            counter.add(tensor)
        with counter:
            for _ in range(2):
                counter.peak = counter.now
                for _ in range(2 if how.accumulates else 1):
                    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not how.lora and how.dtype == "bfloat16"):
                        value = loss(model, ids)
                    value.backward()
                    del value
                optimizer.step()
                optimizer.zero_grad()
        return counter.peak
