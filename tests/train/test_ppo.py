"""PPO: its mathematics by hand, then the trainer on a tiny random model: masks, reference, critic, learning, saving."""

import math
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from test_score import tiny_policy, tiny_tokenizer
from transformers import LlamaForCausalLM, TrainerCallback

from cai.core.errors import UserError
from cai.train.rl.ppo import PPOTrainer
from cai.train.rl.ppo_config import PPOConfig
from cai.train.rl.ppo_math import (
    adapted_kl_coef,
    explained_variance,
    gae,
    logprobs_and_entropy,
    masked_mean,
    masked_variance,
    policy_loss,
    value_loss,
    whiten,
)
from cai.train.rl.rollouts import tokens_of_updates, trimmed

torch.set_num_threads(1)
YES, EOS = 8, 2


# --- mathematics


def test_gae_by_hand():
    # gamma = lam = 1/2. Row 1: deltas 1.5, 1.75, 1 from the end; A = 1.5, 1.75 + 1.5/4, 1 + 2.125/4.
    # Row 2 ends after two tokens; what stands on its padding (reward 7, value 99) must not count.
    rewards = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 7.0]])
    values = torch.tensor([[0.5, 1.0, 1.5], [0.25, 1.0, 99.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    assert gae(rewards, values, mask, 0.5, 0.5).tolist() == [[1.53125, 2.125, 1.5], [0.25, 0.0, 0.0]]


def test_gae_with_lambda_one_is_the_return_minus_the_value():
    rewards, values = torch.tensor([[0.0, 0.0, 4.0]]), torch.tensor([[1.0, 2.0, 3.0]])
    assert gae(rewards, values, torch.ones(1, 3), 1.0, 1.0).tolist() == [[3.0, 2.0, 1.0]]


def test_means_count_valid_tokens_only():
    x, mask = torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    assert masked_mean(x, mask).item() == 2
    assert masked_variance(x, mask).item() == 1
    assert whiten(x, mask).tolist() == [[pytest.approx(-1), pytest.approx(1), 0]]
    assert masked_mean(x, torch.zeros(1, 3)).item() == 0


def test_whitened_rewards_keep_their_mean():
    x, mask = torch.tensor([[2.0, 6.0, 99.0]]), torch.tensor([[1.0, 1.0, 0.0]])  # mean 4, spread 2
    assert whiten(x, mask, keep_mean=True).tolist() == [[pytest.approx(3), pytest.approx(5), 0]]


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(6.0, 0.05), (6.6, 0.0505), (5.4, 0.0495), (60.0, 0.051), (0.0, 0.049), (-3.0, 0.049), (math.nan, 0.05)],
)
def test_the_kl_controller_by_hand(kl, expected):
    """Target 6, gain 0.1: a KL 10% off moves the coefficient by 1%, and never by more than 2%."""
    assert adapted_kl_coef(0.05, kl, target=6.0, gain=0.1) == pytest.approx(expected)


def test_policy_loss_by_hand():
    # clip 0.2. Advantage 1: -min(1.5, 1.2) and -min(0.5, 0.8); advantage -1: max(1.5, 1.2) and max(0.5, 0.8).
    ratio, advantages = torch.tensor([[1.5, 0.5, 1.5, 0.5]]), torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    assert policy_loss(ratio, advantages, torch.ones(1, 4), 0.2).item() == pytest.approx(0.15)


def test_value_loss_by_hand():
    # Value 1 from 0 counts as 0.2: error (0.2 - 2)^2 = 3.24 rather than 1; value 0.1 is not clipped: 1.9^2 = 3.61.
    new, old, returns = torch.tensor([[1.0, 0.1]]), torch.zeros(1, 2), torch.full((1, 2), 2.0)
    assert value_loss(new, old, returns, torch.ones(1, 2), 0.2).item() == pytest.approx(1.7125)


def test_explained_variance_by_hand():
    returns, mask = torch.tensor([[0.0, 2.0]]), torch.ones(1, 2)
    assert explained_variance(torch.tensor([[0.0, 1.0]]), returns, mask).item() == pytest.approx(0.75)
    assert explained_variance(torch.tensor([[5.0, 5.0]]), returns, mask).item() == 0
    assert explained_variance(returns, torch.ones(1, 2), mask).isnan()


def test_logprobs_and_entropy_by_hand_and_under_temperature():
    logits, second = torch.tensor([[[0.0, math.log(3)]]]), torch.tensor([[1]])  # probabilities 1/4, 3/4
    logprob, entropy = logprobs_and_entropy(logits, second, 1.0)
    assert logprob.item() == pytest.approx(-0.28768, abs=1e-5)
    assert entropy.item() == pytest.approx(0.56234, abs=1e-5)
    # Temperature 2: odds sqrt(3) to 1, probability 0.63397.
    assert logprobs_and_entropy(logits, second, 2.0)[0].item() == pytest.approx(-0.45575, abs=1e-5)


def test_the_gradient_of_a_logprob_by_hand():
    # d log p(second) = (0 - 1/4, 1 - 3/4), and by temperature 2 half of (-0.36603, 0.36603).
    logits = torch.tensor([[[0.0, math.log(3)]]], requires_grad=True)
    logprobs_and_entropy(logits, torch.tensor([[1]]), 1.0)[0].sum().backward()
    assert logits.grad.flatten().tolist() == pytest.approx([-0.25, 0.25])
    logits.grad = None
    logprobs_and_entropy(logits, torch.tensor([[1]]), 2.0)[0].sum().backward()
    assert logits.grad.flatten().tolist() == pytest.approx([-0.18301, 0.18301], abs=1e-5)


def test_logprobs_and_gradients_of_many_tokens_are_those_of_log_softmax():
    """More tokens than go together in one piece."""
    torch.manual_seed(0)
    logits = torch.randn(3, 50, 7, dtype=torch.float32, requires_grad=True)
    actions, weight = torch.randint(7, (3, 50)), torch.randn(3, 50)
    plain = (logits / 0.7).log_softmax(-1)
    expected = plain.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    (wanted,) = torch.autograd.grad((expected * weight).sum(), logits)
    got, entropy = logprobs_and_entropy(logits, actions, 0.7)
    (gradient,) = torch.autograd.grad((got * weight).sum(), logits)
    assert torch.allclose(got, expected, atol=1e-5) and torch.allclose(gradient, wanted, atol=1e-5)
    assert torch.allclose(entropy, -(plain.exp() * plain).sum(-1), atol=1e-5) and not entropy.requires_grad


# --- the trainer

PROMPTS = [[{"role": "user", "content": f"hello w{i} w{i}" if i % 2 else f"w{i}"}] for i in range(12)]


def share_of_yes(prompts, completions, completion_ids, **_) -> list[float]:
    return [ids.count(YES) / len(ids) for ids in completion_ids]


def trainer(
    path: Path, reward=share_of_yes, model=None, peft_config=None, callbacks=None, value_model=None, **options
) -> PPOTrainer:
    defaults = {"rollouts": 2, "per_device_train_batch_size": 8, "max_completion_length": 6, "learning_rate": 1e-2}
    defaults |= {"use_cpu": True, "report_to": "none", "save_strategy": "no", "seed": 5, "disable_tqdm": True}
    return PPOTrainer(
        model or tiny_policy(),
        reward,
        PPOConfig(output_dir=str(path), **defaults | options),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        processing_class=tiny_tokenizer(),
        peft_config=peft_config,
        callbacks=callbacks,
        value_model=value_model,
    )


def adapter() -> LoraConfig:
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj"], task_type="CAUSAL_LM")


def curve(trainer: PPOTrainer, name: str) -> list[float]:
    return [row[name] for row in trainer.state.log_history if name in row]


def rollout_of(trainer: PPOTrainer, answers: list[list[int]]) -> dict[str, torch.Tensor]:
    """What the trainer makes of given answers, as if it had sampled them."""
    prompts = [[1, 6, 4], [1, 6, 4, 12, 13], [1], [1, 5]][: len(answers)]
    texts = [[{"role": "assistant", "content": "text"}] for _ in answers]
    trainer._generate = lambda _: (prompts, answers, None, texts, None, {}, None, [])
    trainer.model.train()
    return trainer._generate_and_score_completions([{"prompt": PROMPTS[i]} for i in range(len(answers))])


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_ending_a_turn_is_an_action_and_not_ending_one_costs(tmp_path, pad_is_eos):
    taught = trainer(tmp_path, lambda prompts, **_: [1.0, 2.0], gamma=1.0, missing_eos_penalty=0.5)
    if pad_is_eos:
        taught._tokenizer.pad_token = taught._tokenizer.eos_token
    rollout = rollout_of(taught, [[YES, EOS], [YES, YES, YES]])
    assert rollout["mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert rollout["completion_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    # The critic starts at 0 and the policy at the reference, so every valid token is followed by the score, less the
    # penalty for the answer that was cut off; lam = 0.95 discounts the sum of the later deltas.
    assert rollout["returns"][0].tolist() == pytest.approx([0.95, 1.0, 0.0], abs=1e-5)
    assert rollout["returns"][1].tolist() == pytest.approx([1.5 * 0.9025, 1.5 * 0.95, 1.5], abs=1e-5)
    assert taught._metrics["train"]["eos_rate"] == [0.5]
    assert taught._metrics["train"]["kl"] == [0.0]
    assert taught._metrics["train"]["reward"] == [1.5], "the score itself is logged before the penalty"


def test_an_answer_that_cannot_be_scored_takes_no_part(tmp_path):
    taught = trainer(tmp_path, lambda prompts, **_: [None, 2.0])
    rollout = rollout_of(taught, [[YES, EOS], [YES, YES, EOS]])
    assert rollout["mask"].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert rollout["advantages"][0].tolist() == [0, 0, 0]
    assert all(tensor.isfinite().all() for tensor in rollout.values())
    assert taught._metrics["train"]["reward"] == [2.0] and taught._metrics["train"]["unscored"] == [0.5]


def test_logprobs_are_those_of_the_plain_model_whatever_the_padding(tmp_path):
    taught = trainer(tmp_path, lambda prompts, **_: [1.0, 1.0], temperature=0.5)
    rollout = rollout_of(taught, [[YES, EOS], [YES, 9, 14]])
    plain = tiny_policy().eval()
    for row, (prompt, answer) in enumerate([([1, 6, 4], [YES, EOS]), ([1, 6, 4, 12, 13], [YES, 9, 14])]):
        logits = plain(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1] / 0.5
        expected = logits.log_softmax(-1)[range(len(answer)), answer]
        assert rollout["old_logprobs"][row, : len(answer)].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_penalty_is_per_token_and_towards_the_reference(tmp_path):
    """Move the policy, ask again: reward of a token is -kl_coef (log pi - log ref), the score comes on the last."""
    taught = trainer(tmp_path, lambda prompts, **_: [1.0], kl_coef=0.3, gamma=1.0, lam=1.0)
    before = rollout_of(taught, [[YES, 9, EOS]])["old_logprobs"][0]
    with torch.no_grad():
        for parameter in taught.network.model.parameters():
            parameter.mul_(1.05)
    rollout = rollout_of(taught, [[YES, 9, EOS]])
    kl = (rollout["old_logprobs"][0] - before).tolist()
    assert max(map(abs, kl)) > 1e-3
    returns = rollout["returns"][0].tolist()
    assert returns[2] == pytest.approx(1.0 - 0.3 * kl[2], abs=1e-5)
    assert returns[0] - returns[1] == pytest.approx(-0.3 * kl[0], abs=1e-5)
    assert taught._metrics["train"]["kl"][-1] == pytest.approx(sum(kl), abs=1e-5)


def test_whitened_rewards_hold_the_score_and_the_penalty(tmp_path):
    taught = trainer(tmp_path, lambda prompts, **_: [3.0], whiten_rewards=True, gamma=1.0, lam=1.0)
    rollout = rollout_of(taught, [[YES, EOS]])
    # Rewards 0 and 3, no KL yet: mean 1.5, spread 1.5, so 0.5 and 2.5.
    assert rollout["returns"][0].tolist() == pytest.approx([3.0, 2.5], abs=1e-5)


def test_the_coefficient_follows_the_kl(tmp_path):
    """A target out of reach: a fifth less after each rollout, the horizon being one rollout; and it is what is paid."""
    taught = trainer(tmp_path, rollouts=3, kl_target=1e9, kl_horizon=8, kl_coef=0.5)
    taught.train()
    assert curve(taught, "kl_coef") == pytest.approx([0.5, 0.4, 0.32])
    assert taught.kl_coef == pytest.approx(0.256)
    fixed = trainer(tmp_path, rollouts=3, kl_coef=0.5)
    fixed.train()
    assert curve(fixed, "kl_coef") == [0.5, 0.5, 0.5]
    assert curve(fixed, "value_loss")[0] == curve(taught, "value_loss")[0], "the first rollout cost the same"
    assert curve(fixed, "value_loss")[2] != curve(taught, "value_loss")[2]


@pytest.mark.parametrize("options", [{"kl_coef": 0.0}, {"kl_target": 0.0}, {"kl_horizon": 7}])
def test_a_target_that_cannot_be_held_is_refused(tmp_path, options):
    with pytest.raises(UserError, match="no KL can be held"):
        trainer(tmp_path, **{"kl_target": 1.0} | options)


def test_updates_stop_when_the_policy_has_moved_too_far(tmp_path):
    """Any move is too far: of three epochs one is left, and it is all that changes weights, critic and momentum."""
    options = {"rollouts": 3, "lr_scheduler_type": "constant"}
    stopped = trainer(tmp_path, num_ppo_epochs=3, kl_stop=1e-9, **options)
    stopped.train()
    once = trainer(tmp_path, num_ppo_epochs=1, **options)
    once.train()
    free = trainer(tmp_path, num_ppo_epochs=3, kl_stop=1e9, **options)
    free.train()
    assert curve(stopped, "early_stop") == pytest.approx([2 / 3] * 3)
    assert curve(free, "early_stop") == [0] * 3
    assert curve(stopped, "kl") == curve(once, "kl") != curve(free, "kl")
    alone = weights(once)
    assert all(torch.equal(tensor, alone[name]) for name, tensor in weights(stopped).items())


def test_an_update_of_which_a_part_shows_the_move_is_dropped_whole(tmp_path):
    """Two minibatches an update. The second update's first minibatch shows the move; its second is not looked at."""
    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "generation_batch_size": 8}
    watch = Watch()
    taught = trainer(tmp_path, rollouts=1, kl_stop=1e-9, callbacks=[watch], **options)
    taught.train()
    assert curve(taught, "early_stop") == [0.5]
    assert watch.norms[0] > 0 and watch.norms[1:] == [0.0]


def weights(trainer: PPOTrainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


@pytest.mark.parametrize("how", ["full", "new adapter", "given adapter"])
def test_policy_and_critic_move_and_the_reference_stays(tmp_path, how):
    ids = torch.tensor([[1, 6, 4, YES, 9]])
    given = get_peft_model(tiny_policy(), adapter()) if how == "given adapter" else None
    if given is not None:  # an adapter that already says something, as after supervised fine-tuning
        for name, parameter in given.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(1))
    first = (given or tiny_policy()).eval()(input_ids=ids).logits
    taught = trainer(tmp_path, model=given, peft_config=adapter() if how == "new adapter" else None)
    before = weights(taught)
    taught.train()
    moved = {name for name, tensor in weights(taught).items() if not torch.equal(tensor, before[name])}
    assert any("value_head" in name for name in moved)
    lora = {name for name in before if "lora_" in name}
    assert (moved - {name for name in moved if "value_head" in name} == lora) if lora else len(moved) == len(before)
    taught.model.eval()
    with torch.no_grad(), taught.reference():
        assert torch.allclose(taught.policy(input_ids=ids).logits, first, atol=1e-6)
    assert not torch.allclose(taught.policy(input_ids=ids).logits, first, atol=1e-3)


class Watch(TrainerCallback):
    """Norm of all gradients just before each update, and whether any is left after it."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.left: list[bool] = []

    def on_pre_optimizer_step(self, args, state, control, model, **_) -> None:
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        if not grads:
            self.norms.append(0.0)
            return
        assert any("value_head" in name for name in grads)
        self.norms.append(torch.cat([grad.flatten() for grad in grads.values()]).norm().item())

    def on_step_end(self, args, state, control, model, **_) -> None:
        self.left.append(any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters()))


def test_gradients_of_policy_and_critic_are_clipped_together_and_zeroed(tmp_path):
    watch = Watch()
    trainer(tmp_path, max_grad_norm=0.01, callbacks=[watch]).train()
    assert len(watch.norms) == 4  # 2 rollouts x 2 epochs
    assert watch.norms == pytest.approx([0.01] * 4, rel=1e-3)
    assert watch.left == [False] * 4


def test_the_critic_learns_at_its_own_rate(tmp_path):
    taught = trainer(tmp_path, learning_rate=0.0, critic_learning_rate=1e-2, lr_scheduler_type="constant")
    before = weights(taught)
    taught.train()
    assert {name for name, tensor in weights(taught).items() if not torch.equal(tensor, before[name])} == {
        "value_head.linear.weight",
        "value_head.linear.bias",
    }


def test_minibatches_and_accumulation_make_whole_rollouts(tmp_path):
    # 8 answers a rollout in minibatches of 4, two of which make one update: 2 epochs are 2 updates.
    taught = trainer(tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2, generation_batch_size=8)
    assert taught.config.updates_per_rollout == 2
    taught.train()
    assert taught.state.global_step == 4
    assert len(curve(taught, "reward")) == 2


def test_an_update_of_several_forwards_is_that_of_one(tmp_path):
    """Sorted by length, trimmed of padding, added up: the loss is the mean over all the update's tokens."""
    whole = trainer(tmp_path, per_device_train_batch_size=8)
    parts = trainer(
        tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4, generation_batch_size=8,
    )  # fmt: skip
    widths = []
    forward = parts._forward
    parts._forward = lambda model, rows, **kw: widths.append(rows["prompt_ids"].size(1)) or forward(model, rows, **kw)
    for taught in (whole, parts):
        taught.train()
    assert len(set(widths)) > 1, "shorter prompts take part in narrower forwards"
    for name in ("reward", "kl", "grad_norm"):
        assert curve(parts, name) == pytest.approx(curve(whole, name), abs=1e-5), name
    ours, theirs = weights(parts), weights(whole)
    assert max((tensor - theirs[name]).abs().max().item() for name, tensor in ours.items()) < 2e-5


def test_the_tokens_of_updates_by_hand():
    # Three minibatches of 5, 7 and 9 tokens, two passes, two forwards an update: (5, 7), (9, 5), (7, 9).
    assert tokens_of_updates([5, 7, 9], 2, 2) == [12, 12, 14, 14, 16, 16]
    assert tokens_of_updates([5, 7], 2, 1) == [5, 7, 5, 7]
    assert tokens_of_updates([5, 7], 2, 4) == [24, 24, 24, 24]


def test_padding_of_all_rows_is_trimmed():
    rows = {
        "prompt_ids": torch.tensor([[0, 0, 3], [0, 4, 5]]), "prompt_mask": torch.tensor([[0, 0, 1], [0, 1, 1]]),
        "completion_mask": torch.tensor([[1, 0, 0], [1, 0, 0]]), "returns": torch.tensor([[7.0, 0, 0], [8.0, 0, 0]]),
    }  # fmt: skip
    cut = trimmed(rows)
    assert cut["prompt_ids"].tolist() == [[0, 3], [4, 5]] and cut["returns"].tolist() == [[7], [8]]


def test_a_draw_depends_on_its_row_alone(tmp_path):
    """The same answers one by one, with the row said, as in one batch; other rows and rollouts draw others."""
    taught, prompts = trainer(tmp_path, max_completion_length=12), [[1, 6, 4], [1, 6, 4, 12, 13], [1, 6, 4], [1, 5]]
    together, _ = taught._generate_single_turn(prompts, None, {}, 2)
    assert together[0] != together[2], "the same prompt twice"
    for row, ids in enumerate(prompts):
        taught.accelerator.state._shared_state["process_index"] = row  # as if each row had a process of its own
        try:
            assert taught._generate_single_turn([ids], None, {}, 2)[0] == [together[row]]
        finally:
            taught.accelerator.state._shared_state["process_index"] = 0
    taught.state.global_step = taught.minibatches
    assert taught._generate_single_turn(prompts, None, {}, 2)[0] != together


def test_the_head_never_reads_a_strided_slice(tmp_path):
    """On CPU that costs a copy of the vocabulary matrix for each row."""
    taught, seen = trainer(tmp_path, rollouts=1), []
    head = taught.network.get_output_embeddings()
    head.register_forward_hook(lambda _, args, __: seen.append(args[0].is_contiguous()))
    taught.train()
    assert len(seen) >= 6 and all(seen)
    assert not head._forward_pre_hooks, "the hook is there while tokens are drawn, and no longer"


def test_the_same_seed_gives_the_same_run_and_another_another(tmp_path):
    runs = []
    for seed in (5, 5, 6):
        taught = trainer(tmp_path, seed=seed)
        taught.train()
        first_layer = weights(taught)["model.layers.0.mlp.up_proj.weight"]
        runs.append((curve(taught, "reward"), curve(taught, "policy_loss"), first_layer.tolist()))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_saved_policy_is_a_plain_model_and_the_critic_lies_beside_it(tmp_path):
    taught = trainer(tmp_path / "run")
    taught.train()
    taught.save_model(str(tmp_path / "saved"))
    assert not [name for name in load_file(tmp_path / "saved/model.safetensors") if "value" in name]
    again, ids = LlamaForCausalLM.from_pretrained(tmp_path / "saved").eval(), torch.tensor([[1, 6, 4]])
    assert torch.equal(again(input_ids=ids).logits, taught.policy.eval()(input_ids=ids).logits)

    fresh = trainer(tmp_path / "other", model=again)
    assert fresh.value_head.linear.weight.abs().sum() == 0
    fresh.load_critic(tmp_path / "saved")
    assert torch.equal(fresh.value_head.linear.weight, taught.value_head.linear.weight)
    with pytest.raises(UserError, match="no critic"):
        fresh.load_critic(tmp_path)


@pytest.mark.parametrize("options", [{"top_p": 0.9}, {"loss_type": "grpo"}, {"beta": 0.1}, {"log_completions": True}])
def test_settings_that_ppo_would_ignore_are_refused(tmp_path, options):
    with pytest.raises(UserError):
        PPOConfig(output_dir=str(tmp_path), use_cpu=True, **options)


def test_too_few_prompts_for_one_rollout_are_refused(tmp_path):
    with pytest.raises(UserError, match="takes 16 prompts and there are 12"):
        trainer(tmp_path, per_device_train_batch_size=32)
