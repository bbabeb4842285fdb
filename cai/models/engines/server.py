"""The engine behind an OpenAI-compatible endpoint: the two verbs of `Engine`, over HTTP.

Prompts are rendered and tokenised here, and log-probabilities are those of given tokens (dialects.py); a chat API does
its own rendering, and is asked by hosted.py. What a server can do is probed first (probing.py), and whether the weights
behind a name are still those of the labels before (identity.py). LoRA adapters are given to it while it is asked
(lora.py).

What a server draws, it draws by its own generator: other words than the model in process has for the same seed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cai.config.runtime import Runtime
from cai.core.errors import UserError
from cai.core.records import Chat, Message
from cai.core.store import digest_of
from cai.models.chat import chat_ids, frame_of, option_ids, with_system
from cai.models.engines import Engine, Question, Reading, Reply, Request, Sampling
from cai.models.engines.connection import Connection
from cai.models.engines.hosted import ChatEngine
from cai.models.engines.identity import canaries, check_applied, check_identity, check_same
from cai.models.engines.lora import check_adapters, lora_of
from cai.models.engines.probing import probe_chat, probe_completions
from cai.models.engines.spending import Spending
from cai.models.engines.transport import Patience
from cai.models.loading import load_tokenizer
from cai.models.references import ModelRef

SHORT = Patience(answer=120.0, server=20.0, tries=4)  # of one who looks whether a server is there


def open_engine(
    model: ModelRef, *, dtype: str, system: str | None, device: str, runtime: Runtime, spending: Spending,
    gone: Callable[[], UserError | None] = lambda: None,
) -> Engine:  # fmt: skip
    """gone: of a server that was started here, what to say where it has ended.

    Raises UserError where the server cannot do what it must, or is not what it was.
    """
    assert model.server
    identity = digest_of(["served", model.digest, system])
    root = Path(runtime.root)
    connection = Connection(model.server, model.name, spending, runtime.concurrency, root, gone=gone)
    if model.hosted:
        hosted = ChatEngine(connection, identity, system)
        check_identity(connection, model.digest, hosted.probed, ())
        return hosted
    connection.lora = lora_of(model)
    engine = ServerEngine(connection, load_tokenizer(model), identity, system)
    there = engine.canaries()
    check_identity(connection, model.digest, engine.probed, there)
    if connection.lora:
        base = ServerEngine(replace(connection, lora=None), engine.tokenizer, identity, system)
        check_applied(connection, there, base.canaries())
    if model.server.same:
        # The model here is read once, for its canaries, and let go of again.
        from cai.models.engines import transformers

        own = replace(model, server=None, engine="transformers")
        here = transformers.open_engine(own, dtype=dtype, system=system, device=device, runtime=runtime)
        check_same(connection, canaries(here, engine.tokenizer), there)
    return engine


def look_at(model: ModelRef, runtime: Runtime, adapters: bool = False) -> None:
    """Raises UserError where a server is not there, or cannot do what it must: before the first minute of work.

    adapters: whether it is to be given those that the run trains.
    """
    assert model.server
    connection = Connection(model.server, model.name, Spending.of(runtime), 1, Path(runtime.root), SHORT)
    if model.hosted:
        connection.probe(probe_chat)
        return
    tokenizer = load_tokenizer(model)
    connection.lora = lora_of(model)
    connection.probe(lambda pool: probe_completions(pool, tokenizer))
    if adapters:
        check_adapters(connection.pool())


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
        write, name = self.dialect.write, self.connection.called
        jobs = [write(name, ids[k], sampling, requests[k].seed, self.stops) for k in fits]
        yield from self.connection.results(self.probed, jobs, fits)

    def choose(self, questions: Sequence[Question], max_length: int) -> Iterator[list[tuple[int, Reading | None]]]:
        asked = [option_ids(self.tokenizer, with_system(q.chat, self.system), q.lead, q.options) for q in questions]
        limit = min(max_length, self.limit)
        fits = [k for k, (start, tails) in enumerate(asked) if len(start) + max(map(len, tails)) <= limit]
        if too_long := sorted({*range(len(asked))} - {*fits}):
            yield [(k, None) for k in too_long]
        jobs = [self.dialect.score(self.connection.called, *asked[k]) for k in fits]
        yield from self.connection.results(self.probed, jobs, fits)

    def canaries(self) -> list[float]:
        """Nats a token of each canary."""
        return canaries(self, self.tokenizer)


def template_ends(tokenizer: Any) -> list[int]:
    """The token with which the chat template ends an answer, if it is one of those that no text has."""
    frame = frame_of(tokenizer, (Message("user", ""),)) if tokenizer.chat_template else None
    behind = tokenizer(frame.behind, add_special_tokens=False)["input_ids"][:1] if frame and frame.behind else []
    return [token for token in behind if token in tokenizer.added_tokens_decoder]
