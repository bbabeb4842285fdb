"""The AI judge: principles and pairs in, one label or abstention for each pair out.

    draw principles for a pair  ->  compute what has a `Check:` (checkers/), and ask the others by every method
    (methods/), and about every limit (limits.py)  ->  combine the votes (combine.py)  ->  P(a better)

A vote that cannot be read (too little probability on the options, a refusal, a question that is too long) is kept and
says why, but is not counted; a pair without a readable vote is an abstention, never a tie.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from cai.config.sections import Judge
from cai.constitution import Checked, Judging, draw
from cai.core.draws import seed_of
from cai.core.records import Abstained, Label, Pair, Prompt, Vote
from cai.core.textstats import wordless
from cai.judge.asked import AskedJudge, FewShot
from cai.judge.ballots import Ballot, Thinking, read_of
from cai.judge.checkers import answer_value, check_allowed, pair_checked
from cai.judge.combine import CHECK, stacked, tiers, verdict, weighted, weights_of
from cai.judge.limits import applying, limit_vote, looks, sides, worth_within
from cai.judge.methods import METHODS, cast, shares
from cai.judge.rubric import rubric_scores, rubric_verdicts, rubrics_of
from cai.judge.sampled import sampled
from cai.models.engines import Question, Reading, Reply, Request, Sampling

# Votes that are asked for together. A vote is two questions or more, each some 30 kB of text and tokens while it is
# asked: 4,096 hold at most a few hundred MB, and are enough for full batches on any card.
AT_ONCE = 4096


class JudgeEngine(Protocol):
    """What the judge needs of an engine; cai/models/engines/cached.py has it."""

    def choose(self, questions: Sequence[Question], max_length: int, title: str) -> list[Reading | None]: ...
    def generate(self, requests: Sequence[Request], sampling: Sampling, title: str) -> list[Reply | None]: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One pair and the principles that it is judged by."""

    pair: Pair
    principles: tuple[Judging, ...]


def judge_pairs(
    engine: JudgeEngine,
    pairs: Sequence[Pair],
    judge: AskedJudge,
    *,
    title: str,
    platt: tuple[float, float] | None = None,
) -> list[Label | Abstained]:
    """One label or abstention for each pair, in order, by principles drawn for it. Equal questions are asked once.

    An answer without a word loses to one with words, and no judge is asked: told to avoid harm, a judge may well prefer
    silence, and a policy that learns from it would learn to be silent. Such a label's source is "empty answer".

    platt: slope and bias that turn the judge's log-odds into calibrated ones; without them they are divided by
    `judge.temperature`.
    """
    if judge.rubric:
        return _by_rubric(engine, pairs, judge, title, platt)
    jobs = [Job(pair, drawn(pair.prompt, judge.principles, judge)) for pair in pairs]
    return judge_jobs(engine, jobs, judge, title=title, platt=platt)


def judge_jobs(
    engine: JudgeEngine, jobs: Sequence[Job], judge: AskedJudge, *, title: str, platt: tuple[float, float] | None = None
) -> list[Label | Abstained]:
    """As `judge_pairs`, with the principles of each pair given: the same pair may be asked about under many texts, and
    what their questions have in common is read once.

    Many jobs are judged in blocks, so that what is held grows with a block and not with the labelling.
    """
    check_allowed((*judge.principles, *judge.order.checked), judge.settings)
    made: dict[int, Label | Abstained] = {}
    methods, few = len(shares(judge.settings)), FewShot(judge)
    votes = [(job.pair.prompt.id, max(1, len(job.principles)) * methods) for job in jobs]
    for part, block in _titled(title, list(blocks_of(votes))):
        labels = _judge_block(engine, [jobs[place] for place in block], few, part, platt)
        made |= dict(zip(block, labels, strict=True))
    return [made[place] for place in range(len(jobs))]


