"""Files of human labels, and who labels which pair.

A file has one JSON row for each decision of a person, as the labelling page appends them:

    {"pair_id": ..., "choice": "a" | "b" | "tie" | "skip" | "undo"   or   "p_a": 0 to 1,
     "rater": name, "note": text, "seconds": number, "principle": name, "a_sha": start of the sha256 of answer a}

All but `pair_id` and one of `choice` and `p_a` may be left out. P(a better) of a pair is the mean over its raters. Of
several rows by one rater for one pair the last counts; an undo takes back the rater's last row. By `a_sha` a row is
turned round where the answers have changed places since, and set aside where they are others. A rater who judged by
principles only counts with the mean over these. Nothing is fatal but a file without a single usable row: the others
are set aside, named by file and line, and counted (cai/data/votes.py).
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cai.config.labels import WORDS, Sources
from cai.core.draws import uniform
from cai.core.errors import UserError, suggest
from cai.core.records import Abstained, Label, Pair, RaterVote, SetAside
from cai.data.input_file import InputFile, input_file
from cai.data.label_log import P_A, sha
from cai.data.rows.files import Raw, read_raw
from cai.data.rows.values import number, probability
from cai.data.votes import Judgement, settle, why_so_few

# A skip says nothing (NaN), an undo takes back what was said (infinite): neither ever leaves this module.
READ_AS = P_A | {"skip": math.nan, "undo": math.inf}
UNNAMED = "unnamed"


def label_file(path: str) -> InputFile:
    """Raises UserError where there is none."""
    return input_file(path, "file of labels", "labels", "python -m cai.annotate makes one")


def read_labels(
    path: Path, pairs: Sequence[Pair], raters: Sequence[str] = ()
) -> tuple[dict[str, tuple[RaterVote, ...]], list[SetAside]]:
    """(pair id -> what each person said, what was set aside). raters: names of those who are known; () for anybody.

    Raises UserError where no row is about one of the pairs.
    """
    by_id = {pair.id: pair for pair in pairs}
    judged: list[Judgement] = []
    aside: list[SetAside] = []
    for raw in read_raw(path):
        judgement = _judgement(raw, by_id, raters)
        if isinstance(judgement, SetAside):
            aside.append(judgement)
        elif not math.isinf(judgement.vote.p_a):
            judged.append(judgement)
        else:
            mine = [each for each in judged if (each.key, each.vote.rater) == (judgement.key, judgement.vote.rater)]
            if mine:
                judged.remove(mine[-1])
            else:
                aside.append(SetAside(raw.where, "an undo with nothing to undo", raw.text))
    kept, repeated = settle(judged)
    votes: dict[str, dict[str, list[tuple[str, RaterVote]]]] = defaultdict(lambda: defaultdict(list))
    for (pair_id, principle), people in kept.items():
        for each in people:
            if not math.isnan(each.p_a):
                votes[pair_id][each.rater].append((principle, each))
    if not votes:
        problem = f"none of its rows is a label for one of the {len(pairs)} pairs"
        raise UserError(problem + why_so_few(aside), str(path), "label the pairs of this run: python -m cai.annotate")
    return {pair_id: tuple(_of_rater(rows) for rows in people.values()) for pair_id, people in votes.items()}, (
        aside + repeated
    )


def _judgement(raw: Raw, pairs: Mapping[str, Pair], raters: Sequence[str]) -> Judgement | SetAside:
    if raw.fault:
        return SetAside(raw.where, raw.fault, raw.text)
    row = raw.value
    fault, p_a, vote = _read(row)
    pair = pairs.get(str(row.get("pair_id"))) if isinstance(row, dict) else None
    if not fault and pair is None:
        fault = "there is no such pair"
    if not fault and raters and vote.rater not in raters:
        fault = f'unknown rater "{vote.rater}"'
        near = suggest(vote.rater, raters)
        fault += f" ({near})" if near.startswith("did you mean") else ""
    if fault or pair is None:
        return SetAside(raw.where, fault, raw.text)
    seen = row.get("a_sha") or ""
    if seen and seen == sha(pair.b):
        p_a = 1 - p_a
    elif seen and seen != sha(pair.a):
        return SetAside(raw.where, "the pair has other answers than the rater saw", raw.text)
    return Judgement((pair.id, row.get("principle") or ""), replace(vote, p_a=p_a), raw.where, raw.text)


def _read(row: Any) -> tuple[str, float, RaterVote]:
    """(what is wrong with a row, "" for nothing; P(a better), NaN for skip and undo; who said it)."""
    nobody = RaterVote("", math.nan)
    if not isinstance(row, dict) or not row.get("pair_id"):
        return "a row that is no label: it has no pair_id", math.nan, nobody
    choice, given, seconds = row.get("choice"), row.get("p_a"), row.get("seconds")
    p_a, took = probability(given), number(seconds)
    vote = RaterVote(str(row.get("rater") or UNNAMED), math.nan, str(row.get("note") or ""), took)
    if choice is None and given is None:
        return "neither choice nor p_a", math.nan, vote
    if choice is not None and not (isinstance(choice, str) and choice in READ_AS):
        return "choice must be a, b, tie, skip or undo", math.nan, vote
    if given is not None and p_a is None:
        return "p_a out of range: it is P(a better), from 0 to 1", math.nan, vote
    if not isinstance(row.get("principle") or "", str):
        return "principle must be a text", math.nan, vote
    if choice is not None and p_a not in (None, READ_AS[choice]):
        return "p_a is not what the choice says", math.nan, vote
    if seconds is not None and (took is None or took < 0):
        return "seconds out of range", math.nan, vote
    return "", READ_AS[choice] if choice is not None else float(p_a or 0), vote


def _of_rater(rows: list[tuple[str, RaterVote]]) -> RaterVote:
    """One rater's word on a pair: on the whole, or else the mean over the principles they judged by."""
    whole = [vote for principle, vote in rows if not principle]
    if whole:
        return whole[-1]
    p_a = math.fsum(vote.p_a for _, vote in rows) / len(rows)
    return replace(rows[-1][1], p_a=p_a, note="; ".join(vote.note for _, vote in rows if vote.note))


