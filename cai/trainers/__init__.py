"""Subclasses of TRL's trainers, and the one way a reward model reads a conversation.

score.py          `render_scored`, `score`: text -> token ids -> scalar reward; in training, in PPO and in evaluation.
reward.py         `SoftRewardTrainer`: Bradley-Terry cross-entropy with soft labels, on pairs or rankings (`element`).
backbone.py       a LoRA reward model over the base weights that the policy holds already.
reward_models.py  a reward model as a function of text.
ppo.py            `PPOTrainer`: PPO with a critic, GAE and a per-token KL penalty. ppo_config.py: `PPOConfig`.
ppo_math.py       its mathematics. critic.py: its critic.
rollouts.py       `Rollouts`, `RolloutTrainer`: TRL's online trainers, resumable bit for bit.
groups.py         `ResumableRLOO`, `ResumableGRPO`: TRL's, with PPO's penalty and curves.
dpo.py            `SoftDPOTrainer`: DPO with soft labels.

    from cai.trainers import PPOConfig, PPOTrainer

Each module imports torch and trl, which take seconds: that happens when a name is first asked for.
"""

from importlib import import_module
from typing import Any

__all__ = ["PPOConfig", "PPOTrainer", "ResumableGRPO", "ResumableRLOO", "SoftDPOTrainer", "SoftRewardTrainer"]
PLACES = {
    "PPOConfig": "ppo_config", "PPOTrainer": "ppo", "ResumableGRPO": "groups", "ResumableRLOO": "groups",
    "SoftDPOTrainer": "dpo", "SoftRewardTrainer": "reward",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
