"""Rows that are alike are read once, and are sampled as where all of them are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import zoo
from transformers.cache_utils import DynamicLayer

from cai.models.engines import Sampling, repeats
from cai.models.engines.repeats import repeats_read_once
from cai.models.engines.sampling import sample_ids

SHORT, LONG, OTHER = [5, 9, 2, 7], [3, 1, 4, 1, 5, 9, 2, 6, 5], [8, 8, 3, 1, 4, 6]
ROWS = [LONG, SHORT, LONG, LONG, OTHER, SHORT]
SEEDS = [11, 12, 13, 14, 15, 16]
OLD_WAY = ("rwkv", "mamba")  # whose state is no keys and values


@contextmanager
def rows_read(model: Any) -> Iterator[list[tuple[int, int]]]:
    """Within: (rows, tokens of each) of every forward of the body."""
    shapes: list[tuple[int, int]] = []
    body = model.get_decoder()
    hook = body.register_forward_hook(lambda _, args, kwargs, output: shapes.append(shape_of(output)), with_kwargs=True)
    try:
        yield shapes
    finally:
        hook.remove()


def shape_of(output: Any) -> tuple[int, int]:
    states = output[0] if isinstance(output, tuple) else output.last_hidden_state
    return states.shape[0], states.shape[1]


def sampled(model: Any, sampling: Sampling, rows: list[list[int]] = ROWS) -> list[list[int]]:
    with torch.no_grad():
        return sample_ids(model, rows, SEEDS[: len(rows)], sampling, 0, set())


@pytest.mark.parametrize("name", zoo.ARCHITECTURES)
def test_every_architecture_samples_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are shorter than what is written."""
    if "sliding_window" in zoo.ARCHITECTURES[name][1]:
        monkeypatch.setitem(zoo.ARCHITECTURES[name][1], "sliding_window", 8)
    model: Any = zoo.network_of(name, zoo.tokenizer_of("chatml")).eval()
    for sampling in (Sampling(12, 0.0), Sampling(12, 1.0)):
        every = sampled(model, sampling)
        with repeats_read_once(model, 0), rows_read(model) as shapes:
            assert sampled(model, sampling) == every
        if name != "rwkv":  # which reads rows of one length at a time
            assert shapes[0][0] == (6 if name in OLD_WAY else 3) and {rows for rows, _ in shapes[1:]} == {6}
    assert model.probed["repeats"] == (name not in OLD_WAY)
    assert not model._forward_hooks and not model._forward_pre_hooks


def test_which_rows_are_alike_by_hand() -> None:
    assert repeats._first_of_each([[1, 2], [3], [1, 2], [3], [4]]) == ([0, 1, 4], [0, 1, 0, 1, 2])


def test_rows_that_differ_in_padding_alone_are_not_alike() -> None:
    """The shorter row's padding is the longer one's first token."""
    model: Any = zoo.network_of("llama", zoo.tokenizer_of("chatml")).eval()
    rows = [[0, *SHORT], SHORT, SHORT]
    every = sampled(model, Sampling(6, 0.0), rows)
    with repeats_read_once(model, 0), rows_read(model) as shapes:
        assert sampled(model, Sampling(6, 0.0), rows) == every
    assert shapes[0] == (2, 5)


def test_rows_of_which_none_is_like_another_are_read_as_they_are() -> None:
    model: Any = zoo.network_of("llama", zoo.tokenizer_of("chatml")).eval()
    rows = [SHORT, LONG, OTHER]
    every = sampled(model, Sampling(3, 0.0), rows)
    with repeats_read_once(model, 0), rows_read(model) as shapes:
        assert sampled(model, Sampling(3, 0.0), rows) == every
    assert shapes == [(3, 9), (3, 1), (3, 1)]


def test_a_cache_that_is_laid_out_otherwise_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a model keeps something else of each row, that nobody lays out."""
    model: Any = zoo.network_of("llama", zoo.tokenizer_of("chatml")).eval()
    every = sampled(model, Sampling(6, 0.0))
    behind = repeats.ReadOnce.behind

    def mixed(self: Any, *args: Any) -> Any:
        output = behind(self, *args)
        if self.index_B is not None:
            for layer in args[2][self.name].layers:
                assert type(layer) is DynamicLayer
                layer.values = layer.values.flip(0)
        return output

    monkeypatch.setattr(repeats.ReadOnce, "behind", mixed)
    with repeats_read_once(model, 0):
        assert sampled(model, Sampling(6, 0.0)) == every
    assert model.probed["repeats"] is False
