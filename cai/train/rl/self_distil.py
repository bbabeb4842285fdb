"""Self-distillation: the policy as it was, with principles in its context, teaches the policy without them.

Context distillation (Askell et al. 2021, "A general language assistant as a laboratory for alignment", section 2.2)
on-policy, which is GKD (Agarwal et al. 2023, "On-policy distillation of language models", algorithm 1 with lambda 1):

1. The student answers prompts as it is asked them, without principles.
2. The teacher, which is the student before it learnt, reads the same prompts with principles in front (teacher.py) and
   the student's answers behind, and has a distribution over the vocabulary at each of their tokens.
3. The student's distributions are moved towards those, at every token: with S the student and T the teacher,

       D = beta KL(T || M) + (1 - beta) KL(S || M),   M = beta T + (1 - beta) S

   over beta (1 - beta) in neither end; at them D is KL(S || T) (beta 1) and KL(T || S) (beta 0).

As in GKD nothing flows through the sampling: what an early token does to later states is no part of the gradient. Both
distributions are at the temperature of sampling, so that what is drawn near is what is sampled.

Why not TRL's `experimental.sdft` (1.16; Shenfeld et al. 2026, "Self-distillation enables continual learning"), which
does the same: its frozen teacher under LoRA is the base model, and here it is the policy that training starts from,
adapter and all; its teacher's prompt is a format string that takes the place of the user's turn; it cannot be resumed
between rollouts nor shared out as the others here are; autograd on its loss leaves rounding where S = T, of which Adam
makes whole steps. tests/train/test_self_distil.py holds D against TRL's `generalized_jsd_loss`.

Tensor names end in their shape: B answers, T answer tokens, V vocabulary.
"""

import math
import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cai.config.rl import SelfDistil
from cai.core.errors import UserError
from cai.core.textstats import whole_sentences, wordless
from cai.models.engines.sampling import reply_of
from cai.models.sharded import writes
from cai.train.checkpoints import last_checkpoint, state_of
from cai.train.rl.ppo_math import logprobs_and_entropy
from cai.train.rl.rollouts import RolloutTrainer, check_prompts, trimmed
from cai.train.rl.teacher import TeacherReader
from cai.train.still import check_first_kl


def divergence(student_V: Tensor, teacher_V: Tensor, beta: float) -> Tensor:
    """D of log-probabilities (..., V) of student and teacher, in nats; shape (...). See the module.

    The gradient is the closed form S (g - E_S g) with g = dD/dS, which is exactly 0 where S = T (beta 0 and 1), and for
    which nothing but the student's log-probabilities is kept. The teacher has none.
    """
    with torch.no_grad():
        p_V = student_V.exp()
        if beta == 1:
            g_V = student_V - teacher_V
            value = (p_V * g_V).sum(-1)
            toward_V = p_V * (g_V - value.unsqueeze(-1))
        elif beta == 0:
            toward_V = p_V - teacher_V.exp()  # g = -T / S
            value = (teacher_V.exp() * (teacher_V - student_V)).sum(-1)
        else:
            mixture_V = torch.logaddexp(teacher_V + math.log(beta), student_V + math.log1p(-beta))
            g_V = (1 - beta) * (student_V - mixture_V)
            own = (p_V * g_V).sum(-1)
            value = beta * (teacher_V.exp() * (teacher_V - mixture_V)).sum(-1) + own
            toward_V = p_V * (g_V - own.unsqueeze(-1))
    slope = (toward_V * student_V).sum(-1)
    return value + (slope - slope.detach())


