"""A prompt that stands several times among the rows of a batch is read once, and goes on as each of them.

Online RL samples several answers to each prompt. `generate` reads all rows, and of rows that are alike keys, values and
scores are alike: so its first forward is given each row once, and what it leaves is laid out for all of them. Rows are
padded, and stand where they stood, as in the whole batch; so windows see what they saw.

    rows        (B, W) tokens, padded on the left, as `generate` gives them to the model
    read        (D, W), D <= B: each row once
    left        logits (D, ...) and, in the cache, keys and values (D, ...), then of each of the B rows

A model whose cache holds something else (recurrent states), or that comes out otherwise, reads all rows, as ever. Only
rollouts ask for it: in bfloat16 another number of rows rounds otherwise, and what engines wrote must stay what it was.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from cai.models.architectures import probed
from cai.models.engines.recorded import cache_name
from cai.models.engines.sampling import left_padded, settings_of_its_own, whole_states

OF_ROWS = ("input_ids", "attention_mask", "position_ids")  # what a forward is given of each row


@contextmanager
def repeats_read_once(model: Any, pad: int) -> Generator[None]:
    """Within: where `sample_ids` is given rows that are alike, they are read once. On a CPU: a card has the room to
    read them side by side."""
    if model.device.type != "cpu" or not _goes_on_alike(model, pad):
        yield
        return
    with _once(_network(model)):
        yield


class ReadOnce:
    """Hooks before and behind the forward of a network. index_B: of each row, which of those that are read."""

    index_B: Tensor | None = None

    def __init__(self, name: str) -> None:
        """name: what the network calls its cache. times: how often rows were read once."""
        self.name, self.times = name, 0

    def before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        self.index_B = None
        cache, ids_BT = kwargs.get(self.name), kwargs.get("input_ids")
        if args or ids_BT is None or len(ids_BT) < 2 or type(cache) is not DynamicCache or cache.get_seq_length():
            return None
        more = {name: value for name, value in kwargs.items() if isinstance(value, Tensor) and value.dim() > 1}
        if not set(more) <= set(OF_ROWS) or any(len(value) != len(ids_BT) for value in more.values()):
            return None
        first, index = _first_of_each(list(zip(*(value.tolist() for value in more.values()), strict=True)))
        if len(first) == len(ids_BT):
            return None
        self.index_B = torch.tensor(index, device=ids_BT.device)
        read_D = torch.tensor(first, device=ids_BT.device)
        return args, kwargs | {name: value.index_select(0, read_D) for name, value in more.items()}

    def behind(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if self.index_B is None:
            return output
        layers = kwargs[self.name].layers
        if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
            raise TypeError("not plain attention")
        for layer in layers:
            layer.keys, layer.values = (part.index_select(0, self.index_B) for part in (layer.keys, layer.values))
        output.logits = output.logits.index_select(0, self.index_B)
        self.times += 1
        return output


def _first_of_each(rows: Sequence[Any]) -> tuple[list[int], list[int]]:
    """(places of the rows that no earlier one is like, for each row which of these it is like)."""
    first: list[int] = []
    index: list[int] = []
    for place, row in enumerate(rows):
        like = next((number for number, other in enumerate(first) if rows[other] == row), len(first))
        if like == len(first):
            first.append(place)
        index.append(like)
    return first, index


@contextmanager
def _once(network: nn.Module) -> Generator[ReadOnce]:
    once = ReadOnce(cache_name(network))
    hooks = (
        network.register_forward_pre_hook(once.before, with_kwargs=True),
        network.register_forward_hook(once.behind, with_kwargs=True),
    )
    try:
        yield once
    finally:
        for hook in hooks:
            hook.remove()


def _network(model: Any) -> Any:
    return getattr(model, "get_base_model", lambda: model)()


@torch.no_grad()
def _goes_on_alike(model: Any, pad: int) -> bool:
    """Whether rows, some of them alike, go on as they do where all are read; tried once for each model."""
    known = probed(model)
    if "repeats" not in known:
        vocabulary = model.config.get_text_config().vocab_size
        short, long, other = (
            [(step * k + 1) % vocabulary for k in range(1, count)] for step, count in ((7, 6), (5, 12), (3, 9))
        )
        rows = [short, long, short, other, long]
        try:
            every = _ahead(model, rows, pad)
            with _once(_network(model)) as once:
                read = _ahead(model, rows, pad)
        except Exception:  # whatever a model makes of a cache whose rows are others
            known["repeats"] = False
        else:
            within = 0.01 if model.dtype == torch.float32 else 0.5
            known["repeats"] = once.times == 1 and bool((every - read).abs().max() <= within)
    return known["repeats"]


def _ahead(model: Any, rows: Sequence[list[int]], pad: int) -> Tensor:
    """(2, B, V): log-probabilities of the next token, and of the one behind token `pad` where that was next."""
    forced = lambda _, scores: torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([pad]), 0.0)  # noqa: E731
    twice = GenerationConfig(
        max_new_tokens=2, do_sample=False, output_logits=True, return_dict_in_generate=True, pad_token_id=pad
    )
    with whole_states(model), settings_of_its_own(model):
        output = model.generate(
            **left_padded(rows, pad, model.device), generation_config=twice, logits_processor=[forced]
        )
    return torch.stack(output.logits).float().log_softmax(-1)
