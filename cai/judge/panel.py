"""A panel of judges (`judge.panel`): those that are asked where another is unsure, and what all of them say together.

Every judge's labels are a stage of their own, of which this file has the one that asks about some pairs alone. The
panel's label keeps who voted in `said`: a judge's name and its P(a better).
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum, nan
from pathlib import Path
from typing import Any, Literal

from cai.core.odds import logit, sigmoid
from cai.core.records import Abstained, Label, Pair, RaterVote, read_jsonl
from cai.core.store import Artifact, version
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_pairs
from cai.judge.labels_file import verdicts_of, write_labels
from cai.models.workbench import Workbench

# A vote is taken to be no surer than this: a probability that was rounded to 1 would outvote everybody.
SUREST = 1 - 1e-6
UNREAD = "no judge of the panel could be read"
Rule = Literal["mean", "reliability", "last"]
Verdict = Label | Abstained


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelJudge:
    """One judge of a panel, on all pairs. asked: about how many; labelled: of them; decided: labels that are its own
    (rule `last`). right, halves: how reliable it is by the others' agreement, all its votes and its weaker and its
    stronger ones (cai/stats/reliability.py); None by another rule."""

    name: str
    asked: int
    labelled: int
    decided: int | None = None
    right: float | None = None
    halves: tuple[float | None, float | None] | None = None


@version(1)
def label_the_unsure(
    out: Path,
    work: Workbench,
    *,
    pairs: Artifact,
    labels: Artifact,
    below: float,
    preflight: Artifact | None,
    judge: AskedJudge,
) -> None:
    """labels.jsonl, abstained.jsonl and counts.json: a judge, on the pairs that the one before it leaves open.

    labels: of the judge before it, who was asked about these pairs and no others. below: `judge.panel.escalate`.
    preflight: as of `label_by_judge`.
    """
    before = verdicts_of(labels)
    unsure = {pair_id for pair_id, verdict in before.items() if is_unsure(verdict, below)}
    rows = [pair for pair in read_jsonl(pairs / "pairs.jsonl", Pair) if pair.id in unsure]
    chosen = json.loads((preflight / "preflight.json").read_text()) if preflight else {}
    judge = judge.by(chosen.get("method", judge.settings.method))
    platt = chosen.get("platt")
    made = judge_pairs(judge.engine(work), rows, judge, title="judge what is unsure", platt=platt) if rows else []
    write_labels(out, made, {"sure already": len(before) - len(rows)})


def is_unsure(verdict: Verdict, below: float) -> bool:
    """Whether a judge says nothing, or gives the answer that it prefers less than this probability."""
    return not isinstance(verdict, Label) or max(verdict.p_a, 1 - verdict.p_a) < below


@version(1)
def combine_panel(out: Path, work: Any, *, pairs: Artifact, parts: Mapping[str, Artifact], rule: Rule) -> None:
    """labels.jsonl, abstained.jsonl and counts.json: what a panel says; judges.json: a `PanelJudge` each.

    parts: name of a judge -> its labels, in the order of the panel. A judge that could not be read has no vote on a
    pair; a pair on which nobody has one is an abstention.
    """
    said = {name: verdicts_of(labels) for name, labels in parts.items()}
    asked = [pair.id for pair in read_jsonl(pairs / "pairs.jsonl", Pair) if any(pair.id in of for of in said.values())]
    made, judges = together(asked, said, rule)
    write_labels(out, made)
    (out / "judges.json").write_text(json.dumps([asdict(judge) for judge in judges], indent=1))


def together(
    pairs: Sequence[str], said: Mapping[str, Mapping[str, Verdict]], rule: Rule
) -> tuple[list[Verdict], list[PanelJudge]]:
    """(the panel's verdict on each of the pairs, in order; what is to be known of each judge).

    said: judge -> pair -> verdict. mean: of the log-odds of all votes. reliability: P(a better) of the fitted model.
    last: what the last judge says that has a vote.
    """
    votes = {
        pair: {name: verdict for name, of in said.items() if isinstance(verdict := of.get(pair), Label)}
        for pair in pairs
    }
    fitted = _fitted(list(votes.values()), list(said)) if rule == "reliability" else None
    made: list[Verdict] = []
    decided: Counter[str] = Counter()
    for place, pair in enumerate(pairs):
        mine = votes[pair]
        if not mine:
            made.append(Abstained(pair, UNREAD))
            continue
        last = next(reversed(mine))
        decided[last] += 1
        if fitted:
            p_a = float(fitted.p_a[place])
        else:
            p_a = mine[last].p_a if rule == "last" else sigmoid(fsum(_odds(v.p_a) for v in mine.values()) / len(mine))
        sources = {vote.source for vote in mine.values()}
        source = sources.pop() if len(sources) == 1 else "ai"  # "empty answer" is a rule's, and no judge's
        who = tuple(RaterVote(name, vote.p_a) for name, vote in mine.items())
        made.append(Label(pair, p_a, source, said=who))
    judges = [
        PanelJudge(
            name=name, asked=len(of), labelled=sum(isinstance(verdict, Label) for verdict in of.values()),
            decided=decided[name] if rule == "last" else None,
            right=_number(fitted.right[n]) if fitted else None,
            halves=(_number(fitted.halves[n, 0]), _number(fitted.halves[n, 1])) if fitted else None,
        )
        for n, (name, of) in enumerate(said.items())
    ]  # fmt: skip
    return made, judges


def _fitted(votes: Sequence[Mapping[str, Label]], judges: Sequence[str]) -> Any:
    """A `Reliability`. votes: judge -> label, of each pair."""
    import numpy as np  # late: a plan computes nothing

    from cai.stats.reliability import reliability

    table = [[_odds(mine[name].p_a) if name in mine else nan for name in judges] for mine in votes]
    return reliability(np.array(table, float).reshape(len(votes), len(judges)))


def _odds(p_a: float) -> float:
    return logit(p_a, SUREST)


def _number(value: float) -> float | None:
    return None if value != value else float(value)
