"""The gold reward of a run: a judge or a reward model that the policy is not trained for, on prompts that nothing is
trained on.

Both say the same of an answer: the log-odds that it is better than the SFT policy's answer to the same prompt
(Bradley-Terry), which is 0 before training. A reward model says it by the difference of its two rewards; a judge by
the log-odds of its verdict on the pair, asked as in the evaluation, so every method that can decide a game can be gold.
Under `rate` and `score`, which read each answer alone, the SFT policy's answer only shifts a prompt's numbers by a
constant.

Departure from Gao et al. 2022, whose gold reward also labels the proxy's training data: here it may not, and two
rewards can then differ from the beginning. Where gold and the labels come from one and the same judge, what fools that
judge is seen by neither.
"""

from collections.abc import Mapping
from typing import Any

from cai.config.load import Arm
from cai.config.sections import Policy
from cai.constitution import Order
from cai.core.draws import identity, pick, seed_of
from cai.core.errors import UserError
from cai.core.records import Abstained, Pair, Prompt, read_jsonl
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_pairs
from cai.judge.combine import combine, weights_of
from cai.models.chat import chat_ids, plain, with_system
from cai.models.engines import Sampling
from cai.models.references import Dtype, find, local
from cai.models.workbench import Workbench
from cai.train.rl.given import OnlineRun

NO_WORDS = "(no answer)"  # what is judged where a policy said nothing: a collapse must not be left out of the mean


def yardstick(arm: Arm, work: Workbench) -> dict[str, Any] | None:
    """What decides the gold reward, for the key of the stage and for `held_out`; None where there is none."""
    gold, evaluation = arm.rl.gold, arm.evaluate
    if gold is None:
        return None
    if gold.by != "judge":
        return {"model": find(gold.by), "seed": arm.seed}
    judge = AskedJudge.of(evaluation.judge, work.constitution(evaluation.constitution), "float32", arm.seed)
    asked = {"judge": judge.settings, "judging": judge.principles, "templates": judge.templates}
    return {"model": judge.model, "seed": arm.seed} | asked | ({"order": judge.order} if judge.order else {})


def held_out(work: Workbench, run: OnlineRun, tokenizer: Any) -> Any:
    """`HeldOut` for a `Watch`, or None without `rl.gold`. Raises UserError where the calibration split is too small.

    Prompts and draws depend on the experiment's seed alone: all arms and replicas answer the same.
    A judge is loaded at the first look and stays in memory beside what is trained, as a reward model does.
    """
    settings, policy, yardstick = run.settings, run.start.policy, run.gold
    gold = settings.gold
    if gold is None or yardstick is None:
        return None
    from cai.train.rl.watch import HeldOut

    seed = yardstick["seed"]
    asked = pick(read_jsonl(run.data / "prompts.jsonl", Prompt), "calibration", None, seed)
    chats = {prompt.id: with_system(prompt.messages, policy.system) for prompt in asked}
    fits = [
        prompt for prompt in asked
        if len(chat_ids(tokenizer, chats[prompt.id], answer=True)) <= settings.max_prompt_tokens
    ][: gold.prompts]  # fmt: skip
    if len(fits) < 2:
        raise UserError(
            f"rl.gold looks at prompts of the calibration split, and of its {len(asked)} prompts {len(fits)} fit in "
            f"rl.max_prompt_tokens",
            "data.calibration",
            "raise it, or rl.max_prompt_tokens",
        )
    make = by_judge if gold.by == "judge" else by_reward_model
    return HeldOut(
        ids=tuple(prompt.id for prompt in fits),
        chats=tuple(chats[prompt.id] for prompt in fits),
        seeds=tuple(seed_of("gold", seed, prompt.id) for prompt in fits),
        gold=make(work, fits, policy, tokenizer, run.start.dtype, yardstick),
        by=f"judge {yardstick['model'].name}" if gold.by == "judge" else f"reward model {yardstick['model'].name}",
        every=gold.every,
        sampling=Sampling(settings.max_new_tokens, settings.temperature),
        keep=gold.keep,
        batch_tokens=work.runtime.batch_tokens,
    )


def by_judge(
    work: Workbench, prompts: list[Prompt], policy: Policy, tokenizer: Any, dtype: Dtype, yardstick: Mapping[str, Any]
) -> Any:
    """Gold by the evaluation's judge. Raises UserError at the first look where it can read no answer at all."""
    from cai.models.sharded import shared_out

    judge, judging, order = yardstick["judge"], yardstick["judging"], yardstick.get("order", Order())
    templates, seed = yardstick["templates"], yardstick["seed"]
    asked = AskedJudge(judge, yardstick["model"], judging, templates, dtype, seed, order=order)
    engine = asked.engine(work)

    def gold(texts: list[str], first: list[str]) -> list[float | None]:
        pairs = [
            Pair(identity("gold", prompt.id, a, b), prompt, a or NO_WORDS, b or NO_WORDS)
            for prompt, a, b in zip(prompts, texts, first, strict=True)
        ]
        verdicts = shared_out(pairs, lambda some: judge_pairs(engine, some, asked, title="gold"))
        unread = [verdict.reason for verdict in verdicts if isinstance(verdict, Abstained)]
        if len(unread) == len(verdicts):
            remedy = "ask it by another method, or name another model"
            raise UserError(f"the judge of rl.gold can read no answer: {unread[0]}", "evaluate.judge", remedy)
        weights = weights_of(judging, judge, order.limits)
        return [
            None if isinstance(verdict, Abstained)
            else 0.0 if pair.a == pair.b  # a draw by definition, whatever a chain of thought makes of it
            else combine(verdict.votes, judge, weights, order.levels)
            for pair, verdict in zip(pairs, verdicts, strict=True)
        ]  # fmt: skip

    return gold


def by_reward_model(
    work: Workbench, prompts: list[Prompt], policy: Policy, tokenizer: Any, dtype: Dtype, yardstick: Mapping[str, Any]
) -> Any:
    """Gold by a reward model, read by its own tokenizer. Raises UserError for a model without a trained head."""
    from cai.models.sharded import shared_out
    from cai.train.rl.reward_models import reward_function

    source = yardstick["model"]
    score = reward_function(local(source), None, work.device, work.runtime.batch_tokens)
    chats = [plain(tokenizer, with_system(prompt.messages, policy.system)) for prompt in prompts]

    def scores(texts: list[str]) -> list[float | None]:
        rows = [(chat, [{"role": "assistant", "content": text}]) for chat, text in zip(chats, texts, strict=True)]
        return shared_out(rows, lambda some: score([chat for chat, _ in some], [answer for _, answer in some]))

    def gold(texts: list[str], first: list[str]) -> list[float | None]:
        now, then = scores(texts), scores(first)
        return [None if a is None or b is None else a - b for a, b in zip(now, then, strict=True)]

    return gold
