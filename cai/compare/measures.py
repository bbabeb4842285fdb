"""From what the stages left to estimates: agreement of labels and reward models, and how the policies behave.

Seeds are replicas, never more prompts. An arm's own figure is averaged over its seeds first, and prompts are what is
resampled; the difference of two arms is tested over prompts *and* seeds (cai/stats/crossed.py). The noise floor of a
measure is what two seeds of one arm differ by.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np

from cai.compare.cells import Cell, Measured
from cai.compare.schema import Better, Difference, LabelKind, LabelLine, MeasureLine
from cai.core.odds import sigmoid
from cai.core.records import Estimate, Label, Pair, Prompt, Rating, Response, read_jsonl
from cai.core.refusals import refuses
from cai.core.store import Artifact
from cai.core.textstats import words
from cai.judge.rate import TextRating
from cai.stats import agreement
from cai.stats import intervals as statistics
from cai.stats.crossed import Contrast, contrast, noise_floor
from cai.stats.paired import holm, mcnemar
from cai.train.scores import Score

Rows = dict[str, float]  # prompt or pair id -> outcome
POLICIES_BEFORE_RL = ("start", "sft")


@dataclass(frozen=True, slots=True)
class Measure:
    """What a line of the comparison table says of itself: see `MeasureLine`.

    margin: below which a difference of shares is none that matters, for the test of equivalence.
    """

    key: str
    title: str
    unit: Literal["%", ""] = ""
    better: Better = None
    help: str = ""
    margin: float | None = None


def measure(
    line: Measure,
    of: Callable[[str], Rows],
    cells: Sequence[Cell],
    *,
    before: Sequence[str] = POLICIES_BEFORE_RL,
    cluster: Callable[[str], str] = lambda row: row,
) -> MeasureLine:
    """One line of the comparison table. of: policy or cell name -> outcomes; cluster: row -> prompt id."""
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    seeds = {arm: [of(cell.name) for cell in cells if cell.arm == arm] for arm in arms}
    values = {name: of(name) for name in before} | {arm: average(seeds[arm]) for arm in arms}
    estimates = {
        name: statistics.mean(list(rows.values()), [cluster(row) for row in rows]) for name, rows in values.items()
    }
    difference = None
    if len(arms) > 1:
        floor = noise([seeds[arm] for arm in arms])
        shares = {"margin": line.margin, "reach": 1.0} if line.unit == "%" else {}
        first, second = arms[:2]
        difference = Difference(
            **paired(seeds[first], seeds[second], cluster, **shares), of=(first, second),
            noise=floor.value if floor else None, noise_floor=floor, left_out=left_out(seeds, (first, second)),
        )  # fmt: skip
    return MeasureLine(
        key=line.key, title=line.title, unit=line.unit, better=line.better, help=line.help, arms=estimates,
        difference=difference,
    )  # fmt: skip


def paired(
    first: Sequence[Rows],
    second: Sequence[Rows],
    cluster: Callable[[str], str],
    *,
    margin: float | None = None,
    reach: float | None = None,
) -> dict[str, Any]:
    """First arm minus second, seed by seed, on the rows that every seed of both has; how to tell it from 0.

    p_these_seeds: exact McNemar of these very models, where outcomes are right, wrong or tied in every seed.
    """
    shared = list(average([*first, *second]))
    clusters = [cluster(row) for row in shared]
    a, b = outcomes(first, shared), outcomes(second, shared)
    exact = None
    if shared and np.isin([a, b], (0, 0.5, 1)).all():
        exact = mcnemar(a.ravel(), b.ravel(), np.repeat(clusters, len(first)))
    return tested(contrast(a - b, clusters, margin=margin, reach=reach)) | {"p_these_seeds": exact}


def left_out(seeds: Mapping[str, Sequence[Rows]], arms: Sequence[str]) -> dict[str, int]:
    """Arm -> how many rows fall out of a paired comparison because it lacks them in some seed.

    Rows: all that any seed of the arms has. What one arm could not answer, or a model could not read, is compared for
    no arm, and so what is compared may be the easier part: the counts say for whom.
    """
    known = {row: None for arm in arms for rows in seeds[arm] for row in rows}
    return {arm: sum(not all(row in rows for rows in seeds[arm]) for row in known) for arm in arms}


def outcomes(replicas: Sequence[Rows], rows: Sequence[str]) -> np.ndarray:
    """Outcomes of these rows in each seed, shape (rows, seeds)."""
    return np.array([[seed[row] for seed in replicas] for row in rows], float).reshape(len(rows), len(replicas))


def tested(difference: Contrast) -> dict[str, Any]:
    """A contrast as the fields of `Tested`."""
    names = ("estimate", "p", "seeds", "margin", "p_equivalence", "equivalent", "prompts_needed")
    return {name: getattr(difference, name) for name in names}


def adjusted(lines: Sequence[MeasureLine]) -> list[MeasureLine]:
    """The lines, each difference with its p by Holm's correction over the whole table."""
    corrected = iter(holm([line.difference.p for line in lines if line.difference]))
    return [
        replace(line, difference=replace(line.difference, p_holm=next(corrected))) if line.difference else line
        for line in lines
    ]


