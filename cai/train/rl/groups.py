"""TRL's trainers without a critic, RLOO and GRPO, on PPO's terms: the same rewards, resumable, the same curves.

rloo  REINFORCE with the mean reward of a prompt's other answers as baseline; the KL penalty is part of an answer's
      reward (Ahmadian et al. 2024, "Back to Basics"). An action is a whole answer.
grpo  The reward less the group's mean, over its spread, as the advantage of every token; the KL penalty is a term of
      the loss, by the estimator exp(d) - d - 1 (Shao et al. 2024, section 4.1). All tokens of a rollout weigh alike.

`beta` is the price of a nat of KL as in PPO: in units of the reward for RLOO, and in units of the advantage for GRPO,
which has scaled rewards by their spread within the group. With two answers a prompt that scaling leaves of the rewards
their order alone. Departure from TRL: an answer without end costs a penalty, as in PPO.
"""

from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from cai.core.errors import UserError
from cai.train.heads import check_head
from cai.train.rl.rollouts import Rollouts, RolloutTrainer, check_prompts
from cai.train.still import check_first_kl, give_positions

Online = RolloutTrainer if TYPE_CHECKING else object


class Penalised(Online):
    """Takes `missing_eos_penalty` off the reward of an answer that was cut off, and logs by PPO's names what PPO logs.

    reward (mean, before penalties), kl (nats an answer), entropy, clip_fraction, completion_length, eos_rate, unscored;
    one row of the log is one rollout. GRPO's kl is the mean over the epochs on a rollout: from the second epoch on, it
    is that of the policy as it has become.
    """

    means_of_tokens: tuple[str, ...]  # what TRL logs of each minibatch as a mean over its tokens

    def __init__(self, *args: Any, missing_eos_penalty: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_prompts(self.train_dataset, self.args)
        assert len(self.reward_funcs) == 1, "one reward, from which the penalty is taken"
        self.missing_eos_penalty = missing_eos_penalty
        self.check_processes()
        self.stand_still()
        check_head(self)
        if not self.pads_left:
            raise UserError(
                "this model reads the padding on the left of a prompt as text, which rloo and grpo cannot allow for",
                "rl.method",
                "use ppo, dpo or best_of_n, or another model",
            )
        give_positions(self.model)
        if self.ref_model is not None:  # of a policy that is trained whole; of an adapter it is the same network
            give_positions(self.ref_model)
        self._first: dict[tuple[int, ...], Tensor] = {}
        self._parts: dict[str, list[tuple[float, float]]] = {name: [] for name in self.means_of_tokens}
        self.remember()

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        """TRL's, which is asked for the policy and for the reference alike: before the first update the two agree.

        Raises UserError where they do not. GRPO asks for the policy in shuffled minibatches, so rows go by their ids.
        """
        outputs = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )
        if self.is_in_train and self.state.global_step == 0:
            for ids, mask, logps in zip(input_ids, attention_mask, outputs[0].detach(), strict=True):
                row, answer = tuple(ids[mask.bool()].tolist()), logps[mask[-logits_to_keep:].bool()]
                check_first_kl(answer - self._first.setdefault(row, answer), cast(Any, self.model).dtype)
        else:
            self._first.clear()
        return outputs

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        """(answers of all processes, 1); NaN where an answer could not be scored."""
        rewards_B1 = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        ended = [ids[-1] in self.eos_token_ids for ids in completion_ids_list]
        ended_B = self.accelerator.gather(torch.tensor(ended, device=self.accelerator.device))
        metrics = self._metrics["train" if self.model.training else "eval"]  # pyrefly: ignore
        metrics["score"].append(rewards_B1.nanmean().item())  # TRL calls "reward" what is left after the penalty
        metrics["eos_rate"].append(ended_B.float().mean().item())
        metrics["unscored"].append(rewards_B1.isnan().float().mean().item())
        return rewards_B1 - self.missing_eos_penalty * ~ended_B.unsqueeze(1)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """TRL's. Where several minibatches make an update, what is logged are means over all its tokens."""
        loss = super()._compute_loss(model, inputs)
        if self._training and self.current_gradient_accumulation_steps > 1:
            tokens = self.accelerator.reduce(inputs["completion_mask"].sum().float(), "sum").item()
            for name, parts in self._parts.items():
                values = self._metrics["train"][name]
                parts.append((values.pop(), tokens))
                if self.accelerator.sync_gradients:
                    values.append(sum(value * count for value, count in parts) / sum(count for _, count in parts))
                    parts.clear()
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        metrics = self._metrics["train" if self.model.training else "eval"]  # pyrefly: ignore
        if "score" in metrics:
            metrics["reward"] = metrics.pop("score")
            metrics["completion_length"] = lengths = metrics["completions/mean_length"]
            metrics["clip_fraction"] = metrics["clip_ratio/region_mean"]
            if "kl" in metrics:  # nats a token: of all tokens, over their number
                metrics["kl"] = [fmean(metrics["kl"]) * fmean(lengths)]
        super().log(logs, start_time)


class ResumableGRPO(Penalised, Rollouts, GRPOTrainer):
    """GRPOTrainer that resumes exactly and penalises answers without end."""

    means_of_tokens = ("kl", "entropy", "clip_ratio/region_mean")


class ResumableRLOO(Penalised, Rollouts, RLOOTrainer):
    """RLOOTrainer that resumes exactly and penalises answers without end."""

    means_of_tokens = ("entropy",)


TRAINERS: dict[str, tuple[Any, Any]] = {"grpo": (GRPOConfig, ResumableGRPO), "rloo": (RLOOConfig, ResumableRLOO)}
