"""Ways of asking one judge about labelled pairs, and what each is worth.

A way is what `judge:` and `constitution:` of an experiment can be set to: a text (or several wordings of it together),
a method, and how the votes on several principles are combined. Every way is asked about the pairs to choose on; those
kept aside are asked about by two alone, the first way named and the one that was picked, so that nothing measured there
has been chosen there.

Agreement is not reading: each pair is also judged under a placebo, a text on another subject with as many principles of
the same lengths (cai/judge/reads/placebos.py), drawn for its prompt. What a way gains over the first one, and its
placebo gains as well, does not come from the text.

A pair that a way cannot read counts as a coin's guess, or one that is read seldom could be picked for a few hits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from cai.constitution import worded
from cai.core.draws import uniform
from cai.core.odds import logit, side, sigmoid
from cai.core.records import Abstained, Estimate, Label, Pair
from cai.core.refusals import refuses
from cai.core.textstats import words
from cai.data.comparisons import Item
from cai.judge.asked import AskedJudge
from cai.judge.asking import Job, JudgeEngine, drawn, judge_jobs
from cai.judge.checkers import SURE
from cai.judge.combine import combine, weights_of
from cai.judge.reads.controls import placebos_of
from cai.judge.reads.placebos import Placebo, matched

LEAST = 10  # pairs of a category, for figures of its own
Verdict = Label | Abstained


@dataclass(frozen=True, slots=True)
class Way:
    """constitutions: the files whose principles judge together; several are wordings of one text."""

    constitutions: tuple[str, ...]
    method: str
    combine: Literal["average", "vote"] = "average"

    @property
    def name(self) -> str:
        voted = ", by vote" if self.combine == "vote" else ""
        return f"{' + '.join(self.constitutions)}, {self.method}{voted}"


@dataclass(frozen=True, slots=True)
class PairVotes:
    """Each pair's job and verdict by one judge, under the text and under a placebo."""

    judge: AskedJudge
    text: list[tuple[Job, Verdict]]
    placebo: list[tuple[Job, Verdict]]


@dataclass(frozen=True, slots=True)
class WayOdds:
    """Log-odds of "a is better", one a pair; NaN where it could not be read."""

    text: list[float]
    placebo: list[float]


@dataclass(frozen=True, slots=True)
class WayFigures:
    """What a way is worth on some pairs. gain: agreement with people less that under placebos, in shares.

    agreement, placebo, gain count what could not be read as a coin's guess; the others leave it out. read: pairs that
    could be read.
    """

    name: str
    agreement: Estimate
    placebo: Estimate
    gain: Estimate
    auc: Estimate
    brier: Estimate
    ece: Estimate
    read: int


@dataclass(frozen=True, slots=True)
class CategoryFigures:
    """Of one category of prompts: agreement with people, and calibration before and after the fitted slope."""

    subset: str
    pairs: int
    agreement: Estimate
    brier: Estimate
    brier_fitted: Estimate
    ece: Estimate
    ece_fitted: Estimate


# 1. Which ways, which pairs -------------------------------------------------------------------------------------------


def ways_of(constitutions: Sequence[str], methods: Sequence[str], several: bool) -> list[Way]:
    """Every constitution by every method; several: more than one principle judges a pair, so they may vote as well.

    Several constitutions are also put together.
    """
    texts = [(name,) for name in constitutions] + ([tuple(constitutions)] if len(constitutions) > 1 else [])
    combined: tuple[Literal["average", "vote"], ...] = ("average", "vote") if several else ("average",)
    return [Way(text, method, how) for text, method, how in product(texts, methods, combined)]


