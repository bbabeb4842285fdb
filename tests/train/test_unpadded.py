"""Batches that are read without padding, and prompts that are read once, come out as padded ones, with their gradients;
and LoRA's own layers as PEFT's."""

from typing import Any

import pytest
import torch
import zoo
from peft import get_peft_model

from cai.models.architectures import lora
from cai.models.trunk import States, read_once
from cai.train.quick_lora import quicken
from cai.train.still import without_dropout
from cai.train.unpadded import PackedRows, read_unpadded, trie

PROMPT = [5, 6, 7, 8, 9, 10]
ROWS = [[*PROMPT, 11, 12, 13, 14, 15], [*PROMPT, 11, 9], [20, 21, 22], [*PROMPT, 30], [20, 21, 23, 24]]
# Those whose attention goes through transformers' interface, with places that they are given, and sees whole rows.
PACKED = {
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3", "gemma3-multimodal", "mixtral", "qwen2-moe", "phi",
    "phi3-longrope", "stablelm", "starcoder2", "olmo2", "cohere", "gpt2", "gpt-neox", "gpt-bigcode", "gptj", "codegen",
    "opt", "opt-350m", "biogpt",
}  # fmt: skip


def network(name: str, layers: int | None = None, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    plain: Any = zoo.network_of(name, zoo.tokenizer_of("chatml"))
    without_dropout(plain)
    wrapped: Any = get_peft_model(plain, lora(plain, 2, layers))
    draws = torch.Generator().manual_seed(seed)
    for weight in wrapped.parameters():
        if weight.requires_grad:
            weight.data = torch.randn(weight.shape, generator=draws) * 0.1
    return wrapped


def batch(side: str = "right", rows: list[list[int]] = ROWS) -> dict[str, Any]:
    width = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        where = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[place, where], mask[place, where] = torch.tensor(row), 1
    given = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    return given if side == "right" else given | {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def results(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities of what is shown, and the gradients of a loss in which every place has another weight."""
    model.zero_grad()
    shown = inputs["attention_mask"].bool()
    logprobs = model(**inputs).logits.float()[shown].log_softmax(-1)
    weights = torch.arange(logprobs.numel()).view_as(logprobs).cos()
    (logprobs * weights).mean().backward()
    return logprobs.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_alike(one: Any, other: Any, within: float = 2e-5) -> None:
    assert torch.allclose(one[0], other[0], atol=5 * within), (one[0] - other[0]).abs().max()
    assert one[1].keys() == other[1].keys() and one[1]
    for name, gradient in one[1].items():
        scale = other[1][name].abs().max().clamp(min=1e-3)
        assert (gradient - other[1][name]).abs().max() <= within * 10 * scale, name


def test_what_rows_begin_with_by_hand() -> None:
    assert trie([[1, 2, 3], [1, 2, 4], [5], [1, 2, 4, 6], [1, 2, 3]]) == ([0, 0, 2, 1, 0], [0, 2, 0, 3, 3])


def test_where_tokens_are_by_hand() -> None:
    layout = PackedRows([[1, 2, 3], [1, 2, 4, 5]], torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]))
    assert layout.ids.tolist() == [[1, 2, 3, 4, 5]] and layout.positions.tolist() == [[0, 1, 2, 2, 3]]
    assert layout.place_R.tolist() == [0, 1, 2, 0, 0, 1, 3, 4] and layout.caller_BT.tolist()[0] == [0, 0, 1, 2]
    rows = layout.rows(torch.tensor([[10.0], [20.0], [30.0], [40.0], [50.0]]))
    assert rows.squeeze(-1).tolist() == [[10, 20, 30, 10], [10, 20, 40, 50]]
    assert layout.packed(rows).squeeze(-1).tolist() == [10, 20, 30, 40, 50]
    # Of the caller's places of a token the first counts, whatever stands at the others.
    given = torch.tensor([[[0.0], [1.0], [2.0], [3.0]], [[7.0], [8.0], [4.0], [5.0]]])
    assert layout.pack(given).squeeze(-1).tolist() == [[1, 2, 3, 4, 5]]
    # A token's gradient is the sum over the rows that have it; what only fills up has none.
    gradient = layout.gradient(torch.tensor([[[1.0], [2.0], [3.0], [99.0]], [[10.0], [20.0], [30.0], [40.0]]]))
    assert gradient.squeeze(-1).tolist() == [11, 22, 3, 30, 40]


@pytest.mark.parametrize("name", zoo.ARCHITECTURES)
def test_every_architecture_comes_out_the_same(name: str) -> None:
    if name in ("rwkv",):
        pytest.skip("LoRA is not put on it")
    model = network(name)
    for side in ("right", "left"):
        inputs = batch(side)
        expected = results(model, inputs)
        unpadded = read_unpadded(model)
        own = results(model, inputs)
        assert (unpadded is not None) == (name in PACKED)
        if unpadded is not None:
            assert unpadded.read == (name != "gemma3-multimodal")  # whose body is given embeddings
            assert_alike(own, expected)
            unpadded.on = False


def test_a_body_without_settings_is_left_alone() -> None:
    """As CPM-Ant's, whose blocks are in a module that knows no config."""

    class Blocks(torch.nn.Module):
        def __init__(self, layers: torch.nn.ModuleList) -> None:
            super().__init__()
            self.layers = layers

    plain: Any = zoo.network_of("llama", zoo.tokenizer_of("chatml"))
    plain.model = Blocks(plain.model.layers)
    assert read_unpadded(plain) is None


def test_with_what_lies_below_lora_read_once() -> None:
    inputs = batch()
    expected = results(network("llama", 1), inputs)
    model = network("llama", 1)
    unpadded, trunk = read_unpadded(model), read_once(model, "base", States())
    assert unpadded and trunk
    for _ in range(2):
        assert_alike(results(model, inputs), expected)
    assert trunk.sound and unpadded.read == 2


def test_a_batch_without_padding_is_left_alone() -> None:
    model = network("llama")
    unpadded = read_unpadded(model)
    assert unpadded
    results(model, batch(rows=[[1, 2, 3], [4, 5, 6]]))
    assert unpadded.read == 0
    longer = [[*range(2, 60)] * 2, [3]]
    unpadded.window = 64
    results(model, batch(rows=longer))
    assert unpadded.read == 0


@pytest.mark.parametrize("name", zoo.ARCHITECTURES)
def test_loras_layers_come_out_as_pefts(name: str) -> None:
    if name in ("rwkv",):
        pytest.skip("LoRA is not put on it")
    model, inputs = network(name), batch()
    expected = results(model, inputs)
    count = quicken(model)
    assert count or name in ("gpt2", "gpt-bigcode", "mpt", "mamba", "gpt-neo", "falcon")
    assert_alike(results(model, inputs), expected)
    with model.disable_adapter():
        off = model(**inputs).logits
    assert not torch.allclose(off, model(**inputs).logits)
