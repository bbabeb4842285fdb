"""Pairs and what somebody preferred: the labels that are to be explained, from a file or a source of data.

Those of a finished run are made in cai/experiment/choices.py.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cai.config.sections import Data
from cai.core.draws import identity, uniform
from cai.core.errors import UserError
from cai.core.records import Pair
from cai.core.shipped import locate
from cai.data.comparisons import read_comparisons
from cai.data.rows.turns import opening_of
from cai.data.sources import read_used, source_digest

TRAIN, TEST = 8, 2  # prompts that are needed on each side, at the least


@dataclass(frozen=True, slots=True)
class LabelledPairs:
    """name: whose preferences these are, in words. p_a: P(a better), pair by pair. clusters: stands for the opening of
    each conversation: what grows out of one opening is not independent. held_out: pairs on which nothing is selected
    or fitted."""

    name: str
    pairs: tuple[Pair, ...]
    p_a: tuple[float, ...]
    clusters: tuple[str, ...]
    held_out: tuple[bool, ...]

    def prompts(self, held_out: bool) -> int:
        return len({c for c, out in zip(self.clusters, self.held_out, strict=True) if out == held_out})


def labelled(
    name: str, rows: Iterable[tuple[Pair, float]], share: float | None = None, seed: int = 0
) -> LabelledPairs:  # fmt: skip
    """rows: (pair, P(a better)). share: of the openings, drawn by hash, that are held out; None: those prompts that the
    pairs' own split holds out. Raises UserError where either side has too few prompts."""
    rows = list(rows)
    clusters = tuple(opening(pair) for pair, _ in rows)
    if share is None:
        held_out = tuple(pair.prompt.split == "test" for pair, _ in rows)
    else:
        held_out = tuple(uniform("infer", seed, cluster) < share for cluster in clusters)
    return checked(LabelledPairs(name, tuple(pair for pair, _ in rows), tuple(p for _, p in rows), clusters, held_out))


def checked(of: LabelledPairs) -> LabelledPairs:
    """Raises UserError where there are too few prompts to select on, or held out."""
    for out, least, what in ((False, TRAIN, "to select on"), (True, TEST, "held out")):
        if of.prompts(out) < least:
            problem = f"{of.prompts(out)} prompts {what}, and {least} are needed"
            raise UserError(problem, of.name, "give more pairs, of more prompts, or change --test or --limit")
    return of


def only(of: LabelledPairs, kept: Collection[int]) -> LabelledPairs:
    """These rows alone, in their order. Raises UserError as `checked` does."""
    rows = sorted(kept)
    return checked(
        LabelledPairs(
            of.name, tuple(of.pairs[at] for at in rows), tuple(of.p_a[at] for at in rows),
            tuple(of.clusters[at] for at in rows), tuple(of.held_out[at] for at in rows),
        )
    )  # fmt: skip


def opening(pair: Pair) -> str:
    return identity("opening", " ".join(opening_of(pair.prompt.messages).split()))


def pairs_of(path: str, share: float) -> tuple[tuple[Pair, ...], tuple[tuple[str, str], ...]]:
    """(the pairs of a file or a source, whoever judged them; (where, why) of each row that was left out)."""
    if locate(path).is_file():
        read = read_comparisons(path, judged=False, test=share)
        return read.pairs, read.faults
    return _pairs_of_source(path, share), ()


def _pairs_of_source(path: str, share: float) -> tuple[Pair, ...]:
    if "/" in path or Path(path).suffix:
        remedy = "give a file of judged pairs, a source such as rated-answers, or a finished run (runs/NAME)"
        raise UserError("there is no such file or run", path, remedy)
    data = Data(source=path, test=share)
    source_digest(data, "LABELS_OR_RUN")
    return tuple(read_used(data, seed=0)[1])


def from_file(path: str, share: float) -> tuple[LabelledPairs, tuple[tuple[str, str], ...]]:
    """(the judged pairs of a file of any form that cai/data/rows reads, or of a source by its name; (where, why) of
    each row that was left out). Raises UserError where there is no such file, or nobody judged its pairs."""
    if locate(path).is_file():
        read = read_comparisons(path, test=share)
        rows = [(pair, pair.human) for pair in read.pairs if pair.human is not None]
        faults = read.faults
    else:
        rows = [(pair, pair.human) for pair in _pairs_of_source(path, share) if pair.human is not None]
        faults = ()
        if not rows:
            raise UserError("nobody judged the pairs of this source", path, "give one with human labels")
    return labelled(path, rows), faults


def sampled(of: LabelledPairs, limit: int | None, seed: int) -> LabelledPairs:
    """At most `limit` pairs, in the order of the file, drawn by hash: one of every opening before a second of any,
    since prompts and not pairs are what is independent. Raises UserError where too few prompts are left."""
    if limit is None or limit >= len(of.pairs):
        return of
    turns: Counter[str] = Counter()
    order = []
    for at in sorted(range(len(of.pairs)), key=lambda at: uniform("infer: sample", seed, of.pairs[at].id)):
        turns[of.clusters[at]] += 1
        order.append((turns[of.clusters[at]], uniform("infer: sample", seed, of.clusters[at]), at))
    return only(of, {at for *_, at in sorted(order)[:limit]})


def both_sides(of: LabelledPairs) -> tuple[Sequence[int], Sequence[int]]:
    """(rows to select on, rows that are held out)."""
    rows = range(len(of.pairs))
    return [at for at in rows if not of.held_out[at]], [at for at in rows if of.held_out[at]]
