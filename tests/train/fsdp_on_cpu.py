"""FSDP2 through accelerate on the CPU, for tests: accelerate turns it on for accelerators alone.

Imported before any trainer, in each process of `torchrun`.
"""

import os

from accelerate.state import AcceleratorState, DistributedType
from accelerate.utils import FullyShardedDataParallelPlugin

SETTINGS = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false", "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}  # fmt: skip


def switch_on() -> None:
    os.environ.update(SETTINGS)
    known = AcceleratorState.__init__

    def made(
        self: AcceleratorState, *args, fsdp_plugin: FullyShardedDataParallelPlugin | None = None, **kwargs
    ) -> None:
        known(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        self.fsdp_plugin = fsdp_plugin or vars(self).get("fsdp_plugin")
        if self.fsdp_plugin is not None:  # each new state reads the kind of processes again
            self.distributed_type = DistributedType.FSDP

    AcceleratorState.__init__ = made
