"""`criteria:`, each for itself: labels and reward models beside one another, every policy by each, and who paid.

Two measures of a policy by a criterion stand side by side. The evaluation's judge rates its answers under that
criterion's constitution (log-odds, cai/judge/rate.py): no policy was trained for it. The criterion's reward model is
what RL was paid by, on the scale it was paid on (cai/train/criteria.py); where it rises and the judge does not follow,
the reward model was exploited.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from cai.compare import plots
from cai.compare.cells import Cell, Measured
from cai.compare.measures import HeldOutPairs, Rows, average
from cai.compare.plots import Axes, Line, Spot
from cai.compare.section import ReportSection
from cai.compare.training_plots import dash
from cai.core.records import Estimate, Label, Number, Pair, read_jsonl
from cai.core.store import Artifact
from cai.judge.rate import TextRating
from cai.stats import agreement
from cai.stats import intervals as statistics
from cai.train.scores import Score

COLUMN = "criterion "  # of a policy's curves.json, before the criterion's name


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionModel:
    """A criterion's reward model. share: of the sum that RL is paid. mean, spread: of its outputs on the SFT answers.

    own: agreement with its own labels on held-out pairs; people: with people's, whatever those were asked.
    """

    arm: str
    seed: int
    criterion: str
    constitution: str
    labels: str
    share: float
    mean: float
    spread: float
    own: Estimate
    people: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoCriteria:
    """How two criteria go together in an arm: their labels on all labelled pairs, and their reward models (mean of the
    seeds) on the held-out ones. agree: share of pairs with the same better answer; correlation: of P(a better)."""

    arm: str
    first: str
    second: str
    labels_agree: Estimate
    labels_correlation: Estimate
    models_agree: Estimate
    models_correlation: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyByCriteria:
    """criterion -> the judge's mean log-odds; criterion -> gain over the SFT policy by the reward model of the policy's
    own arm and seed, else the first that there is, in spreads; each on the same held-out prompts. total: of the gains,
    weighed as the arm weighs them; None for a policy of no such arm."""

    policy: str
    arm: str
    seed: int | None
    judged: dict[str, Estimate]
    gains: dict[str, Estimate]
    total: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidLine:
    """Mean normalised reward by a criterion in each rollout; share: of the sum.

    paid: share * (mean of the last quarter of the rollouts - mean of the first).
    """

    arm: str
    seed: int
    criterion: str
    rollout: list[float]
    reward: list[Number]
    share: float
    paid: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CriteriaReport:
    names: tuple[str, ...]
    models: list[CriterionModel]
    together: list[TwoCriteria]
    policies: list[PolicyByCriteria]
    paid: list[PaidLine]


def criteria(cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs) -> CriteriaReport | None:
    """None where no arm has criteria."""
    having = [cell for cell in cells if cell.criteria]
    names = tuple(dict.fromkeys(name for cell in having for name in cell.criteria))
    if not names:
        return None
    return CriteriaReport(
        names=names,
        models=[model for cell in having for model in models(cell, held_out)],
        together=[pair for arm in distinct(having) for pair in together(arm, held_out)],
        policies=policies(cells, measured, names),
        paid=[line for cell in having if cell.policy for line in paid(cell)],
    )


# 1. Labels and reward models ------------------------------------------------------------------------------------------


def models(cell: Cell, held_out: HeldOutPairs) -> list[CriterionModel]:
    arms, made_by = cell.settings.by_criterion(), cell.criteria
    reports = []
    for name, made in made_by.items():
        margins, scale = held_out.margins[cell.reward_of(name)], scale_of(made.scale)
        own = held_out.of(made.labels) if made.labels else {}
        reports.append(
            CriterionModel(
                arm=cell.arm, seed=cell.seed, criterion=name, constitution=arms[name].constitution.file,
                labels=str(arms[name].labels), share=made.share, mean=scale[0], spread=scale[1],
                own=_accuracy(margins, own, held_out), people=_accuracy(margins, held_out.human, held_out),
            )
        )  # fmt: skip
    return reports


def _accuracy(claimed: Rows, truth: Rows, held_out: HeldOutPairs) -> Estimate:
    both = [row for row in claimed if row in truth]
    clusters = [held_out.cluster(row) for row in both]
    return statistics.accuracy([claimed[row] for row in both], [truth[row] for row in both], clusters)


def scale_of(scale: Artifact) -> tuple[float, float]:
    given = json.loads((scale / "scale.json").read_text())
    return given["mean"], given["spread"]


def distinct(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells of each arm; of arms that differ in their weights alone, and so have the same models, the first's."""
    arms: dict[str, list[Cell]] = {}
    for cell in cells:
        arms.setdefault(cell.arm, []).append(cell)
    unique = {tuple(str(made.reward.path) for cell in arm for made in cell.criteria.values()): arm
              for arm in reversed(arms.values())}  # fmt: skip
    return list(unique.values())[::-1]


