"""Rewards under every reward model: of the held-out pairs, of a policy's answers, and of answers that people rated; and
the scale of a criterion's."""

import json
from pathlib import Path

from cai.core.errors import UserError
from cai.core.progress import progress
from cai.core.records import Pair, Prompt, Response, ratings_of, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.models.chat import answered
from cai.models.loading import shared_tokenizer
from cai.models.workbench import Workbench
from cai.train.criteria import no_scale, reference_answers, scale_of, tells_apart
from cai.train.scores_file import Score
from cai.train.trainable import Scorer


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


@version(1)
def scale_reward(out: Path, work: Workbench, *, revisions: Artifact, scorer: Scorer) -> None:
    """scale.json: mean and spread of a criterion's reward model on the answers that the SFT policy was trained on, and
    its outputs themselves, in their order.

    Raises UserError where all outputs are alike: such a criterion would weigh nothing, whatever its weight.
    """
    from cai.models.score import score  # heavy: only when there is something to score

    ref, chats = scorer.reward.ref, reference_answers(revisions, scorer.reward.policy)
    with progress("score", len(chats)) as step:
        values = score(
            work.reward_model(ref, scorer.reward.dtype), shared_tokenizer(ref), chats, max_length=scorer.max_length,
            batch_tokens=work.runtime.batch_tokens, progress=step,
        )  # fmt: skip
    scale = scale_of(values, no_scale(ref.name))
    if not tells_apart(values):
        problem = f"the reward model of criterion {ref.name} gives all {len(chats)} answers of the SFT policy the same "
        problem += f"reward, {scale.mean:.4g}: it tells nothing apart"
        remedy = "look at this criterion's labels, train it longer (reward.epochs, reward.learning_rate), or remove it"
        raise UserError(problem, f"criteria.{ref.name}", remedy)
    (out / "scale.json").write_text(json.dumps({"mean": scale.mean, "spread": scale.spread, "outputs": values}))


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
