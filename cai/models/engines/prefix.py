"""What all prompts of a batch begin with - worked rounds, a system prompt - is read once, and goes on as each of them.

A critique after six worked rounds has some 1,100 tokens that it shares with every other critique, and 60 of its own.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from cai.models.architectures import attention_window, probed
from cai.models.engines.recorded import cache_name
from cai.models.engines.sampling import Past, left_padded, settings_of_its_own

LEAST = 64  # tokens in common: for fewer, one more forward pass is not worth it


def common_prefix(rows: Sequence[list[int]]) -> int:
    """How many tokens all rows begin with, less the last of the shortest row, which has to be read to go on from."""
    first, last = min(rows), max(rows)  # those that differ soonest
    most = min(map(len, rows)) - 1
    return next((place for place in range(most) if first[place] != last[place]), most)


@torch.no_grad()
def read_prefix(model: Any, rows: Sequence[list[int]], pad: int, new: int) -> Past | None:
    """The keys and values of what the rows have in common, once for each row; None where that is too little, or where
    this model would go on otherwise than from the whole row (recurrent states, windows). new: tokens to be written."""
    count = common_prefix(rows) if len(rows) > 1 else 0
    if count < LEAST or not _goes_on_alike(model, max(map(len, rows)) + new, pad):
        return None
    return _read(model, rows[0][:count], len(rows), pad)


def _read(model: Any, prefix: list[int], copies: int, pad: int) -> Past:
    once = GenerationConfig(max_new_tokens=1, return_dict_in_generate=True, pad_token_id=pad)
    with settings_of_its_own(model):
        cache = model.generate(**left_padded([prefix], pad, model.device), generation_config=once).past_key_values
    cache.batch_repeat_interleave(copies)
    return Past(len(prefix), cache, cache_name(model))


def _goes_on_alike(model: Any, longest: int, pad: int) -> bool:
    """Whether rows of two lengths go on from a prefix as each does from its whole; tried once for each model.

    longest: of the rows, with what is written behind them. Where attention has a window, a cache may hold less than
    was read; and the padding between a prefix and a row's own part fills the window, which padding on the left does
    not: a short row would lose sight of its beginning too soon.
    """
    if longest >= attention_window(model.config):
        return False
    known = probed(model)
    if "prefix" not in known:
        vocabulary = model.config.get_text_config().vocab_size
        prefix = [(11 * k + 2) % vocabulary for k in range(1, LEAST + 1)]
        rows = [prefix + [(step * k + 1) % vocabulary for k in range(1, more)] for step, more in ((7, 4), (5, 10))]
        within = 0.01 if model.dtype == torch.float32 else 0.5
        try:
            together = _ahead(model, rows, pad, _read(model, prefix, 2, pad))
        except Exception:  # whatever a model makes of a cache that it was given
            known["prefix"] = False
        else:
            apart = torch.cat([_ahead(model, [row], pad, None) for row in rows])
            known["prefix"] = bool((together - apart).abs().max() <= within)
    return known["prefix"]


def _ahead(model: Any, rows: Sequence[list[int]], pad: int, past: Past | None) -> torch.Tensor:
    """(B, V) log-probabilities of the next token."""
    once = GenerationConfig(max_new_tokens=1, output_logits=True, return_dict_in_generate=True, pad_token_id=pad)
    with settings_of_its_own(model):
        output = model.generate(**left_padded(rows, pad, model.device, past), generation_config=once)
    return output.logits[0].float().log_softmax(-1)