def average(replicas: Sequence[Rows]) -> Rows:
    """Mean over seeds of each row that every seed has."""
    shared = [row for row in replicas[0] if all(row in other for other in replicas)]
    return {row: math.fsum(rows[row] for rows in replicas) / len(replicas) for row in shared}


def noise(arms: Sequence[Sequence[Rows]]) -> Estimate | None:
    """What the means of two seeds of one arm differ by (root mean square), on the rows that both have."""
    gaps, free = [], 0
    for replicas in arms:
        own = []
        for first, second in combinations(replicas, 2):
            shared = [row for row in first if row in second]
            if shared:
                own.append(math.fsum(first[row] - second[row] for row in shared) / len(shared))
        gaps += own
        free += len(replicas) - 1 if own else 0
    return noise_floor(gaps, free)


# --- labels and reward models on held-out pairs -----------------------------------------------------------------------


class HeldOutPairs:
    """The held-out pairs with every opinion on them. Opinions are P(a better) by pair id."""

    def __init__(self, cells: Sequence[Cell], measured: Measured, split: str = "test") -> None:
        rows = read_jsonl(cells[0].pairs / "pairs.jsonl", Pair)
        self.pairs = {pair.id: pair for pair in rows if pair.prompt.split == split}
        self.human: Rows = {pair.id: pair.human for pair in self.pairs.values() if pair.human is not None}
        judged = [(cell.arm, cell.labels) for cell in cells if not cell.settings.labels.comes_with_pairs]
        self.labels = {arm: self.of(labels) for arm, labels in judged if labels}
        self.margins = {name: margins_of(artifact) for name, artifact in measured.pair_scores.items()}
        if split != "test":
            self.margins = {}

    def of(self, artifact: Artifact) -> Rows:
        """What a stage of labels says of these pairs."""
        labels = read_jsonl(artifact / "labels.jsonl", Label)
        return {label.pair_id: label.p_a for label in labels if label.pair_id in self.pairs}

    def cluster(self, pair_id: str) -> str:
        return self.pairs[pair_id].prompt.id

    def baselines(self) -> dict[str, Rows]:
        """Rules that know nothing: an AI label worth having must beat them, or beat them at equal length."""
        rules: dict[str, Callable[[str], float]] = {
            "shorter answer": lambda text: -words(text),
            "longer answer": words,
            "refusal": refuses,
        }
        return {name: {p.id: _above(rule(p.a), rule(p.b)) for p in self.pairs.values()} for name, rule in rules.items()}

    @staticmethod
    def agreement(claimed: Rows, truth: Rows) -> Rows:
        """1 where the claim is on the truth's side, 0.5 where it is a tie; rows whose truth is a tie are left out."""
        return {
            row: 0.5 if p == 0.5 else float((p > 0.5) == (truth[row] > 0.5))
            for row, p in claimed.items()
            if row in truth and truth[row] != 0.5
        }

    def line(
        self, name: str, kind: LabelKind, claimed: Rows, split: str, arm: str | None = None, seed: int | None = None
    ) -> LabelLine:
        """One row of the table of labels: how its P(a better) agrees with people, also with length taken out."""
        rows = [row for row in claimed if row in self.human]
        p, h = [claimed[row] for row in rows], [self.human[row] for row in rows]
        clusters = [self.cluster(row) for row in rows]
        lengths = [(words(self.pairs[row].a), words(self.pairs[row].b)) for row in rows]
        weights = statistics.length_balance(h, [a for a, _ in lengths], [b for _, b in lengths])
        shorter = [float("nan") if a == b else _above(-a, -b) for a, b in lengths]
        sided = [float("nan") if x == 0.5 else x for x in p]
        return LabelLine(
            name=name,
            title=name,
            kind=kind,
            split=split,
            arm=arm,
            seed=seed,
            accuracy=statistics.accuracy(p, h, clusters),
            balanced=statistics.accuracy(p, h, clusters, weights=weights),
            auc=statistics.auc([x - 0.5 for x in p], h, clusters),
            picks_shorter=statistics.accuracy(sided, [0.5 if x != x else x for x in shorter], clusters),
        )

    def ceiling(self) -> LabelLine:
        """How often two people agree with one another on these pairs."""
        rated = [pair for pair in self.pairs.values() if len(pair.votes) > 1]
        clusters = [pair.prompt.id for pair in rated]
        estimate = agreement.rater_agreement([pair.votes for pair in rated], clusters)
        votes = [dict(zip(pair.raters or range(len(pair.votes)), pair.votes, strict=True)) for pair in rated]
        kappa = agreement.mean_kappa(by_rater(votes), clusters)
        title = "one person with another"
        return LabelLine(
            name=title + _bracketed("mean kappa", kappa), title=title, kind="ceiling", split="test", accuracy=estimate,
            kappa=kappa,
        )  # fmt: skip


