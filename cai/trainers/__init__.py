"""The two subclasses of TRL's trainers, and the one way a reward model reads a conversation.

score.py   `render_scored`, `score`: text -> token ids -> scalar reward; used in training, in PPO and in evaluation.
reward.py  `SoftRewardTrainer`: Bradley-Terry cross-entropy with soft labels.
ppo.py     `PPOTrainer`: PPO with a critic, GAE and a per-token KL penalty; `PPOConfig` in ppo_config.py.
rollouts.py  `RolloutTrainer`: TRL's GRPOTrainer, resumable bit for bit.

Nothing is imported here: each module imports torch and trl, which take seconds; a stage imports the one it needs.
"""
