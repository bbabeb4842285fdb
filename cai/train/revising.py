"""Asking a model for critiques and revisions (Bai et al. 2022, section 3.1): what it is shown, and what it says.

Two forms. By itself a revision is asked for with draft and criticism in the system turn (prompts/revision.jinja),
because a small model that is asked after its critique repeats the critique. With worked examples (`revise.examples`)
it is the paper's own form: conversation, draft, request for a critique, critique, request for the revision, after some
rounds of the same kind (prompts/request.jinja); without critiques those turns are left out of the examples as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from cai.config.sections import Revise
from cai.constitution import Revising
from cai.core.draws import seed_of
from cai.core.errors import UserError
from cai.core.records import Chat, Message
from cai.core.templates import Template, load_template
from cai.core.textstats import whole_sentences
from cai.models.engines import Reply, Request, Sampling
from cai.models.references import ModelRef, find, find_served

# The turns of one worked round: a prompt, a draft, a request, a critique, a request, a revision.
ROUND = ("user", "assistant") * 3


class Generates(Protocol):
    def generate(self, requests: Sequence[Request], sampling: Sampling, title: str) -> list[Reply | None]: ...


@dataclass(frozen=True, slots=True)
class Wording:
    """critique: None asks for revisions straight away. examples: turns of worked rounds, as ROUND. why: how a reason
    stands beside what is asked for (`constitution.why: critique`); None where no reason is read."""

    critique: Template | None
    revision: Template
    examples: Chat = ()
    why: Template | None = None


@dataclass(frozen=True, slots=True)
class RevisionTask:
    """An answer to be revised by one principle. prompt_id: what the draws depend on, beside the step."""

    prompt_id: str
    conversation: Chat
    answer: str
    principle: Revising


def wording_of(settings: Revise) -> Wording:
    """The templates that the settings name. Raises UserErrors for what is wrong in them."""
    critique = load_template("critique") if settings.critique else None
    if settings.examples:
        return Wording(critique, load_template("request"), read_examples(settings.examples))
    return Wording(critique, load_template("revision" if critique else "direct"))


def read_examples(file: str) -> Chat:
    """The turns of a file of worked rounds. Raises UserError where they are no whole rounds."""
    template = load_template(Path(file))
    chat = template.render()
    for start in range(0, len(chat), len(ROUND)):
        if tuple(turn.role for turn in chat[start : start + len(ROUND)]) != ROUND:
            problem = f"worked round {start // len(ROUND) + 1} is not: {', '.join(ROUND)}"
            remedy = (
                "a prompt, a draft, a request, a critique, a request and a revision, as prompts/examples/revise.jinja"
            )
            raise UserError(problem, str(template.path), remedy)
    return chat


@dataclass(frozen=True, slots=True)
class RevisedBy:
    """Who criticises and revises, and how it is asked. reviser: None for the model whose drafts they are.

    Examples and a reviser stand in keys only where there are some.
    """

    settings: Revise
    wording: Wording
    seed: int
    reviser: ModelRef | None = None

    @classmethod
    def of(cls, settings: Revise, seed: int, *, reasons: bool = False) -> "RevisedBy":
        """reasons: whether any are read. Raises UserErrors for a template, examples or a model that is not there."""
        wording = wording_of(settings)
        wording = replace(wording, why=load_template("why")) if reasons else wording
        return cls(settings, wording, seed, reviser_of(settings))

    def keyed(self) -> dict[str, Any]:
        wording = self.wording
        more: dict[str, Any] = {"examples": wording.examples} if wording.examples else {}
        more |= {"reviser": self.reviser} if self.reviser else {}
        more |= {"why": wording.why} if wording.why else {}
        words = {"critique": wording.critique, "revision": wording.revision}
        return {"settings": self.settings, "seed": self.seed, **words, **more}


def reviser_of(settings: Revise) -> ModelRef | None:
    """`revise.model`, in process or where `revise.server` has it; None for the model whose drafts they are."""
    if settings.model is None:
        return None
    return find_served(settings.model, settings.server) if settings.server else find(settings.model)


# What a model is shown ------------------------------------------------------------------------------------------------


def critique_chat(wording: Wording, task: RevisionTask) -> Chat:
    assert wording.critique
    asked = wording.critique.render(messages=_answered(task), principle=shown(task.principle, wording))
    return _after(wording.examples, asked)


def revision_chat(wording: Wording, task: RevisionTask, critique: str) -> Chat:
    if not wording.examples:
        values: dict[str, Any] = {"critique": critique} if wording.critique else {}
        values |= {"messages": task.conversation, "answer": task.answer, "principle": shown(task.principle, wording)}
        return wording.revision.render(**values)
    if wording.critique:
        so_far = (*critique_chat(wording, task), Message("assistant", critique))
    else:
        direct = (turn for place, turn in enumerate(wording.examples) if place % len(ROUND) not in (2, 3))
        so_far = _after(tuple(direct), _answered(task))
    return wording.revision.render(messages=so_far, principle=shown(task.principle, wording))


def shown(principle: Revising, wording: Wording) -> Revising:
    """The principle as it is shown: with its reason beside what it asks for, where that is read."""
    why = getattr(principle, "why", "")
    if not why or wording.why is None:
        return principle
    template = wording.why
    critique, revise, text = (
        asked and template.render(text=asked, why=why)[-1].content
        for asked in (principle.critique, principle.revise, principle.text)
    )
    return replace(principle, critique=critique, revise=revise, text=text)


def _answered(task: RevisionTask) -> Chat:
    return (*task.conversation, Message("assistant", task.answer))


def _after(examples: Chat, chat: Chat) -> Chat:
    """The chat with the examples between its system turn and the rest."""
    start = int(chat[0].role == "system")
    return (*chat[:start], *examples, *chat[start:])


# What it says ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reviser:
    """Whoever criticises and revises. Equal tasks under equal steps have equal draws."""

    engine: Generates
    wording: Wording
    sampling: Sampling
    seed: int

    @classmethod
    def of(cls, engine: Generates, wording: Wording, settings: Revise, seed: int) -> "Reviser":
        return cls(engine, wording, Sampling(settings.max_new_tokens, settings.temperature), seed)

    def critiques(self, tasks: Sequence[RevisionTask], steps: Sequence[str], title: str) -> list[str | None]:
        """One a piece; empty, unasked, where the wording has no critiques; None where the chat is too long."""
        if not self.wording.critique:
            return [""] * len(tasks)
        chats = [critique_chat(self.wording, task) for task in tasks]
        return self._texts(tasks, steps, chats, title)

    def revisions(
        self, tasks: Sequence[RevisionTask], critiques: Sequence[str | None], steps: Sequence[str], title: str
    ) -> list[str | None]:
        chats = [
            revision_chat(self.wording, task, critique or "") for task, critique in zip(tasks, critiques, strict=True)
        ]
        return self._texts(tasks, steps, chats, title)

    def _texts(
        self, tasks: Sequence[RevisionTask], steps: Sequence[str], chats: Sequence[Chat], title: str
    ) -> list[str | None]:
        named = [(task.prompt_id, step, chat) for task, step, chat in zip(tasks, steps, chats, strict=True)]
        return sample_texts(self.engine, named, self.sampling, self.seed, title)


def sample_texts(
    engine: Generates, tasks: Sequence[tuple[str, str, Chat]], sampling: Sampling, seed: int, title: str
) -> list[str | None]:
    """One sampled text, in whole sentences, for each (prompt id, step, chat); None where the chat is too long."""
    requests = [Request(chat, seed_of("sample", seed, name, step)) for name, step, chat in tasks]
    replies = engine.generate(requests, sampling, title)
    whole = {"stop": str, "length": whole_sentences}
    return [None if reply is None else whole[reply.finish](reply.text) for reply in replies]
