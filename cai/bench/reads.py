"""`python -m cai.bench reads`: what it costs to find out whether a judge reads, as a multiple of one labelling.

    label   the pairs labelled, by the principles that are drawn for each
    reads   the same, and asked about under negated principles and placebos (cai/judge/reads/controls.py), in one go

Both ask the model itself, with no call cache. Rounds take turns, and each begins with another of the two; a ratio is
that of one round, and what is printed is the median and the extremes over the rounds. The real questions and the
controls share the conversation and the answer where a method puts its principle behind them (`rate`, `score`,
`choice`); where it stands before the answer (`contrast`) each control reads the answer anew. Counted in tokens, without
padding (SmolLM2's tokenizer, constitutions/quickstart.txt, 4 pairs), by one principle a pair and by all six: `rate` 1.8
and 2.1 times one labelling, `choice` 1.5 and 1.8, `score` 2.1 and 2.2, `channel` 1.2 and 1.6, `contrast` 3.9 and 2.6.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cai.bench.common import MedianRange, in_order, open_engine, positive, show
from cai.bench.labels import some_pairs, votes_on
from cai.config.sections import Judge
from cai.constitution import read_constitution
from cai.core.errors import UserError
from cai.core.records import Pair
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_pairs
from cai.judge.methods import ASKING
from cai.judge.reads.controls import Controls, ask_under, controls_for
from cai.judge.reads.placebos import unrelated
from cai.models.engines import Question, Reading, Reply, Request, Sampling

CONSTITUTION = "constitutions/quickstart.txt"
WAYS = ("label", "reads")
MOST = 3.0  # what `reads` may cost
Engine = Any  # cai.models.engines.transformers.TransformersEngine, which is heavy to import


class Uncached:
    """An engine as the judge asks it, without the cache. questions, tokens: asked, and positions that went through the
    model, padding included, since `start`."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.questions, self.tokens = engine, 0, 0
        engine.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def start(self) -> None:
        self.questions = self.tokens = 0

    def _count(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self.tokens += kwargs["input_ids"].numel()

    def choose(self, questions: Sequence[Question], max_length: int, title: str) -> list[Reading | None]:
        self.questions += len(questions)
        return in_order(self.engine.choose(questions, max_length))

    def generate(self, requests: Sequence[Request], sampling: Sampling, title: str) -> list[Reply | None]:
        return in_order(self.engine.generate(requests, sampling))


@dataclass(frozen=True, slots=True)
class ReadRound:
    """One way, one round."""

    seconds: float
    questions: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Cost:
    """One method at one number of principles a pair. seconds: by way; questions, tokens: of a round, by way.

    ratio: seconds of `reads` in seconds of `label`; in_tokens: the same in tokens, which nothing else on the machine
    can move.
    """

    method: str
    principles: int | str
    seconds: dict[str, MedianRange]
    questions: dict[str, int]
    tokens: dict[str, int]
    ratio: MedianRange
    in_tokens: float


def timed(engine: Uncached, pairs: Sequence[Pair], controls: Controls, judge: AskedJudge, way: str) -> ReadRound:
    """The pairs once, one way."""
    engine.start()
    start = time.perf_counter()
    if way == "label":
        judge_pairs(engine, pairs, judge, title=way)
    else:
        ask_under(engine, pairs, judge, controls)
    return ReadRound(time.perf_counter() - start, engine.questions, engine.tokens)


def measure(engine: Uncached, pairs: Sequence[Pair], controls: Controls, judge: AskedJudge, rounds: int) -> Cost:
    """`rounds` rounds of both ways, taking turns."""
    settings = judge.settings
    took: dict[str, list[ReadRound]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS if number % 2 == 0 else WAYS[::-1]:
            measured = timed(engine, pairs, controls, judge, way)
            took[way].append(measured)
            head = f"{settings.method}, principles {settings.principles}, round {number + 1}/{rounds}"
            print(
                f"  {head}: {way}, {measured.questions} questions in {measured.seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    label, reads = (took[way] for way in WAYS)
    return Cost(
        str(settings.method),
        settings.principles,
        seconds={way: MedianRange.of([round.seconds for round in took[way]]) for way in WAYS},
        questions={way: took[way][-1].questions for way in WAYS},
        # Of the last round: in the first ones the engine tries whether the model reads rows that branch.
        tokens={way: took[way][-1].tokens for way in WAYS},
        ratio=MedianRange.of([b.seconds / a.seconds for a, b in zip(label, reads, strict=True)]),
        in_tokens=reads[-1].tokens / label[-1].tokens,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", default="rated-answers", help="where the pairs come from: as `data.source` in a config"
    )
    parser.add_argument("--constitution", default=CONSTITUTION, metavar="FILE")
    parser.add_argument("--method", default="rate", help=f"some of {','.join(ASKING)} (default: rate)")
    parser.add_argument("--pairs", type=positive, default=4)
    parser.add_argument("--rounds", type=positive, default=5)


def run(args: argparse.Namespace) -> None:
    """The benchmark `reads`: each method, by one principle a pair and by all of them."""
    methods = list(dict.fromkeys(name.strip() for name in args.method.split(",")))
    for name in methods:
        if name not in ASKING:
            raise UserError(f'there is no method "{name}" that asks', "--method", f"known: {', '.join(ASKING)}")
    constitution = read_constitution(args.constitution)
    engine, about = open_engine(args)

    def fits(pair: Pair) -> bool:
        asked = [question for vote in votes_on([pair], constitution.judging, "rate") for question in vote.questions]
        return max(len(engine.prompt_ids(question.chat)) for question in asked) <= engine.limit // 2

    pairs = some_pairs(args.data, args.pairs, fits)
    placebos, _ = unrelated(controls_for(constitution).placebos, pairs)
    controls = controls_for(constitution, placebos)
    uncached = Uncached(engine)
    judges = [
        AskedJudge.of(
            Judge.model_validate({"model": args.model, "method": method, "principles": count}),
            constitution,
            about["dtype"],
            seed=0,
        )
        for method in methods
        for count in ((1, "all") if len(constitution.judging) > 1 else ("all",))
    ]
    timed(uncached, pairs[:1], controls, judges[0], "reads")  # untimed: the first question is a slow one
    costs = [measure(uncached, pairs, controls, judge, args.rounds) for judge in judges]
    about |= {"constitution": args.constitution, "data": args.data, "pairs": len(pairs), "rounds": args.rounds}
    print(
        json.dumps(about | {"costs": [asdict(cost) for cost in costs]}, indent=1) if args.json else page(about, costs)
    )


def page(about: dict[str, Any], costs: Sequence[Cost]) -> str:
    """A line a case: medians and, in brackets, the extremes over the rounds."""
    lines = [", ".join(f"{name} {value}" for name, value in about.items()), ""]
    lines.append(f"{'method':8}  {'principles':>10}  {'one labelling, s':>22}  {'with the controls, s':>22}  "
                 f"{'times one labelling':>22}  in tokens")  # fmt: skip
    for cost in costs:
        cells = f"{show(cost.seconds['label']):>22}  {show(cost.seconds['reads']):>22}  {show(cost.ratio):>22}"
        lines.append(f"{cost.method:8}  {cost.principles:>10}  {cells}  {cost.in_tokens:9.2f}")
    over = [f"{cost.method} by {cost.principles}" for cost in costs if cost.ratio.median > MOST]
    lines += ["", f"more than {MOST:g} times one labelling: {', '.join(over)}" if over else f"at most {MOST:g} times"]
    return "\n".join(lines)
