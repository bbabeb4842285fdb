"""Absolute harmfulness: how harmful each policy is on people's own scale, and whether the score of it may be believed.

A model was fitted to people's ratings of single answers (cai/train/harm.py; Bai et al. 2022, section 4.4). The paper
shows its scores of the policies (figure 10) and nothing of how well they predict ratings; here that comes first:

    checks     held-out rated answers: correlation with people's mean ratings, also among answers to one prompt, mean
               absolute error, and R^2 against always saying the mean of the training ratings; beside it one person who
               predicts the mean of the others, and rules that know nothing
    policies   the mean score of each policy's answers

Policies answer the same prompts, so what tells them apart is the score's power among answers to one prompt: a score
that only knew which requests lead to harm would predict ratings well, and say the same of every policy.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import nan
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from cai.compare import report_plots
from cai.compare.cells import Cell, Measured, with_policy
from cai.compare.measures import Measure, Rows, measure
from cai.compare.schema import MeasureLine
from cai.compare.section import ReportSection
from cai.core.records import Estimate, Prompt, Rating, ratings_of, read_jsonl
from cai.core.refusals import refuses
from cai.core.store import Artifact
from cai.core.textstats import words
from cai.stats import intervals as statistics
from cai.train.scores import Score

BINS = 6  # of the plot: as many answers in each
OUTSIDE = (
    "It learnt from answers of other chatbots than these policies, so of them it is read outside of what it was "
    "trained on; how well it predicts what people would say of them is not measured."
)
KIN = (
    "It learnt from the same people's ratings that the human labels come from, so it may favour an arm that is trained "
    "on those labels."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HarmfulnessCheck:
    """A way of predicting people's ratings of the held-out answers. None: what does not apply to it."""

    name: str
    kind: Literal["score", "people", "baseline"]
    pearson: Estimate | None = None
    spearman: Estimate | None = None
    within: Estimate | None = None
    mae: Estimate | None = None
    r2: Estimate | None = None


@dataclass(frozen=True, slots=True)
class PolicyHarmfulness:
    """arm: or the policy's own name, where it is of no arm. too_long: answers that could not be scored."""

    policy: str
    arm: str
    too_long: int
    harmfulness: Estimate


@dataclass(frozen=True, slots=True)
class ScoreBin:
    """Answers with about this score (its mean in the bin), and people's ratings of them."""

    score: float
    people: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class HarmfulnessReport:
    """trained_on, held_out: rated answers; mean: of the ratings it was trained on; too_long: more held-out answers.

    predicts: whether the score may be read at all; says: what may be read out of it, in sentences.
    """

    trained_on: int
    mean: float
    held_out: int
    too_long: int
    predicts: bool
    says: list[str]
    checks: list[HarmfulnessCheck]
    policies: list[PolicyHarmfulness]
    curve: list[ScoreBin]


# --- numbers ----------------------------------------------------------------------------------------------------------


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    clusters: statistics.Clusters,
    *,
    ranks: bool = False,
    seed: int = 0,
    resamples: int = 1000,
) -> Estimate:
    """Pearson's r, or Spearman's (equal values share their mean rank); NaN where one of them never varies."""
    (a, b), index = statistics.clean(clusters, x, y)
    if not len(a):
        return statistics.EMPTY
    places = [np.unique(some, return_inverse=True)[1] for some in (a, b)] if ranks else []

    def statistic(weights: np.ndarray) -> float:
        rows = np.repeat(np.arange(len(a)), weights)
        known = [_ranked(place, weights) for place in places] or (a, b)
        return _pearson(*(some[rows] for some in known))

    return statistics.resampled(statistic, index, seed, resamples)


def within(x: ArrayLike, y: ArrayLike, clusters: statistics.Clusters, **how: Any) -> Estimate:
    """Pearson's r of the deviations from each cluster's mean; clusters of one row have none and are left out."""
    (a, b), index = statistics.clean(clusters, x, y)
    size = np.bincount(index)
    if not len(a) or size.max() < 2:
        return statistics.EMPTY
    a, b = (some - (np.bincount(index, some) / size)[index] for some in (a, b))
    several = size[index] > 1
    return correlation(a[several], b[several], index[several], **how)


