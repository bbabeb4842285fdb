"""What rounds of pairs, labels, reward model and RL do (`rounds:`): reward, held-out agreement and drift, over rounds.

Bai et al. ("Training a Helpful and Harmless Assistant", 2022, section 4.5) update preference model and policy weekly on
fresh data. Each of its rounds has a reward model of its own, and these have no common scale: adding a constant to a
reward model, or more training, changes its numbers and not what it prefers. So policies of all rounds stand on scales
that no round moves:

    the evaluation's judge       log-odds that it would choose the answer, by the yardstick: it learns from no round
    absolute harmfulness         a model of people's ratings, where the run has one (`evaluate.harmfulness`)
    the last reward model        of the arm, in standard deviations of the SFT policy's answers by the same model
    each round's own             in the same unit, by the model that it learnt from: what RL climbed, and no scale

Reward models are held against people on pairs that people judged, and against the labels of their own round's held-out
fresh pairs; there beside the reward model of the round before, whose policy wrote these answers: if that one agrees
less, the policy has left what it had been taught on. Drift is the KL of a held-out answer from the SFT policy
(cai/train/drift.py), and its length.

An arm's figure after a round is averaged over seeds, then prompts are resampled; a difference is tested over prompts
and seeds. Fresh pairs differ between seeds, so their rows are the prompts, of which each has one pair.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cai.compare import plots
from cai.compare.cells import Cell, Measured, with_policy
from cai.compare.figures import Chart
from cai.compare.measures import (
    HeldOutPairs,
    Measure,
    Rows,
    average,
    by_judge,
    left_out,
    margins_of,
    noise,
    paired,
    reward_rows,
    text_rows,
)  # fmt: skip
from cai.compare.schema import Better, Difference
from cai.core.records import Estimate, Label, Pair, labelled_pairs, read_jsonl
from cai.core.store import Artifact
from cai.core.textstats import words
from cai.stats import intervals as statistics
from cai.train.distributions import AnswerDrift
from cai.train.scores import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterRound:
    """One measure of an arm after a round; 0: the SFT policy. labels: to train on so far, mean over seeds.

    seeds: the mean of each.
    """

    arm: str
    round: int
    labels: float
    estimate: Estimate
    seeds: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOverRounds:
    """As a `MeasureLine`. gains: arm -> its last round minus the first, or what the `of` of the difference says.

    between: the first two arms after their last rounds. noise: what two seeds of one arm differ by after its last.
    """

    key: str
    title: str
    unit: str
    better: Better
    help: str
    points: list[AfterRound]
    gains: dict[str, Difference]
    between: Difference | None
    noise: Estimate | None


@dataclass(frozen=True, slots=True)
class RoundMeasure:
    """rows: (cell, round) -> outcomes; none where there is no such thing. cluster: row -> prompt.

    earlier: what the last round is held against, where that is not the first round by the same measure. fresh: of pairs
    that each arm samples for itself, so that two arms have no rows in common.
    """

    line: Measure
    rows: Callable[[Cell, int], Rows]
    cluster: Callable[[str], str] = str
    earlier: Callable[[Cell, int], Rows] | None = None
    fresh: bool = False


def over_rounds(cells: Sequence[Cell], measured: Measured) -> list[MeasureOverRounds]:
    """Nothing where every arm has one round."""
    if all(len(cell.lineage) == 1 for cell in cells):
        return []
    cells = with_policy(cells)
    labels = {cell.name: labels_so_far(cell) for cell in cells}
    made = [_followed(spec, cells, labels) for spec in _measures(cells, measured)]
    return [line for line in made if line.points]


def labels_so_far(cell: Cell) -> list[int]:
    """How many labelled pairs there were to train on after each round, of all criteria; 0 before the first."""
    counts = [0]
    for its in cell.lineage:
        given = [its.labels, *(own.labels for own in its.criteria.values())]
        counts.append(counts[-1] + sum(len(labelled_pairs((its.pairs,), (made,))) for made in given if made))
    return counts


def _followed(spec: RoundMeasure, cells: Sequence[Cell], labels: Mapping[str, Sequence[int]]) -> MeasureOverRounds:
    arms = {cell.arm: [other for other in cells if other.arm == cell.arm] for cell in cells}
    points: list[AfterRound] = []
    gains: dict[str, Difference] = {}
    last: dict[str, list[Rows]] = {}
    share = {"reach": 1.0, "margin": spec.line.margin} if spec.line.unit == "%" else {}
    for arm, own in arms.items():
        rounds = len(own[0].lineage)
        after = {number: [spec.rows(cell, number) for cell in own] for number in range(rounds + 1)}
        for number, replicas in after.items():
            rows = average(replicas)
            if rows:
                points.append(
                    AfterRound(
                        arm=arm, round=number, estimate=_mean(rows, spec), seeds=[_bare(r) for r in replicas],
                        labels=math.fsum(labels[cell.name][number] for cell in own) / len(own),
                    )
                )  # fmt: skip
        last[arm] = after[rounds]
        first = [spec.earlier(cell, rounds) for cell in own] if spec.earlier else after[1]
        if rounds > 1 and average([*last[arm], *first]):
            before = "the reward model before" if spec.earlier else "round 1"
            gains[arm] = Difference(
                **paired(last[arm], first, spec.cluster, **share), of=(f"round {rounds}", before),
                left_out=left_out({"last": last[arm], "first": first}, ("last", "first")),
            )  # fmt: skip
    between = None
    if len(arms) > 1 and not spec.fresh:
        pair = tuple(arms)[:2]
        if average([*last[pair[0]], *last[pair[1]]]):
            tests = paired(last[pair[0]], last[pair[1]], spec.cluster, **share)
            between = Difference(**tests, of=(pair[0], pair[1]), left_out=left_out(last, pair))
    line = spec.line
    return MeasureOverRounds(
        key=line.key, title=line.title, unit=line.unit, better=line.better, help=line.help, points=points, gains=gains,
        between=between, noise=noise(list(last.values())),
    )  # fmt: skip


def _measures(cells: Sequence[Cell], measured: Measured) -> list[RoundMeasure]:
    first = cells[0]
    margin = first.settings.evaluate.margin
    people = {pair.id: pair for pair in read_jsonl(first.data / "pairs.jsonl", Pair) if pair.prompt.split == "test"}
    human = {pair.id: pair.human for pair in people.values() if pair.human is not None}

    def policy(of: Callable[[str], Rows]) -> Callable[[Cell, int], Rows]:
        return lambda cell, number: of(names_of(cell)[number])

    def harm(name: str) -> Rows:
        return _scores(measured.harm_scores[name]) if name in measured.harm_scores else {}

    def reward(cell: Cell, number: int, by: str) -> Rows:
        policy = names_of(cell)[number]
        return reward_rows(measured, by, policy) if (by, policy) in measured.scores else {}

    def with_people(cell: Cell, number: int) -> Rows:
        made = measured.round_pairs.get((names_of(cell)[number], "people"))
        return HeldOutPairs.agreement(margins_of(made), human) if made else {}

    def with_labels(cell: Cell, number: int, by: int) -> Rows:
        """By prompt: whether the reward model of round `by` prefers what a round's held-out labels prefer."""
        name = names_of(cell)[number]
        made = measured.round_pairs.get((names_of(cell)[by], name)) if by > 0 else None
        labels = cell.policies[name].labels if number else None
        return fresh_agreement(margins_of(made), cell.policies[name].pairs, labels) if made and labels else {}

    def drift(cell: Cell, number: int) -> Rows:
        name = names_of(cell)[number]
        if name == "sft":  # from itself
            return dict.fromkeys(text_rows(measured.answers["sft", "red-team"], words), 0.0)
        made = measured.drift.get(name)
        return {row.prompt_id: row.kl for row in read_jsonl(made / "drift.jsonl", AnswerDrift)} if made else {}

    higher = partial(Measure, better="higher")
    agree = partial(higher, unit="%", margin=margin)
    own_help = "standard deviations of the SFT policy's answers, by each reward model itself: what RL climbed, no scale"
    return [
        RoundMeasure(
            higher("harmlessness", "harmlessness by the evaluation's judge", help="log-odds; one scale"),
            policy(by_judge(measured, "red-team")),
        ),
        RoundMeasure(
            Measure("harmfulness", "absolute harmfulness", better="lower", help="0 to 1, learnt from people's ratings"),
            policy(harm),
        ),
        RoundMeasure(
            higher("reward_last", "reward by the last reward model", help="of the arm, in sd; one scale"),
            lambda cell, number: reward(cell, number, cell.name),
        ),
        RoundMeasure(
            higher("reward_own", "reward by each round's own reward model", help=own_help),
            lambda cell, number: reward(cell, number, names_of(cell)[number]) if number else {},
        ),
        RoundMeasure(
            agree("people", "reward model agrees with people", help="on held-out pairs that people judged"),
            with_people, lambda row: people[row].prompt.id,
        ),
        RoundMeasure(
            agree("fresh", "reward model agrees with its round's labels", help="on held-out fresh pairs"),
            lambda cell, number: with_labels(cell, number, number),
            earlier=lambda cell, number: with_labels(cell, number, number - 1), fresh=True,
        ),
        RoundMeasure(
            agree("before", "the reward model before, on the same pairs", help="it taught who wrote them"),
            lambda cell, number: with_labels(cell, number, number - 1), fresh=True,
        ),
        RoundMeasure(Measure("kl", "drift from the SFT policy", help="KL, nats an answer"), drift),
        RoundMeasure(
            Measure("words", "answer length, words"),
            policy(lambda name: text_rows(measured.answers[name, "red-team"], words)),
        ),
    ]  # fmt: skip


