"""Reward models of a training read a prompt once for its answers, and no padding; their scores are the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from peft import PeftModel, get_peft_model
from test_ppo_usage import ANSWERED, ASKED
from test_score import tiny_reward_model, tiny_tokenizer
from test_unpadded import PACKED
from transformers import AutoModelForSequenceClassification

from cai.core.records import Message
from cai.models.architectures import ensure_reward_head, lora
from cai.models.score import score, score_rows
from cai.train.rl.reward_models import reward_function
from cai.train.still import without_dropout
from cai.train.thrift import thrifty


def reward_network(name: str) -> Any:
    """With an adapter that says something, and a head that does."""
    torch.manual_seed(0)
    config = zoo.network_of(name, zoo.tokenizer_of("chatml")).config
    ensure_reward_head(config)
    config.num_labels = 1
    plain: Any = AutoModelForSequenceClassification.from_config(config)
    without_dropout(plain)
    for weight in plain.parameters():
        if weight.dim() >= 2:
            torch.nn.init.normal_(weight, std=0.15)
    wrapped: Any = get_peft_model(plain, lora(plain, 2, None, reward=True))
    for weight in wrapped.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    return wrapped.eval()


@pytest.mark.parametrize("name", sorted(PACKED - {"gemma3-multimodal"}))
def test_scores_of_every_architecture_are_the_same(name: str) -> None:
    """Of answers of unlike length to two prompts, in batches that hold three and two of them."""
    one, two = list(range(5, 17)), [40, 41, 42, 43, 44]
    rows = [[*one, 61, 62], [*one, 63], [*one, *range(70, 79)], [*two, 64], [*two, 65, 66]]
    model, tokenizer = reward_network(name), zoo.tokenizer_of("gemma")
    limits: dict[str, Any] = {"max_length": 99, "batch_tokens": 63}
    expected = score_rows(model, tokenizer, rows, **limits)
    assert thrifty(model)
    read: list[int] = []
    body = getattr(model.get_base_model(), model.get_base_model().base_model_prefix)
    body.get_input_embeddings().register_forward_hook(lambda _, args, output: read.append(args[0].numel()))
    known: Any = score_rows(model, tokenizer, rows, **limits, packs=True)
    assert known == pytest.approx(expected, abs=1e-4)
    assert max(known) - min(known) > 0.01
    assert read == [12 + 2 + 1 + 9, 5 + 1 + 2]


@pytest.mark.parametrize("kind", ["adapter", "whole"])
def test_a_reward_model_that_is_named_reads_a_prompt_once(tmp_path: Path, kind: str) -> None:
    model: Any = tiny_reward_model()
    if kind == "adapter":
        model.save_pretrained(tmp_path / "base")
        tiny_tokenizer().save_pretrained(tmp_path / "base")
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
        model = get_peft_model(model, lora(model, 2, None, reward=True))
        for weight in model.parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(tmp_path / "reward")
    tiny_tokenizer().save_pretrained(tmp_path / "reward")
    reward = reward_function(str(tmp_path / "reward"), None, "cpu")
    chats = [(Message("user", p[0]["content"]), Message("assistant", a[0]["content"])) for p, a in pairs()]
    expected = score(model.eval(), tiny_tokenizer(), chats, max_length=99, batch_tokens=99)
    held: Any = next(cell.cell_contents for cell in reward.__closure__ or () if hasattr(cell.cell_contents, "config"))
    read: list[int] = []
    network = held.get_base_model() if isinstance(held, PeftModel) else held
    network.model.embed_tokens.register_forward_hook(lambda _, args, output: read.append(args[0].numel()))
    prompts, answers = (list(part) for part in zip(*pairs(), strict=True))
    assert reward(prompts, answers) == pytest.approx(expected, abs=1e-5)
    # Twelve tokens; an answer of three words and its end; behind a turn's beginning the other prompt; its other answer.
    assert read == [12 + 5 + 10 + 5]


def pairs() -> list[tuple[Any, Any]]:
    return [(prompt, answer) for prompt in ASKED for answer in ANSWERED]
