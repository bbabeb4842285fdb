"""PPO for language models on TRL's GRPOTrainer: critic, GAE, per-token KL penalty, clipped policy and value losses.

TRL removed its PPO in 1.13. What PPO shares with GRPO is taken from GRPOTrainer (sampling, generation, calling the
reward functions, the buffer that reuses a rollout for several epochs, checkpoints, logs), made resumable in
rollouts.py; the algorithm is here, in two methods to be read in order: `_generate_and_score_completions` (steps 1-6)
and `_compute_loss` (steps 7-9).

Sources: Schulman et al. 2016 (GAE), Schulman et al. 2017 (PPO), Ziegler et al. 2019 (RLHF: KL in the reward, one trunk
for policy and value), Huang et al. 2023 ("The N Implementation Details of RLHF with PPO": what the papers leave out)
and Huang et al. 2024 ("The N+ Implementation Details ...": the end-of-turn token).

One forward for policy and critic: as in Ziegler et al. (openai/lm-human-preferences, `scalar_heads=["value"]`) the
critic is a head on the policy's own last hidden states, so the forward that gives the log-probabilities gives values
and entropies too. A separate critic (`value_model`) is possible; it doubles the memory and the forwards of every step.

Departures: a value head that starts at zero; several answers to each prompt (GRPO insists on two; the advantages come
from GAE alone, never from the group).

Tensor names end in their shape: B answers, T answer tokens, V vocabulary, D hidden size.
"""

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from cai.core.errors import UserError
from cai.models.sharded import put_whole, whole_weights
from cai.train.rl.critic import add_critic
from cai.train.rl.ppo_config import PPOConfig
from cai.train.rl.ppo_math import (
    adapted_kl_coef,
    explained_variance,
    gae,
    logprobs_and_entropy,
    masked_mean,
    policy_loss,
    value_loss,
    whiten,
)
from cai.train.rl.reward_models import as_functions, not_yet
from cai.train.rl.rollouts import RolloutTrainer, check_prompts, trimmed
from cai.train.still import check_first_kl
from cai.train.unpadded import read_unpadded

VALUE_HEAD = "value_head.safetensors"


def check_parts(pads_left: bool, value_model: Any) -> None:
    """Can PPO train this policy in parts (FSDP2)? Raises UserError."""
    if not pads_left:
        problem = "this model reads padding as text, so that processes answer in different numbers of passes"
        raise UserError(problem, "fsdp_version", "train it without FSDP")
    if value_model is not None:
        problem = "a separate critic was not tried under FSDP"
        raise UserError(problem, "value_model", "leave it out: the critic is then a head on the policy")


def keep_from_vllm(generation: Any) -> None:
    """Let TRL give vLLM the policy's weights without the critic's, which vLLM's loader refuses."""
    every = generation._iter_named_params
    generation._iter_named_params = lambda: (pair for pair in every() if not pair[0].startswith("value_head."))


