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
from dataclasses import asdict
from itertools import combinations
from typing import Any

from cai.compare.cells import Cell, Measured
from cai.compare.measures import HeldOutPairs, average
from cai.core.records import Abstained, Label, Pair, Response, Revision, plain, read_jsonl
from cai.train.scores import Score

VOTE = ("method", "principle", "order", "p_a", "mass", "fault", "reply")  # what is shown of a vote
BUDGET = 10_000_000
BEFORE = ("start", "sft")


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
    found: list[dict[str, Any]] = []
    for trace in read_jsonl(measured.traces / "revisions.jsonl", Revision):
        key = trace.prompt.id
        shown = []
        for name in names:
            if key not in answers[name]:
                continue
            arm, _, seed = name.partition("/")
            marks = {f"reward model {cell.name}": scores[cell.name, name].get(key) for cell in cells if cell.reward}
            if name in games:
                marks["judge: P(better than SFT)"] = games[name].get(key)
            marks = {mark: value for mark, value in marks.items() if value is not None}
            shown.append({"arm": arm, "seed": int(seed) if seed else None, "text": answers[name][key], "scores": marks})
        found.append(
            {
                "kind": "transcript", "id": f"prompt-{key}", "prompt": [asdict(m) for m in trace.prompt.messages],
                "subset": trace.prompt.subset, "draft": trace.draft, "rounds": [asdict(r) for r in trace.rounds],
                "answers": shown,
            }
        )  # fmt: skip
    spreads = _spreads([answer for row in found for answer in row["answers"]])
    return [row | rewarded(row["answers"], spreads) for row in found]


def _spreads(answers: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Standard deviation of each reward model over the answers; left out where it is 0."""
    rewards: dict[str, list[float]] = {}
    for answer in answers:
        for name, value in answer["scores"].items():
            if name.startswith("reward model "):
                rewards.setdefault(name, []).append(value)
    found = {}
    for name, values in rewards.items():
        mean = math.fsum(values) / len(values)
        found[name] = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return {name: spread for name, spread in found.items() if spread > 0}


def rewarded(answers: Sequence[dict[str, Any]], spreads: dict[str, float]) -> dict[str, Any]:
    """`disagree` and `gap` of a transcript, by the reward models that `spreads` knows."""
    gap, disagree = None, False
    seeds = dict.fromkeys(answer["seed"] for answer in answers if answer["arm"] not in BEFORE)
    for seed in seeds:
        of = [answer for answer in answers if answer["seed"] == seed and answer["arm"] not in BEFORE]
        favourites = set()
        for model, spread in spreads.items():
            if not all(model in answer["scores"] for answer in of) or len(of) < 2:
                continue
            ranked = sorted(of, key=lambda answer, model=model: -answer["scores"][model])
            best, second, last = (ranked[i]["scores"][model] for i in (0, 1, -1))
            gap = max(gap or 0.0, (best - last) / spread)
            if best > second and model.endswith(f"/{seed}"):
                favourites.add(ranked[0]["arm"])
        disagree |= len(favourites) > 1
    return {"disagree": disagree, "gap": gap and round(gap, 3)}


def label_examples(cells: Sequence[Cell], held_out: HeldOutPairs) -> list[dict[str, Any]]:
    """Held-out pairs: the AI judge's votes where there is one, and every other opinion beside people's."""
    labelled = [cell for cell in cells if cell.labels]
    judged = next((cell for cell in labelled if "ai" in cell.said), None)
    if not labelled:
        return []
    labels, abstained = {}, {}
    if judged:
        labels = {label.pair_id: label for label in read_jsonl(judged.said["ai"] / "labels.jsonl", Label)}
        abstained = {row.pair_id: row for row in read_jsonl(judged.said["ai"] / "abstained.jsonl", Abstained)}
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
            {arm: said[pair.id] for arm, said in held_out.labels.items() if pair.id in said},
            {arm: said[pair.id] for arm, said in rewards.items() if pair.id in said},
        )
        for pair in held_out.pairs.values()
    ]


def pair_row(
    pair: Pair, verdict: Label | Abstained | None, said: dict[str, float], rewards: dict[str, float]
) -> dict[str, Any]:
    """One pair. verdict: the AI judge's. said, rewards: arm -> P(a better) by its labels, and by its reward model."""
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
            "opinions": [{"name": f"labels of arm {arm}", "arm": arm, "p": round(p, 4)} for arm, p in said.items()]
            + [{"name": f"reward model {arm}", "arm": arm, "p": round(p, 4)} for arm, p in rewards.items()],
            "votes": [[_short(getattr(vote, name)) for name in VOTE] for vote in votes],
            "disagree": _sides(said.values()) > 1 or _sides(rewards.values()) > 1,
            "against": bool(label and pair.human is not None and _sides([label.p_a, pair.human]) > 1),
            "gap": round(max(gaps), 4) if gaps else None,
        }
    )  # fmt: skip


def _sides(opinions: Iterable[float]) -> int:
    return len({p > 0.5 for p in opinions if p != 0.5})


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
