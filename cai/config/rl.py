"""The `rl:` section of an experiment's YAML file: how the policy is made, and how it is looked at on the way."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cai.config.section import Amount, Count, LearningRate, Positive, Rate, Section, Share, Warm
from cai.config.validation import Fault


class Gold(Section):
    """A second opinion on the policy while it is trained, on prompts and by a reward that training never uses.

    Over-optimisation (Gao et al. 2022) is then measured: the reward that is trained for rises, and this one falls. The
    prompts are those of the calibration split: no reward model is trained on them, PPO does not see them, and the
    reported test prompts stay untouched, also where `keep: best` chooses by what is seen here.
    """

    # judge: the evaluation's own judge and constitution; else a reward model, by its folder or hub id.
    by: str = "judge"
    # Rollouts between two looks; there is always one before the first rollout and one after the last.
    every: Positive = 4
    prompts: Annotated[int, Field(ge=2)] = 32
    # What the stage leaves: the policy at the look that gold liked best, or the one that training ended with.
    keep: Literal["best", "last"] = "best"


class LiveFeedback(Section):
    """A person's live feedback as a part of the reward: reward model + weight * decay^rollout * human reward.

    Both are normalised on the SFT answers (cai/train/live/reward.py). log: what `python -m cai.annotate --live` wrote;
    its contents are in the key, and its place is not.
    """

    log: str
    weight: Rate = 1.0
    # 1: the person's share stays; 0.8: it has halved after three rollouts.
    decay: Share = 0.8


class SelfDistil(Section):
    """`method: self_distil`: what its teacher reads, what the student learns of it, and for how long.

    The teacher is the policy as it was, with principles in its context (prompts/self_distil.jinja).
    """

    # Principles in its context, drawn by hash for each prompt; all: all that apply.
    principles: Positive | Literal["all"] = 1
    # A critique as well, of another answer of the student's to the same prompt (cai/train/rl/teacher.py).
    critique: bool = False
    # Of the generalised Jensen-Shannon divergence (Agarwal et al. 2023): 1 is KL(student || teacher), 0 the other way.
    beta: Annotated[float, Field(ge=0, le=1)] = 1.0
    # Training ends when so many tokens have been learnt from, counted once an epoch; null: after rl.steps.
    tokens: Positive | None = None


RlMethod = Literal["ppo", "rloo", "grpo", "direct", "online_dpo", "self_distil", "dpo", "best_of_n", "sft", "none"]
# How a judge is asked while the policy learns: about each answer alone, or about two at a time of one prompt's answers.
Judging = Literal["alone", "pairs", "circle"]
# What a method is unless it is named here: it samples answers as it learns from a reward model, and its KL's price is
# fixed. To add one: its name above, and a file of that name in cai/train/rl/methods/.
WITHOUT_ROLLOUTS: tuple[RlMethod, ...] = ("dpo", "best_of_n", "sft", "none")
WITHOUT_REWARD_MODEL: tuple[RlMethod, ...] = ("direct", "online_dpo", "self_distil", "dpo", "sft")
WITHOUT_LABELS: tuple[RlMethod, ...] = ("direct", "online_dpo", "self_distil", "sft")
ASKS_JUDGE: dict[RlMethod, Judging] = {"direct": "alone", "online_dpo": "pairs"}  # and how
BY_GROUP: tuple[RlMethod, ...] = ("rloo", "grpo")  # advantages within a prompt's answers: `judging` is theirs
WITHOUT_TRAINING: tuple[RlMethod, ...] = ("best_of_n", "sft", "none")
BY_PPO: tuple[RlMethod, ...] = ("ppo", "direct")  # they have a critic, and can adapt the price of KL


class Rl(Section):
    """How the policy is made from the SFT policy, and at which price of moving away from it.

    ppo        PPO (Schulman et al. 2017) with a KL penalty for each token (Ziegler et al. 2019), on a reward model
    rloo       REINFORCE, with a prompt's other answers as baseline (Ahmadian et al. 2024); on a reward model
    grpo       advantages by group instead of a critic (Shao et al. 2024); on a reward model
    direct     PPO on the judge's rating of each answer, asked as it goes (d-RLAIF, Lee et al. 2023); no labels
    online_dpo each step the policy writes two answers to each of `batch_size` / 2 prompts, the judge says which is
               better, and DPO learns from its probabilities, `epochs` times (Guo et al. 2024); `beta` as for dpo
    self_distil  no reward: the policy as it was, with principles in its context, teaches the policy without them, token
               by token of the policy's own answers (context distillation, Askell et al. 2021, by GKD, Agarwal et al.
               2023); `distil:`
    dpo        from the labels, without a reward model (Rafailov et al. 2023): `epochs` passes over the labelled pairs,
               `batch_size` of them a step; `beta` is the price of a nat, in log-odds of the preference
    best_of_n  no training: the SFT policy answers `best_of` times, and the reward model picks (Stiennon et al. 2020)
    sft        no RL: the SFT policy is the arm's, one for each seed; nobody is asked for a label
    none       no policy: the arm ends with its reward model

    Of sft and none the rest of this section is read by nobody.

    Read by ppo and direct alone: kl_target, kl_horizon, kl_stop, cliprange_value, vf_coef, gamma, lam. By dpo and
    online_dpo: beta, and not kl_coef. By best_of_n alone: best_of. By all that sample as they learn: num_generations.
    By rloo and grpo alone: judging. By self_distil alone: distil; it knows no price of KL, clipping or penalty.

    Names are those of TRL's trainers: kl_coef (`beta` in its GRPO and RLOO), cliprange (`epsilon` there),
    cliprange_value, vf_coef, gamma, lam, missing_eos_penalty, num_generations, beta. `best_of` is that of OpenAI's and
    vLLM's sampling parameters. kl_target and kl_horizon are target and horizon of Ziegler et al.'s controller; kl_stop
    is what others call target_kl, which would be taken for it.
    """

    # Neither is part of a key: the stage's own name says the method, and `best_of` and `beta` are given to what reads
    # them.
    method: RlMethod = Field(default="ppo", exclude=True)
    best_of: Annotated[int, Field(ge=2)] = Field(default=4, exclude=True)
    beta: Rate = Field(default=0.05, exclude=True)
    # rloo and grpo on the judge, without labels and without a reward model; null: on the reward model.
    #   alone   its rating of each answer by itself, normalised on the SFT answers, as of `direct`
    #   pairs   each answer against every other to its prompt: the reward is its mean probability to win, 0 to 1
    #   circle  each against the one before and the one after: n games in place of n (n - 1) / 2
    judging: Judging | None = Field(default=None, exclude=True)
    # No part of a key either: its stage is given it.
    distil: SelfDistil = Field(default=SelfDistil(), exclude=True)
    # Rollouts; each is `batch_size` answers, trained on for `epochs`.
    steps: Positive = 16
    batch_size: Positive = 8
    # Answers to each prompt: the group of rloo and grpo. In a key only where it is not 2, which it once always was.
    num_generations: Annotated[int, Field(ge=2)] = Field(default=2, exclude_if=lambda count: count == 2)
    epochs: Positive = 2
    learning_rate: LearningRate = 5e-5
    # Keys of the store know a setting by its first name (`serialization_alias`).
    # Price, in reward, of one nat of KL to the SFT policy: as it is, or only at first, where a target is to be held.
    kl_coef: Amount = Field(default=0.05, serialization_alias="kl")
    # Nats an answer. The price follows the KL as in Ziegler et al. 2019, within `kl_horizon` answers (null: 10 steps).
    kl_target: Rate | None = None
    kl_horizon: Positive | None = None
    # Nats a token between the policy that answered and the one that learns; beyond it the rest of a step is left out.
    kl_stop: Rate | None = None
    # How far the ratio of probabilities may move from 1, and a value from what it was.
    cliprange: Rate = Field(default=0.2, serialization_alias="clip")
    cliprange_value: Rate = Field(default=0.2, serialization_alias="value_clip")
    # Weight of the value loss.
    vf_coef: Amount = Field(default=0.1, serialization_alias="value_weight")
    gamma: Share = 1.0
    # Lambda of GAE (Schulman et al. 2016).
    lam: Share = Field(default=0.95, serialization_alias="gae_lambda")
    # Taken off the score of an answer that did not end by itself.
    missing_eos_penalty: Amount = Field(default=1.0, serialization_alias="no_eos_penalty")
    # Share of the prompts that are everyday ones (`helpful:`).
    helpful: Share = 0.25
    max_prompt_tokens: Positive = 192
    max_new_tokens: Positive = 48
    temperature: Warm = 1.0
    # null: training is not looked at from outside.
    gold: Gold | None = None
    # How many policies on the way to the last one are kept and evaluated: evenly spaced over the rollouts, both ends
    # left out. No part of the key: the stages are given the rollouts, where there are any.
    snapshots: Count = Field(default=0, exclude=True)
    # No part of the key either: the stages that read it are given its contents and numbers.
    feedback: LiveFeedback | None = Field(default=None, exclude=True)

    @model_validator(mode="after")
    def _the_target_can_be_held(self) -> "Rl":
        if self.kl_target is None and self.kl_horizon is not None:
            raise Fault(
                "kl_horizon says how fast a target is approached, and there is none", "set kl_target", "kl_horizon"
            )
        if self.kl_target is not None and not self.kl_coef:
            raise Fault("a price of 0 cannot be adapted", "set kl_coef to more than 0, such as 0.05", "kl_coef")
        if (self.kl_horizon or self.batch_size) < self.batch_size:
            problem = f"kl_horizon ({self.kl_horizon}) is less than the answers of one step ({self.batch_size})"
            raise Fault(problem, "raise it", "kl_horizon")
        return self

    @model_validator(mode="after")
    def _a_rollout_is_whole_groups(self) -> "Rl":
        if self.is_online and self.batch_size % self.num_generations:
            problem = f"batch_size ({self.batch_size} answers) is no multiple of num_generations"
            near = max(1, round(self.batch_size / self.num_generations)) * self.num_generations
            remedy = f"write batch_size: {near}, for there are {self.num_generations} answers to each prompt"
            raise Fault(problem, remedy, "batch_size")
        return self

    @model_validator(mode="after")
    def _the_method_reads_what_is_set(self) -> "Rl":
        if self.method in ("sft", "none"):
            return self
        if self.method not in BY_PPO:
            for key in ("kl_target", "kl_stop"):
                if getattr(self, key) is not None:
                    raise Fault(f"method: {self.method} cannot hold a {key}", f"set {key}: null, or method: ppo", key)
        if self.judging and self.method not in BY_GROUP:
            problem = f"judging says how the judge compares the answers of a group, and method: {self.method} has none"
            raise Fault(problem, "remove it, or name rloo or grpo", "judging")
        if self.method == "online_dpo" and self.num_generations != 2:
            problem = f"method: online_dpo learns from pairs, and num_generations is {self.num_generations}"
            raise Fault(problem, "write num_generations: 2", "num_generations")
        if self.feedback and not (self.is_online and self.reads_rewards):
            how = " with judging" if self.judging else ""
            problem = f"method: {self.method}{how} has no reward model for live feedback to be added to"
            raise Fault(problem, "set feedback: null, or method: ppo", "feedback")
        if self.method == "self_distil":
            self._can_distil()
        if self.snapshots and not self.is_online:
            problem = f"method: {self.method} has no rollouts to keep a policy after"
            raise Fault(problem, "set snapshots: 0, or method: ppo", "snapshots")
        if self.snapshots >= self.steps:
            problem = f"{self.snapshots} snapshots are more than the {self.steps - 1} rollouts before the last one"
            raise Fault(problem, "lower it, or raise steps", "snapshots")
        return self

    def _can_distil(self) -> None:
        """Raises Fault."""
        if self.gold:
            problem = "method: self_distil follows no reward, which gold is there to watch"
            raise Fault(problem, "set gold: null, and snapshots to see policies on the way", "gold")
        if self.snapshots and self.distil.tokens:
            problem = "snapshots are kept after rollouts, and how many there are distil.tokens leaves open"
            raise Fault(problem, "set snapshots: 0, or distil.tokens: null", "snapshots")
        most = self.steps * self.batch_size * self.max_new_tokens * self.epochs
        if (self.distil.tokens or 0) > most:
            problem = f"distil.tokens ({self.distil.tokens:,}) cannot be reached: {self.steps} rollouts have at most "
            raise Fault(f"{problem}{most:,} tokens to learn from", "raise steps, or lower it", "distil.tokens")

    @property
    def is_online(self) -> bool:
        """Whether the method learns from rollouts: answers that it samples as it goes."""
        return self.method not in WITHOUT_ROLLOUTS

    @property
    def has_critic(self) -> bool:
        return self.method in BY_PPO

    @property
    def trains(self) -> bool:
        """Whether the method leaves a model of its own."""
        return self.method not in WITHOUT_TRAINING

    @property
    def asked(self) -> Judging | None:
        """How the judge is asked as the policy learns; None where it is not."""
        return ASKS_JUDGE.get(self.method, self.judging)

    @property
    def asks_labellers(self) -> bool:
        """Whether anybody is asked which answer is better: for labels, or as the policy learns."""
        return self.reads_labels or self.asked is not None

    @property
    def reads_labels(self) -> bool:
        return self.method not in WITHOUT_LABELS and not self.judging

    @property
    def ends_with_sft(self) -> bool:
        """Whether the SFT policy is what the arm ends with: then its seeds make replicas of that."""
        return self.method == "sft"

    @property
    def reads_rewards(self) -> bool:
        """Whether the method needs a reward model."""
        return self.method not in WITHOUT_REWARD_MODEL and not self.judging

    @property
    def prompts_a_rollout(self) -> int:
        return self.batch_size // self.num_generations

    @property
    def kept_rollouts(self) -> tuple[int, ...]:
        """After which rollouts a snapshot is kept; all differ, because they lie at least one rollout apart. None where
        there are no rollouts: an arm of `sft` or `none` may stand beside others that have them, under one `rl:`."""
        parts = self.snapshots + 1 if self.is_online else 1
        return tuple(round(self.steps * k / parts) for k in range(1, parts))
