"""A generative reward model's verdicts on held-out pairs, and whether they rest on what it writes.

Is the rationale read? Every verdict is read again after the rationale that the same model wrote about another prompt's
pair, the two answers standing where they stood (Lanham et al. 2023, arXiv 2307.13702, corrupt the model's own chain of
thought for this). P is of the answer that is shown first, which the other rationale calls (A) as well:

    own      after its own rationale
    again    after its own next one (of several samples): what chance alone moves
    swapped  after the other's
    other    what the other's rationale led to where it was written

If the rationale is not read, swapped is own. If nothing else is, swapped is other. The report says how far it moved and
how much of the way (cai/compare/sections/generative.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.core.draws import uniform
from cai.core.odds import sigmoid
from cai.core.records import Pair, Vote, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.data.comparisons import Item
from cai.judge.items_file import ItemChoice
from cai.models.workbench import Workbench
from cai.train.generative.asking import GenerativeReader, Thought, deliberate, first_shown, verdicts, voted, why_unvoted
from cai.train.scores_file import Score


@dataclass(frozen=True, slots=True)
class Deliberated:
    """A pair's verdict: P(a better), None where it has none, and why. swapped: the same after others' rationales."""

    pair_id: str
    p_a: float | None
    swapped: float | None
    fault: str
    thoughts: tuple[Thought, ...]


@dataclass(frozen=True, slots=True)
class Swap:
    """One verdict read again: see above. donor: the pair whose rationale it is. again: None with one sample."""

    pair_id: str
    donor: str
    order: str
    own: float
    again: float | None
    swapped: float
    other: float


@version(1)
def compare_pairs(out: Path, work: Workbench, *, pairs: Artifact, reader: GenerativeReader) -> None:
    """verdicts.jsonl (`Deliberated`) of every held-out pair, swaps.jsonl, counts.json and scores.jsonl.

    scores.jsonl is as a scalar reward model leaves it: each answer has half of the pair's log-odds, for or against it,
    so that their difference is what the verdict says. None where there is no verdict.
    """
    rows = [pair for pair in read_jsonl(pairs / "pairs.jsonl", Pair) if pair.prompt.split == "test"]
    engine = reader.model.engine(work)
    thoughts = deliberate(engine, rows, reader.asking, seed=reader.seed, title="compare held-out pairs")
    odds = [voted([thought.vote for thought in mine]) for mine in thoughts]
    swaps, after = swap(engine, rows, thoughts, reader)
    verdict_rows, scores = [], []
    for pair, mine, value in zip(rows, thoughts, odds, strict=True):
        swapped = voted(after.get(pair.id, ()))
        fault = why_unvoted([thought.vote for thought in mine]) if value is None else ""
        p_a, p_swapped = (None if x is None else sigmoid(x) for x in (value, swapped))
        verdict_rows.append(Deliberated(pair.id, p_a, p_swapped, fault, mine))
        half = None if value is None else value / 2
        scores += [Score(pair.id, "a", half), Score(pair.id, "b", None if half is None else -half)]
    write_jsonl(out / "verdicts.jsonl", verdict_rows)
    write_jsonl(out / "swaps.jsonl", swaps)
    write_jsonl(out / "scores.jsonl", scores)
    drawn = [thought for mine in thoughts for thought in mine]
    counts = {
        "held-out pairs": len(rows),
        "held-out pairs without a verdict": odds.count(None),
        "rationales that cannot be read": sum(bool(thought.vote.fault) for thought in drawn),
    }
    (out / "counts.json").write_text(json.dumps(counts, indent=1))


def swap(
    engine: Any, pairs: Sequence[Pair], thoughts: Sequence[Sequence[Thought]], reader: GenerativeReader
) -> tuple[list[Swap], dict[str, list[Vote]]]:
    """Every readable vote again after another's rationale; also by pair, for `voted`.

    The other one is that of the next pair of another prompt, in a circle that is drawn by hash, in the same order and
    of the same number. Nothing where all pairs are of one prompt.
    """
    prompts = {pair.id: pair.prompt.id for pair in pairs}
    by_id = {pair.id: pair for pair in pairs}
    slots: dict[tuple[str, int], list[Thought]] = {}
    readable = [thought for mine in thoughts for thought in mine if not thought.vote.fault]
    for thought in readable:
        slots.setdefault((thought.vote.order, thought.number), []).append(thought)
    matched: list[tuple[Thought, Thought]] = []
    for circle in slots.values():
        circle.sort(key=lambda thought: uniform("swap", reader.seed, thought.pair_id))
        for place, thought in enumerate(circle):
            others = (circle[(place + step) % len(circle)] for step in range(1, len(circle)))
            donor = next((other for other in others if prompts[other.pair_id] != prompts[thought.pair_id]), None)
            matched += [(thought, donor)] if donor else []
    written = [(by_id[thought.pair_id], thought.vote.order, donor.vote.reply) for thought, donor in matched]
    votes = verdicts(engine, written, reader.asking, title="others' rationales")
    own = {(thought.pair_id, thought.vote.order, thought.number): thought for thought in readable}
    swaps, after = [], {}
    for (thought, donor), vote in zip(matched, votes, strict=True):
        if vote.fault:
            continue
        after.setdefault(thought.pair_id, []).append(vote)
        number = (thought.number + 1) % reader.asking.samples
        again = own.get((thought.pair_id, thought.vote.order, number)) if number != thought.number else None
        swaps.append(
            Swap(
                pair_id=thought.pair_id, donor=donor.pair_id, order=thought.vote.order, own=first_shown(thought.vote),
                again=first_shown(again.vote) if again else None, swapped=first_shown(vote),
                other=first_shown(donor.vote),
            )
        )  # fmt: skip
    return swaps, after


@version(1)
def compare_items(out: Path, work: Workbench, *, items: Artifact, reader: GenerativeReader) -> None:
    """opinions.jsonl: P(a better) of comparisons that people have decided (`evaluate.comparisons`)."""
    pairs = [item.pair for item in read_jsonl(items / "items.jsonl", Item)]
    engine = reader.model.engine(work)
    thoughts = deliberate(engine, pairs, reader.asking, seed=reader.seed, title="compare the comparisons")
    choices = []
    for pair, mine in zip(pairs, thoughts, strict=True):
        votes = [thought.vote for thought in mine]
        odds = voted(votes)
        choices.append(
            ItemChoice(
                pair.id, None if odds is None else sigmoid(odds), fault="" if odds is not None else why_unvoted(votes)
            )
        )
    write_jsonl(out / "opinions.jsonl", choices)