def together(arm: Sequence[Cell], held_out: HeldOutPairs) -> list[TwoCriteria]:
    """arm: its cells, one a seed."""
    prompt_of = {pair.id: pair.prompt.id for pair in read_jsonl(arm[0].pairs / "pairs.jsonl", Pair)}
    reports = []
    for first, second in combinations(arm[0].criteria, 2):
        labels = [_labels(arm[0].criteria[name].labels) for name in (first, second)]
        margins = [average([held_out.margins[cell.reward_of(name)] for cell in arm]) for name in (first, second)]
        (labels_agree, labels_correlation), (models_agree, models_correlation) = (
            _alike(first_of, second_of, prompt_of) for first_of, second_of in (labels, margins)
        )
        reports.append(
            TwoCriteria(
                arm=arm[0].arm, first=first, second=second, labels_agree=labels_agree, models_agree=models_agree,
                labels_correlation=labels_correlation, models_correlation=models_correlation,
            )
        )  # fmt: skip
    return reports


def _labels(artifact: Artifact | None) -> Rows:
    return {row.pair_id: row.p_a for row in read_jsonl(artifact / "labels.jsonl", Label)} if artifact else {}


def _alike(first: Rows, second: Rows, prompt_of: Mapping[str, str]) -> tuple[Estimate, Estimate]:
    """(share of pairs on which both take the same side, correlation)."""
    both = [row for row in first if row in second]
    x, y, clusters = [first[row] for row in both], [second[row] for row in both], [prompt_of[row] for row in both]
    return statistics.accuracy(x, y, clusters), agreement.correlation(x, y, clusters)


# 2. Policies ----------------------------------------------------------------------------------------------------------


def policies(cells: Sequence[Cell], measured: Measured, names: Sequence[str]) -> list[PolicyByCriteria]:
    """Start, SFT and every arm's policy of every seed."""
    by_name, rows = {cell.name: cell for cell in cells if cell.policy}, []
    for policy in ("start", "sft", *by_name):
        cell = by_name.get(policy)
        gained = {name: _gained(measured, *_by_model(cells, cell, name), policy) for name in names}
        total = None
        if cell and cell.criteria:
            shared = set.intersection(*(set(gained[name]) for name in cell.criteria))
            total = _difference(
                {
                    row: tuple(
                        math.fsum(made.share * gained[name][row][side] for name, made in cell.criteria.items())
                        for side in (0, 1)
                    )
                    for row in sorted(shared)
                }
            )  # fmt: skip
        rows.append(
            PolicyByCriteria(
                policy=policy, arm=cell.arm if cell else policy, seed=cell.seed if cell else None,
                judged={name: _mean(_judged(measured, name, policy)) for name in names},
                gains={name: _difference(gained[name]) for name in names}, total=total,
            )
        )  # fmt: skip
    return rows


def _mean(rows: Rows) -> Estimate:
    return statistics.mean(list(rows.values()), list(rows))


def _judged(measured: Measured, criterion: str, policy: str) -> Rows:
    """The judge's ratings of all held-out answers, to red-team prompts and to everyday ones."""
    rated = [measured.criteria.get((criterion, policy, kind)) for kind in ("red-team", "helpful")]
    merits = [row for made in rated if made for row in read_jsonl(made / "merits.jsonl", TextRating)]
    return {row.prompt_id: row.value for row in merits if row.value is not None}


