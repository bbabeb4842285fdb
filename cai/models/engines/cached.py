"""Any engine behind the call cache: what was answered once is not asked again, and a killed run loses one batch.

A process alone asks all that is missing at once. Where others use the cache, each asks a part at a time and looks
between parts what the others were answered: together they ask little twice. That puts calls into other batches, which
moves rounding: where it must not, a process asks all at once in any case (`together=False`).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from cai.core.durable import unique
from cai.core.progress import progress
from cai.core.records import Chat
from cai.core.store import digest_of
from cai.models.calls import CallCache
from cai.models.engines import Engine, Question, Reading, Reply, Request, Sampling

# Raise it when the same question would now be read otherwise: rows of older versions are then never found again.
# 2: the options of a question exclude one another (see `Reading`).
READING = 2
PART = 128  # calls that are asked before another look, where other processes ask as well


class CachedEngine:
    """`generate` and `choose` as plain functions from a list to a list, in order, with a progress bar.

    For the report: asked, found: how many calls went to the model and how many were in the cache; read, written: tokens
    of the prompts that went to the model, and of the answers that it wrote (their text read back into tokens).
    meter: begins to count what is shown beside a bar.
    """

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        identity: str,
        prompt_ids: Callable,
        cache: CallCache,
        tokens: Callable[[str], int],
        together: bool = True,
        meter: Callable[[], Callable[[], str]] = lambda: str,
    ) -> None:
        self._open, self.identity, self.prompt_ids, self._cache = open_engine, identity, prompt_ids, cache
        self._tokens, self._together, self._meter = tokens, together, meter
        self._chance = random.Random(unique())  # of this process: it decides nothing but the order
        self.asked = self.found = self.read = self.written = 0

    def generate(self, requests: Sequence[Request], sampling: Sampling, title: str) -> list[Reply | None]:
        """One reply a request; None where the chat leaves no room for an answer."""
        prompts = [self.prompt_ids(request.chat) for request in requests]
        keys = [
            digest_of([self.identity, "generate", ids, asdict(sampling), request.seed, *request.options])
            for ids, request in zip(prompts, requests, strict=True)
        ]
        rows = self._through(
            keys, prompts, title, lambda missing: self._open().generate([requests[i] for i in missing], sampling)
        )
        return [None if row is None else Reply(**row) for row in rows]

    def stream(self, request: Request, sampling: Sampling, show: Callable[[str], None]) -> Reply | None:
        """One answer as it is made (`TransformersEngine.stream`), by a model in process: neither found nor kept."""
        engine: Any = self._open()
        return engine.stream(request, sampling, show)

    def choose(self, questions: Sequence[Question], max_length: int, title: str) -> list[Reading | None]:
        """One reading a question; None where it is longer than max_length tokens."""
        ids: dict[Chat, list[int]] = {}  # many questions have one text before different options (`channel`)
        for question in questions:
            if question.chat not in ids:
                ids[question.chat] = self.prompt_ids(question.chat)
        prompts = [ids[question.chat] for question in questions]
        keys = [
            digest_of([self.identity, "choose", READING, ids, q.lead, q.options, max_length])
            for ids, q in zip(prompts, questions, strict=True)
        ]
        rows = self._through(
            keys, prompts, title, lambda missing: self._open().choose([questions[i] for i in missing], max_length)
        )
        return [None if row is None else Reading(tuple(row["logprobs"]), row.get("fault", "")) for row in rows]

    def _through(
        self, keys: list[str], prompts: list[list[int]], title: str, answer: Callable[[list[int]], Any]
    ) -> list[dict | None]:
        known = self._cache.get(keys)
        first = {key: index for index, key in reversed(list(enumerate(keys)))}  # equal calls are asked once
        missing = [index for key, index in first.items() if key not in known]
        self.found += len(keys)
        with progress(title, len(missing), self._meter()) as step:
            while missing:
                part = self._part(missing, prompts) if self._shared() else missing
                for batch in answer(part):
                    done = [(keys[part[i]], None if result is None else asdict(result)) for i, result in batch]
                    self._cache.put(done)
                    self.asked += len(batch)
                    self.found -= len(batch)
                    self.read += sum(len(prompts[part[i]]) for i, _ in batch)
                    self.written += sum(self._tokens(result.text) for _, result in batch if isinstance(result, Reply))
                    known.update(done)
                    step(len(batch))
                    if part is missing and self._shared():  # another process has begun: the rest in parts
                        break
                missing, before = [index for index in missing if keys[index] not in known], len(missing)
                assert len(missing) < before, "the engine left calls out"
                others = self._cache.get([keys[index] for index in missing])
                known |= others
                step(len(others))
                missing = [index for index in missing if keys[index] not in others]
        return [known[key] for key in keys]

    def _shared(self) -> bool:
        return self._together and self._cache.shared()

    def _part(self, missing: list[int], prompts: list[list[int]]) -> list[int]:
        """Calls to ask before looking again what other processes were answered: of like length, and anywhere among what
        is missing, so that processes which need the same seldom ask the same at the same time."""
        size = min(PART, max(1, len(missing) // 4))
        start = self._chance.randrange(len(missing) - size + 1)
        return sorted(missing, key=lambda index: len(prompts[index]))[start : start + size]
