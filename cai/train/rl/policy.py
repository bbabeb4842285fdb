"""The policy: PPO, RLOO or GRPO against a reward model, or PPO against the judge itself, held near the SFT policy.

Sources: Ouyang et al. 2022 (section 3.5), Bai et al. 2022 (section 4.1); Lee et al. 2023 for rewards that are the
judge's own (direct RLAIF). Rewards are normalised to mean 0 and variance 1 on the answers that the SFT policy was
trained on (Huang et al. 2024), so that one `rl.kl` means the same for a timid reward model as for a bold one, and arms
differ by what they prefer and not by how loudly.

Each method is a stage of its own, picked by `rl.method` in cai/experiment/pipeline.py: here those that sample as they
learn. DPO learns from labelled pairs (cai/train/dpo.py), and best-of-n does not learn (`respond_best` in
cai/train/respond.py).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai.config.rl import Rl
from cai.config.sections import Judge, Policy
from cai.constitution import Judging
from cai.core.owned import unfinished
from cai.core.records import Prompt, Revision, read_jsonl
from cai.core.store import Artifact, version
from cai.core.templates import Template
from cai.models.chat import plain, with_system
from cai.models.loading import load_causal, load_tokenizer
from cai.models.references import Dtype, ModelRef
from cai.models.workbench import Workbench
from cai.train.rl.gold import held_out
from cai.train.rl.rewards import judged_reward, normalised_reward, training_prompts

CURVES = (
    "reward", "kl", "kl_coef", "entropy", "clip_fraction", "approx_kl", "ratio_variance", "policy_loss", "value_loss",
    "explained_variance", "completion_length", "eos_rate", "unscored", "early_stop", "repetition", "distinct_2",
)  # fmt: skip


# 1. Stages ------------------------------------------------------------------------------------------------------------


@version(2)
def train_ppo(out: Path, work: Workbench, **inputs: Any) -> None:
    """PPO against a reward model. Inputs: see `by_reward_model`."""
    by_reward_model("ppo", out, work, **inputs)


@version(2)
def train_rloo(out: Path, work: Workbench, **inputs: Any) -> None:
    """TRL's RLOO against a reward model (cai/train/rl/groups.py). Inputs: see `by_reward_model`."""
    by_reward_model("rloo", out, work, **inputs)


@version(2)
def train_grpo(out: Path, work: Workbench, **inputs: Any) -> None:
    """TRL's GRPO against a reward model (cai/train/rl/groups.py). Inputs: see `by_reward_model`."""
    by_reward_model("grpo", out, work, **inputs)


def by_reward_model(
    method: str,
    out: Path,
    work: Workbench,
    *,
    data: Artifact,
    helpful: Artifact | None,
    revisions: Artifact,
    sft: ModelRef,
    reward: ModelRef,
    policy: Policy,
    settings: Rl,
    reward_max_length: int,
    gold: Mapping[str, Any] | None,
    dtype: Dtype,
    seed: int,
    feedback: Mapping[str, Any] | None = None,
    snapshots: tuple[int, ...] = (),
) -> None:
    """model/ (the policy), curves.json (one row a rollout), warnings.json, counts.json, and gold.json with `rl.gold`.

    sft: the policy to start from, which is also the reference; in later rounds the last round's.
    gold: what `yardstick` in cai/train/rl/gold.py says. feedback: `rl.feedback`, with the log as a `InputFile`.
    snapshots: rollouts after which the policy is left in snapshots/<rollout>/ as well.
    """
    from cai.train.common import weights_dtype

    work.release()
    tokenizer = load_tokenizer(sft)
    prompts, counts = training_prompts(data, helpful, tokenizer, policy, settings, seed)
    network = load_causal(sft, weights_dtype(policy, dtype), work.device, train=True)
    judge_of_answers, scale = normalised_reward(work, network, reward, revisions, policy, dtype, reward_max_length)
    counts |= {f"reward {name} on the SFT answers": round(value, 4) for name, value in scale.items()}
    if feedback:
        from cai.train.rl.live import shaped

        known, limit = read_jsonl(revisions / "revisions.jsonl", Revision), work.runtime.batch_tokens
        judge_of_answers, taught = shaped(
            judge_of_answers, feedback, network, tokenizer, policy, known, settings.epochs, limit
        )
        counts |= taught
    held = held_out(work, data, tokenizer, policy, settings, dtype, gold)
    optimise(
        method, out, work, network, judge_of_answers, prompts, counts, held, snapshots, tokenizer, policy, settings,
        dtype, seed,
    )  # fmt: skip


@version(1)
def train_direct(
    out: Path,
    work: Workbench,
    *,
    data: Artifact,
    helpful: Artifact | None,
    revisions: Artifact,
    sft: ModelRef,
    judge: Judge,
    judge_model: ModelRef,
    judging: tuple[Judging, ...],
    templates: Mapping[str, Template],
    judge_seed: int,
    policy: Policy,
    settings: Rl,
    gold: Mapping[str, Any] | None,
    dtype: Dtype,
    seed: int,
    snapshots: tuple[int, ...] = (),
) -> None:
    """PPO on the judge's own opinion of each answer, as far as it can be read. Leaves what `train_ppo` leaves.

    The judge is asked through the call cache and stays in memory beside the policy. judge_seed: draws the principles.
    """
    from cai.train.common import weights_dtype

    work.release()
    tokenizer = load_tokenizer(sft)
    prompts, counts = training_prompts(data, helpful, tokenizer, policy, settings, seed)
    engine = work.engine(judge_model, dtype=dtype, system=judge.system)
    known = read_jsonl(revisions / "revisions.jsonl", Revision)
    asked = [*prompts, *read_jsonl(data / "prompts.jsonl", Prompt)]  # `rl.gold` looks at others than it trains on
    judge_of_answers, found = judged_reward(engine, asked, known, judge, judging, templates, judge_seed)
    counts |= {f"judge: {name}": round(value, 4) for name, value in found.items()}
    held = held_out(work, data, tokenizer, policy, settings, dtype, gold)
    network = load_causal(sft, weights_dtype(policy, dtype), work.device, train=True)
    optimise(
        "direct", out, work, network, judge_of_answers, prompts, counts, held, snapshots, tokenizer, policy, settings,
        dtype, seed,
    )  # fmt: skip