def blocks_of(asked: Sequence[tuple[str, int]]) -> Iterator[Sequence[int]]:
    """Places of what is judged at once: all, or for more than AT_ONCE votes so many as they come. What is asked about
    one prompt stays together, because its questions begin alike.

    asked: of each place, the id of its prompt and the number of its votes.
    """
    if sum(votes for _, votes in asked) <= AT_ONCE:
        yield range(len(asked))
        return
    of_prompt: dict[str, list[int]] = defaultdict(list)
    for place, (prompt, _) in enumerate(asked):
        of_prompt[prompt].append(place)
    block: list[int] = []
    count = 0
    for places in of_prompt.values():
        more = sum(asked[place][1] for place in places)
        if block and count + more > AT_ONCE:
            yield block
            block, count = [], 0
        block += places
        count += more
    yield block


def _titled(title: str, blocks: Sequence[Sequence[int]]) -> Iterator[tuple[str, Sequence[int]]]:
    """Each block with what its progress is called."""
    for number, block in enumerate(blocks, 1):
        yield (f"{title}, part {number} of {len(blocks)}" if len(blocks) > 1 else title), block


def _judge_block(
    engine: JudgeEngine, jobs: Sequence[Job], few: FewShot, title: str, platt: tuple[float, float] | None
) -> list[Label | Abstained]:
    # 1. Compute what a program decides, and write down what is to be asked.
    judge, settings, order = few.judge, few.judge.settings, few.judge.order
    jobs = [replace(job, pair=replace(job.pair, prompt=_read(job.pair.prompt, settings))) for job in jobs]
    decided = [_without_words(job.pair) for job in jobs]
    jobs = [replace(job, principles=()) if known else job for job, known in zip(jobs, decided, strict=True)]
    votes = [_computed(job, settings) for job in jobs]
    to_ask = [_unsettled(job, computed) for job, computed in zip(jobs, votes, strict=True)]
    papers: list[tuple[int, Ballot]] = []
    for method in map(METHODS.__getitem__, shares(settings)):
        if method.name == CHECK:
            continue
        if method.thinking:
            papers += _think(engine, to_ask, judge, method.thinking, title)  # which shows no drawn examples
            continue
        assert method.ballots, method
        papers += [
            (index, ballot)
            for index, job in enumerate(to_ask)
            for principle in job.principles
            for ballot in method.ballots(job.pair, principle, few.templates(job.pair.prompt))
        ]

    limits = [
        (index, both)
        for index, (job, known) in enumerate(zip(jobs, decided, strict=True))
        if not known
        for both in sides(job.pair, order.limits, settings, judge.templates)
    ]

    # 2. Ask every distinct question once; the engine reads shared beginnings once.
    questions = [question for _, ballot in papers for question in ballot.questions]
    questions += [look.question for _, both in limits for look in both if look.question]
    readings = ask_once(engine, questions, settings, title)

    # 3. Read the votes, and combine those of each job.
    for index, ballot in papers:
        votes[index].append(cast(ballot, [readings[question] for question in ballot.questions], settings.min_mass))
    for index, both in limits:
        votes[index].append(limit_vote(both, readings, settings))

    def of_job(job: Job, mine: Sequence[Vote]) -> Label | Abstained:
        weights = weights_of(job.principles, settings, applying(job.pair.prompt, order.limits))
        return verdict(job.pair, tuple(mine), settings, weights, platt, order.levels)

    return [known or of_job(job, mine) for job, known, mine in zip(jobs, decided, votes, strict=True)]


def ballots_for(pairs: Sequence[Pair], judge: AskedJudge) -> list[list[Ballot]]:
    """Of each pair, the votes that `judge_pairs` would ask for, but those that a program decides or a thought leads."""
    settings, few, ballots = judge.settings, FewShot(judge), []
    for pair in pairs:
        pair = replace(pair, prompt=_read(pair.prompt, settings))
        job = Job(pair, () if _without_words(pair) else drawn(pair.prompt, judge.principles, judge))
        to_ask, templates = _unsettled(job, _computed(job, settings)), few.templates(pair.prompt)
        methods = [method for name in shares(settings) if (method := METHODS[name].ballots)]
        ballots.append([one for ask in methods for p in to_ask.principles for one in ask(pair, p, templates)])
    return ballots


