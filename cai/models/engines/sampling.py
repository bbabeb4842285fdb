"""Sampling from a causal language model, in batches: what the engine in process and the policies in training share.

A sample's draw comes from uniform numbers seeded by its own request (inverse transform sampling), so another batch,
another order or a resumed run draws the same words (up to the rounding of the forward pass, which in bfloat16 depends
on the padding).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from cai.core.records import Message
from cai.models.architectures import probed
from cai.models.chat import frame_of
from cai.models.engines import Reply, Sampling
from cai.models.engines.growing import growing_in_place
from cai.models.engines.packed import packed
from cai.models.engines.recorded import drawn, note_numbers


def stop_ids(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end a turn: the tokenizer's end-of-turn token, whatever the model's own settings add, and the token
    with which the chat template ends an answer."""
    own = model.generation_config.eos_token_id
    more = own if isinstance(own, list) else [own]
    frame = frame_of(tokenizer, (Message("user", ""),)) if tokenizer.chat_template else None
    behind = tokenizer(frame.behind, add_special_tokens=False)["input_ids"][:1] if frame and frame.behind else []
    more += [token for token in behind if token in tokenizer.added_tokens_decoder]
    return {token for token in [tokenizer.eos_token_id, *more] if token is not None}


@contextmanager
def whole_states(model: Any) -> Iterator[None]:
    """Within: the head is given states that lie together in memory.

    `generate` gives it the last of each prompt, a strided slice. On CPU that product then copies the vocabulary matrix
    for each row: 620 ms and 230 MB for four rows of SmolLM2-135M, against 7 ms.
    """
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]))
    try:
        yield
    finally:
        hook.remove()


@dataclass(frozen=True, slots=True)
class Past:
    """What was read of a batch before it is sampled (prefix.py): so many tokens that all its rows begin with.

    cache: their keys and values, once for each row; it grows as the batch is sampled. name: what the model calls it.
    """

    count: int
    cache: Any
    name: str = "cache"


def sample_ids(
    model: Any, rows: Sequence[list[int]], seeds: Sequence[int], sampling: Sampling, pad: int, stops: set[int],
    past: Past | None = None,
) -> list[list[int]]:  # fmt: skip
    """One sampled answer to each row of token ids, in one batch: its ids up to and with the one that ends the turn.

    Neither reads nor moves the global random state: every draw comes from the row's own seed.
    """
    lengths = {len(row) for row in rows}
    if past is not None or len(lengths) == 1 or reads_left_padding(model, pad):
        return _sampled(model, left_padded(rows, pad, model.device, past), seeds, sampling, pad, stops)
    answers: dict[int, list[int]] = {}
    for length in sorted(lengths):
        some = [place for place, row in enumerate(rows) if len(row) == length]
        alike = left_padded([rows[i] for i in some], pad, model.device)
        drawn = _sampled(model, alike, [seeds[i] for i in some], sampling, pad, stops)
        answers |= dict(zip(some, drawn, strict=True))
    return [answers[place] for place in range(len(rows))]


def stream_ids(
    model: Any, row: list[int], seed: int, sampling: Sampling, stops: set[int], take: Callable[[int], None]
) -> list[int]:
    """What `sample_ids` draws for a row alone. take: called with each token as it is drawn; what it raises ends it."""
    alone = left_padded([row], 0, model.device)  # nothing is padded
    return _sampled(model, alone, [seed], sampling, 0, stops, TokenStream(take))[0]


def _sampled(
    model: Any, inputs: dict[str, Any], seeds: Sequence[int], sampling: Sampling, pad: int, stops: set[int],
    stream: BaseStreamer | None = None,
) -> list[list[int]]:  # fmt: skip
    width = inputs["input_ids"].shape[1]
    last, sampler = LastScores(), None
    processors = LogitsProcessorList([last])
    if sampling.temperature > 0:
        sampler = SeededSampler(seeds, width, sampling, model.device)
        processors.append(sampler)
    if stream is None:
        draw = sampler.draw if sampler else lambda scores, _: scores.argmax(-1, keepdim=True)
        known = drawn(model, inputs, draw, sampling.max_new_tokens, pad, stops)
        if known is not None:
            return up_to_stop(known, stops)
    settings = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=False,  # SeededSampler has drawn already: it leaves one token possible
        pad_token_id=pad,
        eos_token_id=sorted(stops),
    )
    grows = growing_in_place(sampling.max_new_tokens) if model.device.type == "cpu" else nullcontext()
    quick = packed(model, sampling.max_new_tokens)
    with whole_states(model), settings_of_its_own(model), grows, quick.in_use():
        output_BT = model.generate(
            **inputs, generation_config=settings, logits_processor=processors, streamer=stream
        )  # fmt: skip
    note_numbers(model, last.scores_BV)
    return up_to_stop(output_BT[:, width:].tolist(), stops)


def up_to_stop(answers: Sequence[list[int]], stops: set[int]) -> list[list[int]]:
    """Answers without what stands behind the first token that ends a turn."""
    ends = [next((place + 1 for place, token in enumerate(ids) if token in stops), len(ids)) for ids in answers]
    return [ids[:end] for ids, end in zip(answers, ends, strict=True)]


