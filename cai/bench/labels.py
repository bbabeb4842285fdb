"""`python -m cai.bench labels`: how many AI labels a second, beside the other ways to get them, in one run.

    shared   ours: log-probabilities of the options, what questions have in common read once
             (cai/models/engines/tree.py)
    full     log-probabilities too, but a forward pass over the whole question for each of them
    padded   log-probabilities by transformers alone: questions in the order in which they come, BATCH at a time, padded
    written  the usual way: the judge writes its verdict (greedily) and a regular expression reads it

All ask the same questions of the same model about the same pairs, real ones that people have rated. Rounds take
turns, so that a machine which others use as well slows all of them; a ratio is that of one round, and what is printed
is the median and the extremes over the rounds. Loading and a first, untimed question of each kind are left out.
"""

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cai.bench.common import MedianRange, in_order, open_engine, positive, show
from cai.config.sections import Data, Judge
from cai.constitution import Judging, read_constitution
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Pair
from cai.data.sources import read_source
from cai.judge import methods as ways
from cai.judge.methods import templates_for
from cai.models.engines import Question, Reading, Request, Sampling, reading

CONSTITUTION = "constitutions/harmless.txt"
METHODS = ("rate", "choice")
WAYS = ("shared", "full", "padded", "written")
BATCH = 8  # rows of `padded`
WRITING = Sampling(max_new_tokens=32, temperature=0)
# A verdict is the one option that a reply begins with, or else the one that it names while it does not name the other.
NAMES = {
    "rate": re.compile(r"\b(yes|no)\b", re.IGNORECASE),
    "choice": re.compile(r"\(([AB])\)|\b([AB])\b(?! +[a-z])"),  # "A good answer" does not name (A)
}
Engine = Any  # cai.models.engines.transformers.TransformersEngine, which is heavy to import


@dataclass(frozen=True, slots=True)
class VoteQuestions:
    """What one principle says about one pair: of `rate` two questions, of `choice` one for each order."""

    pair: int
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class LabelRound:
    """One way, one round. tokens: positions that went through the model, padding included."""

    votes: int
    seconds: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Case:
    """One method of asking at one number of principles.

    votes, pairs: a second, by way. tokens: a vote, by way. ratios: of shared to the other ways, in votes a second.
    difference: the largest between the log-probabilities of shared and full, or padded. written, unreadable: verdicts
    of one round that were written, and those of them that name no option, or both.
    """

    method: str
    principles: int
    votes: dict[str, MedianRange]
    pairs: dict[str, MedianRange]
    tokens: dict[str, float]
    ratios: dict[str, MedianRange]
    difference: float
    written: int
    unreadable: int


# 1. What is asked -----------------------------------------------------------------------------------------------------


def votes_on(pairs: Sequence[Pair], principles: Sequence[Judging], method: str) -> list[VoteQuestions]:
    """Every vote of every principle on every pair, as the judge asks for it."""
    templates = templates_for(Judge(method=method))  # pyrefly: ignore
    ballots = ways.METHODS[method].ballots
    assert ballots, method
    return [
        VoteQuestions(index, ballot.questions)
        for index, pair in enumerate(pairs)
        for principle in principles
        for ballot in ballots(pair, principle, templates)
    ]


def some_pairs(source: str, count: int, fits: Callable[[Pair], bool]) -> list[Pair]:
    """`count` pairs of as many prompts, drawn by hash. Raises UserError where there are fewer."""
    chosen: dict[str, Pair] = {}
    pairs = read_source(Data(source=source, max_words=160), seed=0).pairs.values()
    for pair in sorted(pairs, key=lambda pair: uniform("bench", pair.id)):
        if len(chosen) < count and pair.prompt.id not in chosen and fits(pair):
            chosen[pair.prompt.id] = pair
    if len(chosen) < count:
        raise UserError(
            f"only {len(chosen)} prompts have a pair that is short enough", source, f"ask for --pairs {len(chosen)}"
        )
    return list(chosen.values())


