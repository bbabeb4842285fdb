"""Settings of models that a server answers for: `server:` in the sections that name a model, and prices."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from cai.config.section import Amount, Count, Section
from cai.config.validation import Fault


def _endpoint(held: Any) -> Any:
    """An address, several, or a section. What has been looked at here counts as Python, whose lists are no tuples."""
    section = held if isinstance(held, dict) else {"url": held}
    url = section.get("url")
    if isinstance(url, str):
        return {**section, "url": (url,)}
    return {**section, "url": tuple(url)} if isinstance(url, list) else held


class Server(Section):
    """An OpenAI-compatible endpoint that answers for a model (cai/models/engines/server.py).

    `server: http://127.0.0.1:8000/v1` is short for `server: {url: ...}`. Addresses are no part of a key; the model's
    name there and `revision` are, through the model's identity (`served` in cai/models/references.py).
    """

    # Of replicas of one model, each is given its share of the requests.
    url: tuple[str, ...]
    # What the model is called there; null: as in `model:`.
    name: str | None = None
    # completions: prompts are rendered here, by the template of `model:`, and log-probabilities are read. chat: the
    # server renders them, and `model:` is a name of its own: hosted models.
    api: Literal["completions", "chat"] = "completions"
    # Of weights that nobody can hash: which ones they were, in your own words (a date). Another one is another model.
    revision: str | None = None
    # The environment variable that holds the key, if it needs one. A key stands in no file.
    key_from: str | None = None
    # The weights behind `model:`, in process, are these very ones: labels of either stand for both. It is checked.
    same: bool = False
    # An adapter (LoRA) is given to the server, on the base that it serves by `name`, and taken back when it was asked:
    # vLLM can do that. false: what it serves by `name` is what is meant, adapter and all. Of `policy.server`, false:
    # policies that are trained answer in process.
    adapters: bool = True
    # Tokens that a model may take to think before it answers, beside those of its answer: chat alone.
    thinking: Count = Field(default=0)

    @field_validator("url")
    @classmethod
    def _addresses(cls, held: tuple[str, ...]) -> tuple[str, ...]:
        if not held:
            raise Fault("no address", "write it like http://127.0.0.1:8000/v1")
        for url in held:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise Fault(f'"{url}" is no address', "write it like http://127.0.0.1:8000/v1")
            if parts.username or parts.password or "key=" in parts.query:
                raise Fault("an address holds no key", "put the key into an environment variable: key_from: NAME")
        return tuple(url.rstrip("/") for url in held)

    @field_validator("key_from")
    @classmethod
    def _name_of_a_variable(cls, held: str | None) -> str | None:
        if held is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", held):
            raise Fault("this is no name of an environment variable", "write key_from: OPENAI_API_KEY, never the key")
        return held

    @model_validator(mode="after")
    def _weights_are_here(self) -> "Server":
        if self.same and self.api == "chat":
            problem = "what a chat API serves cannot be held against weights that are here"
            raise Fault(problem, "remove it, or set server.api: completions", "same")
        if self.thinking and self.api == "completions":
            problem = "prompts that are rendered here open an answer without a thought"
            raise Fault(problem, "remove it, or set server.api: chat", "thinking")
        return self


DRAWS = "a server draws other words than the model in process does: with `same`, nothing may be drawn"


def check_server_of_policy(server: Server | None, training: str) -> None:
    """`policy.server` has the start model, is given adapters of it, and draws. Raises Fault."""
    if server is None:
        return
    if server.api == "chat":
        problem = "a policy is trained on prompts that are rendered here, and a chat API renders its own"
        raise Fault(problem, "set api: completions; who revises may be behind a chat API: revise.model", "server")
    if server.same:
        raise Fault(DRAWS, "remove it", "server")
    if training == "full" and server.adapters:
        problem = "a server can be given adapters, and no weights that were trained whole"
        raise Fault(problem, "set server.adapters: false, and what is trained answers in process", "server")


# No part of a key: it is part of the model's identity.
Served = Annotated[Server | None, BeforeValidator(_endpoint), Field(exclude=True)]


class Price(Section):
    """Of a million tokens, in any one currency: of those that are read, and of those that are written."""

    input: Amount
    output: Amount
