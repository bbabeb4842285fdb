"""Every optimizer step learns from the same rows with the same weights, however many processes and parts share them.

A step of a batch of 8 in two processes that read 2 rows at a time: rows 0-1 | 2-3, then 4-5 | 6-7 (first process |
second), and gradients that add up. The Trainer takes means of means, of parts that count alike whatever is in them, and
accelerate fills the last batch of an epoch up with rows from its beginning; so here each row's loss is divided by the
number of rows of the whole step, and a row that only fills up has no part in it.
"""

import math
import os
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from cai.config.processes import Processes
from cai.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def together() -> int:
    """How many processes train together, this one included: what the launcher says (cai/train/launch.py)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def split(batch_size: int, runtime: Processes, setting: str, processes: int) -> tuple[int, int]:
    """(rows that a process reads at a time, how often it does in a step): the largest that `micro_batch` allows.

    setting: the name of what says batch_size, for the UserError where processes cannot have equal shares of it.
    """
    if batch_size % processes:
        raise UserError(
            f"{processes} processes cannot have equal shares of {setting}: {batch_size}",
            "runtime.accelerate" if runtime.accelerate else "runtime.processes",
            f"make {setting} a multiple of {processes}, or take another number of processes",
        )
    share = batch_size // processes
    most = min(share, runtime.micro_batch or share)
    rows = next(rows for rows in range(most, 0, -1) if share % rows == 0)
    return rows, share // rows


class StepShares:
    """For trainers on transformers' Trainer: its batches are this process's parts of a step (see above).

    Each batch that comes to `compute_loss` has "real": how many of its first rows count (all but those that fill up).
    """

    loss_is_scaled_for_ga: bool | None = True  # by `mean_of`; the Trainer divides by nothing more
    _epoch: Any = None  # the iterator of the epoch, and how many batches were taken from it
    _taken = 0
    _rows_of_step = 0  # in all processes

    def get_batch_samples(
        self: Any, epoch_iterator: Iterator[Any], num_batches: int, device: Any
    ) -> tuple[list[Any], Any]:
        """Trainer's, which calls it once for each step."""
        rows, processes, total = self._train_batch_size, self.accelerator.num_processes, len(self.train_dataset)
        if epoch_iterator is not self._epoch:
            # Where a killed run goes on inside an epoch, Trainer has skipped the batches of the steps before.
            parts = self.args.gradient_accumulation_steps
            steps = math.ceil(math.ceil(total / (rows * processes)) / parts)
            self._epoch, self._taken = epoch_iterator, self.state.global_step % steps * parts
        batches, first = [], self._taken
        for batch in islice(epoch_iterator, num_batches):
            # accelerate deals whole batches out in turn: the first to the first process, the second to the second.
            place = (self._taken * processes + self.accelerator.process_index) * rows
            batches.append(self.counting(batch, min(rows, max(0, total - place))))
            self._taken += 1
        self._rows_of_step = min(total, self._taken * processes * rows) - first * processes * rows
        return batches, self._get_num_items_in_batch(batches, device)

    def counting(self, batch: Any, real: int) -> Any:
        """A batch of which the first `real` rows count."""
        batch["real"] = real
        return batch

    def mean_of(self: Any, loss_B: "Tensor", real: int | None) -> "Tensor":
        """This part's share of the mean over a step's rows; over the rows alone outside of training (real: None).

        The processes' gradients are averaged afterwards, which is what their number is for.
        """
        if real is None:
            return loss_B.mean()
        return loss_B[:real].sum() / self._rows_of_step * self.accelerator.num_processes
