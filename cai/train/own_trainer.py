"""What all trainers here have in common, whether their loss is TRL's, transformers' or our own.

checkpoints   that say whether they are whole (checkpoints.py)
one card      a process trains on one device. Where there are several, transformers would spread a batch over them
              (`nn.DataParallel`) and multiply its size by their number, whatever `batch_size` says; several are for
              several processes (`runtime.processes`)
a rate        of at least one step. A warm-up starts at 0, so a training of one step would learn nothing
"""

from typing import Any

from cai.train.checkpoints import Sealing

SHORT = 4  # steps: fewer leave no room for a warm-up of three


class OwnTrainer(Sealing):
    """For trainers on transformers' Trainer, before it in their bases."""

    def __init__(self, *given: Any, **named: Any) -> None:
        for arguments in (*given, *named.values()):
            if getattr(arguments, "n_gpu", 0) > 1:
                arguments._n_gpu = 1
        super().__init__(*given, **named)

    def create_scheduler(self: Any, num_training_steps: int, *given: Any, **named: Any) -> Any:
        """Trainer's; of fewer than SHORT steps the last one has the whole rate. Longer ones are as ever."""
        if num_training_steps < SHORT:
            warmup = self.args.get_warmup_steps(num_training_steps)
            self.args.warmup_steps = min(warmup, max(num_training_steps - 1, 0))
        return super().create_scheduler(num_training_steps, *given, **named)  # pyrefly: ignore
