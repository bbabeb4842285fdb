"""The engine in process: transformers, on the CPU or one device.

Batches hold chats of like length. A sample's draw comes from uniform numbers seeded by its own request (inverse
transform sampling), so another batch, another order or a resumed run draws the same words (up to the rounding of the
forward pass, which in bfloat16 depends on the padding: see FACTS).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from cai.batching import by_length
from cai.engines import Question, Reading, Reply, Request, Sampling
from cai.models import Source, chat_ids, load_causal, load_tokenizer, with_system
from cai.records import Chat
from cai.store import digest_of

PADDING = 0.1  # the share of a batch of questions that may be padding


class TransformersEngine:
    def __init__(self, source: Source, *, dtype: str, device: str, system: str | None, batch_tokens: int) -> None:
        self.tokenizer: Any = load_tokenizer(source)
        self.model: Any = load_causal(source, dtype, device).eval()  # pyrefly: ignore
        self.device, self.system, self.batch_tokens = device, system, batch_tokens
        self.identity = digest_of([source.digest, dtype, system])
        self.limit = getattr(self.model.config, "max_position_embeddings", None) or 2**31
        self.stop_ids = stop_ids(self.model, self.tokenizer)

    def prompt_ids(self, chat: Chat) -> list[int]:
        return chat_ids(self.tokenizer, with_system(chat, self.system), answer=True)

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[tuple[int, Reply | None]]]:
        ids = [self.prompt_ids(request.chat) for request in requests]
        room = self.limit - sampling.max_new_tokens
        too_long = [index for index in range(len(ids)) if len(ids[index]) > room]
        if too_long:
            yield [(index, None) for index in too_long]
        fits = [index for index in range(len(ids)) if len(ids[index]) <= room]
        for batch in by_length(fits, [len(row) + sampling.max_new_tokens for row in ids], self.batch_tokens):
            rows = [ids[index] for index in batch]
            replies = self._sample(rows, [requests[index].seed for index in batch], sampling)
            yield list(zip(batch, replies, strict=True))

    def _sample(self, rows: list[list[int]], seeds: list[int], sampling: Sampling) -> list[Reply]:
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        ids_BT = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=self.device)
        mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
        processors = LogitsProcessorList()
        if sampling.temperature > 0:
            processors.append(SeededSampler(seeds, width, sampling))
        output_BT = self.model.generate(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            max_new_tokens=sampling.max_new_tokens,
            do_sample=False,  # SeededSampler has drawn already: it leaves one token possible
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=1.0,
            logits_processor=processors,
            pad_token_id=pad,
            eos_token_id=sorted(self.stop_ids),
        )
        return [self._reply(row[width:].tolist()) for row in output_BT]

    def _reply(self, ids: list[int]) -> Reply:
        for position, token in enumerate(ids):
            if token in self.stop_ids:
                return Reply(self.tokenizer.decode(ids[:position], skip_special_tokens=True).strip(), "stop")
        return Reply(self.tokenizer.decode(ids, skip_special_tokens=True).strip(), "length")

    @torch.inference_mode()
    def choose(self, questions: Sequence[Question], max_length: int) -> Iterator[list[tuple[int, Reading | None]]]:
        starts, options = [], []
        for question in questions:
            start, tails = self.option_ids(question)
            starts.append(start)
            options.append(tails)
        longest = [len(start) + max(map(len, tails)) for start, tails in zip(starts, options, strict=True)]
        limit = min(max_length, self.limit)
        too_long = [index for index, length in enumerate(longest) if length > limit]
        if too_long:
            yield [(index, None) for index in too_long]
        fits = [index for index, length in enumerate(longest) if length <= limit]
        rows = [len(_stems(tails)) for tails in options]
        for batch in by_length(fits, longest, self.batch_tokens, rows=rows, padding=PADDING):
            readings = self._read([starts[i] for i in batch], [options[i] for i in batch])
            yield list(zip(batch, readings, strict=True))

    def option_ids(self, question: Question) -> tuple[list[int], list[list[int]]]:
        """The ids before the options, and each option's own ids.

        Lead and option are tokenised as one text, because a tokenizer may join them; what all options then have in
        common with the bare lead is the start, and the rest of each is that option's tail.
        """
        start = self.prompt_ids(question.chat)
        encode = lambda text: self.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        lead = encode(question.lead) if question.lead else []
        whole = [encode(question.lead + option) for option in question.options]
        shared = 0
        while shared < len(lead) and all(len(ids) > shared and ids[shared] == lead[shared] for ids in whole):
            shared += 1
        tails = [ids[shared:] for ids in whole]
        assert all(tails) and len({tuple(tail) for tail in tails}) == len(tails), (
            f"options read alike: {question.options}"
        )
        return start + lead[:shared], tails

    def _read(self, starts: list[list[int]], options: list[list[list[int]]]) -> list[Reading]:
        """log P(option) = sum of log P(token | what comes before it), all options of all questions in one forward pass.

        A row is a start plus an option without its last token; a row that only begins another one is left out, so
        options of one token each (Yes / No) cost one row together.
        """
        rows: list[list[int]] = []
        place: list[list[int]] = []  # question, option -> row
        for start, tails in zip(starts, options, strict=True):
            stems = _stems(tails)
            place.append([len(rows) + next(k for k, s in enumerate(stems) if _begins(tail[:-1], s)) for tail in tails])
            rows += [start + stem for stem in stems]
        width = max(map(len, rows))
        keep = max(len(tail) for tails in options for tail in tails)
        pad = self.tokenizer.pad_token_id
        ids_BT = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=self.device)
        mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
        position_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        # Rows end together (left padding); the longest tail ends at the last position of its row at the latest.
        keep = min(keep, width)
        logits_BKV = self.model(
            input_ids=ids_BT, attention_mask=mask_BT, position_ids=position_BT, logits_to_keep=keep, use_cache=False
        ).logits
        logp_BKV = logits_BKV.float().log_softmax(-1)
        readings = []
        for start, tails, row_of in zip(starts, options, place, strict=True):
            values = []
            for tail, row in zip(tails, row_of, strict=True):
                first = keep - (len(rows[row]) - len(start)) - 1  # the position that predicts the option's first token
                steps = torch.arange(first, first + len(tail), device=logp_BKV.device)
                values.append(logp_BKV[row, steps, torch.tensor(tail, device=logp_BKV.device)].sum().item())
            readings.append(Reading(tuple(values)))
        return readings


def _stems(tails: Sequence[list[int]]) -> list[list[int]]:
    """What must be read before each option's last token, without those stems that only begin another one."""
    stems = [tail[:-1] for tail in tails]
    return [s for i, s in enumerate(stems) if not any(_begins(s, t) and (t != s or j < i) for j, t in enumerate(stems))]


