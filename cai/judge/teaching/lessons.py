"""Lessons: two answers, and standards that prefer one of them, the other, or neither.

Every pair is shown under several standards, and some under a standard and its opposite, so that nothing but the
standard's text can tell which answer is wanted; under standards that have nothing to do with the difference, the right
P(a better) is one half. Everything is drawn from the seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

import yaml

from cai.core.records import Chat, Message
from cai.judge.teaching.answers import Answer, cut, help_by_rule, inserted, refusal, shaped
from cai.judge.teaching.principles import DEEDS, Checkable, Part, of_area, shown
from cai.judge.teaching.wording import AGAINST, FOR, UNSEEN_AGAINST, UNSEEN_FOR, stated

ASKS = ("How do I {}?", "Tell me how to {}.", "I want to {}. What should I do first?", "Please explain how to {}.")
FAVOURED = 2  # how much likelier deeds are asked about than what a text shows


@dataclass(frozen=True, slots=True)
class LessonPrompt:
    """What somebody asks. area, act: of requests.yaml; empty for an everyday prompt."""

    text: str
    area: str = ""
    act: str = ""
    harmful: bool = False
    part: Part = "train"

    @property
    def chat(self) -> Chat:
        return (Message("user", self.text),)


@dataclass(frozen=True, slots=True)
class Standard:
    """principle: its name. sign: 1 for more of it, -1 for less. target: P(a better) under `text`."""

    text: str
    principle: str
    sign: int
    target: float


@dataclass(frozen=True, slots=True)
class Lesson:
    request: LessonPrompt
    a: Answer
    b: Answer
    standards: tuple[Standard, ...]


@cache
def requests() -> tuple[LessonPrompt, ...]:
    """Those of requests.yaml, each in one of four wordings."""
    areas = yaml.safe_load((Path(__file__).parent / "requests.yaml").read_text(encoding="utf-8"))
    return tuple(
        LessonPrompt(ASKS[place % len(ASKS)].format(act), area, act, row.get("harmful", False), row["part"])
        for area, row in areas.items()
        for place, act in enumerate(row["acts"])
    )


def draw_lesson(
    number: int, part: Part, sampled: dict[LessonPrompt, tuple[str, ...]], standards: int, seed: int, plain: float = 0.0
) -> Lesson:
    """The lesson of that number. sampled: what a model answered to each request of this part.

    plain: the share of standards that simply ask for more of something. Where as many ask for less, what an answer has
    and what a standard names tell nothing by themselves, only both together with the sense do, and a judge that begins
    there learns nothing (the loss stayed at ln 2 for 3,000 comparisons): so lessons begin plain.
    """
    rng = Random(f"lesson {seed} {part} {number}")
    while True:
        request, a, b = draw_pair(part, sampled, rng)
        if a.text.strip() and b.text.strip() and a.text != b.text:
            drawn = _standards(request, a, b, part, standards, rng, plain)
            if any(standard.target != 0.5 for standard in drawn):
                return Lesson(request, a, b, drawn)


# Pairs ----------------------------------------------------------------------------------------------------------------


def draw_pair(
    part: Part, sampled: dict[LessonPrompt, tuple[str, ...]], rng: Random
) -> tuple[LessonPrompt, Answer, Answer]:
    asked = [request for request in sampled if request.area]
    everyday = list(sampled)
    draw = rng.random()
    if draw < 0.30:  # two answers, each changed a little
        request = rng.choice(everyday)
        a, b = (_changed(_answer(request, sampled, rng), part, rng, rng.randint(0, 3)) for _ in range(2))
    elif draw < 0.5:  # one answer, and the same with one change
        request = rng.choice(everyday)
        a = _changed(_answer(request, sampled, rng), part, rng, rng.randint(0, 1))
        b = _changed(a, part, rng, 1)
    elif draw < 0.9:  # help or refusal, often both
        request = rng.choice([prompt for prompt in asked if prompt.harmful] if rng.random() < 0.6 else asked)
        a = _changed(_answer(request, sampled, rng), part, rng, rng.choice((0, 0, 1, 2)))
        no = refusal(request.area, request.act, request.harmful, rng)
        b = _changed(no, part, rng, rng.choice((0, 0, 1, 2)))
        if rng.random() < 0.15:
            a = refusal(request.area, request.act, request.harmful, rng)
    else:  # an answer to something else
        request, other = rng.sample(everyday, 2)
        a = _answer(request, sampled, rng)
        b = replace(_answer(other, sampled, rng), kind="astray")
    return (request, a, b) if rng.random() < 0.5 else (request, b, a)


def _answer(request: LessonPrompt, sampled: dict[LessonPrompt, tuple[str, ...]], rng: Random) -> Answer:
    if not sampled[request] or (request.area and rng.random() < 0.25):
        return help_by_rule(request.area, request.act, request.harmful, rng)
    text = rng.choice(sampled[request])
    if rng.random() < 0.75:
        text = cut(text, rng.randint(1, 8))
    return Answer(text, "help", request.area, request.harmful)


def _changed(answer: Answer, part: Part, rng: Random, times: int) -> Answer:
    for _ in range(times):
        if rng.random() < 0.35:
            answer = shaped(answer, rng)
        else:
            principle = rng.choice([principle for principle in shown() if principle.insert and principle.part == part])
            place, texts = rng.choice(principle.insert)
            answer = replace(answer, text=inserted(answer.text, place, rng.choice(texts), rng))
    return answer


# Standards ------------------------------------------------------------------------------------------------------------


def _standards(
    request: LessonPrompt, a: Answer, b: Answer, part: Part, count: int, rng: Random, plain: float
) -> tuple[Standard, ...]:
    able, idle = deciding(request, a, b, part, rng)
    deeds = {principle.name for principle, _ in able} - {principle.name for principle in shown()}
    order = sorted(able, key=lambda row: rng.random() / (FAVOURED if row[0].name in deeds else 1))
    chosen = order[: max(1, count * 5 // 8)]
    rows = [(principle, truth, rng.choice((1, -1))) for principle, truth in chosen]
    rows += [(principle, truth, -sign) for principle, truth, sign in rows[: max(1, count // 4)]]  # the opposite of some
    rows += [(principle, truth, rng.choice((1, -1))) for principle, truth in idle]
    return tuple(
        Standard(stated(rng.choice(principle.more), rng.choice(FOR)), principle.name, 1, truth)
        if rng.random() < plain
        else put(principle, truth, sign, part, rng)
        for principle, truth, sign in rows[:count]
    )


def deciding(
    request: LessonPrompt, a: Answer, b: Answer, part: Part, rng: Random
) -> tuple[list[tuple[Checkable, float]], list[tuple[Checkable, float]]]:
    """(principle, P(a has more of it)): those that tell the two answers apart, and those to which they are alike."""
    principles = [*(principle for principle in shown() if principle.part == part), *_deeds(request, part, rng)]
    truths = [(principle, truth) for principle in principles if (truth := principle.truth(a, b)) is not None]
    rng.shuffle(truths)
    return [row for row in truths if row[1] != 0.5], [row for row in truths if row[1] == 0.5]


def _deeds(request: LessonPrompt, part: Part, rng: Random) -> list[Checkable]:
    of_this_part = [prompt for prompt in requests() if prompt.part == part]
    others: Sequence[LessonPrompt] = rng.sample([prompt for prompt in of_this_part if prompt.area != request.area], 2)
    mine = [request] if request.area else []
    return [
        *(deed for deed in DEEDS if deed.part == part),
        *(of_area(prompt.area, prompt.act, part) for prompt in (*mine, *others)),
    ]


def put(principle: Checkable, truth: float, sign: int, part: Part, rng: Random) -> Standard:
    """sign 1: more of it is wanted, said as such or as the opposite of less; -1: less of it is."""
    for_it, against_it = (FOR, AGAINST) if part == "train" else (UNSEEN_FOR, UNSEEN_AGAINST)
    if part == "test" and rng.random() < 0.5:  # so that an unseen principle is met in known frames too
        for_it, against_it = FOR, AGAINST
    wanted, unwanted = (principle.more, principle.less) if sign > 0 else (principle.less, principle.more)
    if wanted and (rng.random() < 0.6 or not unwanted):
        text = stated(rng.choice(wanted), rng.choice(for_it))
    else:
        text = stated(rng.choice(unwanted), rng.choice(against_it))
    return Standard(text, principle.name, sign, truth if sign > 0 else 1 - truth)
