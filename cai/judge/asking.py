"""The AI judge: principles and pairs in, one label or abstention for each pair out.

    draw principles for a pair  ->  ask each by every method (methods.py)  ->  combine the votes (combine.py)  ->  P(a
    better)

A vote that cannot be read (too little probability on the options, a refusal, a question that is too long) is kept and
says why, but is not counted; a pair without a readable vote is an abstention, never a tie.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cai.config.sections import Judge
from cai.constitution import Judging, draw
from cai.core.draws import seed_of
from cai.core.records import Abstained, Label, Pair, Prompt, Vote
from cai.core.textstats import wordless
from cai.judge.combine import verdict, weighted, weights_of
from cai.judge.methods import (
    WITHOUT_OPTIONS,
    Ballot,
    Templates,
    alone,
    ballots,
    cast,
    merit,
    reasoned,
    shares,
    thoughts,
)
from cai.judge.sampled import sampled
from cai.models.engines import Question, Reading, Reply, Request, Sampling


class Asked(Protocol):
    """What the judge needs of an engine; cai/models/engines/cached.py has it."""

    def choose(self, questions: Sequence[Question], max_length: int, title: str) -> list[Reading | None]: ...
    def generate(self, requests: Sequence[Request], sampling: Sampling, title: str) -> list[Reply | None]: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One pair and the principles that it is judged by."""

    pair: Pair
    principles: tuple[Judging, ...]


def judge_pairs(
    engine: Asked,
    pairs: Sequence[Pair],
    judging: Sequence[Judging],
    judge: Judge,
    templates: Templates,
    *,
    seed: int,
    title: str,
    platt: tuple[float, float] | None = None,
) -> list[Label | Abstained]:
    """One label or abstention for each pair, in order, by principles drawn for it. Equal questions are asked once.

    An answer without a word loses to one with words, and no judge is asked: told to avoid harm, a judge may well prefer
    silence, and a policy that learns from it would learn to be silent. Such a label's source is "empty answer".

    platt: slope and bias that turn the judge's log-odds into calibrated ones; without them they are divided by
    `judge.temperature`.
    """
    jobs = [Job(pair, drawn(pair.prompt, judging, judge, seed)) for pair in pairs]
    return judge_jobs(engine, jobs, judge, templates, seed=seed, title=title, platt=platt)


def judge_jobs(
    engine: Asked,
    jobs: Sequence[Job],
    judge: Judge,
    templates: Templates,
    *,
    seed: int,
    title: str,
    platt: tuple[float, float] | None = None,
) -> list[Label | Abstained]:
    """As `judge_pairs`, with the principles of each pair given: the same pair may be asked about under many texts, and
    what their questions have in common is read once."""
    # 1. Write down what is to be asked.
    jobs = [replace(job, pair=replace(job.pair, prompt=_read(job.pair.prompt, judge))) for job in jobs]
    decided = [_without_words(job.pair) for job in jobs]
    jobs = [replace(job, principles=()) if known else job for job, known in zip(jobs, decided, strict=True)]
    papers: list[tuple[int, Ballot]] = []
    for method in shares(judge):
        if method == "reason":
            papers += _think(engine, jobs, judge, templates, seed, title)
        else:
            papers += [
                (index, ballot)
                for index, job in enumerate(jobs)
                for principle in job.principles
                for ballot in ballots(method, job.pair, principle, templates)
            ]

    # 2. Ask every distinct question once; the engine reads shared beginnings once.
    questions = [question for _, ballot in papers for question in ballot.questions]
    readings = ask_once(engine, questions, judge, title)

    # 3. Read the votes, and combine those of each job.
    votes: list[list[Vote]] = [[] for _ in jobs]
    for index, ballot in papers:
        answers = [readings[question] for question in ballot.questions]
        votes[index].append(cast(ballot, jobs[index].pair, answers, judge.min_mass))
    return [
        known or verdict(job.pair, tuple(mine), judge, weights_of(job.principles, judge), platt)
        for job, known, mine in zip(jobs, decided, votes, strict=True)
    ]


def _without_words(pair: Pair) -> Label | None:
    """The label of a pair of which one answer alone has words."""
    a, b = wordless(pair.a), wordless(pair.b)
    return None if a == b else Label(pair.id, float(b), "empty answer")


