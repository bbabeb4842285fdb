"""What is measured on held-out prompts: rewards under every reward model, and games that the judge decides."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cai.constitution import Judging
from cai.data import identity
from cai.judging import judge_pairs
from cai.models import Dtype, Source, answered, load_tokenizer
from cai.progress import progress
from cai.records import Abstained, Label, Pair, Prompt, Response, ratings_of, read_jsonl, write_jsonl
from cai.settings import Judge, Policy
from cai.store import Artifact, version
from cai.templates import Template
from cai.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Score:
    """The reward of one answer; None where it is too long for the reward model."""

    id: str
    side: str
    reward: float | None


@version(1)
def score_pairs(
    out: Path, work: Workbench, *, pairs: Artifact, reward: Source, policy: Policy, max_length: int, dtype: Dtype
) -> None:
    """scores.jsonl: the reward of both answers of every held-out pair."""
    rows = [pair for pair in read_jsonl(pairs / "pairs.jsonl", Pair) if pair.prompt.split == "test"]
    chats = [answered(pair.prompt.messages, text, policy.system) for pair in rows for text in (pair.a, pair.b)]
    names = [(pair.id, side) for pair in rows for side in "ab"]
    _score(out, work, names, chats, reward, max_length, dtype)


@version(1)
def score_answers(
    out: Path,
    work: Workbench,
    *,
    prompts: Artifact,
    answers: Artifact,
    reward: Source,
    policy: Policy,
    max_length: int,
    dtype: Dtype,
) -> None:
    """scores.jsonl: the reward of every answer that a policy gave to the held-out prompts."""
    by_id = {prompt.id: prompt for prompt in read_jsonl(prompts / "prompts.jsonl", Prompt)}
    rows = read_jsonl(answers / "responses.jsonl", Response)
    chats = [answered(by_id[row.prompt_id].messages, row.text, policy.system) for row in rows]
    _score(out, work, [(row.prompt_id, "") for row in rows], chats, reward, max_length, dtype)


@version(1)
def score_ratings(
    out: Path, work: Workbench, *, ratings: Artifact, reward: Source, policy: Policy, max_length: int, dtype: Dtype
) -> None:
    """scores.jsonl: the score of every held-out answer that people rated, in the order of `ratings_of`."""
    rows = ratings_of(ratings, "test")
    chats = [answered(prompt.messages, rating.answer, policy.system) for prompt, rating in rows]
    _score(out, work, [(prompt.id, "") for prompt, _ in rows], chats, reward, max_length, dtype)


def _score(out: Path, work: Workbench, names: list, chats: list, reward: Source, max_length: int, dtype: Dtype) -> None:
    from cai.trainers.score import score  # heavy: only when there is something to score

    model = work.reward_model(reward, dtype)
    with progress("score", len(chats)) as step:
        values = score(
            model,
            load_tokenizer(reward),
            chats,
            max_length=max_length,
            batch_tokens=work.runtime.batch_tokens,
            progress=step,
        )
    write_jsonl(
        out / "scores.jsonl", [Score(name, side, value) for (name, side), value in zip(names, values, strict=True)]
    )


@version(3)
def play(
    out: Path,
    work: Workbench,
    *,
    prompts: Artifact,
    first: Artifact,
    second: Artifact,
    judge: Judge,
    model: Source,
    judging: tuple[Judging, ...],
    templates: Mapping[str, Template],
    dtype: Dtype,
    seed: int,
) -> None:
    """games.jsonl: P(the first policy's answer is better) for each prompt that both answered; abstained.jsonl.

    An answer without a word loses to one with words; two of them are a draw.
    The pair's "a" is the first policy's answer; methods that show both ask in both orders.
    """
    one = {row.prompt_id: row.text for row in read_jsonl(first / "responses.jsonl", Response)}
    two = {row.prompt_id: row.text for row in read_jsonl(second / "responses.jsonl", Response)}
    pairs = [
        Pair(identity("game", prompt.id, one[prompt.id], two[prompt.id]), prompt, one[prompt.id], two[prompt.id])
        for prompt in read_jsonl(prompts / "prompts.jsonl", Prompt)
        if prompt.id in one and prompt.id in two
    ]
    # The same words from both policies are a draw by definition, and no judge need be asked.
    same = {pair.id for pair in pairs if pair.a.strip() == pair.b.strip()}
    differ = [pair for pair in pairs if pair.id not in same]
    engine = work.engine(model, dtype=dtype, system=judge.system)
    verdicts = judge_pairs(engine, differ, judging, judge, templates, seed=seed, title="judge the games")
    games = {pair.id: Label(pair.id, 0.5, "same answer") for pair in pairs if pair.id in same}
    games |= {verdict.pair_id: verdict for verdict in verdicts if isinstance(verdict, Label)}
    by_game = {pair.id: pair.prompt.id for pair in pairs}
    # From here on a game is known by its prompt: that is how it is paired with the other arms' games.
    write_jsonl(out / "games.jsonl", [Label(by_game[key], g.p_a, g.source, g.votes) for key, g in games.items()])
    abstained = [verdict for verdict in verdicts if isinstance(verdict, Abstained)]
    write_jsonl(out / "abstained.jsonl", [Abstained(by_game[a.pair_id], a.reason, a.votes) for a in abstained])
