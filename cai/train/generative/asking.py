"""How a generative reward model is asked: by one principle, in both orders of a pair, several times each.

    1. Draw the rationale, in the words of prompts/reason.jinja (the judge's method `reason`).
    2. Read the verdict after it off the log-probabilities of (A) and (B) (prompts/verdict.jinja): soft, and never
       written (Zhang et al. 2024, section 3.1).
    3. Vote: the probabilities of an order's rationales are averaged (the same, section 3.3), and then the log-odds of
       the two orders, in which a liking for a letter cancels.

A rationale that is none (empty, a refusal, a loop) has no vote. A pair of which an order has no vote is not judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from cai.config.sections import Reward
from cai.constitution import Constitution, Judging, draw
from cai.core.draws import seed_of
from cai.core.errors import UserError
from cai.core.odds import logit, sigmoid
from cai.core.records import Chat, Message, Pair, Vote
from cai.core.templates import Template, load_template
from cai.core.textstats import whole_sentences
from cai.judge.asking import JudgeEngine
from cai.judge.ballots import TOO_LONG
from cai.judge.methods import METHODS, cast, log_odds
from cai.judge.methods.reason import reasoned
from cai.models.engines import Reply, Request, Sampling
from cai.train.trainable import Trainable

REASON = METHODS["reason"]
NO_VOTE = "no rationale of one order could be read"


@dataclass(frozen=True, slots=True)
class RationaleAsking:
    """principles: of which one is drawn for each prompt, by `seed`. samples: rationales for each order.

    max_length: tokens of the question, the rationale and the verdict's question; what may be longer is not asked.
    """

    principles: tuple[Judging, ...]
    templates: Mapping[str, Template]
    sampling: Sampling
    samples: int
    min_mass: float
    max_length: int
    seed: int

    @classmethod
    def of(cls, reward: Reward, constitution: Constitution, seed: int, *, samples: int) -> "RationaleAsking":
        """Raises UserError for a constitution without a principle in words."""
        if not constitution.judging:
            problem = "no principle in words: a generative reward model is asked by one (`Prefer:`)"
            raise UserError(problem, str(constitution.path), "write a Prefer:, or reward.kind: scalar")
        return cls(
            principles=constitution.judging, templates={name: load_template(name) for name in REASON.prompts},
            sampling=Sampling(reward.rationale_tokens, reward.temperature), samples=samples, min_mass=reward.min_mass,
            max_length=reward.max_length, seed=seed,
        )  # fmt: skip

    def keyed(self) -> dict[str, Any]:
        return {
            "judging": self.principles, "templates": self.templates, "sampling": self.sampling,
            "samples": self.samples, "min_mass": self.min_mass, "max_length": self.max_length, "drawn_by": self.seed,
        }  # fmt: skip

    def principle(self, pair: Pair) -> Judging:
        (principle,) = draw(self.principles, seed=self.seed, key=pair.prompt.id, subset=pair.prompt.subset)
        return principle

    def chats(self, pair: Pair) -> dict[str, Chat]:
        """Order, "ab" or "ba" -> the question that a rationale answers."""
        assert REASON.thinking
        return dict(REASON.thinking.chats(pair, self.principle(pair), self.templates))

    def after(self, chat: Chat, rationale: str) -> Chat:
        """The question of the verdict, behind a rationale."""
        return self.templates["verdict"].render(messages=(*chat, Message("assistant", rationale)))

    def fits(self, engine: Any, pair: Pair) -> bool:
        """Whether the verdict can be asked for after the longest rationale, in both orders."""
        longest = max(len(engine.prompt_ids(self.after(chat, "."))) for chat in self.chats(pair).values())
        return longest + self.sampling.max_new_tokens <= self.max_length


@dataclass(frozen=True, slots=True)
class GenerativeReader:
    """A generative reward model, and how it is asked. seed: of the rationales that it draws."""

    model: Trainable
    asking: RationaleAsking
    seed: int

    def keyed(self) -> dict[str, Any]:
        return {**self.model.keyed(), **self.asking.keyed(), "seed": self.seed}


@dataclass(frozen=True, slots=True)
class Thought:
    """A rationale in its place, and the vote that came of it. vote.reply: its text; vote.order: who was (A)."""

    pair_id: str
    number: int
    vote: Vote


def deliberate(
    engine: JudgeEngine, pairs: Sequence[Pair], asking: RationaleAsking, *, seed: int, title: str
) -> list[tuple[Thought, ...]]:
    """`samples` thoughts for each order of each pair, in order; none of a pair that is too long.

    seed: of the draws. The thoughts are nested: of four samples the first two are those of two.
    """
    places = [
        (place, order, chat, number)
        for place, pair in enumerate(pairs)
        if asking.fits(engine, pair)
        for order, chat in asking.chats(pair).items()
        for number in range(asking.samples)
    ]
    requests = [
        Request(chat, seed_of("rationale", seed, pairs[place].id, order, number))
        for place, order, chat, number in places
    ]
    replies = engine.generate(requests, asking.sampling, f"{title}: rationales")
    written = [(pairs[place], order, whole(reply)) for (place, order, *_), reply in zip(places, replies, strict=True)]
    votes = verdicts(engine, written, asking, title=title)
    thoughts: list[list[Thought]] = [[] for _ in pairs]
    for (place, _, _, number), vote in zip(places, votes, strict=True):
        thoughts[place].append(Thought(pairs[place].id, number, vote))
    return [tuple(mine) for mine in thoughts]


def whole(reply: Reply | None) -> str | None:
    """Of a rationale that was cut off, its whole sentences: a verdict is not to hang on half a one."""
    return None if reply is None else reply.text if reply.finish == "stop" else whole_sentences(reply.text)


def verdicts(
    engine: JudgeEngine, written: Sequence[tuple[Pair, str, str | None]], asking: RationaleAsking, *, title: str
) -> list[Vote]:
    """The vote after each rationale, whoever wrote it: (pair, order, text), None where there is no text."""
    ballots = []
    for pair, order, text in written:
        reply = None if text is None else Reply(text, "stop")
        ballots.append(
            reasoned(asking.principle(pair).name, order, asking.chats(pair)[order], reply, asking.templates)
        )  # fmt: skip
    questions = list(dict.fromkeys(question for ballot in ballots for question in ballot.questions))
    readings = dict(zip(questions, engine.choose(questions, asking.max_length, f"{title}: verdicts"), strict=True))
    return [cast(ballot, [readings[q] for q in ballot.questions], asking.min_mass) for ballot in ballots]


def voted(votes: Sequence[Vote]) -> float | None:
    """Log-odds of "a is better" from the votes of both orders; None where one has none that can be read."""
    orders: dict[str, list[float]] = {}
    for vote in votes:
        if not vote.fault:
            orders.setdefault(vote.order, []).append(sigmoid(log_odds(vote)))
    return fmean(logit(fmean(shares)) for shares in orders.values()) if len(orders) == 2 else None


def why_unvoted(votes: Sequence[Vote]) -> str:
    """Why `voted` gives None."""
    return NO_VOTE if votes else TOO_LONG.replace("judge.", "reward.")


def first_shown(vote: Vote) -> float:
    """P of the answer that was shown first, (A), of (A) and (B)."""
    first, second = vote.logprobs
    return sigmoid(first - second)
