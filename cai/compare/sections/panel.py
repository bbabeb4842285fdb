"""Panels of judges (`judge.panel`): each judge alone and all together beside people, how far judges agree among
themselves and people among themselves, and what was asked of whom.

Agreement is that with people on the held-out pairs; a difference is the panel's less a judge's on the pairs that both
labelled and people decided, so that both are measured on the same ones. A judge that is asked by `escalate` has the
pairs alone that others left open, which are the harder ones. Alpha is Krippendorff's, of P(a better).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from cai.compare.cells import Cell, by_each_judge
from cai.compare.measures import HeldOutPairs, Rows, by_rater
from cai.compare.section import ReportSection
from cai.compare.sections.judges import method_of
from cai.core.records import Estimate, Label, decode, read_jsonl
from cai.judge.panel import PanelJudge
from cai.stats import agreement
from cai.stats import intervals as statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOfPanel:
    """One judge. found: as its panel left it, on the pairs of all splits. agreement: with people, held out; ahead: the
    panel's agreement less its own, on the same pairs.

    calls, tokens: what its stage asked the model and had it read, and no answer that was kept from before; share: of
    the first judge's pairs, those that it was asked about.
    """

    found: PanelJudge
    model: str
    method: str
    agreement: Estimate
    ahead: Estimate
    calls: int
    tokens: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelOfArm:
    """rule: mean, reliability or last. below: of `escalate`, None without. agreement: of the panel with people, and
    people: of one person with another; alpha: among the judges, alpha_people: among people on the same pairs."""

    arm: str
    rule: str
    below: float | None
    judges: list[JudgeOfPanel]
    agreement: Estimate
    people: Estimate
    alpha: Estimate
    alpha_people: Estimate
    sentence: str


def panels(cells: Sequence[Cell], held_out: HeldOutPairs) -> list[PanelOfArm]:
    """One for each arm that a panel labelled."""
    by_arm = {cell.arm: cell for cell in reversed(cells) if cell.panel}
    return [panel_of(cell, held_out) for cell in reversed(by_arm.values())]


def panel_of(cell: Cell, held_out: HeldOutPairs) -> PanelOfArm:
    settings, together = cell.settings.judge.panel, cell.labellers["ai"]
    assert settings
    file = together / "judges.json"
    left = [decode(row, PanelJudge, str(file)) for row in json.loads(file.read_text())]
    rows = held_out.of(together)
    whole = held_out.agreement(rows, held_out.human)
    views = zip(by_each_judge(cell), left, strict=True)
    judges = [_judge(view, found, whole, left[0].asked, held_out) for view, found in views]
    labels = read_jsonl(together / "labels.jsonl", Label)
    votes = {label.pair_id: {vote.rater: vote.p_a for vote in label.said} for label in labels}
    pairs = [pair_id for pair_id in rows if pair_id in votes]
    people = held_out.ceiling().accuracy
    rated = [pair for pair in held_out.pairs.values() if pair.id in rows and len(pair.votes) > 1]
    raters = [dict(zip(pair.raters or range(len(pair.votes)), pair.votes, strict=True)) for pair in rated]
    return PanelOfArm(
        arm=cell.arm, rule=settings.rule, below=settings.escalate.below if settings.escalate else None, judges=judges,
        agreement=_mean(whole, held_out), people=people,
        alpha=agreement.alpha(
            _filled(by_rater([votes[pair_id] for pair_id in pairs])), [held_out.cluster(pair_id) for pair_id in pairs]
        ),
        alpha_people=agreement.alpha(_filled(by_rater(raters)), [pair.prompt.id for pair in rated]),
        sentence=" ".join([sentence(settings.rule, judges), *twins([*votes.values()])]),
    )  # fmt: skip


def _judge(view: Cell, found: PanelJudge, whole: Rows, first: int, held_out: HeldOutPairs) -> JudgeOfPanel:
    """view: as of an arm with this judge alone. whole: whether the panel is right, by pair. first: pairs that the
    first judge was asked about."""
    labels = view.labellers["ai"]
    own = held_out.agreement(held_out.of(labels), held_out.human)
    both = [row for row in own if row in whole]
    ahead = statistics.paired_difference(
        [whole[row] for row in both], [own[row] for row in both], [held_out.cluster(row) for row in both]
    )
    return JudgeOfPanel(
        found=found, model=view.settings.judge.model, method=method_of(view), agreement=_mean(own, held_out),
        ahead=ahead, calls=labels.calls.get("asked", 0), tokens=labels.calls.get("tokens read", 0),
        share=found.asked / first if first else 0.0,
    )  # fmt: skip


def sentence(rule: str, judges: Sequence[JudgeOfPanel]) -> str:
    """Whether the panel is better than the judge in it that agrees with people best, in words."""
    known = [judge for judge in judges if judge.ahead.n]
    if not known:
        return "No person judged these pairs: whether a panel is better than one judge is not known."
    # The best of several is partly lucky, so this comparison is on the side of the single judge.
    best = max(known, key=lambda judge: judge.agreement.value)
    ahead = best.ahead
    than = f"{best.found.name} ({best.model}, {best.method}), the best of it alone"
    points = f"{100 * ahead.value:+.1f} points [{100 * ahead.low:.1f}, {100 * ahead.high:.1f}]"
    if ahead.low > 0:
        text = f"The panel agrees with people more than {than}: {points}."
    elif ahead.high < 0:
        text = f"The panel agrees with people less than {than}: {points}."
    else:
        text = f"Whether the panel agrees with people more than {than}, cannot be told from these pairs: {points}."
    if rule == "last" and len(judges) > 1:
        text += " " + "; ".join(
            f"{judge.found.name} was asked about {judge.share:.0%} of the pairs" for judge in judges[1:]
        ) + ", which are those that were left open."  # fmt: skip
    return text


def twins(votes: Sequence[Mapping[str, float]]) -> list[str]:
    """A sentence for every two judges whose votes were the same on all pairs that both were asked about, two or more.

    votes: of one pair, by judge. Such judges are one witness that counts twice: `turns: 1` where there is but one turn.
    """
    names = sorted({name for pair in votes for name in pair})
    lines = []
    for first, second in combinations(names, 2):
        both = [(pair[first], pair[second]) for pair in votes if first in pair and second in pair]
        if len(both) > 1 and all(one == other for one, other in both):
            lines.append(
                f"{first} and {second} gave the same votes on all {len(both)} pairs: one judge, counted twice."
            )
    return lines


def _mean(right: Rows, held_out: HeldOutPairs) -> Estimate:
    return statistics.mean(list(right.values()), [held_out.cluster(row) for row in right])


def _filled(votes: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows of one length: a rater who came later did not judge what stands before."""
    wide = max(map(len, votes), default=0)
    return [[*row, *[None] * (wide - len(row))] for row in votes]


SECTION = ReportSection(
    "panels", "Panels of judges", list[PanelOfArm], lambda run: panels(run.cells, run.held_out), empty=(),
    chapter="labels", template="panel.html.jinja",
)  # fmt: skip
