"""Learning from rewards: PPO, RLOO and GRPO, what they are rewarded by, and how the policy is watched."""