def spread_out(votes: Sequence[VoteQuestions], most: int) -> list[VoteQuestions]:
    """At most `most` votes, evenly over all of them, so that their lengths are those of the whole."""
    return [votes[k * len(votes) // most] for k in range(most)] if len(votes) > most else list(votes)


# 2. Three ways of asking ----------------------------------------------------------------------------------------------


def choose(engine: Engine, questions: Sequence[Question], share: bool) -> list[Reading]:
    engine.share = share
    return in_order(engine.choose(questions, engine.limit))


def choose_padded(engine: Engine, questions: Sequence[Question]) -> list[Reading]:
    """transformers' own way: a row for each text that must be read, one batch after another, the logits of all."""
    import torch

    asked = [engine.option_ids(question) for question in questions]
    rows = list(dict.fromkeys((tuple(start), tuple(tail[:-1])) for start, tails in asked for tail in tails))
    ahead: dict[Any, Any] = {}  # of each row: log P of what follows its last tokens, (tokens of the option, vocabulary)
    for begin in range(0, len(rows), BATCH):
        some = rows[begin : begin + BATCH]
        ids = {"input_ids": [[*start, *body] for start, body in some]}
        inputs = engine.tokenizer.pad(ids, padding_side="right", return_tensors="pt").to(engine.model.device)
        with torch.inference_mode():
            logits_BTV = engine.model(**inputs, use_cache=False).logits
            for (start, body), logits_TV in zip(some, logits_BTV, strict=True):
                part_KV = logits_TV[len(start) - 1 : len(start) + len(body)]
                ahead[start, body] = part_KV.float().log_softmax(-1).cpu()

    def log_prob(start: Sequence[int], tail: Sequence[int]) -> float:
        return math.fsum(ahead[tuple(start), tuple(tail[:-1])][range(len(tail)), list(tail)].tolist())

    return [reading(tails, [log_prob(start, tail) for tail in tails]) for start, tails in asked]


def write(engine: Engine, questions: Sequence[Question]) -> list[str]:
    requests = [Request(question.chat, seed=0) for question in questions]
    return [reply.text for reply in in_order(engine.generate(requests, WRITING))]


def verdict(reply: str, method: str) -> str | None:
    """ "yes", "no", "a" or "b" as the reply names it; None where it cannot be read."""
    pattern = NAMES[method]
    if first := pattern.match(reply.lstrip(" \n*\"'")):
        return (first[first.lastindex or 0]).lower()
    named = {match[match.lastindex or 0].lower() for match in pattern.finditer(reply)}
    return named.pop() if len(named) == 1 else None


# 3. Measuring ---------------------------------------------------------------------------------------------------------


def timed(engine: Engine, votes: Sequence[VoteQuestions], way: str) -> tuple[LabelRound, list[Any]]:
    """Ask for the votes one way; also the readings, or the replies."""
    questions = [question for vote in votes for question in vote.questions]
    tokens = 0

    def count(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal tokens
        tokens += kwargs["input_ids"].numel()

    hook = engine.model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        start = time.perf_counter()
        if way == "padded":
            answers: list[Any] = choose_padded(engine, questions)
        else:
            answers = write(engine, questions) if way == "written" else choose(engine, questions, way == "shared")
        return LabelRound(len(votes), time.perf_counter() - start, tokens), answers
    finally:
        hook.remove()


def measure(
    engine: Engine, votes: Sequence[VoteQuestions], method: str, principles: int, rounds: int, written: int
) -> Case:
    """`rounds` rounds of each way, taking turns; at most `written` votes are written in each."""
    asked = dict.fromkeys(WAYS, votes) | {"written": spread_out(votes, written)}
    took: dict[str, list[LabelRound]] = {way: [] for way in WAYS}
    answers: dict[str, list[Any]] = {}
    for number in range(rounds):
        for way in WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]:
            measured, answers[way] = timed(engine, asked[way], way)
            took[way].append(measured)
            head = f"{method}, {principles} principle{'s' if principles > 1 else ''}, round {number + 1}/{rounds}"
            print(f"  {head}: {way}, {measured.votes} votes in {measured.seconds:.1f} s", file=sys.stderr, flush=True)
    rates = {way: [measured.votes / measured.seconds for measured in took[way]] for way in WAYS}
    a_pair = len(votes) / len({vote.pair for vote in votes})
    return Case(
        method,
        principles,
        votes={way: MedianRange.of(rates[way]) for way in WAYS},
        pairs={way: MedianRange.of([rate / a_pair for rate in rates[way]]) for way in WAYS},
        tokens={way: took[way][0].tokens / took[way][0].votes for way in WAYS},
        ratios={
            way: MedianRange.of([ours / other for ours, other in zip(rates["shared"], rates[way], strict=True)])
            for way in WAYS
            if way != "shared"
        },
        difference=max(
            abs(x - y)
            for way in ("full", "padded")
            for ours, other in zip(answers["shared"], answers[way], strict=True)
            for x, y in zip(ours.logprobs, other.logprobs, strict=True)
        ),
        written=len(answers["written"]),
        unreadable=sum(verdict(reply, method) is None for reply in answers["written"]),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", default="rated-answers", help="where the pairs come from: as `data.source` in a config"
    )
    parser.add_argument("--pairs", type=positive, default=8)
    parser.add_argument("--principles", type=positive, default=16, help=f"of {CONSTITUTION}, beside 1 (default: 16)")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--written", type=positive, default=32, help="at most so many votes are written in a round")


def run(args: argparse.Namespace) -> None:
    """The benchmark `labels`: both methods, by one principle and by all that were asked for."""
    constitution = read_constitution(CONSTITUTION)
    if args.principles > len(constitution.judging):
        problem = f"there are only {len(constitution.judging)} principles"
        raise UserError(problem, CONSTITUTION, f"ask for --principles {len(constitution.judging)}, or fewer")
    engine, about = open_engine(args)
    principles = constitution.judging[: args.principles]

    def fits(pair: Pair) -> bool:
        asked = [q for method in METHODS for vote in votes_on([pair], principles, method) for q in vote.questions]
        return max(len(engine.prompt_ids(q.chat)) for q in asked) + WRITING.max_new_tokens <= engine.limit

    pairs = some_pairs(args.data, args.pairs, fits)
    for power in range(7, 12):  # whether the model reads rows that branch is tried once for each of these widths
        engine.reads_trees(1 << power)
    for way in WAYS:
        timed(engine, votes_on(pairs[:1], principles[:2], "rate"), way)
    cases = [
        measure(engine, votes_on(pairs, principles[:count], method), method, count, args.rounds, args.written)
        for method in METHODS
        for count in sorted({1, args.principles})
    ]
    about |= {"data": args.data, "pairs": len(pairs), "rounds": args.rounds}
    print(
        json.dumps(about | {"cases": [asdict(case) for case in cases]}, indent=1) if args.json else page(about, cases)
    )


# 4. Showing -----------------------------------------------------------------------------------------------------------


def page(about: dict[str, Any], cases: Sequence[Case]) -> str:
    """Every case as a small table: median and, in brackets, the extremes over the rounds."""
    lines = [", ".join(f"{name} {value}" for name, value in about.items())]
    for case in cases:
        lines += ["", f"{case.method}, {case.principles} principle{'s' if case.principles > 1 else ''} a pair"]
        lines.append(f"  {'':8}  {'votes/s':>22}  {'pairs/s':>22}  {'tokens/vote':>11}  {'shared is':>22}")
        for way in WAYS:
            ratio = f"{show(case.ratios[way])} x" if way in case.ratios else ""
            cells = f"{show(case.votes[way]):>22}  {show(case.pairs[way]):>22}  {case.tokens[way]:>11.0f}"
            lines.append(f"  {way:8}  {cells}  {ratio:>22}".rstrip())
        lines.append(f"  largest difference in a log-probability, shared from full or padded: {case.difference:.2g}")
        lines.append(f"  written verdicts that cannot be read: {case.unreadable} of {case.written}")
    return "\n".join(lines)