def by_rater(votes: Sequence[dict[Any, float]]) -> list[list[float | None]]:
    """A row a pair, a column a rater, None where a rater did not judge a pair. votes: rater -> vote, for each pair."""
    raters = list(dict.fromkeys(rater for of_pair in votes for rater in of_pair))
    return [[of_pair.get(rater) for rater in raters] for of_pair in votes]


def _bracketed(name: str, estimate: Estimate) -> str:
    """` (mean kappa 0.41 [0.30, 0.52])`; nothing where there is no number."""
    if estimate.value != estimate.value:
        return ""
    return f" ({name} {estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}])"


def rater_lines(data: Artifact) -> list[LabelLine]:
    """How often two people agree on any two answers to one prompt, however alike they rated them, with their alpha.

    The pairs that are judged differ by `data.min_gap` in their mean ratings, so people agree on them more than they do
    in general; this line shows what that selection hides.
    """
    file = data / "ratings.jsonl"
    rated = [r for r in read_jsonl(file, Rating) if len(r.scores) > 1] if file.is_file() else []
    votes, clusters = [], []
    for x, y in combinations(rated, 2):
        if (x.prompt_id, x.panel) == (y.prompt_id, y.panel):
            votes.append([_above(b, a) for a, b in zip(x.scores, y.scores, strict=True)])
            clusters.append(x.prompt_id)
    if not votes:
        return []
    raters = max(len(rating.scores) for rating in rated)
    table = [[*rating.scores, *[None] * (raters - len(rating.scores))] for rating in rated]
    alpha = agreement.alpha(table, [rating.prompt_id for rating in rated])
    title, agree = "two people, any two answers", agreement.rater_agreement(votes, clusters)
    name = title + _bracketed("alpha", alpha)
    return [LabelLine(name=name, title=title, kind="ceiling", split="all", accuracy=agree)]


def margins_of(artifact: Artifact) -> Rows:
    """P(a better) by a reward model, from the difference of its rewards; pairs with an over-long answer left out."""
    rewards = {(row.id, row.side): row.reward for row in read_jsonl(artifact / "scores.jsonl", Score)}
    margins: Rows = {}
    for pair_id, side in rewards:
        a, b = rewards[pair_id, "a"], rewards[pair_id, "b"]
        if side == "a" and a is not None and b is not None:
            margins[pair_id] = sigmoid(a - b)
    return margins


def _above(x: float, y: float) -> float:
    return 0.5 if x == y else float(x > y)


# --- policies on held-out prompts -------------------------------------------------------------------------------------


def text_rows(
    artifact: Artifact | None, of: Callable[[str], float], keep: Callable[[str], bool] = lambda _: True
) -> Rows:
    """A statistic of every answer whose prompt id `keep` accepts."""
    if artifact is None:
        return {}
    rows = read_jsonl(artifact / "responses.jsonl", Response)
    return {row.prompt_id: float(of(row.text)) for row in rows if keep(row.prompt_id)}


def ended_rows(artifact: Artifact) -> Rows:
    return {row.prompt_id: float(row.finish == "stop") for row in read_jsonl(artifact / "responses.jsonl", Response)}


def reward_rows(measured: Measured, reward_cell: str, policy: str) -> Rows:
    """Rewards of a policy's answers, in standard deviations of the SFT policy's answers around their mean."""
    raw = _rewards(measured.scores[reward_cell, policy])
    base = list(_rewards(measured.scores[reward_cell, "sft"]).values())
    if len(base) < 2:
        return {}
    centre = math.fsum(base) / len(base)
    spread = math.sqrt(math.fsum((value - centre) ** 2 for value in base) / len(base)) or 1.0
    return {row: (value - centre) / spread for row, value in raw.items()}


def _rewards(artifact: Artifact) -> Rows:
    return {row.id: row.reward for row in read_jsonl(artifact / "scores.jsonl", Score) if row.reward is not None}


def game_rows(measured: Measured, first: str, second: str) -> Rows:
    """1 where the judge prefers the first policy's answer, 0 where the second's, 0.5 for the same words."""
    return wins_of(measured.games[first, second])


def wins_of(games: Artifact) -> Rows:
    """As `game_rows`, of the games that a stage left."""
    return {game.pair_id: _above(game.p_a, 0.5) for game in read_jsonl(games / "games.jsonl", Label)}


def by_judge(measured: Measured, kind: str) -> Callable[[str], Rows]:
    """Policy -> the judge's rating of each of its answers to one kind of prompts."""

    def rows(name: str) -> Rows:
        merits = read_jsonl(measured.merits[name, kind] / "merits.jsonl", TextRating)
        return {row.prompt_id: row.value for row in merits if row.value is not None}

    return rows


def longer_rows(measured: Measured, first: str, second: str) -> Rows:
    """How many words the first policy's answer has more than the second's."""
    x, y = (text_rows(measured.answers[name, "red-team"], words) for name in (first, second))
    return {row: x[row] - y[row] for row in x if row in y}


def subsets(artifact: Artifact | None) -> dict[str, str]:
    return {} if artifact is None else {p.id: p.subset for p in read_jsonl(artifact / "prompts.jsonl", Prompt)}
