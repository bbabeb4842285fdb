"""Who says which answer is better: AI judge, people, simulated people, a coin, length. All leave the same records.

Each source labels the pairs that `labels:` gives it (cai/config/labels.py); where there are several, `mix_labels` puts
what they said together. Whoever labelled a pair is in its label's `source`, and counted.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cai.config.labels import Sources
from cai.core.draws import uniform
from cai.core.errors import UserError, some
from cai.core.records import Abstained, Label, Pair, RaterVote, SetAside, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.core.textstats import words
from cai.data.input_file import InputFile
from cai.data.labels import check_rule, labeller_of, read_labels, spend
from cai.data.publics import share_of_groups
from cai.data.votes import counted, share
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_pairs
from cai.judge.labels_file import verdicts_of, write_labels
from cai.judge.rubric import counts_of, leave_rubrics, rubrics_of
from cai.models.workbench import Workbench


@version(3)
def label_by_judge(
    out: Path,
    work: Workbench,
    *,
    pairs: Artifact,
    rule: Sources | None,
    preflight: Artifact | None,
    judge: AskedJudge,
) -> None:
    """labels.jsonl, abstained.jsonl and counts.json: the AI judge, on training and held-out pairs alike.

    preflight: what it found is what is used: the method where the config says `auto`, slope and bias. By a rubric there
    is rubrics.jsonl as well: the criteria of each prompt.
    """
    rows = _pairs_for("ai", pairs, rule, judge.seed)
    chosen = json.loads((preflight / "preflight.json").read_text()) if preflight else {}
    judge = judge.by(chosen.get("method", judge.settings.method))
    platt = chosen.get("platt")
    made = judge_pairs(judge.engine(work), rows, judge, title="judge the pairs", platt=platt)
    if judge.rubric:
        leave_rubrics(out, rows, rubrics_of(judge.rubric))
    write_labels(out, made, counts_of(judge.rubric, made) if judge.rubric else None)


@version(3)
def label_by_people(
    out: Path,
    work: Any,
    *,
    pairs: Artifact,
    rule: Sources | None,
    file: InputFile | None,
    raters: Sequence[str] | Mapping[str, Sequence[str]],
    seed: int,
) -> None:
    """labels.jsonl, abstained.jsonl, counts.json and set_aside.jsonl: what people said of the very same pairs.

    file: where they said it; None: in the data, with the pairs. raters: who is known, () for
    anybody; or groups of them, each of which counts alike.
    """
    everything = _pairs_for("human", pairs, None, seed)
    rows = _pairs_for("human", pairs, rule, seed)
    aside: list[SetAside] = []
    if file:
        groups = raters if isinstance(raters, Mapping) else {"": raters}
        known = [rater for names in groups.values() for rater in names]
        by_pair, aside = read_labels(file.path, everything, known)
        labels = {
            pair_id: Label(
                pair_id, share_of_groups(each, groups) if groups is raters else share(each), "human file", said=each
            )
            for pair_id, each in by_pair.items()
        }
    elif all(pair.human is None for pair in rows):
        raise UserError(
            "labels: human, but no person has judged these pairs",
            "labels",
            "use a data source with human labels (`human` in a pair, or HH-RLHF), or set labels: ai",
        )
    else:
        labels = {
            pair.id: Label(pair.id, pair.human, "human", said=_votes_in_data(pair))
            for pair in rows
            if pair.human is not None
        }
    write_jsonl(out / "set_aside.jsonl", aside)
    counts = counted(aside, "rows")
    for reason in dict.fromkeys(row.reason for row in aside):
        places = [row.where for row in aside if row.reason == reason]
        print(f"labels set aside: {reason}: {some(places)}", file=sys.stderr)
    write_labels(out, [labels.get(pair.id) or Abstained(pair.id, "no human judged this pair") for pair in rows], counts)


def _votes_in_data(pair: Pair) -> tuple[RaterVote, ...]:
    names = pair.raters or ("",) * len(pair.votes)
    return tuple(RaterVote(rater, p_a) for rater, p_a in zip(names, pair.votes, strict=True))


@dataclass(frozen=True, slots=True)
class Simulation:
    """Judges that stand for people, of one dtype and seed. flip: the share of choices that is turned round."""

    pool: tuple[AskedJudge, ...]
    flip: float
    seed: int

    def keyed(self) -> Mapping[str, Any]:
        """As a stage's key has it (cai/core/store.py): dtype and seed once for all."""
        parts = [judge.keyed() for judge in self.pool]
        pool = [{name: part for name, part in judge.items() if name not in ("dtype", "seed")} for judge in parts]
        return {"pool": pool, "flip": self.flip, "dtype": self.pool[0].dtype, "seed": self.seed}


