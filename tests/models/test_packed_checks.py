"""How a packed layer's product is held against the plain one, on any CPU: the product is a stand-in."""

from typing import Any

import pytest
import torch

from cai.models.engines import packed

WIDTH = 64


def test_a_product_that_rounds_otherwise_once_in_ten_thousand_numbers_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The 157th product of a row of 64 has another last number, and every 157th after it: one number in 10,048."""
    layer, calls = torch.nn.Linear(WIDTH, WIDTH, dtype=torch.bfloat16), []

    def product(states: torch.Tensor, weight: Any, bias: Any, *_: Any) -> torch.Tensor:
        calls.append(1)
        outcome = torch.nn.functional.linear(states, weight, bias)
        if len(calls) % 157 == 0:
            outcome[..., -1] += 1
        return outcome

    monkeypatch.setattr(packed, "_left", {})
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", lambda weight, rows: weight, raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", product, raising=False)
    quick, draws = packed.PackedLayer(layer), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(400):
            states = torch.randn(1, WIDTH, generator=draws).to(torch.bfloat16)
            assert torch.equal(quick.answer(states), layer(states))
    assert len(calls) == 157 and [*packed._left.values()] == [packed.DIFFERS]


def test_a_product_that_never_differs_is_trusted_after_so_many_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, plainly = torch.nn.Linear(WIDTH, WIDTH, dtype=torch.bfloat16), []
    monkeypatch.setattr(packed, "_left", {})
    monkeypatch.setattr(packed, "CHECKS", 10 * WIDTH)
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", lambda weight, rows: weight, raising=False)
    linear = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.ops.mkldnn, "_linear_pointwise", lambda x, weight, bias, *_: linear(x, weight, bias), raising=False
    )
    quick: Any = packed.PackedLayer(layer)
    own = quick._plain
    quick._plain = lambda states: plainly.append(1) or own(states)
    with torch.no_grad():
        for _ in range(14):
            quick.answer(torch.ones(1, WIDTH, dtype=torch.bfloat16))
    assert len(plainly) == 10
