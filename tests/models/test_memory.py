"""What a model takes of a device's memory: by hand, and within 15% of what is counted on fake tensors."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from counting import step_bytes
from transformers import GPT2Config, LlamaConfig

from cai.models import memory
from cai.models.memory import Batch, Learning
from cai.models.shapes import shape_of
from cai.train.rl.critic import add_critic
from cai.train.rl.ppo_math import logprobs_and_entropy

# Four blocks of Llama 7B, of Qwen 2.5 7B (a wide MLP, four heads for keys and values), and of SmolLM2-135M.
LLAMA = LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=4, num_attention_heads=32)
QWEN = LlamaConfig(
    hidden_size=3584, intermediate_size=18944, num_hidden_layers=4, num_attention_heads=28, num_key_value_heads=4
)
SMOL = LlamaConfig(
    hidden_size=576, intermediate_size=1536, num_hidden_layers=4, num_attention_heads=9, num_key_value_heads=3,
    vocab_size=49_152, tie_word_embeddings=True,
)  # fmt: skip
GPT2 = GPT2Config(n_embd=768, n_layer=4, n_head=12, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
LORA, FULL = Learning("lora", "bfloat16", rank=64), Learning("full", "bfloat16")
WAYS = {
    "lora": LORA,
    "lora, last two": replace(LORA, layers=2),
    "lora, checkpointing": replace(LORA, checkpointing=True),
    "lora, float32": replace(LORA, dtype="float32"),
    "full": FULL,
    "full, checkpointing": replace(FULL, checkpointing=True),
    "full, accumulating": replace(FULL, accumulates=True),
    "full, float32": replace(FULL, dtype="float32"),
}
ROWS, WIDTH = 4, 512


def network(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def trunk(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Of the last hidden states and of the head's weights: what TRL's chunked head leaves of the model's memory."""
    base = network(model)
    states = getattr(base, base.base_model_prefix)(input_ids=ids, use_cache=False).last_hidden_state
    return states.float().mean() + base.get_output_embeddings().weight.mean()


def ppo(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The policy's and the critic's loss on the last half of each row."""
    chosen = torch.arange(ids.size(1) // 2 - 1, ids.size(1) - 1)
    output = model(input_ids=ids, use_cache=False, logits_to_keep=chosen, with_values=True)
    logprobs, _ = logprobs_and_entropy(output["logits"], ids[:, ids.size(1) // 2 :], 1.0)
    return logprobs.mean() + output["values"].mean()


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(LLAMA, id="llama"),
        pytest.param(SMOL, id="smol", marks=pytest.mark.slow),
        pytest.param(QWEN, id="qwen", marks=pytest.mark.slow),
        pytest.param(GPT2, id="gpt2", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_a_step_of_training(config, way):
    how, shape = WAYS[way], shape_of(config.to_dict())
    counted = step_bytes(config, how, (ROWS, WIDTH), trunk)
    assert memory.training(shape, how, Batch(ROWS * WIDTH)) == pytest.approx(counted, rel=0.15)


@pytest.mark.parametrize(
    "config", [pytest.param(LLAMA, id="llama"), pytest.param(SMOL, id="smol", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("way", ["lora", "lora, checkpointing", "full"])
def test_a_step_of_ppo(config, way):
    how, shape = WAYS[way], shape_of(config.to_dict())
    logits = memory.choices(shape, how, ROWS * WIDTH / 2)
    counted = step_bytes(config, how, (ROWS, WIDTH), ppo, lambda model: add_critic(network(model)))
    assert memory.training(shape, how, Batch(ROWS * WIDTH, states=True, head=logits)) == pytest.approx(
        counted, rel=0.15
    )
