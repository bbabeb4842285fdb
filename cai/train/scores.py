"""Rewards under every reward model: of the held-out pairs, of a policy's answers, and of answers that people rated."""

from dataclasses import dataclass
from pathlib import Path

from cai.core.progress import progress
from cai.core.records import Pair, Prompt, Response, ratings_of, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.models.chat import answered
from cai.models.loading import shared_tokenizer
from cai.models.workbench import Workbench
from cai.train.trainable import Scorer


@dataclass(frozen=True, slots=True)
class Score:
    """The reward of one answer; None where it is too long for the reward model."""

    id: str
    side: str
    reward: float | None


@version(2)
def score_pairs(out: Path, work: Workbench, *, pairs: Artifact, scorer: Scorer) -> None:
    """scores.jsonl: the reward of both answers of every held-out pair."""
    rows = [pair for pair in read_jsonl(pairs / "pairs.jsonl", Pair) if pair.prompt.split == "test"]
    chats = [
        answered(pair.prompt.messages, text, scorer.reward.policy.system) for pair in rows for text in (pair.a, pair.b)
    ]
    names = [(pair.id, side) for pair in rows for side in "ab"]
    _score(out, work, names, chats, scorer)


@version(2)
def score_answers(out: Path, work: Workbench, *, prompts: Artifact, answers: Artifact, scorer: Scorer) -> None:
    """scores.jsonl: the reward of every answer that a policy gave to the held-out prompts."""
    by_id = {prompt.id: prompt for prompt in read_jsonl(prompts / "prompts.jsonl", Prompt)}
    rows = read_jsonl(answers / "responses.jsonl", Response)
    chats = [answered(by_id[row.prompt_id].messages, row.text, scorer.reward.policy.system) for row in rows]
    _score(out, work, [(row.prompt_id, "") for row in rows], chats, scorer)


@version(2)
def score_ratings(out: Path, work: Workbench, *, ratings: Artifact, scorer: Scorer) -> None:
    """scores.jsonl: the score of every held-out answer that people rated, in the order of `ratings_of`."""
    rows = ratings_of(ratings, "test")
    chats = [answered(prompt.messages, rating.answer, scorer.reward.policy.system) for prompt, rating in rows]
    _score(out, work, [(prompt.id, "") for prompt, _ in rows], chats, scorer)


def _score(out: Path, work: Workbench, names: list, chats: list, scorer: Scorer) -> None:
    from cai.models.score import score  # heavy: only when there is something to score

    model = work.reward_model(scorer.reward.ref, scorer.reward.dtype)
    with progress("score", len(chats)) as step:
        values = score(
            model,
            shared_tokenizer(scorer.reward.ref),
            chats,
            max_length=scorer.max_length,
            batch_tokens=work.runtime.batch_tokens,
            progress=step,
        )
    write_jsonl(
        out / "scores.jsonl", [Score(name, side, value) for (name, side), value in zip(names, values, strict=True)]
    )
