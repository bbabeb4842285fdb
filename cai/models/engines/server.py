"""The engine behind an OpenAI-compatible endpoint: the two verbs of `Engine`, over HTTP.

    ServerEngine   completions: prompts are rendered and tokenised here, log-probabilities are those of given tokens
    ChatEngine     a hosted chat API: it renders the prompts itself, and gives words, or a few likeliest tokens

What it draws, it draws by its own generator: other words than the model in process has for the same seed. Whether the
weights behind a name are still those of the labels before is checked by canaries: log-probabilities of fixed answers,
written down beside the store when a server is first met (runs/servers/).
"""

import asyncio
import json
import math
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cai.config.sections import Runtime
from cai.config.served import Server
from cai.core.durable import make_folders, write_whole
from cai.core.errors import UserError
from cai.core.records import Chat, Message
from cai.core.store import digest_of
from cai.core.templates import neutralise
from cai.models.chat import chat_ids, frame_of, option_ids, text_numbers, with_system
from cai.models.engines import Engine, Question, Reading, Reply, Request, Sampling
from cai.models.engines.dialects import choice_of, finite, only
from cai.models.engines.jobs import answered, refusal
from cai.models.engines.probing import SAMPLED, Probed, probe_chat, probe_completions, said, schema
from cai.models.engines.spending import Spending
from cai.models.engines.transport import Call, CallGroup, Malformed, Patience, Pool, Refused
from cai.models.loading import load_tokenizer
from cai.models.references import ModelRef

# Marks of turns in the chat formats of today: where a server renders, nobody here knows which are its own.
MARKS = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<s>",
    "</s>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>",
    "<|start|>", "<|end|>",
)  # fmt: skip
# What a canary asks, and the answer whose log-probability is written down.
CANARIES = tuple(
    Question((Message("user", asked),), (answer,))
    for asked, answer in (
        ("Name the days of the week.", "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday."),
        ("What is the capital of France?", "The capital of France is Paris."),
        ("Write one sentence about a lighthouse.", "The old lighthouse stood on a cliff of red granite."),
        ("How do I boil an egg?", "Put it into boiling water for seven minutes."),
    )
)
SHORT = Patience(answer=120.0, server=20.0, tries=4)  # of one who looks whether a server is there
DRIFT = 0.1  # nats a token, on average over the canaries: rounding is below it, another quantisation mostly above


@dataclass
class Connection:
    """What both engines need of a run. wait: only tests change it."""

    server: Server
    model: str
    spending: Spending
    concurrency: int
    root: Path
    wait: Patience = field(default_factory=Patience)

    @property
    def name(self) -> str:
        return self.server.name or self.model

    def pool(self, probed: Probed | None = None) -> Pool:
        return Pool(self.server, self.name, self.spending, self.wait, probed.answers_as if probed else None)

    def probe(self, how: Callable[[Pool], Awaitable[Probed]]) -> Probed:
        """Raises UserError where the server cannot do what it must."""
        self.spending.check(self.name)

        async def look() -> Probed:
            async with self.pool() as pool:
                try:
                    return await how(pool)
                except Refused as fault:
                    raise refusal(fault, pool) from None

        return asyncio.run(look())

    def results(
        self, probed: Probed, jobs: Sequence[CallGroup], places: Sequence[int]
    ) -> Iterator[list[tuple[int, Any]]]:
        """(place, result) of each job as it is done. Raises UserError in the end for jobs that were given up."""
        pool, faults, began = self.pool(probed), [], time.monotonic()
        before = (self.spending.read, self.spending.written)
        for batch in answered(pool, jobs, self.concurrency):
            faults += [one.fault for one in batch if one.fault]
            if done := [(places[one.index], one.result) for one in batch if not one.fault]:
                yield done
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


def open_engine(
    model: ModelRef, *, dtype: str, system: str | None, device: str, runtime: Runtime, spending: Spending
) -> Engine:
    """Raises UserError where the server cannot do what it must, or is not what it was."""
    assert model.server
    identity = digest_of(["served", model.digest, system])
    connection = Connection(model.server, model.name, spending, runtime.concurrency, Path(runtime.root))
    if model.hosted:
        hosted = ChatEngine(connection, identity, system)
        check_identity(connection, model.digest, hosted.probed, ())
        return hosted
    engine = ServerEngine(connection, load_tokenizer(model), identity, system)
    there = engine.canaries()
    check_identity(connection, model.digest, engine.probed, there)
    if model.server.same:
        # The model here is read once, for its canaries, and let go of again.
        from cai.models.engines import transformers

        own = replace(model, server=None, engine="transformers")
        here = transformers.open_engine(own, dtype=dtype, system=system, device=device, runtime=runtime)
        check_same(connection, canaries(here, engine.tokenizer), there)
    return engine


