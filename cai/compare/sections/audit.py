"""What became of the drafts: every round of revision counted, and rated by the judge against the draft it began with.
What SFT learns that nobody revised (`sft.learns`) is step 0, counted and rated likewise.

SFT copies what the revisions are, so they are audited before anything that is trained on them. For the draft (step 0)
and each revision (steps 1 to n), with prompts as clusters:

    unchanged      the very words of the step before
    copied         the very words of the answer to another prompt: the revisions have become one stock phrase
    hollow         its critique is no critique: at least ECHO of the words are those of the answer it is about
    echo           at least ECHO of its words are those of its own critique
    announces, assents, as_an_ai    phrases (cai/core/textstats.py); the draft's own share stands beside them
    refuses        full refusals, as cai/core/refusals.py counts them
    words, similarity    length, and the share of words it has in common with the draft
    harmlessness   the judge's log-odds of Yes by the yardstick; gain: minus the draft's; better: share above the draft

With `revise.audit` some drafts are revised once more, under their principles, the opposites and placebos: `followed`
says how much of a revision its principle decides (cai/train/revisions/decided.py), beside what could not be put to the
test.

Bai et al. (2022, figure 5) show the harmlessness of revisions 0 to 4 by preference models without intervals; figure 6
varies the number of principles and figure 7 leaves the critique out. Arms that revise in different ways (`revise:`,
other constitutions) are compared step by step on the prompts that both have. Each text is drawn once: an interval is
over prompts, not over draws, and none is corrected for the number of steps.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any

from cai.compare import report_plots
from cai.compare.cells import Cell, Measured
from cai.compare.section import ReportSection
from cai.core.records import Controlled, Estimate, Revision, read_jsonl
from cai.core.refusals import refuses
from cai.core.store import Artifact
from cai.core.textstats import PREAMBLES, preambles, similarity, words
from cai.judge.rate import TextRating
from cai.stats import intervals as statistics
from cai.train.revisions import decided as revisions
from cai.train.revisions.instructions import without_opposite

ECHO = 0.8
Merits = dict[tuple[str, int], float]  # (prompt id, step) -> the judge's log-odds


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionStep:
    """The draft (step 0) or a revision, see above. None: what a draft cannot have (a change), and what rests on
    critiques where there are none. n: texts."""

    step: int
    n: int
    words: Estimate
    copied: Estimate
    refuses: Estimate
    announces: Estimate
    assents: Estimate
    as_an_ai: Estimate
    harmlessness: Estimate
    unchanged: Estimate | None = None
    similarity: Estimate | None = None
    hollow: Estimate | None = None
    echo: Estimate | None = None
    gain: Estimate | None = None
    better: Estimate | None = None


@dataclass(frozen=True, slots=True)
class StepDifference:
    """Harmlessness of these revisions minus the first arm's."""

    step: int
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Followed:
    """What a principle decides of a revision, in words too; noted: what could not be put to the test."""

    effect: revisions.Decided
    sentence: str
    noted: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionAudit:
    """One set of revisions, or of other answers that SFT learns (learns: as `sft.learns`), which have one step.

    principles, prompts: how many; examples: file of worked rounds. against_first: empty for the first set."""

    arms: list[str]
    critique: bool
    principles: int
    reviser: str
    examples: str | None
    judge: str
    prompts: int
    steps: list[RevisionStep]
    against_first: list[StepDifference]
    followed: Followed | None
    learns: str = "revisions"


def audit(cells: Sequence[Cell], measured: Measured) -> list[RevisionAudit]:
    """One entry for each set of revisions, the first arm's first; arms that share theirs stand in one entry."""
    groups: dict[Any, list[Cell]] = {}
    for cell in {cell.arm: cell for cell in reversed(cells)}.values():
        groups.setdefault(cell.revised.path, []).insert(0, cell)
    entries: list[RevisionAudit] = []
    ratings: list[Merits] = []
    for group in reversed(groups.values()):
        first = group[0]
        traces = read_jsonl(first.revised / "revisions.jsonl", Revision)
        ratings.append(merits := merits_of(measured.revisions[first.arm]))
        entries.append(
            RevisionAudit(
                arms=[cell.arm for cell in group],
                critique=first.settings.revise.critique,
                principles=first.settings.revise.principles or len(first.constitution.principles),
                reviser=first.settings.revise.model or first.settings.policy.model,
                examples=first.settings.revise.examples,
                judge=cells[0].settings.evaluate.judge.model,
                prompts=len(traces),
                steps=steps_of(traces, merits),
                against_first=against(merits, ratings[0]) if len(ratings) > 1 else [],
                followed=followed(first, measured),
                learns=first.settings.sft.learns,
            )
        )
    return entries


