"""The same pairs under other texts: which texts, the asking, and what came of it.

    text       the constitution itself, by the principles that are drawn for a pair
    negated    each of them turned into its opposite (cai/constitution/negation.py)
    placebo    each of them replaced by a sentence of its length on another subject (cai/judge/reads/placebos.py)
    none       one neutral principle
    other      another constitution
    exchanged  the principles that apply to another category of prompts alone, in place of those for the pair's own

A pair meets two of the placebos, drawn by hash, so that all of them together cost what two do. Everything is asked in
one go: where a method puts its principle last (`rate`, `score`, `choice`), a control's question costs its own few words
and no more. Of many principles, three a pair are put to the test (`MOST`), which keeps the whole below three times the
labelling; which ones is drawn, so all have their turn.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

from cai.constitution import Constitution, Judging, draw, worded
from cai.constitution.negation import negated
from cai.core.draws import uniform
from cai.core.records import Abstained, Label, Pair, Vote
from cai.judge.asked import AskedJudge
from cai.judge.asking import Job, JudgeEngine, drawn, judge_jobs
from cai.judge.combine import combine, weights_of
from cai.judge.methods import METHODS, methods_of, name_of
from cai.judge.reads.placebos import Placebo, check, matched, read_placebos

if TYPE_CHECKING:
    from cai.judge.reads.effect import Effect

MOST = 3
PLACEBOS = 2  # of each pair
NEUTRAL = Judging("neutral", "Choose the response.", (), 1.0)


@dataclass(frozen=True, slots=True)
class Controls:
    """What a constitution is held against.

    opposites: of each principle that has one; missing: the names of the others. other, neutral, exchange: the texts
    that only `python -m cai.judge reads` asks for.
    """

    placebos: tuple[Placebo, ...]
    opposites: tuple[Judging, ...]
    missing: tuple[str, ...] = ()
    other: tuple[Judging, ...] = ()
    neutral: bool = False
    exchange: bool = False


@dataclass(frozen=True, slots=True)
class ControlAnswers:
    """Log-odds of "a is better" of each pair under each text, NaN where it was not asked or could not be read.

    verdicts: the labels, by all of the principles that were drawn. placebos: (pairs, placebos). negated: None where no
    principle has an opposite. more: other texts by name. one_sided: the same by each principle alone, where the method
    asks about its opposite too.
    """

    verdicts: list[Label | Abstained]
    text: list[float]
    placebos: list[list[float]]
    negated: list[float] | None
    more: dict[str, list[float]]
    one_sided: "ControlAnswers | None" = None


def controls_for(
    constitution: Constitution,
    placebos: Sequence[Placebo] = (),
    *,
    other: Constitution | None = None,
    everything: bool = False,
) -> Controls:
    """The controls for a constitution, from the placebos given or those that are shipped.

    Raises UserError for a placebo that is the constitution.
    """
    texts = tuple(placebos) or read_placebos()
    check(texts, constitution.judging)
    negations = {p.name: negated(p) for p in constitution.principles if p.prefer}
    opposites = tuple(negation for negation in negations.values() if negation is not None)
    missing = tuple(name for name, negation in negations.items() if negation is None)
    return Controls(texts, opposites, missing, other.judging if other else (), everything, everything)


def ask_under(engine: JudgeEngine, pairs: Sequence[Pair], judge: AskedJudge, controls: Controls) -> ControlAnswers:
    """The pairs labelled, and asked about under every control, in one go, by one method or a mix."""
    # 1. Which texts each pair meets.
    judging, seed = judge.principles, judge.seed
    opposites = {p.name: p for p in controls.opposites}
    asked = worded(judging)  # without their checks, which no wording moves
    tested = [p for p in asked if p.name in opposites] or list(asked)
    stand_ins = {placebo.name: matched(placebo, tested) for placebo in controls.placebos}
    swapped = exchanged(asked, {pair.prompt.subset for pair in pairs}) if controls.exchange else {}
    jobs: dict[tuple[str, int], Job] = {}
    for index, pair in enumerate(pairs):
        jobs["label", index] = Job(pair, drawn(pair.prompt, judging, judge))
        mine = _some(pair, tested, judge)
        if not mine:
            continue
        jobs["text", index] = Job(pair, mine)
        if opposites:
            jobs["negated", index] = Job(pair, tuple(opposites[p.name] for p in mine))
        for name in placebos_of(pair, list(stand_ins), seed):
            jobs[f"placebo {name}", index] = Job(pair, tuple(stand_ins[name][p.name] for p in mine))
        if controls.neutral:
            jobs["none", index] = Job(pair, (NEUTRAL,))
        if others := _some(pair, controls.other, judge):
            jobs["other", index] = Job(pair, others)
        if away := _some(pair, swapped.get(pair.prompt.subset, ()), judge):
            jobs["exchanged", index] = Job(pair, tuple(away))

    # 2. Ask, and put the answers side by side.
    title = f"reads: {name_of(judge.settings.method)}"
    verdicts = dict(zip(jobs, judge_jobs(engine, list(jobs.values()), judge, title=title), strict=True))
    names = {name for name, _ in jobs}

    def answers(
        read: Callable[[Vote], Vote], more: Sequence[str], one_sided: ControlAnswers | None = None
    ) -> ControlAnswers:
        def odds(name: str) -> list[float]:
            return [_odds(verdicts.get(at := (name, index)), jobs.get(at), judge, read) for index in range(len(pairs))]

        columns = [odds(f"placebo {name}") for name in stand_ins]
        return ControlAnswers(
            verdicts=[verdicts["label", index] for index in range(len(pairs))],
            text=odds("text"),
            placebos=[list(row) for row in zip(*columns, strict=True)],
            negated=odds("negated") if opposites else None,
            more={name: odds(name) for name in more if name in names},
            one_sided=one_sided,
        )

    sides = [one_side for name in methods_of(judge.settings) if (one_side := METHODS[name].one_side)]
    alone = answers(lambda vote: reduce(lambda turned, one_side: one_side(turned), sides, vote), ()) if sides else None
    return answers(lambda vote: vote, ("none", "other", "exchanged"), alone)


def placebos_of(pair: Pair, names: Sequence[str], seed: int) -> tuple[str, ...]:
    """The placebos that a pair meets, in an order of its own, drawn by prompt."""
    return tuple(sorted(names, key=lambda name: uniform("placebo", seed, pair.prompt.id, name))[:PLACEBOS])


def effect_of(answers: ControlAnswers, pairs: Sequence[Pair]) -> "Effect":
    """What the text did, as cai/judge/reads/effect.py measures it.

    Asked about a principle and its opposite, any judge turns with the negation, since both change places: there turn,
    share and what the text moves are those of the principle's side alone, and only agreement is that of the labels.
    """
    from cai.judge.reads.effect import measure  # numpy: only now

    prompts = [pair.prompt.id for pair in pairs]
    human = [math.nan if pair.human is None else pair.human for pair in pairs]
    effect = measure(
        answers.text, answers.placebos, prompts, negated=answers.negated, human=human, more=answers.more
    )  # fmt: skip
    if answers.one_sided is None:
        return effect
    alone = effect_of(answers.one_sided, pairs)
    return replace(effect, turn=alone.turn, share=alone.share, moved=alone.moved)


def exchanged(judging: Sequence[Judging], subsets: set[str]) -> dict[str, tuple[Judging, ...]]:
    """Subset -> the principles that apply to the next subset and not to it, of the subsets that have their own."""
    own = {name: tuple(p for p in judging if name in p.applies_to) for name in sorted(subsets)}
    able = [name for name, principles in own.items() if principles]
    swapped = {}
    for place, name in enumerate(able):
        there = able[(place + 1) % len(able)]
        swapped[name] = tuple(replace(p, applies_to=(name,)) for p in own[there] if name not in p.applies_to)
    return {name: principles for name, principles in swapped.items() if principles}


def unheard(judging: Sequence[Judging], pairs: Sequence[Pair]) -> list[str]:
    """What cannot be put to the test for want of pairs, in words."""
    subsets = {pair.prompt.subset for pair in pairs}
    named = sorted({name for p in judging for name in p.applies_to} - subsets)
    return [f'no pair is of category "{name}": the principles for it alone were not put to the test' for name in named]


def _some(pair: Pair, principles: Sequence[Judging], judge: AskedJudge) -> tuple[Judging, ...]:
    """At most `MOST` of the principles that apply to a pair, the first that are drawn for it; () where none does."""
    prompt = pair.prompt
    able = [p for p in principles if not p.applies_to or prompt.subset in p.applies_to]
    count = judge.settings.principles
    n = MOST if count == "all" else min(MOST, count)
    return draw(able, seed=judge.seed, key=prompt.id, subset=prompt.subset, n=n) if able else ()


def _odds(verdict: Label | Abstained | None, job: Job | None, judge: AskedJudge, read: Callable[[Vote], Vote]) -> float:
    if verdict is None or job is None:
        return math.nan
    weights = weights_of(job.principles, judge.settings)
    odds = combine([read(vote) for vote in verdict.votes], judge.settings, weights)
    return math.nan if odds is None else odds
