"""TRL's online trainers made resumable bit for bit (on CPU), and PPO independent of how many processes share its work.

Trainer saves weights, optimizer, schedule, random state and log. What TRL's online trainers hold besides is lost with
it, in three ways, each mended here:

1. Where a checkpoint falls inside a rollout, the rollout is gone: TRL then samples another one from the half-trained
   policy. So a checkpoint waits for the end of its rollout, whoever asked for it (`save_steps`, a callback).
2. TRL's sampler draws each pass over the prompts from one running generator and is made anew on resuming: the second
   pass then repeats the order of the first. `WholeRun` is one pass that is as long as the run, so that Trainer's own
   skipping of batches finds the place.
3. What a subclass adapts as it goes is not saved. `own_state` and `load_own_state` are the place for it.

When a checkpoint is complete says cai/train/checkpoints.py.

With as many answers a rollout and an update, n processes of PPO do what one does, within rounding. TRL's do not: each
of them draws from a generator of its own, and shuffles and averages what is its own. Here

4. an answer is drawn from numbers that its seed, rollout and row decide, so neither the batch nor the process matters;
5. all processes know the whole rollout, deal the same minibatches from it, and take their slice of each
   (`RolloutTrainer`, of PPO; RLOO and GRPO share out as TRL does).
"""

import gc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.utils.data import Sampler
from trl import GRPOTrainer
from trl.data_utils import is_conversational
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.utils import RepeatSampler, pad

from cai.core.draws import seed_of
from cai.core.errors import UserError
from cai.models.chat import text_ids
from cai.models.engines import Sampling
from cai.models.engines.quick_head import head_laid_out
from cai.models.engines.repeats import repeats_read_once
from cai.models.engines.sampling import reads_left_padding, sample_ids, stop_ids
from cai.models.sharded import is_sharded, whole_state
from cai.train.checkpoints import last_checkpoint, state_of
from cai.train.common import Unpublished
from cai.train.own_trainer import OwnTrainer
from cai.train.quick_lora import quicken
from cai.train.rl.forwards import answer_states
from cai.train.rl.reference import Remembers
from cai.train.still import without_dropout

LEFT = ("prompt", "teacher")  # whose rows are padded on the left: `prompt_ids`, `prompt_mask`, ...

Online = GRPOTrainer if TYPE_CHECKING else object  # what `Rollouts` is laid over: GRPOTrainer or RLOOTrainer


class WholeRun(Sampler[int]):
    """Prompt numbers for a whole run: pass after pass of TRL's sampler, each in an order of its own.

    Iterated again it says the same again. There are just as many as the run takes: Trainer makes one step more than it
    should where a run that is done is resumed, and there is a batch left.
    """

    def __init__(self, one_pass: RepeatSampler, rows: int) -> None:
        """rows: how many the run takes."""
        self.one_pass, self.rows = one_pass, rows if len(one_pass) else 0

    def __iter__(self) -> Iterator[int]:
        if self.one_pass.shuffle:
            self.one_pass.generator.manual_seed(self.one_pass.seed or 0)
        left = self.rows
        while left:
            for row in islice(self.one_pass, left):
                left -= 1
                yield row

    def __len__(self) -> int:
        return self.rows


def check_prompts(dataset: Any, args: Any) -> None:
    """Are there enough for a rollout? Raises UserError."""
    if not hasattr(dataset, "__len__"):
        raise UserError("rollouts need a dataset of known length", "train_dataset", "give a datasets.Dataset")
    prompts, needed = len(dataset), (args.generation_batch_size or 1) // (args.num_generations or 1)
    if prompts < needed:
        raise UserError(
            f"one rollout takes {needed} prompts and there are {prompts}",
            "the batch size",
            "give more prompts, or make the batch smaller",
        )


