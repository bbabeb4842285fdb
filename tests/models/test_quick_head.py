"""A head that is laid out answers as it does itself, while a rollout is sampled and no longer."""

from typing import Any

import pytest
import torch
import zoo
from torch import nn

from cai.models.engines import Sampling, quick_head
from cai.models.engines.quick_head import head_laid_out
from cai.models.engines.sampling import sample_ids

ROWS, SEEDS = [[5, 9, 2, 7], [3, 1, 4, 1, 5, 9], [8, 8, 3]], [11, 12, 13]


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_head, "LEAST_WEIGHTS", 0)


def sampled(model: Any, sampling: Sampling) -> list[list[int]]:
    with torch.no_grad():
        return sample_ids(model, ROWS, SEEDS, sampling, 0, set())


@pytest.mark.parametrize("name", zoo.ARCHITECTURES)
def test_every_architecture_samples_the_same(name: str) -> None:
    model: Any = zoo.network_of(name, zoo.tokenizer_of("chatml")).eval()
    head, outputs = model.get_output_embeddings(), []
    for sampling in (Sampling(16, 0.0), Sampling(16, 1.0)):
        every = sampled(model, sampling)
        with head_laid_out(model, 16):
            own = vars(head)["forward"]
            vars(head)["forward"] = lambda states, own=own: outputs.append(states.shape[0]) or own(states)
            assert sampled(model, sampling) == every
        assert "forward" not in vars(head) and outputs


@pytest.mark.parametrize("bias", [True, False])
def test_the_product_is_the_heads_own(bias: bool) -> None:
    torch.manual_seed(0)
    model: Any = zoo.network_of("llama", zoo.tokenizer_of("chatml"))
    head = nn.Linear(32, 300, bias=bias)
    model.set_output_embeddings(head)
    few, many = torch.randn(4, 1, 32), torch.randn(5, 20, 32)
    with head_laid_out(model, 16):
        assert "forward" in vars(head)
        with torch.no_grad():
            for states in (few, many, few.transpose(0, 2).contiguous().transpose(0, 2)):
                expected = nn.functional.linear(states, head.weight, head.bias)
                assert torch.allclose(head(states), expected, atol=1e-5)
        assert head(few).requires_grad, "what needs gradients is computed plainly"


@pytest.mark.parametrize("case", ["bfloat16", "few steps", "no room", "other product"])
def test_it_is_left_alone(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = zoo.network_of("llama", zoo.tokenizer_of("chatml"))
    if case == "bfloat16":
        model = model.to(torch.bfloat16)
    if case == "no room":
        monkeypatch.setattr(quick_head, "free_memory", lambda: 1000.0)
    if case == "other product":
        monkeypatch.setattr(quick_head, "_laid_out", lambda head: lambda states: head(states) * 1.01)
    with head_laid_out(model, 15 if case == "few steps" else 16):
        assert "forward" not in vars(model.get_output_embeddings())
