"""Learning online: a policy answers, is rewarded and learns, held near the SFT policy. What the methods that sample as
they learn have in common; each is a file of cai/train/rl/methods/.

Sources: Ouyang et al. 2022 (section 3.5), Bai et al. 2022 (section 4.1). Rewards are normalised to mean 0 and variance
1 on the answers that the SFT policy was trained on (Huang et al. 2024), so that one `rl.kl_coef` means the same for a
timid reward model as for a bold one, and arms differ by what they prefer and not by how loudly.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.config.rl import Rl
from cai.core.errors import UserError
from cai.core.records import Prompt, Revision, read_jsonl
from cai.models.chat import plain, with_system
from cai.models.loading import load_causal, load_tokenizer
from cai.models.workbench import Workbench
from cai.train.rl.given import OnlineRun, RewardFunction, RewardModel
from cai.train.rl.gold import held_out
from cai.train.rl.rewards import normalised_reward, training_prompts
from cai.train.shares import split, together

CURVES = (
    "reward", "kl", "kl_coef", "entropy", "clip_fraction", "approx_kl", "ratio_variance", "policy_loss", "value_loss",
    "explained_variance", "completion_length", "eos_rate", "unscored", "early_stop", "repetition", "distinct_2",
)  # fmt: skip
# Where rewards compare a prompt's answers, their mean is always a half, and says nothing.
COMPARED = (*(name for name in CURVES if name != "reward"), "win_share", "abstained")
# (policy, reward function, settings, arguments of TRL's config, **options of TRL's trainer) -> the trainer
MakeTrainer = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """What there must be before the first rollout. counts: what was found on the way, for counts.json.

    paid: what the last call of the reward was made of, for the curves: what each of several criteria paid, as
    `criterion NAME` -> mean; or `paid` of cai/train/rl/judged.py. columns: of the log, that become curves.
    """

    network: Any
    tokenizer: Any
    prompts: Sequence[Prompt]
    reward: RewardFunction
    counts: Mapping[str, Any]
    paid: Callable[[], dict[str, float]] = dict
    columns: Sequence[str] = CURVES


# 1. Before the first rollout ------------------------------------------------------------------------------------------


def begin(work: Workbench, run: OnlineRun) -> tuple[Any, list[Prompt], dict[str, Any]]:
    """(the policy's tokenizer, the prompts to train on, counts). Other models leave the memory.

    Where several processes train, they know one another from here on.
    """
    work.release()
    if together() > 1:
        from accelerate import PartialState  # heavy

        assert PartialState(cpu=work.device == "cpu").num_processes == together(), "each would do all the work"
    tokenizer = load_tokenizer(run.start.ref)
    prompts, counts = training_prompts(run.data, run.helpful, tokenizer, run.start.policy, run.settings, run.seed)
    return tokenizer, prompts, counts


def load_policy(work: Workbench, run: OnlineRun) -> Any:
    network = load_causal(run.start.ref, run.start.learning_dtype, work.device, train=True)
    work.read_once(network, run.start.ref)
    return network


def learn_from_rewards(out: Path, work: Workbench, run: OnlineRun, reward: RewardModel, make: MakeTrainer) -> None:
    """Against a reward model. Leaves model/ (the policy), curves.json (one row a rollout), warnings.json, counts.json,
    snapshots/<rollout>/ for `rl.snapshots`, and gold.json with `rl.gold`.
    """
    tokenizer, prompts, counts = begin(work, run)
    network, policy = load_policy(work, run), run.start.policy
    normalised = normalised_reward(work, network, run, reward)
    function, counts = normalised.function, {**counts, **normalised.counts}
    if reward.shaping:
        known, limit = read_jsonl(run.revisions / "revisions.jsonl", Revision), work.runtime.batch_tokens
        function, more = reward.shaping.shaped(function, network, tokenizer, policy, known, run.settings.epochs, limit)
        counts |= more
    optimise(out, work, run, Ready(network, tokenizer, prompts, function, counts, normalised.paid), make)


# 2. Training ----------------------------------------------------------------------------------------------------------


def optimise(out: Path, work: Workbench, run: OnlineRun, ready: Ready, make: MakeTrainer) -> None:
    """Train the SFT policy against a reward function; a killed run goes on from its last checkpoint.

    Leaves what `learn_from_rewards` says.
    """
    from datasets import Dataset  # heavy: only when there is something to train

    from cai.train.checkpoints import checkpoints_of, last_checkpoint
    from cai.train.common import curves, quiet
    from cai.train.rl.watch import Watch

    start, settings, tokenizer, reward = run.start, run.settings, ready.tokenizer, ready.reward
    watch = Watch(tokenizer, held_out(work, run, tokenizer), run.snapshots)
    chats = [with_system(prompt.messages, start.policy.system) for prompt in ready.prompts]
    rows = Dataset.from_list(
        [{"prompt": plain(tokenizer, c), "prompt_id": p.id} for c, p in zip(chats, ready.prompts, strict=True)]
    )
    with checkpoints_of(out) as checkpoints:
        arguments = rollout_arguments(work, out, run) | {"output_dir": str(checkpoints)}
        trainer: Any = make(
            ready.network, watch.reading(reward, ready.paid), settings, arguments, train_dataset=rows,
            processing_class=tokenizer, callbacks=[watch],
        )  # fmt: skip
        watch.reference = trainer.reference
        if hasattr(reward, "reference"):
            if trainer.is_fsdp_enabled:
                problem = "live feedback reads the policy in batches of its own, which a model in parts cannot give"
                raise UserError(problem, "rl.feedback", "train without FSDP, or without live feedback")
            # It reads the states of the policy as it was: `Shaping`
            setattr(reward, "reference", trainer.reference)  # noqa: B010
        quiet(trainer, settings.method.upper(), "rl")
        trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints) is not None)
        watched = watch.leave(trainer.model, out)
    rollouts = [row for row in trainer.state.log_history if "reward" in row]
    history = [row | row["answers"] | row.get("paid", {}) | {"step": number} for number, row in enumerate(rollouts, 1)]
    criteria = (name for name in history[0] if name.startswith("criterion ")) if history else ()
    names = [*ready.columns, *criteria]
    (out / "curves.json").write_text(json.dumps(curves(history, {name: name for name in names})))
    counts = {**ready.counts, **watched, **left_out(history, settings.batch_size), **trainer.counts()}
    (out / "counts.json").write_text(json.dumps(counts, indent=1))
    trainer.end()


def by_ppo(network: Any, reward: Any, settings: Rl, arguments: dict[str, Any], **options: Any) -> Any:
    from cai.train.rl.ppo import PPOTrainer
    from cai.train.rl.ppo_config import PPOConfig

    return PPOTrainer(network, reward, PPOConfig(**arguments | ppo_arguments(settings)), **options)


def by_groups(method: str, network: Any, reward: Any, settings: Rl, arguments: dict[str, Any], **options: Any) -> Any:
    """method: "rloo" or "grpo", advantages by group in place of a critic."""
    from cai.train.rl.groups import TRAINERS

    config, trainer = TRAINERS[method]
    penalty = settings.missing_eos_penalty
    made = config(**arguments | group_arguments(settings))
    return trainer(network, reward, made, missing_eos_penalty=penalty, **options)


def by_online_dpo(
    beta: float, network: Any, reward: Any, settings: Rl, arguments: dict[str, Any], **options: Any
) -> Any:
    """beta: `rl.beta`."""
    from trl import GRPOConfig

    from cai.train.rl.online_dpo import OnlineDPOTrainer

    if arguments["per_device_train_batch_size"] % 2:  # `runtime.micro_batch`: a pair goes through the model together
        arguments["per_device_train_batch_size"] *= 2
        arguments["gradient_accumulation_steps"] //= 2
    steps: dict[str, Any] = {"max_steps": settings.steps * settings.epochs, "logging_steps": settings.epochs}
    made = GRPOConfig(**arguments | steps, num_iterations=settings.epochs)
    return OnlineDPOTrainer(network, reward, made, dpo_beta=beta, **options)


def left_out(history: Sequence[Mapping[str, float]], answers: int) -> dict[str, int]:
    """How many answers had no reward and took no part, where there were any; and pairs, where a judge compares.

    answers: of a rollout.
    """
    lost = round(sum(row["unscored"] * answers for row in history))
    counts = {"answers without a reward": lost} if lost else {}
    if any("judged" in row for row in history):
        counts["pairs judged"] = round(sum(row["judged"] for row in history))
        counts["pairs that the judge could not read"] = round(sum(row["abstained"] for row in history))
    return counts


# 3. What TRL is told --------------------------------------------------------------------------------------------------


def rollout_arguments(work: Workbench, out: Path, run: OnlineRun) -> dict[str, Any]:
    """Arguments that PPOConfig, RLOOConfig and GRPOConfig share: prompts, answers and what to save.

    Raises UserError where processes cannot have equal shares of a rollout.
    """
    from cai.train.common import arguments

    settings = run.settings
    rows, times = split(settings.batch_size, work.runtime, "rl.batch_size", together())
    common = arguments(work, out, run.start, run.seed)
    del common["logging_steps"]  # one row a rollout
    # What a kill may cost: one rollout of LoRA, whose checkpoint is small, or an eighth of a run on whole weights.
    rollouts = 1 if run.start.policy.training == "lora" else max(1, settings.steps // 8)
    return common | {
        "generation_batch_size": settings.batch_size,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": times,
        "num_generations": settings.num_generations,
        "learning_rate": settings.learning_rate,
        "temperature": settings.temperature,
        "max_completion_length": settings.max_new_tokens,
        "disable_dropout": True,
        "save_strategy": "steps",
        "save_steps": rollouts * settings.epochs,
        "save_total_limit": 2,  # the last may be half written when the run is killed
    }


def ppo_arguments(settings: Rl) -> dict[str, Any]:
    """What PPOConfig is told besides."""
    return {
        "rollouts": settings.steps,
        "num_ppo_epochs": settings.epochs,
        "kl_coef": settings.kl_coef,
        "kl_target": settings.kl_target,
        "kl_horizon": settings.kl_horizon,
        "kl_stop": settings.kl_stop,
        "cliprange": settings.cliprange,
        "cliprange_value": settings.cliprange_value,
        "vf_coef": settings.vf_coef,
        "gamma": settings.gamma,
        "lam": settings.lam,
        "missing_eos_penalty": settings.missing_eos_penalty,
    }


def group_arguments(settings: Rl) -> dict[str, Any]:
    """What RLOOConfig and GRPOConfig are told besides."""
    return {
        "max_steps": settings.steps * settings.epochs,
        "num_iterations": settings.epochs,
        "logging_steps": settings.epochs,  # one row a rollout
        "beta": settings.kl_coef,
        "epsilon": settings.cliprange,
    }
