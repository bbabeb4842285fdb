"""Requests to the replicas of a served model: side by side, tried again, and given up in the end, each answered once.

    Call      one request, and how its answer is read
    CallGroup       a few calls that belong together (jobs.py does many of them side by side)
    Pool      the replicas. `ask` sends a call to the least busy one, and again where that may help

What may pass is tried again: no connection, a cut one, an answer that does not come or cannot be read, 408, 409, 429
and 5xx. The wait doubles, with jitter (Brooker 2015, "Exponential Backoff and Jitter"), and is never shorter than
`Retry-After` asks. One job that fails while others are answered is given up after TRIES and named when the rest is
done; a server that answers nobody for PATIENCE ends the run, and one that was started here ends it as soon as its
process has ended. What was answered is kept by then.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cai.config.served import Server
from cai.core.errors import UserError
from cai.models.engines.faults import (
    AGAIN,
    GivenUp,
    Malformed,
    Passing,
    Refused,
    hidden,
    key_of,
    never_sent,
    other_model,
    retry_after,
    spoken_by,
)  # fmt: skip
from cai.models.engines.spending import Spending

LOAD = "load_lora_adapter"


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. answer: for a whole answer, however it trickles in. server: without any answer, before it is given up.

    tries: of one call that fails while others are answered. first, longest: the wait before a call is sent again.
    """

    answer: float = 600.0
    connect: float = 10.0
    server: float = 300.0
    tries: int = 10
    first: float = 0.5
    longest: float = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """path: below /v1, or from the root of the server where it begins with "/". reads, writes: its most tokens.

    read: makes of the answer what is wanted. Raises Malformed. body None: a GET.
    """

    path: str
    body: dict[str, Any] | None
    read: Callable[[dict[str, Any]], Any]
    reads: int = 0
    writes: int = 0


@dataclass(frozen=True, slots=True)
class CallGroup:
    """What belongs together: all its calls are answered, or it is not. join: of what they read, in their order.

    declined: what it comes to where the server's content filter will not have these very words; None: a fault.
    """

    calls: tuple[Call, ...]
    join: Callable[[list[Any]], Any]
    declined: Any = None


@dataclass(frozen=True, slots=True)
class ReplicaAnswer:
    """What a replica answered, as it came."""

    url: str
    status: int
    text: str


@dataclass
class Endpoint:
    url: str
    client: Any
    busy: int = 0
    rests_until: float = 0.0  # by time.monotonic: nothing is sent before