class SelfDistilTrainer(RolloutTrainer):
    """GRPOTrainer's rollouts with the loss of distillation. Arguments are GRPOTrainer's, a reader and settings.

    reward_funcs: is called with each rollout, as `Watch` expects it; what it says is not used.
    reader: the teacher's contexts, by the column "prompt_id". settings: `rl.distil`.
    Log rows, one a rollout, of the policy that wrote it: loss (D), teacher_kl (KL(S || T), nats a token), entropy (nats
    a token), kl (nats an answer, to the policy as it was), reward (-teacher_kl), completion_length, eos_rate, unscored
    (0), and Trainer's own; loss is the mean over epochs.
    """

    def __init__(
        self, model: Any, reward_funcs: Any, args: Any, train_dataset: Any = None, *, reader: TeacherReader,
        settings: SelfDistil, **kwargs: Any,
    ) -> None:  # fmt: skip
        check_prompts(train_dataset, args)
        super().__init__(model, reward_funcs, args, train_dataset, **kwargs)
        assert args.beta == 0, "the loss holds the student near the teacher, and nothing else"
        self.reader, self.distil = reader, settings
        self.learnt = self.written = self.criticised = 0  # tokens that were learnt from, and sampled; critiques
        self.last_step: int | None = None  # of the rollout in which `distil.tokens` is reached
        self._sums: list[Tensor] = []  # of the update that is under way
        self.check_processes()
        here = args.generation_batch_size // self.accelerator.num_processes
        if settings.critique and here % args.num_generations:
            problem = f"with distil.critique a group of {args.num_generations} answers must be on one process"
            raise UserError(problem, "rl.batch_size", "make it a multiple of processes times num_generations")
        policy: Any = self.accelerator.unwrap_model(self.model)
        # TRL's fused head scores the prompt's tokens as well where there is no Triton; ours does not.
        vars(getattr(policy, "get_base_model", lambda: policy)()).pop("forward", None)
        self.stand_still()
        self.remember()

    # 1. A rollout -----------------------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """The student's answers, with the teacher's contexts and what the policy as it was thinks of the answers."""
        prompts, names = [row["prompt"] for row in inputs], [row["prompt_id"] for row in inputs]
        device = self.accelerator.device
        prompt_ids, answer_ids, tool_mask, completions, *_ = self._generate(prompts)
        assert tool_mask is None, "tools are not supported"
        self._calculate_rewards(inputs, prompts, completions, answer_ids)  # for those who watch

        texts = [_text(completion) for completion in completions]
        contexts, critique_tokens = self._contexts(names, texts)
        rollout = self._padded("prompt", prompt_ids, "left") | self._padded("completion", answer_ids, "right")
        rollout |= self._padded("teacher", contexts, "left")
        ended = torch.tensor([ids[-1] in self.eos_token_ids for ids in answer_ids], device=device)
        wrote = torch.tensor(critique_tokens, device=device)
        more = {"ref_logp": self._reference_logprobs(rollout), "ended": ended, "critique_tokens": wrote}
        rollout = self._gathered(rollout | more)
        mask_BT, wrote_B = rollout["completion_mask"], rollout.pop("critique_tokens")
        self.written += int(mask_BT.sum() + wrote_B.sum()) * self._training
        self.criticised += int((wrote_B > 0).sum()) * self._training
        self._log_rollout(
            completion_length=mask_BT.sum(dim=1).float().mean(),
            eos_rate=rollout.pop("ended").float().mean(),
            unscored=torch.zeros(()),
        )
        return rollout | {"mask": self._within_budget(mask_BT.float())}

    def _contexts(self, names: list[str], texts: list[str]) -> tuple[list[list[int]], list[int]]:
        """(the teacher's context for each answer, as ids; tokens of the critique that was written for it)."""
        count, reader = len(names), self.reader
        if not reader.criticises:
            return [reader.ids(name) for name in names], [0] * count
        # The draft of an answer is the next answer of its group; nobody criticises what has no word.
        size: Any = self.num_generations if self._training else self.num_generations_eval
        drafts = [texts[i - i % size + (i + 1) % size] for i in range(count)]
        asked = {
            i: ids
            for i in range(count)
            if not wordless(drafts[i]) and (ids := reader.critique_ids(names[i], drafts[i])) is not None
        }
        with self.reference():  # whose draws go by what they are asked, and so are none of the answers'
            replies = self._draw(list(asked.values())) if asked else []
        stops, written = set(self.eos_token_ids), [0] * count
        contexts = [reader.ids(name) for name in names]
        for i, ids in zip(asked, replies, strict=True):
            reply, written[i] = reply_of(self._tokenizer, ids, stops), len(ids)
            critique = reply.text if reply.finish == "stop" else whole_sentences(reply.text)
            if not wordless(critique):
                contexts[i] = reader.ids(names[i], drafts[i], critique)
        return contexts, written

    def _within_budget(self, mask_BT: Tensor) -> Tensor:
        """Which tokens are learnt from: all, but in the last rollout as many as `distil.tokens` leaves."""
        if not self._training:
            return mask_BT
        epochs = self.num_iterations
        if self.distil.tokens is not None:
            left = (self.distil.tokens - self.learnt) // epochs
            mask_BT = mask_BT * (mask_BT.flatten().cumsum(0).view_as(mask_BT) <= left)
        self.learnt += int(mask_BT.sum()) * epochs
        if self.distil.tokens is not None and self.distil.tokens - self.learnt < epochs:
            updates = max(1, self.minibatches // self.args.gradient_accumulation_steps)
            self.last_step = self.state.max_steps = min(self.state.max_steps, self.state.global_step + updates)
        return mask_BT

    @torch.no_grad()
    def _reference_logprobs(self, rollout: dict[str, Tensor]) -> Tensor:
        """Log-probabilities (B, T) of the answers' tokens by the policy as it was, without principles."""
        length = rollout["prompt_mask"].sum(dim=1) + rollout["completion_mask"].sum(dim=1)
        known_BT = torch.zeros_like(rollout["completion_ids"], dtype=torch.float32)
        with self.reference():
            for rows in length.argsort(stable=True).split(self.args.per_device_train_batch_size):
                part = trimmed({name: tensor[rows] for name, tensor in rollout.items()})
                logits_BTV = self._forward(self.model, part)["logits"]
                logp_BT, _ = logprobs_and_entropy(logits_BTV, part["completion_ids"], self.temperature)
                known_BT[rows, : logp_BT.size(1)] = logp_BT.float()
        return known_BT

    # 2. The loss ------------------------------------------------------------------------------------------------------

    def _log_distributions(self, model: Any, rows: dict[str, Tensor]) -> Tensor:
        """(B, T, V), at the temperature of sampling."""
        return (self._forward(model, rows)["logits"].float() / self.temperature).log_softmax(-1)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """D, a mean over the tokens of the update."""
        context = {"prompt_ids": inputs["teacher_ids"], "prompt_mask": inputs["teacher_mask"]}
        with torch.no_grad(), self.reference():
            teacher_BTV = self._log_distributions(model, inputs | context)
        student_BTV = self._log_distributions(model, inputs)
        loss_BT, mask_BT = divergence(student_BTV, teacher_BTV, self.distil.beta), inputs["mask"]
        with torch.no_grad():
            self._log_update(student_BTV, teacher_BTV, loss_BT, inputs)
        return (loss_BT * mask_BT).sum() / inputs["update_tokens"].clamp(min=1) * self.accelerator.num_processes

    def _log_update(self, student_BTV: Tensor, teacher_BTV: Tensor, loss_BT: Tensor, inputs: dict[str, Any]) -> None:
        """Log means once an update's last minibatch is here; of the first epoch, before which nothing was learnt."""
        written_BT = inputs["completion_mask"]
        logp_BT = student_BTV.gather(-1, inputs["completion_ids"].unsqueeze(-1)).squeeze(-1)
        moved_BT = (logp_BT - inputs["ref_logp"]) * written_BT
        if self.is_in_train and self.state.global_step == 0:
            network = cast(nn.Module, self.accelerator.unwrap_model(self.model))
            check_first_kl(moved_BT, next(network.parameters()).dtype)
        kl_BT = loss_BT if self.distil.beta == 1 else divergence(student_BTV, teacher_BTV, 1.0)
        entropy_BT = -(student_BTV.exp() * student_BTV).sum(-1)
        of_tokens = [(x_BT * written_BT).sum() for x_BT in (kl_BT, entropy_BT, torch.ones_like(kl_BT))]
        self._sums.append(torch.stack([*of_tokens, moved_BT.sum(), written_BT.new_tensor(len(written_BT)).float()]))
        if not self.accelerator.sync_gradients:
            return
        total = self.accelerator.reduce(torch.stack(self._sums).sum(dim=0), "sum")
        self._sums.clear()
        if self._step % self.minibatches < self.args.steps_per_generation:
            kl, entropy, tokens, moved, answers = total
            kl = kl / tokens
            self._log_rollout(teacher_kl=kl, reward=-kl, entropy=entropy / tokens, kl=moved / answers)

    # 3. Resuming and counting -----------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As `Rollouts.train`. A run that was killed after it had learnt from all its tokens learns nothing more."""
        folder = last_checkpoint(Path(str(self.args.output_dir))) if resume_from_checkpoint is True else None
        folder = Path(resume_from_checkpoint) if isinstance(resume_from_checkpoint, str) else folder
        state = state_of(folder) if folder else None
        if state and state.get("last_step"):
            self.args.max_steps = state["last_step"]
        done = super().train(resume_from_checkpoint, *args, **kwargs)
        if self.distil.tokens and self.last_step is None and writes():
            print(
                f"warning: after {self.rollout} rollouts {self.learnt:,} of {self.distil.tokens:,} tokens "
                "(rl.distil.tokens) were learnt from: raise rl.steps",
                file=sys.stderr,
            )
        return done

    def own_state(self) -> dict[str, Any]:
        names = ("learnt", "written", "criticised", "last_step")
        return {**super().own_state(), **{name: getattr(self, name) for name in names}}

    def load_own_state(self, state: dict[str, Any]) -> None:
        super().load_own_state(state)
        for name in ("learnt", "written", "criticised", "last_step"):
            setattr(self, name, state[name])

    def counts(self) -> dict[str, int]:
        critiques = {"critiques of answers": self.criticised} if self.reader.criticises else {}
        return {"tokens learnt from": self.learnt, "tokens sampled": self.written, **critiques}


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else "".join(turn["content"] for turn in completion)