def left_padded(rows: Sequence[list[int]], pad: int, device: Any, past: Past | None = None) -> dict[str, Any]:
    """What `generate` takes. past: padding then stands behind what was read, where each row's own part begins."""
    width, read = max(map(len, rows)), past.count if past else 0
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor(
            [row[:read] + [pad] * (width - len(row)) + row[read:] for row in rows], device=device
        ),
        "attention_mask": torch.tensor(
            [[1] * read + [0] * (width - len(row)) + [1] * (len(row) - read) for row in rows], device=device
        ),
    }
    return inputs | ({past.name: past.cache} if past else {})


@contextmanager
def settings_of_its_own(model: Any) -> Iterator[None]:
    """Within: `generate` finds no settings that came with the model.

    They fill what a call leaves open: no_repeat_ngram_size, suppress_tokens, bad_words_ids and min_new_tokens change
    what is drawn, num_beams and stop_strings crash. What is sampled here is the policy itself.
    """
    holder: Any = getattr(model, "get_base_model", lambda: model)()
    own = holder.generation_config
    holder.generation_config = GenerationConfig()
    try:
        yield
    finally:
        holder.generation_config = own


@torch.no_grad()
def reads_left_padding(model: Any, pad: int) -> bool:
    """Whether a row that is padded on the left goes on as it does alone; tried once for each model.

    RWKV has no mask, and reads the padding as text.
    """
    known = probed(model)
    if "left padding" not in known:
        vocabulary = model.config.get_text_config().vocab_size
        short = [(7 * k + 1) % vocabulary for k in range(1, 6)]
        long = [(5 * k + 3) % vocabulary for k in range(1, 13)]
        once = GenerationConfig(
            max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True, pad_token_id=pad
        )

        def ahead(rows: list[list[int]]) -> torch.Tensor:
            with settings_of_its_own(model):
                output = model.generate(**left_padded(rows, pad, model.device), generation_config=once)
            return output.logits[0][0].float().log_softmax(-1)

        within = 0.01 if model.dtype == torch.float32 else 0.5
        known["left padding"] = bool((ahead([short]) - ahead([short, long])).abs().max() <= within)
    return known["left padding"]


def reply_of(tokenizer: Any, ids: list[int], stops: set[int]) -> Reply:
    """The text of what `sample_ids` gave, without the token that ended it."""
    ended = bool(ids) and ids[-1] in stops
    text = tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True).strip()
    return Reply(text, "stop" if ended else "length")


class TokenStream(BaseStreamer):
    """Hands on each token that `generate` draws for its one row; it begins with the prompt, which is not drawn."""

    def __init__(self, take: Callable[[int], None]) -> None:
        self.take, self.began = take, False

    def put(self, value: torch.Tensor) -> None:
        if self.began:
            self.take(int(value.item()))
        self.began = True

    def end(self) -> None:
        pass


class LastScores(LogitsProcessor):
    """Keeps the scores of the last step."""

    scores_BV: torch.Tensor

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.scores_BV = scores
        return scores


class SeededSampler(LogitsProcessor):
    """Draws each row's token from its own uniform numbers and leaves only that token possible."""

    def __init__(self, seeds: Sequence[int], width: int, sampling: Sampling, device: Any = "cpu") -> None:
        assert sampling.temperature > 0 and 0 < sampling.top_p <= 1, sampling
        self.width, self.sampling = width, sampling
        self.uniform_BK = torch.stack(
            [torch.rand(sampling.max_new_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        ).to(device)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        step = input_ids.shape[1] - self.width
        drawn_B1 = self._drawn(scores, self.uniform_BK[:, step : step + 1])
        return torch.full_like(scores, -torch.inf).scatter(1, drawn_B1, 0.0)  # pyrefly: ignore

    def draw(self, scores: torch.Tensor, step_1: torch.Tensor) -> torch.Tensor:
        """Of a step whose number stands on the device: the tokens, (B, 1)."""
        return self._drawn(scores, self.uniform_BK.index_select(1, step_1))

    def _drawn(self, scores: torch.Tensor, uniform_B1: torch.Tensor) -> torch.Tensor:
        probs_BV = (scores.float() / self.sampling.temperature).softmax(-1)
        if self.sampling.top_p < 1:
            probs_BV = nucleus(probs_BV, self.sampling.top_p)
        cumulative_BV = probs_BV.cumsum(-1)
        target_B1 = uniform_B1 * cumulative_BV[:, -1:]
        return torch.searchsorted(cumulative_BV, target_B1, right=True).clamp(max=scores.shape[-1] - 1)


def nucleus(probs_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero all but the smallest set of tokens whose probabilities reach `top_p` (Holtzman et al. 2020)."""
    sorted_BV, order_BV = probs_BV.sort(-1, descending=True)
    before_BV = sorted_BV.cumsum(-1) - sorted_BV
    return torch.zeros_like(probs_BV).scatter(1, order_BV, sorted_BV.where(before_BV < top_p, 0.0))