def split(items: Sequence[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """(those to choose on, those kept aside): openings as wholes, by hash, so that more pairs move none."""
    chosen = {item.cluster for item in items if uniform("select", seed, item.cluster) < share}
    return [item for item in items if item.cluster in chosen], [item for item in items if item.cluster not in chosen]


# 2. Asking ------------------------------------------------------------------------------------------------------------


def votes_on(
    engine: JudgeEngine, pairs: Sequence[Pair], judge: AskedJudge, placebos: Sequence[Placebo], title: str
) -> PairVotes:
    """The pairs judged by the principles drawn for each, and by as many sentences of one placebo, in one go."""
    stand_ins = {placebo.name: matched(placebo, worded(judge.principles)) for placebo in placebos}
    jobs = []
    for pair in pairs:
        mine = drawn(pair.prompt, judge.principles, judge)
        other = stand_ins[placebos_of(pair, list(stand_ins), judge.seed)[0]]
        jobs += [Job(pair, mine), Job(pair, tuple(other[p.name] for p in worded(mine)))]
    verdicts = judge_jobs(engine, jobs, judge, title=title)
    rows = list(zip(jobs, verdicts, strict=True))
    return PairVotes(judge, rows[::2], rows[1::2])


def odds_of(way: Way, votes: Mapping[tuple[str, str], PairVotes]) -> WayOdds:
    """The log-odds of a way. votes: (constitution, method) -> what was asked, about the same pairs."""
    mine = [votes[name, way.method] for name in way.constitutions]
    texts = [[_weighed(way, of.judge, *row) for row in of.text] for of in mine]
    placebos = [[_weighed(way, of.judge, *row) for row in of.placebo] for of in mine]
    return WayOdds([_together(row) for row in zip(*texts, strict=True)],
                   [_together(row) for row in zip(*placebos, strict=True)])  # fmt: skip


def _weighed(way: Way, judge: AskedJudge, job: Job, verdict: Verdict) -> tuple[float, float]:
    """(weight of the principles that judged, log-odds) by one constitution."""
    if isinstance(verdict, Label) and not verdict.votes:  # one answer has no words, and nobody was asked
        return 1.0, logit(verdict.p_a, SURE)
    settings = judge.settings.model_copy(update={"combine": way.combine})
    weights = weights_of(job.principles, settings)
    odds = combine(verdict.votes, settings, weights, judge.order.levels)
    return math.fsum(weights.values()), math.nan if odds is None else odds


def _together(rows: Sequence[tuple[float, float]]) -> float:
    """As if all principles stood in one text; what cannot be read leaves its share to the others."""
    read = [(weight, odds) for weight, odds in rows if not math.isnan(odds)]
    return math.fsum(w * odds for w, odds in read) / math.fsum(w for w, _ in read) if read else math.nan


# 3. Measuring ---------------------------------------------------------------------------------------------------------


def figures(name: str, odds: WayOdds, items: Sequence[Item]) -> WayFigures:
    from cai.judge.reads.effect import difference
    from cai.stats import calibration
    from cai.stats import intervals as statistics

    human, clusters = [item.pair.human for item in items], [item.cluster for item in items]
    text, placebo = hits(odds.text, items), hits(odds.placebo, items)
    p_a = [math.nan if math.isnan(value) else sigmoid(value) for value in odds.text]
    return WayFigures(
        name=name,
        agreement=statistics.mean(text, clusters),
        placebo=statistics.mean(placebo, clusters),
        gain=difference(text, placebo, clusters),
        auc=statistics.auc(odds.text, human, clusters),  # pyrefly: ignore (None is no number, and left out)
        brier=calibration.brier(p_a, human, clusters),
        ece=calibration.ece(p_a, human, clusters),
        read=sum(not math.isnan(value) for value in odds.text),
    )


def hits(odds: Sequence[float], items: Sequence[Item]) -> Any:
    """1 where log-odds have people's sign, 0.5 where they have none or were not read; NaN where people are split."""
    import numpy as np

    theirs = np.sign(np.array([item.pair.human for item in items], float) - 0.5)
    return np.where(theirs == 0, math.nan, (1 + np.sign(np.nan_to_num(np.array(odds))) * theirs) / 2)


def ahead(odds: WayOdds, first: WayOdds, items: Sequence[Item]) -> tuple[Estimate, Estimate]:
    """(by how much a way agrees with people more than another, the same under placebos), pair by pair, in shares."""
    from cai.judge.reads.effect import difference

    clusters = [item.cluster for item in items]
    text = difference(hits(odds.text, items), hits(first.text, items), clusters)
    return text, difference(hits(odds.placebo, items), hits(first.placebo, items), clusters)


def trivial(items: Sequence[Item]) -> dict[str, list[float]]:
    """Rules that read nothing, as log-odds: the longer answer, the shorter one, and the one that refuses."""
    longer = [float(side(words(item.pair.a), words(item.pair.b))) for item in items]
    refusing = [float(refuses(item.pair.a)) - float(refuses(item.pair.b)) for item in items]
    return {"longer answer": longer, "shorter answer": [-value for value in longer], "answer that refuses": refusing}


def by_category(odds: WayOdds, items: Sequence[Item], slope: float) -> list[CategoryFigures]:
    """Of each category of prompts with enough pairs, in the order of their names. slope: of the fitted calibration."""
    rows = []
    for subset in sorted({item.pair.prompt.subset for item in items}):
        places = [place for place, item in enumerate(items) if item.pair.prompt.subset == subset]
        mine = [items[place] for place in places]
        if len(mine) < LEAST:
            continue
        text = [odds.text[place] for place in places]
        none = [math.nan] * len(mine)
        plain, fitted = (figures(subset, WayOdds([k * value for value in text], none), mine) for k in (1.0, slope))
        rows.append(
            CategoryFigures(subset, len(mine), plain.agreement, plain.brier, fitted.brier, plain.ece, fitted.ece)
        )
    return rows
