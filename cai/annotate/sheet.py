"""What there is to label and in which order: pairs from a file or a run, principles, the judge's labels, rewards.

The order `uncertain` asks people where they can teach most. For each pair let q be the judge's P(a better) and r that
of the reward model (Bradley-Terry: the sigmoid of the difference of its rewards). Pairs come by the probability that
the two, each drawing its verdict by its own P, name the same answer,

    agreement = q r + (1 - q) (1 - r),    lowest first:

near 0 where both are sure and disagree, 1/2 where the judge is unsure, near 1 where both are sure and agree. Without
rewards r = q, which is the order of the judge's |log-odds|; a pair that the judge could not read has q = 1/2. Ties are
broken by hash, and pairs that another rater has labelled already come last.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Literal

from cai.constitution import Constitution, Judging
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Label, Pair, read_jsonl
from cai.core.store import MANIFEST, Damage, linked, read_stage, root_of
from cai.data.comparisons import read_comparisons
from cai.train.scores import Score

Order = Literal["given", "random", "uncertain"]


@dataclass(frozen=True, slots=True)
class Task:
    """One question to a rater: which answer of the pair is better, as a whole or by one principle."""

    pair: Pair
    principle: Judging | None = None

    @property
    def key(self) -> tuple[str, str | None]:
        return self.pair.id, self.principle.name if self.principle else None


@dataclass(frozen=True, slots=True)
class PairsToLabel:
    """The pairs of a file, a stage or a run, and what is known of them.

    judge:   pair -> the AI judge's P(a better); empty where no judge labelled them.
    margins: pair -> reward of a minus reward of b, the mean of an arm's reward models.
    faults:  (file:line, why) of each row that is left out.
    drawn:   pairs whose split the file does not name, but a hash.
    """

    pairs: tuple[Pair, ...]
    judge: Mapping[str, float] = field(default_factory=dict)
    margins: Mapping[str, float] = field(default_factory=dict)
    faults: tuple[tuple[str, str], ...] = ()
    drawn: frozenset[str] = frozenset()


# 1. Pairs -------------------------------------------------------------------------------------------------------------


def find_pairs(place: Path) -> PairsToLabel:
    """The pairs of a file of any form that cai/data/comparisons.py knows, of a stage's folder, or of a run (runs/NAME).

    A run brings its judge's labels and reward scores along. Raises UserError where there are no pairs.
    """
    if (place / "links.json").is_file():
        return _of_run(place)
    if place.is_dir():
        if not (place / "pairs.jsonl").is_file():
            problem = "this folder has neither links.json (a finished run) nor pairs.jsonl (a stage that makes pairs)"
            raise UserError(problem, str(place), "give runs/NAME of a finished experiment, or a file of pairs")
        if (place / MANIFEST).is_file():
            return PairsToLabel(tuple(read_jsonl(_whole(place) / "pairs.jsonl", Pair)))
        place = place / "pairs.jsonl"
    comparisons = read_comparisons(place, judged=False, test=0.0)
    return PairsToLabel(comparisons.pairs, faults=comparisons.faults, drawn=comparisons.drawn)


def _of_run(home: Path) -> PairsToLabel:
    """The pairs of all arms; labels and scores of the first arm that an AI judge labelled. `direct` has none."""
    root, wanted = root_of(home) or home.resolve().parent, ("pairs", "labels", "scores")
    try:
        links = json.loads((home / "links.json").read_bytes())
        named = {cell: {stage: of.get(stage) for stage in wanted} for cell, of in links.items()}  # the last round's
    except (ValueError, AttributeError, RecursionError):
        problem = "links.json is cut off, or was not written by a run"
        raise UserError(problem, str(home), "run its experiment again") from None
    folders = {
        cell: {stage: linked(root, link, home).path for stage, link in of.items() if isinstance(link, str)}
        for cell, of in named.items()
    }
    pairs: dict[str, Pair] = {}
    for folder in dict.fromkeys(of["pairs"] for of in folders.values() if "pairs" in of):
        for pair in read_jsonl(folder / "pairs.jsonl", Pair):
            if pairs.setdefault(pair.id, pair) != pair:
                raise UserError(f'two arms give the id "{pair.id}" to different pairs', str(home), "label a stage")
    if not pairs:
        remedy = "label a file of pairs, or a run with an arm that has labels"
        raise UserError("no arm of this run has pairs (`direct` needs none)", str(home), remedy)
    for cell, of in folders.items():
        if "labels" not in of:
            continue
        if judge := judge_labels(of["labels"] / "labels.jsonl"):
            arm = cell.rpartition("/")[0]
            same = [f for name, f in folders.items() if name.rpartition("/")[0] == arm and "scores" in f]
            scores = [f["scores"] / "scores.jsonl" for f in same]
            return PairsToLabel(pairs=tuple(pairs.values()), judge=judge, margins=reward_margins(scores))
    return PairsToLabel(tuple(pairs.values()))


def _whole(folder: Path) -> Path:
    """A stage's folder. Raises UserError where it is no longer what was made."""
    try:
        read_stage(folder)
    except Damage as damage:
        remedy = "run its experiment again: what is damaged is made anew"
        raise UserError(f"this stage is damaged: {damage}", str(folder), remedy) from None
    return folder


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError("there is no such file", str(path), "give one that a run made, or runs/NAME for its own")
    return path


