"""Whether the models of an experiment can do what it asks of them, found out before its first stage.

Tokenizers and configs are read, requests are rendered as the stages render them, and networks are built without
weights: a model of any size is looked at in seconds. What is wrong is a UserError at the key that mends it.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cai.config.load import Arm
from cai.config.rubric import RUBRIC
from cai.config.runtime import Runtime
from cai.config.sections import Judge
from cai.constitution import Constitution, Judging
from cai.core.errors import UserError
from cai.core.records import Chat, Message, Pair, Prompt
from cai.core.templates import load_template
from cai.data.rubrics import RubricItem
from cai.experiment.check_data import Reader
from cai.judge.asked import AskedJudge
from cai.judge.ballots import Templates
from cai.judge.limits import sides
from cai.judge.methods import METHODS, methods_of
from cai.judge.rubric import asked_of
from cai.models.adapters import adapter_settings, is_adapter
from cai.models.architectures import HEAD, ensure_reward_head, head_width, length_limit, lora
from cai.models.chat import answer_ids, chat_ids, option_ids, with_system
from cai.models.engines import Question, Reply
from cai.models.loading import load_tokenizer, pick_device
from cai.models.references import ModelRef, base_of, find, local, model_of
from cai.models.slim.state import check_slimming, check_trainable
from cai.train.revise import revising
from cai.train.revising import RevisionTask, critique_chat, reviser_of, revision_chat
from cai.train.rl.teacher import TeacherContext
from cai.train.starting import check_adapter

ANSWER, OTHER = "Yes, of course: here it is.", "No, I would rather not."
# What a conversation looks like where the data cannot be looked at.
SAMPLE = (Prompt("sample", (Message("user", "How do I boil an egg?"),), "sample", "train"),)
WEIGHTS = ("*.safetensors", "*.bin")


def kinds_of(prompts: Iterable[Prompt]) -> tuple[Prompt, ...]:
    """One prompt for each order of roles: what a chat template refuses depends on that alone."""
    kinds = {tuple(message.role for message in prompt.messages): prompt for prompt in prompts}
    return tuple(kinds.values()) or SAMPLE


# 1. The policy --------------------------------------------------------------------------------------------------------


def policy_checks(arm: Arm, prompts: Sequence[Prompt], constitution: Constitution) -> list[Callable[[], object]]:
    """The checks of the start model, once its tokenizer and config can be read. Raises UserError where they cannot."""
    source = model_of(arm.policy)
    tokenizer, config = read_model(source)
    check_trainable(source)
    if is_adapter(Path(local(source))):
        check_adapter(source, arm.policy)
    return [
        lambda: check_rendering(arm, tokenizer, config, prompts, constitution),
        lambda: check_ending(source, tokenizer),
        lambda: check_lengths(arm, config),
        lambda: check_networks(arm, source),
    ]


def reader_of(arm: Arm) -> Reader:
    tokenizer, config = read_model(model_of(arm.policy))
    return Reader(tokenizer, arm.policy, length_limit(config))


@lru_cache(maxsize=8)
def read_model(source: ModelRef) -> tuple[Any, Any]:
    """(tokenizer, config) of a model; of an adapter, its base's config."""
    from transformers import AutoConfig

    tokenizer = load_tokenizer(source)
    place = Path(local(source))
    base = base_of(place) if is_adapter(place) else source
    folder = Path(local(base))
    with _as_fault("its config cannot be read"):
        config = AutoConfig.from_pretrained(str(folder), revision=base.commit)
    if folder.is_dir() and not any(file for kind in WEIGHTS for file in folder.glob(kind)):
        raise UserError(f'there are no weights in "{base.name}"', "model", f"it needs {' or '.join(WEIGHTS)}")
    return tokenizer, config


