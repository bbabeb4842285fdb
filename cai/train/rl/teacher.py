"""What the teacher of self-distillation reads, and the student does not (`rl.method: self_distil`).

    student   the policy's system prompt, the conversation
    teacher   principles drawn for the prompt, all limits that apply, with `distil.critique` a criticised draft, in the
              words of prompts/self_distil.jinja; then the same

A prompt for which no principle and no limit is meant has no context: there the teacher is the policy as it was, which
holds the student in place. All text goes in as values, so that nothing of it can forge a turn.

The criticised draft is another answer of the student's to the same prompt: the next one of its group, the first for the
last. A critique of the very answer that is learnt from would not do. It would tell the teacher at each token what comes
after it: a critique that quotes a bad word makes that word likelier where it stands, and no answer could be written
under such a context. With another answer's critique the teacher at each token knows the prompt, the principles and a
draft, as a reviser does, and every divergence is well defined. Averaged over drafts, the teacher is what SL-CAI samples
its revisions from (Bai et al. 2022, section 3.1), here token by token on the student's own answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cai.config.rl import SelfDistil
from cai.constitution import Constitution, Judging, Limit, Revising, draw
from cai.core.errors import UserError
from cai.core.records import Chat, Message, Prompt
from cai.core.templates import Template, load_template
from cai.models.chat import chat_ids, with_system


@dataclass(frozen=True, slots=True)
class CritiqueRequest:
    """How a model is asked for a critique. principles: of the same names as the teacher's."""

    principles: tuple[Revising, ...]
    template: Template

    def chat(self, name: str, messages: Chat, draft: str) -> Chat:
        """name: of the principle that it is criticised by."""
        principle = next(p for p in self.principles if p.name == name)
        return self.template.render(messages=(*messages, Message("assistant", draft)), principle=principle)


@dataclass(frozen=True, slots=True)
class TeacherContext:
    """count: principles that are drawn for a prompt. critiquing: None without critiques."""

    principles: tuple[Judging, ...]
    limits: tuple[Limit, ...]
    template: Template
    count: int | Literal["all"]
    seed: int
    critiquing: CritiqueRequest | None = None

    @classmethod
    def of(cls, constitution: Constitution, settings: SelfDistil, seed: int) -> "TeacherContext":
        """Raises UserError where the constitution has nothing to teach by."""
        principles, limits, critiquing = constitution.judging, constitution.order.limits, None
        if settings.critique:
            named = {principle.name for principle in constitution.revising}
            principles = tuple(principle for principle in principles if principle.name in named)
            critiquing = CritiqueRequest(constitution.revising, load_template("critique"))
        if not principles and (settings.critique or not limits):
            what = "both Prefer: and Critique:" if settings.critique else "Prefer: or Never:"
            raise UserError(
                f"{constitution.path} has no principle with {what}, and a teacher has nothing to go by",
                "rl.distil",
                "add one" + (", or set distil.critique: false" if settings.critique else ""),
            )
        return cls(principles, limits, load_template("self_distil"), settings.principles, seed, critiquing)

    def keyed(self) -> dict[str, Any]:
        """Limits and critiques stand there only where there are some."""
        more: dict[str, Any] = {"taught_limits": self.limits} if self.limits else {}
        more |= {"critics": self.critiquing.principles, "critique": self.critiquing.template} if self.critiquing else {}
        names = {"taught": self.principles, "taught_count": self.count, "taught_seed": self.seed}
        return {**names, "context": self.template, **more}

    def drawn(self, prompt: Prompt) -> tuple[Judging, ...]:
        """The principles that the teacher has in its context; none where none is meant for the prompt."""
        able = [p for p in self.principles if not p.applies_to or prompt.subset in p.applies_to]
        count = len(able) if self.count == "all" else self.count
        return draw(able, seed=self.seed, key=prompt.id, subset=prompt.subset, n=count) if able else ()

    def chat(self, prompt: Prompt, system: str | None, draft: str = "", critique: str = "") -> Chat:
        """system: the policy's system prompt, which stands behind the principles."""
        messages = with_system(prompt.messages, system)
        limits = [limit for limit in self.limits if not limit.applies_to or prompt.subset in limit.applies_to]
        principles = self.drawn(prompt)
        if not (principles or limits or critique):
            return messages
        read = self.template.render(
            messages=messages, principles=principles, limits=limits, draft=draft, critique=critique
        )
        # A template that says nothing leaves an empty turn, or empty lines before the system prompt.
        (own, others), (text, rest) = _apart(messages), _apart(read)
        return messages if (own, others) == (text, rest) else read if text else rest

    def critique_chat(self, prompt: Prompt, draft: str) -> Chat | None:
        """What the model is asked about a draft; None where none is wanted, or no principle is meant for the prompt."""
        if not (self.critiquing and (principles := self.drawn(prompt))):
            return None
        return self.critiquing.chat(principles[0].name, prompt.messages, draft)


def _apart(chat: Chat) -> tuple[str, Chat]:
    """(what the system turn says, the other turns)."""
    has_system = bool(chat) and chat[0].role == "system"
    return (chat[0].content.strip(), chat[1:]) if has_system else ("", chat)


class TeacherReader:
    """The teacher's contexts as token ids, for prompts known by their ids. system: the policy's system prompt.

    most: tokens of a context; of a longer one the critique is left out.
    """

    def __init__(
        self, tokenizer: Any, prompts: Sequence[Prompt], context: TeacherContext, system: str | None, most: int
    ) -> None:
        self.tokenizer, self.context, self.system, self.most = tokenizer, context, system, most
        self.prompts: Mapping[str, Prompt] = {prompt.id: prompt for prompt in prompts}

    @property
    def criticises(self) -> bool:
        return self.context.critiquing is not None

    def ids(self, prompt_id: str, draft: str = "", critique: str = "") -> list[int]:
        """Of the teacher's context, opened for an answer."""
        prompt = self.prompts[prompt_id]
        ids = chat_ids(self.tokenizer, self.context.chat(prompt, self.system, draft, critique), answer=True)
        if critique and len(ids) > self.most:
            return self.ids(prompt_id)
        return ids

    def critique_ids(self, prompt_id: str, draft: str) -> list[int] | None:
        """Of the request for a critique; None where there is to be none, or it would be too long."""
        chat = self.context.critique_chat(self.prompts[prompt_id], draft)
        if chat is None:
            return None
        ids = chat_ids(self.tokenizer, with_system(chat, self.system), answer=True)
        return ids if len(ids) <= self.most else None

    def check(self) -> None:
        """Do principles and prompts fit? Raises UserError for the first that does not."""
        for name in self.prompts:
            if (length := len(self.ids(name))) > self.most:
                raise UserError(
                    f"with its principles in front a prompt has {length} tokens, and the model reads {self.most} "
                    "beside an answer",
                    "rl.max_prompt_tokens",
                    "lower it, lower rl.distil.principles, or shorten the principles",
                )
