"""The engine behind a chat API: it renders the prompts itself, and gives words, or a few likeliest tokens."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cai.core.errors import UserError
from cai.core.records import Chat
from cai.core.templates import neutralise
from cai.models.chat import text_numbers, with_system
from cai.models.engines import Question, Reading, Reply, Request, Sampling
from cai.models.engines.connection import Connection
from cai.models.engines.dialects import choice_of, finite, only
from cai.models.engines.faults import Malformed
from cai.models.engines.probing import BRACES, SAMPLED, probe_chat, schema, spoken
from cai.models.engines.transport import Call, CallGroup

# Marks of turns in the chat formats of today: where a server renders, nobody here knows which are its own.
MARKS = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<s>",
    "</s>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>",
    "<|start|>", "<|end|>",
)  # fmt: skip


DECLINED = "the server's content filter declined"


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
        structured = bool(request.options) and self.probed.structured
        room = sampling.max_new_tokens + BRACES * structured
        body = self._body(request.chat, room, sampling.temperature)
        body |= {"seed": request.seed % 2**31, "top_p": sampling.top_p}
        if structured:
            body["response_format"] = schema(request.options)

        def read(answer: dict[str, Any]) -> Reply:
            return Reply(spoken(answer), "length" if choice_of(answer).get("finish_reason") == "length" else "stop")

        call = self._call(body, request.chat, read, room)
        return CallGroup((call,), only, declined=Reply("", "stop"))

    def _call(self, body: dict[str, Any], chat: Chat, read: Callable[[dict[str, Any]], Any], writes: int) -> Call:
        writes += self.connection.server.thinking
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
            self.probed.length_word: new_tokens + self.connection.server.thinking,
        }

    def choose(self, questions: Sequence[Question], max_length: int) -> Iterator[list[tuple[int, Reading | None]]]:
        """Off the likeliest tokens of the first word. An option that is not among them is missing: no reading."""
        if not self.probed.top:
            raise UserError("this server gives no log-probabilities", self.connection.server.url[0], SAMPLED)
        jobs = []
        for question in questions:
            body = self._body(question.chat, 3, 1.0) | {"logprobs": True, "top_logprobs": self.probed.top, "top_p": 1.0}
            read = lambda answer, asked=question: top_reading(asked, answer)  # noqa: E731
            jobs.append(CallGroup((self._call(body, question.chat, read, 3),), only, declined=Reading((), DECLINED)))
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