def look_at(model: ModelRef, runtime: Runtime) -> None:
    """Raises UserError where a server is not there, or cannot do what it must: before the first minute of work."""
    assert model.server
    connection = Connection(model.server, model.name, Spending.of(runtime), 1, Path(runtime.root), SHORT)
    if model.hosted:
        connection.probe(probe_chat)
    else:
        tokenizer = load_tokenizer(model)
        connection.probe(lambda pool: probe_completions(pool, tokenizer))


# 1. Completions -------------------------------------------------------------------------------------------------------


@dataclass
class ServerEngine:
    """tokenizer: the model's own, loaded here. stops: the tokens that end an answer, and their texts."""

    connection: Connection
    tokenizer: Any
    identity: str
    system: str | None

    def __post_init__(self) -> None:
        self.probed = self.connection.probe(lambda pool: probe_completions(pool, self.tokenizer))
        self.limit = self.probed.limit
        assert self.probed.dialect is not None
        self.dialect = self.probed.dialect
        ends = {self.tokenizer.eos_token_id, *template_ends(self.tokenizer)} - {None}
        self.stops = {token: self.tokenizer.convert_ids_to_tokens(token) for token in sorted(ends)}

    def prompt_ids(self, chat: Chat) -> list[int]:
        return chat_ids(self.tokenizer, with_system(chat, self.system), answer=True)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[tuple[int, Reply | None]]]:
        ids = [self.prompt_ids(request.chat) for request in requests]
        fits = [k for k, row in enumerate(ids) if len(row) + sampling.max_new_tokens <= self.limit]
        if too_long := sorted({*range(len(ids))} - {*fits}):
            yield [(k, None) for k in too_long]
        write, name = self.dialect.write, self.connection.name
        jobs = [write(name, ids[k], sampling, requests[k].seed, self.stops) for k in fits]
        yield from self.connection.results(self.probed, jobs, fits)

    def choose(self, questions: Sequence[Question], max_length: int) -> Iterator[list[tuple[int, Reading | None]]]:
        asked = [option_ids(self.tokenizer, with_system(q.chat, self.system), q.lead, q.options) for q in questions]
        limit = min(max_length, self.limit)
        fits = [k for k, (start, tails) in enumerate(asked) if len(start) + max(map(len, tails)) <= limit]
        if too_long := sorted({*range(len(asked))} - {*fits}):
            yield [(k, None) for k in too_long]
        jobs = [self.dialect.score(self.connection.name, *asked[k]) for k in fits]
        yield from self.connection.results(self.probed, jobs, fits)

    def canaries(self) -> list[float]:
        """Nats a token of each canary."""
        return canaries(self, self.tokenizer)


def template_ends(tokenizer: Any) -> list[int]:
    """The token with which the chat template ends an answer, if it is one of those that no text has."""
    frame = frame_of(tokenizer, (Message("user", ""),)) if tokenizer.chat_template else None
    behind = tokenizer(frame.behind, add_special_tokens=False)["input_ids"][:1] if frame and frame.behind else []
    return [token for token in behind if token in tokenizer.added_tokens_decoder]


def canaries(engine: Engine, tokenizer: Any) -> list[float]:
    """Nats a token of each canary."""
    found = dict(item for batch in engine.choose(CANARIES, 1 << 30) for item in batch)
    lengths = [len(tokenizer(one.options[0], add_special_tokens=False)["input_ids"]) for one in CANARIES]
    return [found[k].logprobs[0] / length for k, length in enumerate(lengths)]  # pyrefly: ignore


# 2. Chat --------------------------------------------------------------------------------------------------------------


