"""What does each principle buy? An arm less the same arm without one principle (cai/constitution/each.py).

Every effect is with less without, row by row: of the judge's labels of the held-out pairs on their agreement with
people (labels have no seeds: a contrast over prompts), of the reward models on theirs, and of the policies on their
rewards and harmlessness (contrasts over prompts and seeds, cai/stats/crossed.py, beside what two seeds of one arm
differ by). Within each measure p is corrected over the principles (Holm 1979) before anything is called an effect: of
twenty principles that do nothing, one would have a p below 0.05. Where several principles are drawn for
a prompt, or one of many, a principle can move only the labels of prompts that drew it; `turned` says how many it did.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cai.compare.cells import Cell, Measured, with_policy
from cai.compare.measures import HeldOutPairs, Rows, average, by_judge, noise, outcomes, reward_rows, tested
from cai.compare.schema import Tested
from cai.compare.section import ReportSection
from cai.constitution.each import same_but_for_principle
from cai.core.records import Estimate, Number
from cai.stats import intervals as statistics
from cai.stats.crossed import LEVEL, contrast
from cai.stats.paired import holm


@dataclass(frozen=True, slots=True, kw_only=True)
class PrincipleEffect(Tested):
    """With the principle less without it. arm: the one without. p_holm: over the principles. shown: it is below 0.05,
    and the value larger than what two seeds differ by, where that is known."""

    principle: str
    arm: str
    p_holm: Number | None = None
    shown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOfPrinciples:
    """One measure, an effect for each principle in the order of the arms. unit: "%" for shares."""

    key: str
    title: str
    unit: str
    effects: list[PrincipleEffect]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principles:
    """What an arm loses without each principle. turned: principle -> share of held-out labels that are on another side
    without it (half for one that becomes or was a tie). drawn: how many are drawn for a prompt, None for all."""

    arm: str
    principles: int
    drawn: int | None
    turned: dict[str, Estimate]
    measures: list[MeasureOfPrinciples]
    sentence: str


@dataclass(frozen=True, slots=True)
class _PrincipleMeasure:
    """of: cell -> outcomes, more of which is better. seeds: whether it has any; labels do not."""

    key: str
    title: str
    unit: str
    of: Callable[[Cell], Rows]
    cluster: Callable[[str], str] = lambda row: row
    seeds: bool = True


def principles(cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs) -> list[Principles]:
    """One entry for each arm that others are, but for a principle."""
    arms = {cell.arm: cell for cell in reversed(cells)}
    entries = []
    for name in dict.fromkeys(cell.arm for cell in cells):
        less = [
            arm for arm in dict.fromkeys(cell.arm for cell in cells)
            if same_but_for_principle(arms[arm].settings, arms[name].settings)
        ]  # fmt: skip
        if less:
            entries.append(_entry(cells, measured, held_out, name, less))
    return entries


def _entry(
    cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs, arm: str, less: Sequence[str]
) -> Principles:  # fmt: skip
    groups = {name: [cell for cell in cells if cell.arm == name] for name in (arm, *less)}
    whole, judge = groups[arm][0], groups[arm][0].settings.judge
    names = {name: str(groups[name][0].settings.without) for name in less}
    measures = []
    for measure in _measures([cell for group in groups.values() for cell in group], measured, held_out, arm):
        effects = [_effect(measure, groups[arm], groups[name], names[name]) for name in less]
        corrected = holm([effect.p for effect in effects])
        effects = [
            replace(effect, p_holm=p, shown=bool(p < LEVEL and abs(effect.estimate.value) > (effect.noise or 0)))
            for effect, p in zip(effects, corrected, strict=True)
        ]
        measures.append(
            MeasureOfPrinciples(key=measure.key, title=measure.title, unit=measure.unit, effects=effects)
        )  # fmt: skip
    asked = whole.settings.labels.all == ("ai",) and arm in held_out.labels
    turned = {}
    if asked:
        own = held_out.labels[arm]
        turned = {names[name]: turned_labels(own, held_out.labels[name], held_out.cluster) for name in less}
    return Principles(
        arm=arm, principles=len(whole.constitution.principles),
        drawn=judge.principles if asked and isinstance(judge.principles, int) else None, turned=turned,
        measures=measures, sentence=_sentence(measures, len(groups[arm])),
    )  # fmt: skip


def turned_labels(own: Mapping[str, float], other: Mapping[str, float], cluster: Callable[[str], str]) -> Estimate:
    """How many labels of the pairs that both labelled are on another side."""
    both = [row for row in own if row in other]
    sides = [statistics.side([labels[row] for row in both]) for labels in (own, other)]
    return statistics.mean(abs(sides[0] - sides[1]), [cluster(row) for row in both])


def _measures(
    cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs, arm: str
) -> list[_PrincipleMeasure]:  # fmt: skip
    made = []
    if held_out.human and all(cell.arm in held_out.labels for cell in cells):

        def labels(cell: Cell) -> Rows:
            return held_out.agreement(held_out.labels[cell.arm], held_out.human)

        made.append(_PrincipleMeasure("labels", "labels agree with people", "%", labels, held_out.cluster, seeds=False))
    if held_out.human and all(cell.reward for cell in cells):

        def agreement(cell: Cell) -> Rows:
            return held_out.agreement(held_out.margins.get(cell.name, {}), held_out.human)

        made.append(
            _PrincipleMeasure("reward_accuracy", "reward model agrees with people", "%", agreement, held_out.cluster)
        )  # fmt: skip
    if len(with_policy(cells)) < len(cells):
        return made
    judges = [cell.name for cell in cells if cell.arm == arm and cell.reward]
    if judges:

        def rewards(cell: Cell) -> Rows:
            return average([reward_rows(measured, judge, cell.name) for judge in judges])

        made.append(_PrincipleMeasure("reward", f"reward by the {arm} reward models, sd", "", rewards))
    if ("sft", "red-team") in measured.merits:
        rated = by_judge(measured, "red-team")
        made.append(_PrincipleMeasure("harmlessness", "harmlessness, log-odds", "", lambda cell: rated(cell.name)))
    return made


def _effect(
    measure: _PrincipleMeasure, own: Sequence[Cell], without: Sequence[Cell], principle: str
) -> PrincipleEffect:
    sides = [[measure.of(cell) for cell in (group if measure.seeds else group[:1])] for group in (own, without)]
    rows = list(average([one for side in sides for one in side]))
    with_it, without_it = (outcomes(side, rows) for side in sides)
    found = contrast(
        with_it - without_it, [measure.cluster(row) for row in rows], reach=1.0 if measure.unit == "%" else None
    )
    floor = noise(sides) if measure.seeds else None
    return PrincipleEffect(
        **tested(found), principle=principle, arm=without[0].arm, noise=floor.value if floor else None,
        noise_floor=floor,
    )  # fmt: skip


def _sentence(measures: Sequence[MeasureOfPrinciples], seeds: int) -> str:
    """What may be said, measure by measure, and no more."""
    said = []
    for measure in measures:
        known = [effect for effect in measure.effects if effect.estimate.n]
        if not known:
            continue
        shown = [
            f"“{effect.principle}” {'adds' if effect.estimate.value > 0 else 'takes'} "
            f"{_size(effect.estimate, measure.unit)}"
            for effect in known
            if effect.shown
        ]
        least, most = min(e.estimate.low for e in known), max(e.estimate.high for e in known)
        if shown:
            said.append(f"By {measure.title}, {'; '.join(shown)}; of no other principle is an effect shown.")
        elif least == most == 0:
            said.append(f"By {measure.title}, nothing differs.")
        elif least == least and most == most:
            said.append(
                f"By {measure.title}, no principle is shown to do anything; what any of them adds lies within "
                f"{_number(least, measure.unit)} and {_number(most, measure.unit)}."
            )
    if said and seeds == 1:
        said.append("Reward models and policies: for this one seed only.")
    return " ".join(said)


def _size(e: Estimate, unit: str) -> str:
    low, high = sorted((abs(e.low), abs(e.high)))
    scale, digits, word = (100, 1, " points") if unit == "%" else (1, 2, "")
    return f"{scale * abs(e.value):.{digits}f}{word} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def _number(value: float, unit: str) -> str:
    return (f"{100 * value:+.1f} points" if unit == "%" else f"{value:+.2f}").replace("-", "−")


SECTION = ReportSection(
    "principles", "What each principle buys", list[Principles],
    lambda run: principles(run.cells, run.measured, run.held_out), empty=(), chapter="rewards",
    template="principles.html.jinja",
)  # fmt: skip