def r_squared(
    predicted: ArrayLike,
    truth: ArrayLike,
    clusters: statistics.Clusters,
    *,
    mean: float,
    seed: int = 0,
    resamples: int = 2000,
) -> Estimate:
    """1 - squared error / squared error of always saying `mean`: 1 is perfect, 0 no better, below 0 worse than that."""
    (p, y), index = statistics.clean(clusters, predicted, truth)
    if not len(p):
        return statistics.EMPTY
    mine, plain = (y - p) ** 2, (y - mean) ** 2

    def statistic(weights: np.ndarray) -> float:
        whole = float(weights @ plain)
        return 1 - float(weights @ mine) / whole if whole else nan

    return statistics.resampled(statistic, index, seed, resamples)


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length > 1e-12 else nan


def _ranked(place: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The rank of each row where it stands so many times. place: of its value among those that there are, in order."""
    counts = np.bincount(place, weights)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]  # n equal ones end at the sum, and share their mean


# --- what a run left --------------------------------------------------------------------------------------------------


class HeldOutRatings:
    """The held-out answers that people rated and the score could read. mean: of the ratings it was trained on."""

    def __init__(self, data: Artifact, held_out: Artifact, model: Artifact) -> None:
        rated = ratings_of(data, "test")
        scores = [row.reward for row in read_jsonl(held_out / "scores.jsonl", Score)]
        read = [(rating, score) for rating, score in zip(rated, scores, strict=True) if score is not None]
        self.rated: list[tuple[Prompt, Rating]] = [rating for rating, _ in read]
        self.score = [score for _, score in read]
        self.truth = [rating.mean for _, rating in self.rated]
        self.prompts = [prompt.id for prompt, _ in self.rated]
        self.too_long = len(rated) - len(read)
        fit = json.loads((model / "fit.json").read_text())
        self.mean, self.trained_on = float(fit["mean"]), int(fit["answers"])

    def r_squared(self) -> Estimate:
        return r_squared(self.score, self.truth, self.prompts, mean=self.mean)

    def correlation(self) -> Estimate:
        return correlation(self.score, self.truth, self.prompts)

    @cached_property
    def predicts(self) -> bool:
        """Whether the score is shown to know anything of people's ratings: both intervals stay above 0."""
        return self.r_squared().low > 0 and self.correlation().low > 0  # False for NaN

    def checks(self) -> list[HarmfulnessCheck]:
        """A row a way of predicting, the score itself first."""
        answers = [rating.answer for _, rating in self.rated]
        rows = [self._line("the score", "score", self.score, self.truth, self.prompts)]
        # One person against the others who rated the same answer, and the score against those same others.
        person, others, score, prompts = [], [], [], []
        for (prompt, rating), mine in zip(self.rated, self.score, strict=True):
            for place, own in enumerate(rating.scores) if len(rating.scores) > 1 else ():
                rest = [*rating.scores[:place], *rating.scores[place + 1 :]]
                person.append(own)
                others.append(sum(rest) / len(rest))
                score.append(mine)
                prompts.append(prompt.id)
        if person:
            rows.append(self._line("one person, of the mean of the others", "people", person, others, prompts))
            rows.append(self._line("the score, of the same mean of others", "score", score, others, prompts))
        rules = {
            "answer length, words": [float(words(text)) for text in answers],
            "no refusal": [float(not refuses(text)) for text in answers],
        }
        rows += [self._line(name, "baseline", x, self.truth, self.prompts, scale=False) for name, x in rules.items()]
        always = np.full(len(self.truth), self.mean)
        mae, name = self._mae(always, self.truth, self.prompts), "always the mean of the training ratings"
        return [*rows, HarmfulnessCheck(name=name, kind="baseline", mae=mae)]

    def _line(
        self, name: str, kind: Any, x: ArrayLike, truth: ArrayLike, prompts: Sequence[str], *, scale: bool = True
    ) -> HarmfulnessCheck:
        """scale: whether x is on the scale of the ratings, so that its error means something."""
        return HarmfulnessCheck(
            name=name,
            kind=kind,
            pearson=correlation(x, truth, prompts),
            spearman=correlation(x, truth, prompts, ranks=True),
            within=within(x, truth, prompts),
            mae=self._mae(x, truth, prompts) if scale else None,
            r2=r_squared(x, truth, prompts, mean=self.mean) if scale else None,
        )

    def _mae(self, x: ArrayLike, truth: ArrayLike, prompts: Sequence[str]) -> Estimate:
        return statistics.mean(np.abs(np.asarray(x, float) - np.asarray(truth, float)), prompts)

    def curve(self) -> list[ScoreBin]:
        """Answers in order of their score, in bins of equal size."""
        order = np.argsort(self.score, kind="stable")
        bins = []
        for some in np.array_split(order, min(BINS, len(order))):
            people = statistics.mean([self.truth[i] for i in some], [self.prompts[i] for i in some])
            bins.append(ScoreBin(float(np.mean([self.score[i] for i in some])), people))
        return bins


def held_out_ratings(measured: Measured) -> HeldOutRatings:
    return _held_out_ratings(measured.harm["data"], measured.harm["held-out"], measured.harm["model"])


_held_out_ratings = cache(HeldOutRatings)  # the table asks again for each seed, and artifacts do not change


def harmfulness(cells: Sequence[Cell], measured: Measured) -> HarmfulnessReport | None:
    """What results.json holds under "harmfulness"; None where `evaluate.harmfulness` was not asked for."""
    if not measured.harm:
        return None
    ratings = held_out_ratings(measured)
    checks, owners = ratings.checks(), {name: cell for cell in cells for name in cell.names}
    policies = []
    for name, artifact in measured.harm_scores.items():
        rows, cell = _rows(measured, name), owners.get(name)
        every = len(read_jsonl(artifact / "scores.jsonl", Score))
        mean = statistics.mean(list(rows.values()), list(rows))
        policies.append(PolicyHarmfulness(name, cell.arm if cell else name, every - len(rows), mean))
    return HarmfulnessReport(
        trained_on=ratings.trained_on,
        mean=ratings.mean,
        held_out=len(ratings.truth),
        too_long=ratings.too_long,
        predicts=ratings.predicts,
        says=says(ratings, checks[0], kin(cells, measured)),
        checks=checks,
        policies=policies,
        curve=ratings.curve(),
    )


def kin(cells: Sequence[Cell], measured: Measured) -> bool:
    """Whether an arm is labelled by the very people whose ratings the score learnt from."""
    return measured.harm["data"].path == cells[0].data.path and any(
        "human" in cell.labellers and not cell.settings.labels.file for cell in cells
    )


def says(ratings: HeldOutRatings, score: HarmfulnessCheck, same_people: bool) -> list[str]:
    """What may be read out of the scores, in sentences. same_people: see `kin`."""
    assert score.r2 and score.pearson and score.within
    r2, r, same = (_in_words(estimate) for estimate in (score.r2, score.pearson, score.within))
    if not ratings.predicts:
        return [
            f"This score does not predict people's ratings of held-out answers (correlation {r}, R² {r2} against "
            "always saying the mean of the training ratings): its numbers must not be read as harmfulness."
        ]
    sentences = [
        f"Of held-out answers the score predicts people's ratings with a correlation of {r} and an R² of {r2}."
    ]
    if not score.within.low > 0:
        sentences.append(
            f"Among answers to one prompt it is not shown to know which is the more harmful (correlation {same}). "
            "Policies answer the same prompts, so differences between them must not be read."
        )
    return [*sentences, OUTSIDE, *([KIN] if same_people else [])]


def lines_of_harmfulness(cells: Sequence[Cell], measured: Measured) -> list[MeasureLine]:
    """The line of the comparison table, where it was asked for."""
    if not measured.harm:
        return []
    fit = held_out_ratings(measured).predicts
    help_ = "predicted from people's ratings of other chatbots' answers; see Absolute harmfulness"
    title = "absolute harmfulness, 0 to 1" + ("" if fit else " (not to be read)")
    help_ = help_ if fit else f"NOT to be read: the score does not predict people's ratings; {help_}"
    line = Measure("harmfulness", title, better="lower", help=help_)
    return [measure(line, lambda name: _rows(measured, name), with_policy(cells))]


def warnings_of_harmfulness(measured: Measured) -> list[str]:
    if not measured.harm or held_out_ratings(measured).predicts:
        return []
    return [
        "The score of absolute harmfulness does not predict people's ratings of held-out answers: do not read its line."
    ]


def _rows(measured: Measured, policy: str) -> Rows:
    scores = read_jsonl(measured.harm_scores[policy] / "scores.jsonl", Score)
    return {row.id: row.reward for row in scores if row.reward is not None}


def _in_words(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


SECTION = ReportSection(
    "harmfulness", "Absolute harmfulness", HarmfulnessReport | None, lambda run: harmfulness(run.cells, run.measured),
    chapter="policies", template="harmfulness.html.jinja", draw=report_plots.harmfulness,
)  # fmt: skip
