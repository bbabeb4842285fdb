"""A cache that grows in place holds what one that is copied holds, whatever is done to it, and samples the same."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from cai.models.engines import Sampling, sampling
from cai.models.engines.growing import growing_in_place
from cai.models.engines.prefix import read_prefix
from cai.models.engines.sampling import sample_ids
from cai.models.loading import load_causal


def tokens(count: int, rows: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 3, count, 4), torch.randn(rows, 3, count, 4)


def same(one: Any, other: Any) -> bool:
    return torch.equal(one.keys, other.keys) and torch.equal(one.values, other.values)


def test_layers_hold_what_copied_ones_hold() -> None:
    torch.manual_seed(0)
    grows: Any = DynamicLayer()
    copied: Any = DynamicLayer()

    def both(count: int, rows: int = 2) -> None:
        new = tokens(count, rows)
        copied.update(*new)
        with growing_in_place(4):
            keys, values = grows.update(*new)
        assert torch.equal(keys, copied.keys) and torch.equal(values, copied.values) and same(grows, copied)

    both(5)
    place = grows.keys.data_ptr()
    for _ in range(4):  # the room that was set aside
        both(1)
    assert grows.keys.data_ptr() == place and grows.keys.shape == (2, 3, 9, 4)
    both(1)  # more than that
    assert grows.keys.data_ptr() != place
    for layer in (grows, copied):
        layer.crop(-3)
    both(2)
    for layer in (grows, copied):
        layer.batch_repeat_interleave(2)
    both(3, rows=4)
    for layer in (grows, copied):
        layer.reorder_cache(torch.tensor([3, 1, 0, 2]))
    both(1, rows=4)
    for layer in (grows, copied):
        layer.reset()
    both(2)


def test_rows_that_are_chosen_are_not_overwritten_by_what_shares_their_place() -> None:
    grows: Any = DynamicLayer()
    with growing_in_place(4):
        grows.update(*tokens(5, rows=3))
        kept = grows.keys.clone()
        grows.batch_select_indices(torch.tensor([0, 2]))
        new = tokens(1)
        grows.update(*new)
    assert torch.equal(grows.keys, torch.cat([kept[[0, 2]], new[0]], dim=-2))


def test_it_ends_whatever_happens_and_windows_are_as_ever() -> None:
    own = DynamicLayer.update
    with pytest.raises(ValueError), growing_in_place(4):
        raise ValueError
    assert DynamicLayer.update is own
    window: Any = DynamicSlidingWindowLayer(sliding_window=4)
    other: Any = DynamicSlidingWindowLayer(sliding_window=4)
    for count in (3, 1, 1, 1):
        new = tokens(count)
        other.update(*new)
        with growing_in_place(2):
            window.update(*new)
        assert same(window, other)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_sampled_is_the_same(
    tiny: Any, temperature: float, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_causal(tiny, "float32", "cpu").eval()
    start = [(7 * k) % 250 for k in range(70)] if shared else []
    rows = [[*start, *range(5, 5 + length)] for length in (4, 9, 6)]

    def drawn() -> list[list[int]]:
        with torch.inference_mode():
            past = read_prefix(model, rows, 0, 12) if shared else None
            assert (past is not None) == shared
            return sample_ids(model, rows, [1, 2, 3], Sampling(12, temperature), 0, set(), past)

    grown = drawn()
    monkeypatch.setattr(sampling, "growing_in_place", lambda room: nullcontext())
    assert drawn() == grown and [len(ids) for ids in grown] == [12, 12, 12]