class PPOTrainer(RolloutTrainer):
    """PPO with a critic. Arguments are GRPOTrainer's, and `value_model`.

    model: a path, or plain weights, to be trained whole or through a new adapter (`peft_config`), or weights with a
    trainable adapter. The reference is the policy as it is passed in.
    reward_funcs: one or several, whose rewards are added: functions, sync or async,
    `f(prompts, completions, **columns) -> list[float | None]` (None: could not be scored; the answer is left out), or
    reward models, or their paths; a reward model reads text by its own tokenizer (`reward_processing_classes`). Of a
    LoRA policy, the path of a LoRA reward model on the same base costs its adapter alone (backbone.py).
    train_dataset: a column "prompt" of strings or of chats; its other columns go to the reward functions.
    value_model: a separate critic, as a model or a path; None: a head on the policy. A whole model learns at a lower
    `critic_learning_rate` than a fresh head does.
    Log rows (`trainer.state.log_history`, one a rollout): reward (mean score, before penalties), kl (nats an answer),
    kl_coef, entropy, clip_fraction, approx_kl, ratio_variance, policy_loss, value_loss, explained_variance,
    completion_length, eos_rate, unscored (share of answers), early_stop (share of the rollout's updates left out by
    `kl_stop`), and Trainer's own loss, grad_norm, learning_rate.
    `save_model` writes the critic beside the weights, as value_head.safetensors.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        reward_funcs: Any,
        args: PPOConfig | None = None,
        train_dataset: Any = None,
        *,
        reward_processing_classes: Any = None,
        value_model: str | PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> None:
        if args is None:
            name = model if isinstance(model, str) else model.config.name_or_path or "model"
            args = PPOConfig(f"{Path(name).name}-PPO")
        check_prompts(train_dataset, args)
        rewards = list(reward_funcs) if isinstance(reward_funcs, list) else [reward_funcs]
        if any(value_model is reward for reward in rewards):
            value_model = copy.deepcopy(value_model)  # a critic that starts as the reward model must not change it
        # Reward models are made once the policy is there, whose base weights they may share. TRL reads them nowhere
        # before; it would load a path itself.
        known: Any = [not_yet if isinstance(reward, (str, nn.Module)) else reward for reward in rewards]
        super().__init__(model, known, args, train_dataset, **kwargs)
        self.check_processes()
        self.config, self.kl_coef = args, args.kl_coef
        self._stopped = False
        self._sums: list[Tensor] = []  # of the update that is under way
        self._first: tuple[Tensor, ...] | None = None  # what `_evaluate_rollout` leaves for the first update
        self.policy: Any = self.accelerator.unwrap_model(self.model)
        shared = None if self.is_fsdp_enabled else self.policy  # whose base does not stay where it is
        functions: Any = as_functions(rewards, reward_processing_classes, str(args.device), shared)
        self.reward_funcs = functions
        self.reward_func_names = [getattr(function, "__name__", type(function).__name__) for function in functions]
        network: Any = getattr(self.policy, "get_base_model", lambda: self.policy)()
        self.network = cast(PreTrainedModel, network)
        # TRL's fused head on `forward` scores the prompt's tokens as well where there is no Triton; ours does not.
        vars(self.network).pop("forward", None)
        self.stand_still()
        if self.once_and_whole:
            read_unpadded(self.network)  # so the answers to a prompt read it once
        if self.is_fsdp_enabled:
            check_parts(self.pads_left, value_model)
        self.remember()
        if isinstance(value_model, str):
            value_model = AutoModelForSequenceClassification.from_pretrained(
                value_model, num_labels=1, dtype=self.network.dtype, trust_remote_code=False, use_safetensors=True
            )
        self.value_head = add_critic(self.network, value_model)
        if self.use_vllm:
            keep_from_vllm(self.vllm_generation)

    @torch.no_grad()
    def _evaluate_rollout(self, rollout: dict[str, Any]) -> dict[str, Tensor]:
        """old_logprobs and old_values of the policy, ref_logprobs of the reference, each (B, T), in minibatches.

        Where the whole rollout is one minibatch, its first forward would be the policy's of here again, with the same
        weights: so this one is kept for the gradients of the first update.
        """
        length = rollout["prompt_mask"].sum(dim=1) + rollout["completion_mask"].sum(dim=1)
        known = {
            name: torch.zeros(rollout["completion_ids"].shape, device=length.device)
            for name in ("old_logprobs", "old_values", "ref_logprobs")
        }
        # Like lengths together: less padding. What is true of an answer does not depend on its company.
        batches = length.argsort(stable=True).split(self.config.per_device_train_batch_size)
        alone = self.accelerator.num_processes == 1 and self.once_and_whole
        keep = self.is_in_train and self._training and alone and len(batches) == self.config.steps_per_generation == 1
        for name in ("ref_logprobs", "old_logprobs"):  # the policy last: what is kept takes room
            of_policy = name == "old_logprobs"
            with nullcontext() if of_policy else self.reference(), torch.set_grad_enabled(keep and of_policy):
                for rows in batches:
                    part = trimmed({name: tensor[rows] for name, tensor in rollout.items()})
                    width = part["completion_ids"].size(1)
                    choices = self._choices(self.policy, part, with_values=of_policy)
                    known[name][rows, :width] = choices[0].detach()
                    if of_policy:
                        known["old_values"][rows, :width] = choices[2].detach()
                    if of_policy and keep:
                        self._first = tuple(choice_BT[rows.argsort()] for choice_BT in choices)
        return known

    def _choices(self, model: Any, rollout: dict[str, Any], *, with_values: bool = True) -> tuple[Tensor, ...]:
        """Of each token of the answers its log-probability, the entropy where it was chosen and, if wanted, the value
        there; (B, T) each."""
        output = self._forward(model, rollout, **{"with_values": True} if with_values else {})
        logprobs_BT, entropy_BT = logprobs_and_entropy(output["logits"], rollout["completion_ids"], self.temperature)
        return (logprobs_BT, entropy_BT, *((output["values"],) if with_values else ()))

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """One rollout: sampled answers with everything the PPO epochs need (steps 1-6)."""
        args, device = self.config, self.accelerator.device
        prompts = [row["prompt"] for row in inputs]

        # 1. Sample answers y ~ pi_old(. | x). TRL cuts each at its first end-of-turn token, which stays in: choosing to
        #    stop is an action. So the masks come from the answers' lengths, never from comparing ids with pad or eos.
        prompt_ids, answer_ids, tool_mask, completions, *_ = self._generate(prompts)
        assert tool_mask is None, "tools are not supported"
        rollout = self._padded("prompt", prompt_ids, "left") | self._padded("completion", answer_ids, "right")

        # 2. Score whole answers with the reward functions; an answer without end costs `missing_eos_penalty` (Huang
        #    et al. 2024, "EOS trick"). What could not be scored takes no part in any loss.
        rewards = self._calculate_rewards(inputs, prompts, completions, answer_ids)  # of all processes
        rewards = rewards * self.reward_weights.to(device)
        scored_B = ~rewards.isnan().all(dim=1)
        score_B = rewards.nansum(dim=1)

        # 3. Log-probabilities and values of the policy that sampled, and the reference's log-probabilities. From here
        #    on all is computed over the whole rollout, by every process alike.
        ended = [ids[-1] in self.eos_token_ids for ids in answer_ids]
        rollout = self._gathered(
            rollout | self._evaluate_rollout(rollout) | {"ended": torch.tensor(ended, device=device)}
        )
        logprobs_BT, values_BT, ended_B = rollout["old_logprobs"], rollout["old_values"], rollout.pop("ended")
        mask_BT = rollout["completion_mask"] * scored_B.unsqueeze(1).float()

        # 4. Reward of each token: -kl_coef * (log pi_old - log pi_ref), and the score on the last one (Ziegler et al.
        #    2019, eq. 2; a token at a time: Huang et al. 2023). If wanted, scaled to variance 1.
        kl_BT = (logprobs_BT - rollout.pop("ref_logprobs")) * mask_BT
        if self.is_in_train and self.state.global_step == 0:
            check_first_kl(kl_BT, self.network.dtype)
        rewards_BT = -self.kl_coef * kl_BT
        last_B = rollout["completion_mask"].sum(dim=1) - 1
        rewards_BT[torch.arange(len(last_B)), last_B] += score_B - args.missing_eos_penalty * ~ended_B
        if args.whiten_rewards:
            rewards_BT = whiten(rewards_BT, mask_BT, keep_mean=True)

        # 5. Advantages by GAE; returns = advantages + values are what the critic learns.
        advantages_BT = gae(rewards_BT, values_BT, mask_BT, args.gamma, args.lam)
        returns_BT = advantages_BT + values_BT * mask_BT

        # 6. Whiten the advantages over the valid tokens of the rollout; adapt the price of KL.
        self._log_rollout(
            reward=score_B[scored_B].mean(),
            kl=kl_BT.sum(dim=1)[scored_B].mean(),
            kl_coef=torch.tensor(self.kl_coef, device=device),
            explained_variance=explained_variance(values_BT, returns_BT, mask_BT),
            completion_length=rollout["completion_mask"].sum(dim=1).float().mean(),
            eos_rate=ended_B.float().mean(),
            unscored=(~scored_B).float().mean(),
        )
        if args.kl_target is not None and self.policy.training:
            self.kl_coef = adapted_kl_coef(self.kl_coef, self._metrics["train"]["kl"][-1], args.kl_target, args.kl_gain)
        return rollout | {
            "row": torch.arange(len(mask_BT), device=device),
            "mask": mask_BT,
            "returns": returns_BT,
            "advantages": whiten(advantages_BT, mask_BT),
        }

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """Loss of one minibatch in one PPO epoch (steps 7-9)."""
        args, mask_BT, advantages_BT = self.config, inputs["mask"], inputs["advantages"]

        # 7. One forward of the policy as it now is: ratio to the policy that sampled. Before the first update they are
        #    the same.
        if self._first is not None and self._training:
            choices, self._first = [choice_BT[inputs["row"]] for choice_BT in self._first], None
        else:
            choices = self._choices(model, inputs)
        logprobs_BT, entropy_BT, values_BT = choices
        log_ratio_BT = (logprobs_BT - inputs["old_logprobs"]) * mask_BT
        ratio_BT = log_ratio_BT.exp()

        # 8. Clipped policy loss + vf_coef * clipped value loss (Schulman et al. 2017, eq. 9, without entropy bonus).
        pg_loss = policy_loss(ratio_BT, advantages_BT, mask_BT, args.cliprange)
        vf_loss = value_loss(values_BT, inputs["old_values"], inputs["returns"], mask_BT, args.cliprange_value)

        # 9. Curves. approx_kl: the low-variance estimator (ratio - 1) - log ratio of KL(old || new) (Schulman 2020).
        with torch.no_grad():
            self._log_minibatch(
                mask_BT,
                policy_loss=pg_loss,
                value_loss=vf_loss,
                entropy=masked_mean(entropy_BT, mask_BT),
                approx_kl=masked_mean(ratio_BT - 1 - log_ratio_BT, mask_BT),
                clip_fraction=masked_mean(((ratio_BT - 1).abs() > args.cliprange).float(), mask_BT),
                ratio_mean=masked_mean(ratio_BT - 1, mask_BT),
                ratio_variance=masked_mean((ratio_BT - 1) ** 2, mask_BT),
            )
        # Of the mean over all tokens of the update, the part of these. Gradients are averaged over the processes.
        share = mask_BT.sum() / inputs["update_tokens"].clamp(min=1) * self.accelerator.num_processes
        return (pg_loss + args.vf_coef * vf_loss) * share

    def _log_minibatch(self, mask_BT: Tensor, **means: Tensor) -> None:
        """Log means over this process's tokens, once an update's last are here, as means over all tokens of it."""
        tokens = mask_BT.sum().reshape(1)
        self._sums.append(torch.cat([torch.stack(list(means.values())) * tokens, tokens]))
        if not self.accelerator.sync_gradients:
            return
        sums = self.accelerator.reduce(torch.stack(self._sums).sum(dim=0), "sum")
        self._sums.clear()
        known = dict(zip(means, sums[:-1] / sums[-1].clamp(min=1), strict=True))
        known["ratio_variance"] = (known["ratio_variance"] - known.pop("ratio_mean") ** 2).clamp(min=0)
        self._log_rollout(**known)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of a minibatch, unless the policy has moved by `kl_stop` from the one that sampled.

        The update that shows it is dropped as a whole, and so is every later one on this rollout: where no parameter
        has a gradient, the optimizer leaves weights and its own state alone. It is looked at when all its minibatches
        are through: so it is the same however many these are, and FSDP2 holds back no gradient of a part of it.
        """
        if self._step % self.minibatches == 0:
            self._stopped = False
            self._sums.clear()
        if self._stopped:
            self._step += 1
            loss = torch.zeros((), device=self.accelerator.device)
        else:
            loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            limit = self.config.kl_stop
            if not self._stopped and limit is not None and self._metrics["train"]["approx_kl"][-1] > limit:
                self._stopped = True
                model.zero_grad()
            self._metrics["train"]["early_stop"].append(float(self._stopped))
        return loss

    def own_state(self) -> dict[str, Any]:
        return {"kl_coef": self.kl_coef}

    def load_own_state(self, state: dict[str, Any]) -> None:
        self.kl_coef = state["kl_coef"]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's optimizer, with the critic in a group of its own (own learning rate, no weight decay)."""
        if self.optimizer is not None:
            return self.optimizer
        critic = [parameter for parameter in self.value_head.parameters() if parameter.requires_grad]
        self.value_head.requires_grad_(False)  # or the Trainer would put it among the policy's parameters
        optimizer = super().create_optimizer(model)
        for parameter in critic:
            parameter.requires_grad_(True)
        head = {"params": critic, "weight_decay": 0.0}
        optimizer.add_param_group(head | {"lr": self.config.critic_learning_rate})
        return optimizer

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        critic = whole_weights(self.value_head, self.policy)
        if self.args.should_save:  # one process writes
            save_file(critic, Path(output_dir or str(self.args.output_dir)) / VALUE_HEAD)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.load_critic(Path(resume_from_checkpoint))

    def load_critic(self, folder: Path) -> None:
        """Take over the critic that `save_model` wrote. Raises UserError where there is none."""
        if not (folder / VALUE_HEAD).exists():
            raise UserError("there is no critic here", str(folder / VALUE_HEAD), "resume from a checkpoint of PPO")
        put_whole(self.value_head, self.policy, load_file(folder / VALUE_HEAD))
