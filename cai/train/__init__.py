"""Training: revisions and SFT, reward models, DPO, harmfulness, and rl/. Imports the rooms above: core to judge.

sft.py, reward.py, harm.py  stages; sft_trainer.py, reward_trainer.py, rating_trainer.py, dpo_trainer.py their trainers
launch.py, rank.py   a stage that trains in several processes; shares.py: what each has of a batch
thrift.py            what reward training and DPO need not compute, and PPO: unpadded.py, quick_lora.py
trainable.py         records of what travels together through the stages
rl/methods/          the ways to make a policy, one file each. live/: live feedback, apart
reward_trainer.py    `SoftRewardTrainer`: Bradley-Terry cross-entropy with soft labels, on pairs or rankings
rl/ppo.py            `PPOTrainer`: PPO with a critic, GAE and a per-token KL penalty. rl/ppo_config.py: `PPOConfig`
rl/ppo_math.py       its mathematics. rl/critic.py: its critic
rl/rollouts.py       `Rollouts`, `RolloutTrainer`: TRL's online trainers, resumable bit for bit
rl/groups.py         `ResumableRLOO`, `ResumableGRPO`: TRL's, with PPO's penalty and curves
rl/backbone.py       a LoRA reward model over the base weights that the policy holds already
rl/reward_models.py  a reward model as a function of text

    from cai.train import PPOConfig, PPOTrainer

Each of these imports torch and trl, which take seconds: that happens when a name is first asked for.
"""

from importlib import import_module
from typing import Any

__all__ = ["PPOConfig", "PPOTrainer", "ResumableGRPO", "ResumableRLOO", "SoftDPOTrainer", "SoftRewardTrainer"]
PLACES = {
    "PPOConfig": "rl.ppo_config", "PPOTrainer": "rl.ppo", "ResumableGRPO": "rl.groups", "ResumableRLOO": "rl.groups",
    "SoftDPOTrainer": "dpo_trainer", "SoftRewardTrainer": "reward_trainer",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