# 2. Training ----------------------------------------------------------------------------------------------------------


def optimise(
    method: str,
    out: Path,
    work: Workbench,
    network: Any,
    reward: Any,
    prompts: Sequence[Prompt],
    counts: Mapping[str, Any],
    held: Any,
    snapshots: Sequence[int],
    tokenizer: Any,
    policy: Policy,
    settings: Rl,
    dtype: Dtype,
    seed: int,
) -> None:
    """Train the SFT policy against a reward function as TRL calls it; a killed run goes on from its last checkpoint.

    network, tokenizer: the SFT policy's. held: `HeldOut` of cai/train/rl/watch.py, or None.
    """
    from datasets import Dataset  # heavy: only when there is something to train

    from cai.train.common import curves, quiet
    from cai.train.rl.rollouts import last_checkpoint
    from cai.train.rl.watch import Watch

    watch = Watch(tokenizer, held, snapshots)
    rows = Dataset.from_list(
        [{"prompt": plain(tokenizer, with_system(p.messages, policy.system)), "prompt_id": p.id} for p in prompts]
    )
    with unfinished(out) as checkpoints:
        common = rollout_arguments(settings, work, out, policy, dtype, seed) | {"output_dir": str(checkpoints)}
        given: dict[str, Any] = {"train_dataset": rows, "processing_class": tokenizer, "callbacks": [watch]}
        if method in ("ppo", "direct"):
            from cai.train.rl.ppo import PPOTrainer
            from cai.train.rl.ppo_config import PPOConfig

            arguments = PPOConfig(**common | ppo_arguments(settings))
            trainer: Any = PPOTrainer(network, watch.reading(reward), arguments, **given)
        else:
            from cai.train.rl.groups import KINDS

            make, config = KINDS[method]
            arguments = config(**common | group_arguments(settings))
            given["missing_eos_penalty"] = settings.no_eos_penalty
            trainer = make(network, watch.reading(reward), arguments, **given)
        watch.reference = trainer.reference
        if hasattr(reward, "reference"):  # it reads the states of the policy as it was (cai/train/rl/live.py)
            reward.reference = trainer.reference
        quiet(trainer, method.upper())
        trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints) is not None)
        watched = watch.leave(trainer.model, out)
    rollouts = [row for row in trainer.state.log_history if "reward" in row]
    history = [row | row["answers"] | {"step": number} for number, row in enumerate(rollouts, 1)]
    (out / "curves.json").write_text(json.dumps(curves(history, {name: name for name in CURVES})))
    found = {**counts, **watched, **left_out(history, settings.batch_size)}
    (out / "counts.json").write_text(json.dumps(found, indent=1))
    trainer.end()


def left_out(history: Sequence[Mapping[str, float]], answers: int) -> dict[str, int]:
    """How many answers had no reward and took no part, where there were any. answers: of a rollout."""
    lost = round(sum(row["unscored"] * answers for row in history))
    return {"answers without a reward": lost} if lost else {}


def rollout_arguments(
    settings: Rl, work: Workbench, out: Path, policy: Policy, dtype: Dtype, seed: int
) -> dict[str, Any]:
    """Arguments that PPOConfig, RLOOConfig and GRPOConfig share: prompts, answers and what to save."""
    from cai.train.common import arguments

    common = arguments(work, out, policy, dtype, seed)
    del common["logging_steps"]  # one row a rollout
    # What a kill may cost: one rollout of LoRA, whose checkpoint is small, or an eighth of a run on whole weights.
    rollouts = 1 if policy.training == "lora" else max(1, settings.steps // 8)
    return common | {
        "generation_batch_size": settings.batch_size,
        "per_device_train_batch_size": settings.batch_size,
        "num_generations": 2,
        "learning_rate": settings.learning_rate,
        "epsilon": settings.clip,
        "temperature": settings.temperature,
        "max_completion_length": settings.max_new_tokens,
        "disable_dropout": True,
        "activation_checkpointing": False,
        "save_strategy": "steps",
        "save_steps": rollouts * settings.epochs,
        "save_total_limit": 2,  # the last may be half written when the run is killed
    }


def ppo_arguments(settings: Rl) -> dict[str, Any]:
    """What PPOConfig is told besides."""
    return {
        "rollouts": settings.steps,
        "num_ppo_epochs": settings.epochs,
        "kl_coef": settings.kl,
        "kl_target": settings.kl_target,
        "kl_horizon": settings.kl_horizon,
        "kl_stop": settings.kl_stop,
        "cliprange_value": settings.value_clip,
        "vf_coef": settings.value_weight,
        "gamma": settings.gamma,
        "lam": settings.gae_lambda,
        "missing_eos_penalty": settings.no_eos_penalty,
    }


def group_arguments(settings: Rl) -> dict[str, Any]:
    """What RLOOConfig and GRPOConfig are told besides."""
    return {
        "max_steps": settings.steps * settings.epochs,
        "num_iterations": settings.epochs,
        "logging_steps": settings.epochs,  # one row a rollout
        "beta": settings.kl,
    }
