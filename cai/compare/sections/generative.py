"""Generative reward models: against scalar ones that learnt from the same labels, in and out of distribution; and
whether their verdicts follow what they write.

Rationales are swapped between held-out pairs (cai/train/generative/comparing.py). With P of the answer shown first
after a model's own rationale (own), after its own next one (again), after another pair's (swapped), and what that one
led to in its own place (other):

    moved     mean of |swapped - own|
    chance    mean of |again - own|; beyond: moved minus chance, on the same verdicts
    follows   sum of (swapped - own) (other - own) / sum of (other - own)^2, least squares: 0 where nothing of what is
              written is read, 1 where nothing else is
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cai.compare.cells import Cell, Measured
from cai.compare.measures import HeldOutPairs, Rows, average, paired
from cai.compare.schema import Difference
from cai.compare.section import ReportSection
from cai.core.records import Estimate, read_jsonl
from cai.data.comparisons import Item
from cai.judge.items import ItemChoice
from cai.stats import intervals as statistics
from cai.train.generative.asking import first_shown
from cai.train.generative.comparing import Deliberated, Swap

ALL, LEARNT, OTHERS = "all held-out pairs", "subsets that were learnt from", "other subsets"
EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class KindsCompared:
    """Agreement with people of a generative and a scalar reward model (mean of their seeds), and the first's less the
    second's on the pairs that both could read. on: which pairs; outside: whether they are out of distribution."""

    scalar_arm: str
    on: str
    outside: bool
    generative: Estimate
    scalar: Estimate
    difference: Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Faithfulness:
    """See the top of the file. agreement: with people, of pairs judged after own rationales as well as after others';
    swapped: of the latter; loses: the first less the second. chance, beyond: of no rows with one sample."""

    moved: Estimate
    chance: Estimate
    beyond: Estimate
    follows: Estimate
    agreement: Estimate
    swapped: Estimate
    loses: Estimate


@dataclass(frozen=True, slots=True)
class WrittenVerdict:
    """A rationale about a held-out pair. first: P of (A). a_first: whether a is (A)."""

    pair_id: str
    a_first: bool
    rationale: str
    first: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerativeArm:
    """drawn, right, pairs, dropped: of all seeds: rationales that the start model wrote, those that led to the right
    verdict, training pairs with a side, those of which no rationale did. unjudged: held-out pairs without a verdict."""

    arm: str
    samples: int
    rationale_tokens: int
    dpo: bool
    drawn: int
    right: int
    pairs: int
    dropped: int
    held_out: int
    unjudged: int
    against: list[KindsCompared]
    faithfulness: Faithfulness
    examples: list[WrittenVerdict]
    sentence: str


def generative(cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs) -> list[GenerativeArm]:
    """One for each arm whose reward model is generative."""
    arms: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.reward:
            arms.setdefault(cell.arm, []).append(cell)
    scalars = [mine for mine in arms.values() if not mine[0].settings.reward.generates]
    return [
        _report(mine, [other for other in scalars if same_labels(mine, other)], measured, held_out)
        for mine in arms.values()
        if mine[0].settings.reward.generates
    ]


def same_labels(one: Sequence[Cell], other: Sequence[Cell]) -> bool:
    """Whether two arms learnt from the same labels of the same pairs, seed by seed."""

    def learnt(cell: Cell) -> tuple[object, ...]:
        rounds = [(its.pairs.digest, its.labels and its.labels.digest) for its in cell.lineage]
        return (cell.seed, rounds, cell.settings.reward.subsets)

    return [learnt(cell) for cell in one] == [learnt(cell) for cell in other]


def _report(
    mine: Sequence[Cell], scalars: Sequence[Sequence[Cell]], measured: Measured, held_out: HeldOutPairs
) -> GenerativeArm:
    settings = mine[0].settings.reward
    made = [json.loads((cell.reward / "counts.json").read_text()) for cell in mine if cell.reward]
    verdicts = [read_jsonl(measured.pair_scores[cell.name] / "verdicts.jsonl", Deliberated) for cell in mine]
    faithful = faithfulness(mine, verdicts, measured, held_out)
    against = [row for other in scalars for row in compared(mine, other, measured, held_out)]

    def counted(name: str) -> int:
        return sum(counts[name] for counts in made)

    return GenerativeArm(
        arm=mine[0].arm, samples=settings.samples, rationale_tokens=settings.rationale_tokens, dpo=settings.dpo,
        drawn=counted("rationales drawn"), right=counted("rationales that led to the right verdict"),
        pairs=counted("training pairs labelled") - counted("dropped: label without a side"),
        dropped=counted("dropped: no rationale led to the right verdict"),
        held_out=sum(map(len, verdicts)), unjudged=sum(row.p_a is None for rows in verdicts for row in rows),
        against=against, faithfulness=faithful, examples=examples(verdicts[0]), sentence=sentence(faithful),
    )  # fmt: skip


