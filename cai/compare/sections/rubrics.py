"""Rubrics (`judge.rubric`): which criteria decided the labels, how often each counted, and which of them people share.

Read off the votes that the judge left on all pairs that it labelled, so it costs no call. What a criterion adds to the
score of a less that of b is its contribution; all of them together are the difference of the scores. A label is decided
by the criterion that adds most on its side. Agreement is that with people on held-out pairs on which the criterion
counted: does what it adds point to the answer that they prefer? Prompts are the clusters.

Where there are more than `SHOWN` criteria, those that stand in the rubric of one prompt alone are one row for each
sign.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cai.compare.cells import Cell
from cai.compare.measures import HeldOutPairs
from cai.compare.section import ReportSection
from cai.config.rubric import RUBRIC
from cai.core.odds import side, sigmoid
from cai.core.records import Abstained, Estimate, Label, Pair, Prompt, Vote, read_jsonl
from cai.data.rubrics import RubricItem, Rubrics, read_rubrics
from cai.judge.ballots import GATE
from cai.judge.labels_file import verdicts_of
from cai.judge.rubric import FILE, contributions, entering, holding
from cai.stats import intervals as statistics

SHOWN = 12
FEWEST = 10  # prompts, below which an interval of agreement is not spoken of
FOR_ONE = {True: "for one prompt, points above 0", False: "for one prompt, points below 0"}
EXAMPLES = 2  # rubrics that are shown in full
DROPPED, LEFT_OUT = "written: lines dropped: ", "criteria left out: "  # of counts.json


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionInUse:
    """One row. criteria: how many it stands for. points: their mean. asked, entered: pairs, once for each criterion, on
    which it was asked about, and on which it entered the scores.

    met: P(met), the mean over the answers for which it counts; spread: the mean distance of the two answers' P(met),
    near 0 for a criterion that tells no answers apart. gated_out: of the answers, the share of which its condition does
    not hold; no data without a condition. decided: of the labels. agreement: with people.
    """

    criterion: str
    criteria: int
    points: float
    only_if: str
    asked: int
    entered: int
    met: Estimate
    spread: Estimate
    gated_out: Estimate
    decided: Estimate
    agreement: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class RubricOfPrompt:
    """prompt: what was asked last. items: "+5 It is kind", conditions behind them."""

    prompt: str
    items: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RubricOfArm:
    """One arm. source: the file, or how they were written. prompts: that were judged; without: of them, those without a
    criterion. counts: of the stage of its labels. criteria: most decisive first. about: what there is to score by, in
    words; sentence: what came of it."""

    arm: str
    source: str
    prompts: int
    without: int
    labels: int
    counts: dict[str, int]
    criteria: list[CriterionInUse]
    examples: list[RubricOfPrompt]
    about: str
    sentence: str


def rubrics(cells: Sequence[Cell], held_out: HeldOutPairs) -> list[RubricOfArm]:
    """One for each arm, or criterion of an arm, that was labelled by a rubric."""
    views = [view for cell in cells for view in cell.views if view.settings.judge.rubric and "ai" in view.labellers]
    by_arm = {view.arm: view for view in reversed(views)}
    return [_of_arm(view, held_out) for view in reversed(by_arm.values())]


Row = tuple[float, str]  # a value, and the prompt that it is of


@dataclass(slots=True)
class _Collected:
    """What is collected of one row of the table."""

    items: dict[str, RubricItem] = field(default_factory=dict)
    points: list[float] = field(default_factory=list)
    entered: int = 0
    met: list[Row] = field(default_factory=list)
    spread: list[Row] = field(default_factory=list)
    gated: list[Row] = field(default_factory=list)
    agree: list[tuple[float, float, str]] = field(default_factory=list)  # P(a better), people's, prompt


def _of_arm(cell: Cell, held_out: HeldOutPairs) -> RubricOfArm:
    folder, rubric = cell.labellers["ai"], cell.settings.judge.rubric
    assert rubric
    pairs = {pair.id: pair for pair in read_jsonl(cell.pairs / "pairs.jsonl", Pair)}
    verdicts = [*verdicts_of(folder).values()]
    file = folder / FILE
    of = read_rubrics(file) if file.stat().st_size else Rubrics()
    prompts = {(prompt := pairs[verdict.pair_id].prompt).id: prompt for verdict in verdicts}
    items = {name: of.of(prompt) for name, prompt in prompts.items()}
    row_of = _rows_by_name(items)
    rows: dict[str, _Collected] = {}
    deciders: list[tuple[str | None, str]] = []  # of each label by criteria: a row of the table, and the prompt
    for verdict in verdicts:
        pair = pairs[verdict.pair_id]
        mine = items[pair.prompt.id]
        _collect(rows, row_of, verdict, pair, mine, pair.human if pair.id in held_out.human else None)
        if isinstance(verdict, Label) and verdict.votes:
            deciders.append((_decider(verdict, mine, row_of), pair.prompt.id))
    table = [_criterion(name, row, deciders) for name, row in rows.items()]
    table.sort(key=lambda row: (-(row.decided.value if row.decided.n else 0.0), row.criterion))
    counts, without = json.loads((folder / "counts.json").read_text()), sum(not mine for mine in items.values())
    return RubricOfArm(
        arm=cell.arm, source=str(rubric), prompts=len(prompts), without=without, labels=len(deciders), counts=counts,
        criteria=table, examples=_examples(prompts, items) if rubric.write else [],
        about=about(len(prompts), without, counts), sentence=sentence(table, len(deciders)),
    )  # fmt: skip


def _rows_by_name(items: Mapping[str, Sequence[RubricItem]]) -> dict[tuple[str, bool], str]:
    """(name of a criterion, whether its points are above 0) -> the row of the table that it is counted in."""
    used = Counter((item.name, item.points > 0) for mine in items.values() for item in mine)
    alone = len(used) > SHOWN
    return {key: FOR_ONE[key[1]] if alone and count == 1 else key[0] for key, count in used.items()}


def _decider(label: Label, items: Sequence[RubricItem], row_of: Mapping[tuple[str, bool], str]) -> str | None:
    """The row of the criterion that adds most on the label's side; None for a tie."""
    adds, named = contributions(label.votes, items), side(label.p_a, 0.5)
    if not named or not adds:
        return None
    name = max(adds, key=lambda name: named * adds[name])
    return next(row_of[item.name, item.points > 0] for item in items if item.name == name)


