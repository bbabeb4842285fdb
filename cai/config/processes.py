"""Settings of `runtime:` for training on several devices and in little memory. None is part of a key."""

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import model_validator

from cai.config.section import Positive, Section
from cai.config.validation import Fault
from cai.core.errors import input_bytes
from cai.core.shipped import locate


class Processes(Section):
    """How the stages that train share their batches out; what a step learns from stays the same, but for rounding."""

    # Processes, one a device, which accelerate starts for every stage that trains; `batch_size` is that of all of them.
    processes: Positive | None = None
    # Or started as a file of `accelerate config` says; some are in experiments/accelerate/.
    accelerate: str | None = None
    # At most so many rows go through the model at a time in training (null: all that a process has of a batch).
    micro_batch: Positive | None = None
    # In training, compute activations again for the backward pass instead of keeping them: slower, much less memory.
    checkpointing: bool = False

    @model_validator(mode="after")
    def _one_number_of_processes(self) -> "Processes":
        if self.accelerate is None:
            return self
        theirs = read_accelerate(self.accelerate).get("num_processes")
        if theirs is None and self.processes is None:
            problem = f"{self.accelerate} does not say how many processes there are (num_processes)"
            raise Fault(problem, "set runtime.processes as well", "accelerate")
        if None not in (theirs, self.processes) and theirs != self.processes:
            problem = f"processes is {self.processes}, and {self.accelerate} has num_processes: {theirs}"
            raise Fault(problem, "leave out one of them", "processes")
        return self

    @property
    def ranks(self) -> int:
        """How many processes train together."""
        return self.processes or (self.accelerate and read_accelerate(self.accelerate)["num_processes"]) or 1


def read_accelerate(path: str) -> Mapping[str, Any]:
    """What a file of `accelerate config` says. Raises Fault where there is none, or none for one machine."""
    again = "name a file that `accelerate config` wrote, or one of experiments/accelerate/"
    try:
        read = yaml.safe_load(input_bytes(locate(path)).decode())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Fault(f"cannot read {path}: {reason}", again, "accelerate") from None
    except yaml.YAMLError as error:
        raise Fault(f"{path} is no YAML: {str(error).splitlines()[0]}", again, "accelerate") from None
    except (ValueError, RecursionError) as error:
        raise Fault(f"{path} cannot be read: {str(error).splitlines()[0]}", again, "accelerate") from None
    if not isinstance(read, dict) or "distributed_type" not in read:
        raise Fault(f"{path} is no file of `accelerate config`: it has no distributed_type", again, "accelerate")
    number = read.get("num_processes")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
        raise Fault(f"{path}: num_processes is {number!r}", "give a whole number from 1", "accelerate")
    if read.get("num_machines") not in (None, 1):
        problem = f"{path} is for {read['num_machines']} machines, and a stage trains on one"
        raise Fault(problem, "set num_machines: 1", "accelerate")
    return read