def compared(
    mine: Sequence[Cell], other: Sequence[Cell], measured: Measured, held_out: HeldOutPairs
) -> list[KindsCompared]:
    """On held-out pairs, in and out of the subsets that were learnt from; and on each file of comparisons."""

    def on_pairs(keep: Callable[[str], bool]) -> Callable[[Cell], Rows]:
        def rows(cell: Cell) -> Rows:
            agrees = held_out.agreement(held_out.margins[cell.name], held_out.human)
            return {row: right for row, right in agrees.items() if keep(held_out.pairs[row].prompt.subset)}

        return rows

    learnt = mine[0].settings.reward.subsets
    sets: list[tuple[str, bool, Callable[[Cell], Rows], Callable[[str], str]]] = [
        (ALL, False, on_pairs(lambda subset: True), held_out.cluster)
    ]
    if learnt:
        sets.append((LEARNT, False, on_pairs(lambda subset: subset in learnt), held_out.cluster))
        sets.append((OTHERS, True, on_pairs(lambda subset: subset not in learnt), held_out.cluster))
    for file, artifact in measured.items.items():
        items = {item.pair.id: item for item in read_jsonl(artifact / "items.jsonl", Item)}
        sets.append((file, True, _on_items(file, items, measured), clusters_of(items)))
    rows = []
    for on, outside, of, cluster in sets:
        ours, theirs = [of(cell) for cell in mine], [of(cell) for cell in other]
        both = average([*ours, *theirs])
        if not both:
            continue
        clusters = [cluster(row) for row in both]
        values = [average([{row: seed[row] for row in both} for seed in seeds]) for seeds in (ours, theirs)]
        one, two = (statistics.mean(list(value.values()), clusters) for value in values)
        difference = Difference(**paired(ours, theirs, cluster, reach=1.0), of=(mine[0].arm, other[0].arm))
        rows.append(
            KindsCompared(
                scalar_arm=other[0].arm, on=on, outside=outside, generative=one, scalar=two, difference=difference
            )
        )  # fmt: skip
    return rows


def clusters_of(items: dict[str, Item]) -> Callable[[str], str]:
    return lambda pair_id: items[pair_id].cluster


def _on_items(file: str, items: dict[str, Item], measured: Measured) -> Callable[[Cell], Rows]:
    human = {pair_id: item.pair.human for pair_id, item in items.items() if item.pair.human is not None}

    def rows(cell: Cell) -> Rows:
        choices = read_jsonl(measured.opinions[file, "reward", cell.name] / "opinions.jsonl", ItemChoice)
        return HeldOutPairs.agreement({row.pair_id: row.p_a for row in choices if row.p_a is not None}, human)

    return rows


def faithfulness(
    mine: Sequence[Cell], verdicts: Sequence[Sequence[Deliberated]], measured: Measured, held_out: HeldOutPairs
) -> Faithfulness:
    """Of all seeds together, prompts as clusters."""
    swaps = [row for cell in mine for row in read_jsonl(measured.pair_scores[cell.name] / "swaps.jsonl", Swap)]
    moved = [abs(row.swapped - row.own) for row in swaps]
    clusters = [held_out.cluster(row.pair_id) for row in swaps]
    repeated = [place for place, row in enumerate(swaps) if row.again is not None]
    again = [abs((swaps[place].again or 0.0) - swaps[place].own) for place in repeated]
    of_repeated = [clusters[place] for place in repeated]
    apart = [
        (row, row.other - row.own, name) for row, name in zip(swaps, clusters, strict=True) if row.other != row.own
    ]
    both: tuple[list[float], list[float], list[str]] = ([], [], [])
    for rows in verdicts:
        judged = {
            row.pair_id: (row.p_a, row.swapped) for row in rows if row.p_a is not None and row.swapped is not None
        }
        own, others = (
            held_out.agreement({name: ps[side] for name, ps in judged.items()}, held_out.human) for side in (0, 1)
        )
        for name in own:
            both[0].append(own[name])
            both[1].append(others[name])
            both[2].append(held_out.cluster(name))
    return Faithfulness(
        moved=statistics.mean(moved, clusters), chance=statistics.mean(again, of_repeated),
        beyond=statistics.paired_difference([moved[place] for place in repeated], again, of_repeated),
        follows=statistics.mean(
            [(row.swapped - row.own) / gap for row, gap, _ in apart], [name for *_, name in apart],
            weights=[gap**2 for _, gap, _ in apart],
        ),
        agreement=statistics.mean(both[0], both[2]), swapped=statistics.mean(both[1], both[2]),
        loses=statistics.paired_difference(both[0], both[1], both[2]),
    )  # fmt: skip


def sentence(found: Faithfulness) -> str:
    """Whether what is written is read, in words."""
    follows = found.follows
    if not follows.n:
        return "No rationale could be swapped for another's: whether what is written is read is not known."
    share = f"{100 * follows.value:.0f}% [{100 * follows.low:.0f}, {100 * follows.high:.0f}]"
    moved = f"{100 * found.moved.value:.1f} points"
    chance = f", and {100 * found.chance.value:.1f} after another one of its own" if found.chance.n else ""
    text = f"After the rationale of another pair a verdict moves by {moved} of probability on average{chance}; "
    text += f"it goes {share} of the way to what that rationale led to. "
    if follows.low > 0:
        return text + "So verdicts follow what is written, as far as that goes."
    return text + "That verdicts follow what is written is not shown."


def examples(rows: Sequence[Deliberated]) -> list[WrittenVerdict]:
    """The first readable rationale of the first pairs."""
    picked = []
    for row in rows:
        thought = next((thought for thought in row.thoughts if not thought.vote.fault), None)
        if thought and len(picked) < EXAMPLES:
            vote = thought.vote
            picked.append(WrittenVerdict(row.pair_id, vote.order == "ab", vote.reply, first_shown(vote)))
    return picked


SECTION = ReportSection(
    "generative", "Generative reward models", list[GenerativeArm],
    lambda run: generative(run.cells, run.measured, run.held_out), empty=(), chapter="rewards",
    template="generative.html.jinja",
)  # fmt: skip
