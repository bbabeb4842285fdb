"""What a judge that was taught has learnt: pairs, principles and frames of words that stood in no lesson.

Each pair is asked about under a principle, under its opposite, and under two standards that have nothing to do with
the difference. These are the text, the negation and the placebos of cai/judge/reads/effect.py, which measures the exam
as it measures any constitution on pairs that people judged; only that "people" here is the computed truth.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from cai.core.records import Estimate
from cai.judge.teaching.lessons import Lesson, LessonPrompt, deciding, draw_pair, put
from cai.judge.teaching.principles import Part

if TYPE_CHECKING:
    from cai.judge.reads.effect import Effect

PRINCIPLES = 2  # asked about each pair


@dataclass(frozen=True, slots=True)
class Marks:
    """accuracy: how often the answer that the standard asks for is preferred, for both signs; chance 0.5.

    effect: gain, turn and share, with the computed truth for people. by_principle: name -> (right, asked).
    """

    accuracy: Estimate
    effect: "Effect"
    by_principle: dict[str, tuple[int, int]]


def draw_question(number: int, part: Part, sampled: dict[LessonPrompt, tuple[str, ...]], seed: int) -> Lesson:
    """The exam's pair of that number; its standards: for, against of each of two principles, then two idle ones."""
    rng = Random(f"exam {seed} {part} {number}")
    while True:
        request, a, b = draw_pair(part, sampled, rng)
        able, idle = deciding(request, a, b, part, rng)
        if len(able) >= PRINCIPLES and len(idle) >= 2 and a.text != b.text:
            break
    rows = [(principle, truth, sign) for principle, truth in rng.sample(able, PRINCIPLES) for sign in (1, -1)]
    rows += [(principle, 0.5, 1) for principle, _ in rng.sample(idle, 2)]
    return Lesson(request, a, b, tuple(put(principle, truth, sign, part, rng) for principle, truth, sign in rows))


def mark(questions: Sequence[Lesson], odds: Sequence[float]) -> Marks:
    """odds: log-odds of "a is better" of every standard of every question, in order."""
    from cai.judge.reads.effect import measure
    from cai.stats import intervals as statistics

    rows: dict[str, list[Any]] = defaultdict(list)
    hits: dict[str, list[bool]] = defaultdict(list)
    place = 0
    for number, question in enumerate(questions):
        mine = list(odds[place : place + len(question.standards)])
        place += len(question.standards)
        for k in range(PRINCIPLES):
            text, negated = mine[2 * k : 2 * k + 2]
            standard = question.standards[2 * k]
            rows["text"].append(text)
            rows["negated"].append(negated)
            rows["placebos"].append(mine[-2:])
            rows["truth"].append(standard.target)
            rows["pair"].append(str(number))
            right = [(text > 0) == (standard.target > 0.5), (negated < 0) == (standard.target > 0.5)]
            hits[standard.principle] += right
            rows["right"].append(sum(right) / 2)
    assert place == len(odds) and not any(map(math.isnan, odds))
    return Marks(
        accuracy=statistics.mean(rows["right"], rows["pair"]),
        effect=measure(rows["text"], rows["placebos"], rows["pair"], negated=rows["negated"], human=rows["truth"]),
        by_principle={name: (sum(some), len(some)) for name, some in sorted(hits.items())},
    )


def part_of(everyday: Sequence[LessonPrompt], every: int = 6) -> tuple[list[LessonPrompt], list[LessonPrompt]]:
    """(for lessons, for the exam): every sixth everyday request is kept for the exam; those of requests.yaml say so."""
    return (
        [prompt for place, prompt in enumerate(everyday) if place % every],
        [replace(prompt, part="test") for place, prompt in enumerate(everyday) if not place % every],
    )
