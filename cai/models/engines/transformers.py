"""The engine in process: transformers, on the CPU or one device.

`choose` reads what questions have in common once (tree.py): a judge asks sixteen principles about one answer, and the
answer is the long part. `generate` samples in batches (sampling.py), and reads what the chats of one begin with once
(prefix.py). Batches hold chats, or rows, of like length.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch

from cai.config.runtime import Runtime
from cai.core.batching import by_length
from cai.core.errors import UserError
from cai.core.records import Chat
from cai.core.store import digest_of
from cai.models.architectures import attention_window, length_limit, probed
from cai.models.chat import chat_ids, option_ids, with_system
from cai.models.engines import LEAST, Question, Reading, Reply, Request, Sampling, longer_options, reading
from cai.models.engines.packed import packed
from cai.models.engines.prefix import read_prefix
from cai.models.engines.recorded import NO_NUMBERS
from cai.models.engines.sampling import reply_of, sample_ids, stop_ids, stream_ids
from cai.models.engines.tree import Span, TreeRow, block_attention, pack, tree_mask
from cai.models.loading import shared_tokenizer
from cai.models.references import ModelRef
from cai.models.resident import Resident

PADDING = 0.1  # the share of a batch of questions that may be padding
ROW_TOKENS = 2048  # how wide a row of several sequences may be
PREDICTIONS = 2048  # of one forward pass on a CPU: each takes a whole vocabulary of memory
CHUNK = 256  # of those, in float32 at one time
LOGITS = 0.1  # the share of a card's memory that may hold the logits of one forward pass
PROBE = (
    "Here are three lists of words:",
    " Red",
    " Blue",
    " Green",
    ": quartz, ladder, violin, copper, walnut, harbour",
)


def open_engine(
    model: ModelRef,
    *,
    dtype: str,
    system: str | None,
    device: str,
    runtime: Runtime,
    resident: Resident | None = None,
) -> "TransformersEngine":
    """What `Workbench.engine` calls for a model whose reference names this module."""
    return TransformersEngine(
        model, dtype=dtype, device=device, system=system, batch_tokens=runtime.batch_tokens, resident=resident
    )


class TransformersEngine:
    """share: read what questions have in common once. False is for comparison: one sequence a row.

    resident: what keeps its weights among those of others; it then answers until the next model is asked for. Without,
    its weights are its own.
    """

    def __init__(
        self, model: ModelRef, *, dtype: str, device: str, system: str | None, batch_tokens: int, share: bool = True,
        resident: Resident | None = None,
    ) -> None:  # fmt: skip
        self.tokenizer: Any = shared_tokenizer(model)
        self.model: Any = (resident or Resident(device)).causal(model, dtype)  # pyrefly: ignore
        self.device, self.system, self.batch_tokens, self.share = device, system, batch_tokens, share
        self.identity = digest_of([model.digest, dtype, system])
        self.limit = length_limit(self.model.config)
        # Width of a probe (0: a small one) -> whether it was read rightly.
        self.trees_read: dict[int, bool] = probed(self.model).setdefault("trees", {})
        self.stop_ids = stop_ids(self.model, self.tokenizer)
        # Other batches round otherwise, so this is a figure of the device and not of what is free on it just now.
        self.predictions = predictions(device_memory(device), self.model)

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
        quick = packed(self.model, sampling.max_new_tokens)
        for batch in by_length(fits, [len(row) + sampling.max_new_tokens for row in ids], self.batch_tokens):
            rows = [ids[index] for index in batch]
            with quick.in_use():
                replies = self._sample(rows, [requests[index].seed for index in batch], sampling)
            yield list(zip(batch, replies, strict=True))

    @torch.inference_mode()
    def stream(self, request: Request, sampling: Sampling, show: Callable[[str], None]) -> Reply | None:
        """What `generate` draws for this request alone; None where the chat leaves no room for an answer.

        show: called after each token with the text so far, less a character of which only a part is there.
        """
        ids, drawn = self.prompt_ids(request.chat), []
        if len(ids) > self.limit - sampling.max_new_tokens:
            return None

        def take(token: int) -> None:
            drawn.append(token)
            if token not in self.stop_ids:
                show(self.tokenizer.decode(drawn, skip_special_tokens=True).rstrip("\ufffd").lstrip())

        answer = stream_ids(self.model, ids, request.seed, sampling, self.stop_ids, take)
        return self._replies([answer])[0]

    def _sample(self, rows: list[list[int]], seeds: list[int], sampling: Sampling) -> list[Reply]:
        pad = self.tokenizer.pad_token_id
        past = read_prefix(self.model, rows, pad, sampling.max_new_tokens) if self.share else None
        return self._replies(sample_ids(self.model, rows, seeds, sampling, pad, self.stop_ids, past))

    def _replies(self, answers: Sequence[list[int]]) -> list[Reply]:
        self._check_numbers(not probed(self.model).pop(NO_NUMBERS, False))
        return [reply_of(self.tokenizer, ids, self.stop_ids) for ids in answers]

    def _check_numbers(self, sound: bool) -> None:
        """Raises UserError: what such a model draws is one token for ever, and what it chooses no preference."""
        if not sound:
            problem = "a model computes what is no number (NaN): it diverged, or its weights are damaged"
            remedy = "train it again with a lower learning rate, or name another"
            raise UserError(problem, getattr(self.model, "name_or_path", "") or "", remedy)

    @torch.inference_mode()
    def choose(self, questions: Sequence[Question], max_length: int) -> Iterator[list[tuple[int, Reading | None]]]:
        asked = [self.option_ids(question) for question in questions]
        limit = min(max_length, self.limit)
        too_long = {index for index, (start, tails) in enumerate(asked) if len(start) + max(map(len, tails)) > limit}
        if too_long:
            yield [(index, None) for index in sorted(too_long)]
        spans: list[Span] = []
        options: list[tuple[int, int]] = []  # of each span: the question and the option that it stands for
        for index, (start, tails) in enumerate(asked):
            if index not in too_long:
                spans += [Span((*start, *tail), len(start)) for tail in tails]
                options += [(index, option) for option in range(len(tails))]
        rows = self._pack(spans)
        logps_of: dict[int, dict[int, float]] = defaultdict(dict)
        for batch in self._batches(rows):
            done: list[tuple[int, Reading | None]] = []
            for span, logp in self._read([rows[place] for place in batch], spans):
                index, option = options[span]
                logps_of[index][option] = logp
                if len(logps_of[index]) == len(asked[index][1]):
                    logps = logps_of.pop(index)
                    done.append((index, reading(asked[index][1], [logps[option] for option in range(len(logps))])))
            if done:
                yield done

    def option_ids(self, question: Question) -> tuple[list[int], list[list[int]]]:
        """The ids before the options, and each option's own ids (`cai.models.chat.option_ids`)."""
        chat = with_system(question.chat, self.system)
        return option_ids(self.tokenizer, chat, question.lead, question.options)

    def _pack(self, spans: Sequence[Span]) -> list[TreeRow]:
        """Rows that share what sequences have in common, where the model can read such rows."""
        # A window counts the nodes of a row and not what lies between two of them, so no row may be wider than it.
        window = attention_window(self.model.config)
        rows = pack(spans, ROW_TOKENS, min(self.batch_tokens, window), share=self.share)
        widest = max((len(row.tokens) for row in rows if not row.plain), default=0)
        if not widest or (max(len(row.tokens) for row in rows) <= window and self.reads_trees(widest)):
            return rows
        return pack(spans, ROW_TOKENS, self.batch_tokens, share=False)

    def _batches(self, rows: Sequence[TreeRow]) -> Iterator[list[int]]:
        """Places of rows that make one forward pass: of like width, and with few enough predictions for memory."""
        for batch in by_length(range(len(rows)), [len(row.tokens) for row in rows], self.batch_tokens, padding=PADDING):
            part: list[int] = []
            predictions = 0
            for place in batch:
                wanted = len(rows[place].predictors)
                if part and predictions + wanted > self.predictions:
                    yield part
                    part, predictions = [], 0
                part.append(place)
                predictions += wanted
            yield part

    def reads_trees(self, width: int) -> bool:
        """Whether the model reads a row that branches, as wide as this, as it reads each sequence by itself.

        Tried once for each power of two: on a small row, and on one that is as wide as those that follow. A
        model that looks back a limited way, or that counts positions otherwise beyond some place, reads short rows
        rightly and long ones not.
        """
        # No row is wider than the window or the limit, and one that were would be read otherwise with good reason.
        size = min(1 << max(width - 1, 1).bit_length(), max(attention_window(self.model.config), 1), self.limit)
        known = self.trees_read
        if 0 not in known:
            known[0] = self._reads_alike(0)
        if known[0] and size not in known:
            known[size] = self._reads_alike(size)
        return known[0] and known[size]

    def _reads_alike(self, width: int) -> bool:
        """Whether the rows of a probe that branches are read as each of its sequences alone. width: of the row.

        The branches end alike, in words that nobody would guess: a model that sees one while it reads another copies
        it. SmolLM2-135M in bfloat16: the log-probability of a token is off by up to 0.12 as it should be, by 2.5
        without a mask, by 4.2 with the positions of a row.
        """
        encode = lambda text: self.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        start, *words, end = (encode(text) for text in PROBE)
        spare = width - len(start) - sum(len(word) + len(end) for word in words)
        if spare > 0:  # the same words again and again, so that both rows are as long as wanted
            before = (start + end) * (spare // len(start + end) + 1)
            start = before[:spare] + start
        spans = [
            Span((*start, *word, *end[: k + 1]), len(start) + len(word) + k) for word in words for k in range(len(end))
        ]
        row = max(ROW_TOKENS, width)
        tree, apart = pack(spans, row, row), pack(spans, row, row, share=False)
        assert len(tree) == 1 and len(apart) == len(words)
        try:
            shared = dict(self._read(tree, spans))
            alone = {span: logp for single in apart for span, logp in self._read([single], spans)}
        except Exception:  # whatever a model makes of a mask that it does not know
            return False
        # Of ones that are not numbers, the comparison is False.
        within = 0.001 if self.model.dtype == torch.float32 else 0.5
        return all(abs(shared[k] - alone[k]) <= within for k in alone)

    def option_log_probs(self, questions: Sequence[Question]) -> list[torch.Tensor]:
        """What `choose` reads of these questions, each (options,) in float32, with what gradients need: to learn by.

        All of them are in memory until their gradients are taken: ask about a pair at a time.
        """
        asked = [self.option_ids(question) for question in questions]
        spans = [Span((*start, *tail), len(start)) for start, tails in asked for tail in tails]
        logps: dict[int, torch.Tensor] = {}
        for row in self._pack(spans):
            of_row, logp_P = self._log_probs([row], spans)
            parts = logp_P.split([len(nodes) for _, _, nodes in of_row])
            logps |= {span: part.sum() for (_, span, _), part in zip(of_row, parts, strict=True)}
        each = iter(range(len(spans)))
        return [exclusive(tails, torch.stack([logps[next(each)] for _ in tails])) for _, tails in asked]

    @torch.inference_mode()
    def _read(self, rows: Sequence[TreeRow], spans: Sequence[Span]) -> Iterator[tuple[int, float]]:
        """(span, its log-probability) of all that these rows are asked, in one forward pass.

        log P(span) is the sum of log P(token | what comes before it).
        """
        asked, logp_P = self._log_probs(rows, spans)
        self._check_numbers(not logp_P.isnan().any())
        each = iter(logp_P.tolist())
        for _, span, nodes in asked:
            yield span, math.fsum(islice(each, len(nodes)))

    def _log_probs(
        self, rows: Sequence[TreeRow], spans: Sequence[Span]
    ) -> tuple[list[tuple[int, int, list[int]]], torch.Tensor]:
        """((row, span, the nodes that predict its tokens) of all that is asked, log P of all these tokens in order)."""
        # 1. The rows as tensors.
        width = max(len(row.tokens) for row in rows)
        pad = self.tokenizer.pad_token_id
        fill = lambda lists, value: torch.tensor(  # noqa: E731
            [list(some) + [value] * (width - len(some)) for some in lists], device=self.device
        )
        inputs = {"input_ids": fill([row.tokens for row in rows], pad)}
        if all(row.plain for row in rows):
            inputs["attention_mask"] = fill([[1] * len(row.tokens) for row in rows], 0)
        else:
            inputs["attention_mask"] = tree_mask(rows, self.model.dtype, self.device)
            inputs["position_ids"] = fill([row.depths for row in rows], 0)
        # 2. The nodes that predict something, each once, and which token is wanted of which.
        place = {spot: n for n, spot in enumerate((r, node) for r, row in enumerate(rows) for node in row.predictors)}
        asked = [(r, span, nodes) for r, row in enumerate(rows) for span, nodes in row.asked]
        wanted_P = [place[r, node] for r, _, nodes in asked for node in nodes]
        token_P = [token for _, span, _ in asked for token in spans[span].ids[spans[span].begin :]]
        # 3. Their logits, and what normalises them.
        branches = "position_ids" in inputs and self.device == "cpu"
        with block_attention(rows, inputs["attention_mask"]) if branches else nullcontext():
            logits_NV = self._logits(inputs, torch.tensor(list(place), device=self.device))
        norm_N = torch.cat([part_NV.float().logsumexp(-1) for part_NV in logits_NV.split(CHUNK)])
        return asked, logits_NV[wanted_P, token_P].float() - norm_N[wanted_P]

    def _logits(self, inputs: dict[str, torch.Tensor], spots_N2: torch.Tensor) -> torch.Tensor:
        """(N, V): the logits at N spots (row, node). The head reads these alone, whatever a model does after it."""
        row_N, node_N = spots_N2.unbind(-1)
        picked = False

        def pick(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            nonlocal picked
            picked = True
            return (args[0][row_N, node_N][None], *args[1:])  # (B, T, H) -> (1, N, H)

        head = self.model.get_output_embeddings()
        hook = head.register_forward_pre_hook(pick) if head is not None else None
        try:
            logits = self.model(**inputs, use_cache=False).logits
        finally:
            if hook:
                hook.remove()
        return logits[0] if picked else logits[row_N, node_N]


def exclusive(tails: Sequence[Sequence[int]], logp_K: torch.Tensor) -> torch.Tensor:
    """As `reading` has it, with gradients: log-probabilities of options that exclude one another, (options,)."""
    left = []
    for logp, direct in zip(logp_K, longer_options(tails), strict=True):
        taken = (logp_K[direct] - logp).clamp(max=0.0).exp().sum().clamp(max=1 - LEAST)
        left.append(logp + torch.log1p(-taken) if direct else logp)
    return torch.stack(left)


def device_memory(device: str) -> int | None:
    """Bytes on the card; None for what computes in the machine's own memory."""
    if not device.startswith("cuda"):
        return None
    return torch.cuda.get_device_properties(device).total_memory


def predictions(memory: int | None, model: Any) -> int:
    """How many tokens one forward pass may be asked about, on a card of so many bytes.

    `contrast` asks about every token of an answer: 2,048 are half a batch there, and a card idles on small batches. Of
    a vocabulary of 128,256 in bfloat16, a tenth of 80 GB are 31,000.
    """
    if memory is None:
        return PREDICTIONS
    vocabulary = model.config.get_text_config().vocab_size
    return max(PREDICTIONS, int(LOGITS * memory / (vocabulary * model.dtype.itemsize)))