def _by_rubric(
    engine: JudgeEngine, pairs: Sequence[Pair], judge: AskedJudge, title: str, platt: tuple[float, float] | None
) -> list[Label | Abstained]:
    """`judge_pairs` by `judge.rubric`: the criteria of each pair's prompt, in the place of principles."""
    assert judge.rubric
    rubrics, settings = rubrics_of(judge.rubric), judge.settings
    known: dict[str, Label | Abstained] = {pair.id: label for pair in pairs if (label := _without_words(pair))}
    rows = [(replace(pair, prompt=_read(pair.prompt, settings)), rubrics.of(pair.prompt))
            for pair in pairs if pair.id not in known]  # fmt: skip
    votes = [(pair.prompt.id, max(1, len(items))) for pair, items in rows]
    for part, block in _titled(title, list(blocks_of(votes))):
        ask = partial(ask_once, engine, judge=settings, title=part)
        some = [rows[place] for place in block]
        known |= {made.pair_id: made for made in rubric_verdicts(some, settings, judge.templates, ask, platt)}
    return [known[pair.id] for pair in pairs]


def _computed(job: Job, judge: Judge) -> list[Vote]:
    """A vote, or why there is none, of each principle with a check; by the method `check`, of every principle."""
    alone = CHECK in shares(judge)
    return [pair_checked(job.pair, p, judge) for p in job.principles if alone or isinstance(p, Checked)]


def _unsettled(job: Job, computed: Sequence[Vote]) -> Job:
    """The job with those principles that the judge is to be asked by: what a check has decided is not asked again."""
    decided = {vote.principle for vote in computed if not vote.fault}
    return replace(job, principles=tuple(p for p in job.principles if p.prefer and p.name not in decided))


def _without_words(pair: Pair) -> Label | None:
    """The label of a pair of which one answer alone has words."""
    a, b = wordless(pair.a), wordless(pair.b)
    return None if a == b else Label(pair.id, float(b), "empty answer")


def judge_answers(
    engine: JudgeEngine, answers: Sequence[tuple[Prompt, str]], judge: AskedJudge, *, title: str
) -> list[float | None]:
    """How good each answer is by itself, in order, by methods of ALONE: the mean over its principles of what the
    method makes of it (`Alone.value`; of `channel`, differences alone mean something), of a mix their weighted mean.

    What cannot be read is left out; None for an answer of which nothing can be. Equal questions are asked once. An
    answer that keeps to a principle's check is worth `WORTH` by it (cai/judge/checkers/), one that does not the same
    below 0; where the check finds nothing, the judge is asked. Levels of principles: see `stacked`; limits:
    `worth_within`. By a rubric it is the answer's score.
    """
    settings, weights, few = judge.settings, weights_of(judge.principles, judge.settings), FewShot(judge)
    if judge.rubric:
        rubrics = rubrics_of(judge.rubric)
        rows = [(_read(prompt, settings), answer, rubrics.of(prompt)) for prompt, answer in answers]
        return rubric_scores(rows, settings, judge.templates, partial(ask_once, engine, judge=settings, title=title))
    check_allowed((*judge.principles, *judge.order.checked), settings)
    of_answer = [[(p, answer_value(prompt, answer, p, settings)) for p in drawn(prompt, judge.principles, judge)]
                 for prompt, answer in answers]  # fmt: skip
    papers = [
        (
            index,
            name,
            principle,
            alone.questions(_read(prompt, settings).messages, answer, principle, few.templates(prompt)),
        )
        for index, (prompt, answer) in enumerate(answers)
        for principle, known in of_answer[index]
        if known is None and principle.prefer
        for name in shares(settings)
        if (alone := METHODS[name].alone)
    ]
    limits = [looks(_read(prompt, settings), answer, judge.order.limits, settings, judge.templates)
              for prompt, answer in answers]  # fmt: skip
    to_ask = [question for *_, questions in papers for question in questions]
    to_ask += [look.question for mine in limits for look in mine if look.question]
    readings = ask_once(engine, to_ask, settings, title)
    values: list[dict[str, dict[str, float]]] = [defaultdict(dict) for _ in answers]
    for index, name, principle, questions in papers:
        method, read = METHODS[name], [readings[question] for question in questions]
        massive = not method.options or all(reading is None or reading.mass >= settings.min_mass for reading in read)
        unread = any(reading is None or reading.fault for reading in read)
        if method.alone and massive and not unread:
            values[index][name][principle.name] = method.alone.value(read_of(read))

    def worth(place: int) -> float | None:
        computed = {p.name: known for p, known in of_answer[place] if known is not None}
        mine = tiers({p.name: weights[p.name] for p, _ in of_answer[place]}, judge.order.levels)
        value = stacked([_of_answer(values[place], computed, tier, settings) for tier in mine], settings.tie)
        breaks = any(look.seen(readings, settings)[0] for look in limits[place])
        return worth_within(value, breaks) if judge.order.limits else value

    return [worth(place) for place in range(len(answers))]


