"""Subclasses of TRL's trainers, and the one way a reward model reads a conversation.

score.py          `render_scored`, `score`: text -> token ids -> scalar reward; in training, in PPO and in evaluation.
reward.py         `SoftRewardTrainer`: Bradley-Terry cross-entropy with soft labels.
backbone.py       a LoRA reward model over the base weights that the policy holds already.
reward_models.py  a reward model as a function of text.
ppo.py            `PPOTrainer`: PPO with a critic, GAE and a per-token KL penalty. ppo_config.py: `PPOConfig`.
ppo_math.py       its mathematics. critic.py: its critic.
rollouts.py       `RolloutTrainer`: TRL's GRPOTrainer, resumable bit for bit.

    from cai.trainers import PPOConfig, PPOTrainer

Each module imports torch and trl, which take seconds: that happens when a name is first asked for.
"""

from importlib import import_module
from typing import Any

__all__ = ["PPOConfig", "PPOTrainer", "SoftRewardTrainer"]
PLACES = {"PPOConfig": "ppo_config", "PPOTrainer": "ppo", "SoftRewardTrainer": "reward"}


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
