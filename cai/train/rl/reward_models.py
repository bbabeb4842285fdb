"""A reward model as a reward function: text in, one number an answer out, by the model's own tokenizer.

TRL's trainers take reward models too, but read them in another way than reward training does: all answers in one
batch, at whatever position the padding token points to. Here every reward model is read by `score`
(cai/models/score.py), and the
text is rendered anew for it: token ids of the policy mean nothing to another tokenizer.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from trl.data_utils import is_conversational

from cai.core.errors import UserError
from cai.core.records import Message
from cai.models.chat import text_ids
from cai.models.loading import pick_dtype
from cai.models.references import NO_CODE, find, local
from cai.models.score import render_scored, score_rows
from cai.train.rl.backbone import load_reward_on
from cai.train.thrift import thrifty


def reward_function(
    model: Any, tokenizer: PreTrainedTokenizerBase | None, device: str, batch_tokens: int = 4096, policy: Any = None
) -> Callable[..., list[float | None]]:
    """`f(prompts, completions, **_)` as TRL calls it; None for a conversation longer than the reward model can read.

    model: a sequence-classification model with one label, or its path (a folder, of a LoRA adapter as well, or a hub
    id); a path must have a chat template. tokenizer: the reward model's own; None: the one saved beside it. policy:
    what is trained; an adapter given by path uses its base weights where it can (backbone.py). Raises UserError for a
    model without a head that was trained.
    """
    name, given = model if isinstance(model, str) else str(model.config.name_or_path), model
    if isinstance(model, str):
        source = find(model)
        name = local(source)
        # Small models are loaded here; float32 costs little then, and bfloat16 would blur their rewards.
        model = load_reward_on(policy, source, "float32" if device == "cpu" else pick_dtype("auto", device), device)
        head = getattr(model, "score", None)
        if head is not None and not any(weight.any() for weight in head.parameters()):
            raise UserError("this is no reward model: it has no trained head", name, "train one, or give a function")
    if model.config.num_labels != 1:
        raise UserError(f"a reward model has one label, this one {model.config.num_labels}", name, "give another model")
    commit = getattr(model, "base_commit", None)  # of the hub: the tokenizer is that of the weights
    own: Any = tokenizer or AutoTokenizer.from_pretrained(name, revision=commit or "main", **NO_CODE)
    reader = with_padding(own)
    model = model.to(device).eval().requires_grad_(False)
    packs = isinstance(given, str) and thrifty(model)  # the answers to a prompt read it once; who gave a model keeps it
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or reader.model_max_length

    def reward(prompts: list[Any], completions: list[Any], **_: Any) -> list[float | None]:
        rows = [row_of(reader, prompt, answer) for prompt, answer in zip(prompts, completions, strict=True)]
        return score_rows(model, reader, rows, max_length=limit, batch_tokens=batch_tokens, packs=packs)

    reward.__name__ = name.rpartition("/")[2] or type(model).__name__
    return reward


def as_functions(rewards: list[Any], tokenizers: Any, device: str, policy: Any) -> list[Callable[..., Any]]:
    """Reward functions as they are; reward models and their paths as functions. tokenizers: of the models, in order."""
    tokenizers = tokenizers if isinstance(tokenizers, list) else [tokenizers] * len(rewards)
    with torch.random.fork_rng(devices=[]):  # a network draws weights before it is given its own
        return [
            reward_function(reward, tokenizer, device, policy=policy)
            if isinstance(reward, (str, torch.nn.Module))
            else reward
            for reward, tokenizer in zip(rewards, tokenizers, strict=True)
        ]


def not_yet(**_: Any) -> list[float]:
    """Stands for a reward model that is not loaded yet."""
    raise AssertionError("asked for a reward before the trainer was made")


def row_of(tokenizer: PreTrainedTokenizerBase, prompt: Any, answer: Any) -> list[int]:
    """Token ids of a prompt with its answer: two strings, or two lists of chat messages.

    A string may have been rendered already, so its marks of turns are its own (`text_ids`); the answer has none.
    """
    if is_conversational({"prompt": prompt}):
        return render_scored(tokenizer, tuple(Message(turn["role"], turn["content"]) for turn in [*prompt, *answer]))
    return text_ids(tokenizer, prompt, answer)


def with_padding(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, or a copy that pads with something else than its end of text: that would hide where a row ends."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return tokenizer
    tokenizer = copy.deepcopy(tokenizer)
    # Padding is masked, so any token will do that no row ends with; `score_ids` makes sure of that.
    others = (tokenizer.unk_token, tokenizer.bos_token, *tokenizer.convert_ids_to_tokens([0, 1]))
    tokenizer.pad_token = next(token for token in others if token is not None and token != tokenizer.eos_token)
    return tokenizer
