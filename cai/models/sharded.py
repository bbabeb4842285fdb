"""Models that several processes train together: which one writes, and whole weights where each holds a part (FSDP2).

FSDP2 leaves a module's class and names as they are and makes each parameter a DTensor: this process's rows of it. What
reads weights by themselves (saving, comparing, sharing their memory) must then ask for the whole, and all processes
must ask at the same time.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

Row = TypeVar("Row")
Item = TypeVar("Item")


def writes() -> bool:
    """Whether this process is the one that writes what all have made: the first, or the only one."""
    return not dist.is_initialized() or dist.get_rank() == 0


def will_shard() -> bool:
    """Whether a trainer will put the model that it is given into parts, as the launcher's environment says."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


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
    state: Any = get_model_state_dict(model, options=options)
    # Weights that are tied were gathered once for each of their names: they are one again, and saved as one.
    first: dict[int, str] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        if name in state:
            state[name] = state[first.setdefault(id(weight), name)]
    return state


def reshard(model: Any) -> None:
    """Let go of whole weights that a forward left behind: the parameters are the parts again, which training changes,
    and what is written into them is seen by the next forward."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def own_part(weight: Tensor) -> Tensor:
    """What this process holds of a weight, as plain memory that may be written to."""
    return weight.to_local() if isinstance(weight, DTensor) else weight.data


def whole_weights(module: Any, network: Any) -> dict[str, Tensor]:
    """The weights of a part of a network, whole and on the CPU. Of a network in parts, all processes must call."""
    reshard(network)
    weights = module.state_dict()
    return {n: (w.full_tensor() if isinstance(w, DTensor) else w.detach()).cpu() for n, w in weights.items()}


@torch.no_grad()
def put_whole(module: Any, network: Any, weights: dict[str, Tensor]) -> None:
    """Give a part of a network the weights that `whole_weights` gave, which every process has."""
    reshard(network)
    for name, weight in module.state_dict().items():
        given = weights[name].to(weight.device)
        if isinstance(weight, DTensor):
            given = distribute_tensor(given, weight.device_mesh, weight.placements, src_data_rank=None).to_local()
        own_part(weight).copy_(given)


def place() -> tuple[int, int]:
    """(this process's number, how many there are)."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def everyones(mine: Sequence[Item]) -> list[Item]:
    """Each process's items (anything that can be pickled), one process after the other; the same list in all."""
    _, count = place()
    if count == 1:
        return list(mine)
    parts: list[Any] = [None] * count
    dist.all_gather_object(parts, list(mine))
    return [item for part in parts for item in part]


def shared_out(rows: Sequence[Row], make: Callable[[Sequence[Row]], Sequence[Item]]) -> list[Item]:
    """make(rows), of which each process makes a part; the same list in all. `make` must use no model in parts."""
    rank, count = place()
    mine = rows[len(rows) * rank // count : len(rows) * (rank + 1) // count]
    return everyones(make(mine) if mine or count == 1 else [])


def own_rows(rows: Sequence[int]) -> list[int]:
    """This process's of some rows. Where there are too few, the first, which another has too: all processes must pass
    a model in parts as often."""
    rank, count = place()
    return list(rows[rank::count]) or [rows[0]]
