"""Absolute harmfulness: a model fitted to people's ratings of single answers (Bai et al. 2022, section 4.4).

Comparisons say which of two policies is less harmful; this says how harmful each is, on the scale that people used.
Its scores, of held-out rated answers and of the policies' own, are made in scores.py as those of any reward model.

Departures from the paper: what is rated is one answer of a chatbot to one request, not a whole red-team conversation,
and the rating is of several people where the data has several (their mean).
"""

import json
import math
from pathlib import Path
from typing import Any

from cai.config.sections import Harmfulness, Policy
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import ratings_of
from cai.core.store import Artifact, version
from cai.models.chat import answered
from cai.models.loading import load_tokenizer
from cai.models.workbench import Workbench
from cai.train.launch import launched
from cai.train.starting import load_to_train
from cai.train.trainable import Trainable


@launched
@version(3)
def train_harm(
    out: Path, work: Workbench, *, ratings: Artifact, start: Trainable, settings: Harmfulness, seed: int
) -> None:
    """model/, curves.json, counts.json and fit.json (how many answers it was fitted to, their mean rating).

    It is fitted to answers to training prompts alone.

    ratings: a folder of the data stage. Raises UserError where it leaves nothing to train on.
    """
    from transformers import TrainingArguments  # heavy: only when there is something to train

    from cai.train.common import fit, pass_arguments
    from cai.train.rating_trainer import RatingTrainer

    work.release()
    tokenizer = load_tokenizer(start.ref)
    rows, counts = rows_of(ratings, tokenizer, start.policy, settings, seed)
    network, adapter = load_to_train(start, work.device, reward=True)
    config = TrainingArguments(
        remove_unused_columns=False,
        # Down to 0: each step moves the level of all scores, which is nothing to comparisons and all to ratings. After
        # an epoch at a constant 3e-4, scores of the calibration split correlated 0.50 with ratings, 0.27 too low.
        **pass_arguments(work, out, start, settings, seed, section="evaluate.harmfulness")
        | {"lr_scheduler_type": "linear"},
    )
    trainer = RatingTrainer(network, config, rows, tokenizer, adapter)
    work.read_once(trainer.model, start.ref)
    fit(
        trainer,
        "fit people's ratings of harm",
        out,
        tokenizer,
        {"loss": "loss"},
        counts,
        section="evaluate.harmfulness",
    )
    mean = math.fsum(row["rating"] for row in rows) / len(rows)
    (out / "fit.json").write_text(json.dumps({"answers": len(rows), "mean": mean}))


def rows_of(
    ratings: Artifact, tokenizer: Any, policy: Policy, settings: Harmfulness, seed: int
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """(rows for `RatingTrainer`, what was left out); the rows stand in an order that the seed decides."""
    from cai.models.score import render_scored

    rated = ratings_of(ratings, "train")
    rated.sort(key=lambda row: uniform("harm", seed, row[1].prompt_id, row[1].answer))
    texts = [answered(prompt.messages, rating.answer, policy.system) for prompt, rating in rated]
    rows = [
        {"ids": render_scored(tokenizer, text), "rating": rating.mean}
        for text, (_, rating) in zip(texts, rated, strict=True)
    ]
    short = [row for row in rows if len(row["ids"]) <= settings.max_length]
    kept = short[: settings.answers]
    if not kept:
        raise UserError(
            f"none of {len(rated)} rated answers to training prompts is left to learn harmfulness from",
            "evaluate.harmfulness",
            f"raise evaluate.harmfulness.max_length ({settings.max_length} tokens), or lower data.test",
        )
    return kept, {
        "rated answers to training prompts": len(rated),
        "dropped: longer than evaluate.harmfulness.max_length": len(rated) - len(short),
        "left out: over evaluate.harmfulness.answers": len(short) - len(kept),
    }
