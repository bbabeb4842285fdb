"""Online DPO: each rollout is fresh pairs of the policy's own answers, which are judged and learnt from at once.

Guo et al. 2024 ("Direct language model alignment from online AI feedback", algorithm 1): two answers to each prompt
from the policy as it is, a judge that says which is better, a step of DPO. DPO itself (Rafailov et al. 2023) learns
from pairs that were written before; of these the policy moves away as it learns.

The loss is that of dpo_trainer.py: with d the difference of the implicit rewards beta (log pi - log pi_ref) of the two
answers and p = P(a better),

    -p log sigmoid(d) - (1 - p) log sigmoid(-d)

Departures: the paper's judge names one answer, and so does the loss of TRL's `experimental.online_dpo` (p is 0 or 1);
here it keeps the judge's probability, so that a pair which it cannot tell apart moves nothing at d = 0. The paper makes
one step on a rollout; `rl.epochs` may be more. The reference is the policy that training starts from, throughout. The
loss is of probabilities at temperature 1, as in dpo_trainer.py; KL and entropy are of the policy that was sampled.

Tensor names end in their shape: B answers, P = B/2 pairs (rows 2k and 2k + 1 are a pair), T answer tokens.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from cai.train.reward_trainer import soft_bradley_terry
from cai.train.rl.ppo_math import logprobs_and_entropy
from cai.train.rl.rollouts import RolloutTrainer, check_prompts, trimmed
from cai.train.still import check_first_loss


class OnlineDPOTrainer(RolloutTrainer):
    """GRPOTrainer's rollouts with the loss of DPO. Arguments are GRPOTrainer's, and `dpo_beta`.

    reward_funcs: a function that gives the two answers of each pair P(this one is better), which add up to 1, or None
    twice: the pair is left out (cai/train/rl/judged.py). A minibatch is whole pairs.
    dpo_beta: the price of a nat, in log-odds of the preference.
    Log rows, one a rollout: loss, accuracy (the implicit reward is on the judge's side; p = 1/2 has none and is not
    counted), margin (the implicit reward of the preferred answer minus that of the other), entropy (nats a token),
    kl (nats an answer, to the reference, when they were written), reward (the mean, a half), completion_length,
    eos_rate, unscored (share of answers), and Trainer's own.
    """

    bundle = 2

    def __init__(
        self, model: Any, reward_funcs: Any, args: Any, train_dataset: Any = None, *, dpo_beta: float, **kwargs: Any
    ) -> None:
        check_prompts(train_dataset, args)
        super().__init__(model, reward_funcs, args, train_dataset, **kwargs)
        assert args.num_generations == 2 and args.per_device_train_batch_size % 2 == 0, "answers come in pairs"
        assert args.beta == 0 and dpo_beta > 0, "the price of a nat is `dpo_beta`"
        self.dpo_beta = dpo_beta
        self._sums: list[Tensor] = []  # of the update that is under way
        self.check_processes()
        policy: Any = self.accelerator.unwrap_model(self.model)
        # TRL's fused head scores the prompt's tokens as well where there is no Triton; ours does not.
        vars(getattr(policy, "get_base_model", lambda: policy)()).pop("forward", None)
        self.stand_still()
        self.remember()

    @torch.no_grad()
    def _reference_logprobs(self, rollout: dict[str, Tensor]) -> dict[str, Tensor]:
        """log pi_ref(y|x) of each answer (B,), in minibatches: at temperature 1, and at that of sampling."""
        length = rollout["prompt_mask"].sum(dim=1) + rollout["completion_mask"].sum(dim=1)
        known = {name: torch.zeros(len(length), device=length.device) for name in ("ref_logp", "ref_sampled")}
        with self.reference():
            for rows in length.argsort(stable=True).split(self.args.per_device_train_batch_size):
                part = trimmed({name: tensor[rows] for name, tensor in rollout.items()})
                known["ref_logp"][rows], known["ref_sampled"][rows], _ = self._logprobs(self.model, part)
        return known

    def _logprobs(self, model: Any, rows: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Of each answer (B,): its log-probability; the same at the temperature of sampling, and the sum of entropies
        at its tokens, neither with a gradient."""
        logits_BTV, mask_BT = self._forward(model, rows)["logits"], rows["completion_mask"]
        logp_BT, entropy_BT = logprobs_and_entropy(logits_BTV, rows["completion_ids"], 1.0)
        sampled_BT = logp_BT.detach()
        if self.temperature != 1:
            with torch.no_grad():
                sampled_BT, entropy_BT = logprobs_and_entropy(logits_BTV, rows["completion_ids"], self.temperature)
        return tuple((x_BT * mask_BT).sum(dim=1) for x_BT in (logp_BT, sampled_BT, entropy_BT))  # pyrefly: ignore

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """One rollout: fresh pairs, judged, with what the reference thinks of them."""
        prompts, device = [row["prompt"] for row in inputs], self.accelerator.device

        # 1. Two answers y ~ pi(. | x) to each prompt; the token that ends a turn is part of an answer.
        prompt_ids, answer_ids, tool_mask, completions, *_ = self._generate(prompts)
        assert tool_mask is None, "tools are not supported"
        rollout = self._padded("prompt", prompt_ids, "left") | self._padded("completion", answer_ids, "right")

        # 2. P(this one is better) of each. What the judge cannot read is left out.
        rewards_B1 = self._calculate_rewards(inputs, prompts, completions, answer_ids)
        here = self.accelerator.process_index * len(inputs)
        p_B = rewards_B1[here : here + len(inputs), 0]

        # 3. log pi_ref of both.
        ended = [ids[-1] in self.eos_token_ids for ids in answer_ids]
        more = {"p": p_B, "ended": torch.tensor(ended, device=device)}
        rollout = self._gathered(rollout | self._reference_logprobs(rollout) | more)
        read_B, ended_B = ~rollout["p"].isnan(), rollout.pop("ended")
        self._log_rollout(
            reward=rollout["p"].nanmean(),
            completion_length=rollout["completion_mask"].sum(dim=1).float().mean(),
            eos_rate=ended_B.float().mean(),
            unscored=(~read_B).float().mean(),
        )
        # A mean over pairs, not over tokens: each row counts once, where its pair can be read.
        return rollout | {"mask": read_B.float().unsqueeze(1)}

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """Loss of one minibatch of whole pairs in one epoch."""
        # 4. The implicit rewards' difference, of the policy as it now is.
        logp_B, sampled_B, entropy_B = self._logprobs(model, inputs)
        ratio_B, tokens_B = logp_B - inputs["ref_logp"], inputs["completion_mask"].sum(dim=1)
        margin_P = self.dpo_beta * (ratio_B[0::2] - ratio_B[1::2])
        if self.is_in_train and self.state.global_step == 0:
            network = cast(nn.Module, self.accelerator.unwrap_model(self.model))
            check_first_loss(margin_P.detach(), int(tokens_B.max()), next(network.parameters()).dtype)

        # 5. The cross-entropy with the labels, of the pairs that could be read.
        read_P = inputs["mask"][0::2, 0] > 0
        p_P = inputs["p"][0::2].nan_to_num(0.5)
        loss_P = soft_bradley_terry(margin_P, p_P, torch.arange(len(p_P), device=p_P.device)) * read_P

        # 6. Curves.
        sided_P = read_P & (p_P != 0.5)
        preferred_P = (torch.sign(p_P - 0.5) * margin_P.detach())[sided_P]
        answers = torch.ones_like(sampled_B).sum()
        self._log_pairs(
            [(preferred_P > 0).sum(), preferred_P.sum(), sided_P.sum()],
            [(sampled_B - inputs["ref_sampled"]).sum(), answers, entropy_B.sum(), tokens_B.sum()],
        )
        # Of the mean over all pairs of the update, the part of these. Gradients are averaged over the processes.
        pairs = (inputs["update_tokens"] / 2).clamp(min=1)
        return loss_P.sum() / pairs * self.accelerator.num_processes

    def _log_pairs(self, of_pairs: list[Tensor], of_answers: list[Tensor]) -> None:
        """Log means once an update's last minibatch is here.

        of_pairs: how many the implicit reward is right about, the sum of their margins, how many there are. of_answers:
        sum of log pi - log pi_ref, number, sum of entropies, tokens.
        """
        self._sums.append(torch.stack([value.float() for value in (*of_pairs, *of_answers)]))
        if not self.accelerator.sync_gradients:
            return
        total = self.accelerator.reduce(torch.stack(self._sums).sum(dim=0), "sum")
        self._sums.clear()
        right, margin, sided, ratio, answers, entropy, tokens = total
        # NaN, where no pair has a side, is left out of the mean over epochs.
        self._log_rollout(accuracy=right / sided, margin=margin / sided, entropy=entropy / tokens)
        if self._step % self.minibatches < self.args.steps_per_generation:  # before the first update on them
            self._log_rollout(kl=ratio / answers)