def judge_answers(
    engine: Asked,
    answers: Sequence[tuple[Prompt, str]],
    judging: Sequence[Judging],
    judge: Judge,
    templates: Templates,
    *,
    seed: int,
    title: str,
) -> list[float | None]:
    """How good each answer is by itself, in order: the mean over its principles of the log-odds of Yes (`rate`), of the
    expected rating (`score`), or of how much likelier it is behind the answer than its opposite (`channel`, of which
    differences alone mean something); of a mix of methods, their weighted mean.

    An opinion that cannot be read is left out; None for an answer without one. Equal questions are asked once.
    """
    asks = [
        (index, method, principle, alone(method, _read(prompt, judge).messages, answer, principle, templates))
        for index, (prompt, answer) in enumerate(answers)
        for principle in drawn(prompt, judging, judge, seed)
        for method in shares(judge)
    ]
    readings = ask_once(engine, [question for *_, questions in asks for question in questions], judge, title)
    weights = weights_of(judging, judge)
    opinions: list[dict[str, list[tuple[float, float]]]] = [defaultdict(list) for _ in answers]
    for index, method, principle, questions in asks:
        read = [reading for question in questions if (reading := readings[question]) is not None]
        massive = method in WITHOUT_OPTIONS or all(one.mass >= judge.min_mass for one in read if not one.fault)
        massive &= not any(one.fault for one in read)
        if massive and len(read) == len(questions):
            values = tuple(value for one in read for value in one.logprobs)
            opinions[index][method].append((weights[principle.name], merit(method, values)))
    return [
        weighted([(shares(judge)[method], weighted(found)) for method, found in mine.items()]) if mine else None
        for mine in opinions
    ]


def ask_once(
    engine: Asked, questions: Sequence[Question], judge: Judge, title: str
) -> dict[Question, Reading | None]:  # fmt: skip
    """What came of each distinct question; None where it is too long. The engine is not asked for nothing."""
    distinct = list(dict.fromkeys(questions))
    if not distinct:
        return {}
    if judge.verdict == "sampled":
        return dict(zip(distinct, sampled(engine, distinct, judge.samples, title), strict=True))
    return dict(zip(distinct, engine.choose(distinct, judge.max_length, title), strict=True))


def _read(prompt: Prompt, judge: Judge) -> Prompt:
    """The prompt as far as the judge reads it; its id, which principles are drawn by, stays."""
    if judge.turns is None:
        return prompt
    human = [place for place, message in enumerate(prompt.messages) if message.role == "user"]
    return replace(prompt, messages=prompt.messages[human[-judge.turns :][0] :]) if human else prompt


def drawn(prompt: Prompt, judging: Sequence[Judging], judge: Judge, seed: int) -> tuple[Judging, ...]:
    """By prompt, so that the pairs of one prompt share their principles, and with them the judge's calls."""
    n = len(judging) if judge.principles == "all" else judge.principles
    return draw(judging, seed=seed, key=prompt.id, subset=prompt.subset, n=n)


def _think(
    engine: Asked,
    jobs: Sequence[Job],
    judge: Judge,
    templates: Templates,
    seed: int,
    title: str,
) -> list[tuple[int, Ballot]]:
    """Chains of thought for every job, principle, order and sample, and the ballots that follow from them."""
    asks = [
        (index, principle.name, order, chat, sample)
        for index, job in enumerate(jobs)
        for principle in job.principles
        for order, chat in thoughts(job.pair, principle, templates)
        for sample in range(judge.reason.samples)
    ]
    requests = [
        Request(chat, seed_of("reason", seed, jobs[index].pair.id, principle, order, sample))
        for index, principle, order, chat, sample in asks
    ]
    sampling = Sampling(judge.reason.max_new_tokens, judge.reason.temperature)
    replies = engine.generate(requests, sampling, f"{title}: think")
    return [
        (index, reasoned(principle, order, chat, reply, templates))
        for (index, principle, order, chat, _), reply in zip(asks, replies, strict=True)
    ]


# Combining votes ------------------------------------------------------------------------------------------------------
