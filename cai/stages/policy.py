"""The policy: PPO against a reward model, held near the SFT policy by a KL penalty for each token.

Sources: Ouyang et al. 2022 (section 3.5), Bai et al. 2022 (section 4.1). Rewards are normalised to mean 0 and variance
1 on the answers that the SFT policy was trained on (Huang et al. 2024), so that one `rl.kl` means the same for a timid
reward model as for a bold one, and arms differ by what they prefer and not by how loudly.
"""

import json
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from cai.data import uniform
from cai.errors import UserError
from cai.models import (
    Dtype,
    Source,
    answered,
    chat_ids,
    load_causal,
    load_tokenizer,
    plain,
    save,
    with_system,
)
from cai.records import Message, Prompt, Revision, read_jsonl
from cai.settings import Policy, Rl
from cai.store import Artifact, unfinished, version
from cai.workbench import Workbench

CURVES = (
    "reward", "kl", "kl_coef", "entropy", "clip_fraction", "approx_kl", "ratio_variance", "policy_loss", "value_loss",
    "explained_variance", "completion_length", "eos_rate", "unscored", "early_stop",
)  # fmt: skip


@version(1)
def train_ppo(
    out: Path,
    work: Workbench,
    *,
    data: Artifact,
    helpful: Artifact | None,
    revisions: Artifact,
    sft: Source,
    reward: Source,
    policy: Policy,
    settings: Rl,
    reward_max_length: int,
    dtype: Dtype,
    seed: int,
) -> None:
    """model/ (the policy), curves.json (one row a rollout) and counts.json."""
    from datasets import Dataset  # heavy: only when there is something to train

    from cai.trainers.common import curves, quiet, weights_dtype
    from cai.trainers.ppo import PPOConfig, PPOTrainer
    from cai.trainers.rollouts import last_checkpoint

    work.release()
    tokenizer = load_tokenizer(sft)
    red_team = [prompt for prompt in read_jsonl(data / "prompts.jsonl", Prompt) if prompt.split == "train"]
    kind = read_jsonl(helpful / "prompts.jsonl", Prompt) if helpful else []
    kind = [prompt for prompt in kind if prompt.split == "train"]
    prompts, counts = mix(red_team, kind, tokenizer, policy, settings, seed)
    network = load_causal(sft, weights_dtype(policy, dtype), work.device, train=True)
    judge_of_answers, scale = normalised_reward(work, network, reward, revisions, policy, dtype, reward_max_length)
    counts |= {f"reward {name} on the SFT answers": round(value, 4) for name, value in scale.items()}

    rows = Dataset.from_list([{"prompt": plain(tokenizer, with_system(p.messages, policy.system))} for p in prompts])
    with unfinished(out) as checkpoints:
        config = PPOConfig(str(checkpoints), **arguments_of(settings, policy, work.device, dtype, seed))
        trainer = quiet(
            PPOTrainer(network, judge_of_answers, config, train_dataset=rows, processing_class=tokenizer), "PPO"
        )
        trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints) is not None)
    history = [row | {"step": number} for number, row in enumerate(trainer.state.log_history, 1) if "reward" in row]
    (out / "curves.json").write_text(json.dumps(curves(history, {name: name for name in CURVES})))
    (out / "counts.json").write_text(json.dumps(counts, indent=1))
    save(trainer.model, tokenizer, out / "model")
    trainer.end()


def arguments_of(settings: Rl, policy: Policy, device: str, dtype: Dtype, seed: int) -> dict[str, Any]:
    """PPOConfig's arguments."""
    from cai.trainers.common import arguments

    common = arguments(device, policy, dtype, seed)
    del common["logging_steps"]  # one row a rollout
    # What a kill may cost: one rollout of LoRA, whose checkpoint is small, or an eighth of a run on whole weights.
    rollouts = 1 if policy.training == "lora" else max(1, settings.steps // 8)
    return common | {
        "rollouts": settings.steps,
        "num_ppo_epochs": settings.epochs,
        "generation_batch_size": settings.batch_size,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "kl_coef": settings.kl,
        "kl_target": settings.kl_target,
        "kl_horizon": settings.kl_horizon,
        "kl_stop": settings.kl_stop,
        "epsilon": settings.clip,
        "cliprange_value": settings.value_clip,
        "vf_coef": settings.value_weight,
        "gamma": settings.gamma,
        "lam": settings.gae_lambda,
        "missing_eos_penalty": settings.no_eos_penalty,
        "temperature": settings.temperature,
        "max_completion_length": settings.max_new_tokens,
        "save_strategy": "steps",
        "save_steps": rollouts * settings.epochs,
        "save_total_limit": 2,  # the last may be half written when the run is killed
    }


def mix(
    red_team: list[Prompt], helpful: list[Prompt], tokenizer: Any, policy: Policy, settings: Rl, seed: int
) -> tuple[list[Prompt], dict[str, Any]]:
    """Training prompts that fit, with the wanted share of helpful ones, in an order drawn by the seed."""

    def fits(prompt: Prompt) -> bool:
        ids = chat_ids(tokenizer, with_system(prompt.messages, policy.system), answer=True)
        return len(ids) <= settings.max_prompt_tokens

    needed = settings.steps * settings.batch_size // 2  # two answers a prompt
    wanted = round(needed * settings.helpful)
    order = lambda prompt: uniform("ppo", seed, prompt.id)  # noqa: E731
    fit = sorted(filter(fits, red_team), key=order)
    kind = sorted(filter(fits, helpful), key=order)
    counts = {"red-team prompts": len(red_team), "dropped: longer than rl.max_prompt_tokens": len(red_team) - len(fit)}
    chosen = fit[: needed - wanted] + kind[:wanted]
    if not chosen:
        raise UserError("no training prompt fits", "rl.max_prompt_tokens", "raise it")
    return sorted(chosen, key=order), counts | {"prompts used": len(chosen), "helpful among them": len(kind[:wanted])}


def normalised_reward(
    work: Workbench, network: Any, source: Source, revisions: Artifact, policy: Policy, dtype: Dtype, max_length: int
) -> tuple[Any, dict[str, float]]:
    """A reward function as TRL calls it, and the mean and spread by which it is normalised.

    network: the policy, whose base weights the reward model shares where it can.
    """
    from cai.trainers.backbone import load_reward_on
    from cai.trainers.score import score

    tokenizer = load_tokenizer(source)
    model = load_reward_on(network, source, dtype, work.device).eval()
    batch_tokens = work.runtime.batch_tokens
    known = read_jsonl(revisions / "revisions.jsonl", Revision)
    chats = [answered(revision.prompt.messages, revision.final, policy.system) for revision in known]
    values = [
        v for v in score(model, tokenizer, chats, max_length=max_length, batch_tokens=batch_tokens) if v is not None
    ]
    if len(values) < 2:
        raise UserError("the reward model can score no answer of the SFT policy", "reward.max_length", "raise it")
    mean, spread = fmean(values), max(pstdev(values), 1e-6)

    def reward(prompts: list, completions: list, **_: Any) -> list[float | None]:
        """Normalised score of each answer. Text is passed, never token ids: the two tokenizers may differ."""
        chats = [
            tuple(Message(turn["role"], turn["content"]) for turn in [*prompt, *completion])
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        raw = score(model, tokenizer, chats, max_length=max_length, batch_tokens=batch_tokens)
        return [None if value is None else (value - mean) / spread for value in raw]

    return reward, {"mean": mean, "spread": spread}
