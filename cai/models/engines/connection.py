"""What the engines behind endpoints need of a run, and how they send many requests and tell how far they are."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai.config.served import Server
from cai.core.errors import UserError
from cai.models.engines.faults import Refused
from cai.models.engines.jobs import answered, refusal
from cai.models.engines.lora import Lora, given
from cai.models.engines.probing import Probed
from cai.models.engines.spending import Spending
from cai.models.engines.transport import CallGroup, Patience, Pool


@dataclass
class Connection:
    """What both engines need of a run.

    model: its name there, unless `server.name` gives another. lora: the adapter that the server is given on that model
    before it is asked. wait: only tests change it. gone: as in `Pool`.
    """

    server: Server
    model: str
    spending: Spending
    concurrency: int
    root: Path
    wait: Patience = field(default_factory=Patience)
    lora: Lora | None = None
    gone: Callable[[], UserError | None] = lambda: None

    @property
    def name(self) -> str:
        return self.server.name or self.model

    @property
    def called(self) -> str:
        """The name that requests bear."""
        return self.lora.name if self.lora else self.name

    def pool(self, probed: Probed | None = None) -> Pool:
        return Pool(
            self.server, self.name, self.spending, self.wait, probed.answers_as if probed else None,
            called=self.called, adapter=self.lora.body if self.lora else None, gone=self.gone,
        )  # fmt: skip

    def probe(self, how: Callable[[Pool], Awaitable[Probed]]) -> Probed:
        """Raises UserError where the server cannot do what it must."""
        self.spending.check(self.name)

        async def look() -> Probed:
            async with self.pool() as pool:
                try:
                    return await how(pool)
                except Refused as fault:
                    raise refusal(fault, pool) from None

        with given(self.pool(), self.lora):
            return asyncio.run(look())

    def results(
        self, probed: Probed, jobs: Sequence[CallGroup], places: Sequence[int]
    ) -> Iterator[list[tuple[int, Any]]]:
        """(place, result) of each job as it is done. Raises UserError in the end for jobs that were given up."""
        pool, faults, began = self.pool(probed), [], time.monotonic()
        before = (self.spending.read, self.spending.written)
        with given(self.pool(), self.lora):
            for batch in answered(pool, jobs, self.concurrency):
                faults += [done.fault for done in batch if done.fault]
                if results := [(places[done.index], done.result) for done in batch if not done.fault]:
                    yield results
        self._tell(len(jobs), time.monotonic() - began, before, pool.retried)
        if faults:
            raise UserError(
                f"{len(faults)} of {len(jobs)} requests were given up: {faults[0]}",
                ", ".join(self.server.url),
                "the others are kept: look after the server, then run the same command again",
            )

    def _tell(self, count: int, seconds: float, before: tuple[int, int], retried: int) -> None:
        if seconds < 20:
            return
        read, written = self.spending.read - before[0], self.spending.written - before[1]
        again = f"; {retried} sent again" if retried else ""
        rate = f"{count / seconds:.1f}/s, {read:,} tokens read, {written:,} written"
        total = f"; in all {self.spending.line()}" if self.spending.prices else ""
        print(f"    {self.name}: {count} requests, {rate}{again}{total}", file=sys.stderr, flush=True)