def followed(cell: Cell, measured: Measured) -> Followed | None:
    """None without `revise.audit`."""
    made = measured.controlled.get(cell.arm)
    if made is None:
        return None
    harm = merits_of(measured.controlled_merits[cell.arm])
    effect = revisions.measure(
        read_jsonl(made / "controlled.jsonl", Controlled), {place: value for (_, place), value in harm.items()}
    )
    noted = json.loads((made / "noted.json").read_text())
    return Followed(effect, revisions.sentence(effect), [*noted, *without_opposite(cell.constitution)])


def merits_of(artifact: Artifact) -> Merits:
    rows = read_jsonl(artifact / "merits.jsonl", TextRating)
    return {(row.prompt_id, row.step): row.value for row in rows if row.value is not None}


def steps_of(traces: Sequence[Revision], merits: Merits) -> list[RevisionStep]:
    """One row for the draft and one for each round; a trace that ended early is no part of later rows."""
    last = max((len(trace.rounds) for trace in traces), default=-1)
    return [step_of([trace for trace in traces if len(trace.rounds) >= step], step, merits) for step in range(last + 1)]


def step_of(traces: Sequence[Revision], step: int, merits: Merits) -> RevisionStep:
    names = [trace.prompt.id for trace in traces]
    texts = [text_at(trace, step) for trace in traces]

    def share(values: Iterable[float]) -> Estimate:
        return statistics.mean([float(value) for value in values], names)

    often, leaks = Counter(texts), [preambles(text) for text in texts]
    row = RevisionStep(
        step=step,
        n=len(traces),
        words=share(map(words, texts)),
        copied=share(often[text] > 1 for text in texts),
        refuses=share(map(refuses, texts)),
        harmlessness=share(merits.get((name, step), nan) for name in names),
        **{name: share(name in phrases for phrases in leaks) for name in PREAMBLES},
    )
    if not step:
        return row
    before = [text_at(trace, step - 1) for trace in traces]
    critiques = [trace.rounds[step - 1].critique for trace in traces]
    gain, better = gained(merits, step)

    def repeated(others: Sequence[str]) -> Estimate | None:
        """How many critiques say what these texts say; None where there are no critiques."""
        return (
            share(similarity(x, y) >= ECHO for x, y in zip(critiques, others, strict=True)) if any(critiques) else None
        )

    return replace(
        row,
        unchanged=share(old == new for old, new in zip(before, texts, strict=True)),
        similarity=share(similarity(trace.draft, text) for trace, text in zip(traces, texts, strict=True)),
        hollow=repeated(before),
        echo=repeated(texts),
        gain=gain,
        better=better,
    )


def text_at(trace: Revision, step: int) -> str:
    return trace.rounds[step - 1].revision if step else trace.draft


def gained(merits: Merits, step: int) -> tuple[Estimate, Estimate]:
    """A revision's log-odds less its own draft's, and how often it is more; on prompts where both are read."""
    names = [name for name, at in merits if at == step and (name, 0) in merits]
    now, then = [merits[name, step] for name in names], [merits[name, 0] for name in names]
    wins = [0.5 + 0.5 * ((x > y) - (x < y)) for x, y in zip(now, then, strict=True)]
    return statistics.paired_difference(now, then, names), statistics.win_rate(wins, names)


def against(these: Merits, first: Merits) -> list[StepDifference]:
    """Harmlessness of these revisions minus the first arm's, step by step, on the prompts that both have."""
    differences = []
    for step in sorted({step for _, step in these} & {step for _, step in first}):
        names = [name for name, at in these if at == step and (name, step) in first]
        here, there = [these[name, step] for name in names], [first[name, step] for name in names]
        differences.append(StepDifference(step, statistics.paired_difference(here, there, names)))
    return differences


SECTION = ReportSection(
    "audit", "Revision audit", list[RevisionAudit], lambda run: audit(run.cells, run.measured), empty=(),
    chapter="revisions", template="audit.html.jinja", draw=report_plots.audit,
)  # fmt: skip
