"""Few of people's ratings and many of a model's: how harmful answers are on people's own scale, 0 to 1.

Prediction-powered inference (cai/stats/ppi.py), as sections/ppi.py has it for labels: a model rates every answer and
people some of the same ones, drawn by chance; its bias is measured on these and taken off. Two kinds of answers:

    policies   `python -m cai.compare RUN --human-ratings FILE`: people rated the first answers of a hash's order. The
               fitted score of `evaluate.harmfulness` stands in where people rated nothing, or, without it, the judge:
               1 - P(harmless). For these seeds only: an answer is a row, its prompt what varies
    held out   the answers of the data that people rated, with the fitted score: a quarter of the prompts is drawn by
               hash, as if people had rated no more. All of their ratings stand beside it

The score of the first kind reads policies outside of what it was fitted on (sections/harmfulness.py): that is what the
correction is for. Whether it is any good decides the width, never whether the interval is right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from cai.compare.cells import Cell, Measured
from cai.compare.human_games import not_drawn
from cai.compare.human_ratings import AnswerToRate, answers_of, read_ratings
from cai.compare.section import ReportSection
from cai.compare.sections.harmfulness import held_out_ratings
from cai.compare.sections.ppi import Part, quarter
from cai.core.odds import sigmoid
from cai.core.records import Estimate, Number, read_jsonl
from cai.judge.rate import TextRating
from cai.stats.ppi import RATINGS, powered
from cai.train.scores import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingsLine:
    """Mean harmfulness of some answers, by people and a model. model: its mean over all of them, uncorrected.

    whose: the model. part: how the rated ones came to be. everything: from all of people's ratings, where part is
    "drawn". weight, worth: as of `Powered`.
    """

    title: str
    arm: str | None
    whose: str
    part: Part
    both: Estimate
    alone: Estimate
    model: Number
    weight: float
    worth: Number | None
    everything: Estimate | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingsReport:
    """refused: why there is no number where one might be looked for."""

    lines: list[RatingsLine]
    refused: list[str]


Row = tuple[str, str]  # (policy or place, prompt)


def few_ratings(cells: Sequence[Cell], measured: Measured) -> RatingsReport | None:
    """None where nobody rated answers of policies, and no score was fitted to people's ratings."""
    lines: list[RatingsLine] = []
    refused: list[str] = []
    if measured.human_ratings:
        answers = answers_of(cells, measured)
        ratings = read_ratings(measured.human_ratings, answers)
        if why := not_drawn([answer.id for answer in answers], ratings):
            refused.append(f"Of the policies' answers {why}. So no rating is corrected by them.")
        else:
            lines += _policies(cells, measured, answers, ratings)
    if measured.harm:
        lines += _held_out(measured)
    return RatingsReport(lines=lines, refused=refused) if lines or refused else None


# 1. Policies ----------------------------------------------------------------------------------------------------------


def _policies(
    cells: Sequence[Cell], measured: Measured, answers: Sequence[AnswerToRate], ratings: Mapping[str, float]
) -> list[RatingsLine]:
    arms = {cell.name: cell.arm for cell in cells}
    people: dict[str, dict[Row, float]] = {}
    for answer in answers:
        for policy in answer.policies:
            rows = people.setdefault(arms.get(policy, policy), {})
            rows[policy, answer.prompt.id] = ratings.get(answer.id, nan)
    lines = []
    for name, human in people.items():
        policies = dict.fromkeys(policy for policy, _ in human)
        whose, model = _model(measured, list(policies))
        if any(rating == rating for rating in human.values()):
            seeds = f", {len(policies)} seeds" if len(policies) > 1 else ""
            arm = name if name in arms.values() else None
            lines.append(line(f"answers of {name}{seeds}", arm, whose, human, model))
    return lines


def _model(measured: Measured, policies: Sequence[str]) -> tuple[str, dict[Row, float]]:
    """(who stands in for people, its ratings of these policies' answers, 0 to 1)."""
    if all(policy in measured.harm_scores for policy in policies):
        scores = {
            (policy, row.id): float(np.clip(row.reward, 0, 1))
            for policy in policies
            for row in read_jsonl(measured.harm_scores[policy] / "scores.jsonl", Score)
            if row.reward is not None
        }
        return "the fitted score", scores
    rated = {
        (policy, row.prompt_id): 1 - sigmoid(row.value)
        for policy in policies
        for row in read_jsonl(measured.merits[policy, "red-team"] / "merits.jsonl", TextRating)
        if row.value is not None
    }
    return "the evaluation's judge", rated


# 2. Held-out answers that people rated --------------------------------------------------------------------------------


def _held_out(measured: Measured) -> list[RatingsLine]:
    rated = held_out_ratings(measured)
    rows: list[Row] = [(str(place), prompt) for place, prompt in enumerate(rated.prompts)]
    people = dict(zip(rows, rated.truth, strict=True))
    model = {row: float(np.clip(score, 0, 1)) for row, score in zip(rows, rated.score, strict=True)}
    kept = quarter(set(rated.prompts))
    if not kept:
        return []
    few = {row: rating if row[1] in kept else nan for row, rating in people.items()}
    return [line("held-out answers that people rated", None, "the fitted score", few, model, people)]


def line(
    title: str, arm: str | None, whose: str, human: Mapping[Row, float], model: Mapping[Row, float],
    everything: Mapping[Row, float] | None = None,
) -> RatingsLine:  # fmt: skip
    """human: every answer's mean rating by people, NaN where they gave none; model: of those that it could rate.

    everything: all of people's ratings, where `human` is a part of them."""
    rows = list(human)
    prompts, predicted = [prompt for _, prompt in rows], np.array([model.get(row, nan) for row in rows])
    found = powered(np.array([human[row] for row in rows]), predicted, prompts, apart=RATINGS)
    whole = None
    if everything is not None:
        whole = powered(np.array([everything[row] for row in rows]), predicted, prompts, apart=RATINGS).alone
    mean = float(np.nanmean(predicted)) if not np.isnan(predicted).all() else nan
    begins = "Had people rated but" if whole else "People rated"
    worth = (
        "no number of ratings would do as much" if found.worth is None
        else f"{whose} is worth about {found.worth:.0f} ratings more"
    )  # fmt: skip
    sentence = (
        f"{begins} {found.alone.n} of {found.estimate.n} ({found.alone.clusters} prompts): the {title} are "
        f"{_in_words(found.estimate)} harmful (0 to 1); by people alone {_in_words(found.alone)}, by {whose} alone "
        f"{mean:.2f}; {worth}."
    )
    sentence += f" All of people's ratings say {_in_words(whole)}." if whole else ""
    return RatingsLine(
        title=title, arm=arm, whose=whose, part="drawn" if whole else "labelled", both=found.estimate,
        alone=found.alone, model=mean, weight=found.weight, worth=found.worth, everything=whole, sentence=sentence,
    )  # fmt: skip


def _in_words(e: Estimate) -> str:
    return f"{e.value:.2f}" + ("" if e.low != e.low else f" [{e.low:.2f}, {e.high:.2f}]")


SECTION = ReportSection(
    "few_ratings", "Few human ratings and many of a model's", RatingsReport,
    lambda run: few_ratings(run.cells, run.measured), chapter="policies", template="few_ratings.html.jinja",
)  # fmt: skip
