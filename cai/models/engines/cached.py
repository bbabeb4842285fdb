"""Any engine behind the call cache: what was answered once is not asked again, and a killed run loses one batch."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from cai.core.progress import progress
from cai.core.store import digest_of
from cai.models.calls import CallCache
from cai.models.engines import Engine, Question, Reading, Reply, Request, Sampling

# Raise it when the same question would now be read otherwise: rows of older versions are then never found again.
# 2: the options of a question exclude one another (see `Reading`).
READING = 2


class CachedEngine:
    """`generate` and `choose` as plain functions from a list to a list, in order, with a progress bar.

    For the report: asked, found: how many calls went to the model and how many were in the cache; read, written: tokens
    of the prompts that went to the model, and of the answers that it wrote (their text read back into tokens).
    """

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        identity: str,
        prompt_ids: Callable,
        cache: CallCache,
        tokens: Callable[[str], int],
    ) -> None:
        self._open, self.identity, self.prompt_ids, self._cache = open_engine, identity, prompt_ids, cache
        self._tokens = tokens
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

    def choose(self, questions: Sequence[Question], max_length: int, title: str) -> list[Reading | None]:
        """One reading a question; None where it is longer than max_length tokens."""
        prompts = [self.prompt_ids(question.chat) for question in questions]
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
        self.found += len(keys) - len(missing)
        self.asked += len(missing)
        self.read += sum(len(prompts[index]) for index in missing)
        with progress(title, len(missing)) as step:
            for batch in answer(missing) if missing else ():
                done = [(keys[missing[i]], None if result is None else asdict(result)) for i, result in batch]
                self._cache.put(done)
                self.written += sum(self._tokens(result.text) for _, result in batch if isinstance(result, Reply))
                known.update(done)
                step(len(batch))
        return [known[key] for key in keys]