def _by_model(cells: Sequence[Cell], cell: Cell | None, criterion: str) -> tuple[str, float]:
    """(the reward model by which a policy's gain is told, its spread): of its own cell, of another arm's same seed, or
    the first that there is."""
    having = [other for other in cells if criterion in other.criteria and other.policy]
    having = having or [other for other in cells if criterion in other.criteria]
    nearest = min(having, key=lambda other: (other is not cell, cell is not None and other.seed != cell.seed))
    return nearest.reward_of(criterion), scale_of(nearest.criteria[criterion].scale)[1]


def _gained(measured: Measured, model: str, spread: float, policy: str) -> dict[str, tuple[float, float]]:
    """Prompt -> reward of the policy's answer, and of the SFT policy's, in spreads."""
    if (model, policy) not in measured.scores:
        return {}
    mine, before = (
        {row.id: row.reward for row in read_jsonl(measured.scores[model, name] / "scores.jsonl", Score)}
        for name in (policy, "sft")
    )
    pairs = {row: (mine[row], before.get(row)) for row in mine}
    return {row: (x / spread, y / spread) for row, (x, y) in pairs.items() if x is not None and y is not None}


def _difference(rows: Mapping[str, tuple[float, ...]]) -> Estimate:
    """Of the first from the second, prompts drawn as wholes."""
    first, second = ([row[side] for row in rows.values()] for side in (0, 1))
    return statistics.paired_difference(first, second, list(rows))


# 3. Along training ----------------------------------------------------------------------------------------------------


def paid(cell: Cell) -> list[PaidLine]:
    """One line for each criterion, over the rollouts of all rounds; none of a policy that was not trained online."""
    lines = []
    for name, made in cell.criteria.items():
        values: list[Number] = []
        for iteration in cell.lineage:
            assert iteration.policy
            values += json.loads((iteration.policy / "curves.json").read_text()).get(COLUMN + name, [])
        known = [value for value in values if value is not None]
        if not known:
            continue
        quarter = max(1, len(known) // 4)
        gained = math.fsum(known[-quarter:]) / quarter - math.fsum(known[:quarter]) / quarter
        lines.append(
            PaidLine(
                arm=cell.arm, seed=cell.seed, criterion=name, rollout=[float(n) for n in range(1, len(values) + 1)],
                reward=values, share=made.share, paid=made.share * gained,
            )
        )  # fmt: skip
    return lines


# 4. Plots -------------------------------------------------------------------------------------------------------------


def draw(r: Mapping[str, Any]) -> dict[str, list[Any]]:
    """planes: one for each two criteria; paid: one for each arm, a line for each criterion and seed."""
    report = r["criteria"]
    if not report:
        return {"planes": [], "paid": []}
    planes = [
        plots.plane(
            f"{second.capitalize()} and {first}",
            [
                Spot(row["policy"], row["judged"][first], row["judged"][second], plots.colour(row["arm"], r["arms"]))
                for row in report["policies"]
            ],
            Axes(f"{first}, log-odds", f"{second}, log-odds"), best="top right",
            note="By the evaluation judge under each criterion's constitution, who rates each answer alone.",
        )
        for first, second in combinations(report["names"], 2)
    ]  # fmt: skip
    charts = []
    for arm in dict.fromkeys(line["arm"] for line in report["paid"]):
        drawn = [
            Line(
                f"{line['criterion']}, seed {line['seed']}", line["rollout"], line["reward"],
                f"--arm-{report['names'].index(line['criterion']) % plots.ARM_COLOURS}", dash(line["seed"], r["seeds"]),
            )
            for line in report["paid"] if line["arm"] == arm
        ]  # fmt: skip
        axes = Axes("rollout", "reward by each criterion, in spreads of the SFT answers", null=0)
        charts.append(plots.lines(f"Which criterion paid, arm {arm}", drawn, axes))
    return {"planes": [plot for plot in planes if plot], "paid": [plot for plot in charts if plot]}


SECTION = ReportSection(
    "criteria", "Criteria", CriteriaReport | None, lambda run: criteria(run.cells, run.measured, run.held_out),
    chapter="policies", template="criteria.html.jinja", draw=draw,
)  # fmt: skip