@contextmanager
def _as_fault(what: str) -> Iterator[None]:
    """Within: whatever a library makes of a model that it cannot use is a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each architecture fails in its own way
        message = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise UserError(f"{what}: {message}", "model", "check the model's files, or use another model") from None


def check_rendering(
    arm: Arm, tokenizer: Any, config: Any, prompts: Sequence[Prompt], constitution: Constitution
) -> None:  # fmt: skip
    """Every kind of request is rendered whole, an answer goes on from what is asked, and the model knows each token."""
    policy, kinds = arm.policy, kinds_of(prompts)
    ids: set[int] = set()
    for prompt in kinds:
        start, end = answer_ids(tokenizer, with_system(prompt.messages, policy.system), ANSWER)
        ids |= {*start, *end}
    for chat in requests(arm, kinds, constitution):
        ids |= {*chat_ids(tokenizer, with_system(chat, policy.system), answer=True)}
    check_vocabulary(tokenizer, config, ids)


def requests(arm: Arm, prompts: Sequence[Prompt], constitution: Constitution) -> Iterator[Chat]:
    """What the policy is asked besides the prompts: critiques and revisions, if it revises, opposed answers, and what
    it reads as its own teacher."""
    if arm.sft.revises and not arm.revise.model:
        yield from revision_requests(arm, prompts, constitution)
    if arm.rl.method == "self_distil":
        teacher = TeacherContext.of(constitution, arm.rl.distil, arm.seed)
        for prompt in prompts:
            yield teacher.chat(prompt, arm.policy.system, *((ANSWER, ANSWER) if teacher.critiquing else ()))
            if asked := teacher.critique_chat(prompt, ANSWER):
                yield asked
    if arm.pairs.source == "opposed":
        template = load_template("contrast")
        for prompt in prompts:
            yield template.render(messages=prompt.messages, principle=constitution.contrasting[0], side="for")


def revision_requests(arm: Arm, prompts: Sequence[Prompt], constitution: Constitution) -> Iterator[Chat]:
    """What is asked of whoever revises: critiques and revisions, with the worked rounds before them."""
    given = revising(constitution, arm.revise, arm.seed)
    wording = given["by"].wording
    for prompt in prompts:
        task = RevisionTask(prompt.id, prompt.messages, ANSWER, given["principles"][0])
        if wording.critique:
            yield critique_chat(wording, task)
        yield revision_chat(wording, task, OTHER)


def check_reviser(arm: Arm, prompts: Sequence[Prompt], constitution: Constitution) -> None:
    """A reviser that is not the policy (`revise.model`): it is asked for critiques and revisions alone."""
    source = reviser_of(arm.revise)
    if source is None or source.hosted:
        return
    ids: set[int] = set()
    try:
        tokenizer, config = (load_tokenizer(source), None) if source.server else read_model(source)
        for chat in revision_requests(arm, kinds_of(prompts), constitution):
            ids |= {*chat_ids(tokenizer, with_system(chat, arm.policy.system), answer=True)}
    except UserError as error:
        if error.where != "template":
            raise
        raise UserError(error.problem, "model", "use a model with a chat template of its own") from None
    if config:
        check_vocabulary(tokenizer, config, ids)
        check_ending(source, tokenizer)


def check_vocabulary(tokenizer: Any, config: Any, ids: Iterable[int]) -> None:
    known = config.get_text_config().vocab_size
    pad = tokenizer.pad_token_id
    if pad >= known:
        raise UserError(
            f'the padding token "{tokenizer.pad_token}" has number {pad}, and the model knows {known} tokens',
            "model",
            "remove it from the tokenizer (another is then used), or save the model with as many embeddings",
        )
    beyond = sorted(token for token in ids if token >= known)
    if beyond:
        names = ", ".join(map(str, tokenizer.convert_ids_to_tokens(beyond[:3])))
        problem = f"the tokenizer writes tokens that the model does not know: {names} ({known} are known)"
        raise UserError(problem, "model", "use the tokenizer that belongs to the model")


def check_ending(source: ModelRef, tokenizer: Any) -> None:
    """Something must end an answer: an end-of-text token, the template's own, or one that the model's settings name."""
    from transformers import GenerationConfig

    from cai.models.engines.sampling import stop_ids

    place = Path(local(source))
    base = base_of(place) if is_adapter(place) else source
    try:
        settings = GenerationConfig.from_pretrained(local(base), revision=base.commit or "main")
    except OSError as error:
        if (Path(local(base)) / "generation_config.json").is_file():
            problem = f"its generation_config.json cannot be read: {str(error).splitlines()[0][:200]}"
            raise UserError(problem, "model", "mend the file, or remove it") from None
        settings = GenerationConfig()
    if not stop_ids(SimpleNamespace(generation_config=settings), tokenizer):
        raise UserError(
            "nothing ends an answer of this model: neither its tokenizer nor its chat template has a token for it",
            "model",
            "name an eos_token in its tokenizer, or give another template (`template: plain` writes eos_token)",
        )


def check_lengths(arm: Arm, config: Any) -> None:
    """No row may be longer than the model reads. Raises UserError for the first that is."""
    limit, rl, evaluation = length_limit(config), arm.rl, arm.evaluate
    lengths = {"sft.max_length": arm.sft.max_length}
    if rl.reads_labels:
        lengths["reward.max_length"] = arm.reward.max_length
    if evaluation.harmfulness:
        lengths["evaluate.harmfulness.max_length"] = evaluation.harmfulness.max_length
    for key, tokens in lengths.items():
        if tokens > limit:
            raise UserError(
                f"{key} is {tokens} tokens, and {arm.policy.model} reads {limit}", key, f"write {limit} or less"
            )
    if rl.is_online and rl.max_prompt_tokens + rl.max_new_tokens > limit:
        raise UserError(
            f"prompts of {rl.max_prompt_tokens} tokens and answers of {rl.max_new_tokens} "
            f"(rl.max_new_tokens) are more than the {limit} that {arm.policy.model} reads",
            "rl.max_prompt_tokens",
            f"together they may be {limit}",
        )


def check_networks(arm: Arm, source: ModelRef) -> None:
    """The networks that trainings make of the start model: LoRA, critic, a head for rewards."""
    policy, adapter = arm.policy, is_adapter(Path(local(source)))
    given = (policy.lora_rank, policy.lora_layers) if policy.training == "lora" and not adapter else None
    rewards = bool(arm.rl.reads_rewards or arm.evaluate.harmfulness)
    _build(source, given, arm.rl.has_critic, rewards)


@lru_cache(maxsize=64)
def _build(source: ModelRef, adapter: tuple[int, int | None] | None, critic: bool, rewards: bool) -> None:
    """Once for each model and what is made of it. adapter: rank and layers of a new one."""
    from accelerate import init_empty_weights
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    config = copy.deepcopy(read_model(source)[1])
    with _as_fault("this model cannot be trained here"), init_empty_weights(include_buffers=False):
        network: Any = AutoModelForCausalLM.from_config(config)
        if critic:
            head_width(network)
        if adapter:
            get_peft_model(network, lora(network, *adapter))
    if not rewards:
        return
    with _as_fault("no reward model can be made of this model"):
        ensure_reward_head(config)
        config.num_labels = 1
        with init_empty_weights(include_buffers=False):
            scored: Any = AutoModelForSequenceClassification.from_config(config)
            if not hasattr(scored, HEAD):
                raise UserError(f"its head for sequences is not called {HEAD}", "model", "use another model")
            if adapter:
                get_peft_model(scored, lora(scored, *adapter, reward=True))


# 2. Judges ------------------------------------------------------------------------------------------------------------


def check_judge(judge: Judge, prompts: Sequence[Prompt], constitution: Constitution) -> None:
    """Every method's questions are rendered whole, and their options told apart; what is to be run may run here."""
    model = model_of(judge)
    judged_by = AskedJudge(judge, model, (), {}, "float32", 0).under(constitution)
    if model.hosted:  # which renders for itself
        return
    # Of what is served no weights need to be here.
    tokenizer, config = (load_tokenizer(model), None) if model.server else read_model(model)
    principles, templates = judged_by.principles, judged_by.templates
    shown = [principle for principle in principles if principle.prefer][:1]  # the others are checked by programs
    ids: set[int] = set()
    for prompt in kinds_of(prompts):
        pair = Pair("sample", prompt, ANSWER, OTHER)
        for method in methods_of(judge):
            for principle in shown:
                ids |= _asked(method, pair, principle, templates, tokenizer, judge)
        if judge.method == RUBRIC:
            sample = RubricItem("It is kind.", 1.0, "sample", only_if="It is an answer.")
            asked = asked_of(prompt.messages, ANSWER, [sample], templates)
            ids |= _tokens([question for each in asked for question in each.questions], tokenizer, judge)
        both = sides(pair, judged_by.order.limits, judge, templates)
        ids |= _tokens([look.question for each in both for look in each if look.question], tokenizer, judge)
    if config:
        check_vocabulary(tokenizer, config, ids)