def names_of(cell: Cell) -> list[str]:
    """The cell's policy after each round, from round 0, which is the SFT policy."""
    return ["sft", *cell.policies]


def fresh_agreement(claimed: Rows, pairs: Artifact, labels: Artifact) -> Rows:
    """Prompt -> 1 where a reward model is on the label's side on its held-out pair, 0.5 where it is on none."""
    prompts = {pair.id: pair.prompt.id for pair in read_jsonl(pairs / "pairs.jsonl", Pair)}
    truth = {label.pair_id: label.p_a for label in read_jsonl(labels / "labels.jsonl", Label)}
    return {prompts[row]: agrees for row, agrees in HeldOutPairs.agreement(claimed, truth).items()}


def _scores(artifact: Artifact) -> Rows:
    return {row.id: row.reward for row in read_jsonl(artifact / "scores.jsonl", Score) if row.reward is not None}


def _mean(rows: Rows, spec: RoundMeasure) -> Estimate:
    """Numbers that are all alike are as they are (drift before the first round is 0); shares may only look so."""
    estimate = statistics.mean(list(rows.values()), [spec.cluster(row) for row in rows])
    alike = not spec.line.unit and len(set(rows.values())) == 1
    return replace(estimate, low=estimate.value, high=estimate.value) if alike else estimate


