"""The settings of PPO, in TRL's style."""

from dataclasses import dataclass

from trl import GRPOConfig

from cai.core.errors import UserError

# Settings of GRPO that change its own loss or logs: PPO reads none of them, so setting one is refused, not ignored.
NOT_READ = (
    "beta", "delta", "entropy_coef", "epsilon", "epsilon_high", "importance_sampling_level", "log_completions",
    "loss_type", "mask_truncated_completions", "off_policy_mask_threshold", "scale_rewards", "top_entropy_quantile",
    "use_adaptive_entropy",
)  # fmt: skip


@dataclass
class PPOConfig(GRPOConfig):
    """TRL's GRPOConfig with what PPO adds. One rollout = `generation_batch_size` answers, trained on for
    `num_ppo_epochs`; `per_device_train_batch_size` is the minibatch, `cliprange` how far its ratio may move from 1.
    `max_steps` and `logging_steps` follow from `rollouts`: one row of the log is one rollout."""

    rollouts: int = 100  # sets max_steps
    num_ppo_epochs: int = 2  # passes over each rollout
    kl_coef: float = 0.05  # price, in reward, of one nat of KL to the reference
    kl_target: float | None = None  # nats an answer that `kl_coef` is adapted to hold; None: it stays as it is
    kl_horizon: int | None = None  # answers in which `kl_coef` can change by a fifth; None: those of ten rollouts
    kl_stop: float | None = None  # nats a token (approx_kl) at which no further update is made on a rollout
    whiten_rewards: bool = False  # scale the tokens' rewards, KL penalty included, to variance 1 before GAE
    gamma: float = 1.0  # discount of later rewards
    lam: float = 0.95  # GAE: 0 trusts the critic, 1 the sampled return
    vf_coef: float = 0.1  # weight of the value loss
    cliprange: float = 0.2  # how far the ratio of probabilities may move from 1 (`epsilon` of TRL's GRPO)
    cliprange_value: float = 0.2  # how far a value may move in one rollout
    missing_eos_penalty: float = 1.0  # off the score of an answer that was cut off
    critic_learning_rate: float = 1e-3  # the value head starts at zero, so it must be quick
    # Other defaults than TRL's: they suit small models on CPU; the precision is that in which the model was loaded.
    num_generations: int | None = 2
    disable_dropout: bool = True
    activation_checkpointing: bool | None = False
    gradient_checkpointing: bool = False  # its name before transformers 5.20; since, it follows the new one
    bf16: bool | None = False

    def __post_init__(self) -> None:
        for name in NOT_READ:
            if getattr(self, name) != GRPOConfig.__dataclass_fields__[name].default:
                raise UserError(f"PPO has no setting {name}", name, "remove it; the settings are those of PPOConfig")
        changed = (self.top_p, self.top_k, self.min_p, self.repetition_penalty) != (1.0, 0, None, 1.0)
        if changed or self.generation_kwargs:
            raise UserError(
                "PPO must sample from the policy whose probabilities it trains on",
                "top_p, top_k, min_p, repetition_penalty, generation_kwargs",
                "leave them alone; temperature is allowed, it is applied to the probabilities as well",
            )
        self.num_iterations = self.num_ppo_epochs
        super().__post_init__()
        if self.kl_target is not None and not (self.kl_target > 0 and self.kl_coef > 0 and self.kl_gain <= 1):
            raise UserError(
                f"no KL can be held with kl_target {self.kl_target}, kl_coef {self.kl_coef}, kl_horizon "
                f"{self.kl_horizon} and {self.generation_batch_size} answers a rollout",
                "kl_target, kl_coef, kl_horizon",
                "make target and coefficient more than 0, and the horizon at least one rollout's answers",
            )
        self.max_steps = self.rollouts * self.updates_per_rollout
        self.logging_steps = self.updates_per_rollout

    @property
    def kl_gain(self) -> float:
        """K_beta of Ziegler et al. 2019: the share of the KL's relative error that one rollout corrects."""
        return 0.1 if self.kl_horizon is None else (self.generation_batch_size or 1) / self.kl_horizon

    @property
    def updates_per_rollout(self) -> int:
        """Optimizer steps between two rollouts; a checkpoint waits for the end of its rollout."""
        minibatches = self.num_ppo_epochs * (self.steps_per_generation or 1)
        assert minibatches % self.gradient_accumulation_steps == 0, "a rollout must be a whole number of updates"
        return minibatches // self.gradient_accumulation_steps
