"""What RL is run on: the prompts that are answered, and the reward of each answer, as TRL calls for it.

    training_prompts   those of the training splits that fit, with the wanted share of helpful ones
    normalised_reward  by a reward model, or by one for each of `criteria:`
    judged_reward      by the judge itself (direct RLAIF, Lee et al. 2023)

Both rewards are normalised to mean 0 and variance 1 on the answers that the SFT policy was trained on (Huang et al.
2024), so that one `rl.kl_coef` means the same for a timid reward as for a bold one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from cai.config.rl import Rl
from cai.config.sections import Policy
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Chat, Message, Prompt, Revision, read_jsonl
from cai.core.store import Artifact
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_answers
from cai.models.chat import chat_ids, with_system
from cai.models.loading import load_tokenizer
from cai.models.references import ModelRef
from cai.models.workbench import Workbench
from cai.train.criteria import WeighedRewards, no_scale, reference_answers, spread_of, summed
from cai.train.rl.given import OnlineRun, RewardFunction, RewardModel


@dataclass(frozen=True, slots=True)
class NormalisedReward:
    """function: as TRL calls it. counts: mean and spread of what it is normalised by.

    paid: after a call, the mean of its normalised rewards by each criterion, `criterion NAME`, over the answers of all
    processes, which must all ask; empty for one reward model.
    """

    function: RewardFunction
    counts: Mapping[str, float]
    paid: Callable[[], dict[str, float]]


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


def normalised_reward(work: Workbench, network: Any, run: OnlineRun, reward: RewardModel) -> NormalisedReward:
    """By one reward model, or by those of all criteria, each normalised and weighed (cai/train/criteria.py).

    network: the policy, whose base weights reward models share where they can.
    """
    from cai.models.score import score
    from cai.models.sharded import everyones, shared_out, will_shard
    from cai.train.rl.backbone import load_reward_on
    from cai.train.thrift import thrifty

    start, limits = run.start, {"max_length": reward.max_length, "batch_tokens": work.runtime.batch_tokens}

    def reader(ref: ModelRef) -> Callable[[Sequence[Chat]], list[float | None]]:
        tokenizer = load_tokenizer(ref)
        # The base weights of a policy that is to be put into parts do not stay where they are.
        model = load_reward_on(None if will_shard() else network, ref, start.dtype, work.device).eval()
        packs = thrifty(model)  # so the answers to a prompt read it once
        work.read_once(model, ref)
        return lambda chats: score(model, tokenizer, chats, **limits, packs=packs)

    scorers, counts = reward.reward, {}
    if isinstance(scorers, WeighedRewards):
        names, shares = zip(*((part.name, part.share) for part in scorers.parts), strict=True)
        readers, scales = zip(*((reader(part.ref), part.read_scale()) for part in scorers.parts), strict=True)
        counts["reward spread on the SFT answers, of the sum"] = scorers.spread()
    else:
        names, shares, readers = ("",), (1.0,), (reader(scorers),)
        values = shared_out(reference_answers(run.revisions, start.policy), readers[0])
        scales = (spread_of(values, no_scale(), "the reward model", "reward"),)
    for name, scale in zip(names, scales, strict=True):
        on = f"on the SFT answers{', ' if name else ''}{name}"
        counts |= {f"reward mean {on}": scale.mean, f"reward spread {on}": scale.spread}
    latest: list[list[float | None]] = []  # of the last call: normalised rewards by each criterion

    def function(prompts: list, completions: list, **_: Any) -> list[float | None]:
        """Normalised score of each answer. Text is passed, never token ids: the two tokenizers may differ."""
        chats = [
            tuple(Message(turn["role"], turn["content"]) for turn in [*prompt, *completion])
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        latest[:] = [scale.of(read(chats)) for scale, read in zip(scales, readers, strict=True)]
        return summed(latest, shares)

    def paid() -> dict[str, float]:
        columns = {f"criterion {name}": everyones(column) for name, column in zip(names, latest, strict=True) if name}
        known = {name: [value for value in column if value is not None] for name, column in columns.items()}
        return {name: fmean(column) for name, column in known.items() if column}

    return NormalisedReward(function, {name: round(value, 4) for name, value in counts.items()}, paid)


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
    scale = spread_of(values, fault, "the judge", "judge.method")
    by_id = {prompt.id: prompt for prompt in prompts}

    def reward(prompt_id: list[str], completions: list, **_: Any) -> list[float | None]:
        """Normalised rating of each answer, its text as the evaluation will have it."""
        texts = [turns[-1]["content"].strip() for turns in completions]
        answers = [(by_id[name], text) for name, text in zip(prompt_id, texts, strict=True)]
        return scale.of(rate(answers, "judge the answers"))

    return reward, {"mean": scale.mean, "spread": scale.spread, "SFT answers it cannot read": values.count(None)}
