"""What a training by LoRA need not compute: padding, what two rows begin with, what lies below LoRA, PEFT's copies."""

from typing import Any

from cai.models.references import ModelRef
from cai.models.workbench import Workbench
from cai.train.quick_lora import quicken
from cai.train.shares import together
from cai.train.unpadded import read_unpadded


def spare(work: Workbench, trainer: Any, ref: ModelRef) -> None:
    """Let a trainer that is about to learn from whole texts compute less, and come out the same to rounding.

    ref: what its network started from. Not where that is in parts or is computed twice.
    """
    for network in (trainer.model, getattr(trainer, "ref_model", None)):
        if network is not None:
            if together() == 1 and not work.runtime.checkpointing:
                thrifty(network)
            work.read_once(network, ref)


def thrifty(network: Any) -> bool:
    """`spare` without what lies below LoRA. Returns whether it reads batches without padding."""
    unpadded = read_unpadded(network)
    quicken(network)
    return unpadded is not None