# --- who labels which pair --------------------------------------------------------------------------------------------


def labeller_of(pair: Pair, rule: Sources, seed: int) -> str:
    """Who labels a pair, by a rule of subsets or shares; drawn by hash, so that one more pair moves no other."""
    if rule.shares:
        spot, reached = uniform("labeller", seed, pair.id), 0.0
        asked = rule.all  # in one order, however the config names them
        for who in asked:
            reached += rule.shares[who]
            if spot < reached:
                return who
        return asked[-1]  # the shares add up to 1 but for rounding
    who = rule.subsets.get(pair.prompt.subset, rule.default)
    if who is None:
        problem = f'nobody labels pairs of subset "{pair.prompt.subset}"'
        raise UserError(problem, "labels", "name the subset, or add `default: ai`")
    return who


def check_rule(pairs: Sequence[Pair], rule: Sources, seed: int) -> None:
    """Does everybody whom `labels:` names by a subset or a share label something? Raises UserError where not.

    A slip of the pen would move a subset's labels to others, and a share of nothing would leave an arm in which one
    source labels all: the same as another, under another name. A budget is drawn when the labels are there (`spend`).
    """
    subsets = sorted({pair.prompt.subset for pair in pairs})
    for name in rule.subsets:
        if name not in subsets:
            raise UserError(f'no pair is of subset "{name}"', f"labels.{name}", suggest(name, subsets))
    if rule.budget:
        return
    train = [pair for pair in pairs if pair.prompt.split == "train"]
    labellers = {labeller_of(pair, rule, seed) for pair in train}
    for who, share in rule.shares.items():
        if train and who not in labellers:
            problem = f"a share of {share:g} gives {WORDS[who]} none of the {len(train)} training pairs"
            raise UserError(problem, f"labels.{who}", "raise the share, or give more pairs")


def spend(
    pairs: Sequence[Pair],
    rule: Sources,
    people: Mapping[str, Label],
    judged: Mapping[str, Label | Abstained],
    seed: int,
) -> set[str]:
    """Ids of the training pairs that the budget of human labels goes to, of those that people have labelled.

    order uncertain: the nearest to P = 1/2 first, and before them those that the judge could not read at all.
    Raises UserError where they have labelled none: all labels would be the judge's.
    """

    def doubt(pair: Pair) -> tuple[float, float]:
        verdict = judged.get(pair.id)
        sure = abs(verdict.p_a - 0.5) if isinstance(verdict, Label) else -1.0
        return (sure if rule.order == "uncertain" else 0.0), uniform("budget", seed, pair.id)

    known = [pair for pair in pairs if pair.prompt.split == "train" and pair.id in people]
    if not known:
        problem = f"people have labelled none of the training pairs, and are to label {rule.budget} of them"
        raise UserError(problem, "labels.budget", "give labels of these pairs, or set labels: ai")
    return {pair.id for pair in sorted(known, key=doubt)[: rule.budget]}