def _bare(rows: Rows) -> float:
    return math.fsum(rows.values()) / len(rows) if rows else math.nan


# --- on the page ------------------------------------------------------------------------------------------------------

# Title, y axis, and measure -> (its name in the legend, dash); measures without a name are the only ones of their plot.
PLOTS: tuple[tuple[str, str, Mapping[str, tuple[str, str]]], ...] = (
    ("Harmlessness by the evaluation's judge", "log-odds", {"harmlessness": ("", "solid")}),
    ("Absolute harmfulness", "0 to 1, less is better", {"harmfulness": ("", "solid")}),
    (
        "Reward", "sd of the SFT policy's answers",
        {"reward_last": (", by its last reward model", "solid"), "reward_own": (", by the round's own", "dash")},
    ),
    (
        "Do reward models agree?", "share of held-out pairs",
        {
            "people": (" with people", "solid"), "fresh": (" with the round's labels", "dash"),
            "before": (", the one before, with these", "dot"),
        },
    ),
    ("Drift from the SFT policy", "KL, nats an answer", {"kl": ("", "solid")}),
    ("Answer length", "words", {"words": ("", "solid")}),
)  # fmt: skip


def drawn(r: Mapping[str, Any]) -> list[Chart]:
    """A plot a quantity over labels so far, a marker a round; and harmlessness over drift."""
    lines = {line["key"]: line for line in r["over_rounds"]}
    charts = []
    for title, y, keys in PLOTS:
        series = [
            plots.Line(
                f"{arm}{name}", [at["labels"] for at in points], [at["estimate"] for at in points],
                plots.colour(arm, r["arms"]), dash, "circle",
            )
            for key, (name, dash) in keys.items() if key in lines
            for arm, points in _by_arm(lines[key]).items()
        ]  # fmt: skip
        unit = next((lines[key]["unit"] for key in keys if key in lines), "")
        axes = plots.Axes("training labels so far, a marker a round", y, unit, null=0.5 if unit else None)
        charts.append(plots.lines(title, series, axes, legend=True, height=170))
    if "kl" in lines and "harmlessness" in lines:
        nats = {(at["arm"], at["round"]): at["estimate"] for at in lines["kl"]["points"]}
        spots = [
            plots.Spot(
                f"{at['arm']}, round {at['round']}" if at["round"] else "SFT policy", nats[at["arm"], at["round"]],
                at["estimate"], plots.colour(at["arm"] if at["round"] else None, r["arms"]),
            )
            for place, at in enumerate(lines["harmlessness"]["points"])
            if (at["arm"], at["round"]) in nats and (at["round"] or not place)
        ]  # fmt: skip
        axes = plots.Axes("drift: KL, nats an answer", "harmlessness, log-odds")
        charts.append(plots.plane("What drift buys", spots, axes))
    return [chart for chart in charts if chart]


def _by_arm(line: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    arms: dict[str, list[Mapping[str, Any]]] = {}
    for at in line["points"]:
        arms.setdefault(at["arm"], []).append(at)
    return arms
