"""Answers by the verdicts of a generative reward model: the best of several, and how good an answer is beside another.

respond_compared   every answer meets every other to its prompt, and the one with the highest mean P of winning is
                   picked: a round robin (PairRanker of LLM-Blender, Jiang et al. 2023, arXiv 2306.02561). n (n - 1) / 2
                   pairs, in both orders, `reward.samples` rationales each
score_beside       the log-odds that an answer is better than the start model's to the same prompt: a number for one
                   answer, in place of a scalar reward, for the report
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from cai.core.draws import identity
from cai.core.odds import sigmoid
from cai.core.records import Pair, Prompt, Response, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.models.engines import Reply
from cai.models.workbench import Workbench
from cai.train.answers_file import draw_several, write_best
from cai.train.generative.asking import GenerativeReader, deliberate, voted
from cai.train.scores_file import Score
from cai.train.trainable import Draws, PromptSet, Trainable


@dataclass(frozen=True, slots=True)
class GenerativePicker:
    """What picks the best of n answers."""

    reader: GenerativeReader
    n: int

    def keyed(self) -> dict[str, Any]:
        """Apart from what answers, which has a policy and a seed as well."""
        return {"picker": self.reader.keyed(), "n": self.n}


@version(1)
def respond_compared(
    out: Path, work: Workbench, *, prompts: PromptSet, model: Trainable, picker: GenerativePicker, draws: Draws
) -> None:
    """As `respond_best`, which an answer is that wins most often. One that no verdict is about has no mark."""
    chosen, drawn = draw_several(work, prompts, model, picker.n, draws)
    pairs = {
        (place, i, j): _pair(prompt, mine[i].text, mine[j].text)
        for place, (prompt, mine) in enumerate(zip(chosen, drawn, strict=True))
        for i, j in combinations(range(len(mine)), 2)
        if mine[i].text != mine[j].text
    }
    odds = verdicts_on(work, list(pairs.values()), picker.reader, title="compare answers")
    write_best(out, model, chosen, drawn, marks(drawn, dict(zip(pairs, odds, strict=True))))


def marks(
    drawn: Sequence[Sequence[Reply]], odds: Mapping[tuple[int, int, int], float | None]
) -> list[list[float | None]]:
    """Mean P of winning of each answer to each prompt; 1/2 against one of the same words; None where it met nobody.

    odds: (prompt, i, j) -> log-odds that answer i is better than answer j; None where there is no verdict.
    """
    whole = []
    for place, mine in enumerate(drawn):
        wins: list[list[float]] = [[] for _ in mine]
        for i, j in combinations(range(len(mine)), 2):
            value = odds.get((place, i, j), 0.0)
            if value is not None:
                wins[i].append(sigmoid(value))
                wins[j].append(sigmoid(-value))
        whole.append([fmean(each) if each else None for each in wins])
    return whole


@version(1)
def score_beside(
    out: Path, work: Workbench, *, prompts: Artifact, answers: Artifact, beside: Artifact, reader: GenerativeReader
) -> None:
    """scores.jsonl: of each answer the log-odds that it is better than the one `beside` to its prompt; 0 for the same
    words, None where there is no verdict, or none beside it."""
    by_id = {prompt.id: prompt for prompt in read_jsonl(prompts / "prompts.jsonl", Prompt)}
    others = {row.prompt_id: row.text for row in read_jsonl(beside / "responses.jsonl", Response)}
    rows = read_jsonl(answers / "responses.jsonl", Response)
    met = [row for row in rows if row.text != others.get(row.prompt_id, row.text)]
    pairs = [_pair(by_id[row.prompt_id], row.text, others[row.prompt_id]) for row in met]
    odds = dict(
        zip((row.prompt_id for row in met), verdicts_on(work, pairs, reader, title="compare answers"), strict=True)
    )
    scores = [
        Score(row.prompt_id, "", odds.get(row.prompt_id, 0.0) if row.prompt_id in others else None) for row in rows
    ]
    write_jsonl(out / "scores.jsonl", scores)


def verdicts_on(work: Workbench, pairs: Sequence[Pair], reader: GenerativeReader, *, title: str) -> list[float | None]:
    """Log-odds of "a is better" of each pair; None where there is no verdict."""
    thoughts = deliberate(reader.model.engine(work), pairs, reader.asking, seed=reader.seed, title=title)
    return [voted([thought.vote for thought in mine]) for mine in thoughts]


def _pair(prompt: Prompt, a: str, b: str) -> Pair:
    return Pair(identity("pair", prompt.id, a, b), prompt, a, b)
