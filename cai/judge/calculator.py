"""A model that may call a calculator while it answers: how many sums it gets right, alone and with it.

    1. shots     the same worked examples either way; with the calculator they call it: <<12 * 30>>
    2. call      the first <<expression>> in what the model writes is computed (checkers/expressions.py, exactly); what
                 it wrote behind it is dropped, <<12 * 30 = 360>> is handed back, and it goes on, up to `CALLS` times
    3. result    the number that the answer gives (checkers/arithmetic.py) is compared with the truth

The mark is that of GSM8K's calculator (Cobbe et al. 2021), whose results are put into the model's own text; here a
result is a turn of its own, so that any engine will do, one behind a chat API too. Greedy, so that the two differ in
the calculator alone.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cai.config.sections import Data
from cai.core.draws import pick, seed_of
from cai.core.records import Chat, Estimate, Message, Pair, Prompt, plain
from cai.data.sources import read_source
from cai.judge.asking import JudgeEngine
from cai.judge.checkers.arithmetic import claims, plain_signs, result_of
from cai.judge.checkers.expressions import ByZero, Unreadable, equal, evaluate, number, shown
from cai.judge.checkers.result import question_of
from cai.judge.common import add_common, check_machine, check_numbers, computed, open_judge
from cai.models.engines import Request, Sampling
from cai.models.references import find

CALLS = 3  # of the calculator, for one answer
SAMPLING = Sampling(max_new_tokens=64, temperature=0.0)
_CALL = re.compile(r"<<([^<>=\n]{1,200})(?:=[^<>\n]{0,100})?>>")
# (question, what is calculated, answer)
SHOTS = (
    ("What is 12 * 30?", "12 * 30", "The answer is 360."),
    ("Of 45 apples, 17 were eaten. How many apples are left?", "45 - 17", "There are 28 apples left."),
    ("Please work out 58 + 67.", "58 + 67", "The answer is 125."),
    ("A hall has 14 rows with 21 chairs in each. How many chairs does it have?", "14 * 21", "It has 294 chairs."),
)
ALONE = "You answer questions about numbers, briefly."
WITH = f"{ALONE} Never calculate yourself: write <<what is to be calculated>>, and you are told the result."


@dataclass(frozen=True, slots=True)
class WorkedAnswer:
    """text: the answer, less its calls. calls: (expression, what the calculator said)."""

    text: str
    calls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CalculatorReport:
    """Shares of right results, over questions; gain: with the calculator less alone, paired.

    called: answers that called it. refused: calls that it could not compute.
    """

    alone: Estimate
    helped: Estimate
    gain: Estimate
    called: int
    refused: int
    questions: int
    rows: tuple[dict[str, Any], ...]


def calculate(expression: str) -> str:
    """What the calculator says: a number, or why there is none."""
    try:
        return shown(evaluate(plain_signs(expression)))
    except ByZero:
        return "error, it divides by zero"
    except Unreadable as error:
        return f"error, {error}"


def answers(engine: JudgeEngine, prompts: Sequence[Prompt], seed: int, *, tool: bool) -> list[WorkedAnswer]:
    """An answer to each prompt, in order; tool: with the calculator at hand."""
    chats = [(*_opening(tool), *prompt.messages) for prompt in prompts]
    said: list[WorkedAnswer] = [WorkedAnswer("") for _ in prompts]
    open_ = list(range(len(prompts)))
    for turn in range(CALLS + 1 if tool else 1):
        if not open_:
            break
        requests = [Request(chats[i], seed_of("calculator", seed, prompts[i].id, turn)) for i in open_]
        replies = engine.generate(requests, SAMPLING, f"answers {'with the calculator' if tool else 'alone'}")
        going_on = []
        for i, reply in zip(open_, replies, strict=True):
            text = reply.text if reply else ""
            call = _CALL.search(text) if tool else None
            if call is None or turn == CALLS:
                said[i] = WorkedAnswer(text.strip(), said[i].calls)
                continue
            expression = " ".join(call[1].split())
            result = calculate(expression)
            said[i] = WorkedAnswer("", (*said[i].calls, (expression, result)))
            chats[i] = (*chats[i], *_called(text[: call.start()] + f"<<{expression}>>", expression, result))
            going_on.append(i)
        open_ = going_on
    return said


def _opening(tool: bool) -> Chat:
    turns = [Message("system", WITH if tool else ALONE)]
    for question, expression, answer in SHOTS:
        turns.append(Message("user", question))
        turns += _called(f"<<{expression}>>", expression, calculate(expression)) if tool else ()
        turns.append(Message("assistant", answer))
    return tuple(turns)


def _called(text: str, expression: str, result: str) -> Chat:
    return Message("assistant", text.strip()), Message("user", f"<<{expression} = {result}>>")


# The measurement ------------------------------------------------------------------------------------------------------


def result(prompt: Prompt, text: str) -> str | None:
    """The number that an answer gives as its result."""
    text = plain_signs(text)
    made, spans = claims(text, rounded=True)
    return result_of(text, spans, plain_signs(question_of(prompt)), made)


def truth(pair: Pair) -> Fraction:
    """What the answer that is right (`human`) gives."""
    given = result(pair.prompt, pair.a if pair.human == 1 else pair.b)
    assert given is not None
    return number(given.lstrip("-")) * (-1 if given.startswith("-") else 1)


def measure(engine: JudgeEngine, pairs: Sequence[Pair], seed: int) -> CalculatorReport:
    """pairs: a question each, and which answer to it is right."""
    from cai.stats.intervals import mean, paired_difference  # numpy: only now

    prompts = [pair.prompt for pair in pairs]
    right: dict[bool, list[float]] = {}
    worked = {tool: answers(engine, prompts, seed, tool=tool) for tool in (False, True)}
    for tool, made in worked.items():
        given = [result(prompt, answer.text) for prompt, answer in zip(prompts, made, strict=True)]
        right[tool] = [
            float(value is not None and equal(truth(pair), value)) for pair, value in zip(pairs, given, strict=True)
        ]
    names = [prompt.id for prompt in prompts]
    calls = [answer.calls for answer in worked[True]]
    rows = tuple(
        {"question": question_of(pair.prompt), "truth": shown(truth(pair)), "alone": worked[False][n].text,
         "calls": calls[n], "with the calculator": worked[True][n].text, "right": [right[False][n], right[True][n]]}
        for n, pair in enumerate(pairs)
    )  # fmt: skip
    return CalculatorReport(
        alone=mean(right[False], names),
        helped=mean(right[True], names),
        gain=paired_difference(right[True], right[False], names),
        called=sum(bool(mine) for mine in calls),
        refused=sum(said.startswith("error") for mine in calls for _, said in mine),
        questions=len(pairs),
        rows=rows,
    )


# Command line ---------------------------------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """commands: what argparse's `add_subparsers` returned."""
    parser = commands.add_parser("calculator", help="sums that a model gets right, alone and with a calculator to call")
    add_common(parser, seed="the sample of questions", model="who answers")
    parser.add_argument("--limit", type=int, default=40, help="questions to ask (40)")
    parser.add_argument("--json", action="store_true", help="print everything, each answer among it, as JSON")
    parser.set_defaults(run=_run, server=None)


def _run(args: argparse.Namespace) -> int:
    check_numbers(args)
    source = find(args.model)
    check_machine(args)
    material = read_source(Data(source="arithmetic", test=0.0), 0)
    of_prompt = {pair.prompt.id: pair for pair in material.pairs.values()}
    prompts = pick([pair.prompt for pair in of_prompt.values()], "train", args.limit, args.seed)
    engine, dtype, device = open_judge(args, source)
    print(f"{len(prompts)} questions, alone and with the calculator", file=sys.stderr, flush=True)
    report = measure(engine, [of_prompt[prompt.id] for prompt in prompts], args.seed)
    if args.json:
        print(
            json.dumps(
                plain({"model": args.model, "weights": source.digest, "dtype": dtype, "report": report}), indent=1
            )
        )
        return 0
    print(f"{args.model}, {computed(args, dtype, device)}; {report.questions} questions of the source `arithmetic`")
    for name, of in (("alone", report.alone), ("with the calculator", report.helped), ("difference", report.gain)):
        print(f"  {name:20} {100 * of.value:5.1f}% [{100 * of.low:.0f}, {100 * of.high:.0f}] right")
    print(f"  {report.called} answers called it; {report.refused} calls could not be computed")
    return 0
