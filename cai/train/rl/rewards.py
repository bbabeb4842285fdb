"""What RL is run on: the prompts that are answered, and the reward of each answer, as TRL calls for it.

    training_prompts   those of the training splits that fit, with the wanted share of helpful ones
    normalised_reward  by a reward model
    judged_reward      by the judge itself (direct RLAIF, Lee et al. 2023)

Both rewards are normalised to mean 0 and variance 1 on the answers that the SFT policy was trained on (Huang et al.
2024), so that one `rl.kl_coef` means the same for a timid reward as for a bold one.
"""

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any

from cai.config.rl import Rl
from cai.config.sections import Policy
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Message, Prompt, Revision, read_jsonl
from cai.core.store import Artifact
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_answers
from cai.models.chat import answered, chat_ids, with_system
from cai.models.loading import load_tokenizer
from cai.models.references import Dtype, ModelRef
from cai.models.workbench import Workbench


def training_prompts(
    data: Artifact, helpful: Artifact | None, tokenizer: Any, policy: Policy, settings: Rl, seed: int
) -> tuple[list[Prompt], dict[str, Any]]:
    """`mix` of the training splits."""
    red_team = [prompt for prompt in read_jsonl(data / "prompts.jsonl", Prompt) if prompt.split == "train"]
    kind = read_jsonl(helpful / "prompts.jsonl", Prompt) if helpful else []
    kind = [prompt for prompt in kind if prompt.split == "train"]
    return mix(red_team, kind, tokenizer, policy, settings, seed)


def mix(
    red_team: list[Prompt], helpful: list[Prompt], tokenizer: Any, policy: Policy, settings: Rl, seed: int
) -> tuple[list[Prompt], dict[str, Any]]:
    """Training prompts that fit, with the wanted share of helpful ones, in an order drawn by the seed."""

    needed, wanted = prompts_wanted(settings)
    order = lambda prompt: uniform("ppo", seed, prompt.id)  # noqa: E731
    fit, kind = (
        sorted((prompt for prompt in some if fits(prompt, tokenizer, policy, settings)), key=order)
        for some in (red_team, helpful)
    )
    counts = {"red-team prompts": len(red_team), "dropped: longer than rl.max_prompt_tokens": len(red_team) - len(fit)}
    chosen = fit[: needed - wanted] + kind[:wanted]
    if not chosen:
        raise UserError("no training prompt fits", "rl.max_prompt_tokens", "raise it")
    return sorted(chosen, key=order), counts | {"prompts used": len(chosen), "helpful among them": len(kind[:wanted])}


def prompts_wanted(settings: Rl) -> tuple[int, int]:
    """(prompts that a run is made on at most, helpful ones among them). Each is answered `num_generations` times."""
    needed = settings.steps * settings.prompts_a_rollout
    return needed, round(needed * settings.helpful)


def fits(prompt: Prompt, tokenizer: Any, policy: Policy, settings: Rl) -> bool:
    """Whether a prompt, as the policy is asked it, is short enough to be trained on."""
    ids = chat_ids(tokenizer, with_system(prompt.messages, policy.system), answer=True)
    return len(ids) <= settings.max_prompt_tokens


def normalised_reward(
    work: Workbench, network: Any, source: ModelRef, revisions: Artifact, policy: Policy, dtype: Dtype, max_length: int
) -> tuple[Any, dict[str, float]]:
    """A reward function as TRL calls it, and the mean and spread by which it is normalised.

    network: the policy, whose base weights the reward model shares where it can.
    """
    from cai.models.score import score
    from cai.models.sharded import shared_out, will_shard
    from cai.train.rl.backbone import load_reward_on

    tokenizer = load_tokenizer(source)
    # The base weights of a policy that is to be put into parts do not stay where they are.
    model = load_reward_on(None if will_shard() else network, source, dtype, work.device).eval()
    work.read_once(model, source)
    batch_tokens = work.runtime.batch_tokens
    known = read_jsonl(revisions / "revisions.jsonl", Revision)
    chats = [answered(revision.prompt.messages, revision.final, policy.system) for revision in known]
    limits = {"max_length": max_length, "batch_tokens": batch_tokens}
    values = shared_out(chats, lambda some: score(model, tokenizer, some, **limits))
    fault = UserError("the reward model can score no answer of the SFT policy", "reward.max_length", "raise it")
    mean, spread = scale_of(values, fault)

    def reward(prompts: list, completions: list, **_: Any) -> list[float | None]:
        """Normalised score of each answer. Text is passed, never token ids: the two tokenizers may differ."""
        chats = [
            tuple(Message(turn["role"], turn["content"]) for turn in [*prompt, *completion])
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        raw = score(model, tokenizer, chats, **limits)
        return [None if value is None else (value - mean) / spread for value in raw]

    return reward, {"mean": mean, "spread": spread}


def judged_reward(
    engine: Any,
    prompts: Sequence[Prompt],
    known: Sequence[Revision],
    judge: AskedJudge,
) -> tuple[Any, dict[str, float]]:
    """A reward function as TRL calls it, for rows with a column "prompt_id", and how the judge fares on known answers.

    An answer that the judge cannot read has no reward.
    """
    from cai.models.sharded import shared_out

    def rate(answers: Sequence[tuple[Prompt, str]], title: str) -> list[float | None]:
        return judge_answers(engine, answers, judge, title=title)

    answers = [(revision.prompt, revision.final) for revision in known]
    values = shared_out(answers, lambda some: rate(some, "judge the SFT answers"))
    fault = UserError("the judge can read no answer of the SFT policy", "judge.min_mass", "lower it, or reword")
    mean, spread = scale_of(values, fault)
    by_id = {prompt.id: prompt for prompt in prompts}

    def reward(prompt_id: list[str], completions: list, **_: Any) -> list[float | None]:
        """Normalised rating of each answer, its text as the evaluation will have it."""
        texts = [turns[-1]["content"].strip() for turns in completions]
        raw = rate([(by_id[name], text) for name, text in zip(prompt_id, texts, strict=True)], "judge the answers")
        return [None if value is None else (value - mean) / spread for value in raw]

    return reward, {"mean": mean, "spread": spread, "SFT answers it cannot read": values.count(None)}


def scale_of(values: Sequence[float | None], fault: UserError) -> tuple[float, float]:
    """Mean and spread of what there is; raises `fault` where that is nothing."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        raise fault
    return fmean(known), max(pstdev(known), 1e-6)
