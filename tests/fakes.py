"""Stand-ins for a model: what they answer is written in the test that uses them."""

from collections.abc import Callable, Iterator, Sequence

from cai.config.sections import Judge
from cai.constitution import Judging, Order
from cai.core.records import Chat, Message
from cai.core.templates import load_template
from cai.judge.asked import AskedJudge
from cai.judge.methods import templates_for
from cai.models.engines import Question, Reading, Reply, Request, Sampling
from cai.models.references import ModelRef


def ask(text: str, system: str | None = None) -> Chat:
    """A chat of one user turn."""
    before = () if system is None else (Message("system", system),)
    return (*before, Message("user", text))


def asked_judge(
    settings: Judge, principles: Sequence[Judging] = (), *, seed: int = 0, order: Order | None = None
) -> AskedJudge:
    """A judge of no model: tests hand its questions to an engine of their own."""
    model = ModelRef("judge", "", "judge")
    templates = templates_for(settings) | ({"never": load_template("never")} if order and order.limits else {})
    return AskedJudge(settings, model, tuple(principles), templates, "float32", seed, order=order or Order())


class FakeEngine:
    """Answers a chat by echoing its last message and the seed; `dies_after` batches it raises, as a killed run would.

    asked: what it was asked, batch by batch.
    """

    def __init__(self, identity: str = "fake", batch: int = 2, dies_after: int | None = None) -> None:
        self.identity, self.batch, self.dies_after = identity, batch, dies_after
        self.asked: list[list[Request] | list[Question]] = []

    def prompt_ids(self, chat: Chat) -> list[int]:
        return list(repr(chat).encode())

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[tuple[int, Reply | None]]]:
        for spots in self._batches(len(requests)):
            self.asked.append([requests[spot] for spot in spots])
            yield [(spot, self._reply(requests[spot])) for spot in spots]

    def choose(self, questions: Sequence[Question], max_length: int) -> Iterator[list[tuple[int, Reading | None]]]:
        for spots in self._batches(len(questions)):
            self.asked.append([questions[spot] for spot in spots])
            yield [(spot, Reading(tuple(-float(len(o)) for o in questions[spot].options))) for spot in spots]

    def _reply(self, request: Request) -> Reply | None:
        text = request.chat[-1].content
        return None if text == "too long" else Reply(f"{text} {request.seed}", "stop")

    def _batches(self, count: int) -> Iterator[range]:
        for start in range(0, count, self.batch):
            if len(self.asked) == self.dies_after:
                raise KeyboardInterrupt
            yield range(start, min(start + self.batch, count))


class ScriptedJudge:
    """Log-probabilities as `script` gives them for each question, texts as `says` gives them for each request.

    questions, requests: all that it was ever asked.
    """

    def __init__(
        self,
        script: Callable[[Question], tuple[float, ...] | None],
        says: Callable[[Request, int], str] = lambda request, number: "A thought.",
    ) -> None:
        self.script, self.says = script, says
        self.questions: list[Question] = []
        self.requests: list[Request] = []

    def choose(self, questions: Sequence[Question], max_length: int, title: str) -> list[Reading | None]:
        self.questions += questions
        found = map(self.script, questions)
        return [None if logprobs is None else Reading(logprobs) for logprobs in found]

    def generate(self, requests: Sequence[Request], sampling: Sampling, title: str) -> list[Reply | None]:
        self.requests += requests
        return [Reply(self.says(request, number), "stop") for number, request in enumerate(requests)]
