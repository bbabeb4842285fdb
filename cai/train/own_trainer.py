"""What all trainers here have in common, whether their loss is TRL's, transformers' or our own.

checkpoints   that say whether they are whole (checkpoints.py)
one card      a process trains on one device. Where there are several, transformers would spread a batch over them
              (`nn.DataParallel`) and multiply its size by their number, whatever `batch_size` says; several are for
              several processes (`runtime.processes`)
a rate        above 0. A warm-up starts at 0, so a training of one step would learn nothing
packages      are looked for once. accelerate asks whether one is installed at every step and whenever it unwraps a
              model, and each time reads the folders of packages: milliseconds
"""

from functools import cache
from typing import Any

from cai.train.checkpoints import Sealing


class OwnTrainer(Sealing):
    """For trainers on transformers' Trainer, before it in their bases."""

    def __init__(self, *given: Any, **named: Any) -> None:
        for arguments in (*given, *named.values()):
            if getattr(arguments, "n_gpu", 0) > 1:
                arguments._n_gpu = 1
        look_once()
        super().__init__(*given, **named)

    def create_scheduler(self: Any, num_training_steps: int, *given: Any, **named: Any) -> Any:
        """Trainer's; a single step has the whole rate."""
        if num_training_steps == 1:
            self.args.warmup_steps = 0
        return super().create_scheduler(num_training_steps, *given, **named)  # pyrefly: ignore


@cache
def look_once() -> None:
    """Let accelerate remember which packages are installed."""
    from accelerate.utils import imports  # heavy

    look: Any = getattr(imports, "_is_package_available", None)  # private: another version may have none
    if look is not None:
        imports._is_package_available = cache(look)
