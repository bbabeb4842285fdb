"""Models that several processes train together: which one writes, and whole weights where each holds a part (FSDP2).

FSDP2 leaves a module's class and names as they are and makes each parameter a DTensor: this process's rows of it. What
reads weights by themselves (saving, comparing, sharing their memory) must then ask for the whole, and all processes
must ask at the same time.
"""

from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor


def writes() -> bool:
    """Whether this process is the one that writes what all have made: the first, or the only one."""
    return not dist.is_initialized() or dist.get_rank() == 0


def is_sharded(model: Any) -> bool:
    """Whether weights of the model are in parts, one a process. A forward may have left some of them whole."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def whole_state(model: Any) -> dict[str, Tensor] | None:
    """The weights of a sharded model on the CPU, for `save_pretrained(state_dict=...)`; None of one that is whole.

    Of a model with an adapter, only what is trained. Whole in the first process, empty in the others, all of which must
    call.
    """
    if not is_sharded(model):
        return None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    reshard(model)
    options = StateDictOptions(
        full_state_dict=True, cpu_offload=True, ignore_frozen_params=hasattr(model, "peft_config")
    )
    return get_model_state_dict(model, options=options)


def reshard(model: Any) -> None:
    """Let go of whole weights that a forward left behind: the parameters are the parts again, which training changes,
    and what is written into them is seen by the next forward."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def own_part(weight: Tensor) -> Tensor:
    """What this process holds of a weight, as plain memory that may be written to."""
    return weight.to_local() if isinstance(weight, DTensor) else weight.data


def everyones(mine: list[Any]) -> list[Any]:
    """Each process's items (anything that can be pickled), one process after the other; the same list in all."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return mine
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, mine)
    return [item for part in parts for item in part]
