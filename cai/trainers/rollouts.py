"""TRL's online trainers made resumable: killed at any moment, they go on from the last checkpoint bit for bit (on CPU).

Trainer saves weights, optimizer, schedule, random state and log. What TRL's online trainers hold besides is lost with
it, in three ways, each mended here:

1. Where a checkpoint falls inside a rollout, the rollout is gone: TRL then samples another one from the half-trained
   policy. So a checkpoint waits for the end of its rollout, whoever asked for it (`save_steps`, a callback).
2. TRL's sampler draws each pass over the prompts from one running generator and is made anew on resuming: the second
   pass then repeats the order of the first. `WholeRun` is one pass that is as long as the run, so that Trainer's own
   skipping of batches finds the place.
3. What a subclass adapts as it goes is not saved. `own_state` and `load_own_state` are the place for it.

A checkpoint is complete once it holds `rollouts.json`, which is written last: a run that is killed while it saves
leaves a folder that is passed over.
"""

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch.utils.data import Sampler
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from cai.errors import UserError
from cai.store import write_durably

COMPLETE = "rollouts.json"
Online = GRPOTrainer if TYPE_CHECKING else object  # what `Rollouts` is laid over: GRPOTrainer or RLOOTrainer


class WholeRun(Sampler[int]):
    """Prompt numbers for a whole run: pass after pass of TRL's sampler, each in an order of its own.

    Iterated again it says the same again.
    """

    def __init__(self, one_pass: RepeatSampler, rows: int) -> None:
        """rows: how many the run takes; it is given at least as many."""
        self.one_pass, self.passes = one_pass, -(-rows // max(len(one_pass), 1))

    def __iter__(self) -> Iterator[int]:
        if self.one_pass.shuffle:
            self.one_pass.generator.manual_seed(self.one_pass.seed or 0)
        for _ in range(self.passes):
            yield from self.one_pass

    def __len__(self) -> int:
        return self.passes * len(self.one_pass)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a trainer's output folder."""
    made = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return max(made, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


class Rollouts(Online):
    """Makes an online trainer resume exactly; needs `max_steps` in its arguments and a dataset of known length."""

    args: Any  # GRPOConfig, RLOOConfig, or a kind of one
    _save_is_due = False

    @property
    def minibatches(self) -> int:
        """Forward-backward passes between two rollouts."""
        return self.num_iterations * self.args.steps_per_generation

    def own_state(self) -> dict[str, Any]:
        """What else decides how the run goes on, as JSON."""
        return {}

    def load_own_state(self, state: dict[str, Any]) -> None:
        """Take over what `own_state` said."""

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As Trainer's. True: from the last complete checkpoint in `output_dir`; UserError where there is none."""
        if resume_from_checkpoint is True:
            found = last_checkpoint(Path(str(self.args.output_dir)))
            if found is None:
                raise UserError(
                    "there is no complete checkpoint to go on from",
                    str(self.args.output_dir),
                    "leave resume_from_checkpoint out to start anew",
                )
            resume_from_checkpoint = str(found)
        # Whatever an earlier call of this method left half done.
        self._step, self._buffered_inputs, self._save_is_due = 0, None, False
        self._metrics["train"].clear()
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        # In rows, a minibatch of TRL's loader is a whole generation batch: it is handed out once for each use.
        rows = self.args.max_steps * self.args.gradient_accumulation_steps * self.args.generation_batch_size
        return WholeRun(cast(RepeatSampler, super()._get_train_sampler(dataset)), rows)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self._save_is_due |= self.control.should_save
        between_rollouts = self._step % self.minibatches == 0
        self.control.should_save = self._save_is_due and between_rollouts
        self._save_is_due &= not between_rollouts
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process writes its own random state
        if self.args.should_save:
            write_durably(folder / COMPLETE, json.dumps(self.own_state()))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        state = Path(resume_from_checkpoint) / COMPLETE
        if not state.is_file():
            raise UserError("this checkpoint is not complete", str(state), "resume from the one before it")
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.load_own_state(json.loads(state.read_text()))

    def end(self) -> None:
        """Call it last: leave the other processes in good order."""
        self.let_go()
        super().end()

    def let_go(self) -> None:
        """Drop what wraps the model for several processes.

        Left to the interpreter's exit, its threads outlive the process group and abort ("terminate called without an
        active exception", about every third run of two processes on gloo).
        """
        self.model_wrapped = self.model  # pyrefly: ignore
        self.callback_handler.model = None
        self.accelerator.free_memory()
        gc.collect()
        self.accelerator.wait_for_everyone()

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the store's manifest says how the model came about."""

    def _send_telemetry(self) -> None:
        """None."""


class RolloutTrainer(Rollouts, GRPOTrainer):
    """GRPOTrainer that resumes exactly."""