def judge_labels(path: Path) -> dict[str, float]:
    """pair -> P(a better), of the labels that an AI judge gave; none for a file of other people's labels."""
    return {label.pair_id: label.p_a for label in read_jsonl(_existing(path), Label) if label.source == "ai"}


def reward_margins(paths: Sequence[Path]) -> dict[str, float]:
    """pair -> reward of a minus reward of b, the mean over the files; pairs with an answer too long are left out."""
    margins: dict[str, list[float]] = {}
    for path in paths:
        rewards = {(row.id, row.side): row.reward for row in read_jsonl(_existing(path), Score)}
        for (name, side), reward in rewards.items():
            other = rewards.get((name, "b"))
            if side == "a" and reward is not None and other is not None:
                margins.setdefault(name, []).append(reward - other)
    return {name: fmean(values) for name, values in margins.items()}


# 2. Tasks and their order ---------------------------------------------------------------------------------------------


def tasks(place: PairsToLabel, order: Order, constitution: Constitution | None = None) -> list[Task]:
    """Every pair, once or once for each principle that applies to it, in one order for all raters.

    The same order for all, so that two raters who stop early have judged the same pairs and can be compared.
    """
    pairs = list(place.pairs)
    if order == "random":
        pairs.sort(key=lambda pair: uniform("annotate", pair.id))
    elif order == "uncertain":
        if not place.judge and not place.margins:
            problem = "--order uncertain needs to know what the judge or the reward model thinks of these pairs"
            raise UserError(problem, "", "give --labels or --scores, or runs/NAME of an experiment with an AI judge")
        pairs.sort(key=lambda pair: (agreement(pair.id, place), uniform("annotate", pair.id)))
    if constitution is None:
        return [Task(pair) for pair in pairs]
    made = [Task(pair, principle) for pair in pairs for principle in _applying(constitution, pair.prompt.subset)]
    if not made:
        raise UserError("no principle applies to any of these pairs", str(constitution.path), 'mend its "Applies to:"')
    return made


def _applying(constitution: Constitution, subset: str) -> list[Judging]:
    return [p for p in constitution.judging if not p.applies_to or subset in p.applies_to]


def agreement(pair_id: str, place: PairsToLabel) -> float:
    """How probably judge and reward model name the same answer (see above), rounded so that equal ones are ties."""
    margin = place.margins.get(pair_id)
    r = None if margin is None else (1 + math.tanh(margin / 2)) / 2
    q = place.judge.get(pair_id, 0.5 if place.judge or r is None else r)
    r = q if r is None else r
    return round(q * r + (1 - q) * (1 - r), 9)