@dataclass
class ChatEngine:
    """A server that renders the prompts itself. Without log-probabilities it cannot `choose`."""

    connection: Connection
    identity: str
    system: str | None

    def __post_init__(self) -> None:
        self.probed = self.connection.probe(probe_chat)
        self.limit = self.probed.limit

    def prompt_ids(self, chat: Chat) -> list[int]:
        return text_numbers(with_system(chat, self.system))

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[tuple[int, Reply | None]]]:
        jobs = [self._job(request, sampling) for request in requests]
        yield from self.connection.results(self.probed, jobs, range(len(jobs)))

    def _job(self, request: Request, sampling: Sampling) -> CallGroup:
        body = self._body(request.chat, sampling.max_new_tokens, sampling.temperature)
        body |= {"seed": request.seed % 2**31, "top_p": sampling.top_p}
        if request.options and self.probed.structured:
            body["response_format"] = schema(request.options)

        def read(answer: dict[str, Any]) -> Reply:
            return Reply(said(answer), "length" if choice_of(answer).get("finish_reason") == "length" else "stop")

        return CallGroup((self._call(body, request.chat, read, sampling.max_new_tokens),), only)

    def _call(self, body: dict[str, Any], chat: Chat, read: Callable[[dict[str, Any]], Any], writes: int) -> Call:
        return Call("chat/completions", body, read, len(self.prompt_ids(chat)), writes)

    def _body(self, chat: Chat, new_tokens: int, temperature: float) -> dict[str, Any]:
        messages = [
            {"role": message.role, "content": neutralise(message.content, MARKS)}
            for message in with_system(chat, self.system)
        ]
        return {
            "model": self.connection.name,
            "messages": messages,
            "temperature": temperature,
            self.probed.length_word: new_tokens,
        }

    def choose(self, questions: Sequence[Question], max_length: int) -> Iterator[list[tuple[int, Reading | None]]]:
        """Off the likeliest tokens of the first word. An option that is not among them is missing: no reading."""
        if not self.probed.top:
            raise UserError("this server gives no log-probabilities", self.connection.server.url[0], SAMPLED)
        jobs = []
        for question in questions:
            body = self._body(question.chat, 3, 1.0) | {"logprobs": True, "top_logprobs": self.probed.top, "top_p": 1.0}
            read = lambda answer, asked=question: top_reading(asked, answer)  # noqa: E731
            jobs.append(CallGroup((self._call(body, question.chat, read, 3),), only))
        yield from self.connection.results(self.probed, jobs, range(len(jobs)))


def top_reading(question: Question, answer: dict[str, Any]) -> Reading:
    """The options' log-probabilities among the likeliest tokens of the first step that is no opening (" ", "(")."""
    steps = (choice_of(answer).get("logprobs") or {}).get("content") or []
    if not steps:
        raise Malformed("an answer came without log-probabilities")
    opening = {"", question.lead.strip()}
    step = next((one for one in steps if str(one.get("token")).strip() not in opening), steps[0])
    found: dict[str, list[float]] = {option: [] for option in question.options}
    for row in step.get("top_logprobs") or ():
        word = str(row.get("token")).strip().removeprefix(question.lead or "\0").rstrip(")")
        if word in found:
            found[word].append(finite(row.get("logprob")))
    missing = [option for option, values in found.items() if not values]
    if missing:
        return Reading((), f"not among the likeliest words: {', '.join(missing)}")
    return Reading(tuple(math.log(math.fsum(map(math.exp, values))) for values in found.values()))


# 3. The same weights as before? ---------------------------------------------------------------------------------------


def check_identity(connection: Connection, source_digest: str, probed: Probed, canaries: Sequence[float]) -> None:
    """The server is the one that was first met under this identity; what it was then is written down beside the store.

    Raises UserError where what it says of its weights, or its canaries, are others by now.
    """
    file = connection.root / "servers" / f"{digest_of(['server', source_digest])[:16]}.json"
    now = {
        "model": connection.name,
        "revision": connection.server.revision,
        "answers as": probed.answers_as,
        "fingerprint": probed.fingerprint,
        "canaries, nats a token": list(canaries),
    }
    before: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        before = json.loads(file.read_text())
    if not before:
        make_folders(file.parent)
        write_whole(file, json.dumps({**now, "first met": time.strftime("%Y-%m-%d")}, indent=1))
        return
    for name in ("answers as", "fingerprint"):
        if before.get(name) != now[name]:
            raise other_weights(connection, f"{name}: {before.get(name)} before, {now[name]} now", file)
    apart = distance(before.get("canaries, nats a token") or (), canaries)
    if apart > DRIFT:
        raise other_weights(connection, f"its answers are {apart:.2f} nats a token from what they were", file)


def distance(one: Sequence[float], two: Sequence[float]) -> float:
    """The mean difference; 0 where there is nothing to compare."""
    pairs = list(zip(one, two, strict=False))
    return math.fsum(abs(a - b) for a, b in pairs) / len(pairs) if pairs else 0.0


def other_weights(connection: Connection, why: str, file: Path) -> UserError:
    return UserError(
        f'what is served as "{connection.name}" is not what the labels so far came from ({why})',
        connection.server.url[0],
        f"serve that again, or give a new `revision:` (server: {{revision: ...}}); the old one is in {file}",
    )


def check_same(connection: Connection, here: Sequence[float], there: Sequence[float]) -> None:
    """`same: true`: the weights here give the canaries what the server gives them. Raises UserError where not."""
    apart = distance(here, there)
    if apart > DRIFT:
        raise UserError(
            f'"{connection.name}" as it is served is another model than the one here: its answers are {apart:.2f} nats '
            f"a token apart, and {DRIFT} are allowed",
            connection.server.url[0],
            "remove `same: true`: labels of the server then stand for themselves",
        )