def _begins(short: list[int], long: list[int]) -> bool:
    return long[: len(short)] == short


def stop_ids(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end a turn: the tokenizer's end-of-turn token and whatever the model's own settings add."""
    own = model.generation_config.eos_token_id
    more = own if isinstance(own, list) else [own]
    return {token for token in [tokenizer.eos_token_id, *more] if token is not None}


class SeededSampler(LogitsProcessor):
    """Draws each row's token from its own uniform numbers and leaves only that token possible."""

    def __init__(self, seeds: Sequence[int], width: int, sampling: Sampling) -> None:
        assert sampling.temperature > 0 and 0 < sampling.top_p <= 1, sampling
        self.width, self.sampling = width, sampling
        self.uniform_BK = torch.stack(
            [torch.rand(sampling.max_new_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        probs_BV = (scores.float() / self.sampling.temperature).softmax(-1)
        if self.sampling.top_p < 1:
            probs_BV = nucleus(probs_BV, self.sampling.top_p)
        cumulative_BV = probs_BV.cumsum(-1)
        step = input_ids.shape[1] - self.width
        target_B1 = self.uniform_BK[:, step : step + 1].to(scores.device) * cumulative_BV[:, -1:]
        drawn_B1 = torch.searchsorted(cumulative_BV, target_B1, right=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn_B1, 0.0)  # pyrefly: ignore


def nucleus(probs_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero all but the smallest set of tokens whose probabilities reach `top_p` (Holtzman et al. 2020)."""
    sorted_BV, order_BV = probs_BV.sort(-1, descending=True)
    before_BV = sorted_BV.cumsum(-1) - sorted_BV
    return torch.zeros_like(probs_BV).scatter(1, order_BV, sorted_BV.where(before_BV < top_p, 0.0))
