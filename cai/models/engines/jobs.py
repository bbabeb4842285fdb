"""Many jobs of one server side by side, on a thread of their own: each is done once, results are told as they come."""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cai.core.errors import UserError
from cai.models.engines.faults import GivenUp, Refused
from cai.models.engines.spending import Spent
from cai.models.engines.transport import CallGroup, Pool


@dataclass(frozen=True, slots=True)
class Done:
    """A job by its number: its result, or why there is none."""

    index: int
    result: Any = None
    fault: str = ""


def answered(pool: Pool, jobs: Sequence[CallGroup], concurrency: int) -> Iterator[list[Done]]:
    """Every job once, in the order in which they are done, in lists of all that is there.

    The requests go on while the caller keeps what came. Raises UserError when a limit stops the run, when nobody is
    answered any longer, or in the end for jobs that were given up; whatever was answered by then was yielded before.
    """
    done: queue.Queue[Done | BaseException | None] = queue.Queue()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    def work() -> None:
        try:
            loop.run_until_complete(_all(pool, jobs, concurrency, done.put, stop))
        except BaseException as error:  # carried over to the caller's thread
            done.put(error)
        finally:
            loop.close()
            done.put(None)

    thread = threading.Thread(target=work, name="requests", daemon=True)
    thread.start()
    ended: BaseException | None = None
    over = False
    try:
        while not over:
            batch = [done.get()]
            with suppress(queue.Empty):
                while True:
                    batch.append(done.get_nowait())
            over = None in batch
            ended = next((one for one in batch if isinstance(one, BaseException)), ended)
            if results := [one for one in batch if isinstance(one, Done)]:
                yield results
    finally:
        if thread.is_alive():
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
            thread.join()
    if ended:
        raise ended


async def _all(
    pool: Pool, jobs: Sequence[CallGroup], concurrency: int, tell: Callable[[Done], None], stop: asyncio.Event
) -> None:
    waiting = iter(range(len(jobs)))
    spent: list[Spent] = []

    async def worker() -> None:
        for index in waiting:
            if spent:
                return
            try:
                tell(Done(index, await pool.do(jobs[index])))
            except Spent as limit:
                spent.append(limit)
                return
            except Refused as fault:
                if fault.filtered and jobs[index].declined is not None:
                    tell(Done(index, jobs[index].declined))
                    continue
                if fault.status in (401, 402, 403, 404):  # the same for every job
                    raise refusal(fault, pool) from None
                tell(Done(index, fault=str(fault)))
            except GivenUp as fault:
                if fault.outage:
                    raise UserError(
                        f"the server answers nobody any longer: {fault}",
                        ", ".join(pool.server.url),
                        "look after the server, then run the same command again: what it answered is kept",
                    ) from None
                tell(Done(index, fault=str(fault)))

    async with pool:
        tasks = [asyncio.create_task(worker()) for _ in range(min(concurrency, len(jobs)))]
        stopped = asyncio.create_task(stop.wait())
        try:
            pending: set[asyncio.Task] = {*tasks}
            while pending and not stop.is_set():
                done, _ = await asyncio.wait({*pending, stopped}, return_when=asyncio.FIRST_COMPLETED)
                pending -= done
                for task in done - {stopped}:
                    task.result()
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)
    if spent:
        limit = spent[0]
        raise UserError(
            f"stopped before runtime.{limit.name} ({limit.limit:,g}) is passed: {pool.spending.line()}",
            f"runtime.{limit.name}",
            "raise it and run the same command again: what was answered is kept, and the count begins anew",
        )


def refusal(fault: Refused, pool: Pool) -> UserError:
    """A no that is the same for whatever is asked."""
    where = pool.server.url[0]
    if fault.status in (401, 403):
        remedy = "name the environment variable that holds the key: server: {key_from: NAME}"
        if pool.server.key_from:
            remedy = f"see whether {pool.server.key_from} holds the right key"
        return UserError(f"the server refuses the key: {fault}", where, remedy)
    if fault.status == 404:
        return UserError(
            f'the server does not know what it was asked for, "{pool.name}": {fault}',
            where,
            "write the model's name as the server lists it (server: {name: ...}), and an address that ends in /v1",
        )
    return UserError(f"the server refuses: {fault}", where, "see what it says")
