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
from functools import cache, cached_property
from math import nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cai.compare import report_plots
from cai.compare.cells import Cell, Measured
from cai.compare.measures import Rows, measure
from cai.compare.schema import Line
from cai.compare.section import Section
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

    def statistic(weights: np.ndarray) -> float:
        rows = np.repeat(np.arange(len(a)), weights)
        return _pearson(*(_ranked(some[rows]) if ranks else some[rows] for some in (a, b)))

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


def _ranked(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(values)


# --- what a run left --------------------------------------------------------------------------------------------------


class HeldOutRatings:
    """The held-out answers that people rated and the score could read. mean: of the ratings it was trained on."""

    def __init__(self, data: Artifact, held_out: Artifact, model: Artifact) -> None:
        rated = ratings_of(data, "test")
        scores = [row.reward for row in read_jsonl(held_out / "scores.jsonl", Score)]
        read = [(one, score) for one, score in zip(rated, scores, strict=True) if score is not None]
        self.rated: list[tuple[Prompt, Rating]] = [one for one, _ in read]
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

    def checks(self) -> list[dict[str, Any]]:
        """A row a way of predicting: "pearson", "spearman", "within", "mae" and "r2", each E or None."""
        answers = [rating.answer for _, rating in self.rated]
        rows = [self._line("the score", "score", self.score, self.truth, self.prompts)]
        # One person against the others who rated the same answer, and the score against those same others.
        person, others, score, prompts = [], [], [], []
        for (prompt, rating), mine in zip(self.rated, self.score, strict=True):
            for place, said in enumerate(rating.scores) if len(rating.scores) > 1 else ():
                rest = [*rating.scores[:place], *rating.scores[place + 1 :]]
                person.append(said)
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
        none = {"pearson": None, "spearman": None, "within": None, "r2": None}
        named = {"name": "always the mean of the training ratings", "kind": "baseline"}
        return [*rows, named | none | {"mae": self._mae(always, self.truth, self.prompts)}]

    def _line(
        self, name: str, kind: str, x: ArrayLike, truth: ArrayLike, prompts: Sequence[str], *, scale: bool = True
    ) -> dict[str, Any]:
        """scale: whether x is on the scale of the ratings, so that its error means something."""
        return {
            "name": name, "kind": kind,
            "pearson": correlation(x, truth, prompts),
            "spearman": correlation(x, truth, prompts, ranks=True),
            "within": within(x, truth, prompts),
            "mae": self._mae(x, truth, prompts) if scale else None,
            "r2": r_squared(x, truth, prompts, mean=self.mean) if scale else None,
        }  # fmt: skip

    def _mae(self, x: ArrayLike, truth: ArrayLike, prompts: Sequence[str]) -> Estimate:
        return statistics.mean(np.abs(np.asarray(x, float) - np.asarray(truth, float)), prompts)

    def curve(self) -> list[dict[str, Any]]:
        """Answers in order of their score, in bins of equal size: "score" (mean) and "people" (E of their ratings)."""
        order = np.argsort(self.score, kind="stable")
        found = []
        for some in np.array_split(order, min(BINS, len(order))):
            people = statistics.mean([self.truth[i] for i in some], [self.prompts[i] for i in some])
            found.append({"score": float(np.mean([self.score[i] for i in some])), "people": people})
        return found


def held_out_ratings(measured: Measured) -> HeldOutRatings:
    return _held_out_ratings(measured.harm["data"], measured.harm["held-out"], measured.harm["model"])


_held_out_ratings = cache(HeldOutRatings)  # the table asks again for each seed, and artifacts do not change


def harmfulness(cells: Sequence[Cell], measured: Measured) -> dict[str, Any] | None:
    """What results.json holds under "harmfulness"; None where `evaluate.harmfulness` was not asked for."""
    if not measured.harm:
        return None
    held = held_out_ratings(measured)
    checks, seeds = held.checks(), {cell.name: cell for cell in cells}
    policies = []
    for name, artifact in measured.harm_scores.items():
        rows, cell = _rows(measured, name), seeds.get(name.partition(" ")[0])
        every = len(read_jsonl(artifact / "scores.jsonl", Score))
        policies.append(
            {
                "policy": name, "arm": cell.arm if cell else name, "too_long": every - len(rows),
                "harmfulness": statistics.mean(list(rows.values()), list(rows)),
            }
        )  # fmt: skip
    return {
        "trained_on": held.trained_on, "mean": held.mean, "held_out": len(held.truth), "too_long": held.too_long,
        "predicts": held.predicts, "says": says(held, checks[0], kin(cells, measured)), "checks": checks,
        "policies": policies, "curve": held.curve(),
    }  # fmt: skip


def kin(cells: Sequence[Cell], measured: Measured) -> bool:
    """Whether an arm is labelled by the very people whose ratings the score learnt from."""
    return measured.harm["data"].path == cells[0].data.path and any(
        "human" in cell.said and not cell.settings.labels.file for cell in cells
    )


def says(held: HeldOutRatings, score: dict[str, Any], same_people: bool) -> list[str]:
    """What may be read out of the scores, in sentences. same_people: see `kin`."""
    r2, r, same = (_said(score[key]) for key in ("r2", "pearson", "within"))
    if not held.predicts:
        return [
            f"This score does not predict people's ratings of held-out answers (correlation {r}, R² {r2} against "
            "always saying the mean of the training ratings): its numbers must not be read as harmfulness."
        ]
    found = [f"Of held-out answers the score predicts people's ratings with a correlation of {r} and an R² of {r2}."]
    if not score["within"].low > 0:
        found.append(
            f"Among answers to one prompt it is not shown to know which is the more harmful (correlation {same}). "
            "Policies answer the same prompts, so differences between them must not be read."
        )
    return [*found, OUTSIDE, *([KIN] if same_people else [])]


def lines_of_harmfulness(cells: Sequence[Cell], measured: Measured) -> list[Line]:
    """The line of the comparison table, where it was asked for."""
    if not measured.harm:
        return []
    fit = held_out_ratings(measured).predicts
    told = "predicted from people's ratings of other chatbots' answers; see Absolute harmfulness"
    title = "absolute harmfulness, 0 to 1" + ("" if fit else " (not to be read)")
    told = told if fit else f"NOT to be read: the score does not predict people's ratings; {told}"
    return [measure("harmfulness", title, lambda name: _rows(measured, name), cells, better="lower", help=told)]


def warnings_of_harmfulness(measured: Measured) -> list[str]:
    if not measured.harm or held_out_ratings(measured).predicts:
        return []
    return [
        "The score of absolute harmfulness does not predict people's ratings of held-out answers: do not read its line."
    ]


def curves_of_harmfulness(cells: Sequence[Cell], measured: Measured) -> list[dict[str, Any]]:
    """How its training went, as cai/compare/sections/curves.py tells of the others."""
    if not measured.harm:
        return []
    table = json.loads((measured.harm["model"] / "curves.json").read_text())
    line = {"arm": "people's ratings", "seed": cells[0].settings.seed, "x": table["step"], "y": table["loss"]}
    return [{"title": "absolute harmfulness: squared error", "x": "step", "y": "loss", "lines": [line]}]


def _rows(measured: Measured, policy: str) -> Rows:
    scores = read_jsonl(measured.harm_scores[policy] / "scores.jsonl", Score)
    return {row.id: row.reward for row in scores if row.reward is not None}


def _said(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


SECTION = Section(
    "harmfulness", "Absolute harmfulness", dict, lambda run: harmfulness(run.cells, run.measured),
    chapter="policies", template="harmfulness.html.jinja", draw=report_plots.harmfulness,
)  # fmt: skip