@version(1)
def label_by_simulation(
    out: Path, work: Workbench, *, pairs: Artifact, rule: Sources | None, people: Simulation
) -> None:  # fmt: skip
    """labels.jsonl, abstained.jsonl and counts.json: simulated people (Dubois et al. 2023, section 3).

    Each pair is drawn one judge of the pool, which names one answer; a share `flip` of the choices is turned round.
    Each label says whose it is, and whether it was turned round, in `said`.
    """
    pool, seed = people.pool, people.seed
    shares: dict[int, list[Pair]] = defaultdict(list)
    rows = _pairs_for("simulated", pairs, rule, seed)
    for pair in rows:
        shares[int(uniform("simulant", seed, pair.id) * len(pool))].append(pair)
    verdicts: dict[str, Label | Abstained] = {}
    turned = 0
    for number, mine in sorted(shares.items()):
        # A seed of their own: two with the same settings draw different principles, as two people would.
        judge = replace(pool[number], seed=seed + number)
        title = f"simulated person {number + 1} of {len(pool)}"
        for verdict in judge_pairs(judge.engine(work), mine, judge, title=title):
            if isinstance(verdict, Label):
                turn = uniform("flip", seed, verdict.pair_id) < people.flip and verdict.p_a != 0.5
                p_a = 0.5 if verdict.p_a == 0.5 else float((verdict.p_a > 0.5) != turn)
                vote = RaterVote(f"simulated {number + 1}", p_a, "turned round" if turn else "")
                turned += turn
                verdict = Label(verdict.pair_id, p_a, "simulated", verdict.votes, (vote,))
            verdicts[verdict.pair_id] = verdict
    write_labels(out, [verdicts[pair.id] for pair in rows], {"simulated choices turned round": turned})


@version(1)
def label_by_coin(out: Path, work: Any, *, pairs: Artifact, rule: Sources | None, seed: int, replica: int) -> None:
    """labels.jsonl, abstained.jsonl and counts.json: P(a better) is 1 or 0 by a coin. Such labels are the null.

    A coin, and not people's labels permuted within their split: it needs no person (fresh pairs have a null too), one
    pair more moves no other label, and it agrees with anybody's labels on half of the pairs in expectation, whichever
    of the two answers people prefer more often; permuted labels that name `a` in a share q agree on q^2 + (1 - q)^2.
    Each replica tosses anew: what one toss happens to teach is noise between seeds, as it is between two experiments.
    seed: who labels which pair, where several do; replica: the coin's.
    """
    rows = _pairs_for("shuffled", pairs, rule, seed)
    write_labels(out, [Label(pair.id, float(uniform("coin", replica, pair.id) < 0.5), "shuffled") for pair in rows])


@version(1)
def label_by_length(out: Path, work: Any, *, pairs: Artifact, rule: Sources | None, seed: int) -> None:
    """labels.jsonl, abstained.jsonl and counts.json: the answer with fewer words is better, surely.

    Two answers of as many words are an abstention: the rule says nothing about them.
    """

    def verdict(pair: Pair) -> Label | Abstained:
        longer = words(pair.a) - words(pair.b)
        return Label(pair.id, float(longer < 0), "shorter") if longer else Abstained(pair.id, "answers of one length")

    write_labels(out, [verdict(pair) for pair in _pairs_for("shorter", pairs, rule, seed)])


@version(1)
def mix_labels(
    out: Path, work: Any, *, pairs: Artifact, rule: Sources, parts: Mapping[str, Artifact], seed: int
) -> None:
    """labels.jsonl, abstained.jsonl and counts.json: of each pair, what the source said that `labels:` gives it to.

    parts: source -> its labels. A pair that its source did not label is an abstention: nobody steps in.
    """
    verdicts: dict[str, dict[str, Any]] = {who: verdicts_of(part) for who, part in parts.items()}
    rows = _pairs_for("", pairs, None, seed)
    counts: dict[str, int] = {}
    if rule.budget:
        people = {pair_id: label for pair_id, label in verdicts["human"].items() if isinstance(label, Label)}
        other = str(rule.default)
        chosen = spend(rows, rule, people, verdicts[other], seed)
        of = {pair.id: "human" if pair.id in chosen else other for pair in rows}
        counts = {"budget of human labels": rule.budget, "budget spent": len(chosen)}
    else:
        of = {pair.id: labeller_of(pair, rule, seed) for pair in rows}
    write_labels(out, [verdicts[of[pair.id]][pair.id] for pair in rows], counts)


@version(1)
def draw_labels(out: Path, work: Any, *, pairs: Artifact, labels: Artifact, count: int, seed: int) -> None:
    """labels.jsonl, abstained.jsonl and counts.json: `count` of the training pairs' labels, drawn by hash.

    The draws of one seed are nested: the first n of an order that only the seed decides. Raises UserError where there
    are fewer labels.
    """
    train = {pair.id for pair in read_jsonl(pairs / "pairs.jsonl", Pair) if pair.prompt.split == "train"}
    known = [label for label in read_jsonl(labels / "labels.jsonl", Label) if label.pair_id in train]
    if count > len(known):
        raise UserError(
            f"a budget of {count} labels, and there are {len(known)} training pairs that people have labelled",
            "label_budget",
            "lower the budget, or raise data.train_pairs (null: all that there are)",
        )
    drawn = sorted(known, key=lambda label: uniform("label budget", seed, label.pair_id))[:count]
    write_labels(out, drawn, {"labels to draw from": len(known)})


def _pairs_for(who: str, pairs: Artifact, rule: Sources | None, seed: int) -> list[Pair]:
    """The pairs that a source labels: none of the calibration split, from which nobody learns but the judge.

    With a budget, everybody labels all of them: who is asked where depends on what the judge says.
    """
    rows = [pair for pair in read_jsonl(pairs / "pairs.jsonl", Pair) if pair.prompt.split != "calibration"]
    if not rows:
        raise UserError(
            "there are no pairs to label",
            str(pairs.path),
            "give a data source that has pairs, or set pairs.source: policy to sample them",
        )
    if rule is None or rule.budget:
        return rows
    check_rule(rows, rule, seed)
    return [pair for pair in rows if labeller_of(pair, rule, seed) == who]
