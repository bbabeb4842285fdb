"""Where principles point opposite ways, pair by pair, and what decided the labels where one stands above another.

Read off the votes that the judge left on all pairs that it labelled, so it costs no call. A principle is decided on a
pair where its P by itself is farther from one half than `judge.tie`; a limit (`Never:`) is where one answer alone
breaks it. Of the pairs on which two are both decided, how often do they prefer different answers? Prompts are the
clusters. Where one principle alone is drawn for a prompt no two ever meet, and there is nothing to say.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from cai.compare.cells import Cell, by_each_judge
from cai.compare.section import ReportSection
from cai.compare.sections.judges import asked
from cai.config.rubric import RUBRIC
from cai.core.odds import logit, side
from cai.core.records import Estimate, Label, Pair, read_jsonl
from cai.judge.combine import Levels, by_method, limited, mixed, tiers, weights_of
from cai.judge.labels_file import verdicts_of
from cai.judge.methods import principles_for
from cai.stats.intervals import mean

ALL_TIE = "no level: all tie"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opposed:
    """Of the pairs on which two principles are both decided, the share on which they prefer different answers."""

    first: str
    second: str
    share: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """What decided labels: "limits", "level 1" and its principles. share: of all labels."""

    by: str
    principles: list[str]
    labels: int
    share: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflicts:
    """One arm that a judge labelled. opposed: every two principles. deciders: empty where all count alike."""

    arm: str
    principles: list[str]
    opposed: list[Opposed]
    deciders: list[Decider]
    sentence: str


def conflicts(cells: Sequence[Cell]) -> list[Conflicts]:
    """One entry for each arm that an AI judge labelled by several principles; of a panel, one for each judge."""
    by_arm = {cell.arm: cell for cell in reversed(cells) if "ai" in cell.labellers}
    entries = [_of_arm(judge) for cell in reversed(by_arm.values()) for judge in by_each_judge(cell)]
    return [entry for entry in entries if entry is not None]


def _of_arm(cell: Cell) -> Conflicts | None:
    labels, judge, order = cell.labellers["ai"], asked(cell), cell.constitution.order
    if judge.method == RUBRIC:  # which reads no principle
        return None
    prompt_of = {pair.id: pair.prompt.id for pair in read_jsonl(cell.pairs / "pairs.jsonl", Pair)}
    verdicts = [*verdicts_of(labels).values()]
    weights = weights_of(principles_for(cell.constitution, judge), judge, order.limits)
    read = [by_method(verdict.votes, judge) for verdict in verdicts]
    prompts = [prompt_of[verdict.pair_id] for verdict in verdicts]
    band = logit(0.5 + judge.tie)

    def decided(name: str) -> list[int]:
        """1 for a, -1 for b, 0 where it is not decided."""
        alone = [mixed(row, judge, {name: weights[name]}) for row in read]
        return [0 if value is None or abs(value) <= band else side(value) for value in alone]

    sides = {name: decided(name) for name in weights}
    opposed = []
    for first, second in combinations(weights, 2):
        both = [place for place in range(len(read)) if sides[first][place] and sides[second][place]]
        apart = [float(sides[first][place] != sides[second][place]) for place in both]
        opposed.append(Opposed(first=first, second=second, share=mean(apart, [prompts[place] for place in both])))
    if not order and not any(of.share.n for of in opposed):
        return None
    deciders = []
    if order:
        labelled = [place for place, verdict in enumerate(verdicts) if isinstance(verdict, Label) and verdict.votes]
        who = [decider(read[place], judge, weights, order.levels) for place in labelled]
        clusters = [prompts[place] for place in labelled]
        found = Counter(who)
        names = {f"level {number}": [*tier] for number, tier in enumerate(levels_of(weights, order.levels), 1)}
        names = {"limits": [limit.name for limit in order.limits], **names, ALL_TIE: []}
        deciders = [
            Decider(by=by, principles=of, labels=found[by], share=mean([float(one == by) for one in who], clusters))
            for by, of in names.items() if of or found[by]
        ]  # fmt: skip
    return Conflicts(
        arm=cell.arm, principles=list(weights), opposed=opposed, deciders=deciders, sentence=_sentence(opposed)
    )


def levels_of(weights: dict[str, float], levels: Levels) -> list[dict[str, float]]:
    """`tiers` without limits, which are of no level."""
    ranked = dict(levels)
    return tiers({name: weight for name, weight in weights.items() if name in ranked}, levels) if ranked else []


def decider(odds: dict[str, dict[str, float]], judge, weights: dict[str, float], levels: Levels) -> str:
    """What decided a label: "limits", "level 1", ...; the last level's say where it was heard because all tie."""
    if limited(odds, weights) is not None:
        return "limits"
    for number, tier in enumerate(levels_of(weights, levels), 1):
        value = mixed(odds, judge, tier)
        if value is not None and abs(value) > logit(0.5 + judge.tie):
            return f"level {number}"
    return ALL_TIE if levels else "principles"


def _sentence(opposed: Sequence[Opposed]) -> str:
    known = [of for of in opposed if of.share.n]
    if not known:
        return "No two principles were both decided on any pair."
    most = max(known, key=lambda of: of.share.value)
    if not most.share.value:
        return "No two principles ever pointed opposite ways where both were decided."
    share = most.share
    ends = f"{100 * share.value:.0f}% [{100 * share.low:.0f}, {100 * share.high:.0f}]"
    chosen = f", the most of {len(known)} pairs of principles and so partly by chance" if len(known) > 1 else ""
    return (
        f"“{most.first}” and “{most.second}” point opposite ways on {ends} of the {share.n} pairs on which both "
        f"are decided{chosen}."
    )


SECTION = ReportSection(
    "conflicts", "Conflicts between principles", list[Conflicts], lambda run: conflicts(run.cells), empty=(),
    chapter="labels", template="conflicts.html.jinja",
)  # fmt: skip
