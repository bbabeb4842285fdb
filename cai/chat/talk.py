"""A conversation with one or two policies, without a terminal: turns, draws, scores.

*One history, shared.* Two policies answer one and the same conversation, which then goes on with the answer that the
person prefers (the first policy's, unless they say otherwise), as in Bai et al. ("Training a Helpful and Harmless
Assistant", 2022, section 2.2). So in every turn the two answers are to one prompt: rewards, the judge's verdict and a
saved pair compare answers, not conversations. With `own` each policy keeps its own history, what it said itself; then
the answers can be compared only as long as the histories are the same.

*Draws.* An answer's draw depends on the seed, the conversation and how often the turn was made again, so that both
policies have the same draws, and the same words typed again get the same answers.

Roles are data: what a person types is one message, and cai/models/chat.py breaks what a tokenizer reads as a turn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cai.chat.policies import Party
from cai.core.draws import identity, seed_of
from cai.core.errors import UserError
from cai.core.records import Abstained, Chat, Message, Pair, Prompt
from cai.core.textstats import wordless
from cai.judge.asking import judge_answers, judge_pairs
from cai.judge.methods import ALONE, shares
from cai.judge.moderation import ModeratedText, removes
from cai.models.chat import answered
from cai.models.engines import Request, Sampling
from cai.models.loading import shared_tokenizer
from cai.models.workbench import Workbench

Show = Callable[[int, str], None]  # (place of the speaker, its answer so far)
CANNOT_TELL_ALONE = ("channel",)  # of such a method's values only differences mean something


@dataclass(frozen=True, slots=True)
class Spoken:
    """finish: "interrupted" where the person ended it."""

    text: str
    finish: Literal["stop", "length", "interrupted"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What each speaker was asked, with the system message where the person set one, and what it answered.

    redone: how often the turn was made again.
    """

    chats: tuple[Chat, ...]
    answers: tuple[Spoken, ...]
    redone: int = 0

    @property
    def comparable(self) -> bool:
        """Whether its two answers are to one conversation."""
        return len(self.chats) == 2 and self.chats[0] == self.chats[1]


@dataclass(frozen=True, slots=True)
class Scores:
    """rewards: reward model -> of each answer; None for one that is too long for it, or has no word.

    better: P(the first answer is the better one) to the judge. values: how good each is, in the judge's log-odds or
    points, where it was asked about one alone. unjudged: why it said nothing.
    """

    rewards: dict[str, list[float | None]] = field(default_factory=dict)
    better: float | None = None
    values: list[float | None] = field(default_factory=list)
    unjudged: str = ""


