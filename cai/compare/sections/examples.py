"""The rows that people read: held-out prompts with what every policy answered, and held-out pairs with every opinion.

Each row carries what the page filters and sorts by:

    disagree  transcripts: two reward models like the answers of different arms best (answers of one seed);
              pairs: the labels of two arms, or of two arms' reward models, are on different sides
    against   pairs: the AI judge is on the other side than people
    gap       transcripts: the largest difference, in standard deviations of all answers shown here, that one reward
              model makes between the answers of two arms; pairs: the largest difference between two reward models'
              P(a better)

A tie is on no side. A report holds as many pairs as fit into `BUDGET` bytes, in the order of the pairs.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from cai.compare.cells import Cell, Measured, with_policy
from cai.compare.measures import HeldOutPairs, average
from cai.core.records import Abstained, Label, Pair, Response, Revision, plain, read_jsonl
from cai.train.scores import Score

VOTE = ("method", "principle", "order", "p_a", "mass", "fault", "reply")  # what is shown of a vote
BUDGET = 10_000_000
RewardModel = tuple[str, int]  # its arm and seed


def examples(
    cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """(rows, {"transcripts": n, "pairs": n, "pairs_of": all there are})."""
    shown = plain(transcripts(cells, measured))
    pairs = label_examples(cells, held_out)
    left, kept = BUDGET - len(json.dumps(shown)), []
    for row in pairs:
        left -= len(json.dumps(row))
        if left < 0:
            break
        kept.append(row)
    return [*shown, *kept], {"transcripts": len(shown), "pairs": len(kept), "pairs_of": len(pairs)}


def transcripts(cells: Sequence[Cell], measured: Measured) -> list[dict[str, Any]]:
    """Held-out prompts: the start model's draft, its critiques and revisions, and what every policy answered."""
    if measured.traces is None:
        return []
    cells = with_policy(cells)
    names = ["sft", *(cell.name for cell in cells)]
    answers = {
        name: {
            r.prompt_id: r.text for r in read_jsonl(measured.answers[name, "red-team"] / "responses.jsonl", Response)
        }
        for name in names
    }
    scores = {
        (cell.name, name): {
            r.id: r.reward for r in read_jsonl(measured.scores[cell.name, name] / "scores.jsonl", Score)
        }
        for cell in cells
        if cell.reward
        for name in names
    }
    games = {
        cell.name: {g.pair_id: g.p_a for g in read_jsonl(measured.games[cell.name, "sft"] / "games.jsonl", Label)}
        for cell in cells
    }
    makers: list[tuple[str, str, int | None]] = [("sft", "sft", None), *((c.name, c.arm, c.seed) for c in cells)]
    shown: list[tuple[Revision, list[PolicyAnswer]]] = []
    for trace in read_jsonl(measured.traces / "revisions.jsonl", Revision):
        key = trace.prompt.id
        rewards = {
            name: {(c.arm, c.seed): x for c in cells if c.reward and (x := scores[c.name, name].get(key)) is not None}
            for name in names
        }
        own = [
            PolicyAnswer(arm, seed, answers[name][key], rewards[name], games.get(name, {}).get(key))
            for name, arm, seed in makers
            if key in answers[name]
        ]
        shown.append((trace, own))
    spreads = _spreads([answer for _, own in shown for answer in own])
    return [
        {
            "kind": "transcript", "id": f"prompt-{trace.prompt.id}",
            "prompt": [asdict(m) for m in trace.prompt.messages], "subset": trace.prompt.subset,
            "draft": trace.draft, "rounds": [asdict(r) for r in trace.rounds],
            "answers": [answer.row() for answer in own], **rewarded(own, spreads),
        }
        for trace, own in shown
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """seed: None of a policy before RL. rewards: by each reward model that could read it. wins: P(better than SFT)."""

    arm: str
    seed: int | None
    text: str
    rewards: dict[RewardModel, float]
    wins: float | None = None

    def row(self) -> dict[str, Any]:
        """As the page has it."""
        scores = {f"reward model {arm}/{seed}": reward for (arm, seed), reward in self.rewards.items()}
        judge = {} if self.wins is None else {"judge: P(better than SFT)": self.wins}
        return {"arm": self.arm, "seed": self.seed, "text": self.text, "scores": scores | judge}


def _spreads(answers: Sequence[PolicyAnswer]) -> dict[RewardModel, float]:
    """Standard deviation of each reward model over the answers; left out where it is 0."""
    rewards: dict[RewardModel, list[float]] = {}
    for answer in answers:
        for model, value in answer.rewards.items():
            rewards.setdefault(model, []).append(value)
    spreads = {}
    for model, values in rewards.items():
        mean = math.fsum(values) / len(values)
        spreads[model] = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return {model: spread for model, spread in spreads.items() if spread > 0}


def rewarded(answers: Sequence[PolicyAnswer], spreads: dict[RewardModel, float]) -> dict[str, Any]:
    """`disagree` and `gap` of a transcript, by the reward models that `spreads` knows."""
    gap, disagree = None, False
    for seed in dict.fromkeys(answer.seed for answer in answers if answer.seed is not None):
        of = [answer for answer in answers if answer.seed == seed]
        favourites = set()
        for model, spread in spreads.items():
            if not all(model in answer.rewards for answer in of) or len(of) < 2:
                continue
            ranked = sorted(of, key=lambda answer, model=model: -answer.rewards[model])
            best, second, last = (ranked[i].rewards[model] for i in (0, 1, -1))
            gap = max(gap or 0.0, (best - last) / spread)
            if best > second and model[1] == seed:
                favourites.add(ranked[0].arm)
        disagree |= len(favourites) > 1
    return {"disagree": disagree, "gap": gap and round(gap, 3)}


def label_examples(cells: Sequence[Cell], held_out: HeldOutPairs) -> list[dict[str, Any]]:
    """Held-out pairs: the AI judge's votes where there is one, and every other opinion beside people's."""
    labelled = [cell for cell in cells if cell.labels]
    judged = next((cell for cell in labelled if "ai" in cell.labellers), None)
    if not labelled:
        return []
    labels, abstained = {}, {}
    if judged:
        labels = {label.pair_id: label for label in read_jsonl(judged.labellers["ai"] / "labels.jsonl", Label)}
        abstained = {row.pair_id: row for row in read_jsonl(judged.labellers["ai"] / "abstained.jsonl", Abstained)}
    arms = dict.fromkeys(cell.arm for cell in cells)
    rewards = {
        arm: average([held_out.margins[cell.name] for cell in cells if cell.arm == arm])
        for arm in arms
        if all(cell.name in held_out.margins for cell in cells if cell.arm == arm)
    }
    return [
        pair_row(
            pair,
            labels.get(pair.id) or abstained.get(pair.id),
            {arm: rows[pair.id] for arm, rows in held_out.labels.items() if pair.id in rows},
            {arm: rows[pair.id] for arm, rows in rewards.items() if pair.id in rows},
        )
        for pair in held_out.pairs.values()
    ]


def pair_row(
    pair: Pair, verdict: Label | Abstained | None, labels: dict[str, float], rewards: dict[str, float]
) -> dict[str, Any]:
    """One pair. verdict: the AI judge's. labels, rewards: arm -> P(a better) by its labels, and by its reward model."""
    label = verdict if isinstance(verdict, Label) else None
    votes = verdict.votes if verdict else ()
    gaps = [abs(p - q) for p, q in combinations(rewards.values(), 2)]
    raters = pair.raters or [f"person {i}" for i in range(1, len(pair.votes) + 1)]
    return plain(
        {
            "kind": "label", "id": f"pair-{pair.id}", "prompt": [asdict(m) for m in pair.prompt.messages],
            "subset": pair.prompt.subset, "a": pair.a, "b": pair.b, "human": pair.human,
            "people": [[name, vote] for name, vote in zip(raters, pair.votes, strict=True)],
            "ai": label and round(label.p_a, 4), "reason": verdict.reason if isinstance(verdict, Abstained) else "",
            "opinions": [{"name": f"labels of arm {arm}", "arm": arm, "p": round(p, 4)} for arm, p in labels.items()]
            + [{"name": f"reward model {arm}", "arm": arm, "p": round(p, 4)} for arm, p in rewards.items()],
            "votes": [[_short(getattr(vote, name)) for name in VOTE] for vote in votes],
            "disagree": _sides(labels.values()) > 1 or _sides(rewards.values()) > 1,
            "against": bool(label and pair.human is not None and _sides([label.p_a, pair.human]) > 1),
            "gap": round(max(gaps), 4) if gaps else None,
        }
    )  # fmt: skip


def _sides(opinions: Iterable[float]) -> int:
    return len({p > 0.5 for p in opinions if p != 0.5})


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