def _asked(
    method: str, pair: Pair, principle: Judging, templates: Templates, tokenizer: Any, judge: Judge
) -> set[int]:  # fmt: skip
    """Ids of all that a method asks about a pair."""
    ids: set[int] = set()
    ways = METHODS[method]
    papers = ways.ballots(pair, principle, templates) if ways.ballots else []
    if thinking := ways.thinking:
        reply = Reply("The first one is kinder.", "stop")
        for order, chat in thinking.chats(pair, principle, templates):
            ids |= {*chat_ids(tokenizer, with_system(chat, judge.system), answer=True)}
            papers.append(thinking.ballot(principle.name, order, chat, reply, templates))
    return ids | _tokens([question for paper in papers for question in paper.questions], tokenizer, judge)


def _tokens(questions: Iterable[Question], tokenizer: Any, judge: Judge) -> set[int]:
    ids: set[int] = set()
    for question in questions:
        chat = with_system(question.chat, judge.system)
        start, tails = option_ids(tokenizer, chat, question.lead, question.options)
        ids |= {*start, *(token for tail in tails for token in tail)}
    return ids


def slims(arm: Arm, runtime: Runtime, plan: bool) -> list[Callable[[], object]]:
    """Can the judge be slimmed as the config says, on this machine? A plan may be made for another one."""

    def look() -> None:
        assert arm.judge.slim
        try:
            check_slimming(model_of(arm.judge), arm.judge.slim, pick_device(runtime.device))
        except UserError as error:
            raise UserError(error.problem, f"judge.{error.where}", error.remedy) from None

    return [look] if arm.judge.slim and "ai" in arm.labels.all and not plan else []


def check_reward_model(name: str) -> None:
    """`rl.gold.by`, `moderation.classifier`: a reward model, with a chat template to read answers by."""
    source = find(name)
    place = Path(local(source))
    _, config = read_model(source)
    kinds = [adapter_settings(place).get("task_type")] if is_adapter(place) else list(config.architectures or ())
    if not any("SEQ_CLS" in str(kind) or "SequenceClassification" in str(kind) for kind in kinds):
        raise UserError(f'"{name}" is no reward model: it has no head for rewards', "model", "give another")