def _collect(
    rows: dict[str, _Collected], row_of: Mapping[tuple[str, bool], str], verdict: Label | Abstained, pair: Pair,
    items: Sequence[RubricItem], human: float | None,
) -> None:  # fmt: skip
    """Add what one pair says of each criterion. human: what people say of it, if it is held out."""
    prompt = pair.prompt.id
    by: dict[tuple[str, str], Vote] = {(vote.method, vote.principle): vote for vote in verdict.votes}
    entered, adds = entering(verdict.votes, items), contributions(verdict.votes, items)
    for item in items:
        if (RUBRIC, item.name) not in by:  # of an answer without words nobody is asked
            continue
        row = rows.setdefault(row_of[item.name, item.points > 0], _Collected())
        row.items[item.name] = item
        row.points.append(item.points)
        if (gate := by.get((GATE, item.name))) and not gate.fault:
            row.gated += [(float(not holds), prompt) for holds in holding(gate)]
        if item.name not in entered:
            continue
        met = [counts[1] for counts in entered[item.name] if counts]
        row.entered += 1
        row.met += [(share, prompt) for share in met]
        row.spread += [(abs(met[0] - met[1]), prompt)] if len(met) == 2 else []
        if human is not None:
            row.agree.append((sigmoid(adds[item.name]), human, prompt))


def _criterion(name: str, row: _Collected, deciders: Sequence[tuple[str | None, str]]) -> CriterionInUse:
    ours, people, prompts = ([each[column] for each in row.agree] for column in range(3))
    return CriterionInUse(
        criterion=name, criteria=len(row.items), points=sum(row.points) / len(row.points),
        only_if=next(iter(row.items.values())).only_if if len(row.items) == 1 else "",
        asked=len(row.points), entered=row.entered, met=_mean(row.met), spread=_mean(row.spread),
        gated_out=_mean(row.gated), decided=_mean([(float(of == name), prompt) for of, prompt in deciders]),
        agreement=statistics.accuracy(ours, people, prompts),  # pyrefly: ignore
    )  # fmt: skip


def _mean(rows: Sequence[Row]) -> Estimate:
    return statistics.mean([value for value, _ in rows], [prompt for _, prompt in rows])


def _examples(prompts: Mapping[str, Prompt], items: Mapping[str, Sequence[RubricItem]]) -> list[RubricOfPrompt]:
    written = [name for name in sorted(items) if items[name]][:EXAMPLES]
    return [
        RubricOfPrompt(prompt=prompts[name].messages[-1].content, items=[_in_words(item) for item in items[name]])
        for name in written
    ]


def _in_words(item: RubricItem) -> str:
    condition = f" (only if: {item.only_if})" if item.only_if else ""
    return f"{item.points:+g} {item.criterion}{condition}".replace("-", "−", 1 if item.points < 0 else 0)


def about(prompts: int, without: int, counts: Mapping[str, int]) -> str:
    """What there is to score by, and what could not be used of it."""
    text = f"Criteria stand for {prompts - without:,} of {prompts:,} prompts."
    if "written: prompts" in counts:
        text += f" {counts['written: criteria']:,} could be read of what was written for {counts['written: prompts']:,}"
        dropped = {name.removeprefix(DROPPED): n for name, n in counts.items() if name.startswith(DROPPED)}
        text += f"; lines dropped: {', '.join(f'{n:,} {name}' for name, n in dropped.items())}." if dropped else "."
    out = {name.removeprefix(LEFT_OUT): n for name, n in counts.items() if name.startswith(LEFT_OUT)}
    if out:
        text += f" Of {counts['criteria asked about']:,} questions about a criterion and a pair, no part of a score: "
        text += ", ".join(f"{n:,} ({name})" for name, n in out.items()) + "."
    return text


def sentence(rows: Sequence[CriterionInUse], labels: int) -> str:
    """Which criterion decides most, and whether people share what the criteria say, in words."""
    if not labels or not rows:
        return "No label was given by these criteria."
    top = rows[0].decided
    text = (
        f"“{rows[0].criterion}” decides {100 * top.value:.0f}% [{100 * top.low:.0f}, {100 * top.high:.0f}] of {labels} "
    )
    text += "labels" + (", more than any other." if len(rows) > 1 else ".")
    known = [row for row in rows if row.agreement.clusters >= FEWEST]
    if not known:
        return (
            text + f" Whether people share them is not known: fewer than {FEWEST} held-out prompts that people judged."
        )
    better = [row for row in known if row.agreement.low > 0.5]
    worse = [row for row in known if row.agreement.high < 0.5]
    text += f" People are seen to share {len(better)} of {len(known)} criteria"
    text += f", and to prefer the opposite of {len(worse)}" if worse else ""
    return text + " (each interval by itself: of twenty that say nothing, one would be seen to)."


SECTION = ReportSection(
    "rubrics", "Rubrics", list[RubricOfArm], lambda run: rubrics(run.cells, run.held_out), empty=(), chapter="labels",
    template="rubrics.html.jinja",
)  # fmt: skip