@dataclass
class Pool:
    """The replicas of one model, within one event loop: `async with Pool(...)`.

    name: of the model there, and of its price. called: the name that requests bear: of an adapter on that model, its
    own. adapter: what a replica that has lost it is told (LOAD). answers_as: the name that its answers must bear; None:
    any. alive: when anybody was last answered. retried: how many calls were sent again. gone: of a server that was
    started here, what to say where it has ended.
    """

    server: Server
    name: str
    spending: Spending
    patience: Patience = field(default_factory=Patience)
    answers_as: str | None = None
    called: str = ""
    adapter: dict[str, str] | None = None
    gone: Callable[[], UserError | None] = lambda: None
    replicas: list[Endpoint] = field(default_factory=list)
    alive: float = 0.0
    retried: int = 0

    def __post_init__(self) -> None:
        self.called = self.called or self.name

    async def __aenter__(self) -> "Pool":
        import openai  # heavy: only where there is something to ask

        timeout = openai.Timeout(self.patience.answer, connect=self.patience.connect)
        for url in self.server.url:
            client = openai.AsyncOpenAI(
                base_url=url, api_key=key_of(self.server) or "none", max_retries=0, timeout=timeout
            )
            self.replicas.append(Endpoint(url, client))
        self.alive = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        for replica in self.replicas:
            await replica.client.close()
        self.replicas.clear()

    async def do(self, job: CallGroup) -> Any:
        """What a job comes to. Raises as `ask` does, and Spent before anything is sent."""
        reads, writes = sum(call.reads for call in job.calls), sum(call.writes for call in job.calls)
        self.spending.set_aside(self.name, reads, writes)
        try:
            return job.join([await self.ask(call) for call in job.calls])
        finally:
            self.spending.give_back(self.name, reads, writes)

    async def ask(self, call: Call) -> Any:
        """What the call reads of its answer. Raises Refused, GivenUp, Spent where it may not be sent again, and what
        `gone` says."""
        # tries: those before and after which others were answered; in an outage nobody's are counted.
        began = last = time.monotonic()
        failures = tries = 0
        while True:
            replica = await self._least_busy()
            replica.busy += 1
            try:
                answer = await self._post(replica, call)
            except Passing as fault:
                self._check_running()
                now = time.monotonic()
                failures += 1
                tries += self.alive > last
                last, wait = now, max(self._backoff(failures), fault.wait)
                if fault.sick:
                    replica.rests_until = max(replica.rests_until, now + wait)
                self._patient(fault, tries, began, now, wait)
                self.spending.hold()
                self.retried += 1
            else:
                self.alive = time.monotonic()
                return answer
            finally:
                replica.busy -= 1
            await asyncio.sleep(0 if self._another(replica) else wait)

    async def every(self, path: str, body: dict[str, str]) -> list[ReplicaAnswer]:
        """Tells every replica something, as often as it takes to reach it. Raises GivenUp."""
        return [await self._reach(replica, path, body) for replica in self.replicas]

    async def _reach(self, replica: Endpoint, path: str, body: dict[str, str]) -> ReplicaAnswer:
        began, failures = time.monotonic(), 0
        while True:
            try:
                return await self._tell(replica, path, body)
            except Passing as fault:
                self._check_running()
                failures += 1
                if time.monotonic() - began > self.patience.server:
                    raise GivenUp(str(fault), outage=True) from None
            await asyncio.sleep(self._backoff(failures))

    async def _tell(self, replica: Endpoint, path: str, body: dict[str, str]) -> ReplicaAnswer:
        """What it answers, whatever that is. Raises Passing where nothing comes."""
        import httpx2
        import openai

        try:
            response = await replica.client.post(path, cast_to=httpx2.Response, body=body)
        except openai.APIStatusError as error:
            return ReplicaAnswer(replica.url, error.status_code, hidden(spoken_by(error), self.server))
        except openai.APIConnectionError:
            raise Passing("no connection") from None
        return ReplicaAnswer(replica.url, response.status_code, response.text)

    def _check_running(self) -> None:
        """Raises UserError where the server was started here and has ended: it will not come back."""
        if fault := self.gone():
            raise fault

    def _patient(self, fault: "Passing", tries: int, began: float, now: float, wait: float) -> None:
        """Raises GivenUp where waiting on is not reasonable."""
        silent = now - max(self.alive, began)
        if silent + (wait if fault.wait else 0.0) > self.patience.server:
            asks = f", and asks to wait {fault.wait:.0f} s" if fault.wait else ""
            raise GivenUp(f"{fault}{asks}", outage=True) from None
        if tries >= self.patience.tries:
            raise GivenUp(f"{fault}, {tries} times", outage=False) from None

    def _backoff(self, tries: int) -> float:
        return min(self.patience.longest, self.patience.first * 2 ** (tries - 1)) * random.uniform(0.5, 1.0)

    def _another(self, replica: Endpoint) -> bool:
        """Whether this replica rests and another one can take over at once."""
        now = time.monotonic()
        return replica.rests_until > now and any(one.rests_until <= now for one in self.replicas)

    async def _least_busy(self) -> Endpoint:
        """A replica that does not rest; where all do, the wait for the first to be done with it."""
        while True:
            now = time.monotonic()
            awake = [replica for replica in self.replicas if replica.rests_until <= now]
            if awake:
                return min(awake, key=lambda replica: replica.busy)
            await asyncio.sleep(min(replica.rests_until for replica in self.replicas) - now + random.uniform(0, 0.01))

    async def _post(self, replica: Endpoint, call: Call) -> Any:
        """One attempt. Raises Passing and Refused."""
        import openai

        sent = True
        try:
            async with asyncio.timeout(self.patience.answer):
                answer = await self._send(replica, call)
            if self.answers_as is not None and answer.get("model", self.answers_as) != self.answers_as:
                raise other_model(replica.url, self.answers_as, answer["model"])
            found, usage = read_by(call, answer), answer.get("usage") or answer.get("meta_info")
        except Malformed as error:
            self._lost(call)
            raise Passing(str(error)) from None
        except (TimeoutError, openai.APITimeoutError):
            self._lost(call)
            raise Passing(f"no answer within {self.patience.answer:g} s", sick=True) from None
        except openai.APIStatusError as error:
            text = hidden(spoken_by(error), self.server)
            if error.status_code == 404 and self.adapter and call.path == "completions":  # it was started anew
                await self._tell(replica, LOAD, self.adapter)
                raise Passing(f"HTTP 404: {text}") from None
            if error.status_code not in AGAIN and error.status_code < 500:
                raise Refused(error.status_code, text) from None
            wait = retry_after(error.response.headers.get("retry-after"))
            problem = f"HTTP {error.status_code}: {text}" if text else f"HTTP {error.status_code}"
            raise Passing(problem, wait, sick=wait > 0) from None
        except openai.APIConnectionError as error:
            sent = not never_sent(error)
            if sent:
                self._lost(call)
            raise Passing("the connection was cut" if sent else "no connection", sick=not sent) from None
        if call.reads:
            read = tokens_of(usage, "prompt_tokens")
            self.spending.took(
                self.name, call.reads if read is None else read, tokens_of(usage, "completion_tokens") or 0
            )
        return found

    async def _send(self, replica: Endpoint, call: Call) -> dict[str, Any]:
        import httpx2

        path = call.path
        if path.startswith("/"):
            path = f"{replica.url.removesuffix('/v1')}{path}"
        if call.body is None:
            response = await replica.client.get(path, cast_to=httpx2.Response)
        else:
            response = await replica.client.post(path, cast_to=httpx2.Response, body=call.body)
        try:
            answer = json.loads(response.text)
        except (ValueError, RecursionError):
            raise Malformed("what came is no JSON") from None
        if not isinstance(answer, dict):
            raise Malformed("what came is no JSON object")
        return answer

    def _lost(self, call: Call) -> None:
        self.spending.took(self.name, call.reads, call.writes)


# What reading an answer of another shape raises: a text for a list, a list without items, a logarithm of nothing.
SHAPES = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError)


def read_by(call: Call, answer: dict[str, Any]) -> Any:
    """What the call makes of the answer. Raises Malformed also where that has another shape than was asked for."""
    try:
        return call.read(answer)
    except SHAPES as error:
        raise Malformed(f"an answer came in another shape than was asked for ({type(error).__name__})") from None


def tokens_of(usage: Any, name: str) -> int | None:
    """How many tokens the server says that it took; None where it says no number."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None
