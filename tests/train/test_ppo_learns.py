"""PPO finds optima that are known beforehand, over seeds, and holds the KL where it is told to.

One-token answers, reward 1 for "yes". The tiny random policy says it once in 24 at first, whatever the prompt. Where a
nat of KL costs b, the best policy says it with odds exp(1/b) times those of the reference (Ziegler et al. 2019): 23
times the odds of 1 to 23 is even odds, so b = 1/log(23) = 0.319 must end at a reward of 1/2, and at a KL of
log(24/2)/2 + log(24/46)/2 = 0.917 nats. Backwards: a KL of 0.5 nats is reached at a reward of 0.353, which is best
where a nat costs 0.395: there an adapted price must settle.
"""

from pathlib import Path
from statistics import fmean, stdev

import pytest
from test_ppo import YES, curve, share_of_yes, trainer

from cai.train.rl.ppo import PPOTrainer

SEEDS = (1, 2, 3)


def says_yes(prompts, completion_ids, **_) -> list[float]:
    return [float(ids[0] == YES) for ids in completion_ids]


def taught(path: Path, **options) -> PPOTrainer:
    defaults = {"max_completion_length": 1, "per_device_train_batch_size": 24, "num_ppo_epochs": 2, "lam": 1.0}
    defaults |= {"missing_eos_penalty": 0.0, "critic_learning_rate": 2e-2, "lr_scheduler_type": "constant"}
    made = trainer(path, says_yes, **defaults | {"learning_rate": 1e-2} | options)
    made.train()
    return made


def last(trainer: PPOTrainer, name: str, rollouts: int) -> float:
    return fmean(curve(trainer, name)[-rollouts:])


@pytest.mark.parametrize("seed", SEEDS)
def test_it_ends_at_the_optimum_that_the_price_of_kl_sets(tmp_path, seed):
    made = taught(tmp_path, seed=seed, rollouts=32, kl_coef=0.319)
    assert fmean(curve(made, "reward")[:3]) < 0.15
    assert last(made, "reward", 20) == pytest.approx(0.5, abs=0.1)
    assert last(made, "kl", 20) == pytest.approx(0.917, abs=0.25)


def test_where_kl_is_nearly_free_it_ends_at_the_highest_reward(tmp_path):
    assert last(taught(tmp_path, seed=1, rollouts=20, kl_coef=0.01), "reward", 8) > 0.97


@pytest.mark.parametrize("seed", SEEDS[:2])  # the longest runs
def test_an_adapted_price_holds_the_kl_at_its_target(tmp_path, seed):
    """The price starts at five eighths of what is needed and rises; the paper's gain of 0.1 is the default."""
    made = taught(tmp_path, seed=seed, rollouts=90, kl_coef=0.25, kl_target=0.5)
    assert last(made, "kl", 40) == pytest.approx(0.5, abs=0.1)
    assert last(made, "kl_coef", 40) == pytest.approx(0.395, abs=0.08)
    assert last(made, "reward", 40) == pytest.approx(0.353, abs=0.06)
    assert max(curve(made, "kl")) > 0.6, "before the price had risen it was too high"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reward_of_longer_answers_rises_far_beyond_its_noise(tmp_path, seed):
    """Eight tokens, of which the share that is "yes" is paid; Welch's t of the last ten rollouts against the first."""
    made = trainer(
        tmp_path, share_of_yes, seed=seed, rollouts=26, max_completion_length=8, kl_coef=0.01, missing_eos_penalty=0.0
    )
    made.train()
    rewards = curve(made, "reward")
    first, final = rewards[:10], rewards[-10:]
    assert first[0] < 0.2 and fmean(rewards[-5:]) > 0.6
    assert (fmean(final) - fmean(first)) / ((stdev(first) ** 2 + stdev(final) ** 2) / 10) ** 0.5 > 5
    assert curve(made, "kl")[-1] > 1 and curve(made, "entropy")[-1] < curve(made, "entropy")[0]
    names = "approx_kl clip_fraction ratio_variance value_loss policy_loss explained_variance completion_length"
    for name in [*names.split(), "eos_rate", "kl_coef", "early_stop"]:
        assert len(curve(made, name)) == 26, name