def trimmed(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rows without the columns that are padding in all of them: on the left of prompts, on the right of answers."""
    longest = {kind: int(rows[f"{kind}_mask"].sum(dim=1).max()) for kind in LEFT if f"{kind}_mask" in rows}
    answer = int(rows["completion_mask"].sum(dim=1).max())

    def part(name: str, tensor: Tensor) -> Tensor:
        kind = name.partition("_")[0]
        return tensor if tensor.dim() < 2 else tensor[:, -longest[kind] :] if kind in longest else tensor[:, :answer]

    return {name: part(name, tensor) for name, tensor in rows.items()}


def tokens_of_updates(tokens: list[int], passes: int, together: int) -> list[int]:
    """For each of a rollout's forwards, how many tokens its update has.

    tokens: of each minibatch. passes: over the minibatches. together: how many forwards make an update.
    """
    forwards = tokens * passes
    return [sum(forwards[i - i % together :][:together]) for i in range(len(forwards))]


class Rollouts(Remembers, Unpublished, OwnTrainer, Online):
    """Makes an online trainer resume exactly; needs `max_steps` in its arguments and a dataset of known length."""

    args: Any  # GRPOConfig, RLOOConfig, or a kind of one
    _save_is_due = False

    @property
    def minibatches(self) -> int:
        """Forward-backward passes between two rollouts."""
        return self.num_iterations * self.args.steps_per_generation

    @property
    def _training(self) -> bool:
        return cast(Any, self.model).training

    @property
    def once_and_whole(self) -> bool:
        """Whether weights are not in parts and nothing is computed twice, so that less may be computed."""
        return not (self.is_fsdp_enabled or self.args.gradient_checkpointing)

    @property
    def rollout(self) -> int:
        """How many rollouts are done with."""
        return self.state.global_step * self.args.gradient_accumulation_steps // self.minibatches

    def check_processes(self) -> None:
        """Is this a way of several processes to hold weights that rollouts are right under? Raises UserError."""
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        how = "use DDP or FSDP2 (experiments/accelerate/)"
        if self.is_deepspeed_enabled:
            raise UserError("rollouts were not tried under DeepSpeed", "runtime.accelerate", how)
        if plugin is not None and plugin.fsdp_version != 2:
            raise UserError("rollouts know FSDP in its version 2", "fsdp_version", "set fsdp_version: 2")
        if plugin is not None and plugin.cpu_ram_efficient_loading:
            problem = "only the first process would load weights, and each has its own reward model"
            raise UserError(problem, "fsdp_cpu_ram_efficient_loading", "set it to false")

    def stand_still(self) -> None:
        """Before anything is learnt: no dropout, LoRA's layers without PEFT's copies, the ends of turns as engines know
        them, and how rows are padded."""
        network = cast(Any, self.accelerator.unwrap_model(self.model))
        without_dropout(network)
        if self.once_and_whole:
            quicken(network)
        self.eos_token_ids = sorted(stop_ids(network, self._tokenizer) | set(self.eos_token_ids))
        self.pads_left = reads_left_padding(network, self._tokenizer.pad_token_id)

    def load_own_state(self, state: dict[str, Any]) -> None:
        """Take over what `own_state` said."""

    def counts(self) -> dict[str, int]:
        """What to count besides, once the training is done."""
        return {}

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As Trainer's. True: from the last complete checkpoint in `output_dir`; UserError where there is none."""
        if resume_from_checkpoint is True:
            checkpoint = last_checkpoint(Path(str(self.args.output_dir)))
            if checkpoint is None:
                raise UserError(
                    "there is no complete checkpoint to go on from",
                    str(self.args.output_dir),
                    "leave resume_from_checkpoint out to start anew",
                )
            resume_from_checkpoint = str(checkpoint)
        # Whatever an earlier call of this method left half done.
        self._step, self._buffered_inputs, self._save_is_due = 0, None, False
        self._metrics["train"].clear()
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        # In rows, a minibatch of TRL's loader is a whole generation batch: it is handed out once for each use.
        rows = self.args.max_steps * self.args.gradient_accumulation_steps * self.args.generation_batch_size
        return WholeRun(cast(RepeatSampler, super()._get_train_sampler(dataset)), rows)

    def _tokenize_prompts(self, prompts: list) -> Any:
        """(ids of each prompt, images, other fields), of chats as TRL does; of texts without a second beginning."""
        if is_conversational({"prompt": prompts[0]}):
            return super()._tokenize_prompts(prompts)
        return [text_ids(self._tokenizer, prompt) for prompt in prompts], None, {}

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        """Token ids of an answer to each prompt; a server draws by itself."""
        if self.use_vllm or self.use_transformers_continuous_batching:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        answers = self._draw(prompt_ids)
        return (answers, None) if isinstance(self, GRPOTrainer) else answers  # RLOO asks for no log-probabilities

    def _draw(self, prompt_ids: list[list[int]]) -> list[list[int]]:
        """An answer to each prompt, with what ends the turn."""
        # The same numbers for the same row of the whole rollout, whichever process it falls to.
        first, where = self.accelerator.process_index * len(prompt_ids), "train" if self._training else "eval"
        seeds = [
            seed_of("rollout", self.args.seed, where, self.rollout, first + row, ids)
            for row, ids in enumerate(prompt_ids)
        ]
        sampling, pad = Sampling(self.args.max_completion_length, self.temperature), self._tokenizer.pad_token_id
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
            ) as model,
            torch.no_grad(),
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
            repeats_read_once(model, pad),
            head_laid_out(model, sampling.max_new_tokens),
        ):
            return sample_ids(model, prompt_ids, seeds, sampling, pad, set(self.eos_token_ids))

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self._save_is_due |= self.control.should_save
        between_rollouts = self._step % self.minibatches == 0
        self.control.should_save = self._save_is_due and between_rollouts
        self._save_is_due &= not between_rollouts
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        optimizer: Any = super().create_optimizer(model)
        if self.is_fsdp_enabled:  # whose checkpoints give a group without parameters back without its settings
            optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
        return optimizer

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As Trainer's, and of a model in parts, whole weights: it writes none, or parts, as its checkpoints hold."""
        folder = str(output_dir or self.args.output_dir)
        if not is_sharded(self.model):
            super().save_model(output_dir, _internal_call)
        elif not _internal_call:
            self._save(folder, whole_state(self.model))
        elif self.args.should_save:  # the parts follow
            Path(folder).mkdir(parents=True, exist_ok=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        state = state_of(Path(resume_from_checkpoint))
        if state is None:
            raise UserError("this checkpoint is not complete", resume_from_checkpoint, "resume from the one before it")
        if not self._reference:  # in parts by now (FSDP2), and still the policy of the beginning
            self.remember()
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.load_own_state(state)

    def end(self) -> None:
        """Call it last: leave the other processes in good order."""
        self.let_go()
        self.accelerator.end_training()  # all that Trainer.end does, which transformers before 5.20 has not

    def let_go(self) -> None:
        """Drop what wraps the model for several processes.

        Left to the interpreter's exit, its threads outlive the process group and abort ("terminate called without an
        active exception", about every third run of two processes on gloo).
        """
        self.model_wrapped = self.model  # pyrefly: ignore
        self.callback_handler.model = None
        self.accelerator.free_memory()
        if self.accelerator.num_processes > 1:
            gc.collect()
        self.accelerator.wait_for_everyone()


class RolloutTrainer(Rollouts, GRPOTrainer):
    """GRPOTrainer that resumes exactly and deals a rollout's minibatches to all processes alike.

    A subclass's `_generate_and_score_completions` returns the whole rollout, all processes' rows (`_gathered`), with a
    "mask" (B, T) of the tokens that are learnt from. `bundle` rows that follow one another stay together.
    """

    bundle = 1
    _buffered_inputs: Any

    def _padded(self, name: str, rows: list[list[int]], side: str) -> dict[str, Tensor]:
        """{name}_ids and {name}_mask of a padded batch."""
        ids, device = [torch.tensor(row) for row in rows], self.accelerator.device
        mask = [torch.ones_like(row) for row in ids]
        padded = pad(ids, self._tokenizer.pad_token_id, side).to(device)
        return {f"{name}_ids": padded, f"{name}_mask": pad(mask, 0, side).to(device)}

    def _forward(self, model: Any, rollout: dict[str, Any], **kwargs: Any) -> Any:
        with self.accelerator.autocast():
            return answer_states(model, rollout, pads_left=self.pads_left, **kwargs)

    def _log_rollout(self, **metrics: Tensor) -> None:
        """Add to the means that the next row of the log will show (TRL leaves NaN out of them)."""
        mode = "train" if self._training else "eval"
        for name, value in metrics.items():
            self._metrics[mode][name].append(value.item())

    def _gathered(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each process's rows, one process after the other, padded to one width."""
        if self.accelerator.num_processes == 1:
            return rows
        return {
            name: self.accelerator.gather(
                self.accelerator.pad_across_processes(tensor, dim=1, pad_first=name.startswith(LEFT))
                if tensor.dim() > 1
                else tensor
            )
            for name, tensor in rows.items()
        }

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Tensor]:
        """This process's slice of the next minibatch; a new rollout where the last is used up."""
        if not self._training:
            rollout = self._generate_and_score_completions(generation_batch)
            return self._slice(rollout, torch.arange(len(rollout["mask"]))) | {"update_tokens": rollout["mask"].sum()}
        if self._step % self.minibatches == 0 or self._buffered_inputs is None:
            self._buffered_inputs = self._dealt(self._generate_and_score_completions(generation_batch))
        return self._buffered_inputs[self._step % self.minibatches]

    def _dealt(self, rollout: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """This process's slices of a rollout's minibatches, pass after pass.

        Answers of like length go into one forward, if it is one of several that make an update: that costs less
        padding and changes no update, whose loss is a mean over all its tokens.
        """
        mask_BT, deal = rollout["mask"], seed_of("deal", self.args.seed, self.rollout)
        order = torch.randperm(len(mask_BT) // self.bundle, generator=torch.Generator().manual_seed(deal))
        count, together = self.args.steps_per_generation, self.args.gradient_accumulation_steps
        if together > 1 and (count % together == 0 or together % count == 0):
            length = (rollout["prompt_mask"].sum(dim=1) + rollout["completion_mask"].sum(dim=1)).cpu()
            length = length.view(-1, self.bundle).amax(dim=1)
            updates = order.chunk(max(1, count // together))
            order = torch.cat([rows[length[rows].argsort(stable=True)] for rows in updates])
        rows_of = order.unsqueeze(1) * self.bundle + torch.arange(self.bundle)
        minibatches = [rows.flatten() for rows in rows_of.chunk(count)]
        tokens = [int(mask_BT[rows].sum()) for rows in minibatches]
        slices = [self._slice(rollout, rows) for rows in minibatches] * self.num_iterations
        of_updates = tokens_of_updates(tokens, self.num_iterations, together)
        return [part | {"update_tokens": torch.tensor(n)} for part, n in zip(slices, of_updates, strict=True)]

    def _slice(self, rollout: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        mine = rows.chunk(self.accelerator.num_processes)[self.accelerator.process_index]
        return trimmed({name: tensor[mine.to(tensor.device)] for name, tensor in rollout.items()})