def _of_answer(
    values: Mapping[str, Mapping[str, float]], checked: Mapping[str, float], weights: Mapping[str, float], judge: Judge
) -> float | None:
    """By the principles of `weights`. values: method -> principle -> value. checked: of those that have a check."""
    asked = {
        name: [(weights[principle], value) for principle, value in mine.items() if principle in weights]
        for name, mine in values.items()
    }
    asked = {name: rows for name, rows in asked.items() if rows}
    computed = [(weights[principle], value) for principle, value in checked.items() if principle in weights]
    parts = [(shares(judge)[name], weighted(rows)) for name, rows in asked.items()]
    if not parts:
        return weighted(computed) if computed else None
    if not computed:
        return weighted(parts)
    most = max(math.fsum(weight for weight, _ in rows) for rows in asked.values())
    return weighted([(most, weighted(parts)), *computed])


def ask_once(
    engine: JudgeEngine, questions: Sequence[Question], judge: Judge, title: str
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


def drawn(prompt: Prompt, principles: Sequence[Judging], judge: AskedJudge) -> tuple[Judging, ...]:
    """By prompt, so that the pairs of one prompt share their principles, and with them the judge's calls."""
    n = len(principles) if judge.settings.principles == "all" else judge.settings.principles
    if not principles and judge.order.limits:
        return ()
    return draw(principles, seed=judge.seed, key=prompt.id, subset=prompt.subset, n=n)


def _think(
    engine: JudgeEngine, jobs: Sequence[Job], judge: AskedJudge, thinking: Thinking, title: str
) -> list[tuple[int, Ballot]]:
    """Chains of thought for every job, principle, order and sample, and the ballots that follow from them."""
    limits = judge.settings.reason
    wanted = [
        (index, principle.name, order, chat, sample)
        for index, job in enumerate(jobs)
        for principle in job.principles
        for order, chat in thinking.chats(job.pair, principle, judge.templates)
        for sample in range(limits.samples)
    ]
    requests = [
        Request(chat, seed_of("reason", judge.seed, jobs[index].pair.id, principle, order, sample))
        for index, principle, order, chat, sample in wanted
    ]
    replies = engine.generate(requests, Sampling(limits.max_new_tokens, limits.temperature), f"{title}: think")
    return [
        (index, thinking.ballot(principle, order, chat, reply, judge.templates))
        for (index, principle, order, chat, _), reply in zip(wanted, replies, strict=True)
    ]
