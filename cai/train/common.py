"""What every trainer here is told in the same way: where to run, what to seed, what to print, what to keep."""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cai.core.durable import make_folders
from cai.core.errors import UserError
from cai.core.progress import progress
from cai.models.loading import save
from cai.models.references import Dtype
from cai.models.sharded import everyones
from cai.models.workbench import Workbench
from cai.stats.losses import ended_worse
from cai.train.checkpoints import checkpoints_of, last_checkpoint
from cai.train.shares import split, together
from cai.train.trainable import Trainable

PROJECT = "cai"
OFTEN = 300.0  # seconds of a training over rows that a kill may cost


def arguments(work: Workbench, out: Path, start: Trainable, seed: int) -> dict[str, Any]:
    """Keyword arguments for any TRL config: those of any Trainer, and the schedule of short trainings."""
    return trainer_arguments(work, out, start.dtype if start.policy.training == "full" else "float32", seed) | {
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 3,
        **checkpointing(work.runtime.checkpointing),
    }


def checkpointing(wanted: bool) -> dict[str, Any]:
    """Argument for any TRL config: whether activations are computed twice. transformers before 5.20 knows the old name
    alone, and TRL's own default is to do it."""
    new = "activation_checkpointing"
    return {new if new in TrainingArguments.__dataclass_fields__ else "gradient_checkpointing": wanted}


def trainer_arguments(work: Workbench, out: Path, dtype: Dtype, seed: int) -> dict[str, Any]:
    """Keyword arguments for any Trainer: seeded, silent, and reported to nobody but `runtime.report_to`.

    out: the stage's folder; a tracker knows the training by its name. dtype: bfloat16 computes in it where the weights
    themselves are float32 (autocast), which the device does quicker.
    """
    return {
        "seed": seed,
        "data_seed": seed,
        "use_cpu": work.device == "cpu",
        "bf16": dtype == "bfloat16",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "save_total_limit": 2,  # the last may be half written when the run is killed
        **tracked(work, out),
        "disable_tqdm": True,
        "dataloader_pin_memory": work.device.startswith("cuda"),
    }


class Passes(Protocol):
    """Settings of a training that passes over rows."""

    @property
    def epochs(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...


def pass_arguments(
    work: Workbench, out: Path, start: Trainable, settings: Passes, seed: int, *, section: str
) -> dict[str, Any]:
    """As `arguments`, of a training that passes over rows; `fit` gives the trainer its folder.

    section: of `settings` in the config. Raises UserError where its batches cannot be shared out.
    """
    rows, times = split(settings.batch_size, work.runtime, f"{section}.batch_size", together())
    return arguments(work, out, start, seed) | {
        "output_dir": str(out / "trainer"),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": times,
        "learning_rate": settings.learning_rate,
    }


def tracked(work: Workbench, out: Path) -> dict[str, Any]:
    """To whom a training is reported. What trackers write goes beside the store, where it is part of no result."""
    names, run = work.runtime.report_to, out.name.partition(".")[0]
    if not names:
        return {"report_to": "none"}
    place = (work.root / "trackers").resolve()
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(place / run)
    os.environ.setdefault("WANDB_DIR", str(place))
    os.environ.setdefault("WANDB_PROJECT", PROJECT)
    make_folders(place)
    return {"report_to": list(names), "run_name": run, "project": PROJECT}


class Bar(TrainerCallback):
    """The trainer's steps on our own progress bar."""

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._bar = progress(self.title, state.max_steps)
        self._step = self._bar.__enter__()
        self._step(state.global_step)  # more than 0 where a killed run goes on

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._step(1)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._bar.__exit__(None, None, None)


class Finite(TrainerCallback):
    """Stops a training whose loss, gradients or weights are no numbers any more: what diverged is no result to keep.

    section: of the config, where its learning rate stands.
    """

    def __init__(self, title: str, section: str) -> None:
        self.title, self.section = title, section

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        for name, what in (("loss", "its loss"), ("grad_norm", "the norm of its gradients")):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                self._stop(f"{what} is {value}", args, state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        lost = [name for name, p in model.named_parameters() if p.requires_grad and not p.isfinite().all()]
        if lost:
            self._stop(f"weights are no numbers ({lost[0]} and {len(lost) - 1} more)", args, state)

    def _stop(self, what: str, args: TrainingArguments, state: TrainerState) -> None:
        raise UserError(
            f"{self.title} diverged: {what} at step {state.global_step} of {state.max_steps}",
            f"{self.section}.learning_rate",
            f"lower it (it is {args.learning_rate:g}): what diverged is kept as no result, and all before it is",
        )


class Saves(TrainerCallback):
    """A checkpoint whenever a kill would cost OFTEN seconds: a short training writes none. All processes write it when
    the first one's clock says so.

    In several processes accelerate does not tell the sampler which pass is gone on with, and a training that was killed
    in the second would have the order of the first: it is told here.
    """

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._last = time.monotonic()

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        batches = more["train_dataloader"].batch_sampler
        while hasattr(batches, "batch_sampler"):
            batches = batches.batch_sampler
        if hasattr(batches.sampler, "set_epoch"):
            batches.sampler.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        due = everyones([time.monotonic() - self._last >= OFTEN])[0]
        control.should_save = due and state.global_step < state.max_steps

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._last = time.monotonic()


class Unpublished:
    """What TRL's trainers tell the world about a model; the store's manifest says how ours came about."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None."""

    def _send_telemetry(self) -> None:
        """None."""


def curves(history: list[dict[str, Any]], names: dict[str, str]) -> dict[str, list[float]]:
    """Columns of a trainer's log: `names` maps the trainer's name to ours. "step" is always among them.

    Wall times stay out: what a stage leaves must not depend on how fast it ran, or its digest would.
    """
    rows = [row for row in history if any(name in row for name in names)]
    table = {"step": [row["step"] for row in rows]}
    for theirs, ours in names.items():
        if any(theirs in row for row in rows):
            table[ours] = [row.get(theirs) for row in rows]
    return table


def fit(
    trainer: Any,
    title: str,
    out: Path,
    tokenizer: Any,
    columns: dict[str, str],
    counts: dict[str, Any],
    *,
    section: str,
) -> None:
    """Train, and leave model/, curves.json (`columns` of the trainer's log, as `curves`) and counts.json.

    A killed run goes on from its last checkpoint, bit for bit on CPU; where the model is in parts, from the beginning.
    trainer: an `OwnTrainer`. section: of its settings in the config. Raises UserError where it diverges.
    """
    quiet(trainer, title, section)
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        trainer.train()
    else:
        with checkpoints_of(out) as folder:
            trainer.args.output_dir = str(folder)
            trainer.add_callback(Saves())
            last = last_checkpoint(folder)
            trainer.train(resume_from_checkpoint=str(last) if last else None)
    table = curves(trainer.state.log_history, columns)
    if worse := ended_worse(table.get("loss", ())):
        began, ended = worse
        said = f"its loss was {began:.3g} at first and {ended:.3g} in the end, so it learnt nothing"
        print(f"note: {title}: {said}: lower {section}.learning_rate", file=sys.stderr, flush=True)
    (out / "curves.json").write_text(json.dumps(table))
    (out / "counts.json").write_text(json.dumps(counts, indent=1))
    save(trainer.model, tokenizer, out / "model")


def quiet(trainer: Any, title: str, section: str) -> Any:
    """Replace the trainer's own printing by our progress bar, and watch that its numbers stay numbers."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Bar(title))
    trainer.add_callback(Finite(title, section))
    return trainer