class Talk:
    """histories: what each speaker goes on from. own: each from what it said itself. kept: whose answer of the last
    turn a shared history goes on with. system: set by the person; None for what each policy was trained under."""

    def __init__(self, party: Party, work: Workbench, sampling: Sampling, draws: int = 0, own: bool = False) -> None:
        self.party, self.work, self.sampling, self.draws, self.own = party, work, sampling, draws, own
        self.names = tuple(party.speakers)
        self.system: str | None = None
        self.reset()

    def reset(self) -> None:
        """Begin a new conversation, under the same system message."""
        self.histories: list[Chat] = [()] * len(self.names)
        self.turn: Exchange | None = None
        self.kept = 0

    # Turns ------------------------------------------------------------------------------------------------------------

    def say(self, text: str, show: Show = lambda place, text: None) -> Exchange:
        """Every policy's answer to what the person says. Raises UserError where the conversation is too long for one,
        or the run's moderation does not let it through: then nothing was said."""
        chats = self._asked(text)
        self._check(chats[0])
        return self._answer(chats, 0, show)

    def again(self, show: Show = lambda place, text: None) -> Exchange:
        """The last turn with other draws. Raises UserError where there is none."""
        if self.turn is None:
            raise UserError("there is no answer yet", "/regenerate", "say something first")
        return self._answer(self.turn.chats, self.turn.redone + 1, show)

    def _check(self, chat: Chat) -> None:
        """`moderation.at: queries`: what it says of the last message. Raises UserError."""
        if self.party.moderator is None:
            return
        last = _prompt(chat if self.party.moderator.judge or self.party.moderator.classifier else chat[-1:])
        (flags,) = self.party.moderator.flags(self.work, [ModeratedText(last)])
        if removes(flags):
            why = "; ".join(f"{flag.filter}: {flag.reason}" for flag in flags if not flag.unread)
            raise UserError(f"the run's moderation does not let this message through ({why})", "", "say it otherwise")

    def use(self, place: int) -> None:
        """The conversation goes on with this speaker's answer. Raises UserError where it cannot be chosen."""
        if self.turn is None or len(self.names) == 1:
            raise UserError("there are no two answers to choose from", "", "say something to two policies first")
        if self.own:
            raise UserError("each policy goes on from its own answers", "--own-history", "start without it to choose")
        self.kept = place

    def _asked(self, text: str) -> tuple[Chat, ...]:
        """The conversations with what is said now; the last turn is thereby over."""
        before = self._over()
        system = () if self.system is None else (Message("system", self.system),)
        return tuple((*system, *history, Message("user", text)) for history in before)

    def _over(self) -> list[Chat]:
        """The histories with the last turn. An answer without a word is no answer to go on from: it was not asked."""
        if self.turn is None:
            return self.histories
        places = range(len(self.names)) if self.own else [self.kept] * len(self.names)
        added = []
        for place, history in zip(places, self.histories, strict=True):
            answer, asked = self.turn.answers[place], self.turn.chats[place][-1]
            more = () if wordless(answer.text) else (asked, Message("assistant", answer.text))
            added.append((*history, *more))
        return added

    def _answer(self, chats: tuple[Chat, ...], redone: int, show: Show) -> Exchange:
        answers = []
        for place, (speaker, chat) in enumerate(zip(self.party.speakers.values(), chats, strict=True)):
            engine = speaker.engine(self.work)
            seed = seed_of("chat", self.draws, redone, *((message.role, message.content) for message in chat))
            answer = self._streamed(engine, Request(chat, seed), lambda text, at=place: show(at, text))
            if answer is None:
                tokens = len(engine.prompt_ids(chat))
                problem = f"the conversation has {tokens} tokens, which leaves {self.names[place]} no room to answer"
                raise UserError(problem, "", "/reset begins a new one; or say it in fewer words")
            answers.append(answer)
        if redone == 0:
            self.histories = self._over()
        self.turn, self.kept = Exchange(chats, tuple(answers), redone), 0
        return self.turn

    def _streamed(self, engine: Any, request: Request, show: Callable[[str], None]) -> Spoken | None:
        """None where there is no room for an answer. Ctrl-C ends it; what there is of it stands."""
        so_far = ""

        def keep(text: str) -> None:
            nonlocal so_far
            so_far = text
            show(text)

        try:
            reply = engine.stream(request, self.sampling, keep)
        except KeyboardInterrupt:
            return Spoken(so_far.strip(), "interrupted")
        return reply and Spoken(reply.text, reply.finish)

    # Scores -----------------------------------------------------------------------------------------------------------

    def rewards(self) -> dict[str, list[float | None]]:
        """Of the last turn's answers, under every reward model; each reads under its own arm's system prompt."""
        from cai.models.score import score  # heavy

        turn = self._last()
        spoken = [place for place, answer in enumerate(turn.answers) if not wordless(answer.text)]
        rewards: dict[str, list[float | None]] = {}
        for name, scorer in self.party.scorers.items():
            reads = scorer.reward
            chats = [answered(turn.chats[place], turn.answers[place].text, reads.policy.system) for place in spoken]
            values = score(
                self.work.reward_model(reads.ref, reads.dtype), shared_tokenizer(reads.ref), chats,
                max_length=scorer.max_length, batch_tokens=self.work.runtime.batch_tokens,
            )  # fmt: skip
            scored = dict(zip(spoken, values, strict=True))
            rewards[name] = [scored.get(place) for place in range(len(turn.answers))]
        return rewards

    def scores(self) -> Scores:
        """Rewards, and what the judge says of the last turn: which of two answers is better, or how good one is."""
        return self._judged(self.rewards())

    def _judged(self, rewards: dict[str, list[float | None]]) -> Scores:
        judge, turn = self.party.judge, self._last()
        if judge is None:
            return Scores(rewards)
        if len(turn.answers) == 1:
            if not set(shares(judge.settings)) <= set(ALONE) - set(CANNOT_TELL_ALONE):
                return Scores(rewards, unjudged="it compares, and there is one answer")
            single = [(_prompt(turn.chats[0]), turn.answers[0].text)]
            return Scores(rewards, values=judge_answers(judge.engine(self.work), single, judge, title="judge"))
        if not turn.comparable:
            return Scores(rewards, unjudged="the two answer different conversations")
        a, b = (answer.text for answer in turn.answers)
        if a == b:
            return Scores(rewards, better=0.5)
        pair = Pair(identity("game", a, b), _prompt(turn.chats[0]), a, b)
        (verdict,) = judge_pairs(judge.engine(self.work), [pair], judge, title="judge")
        if isinstance(verdict, Abstained):
            return Scores(rewards, unjudged=verdict.reason)
        return Scores(rewards, better=verdict.p_a)

    def _last(self) -> Exchange:
        assert self.turn is not None
        return self.turn


def _prompt(chat: Chat) -> Prompt:
    """A conversation as the judge is given it, under the subset of prompts that name none."""
    return Prompt(identity("prompt", *(message.content for message in chat)), chat, "all", "train")


def as_text(texts: Sequence[str]) -> str:
    """Lines as they came from a terminal or a pipe, as text: bytes that were no UTF-8 are shown as such."""
    return "\n".join(texts).encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()
