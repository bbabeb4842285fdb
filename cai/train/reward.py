"""The reward model: Bradley-Terry on the labels' soft probabilities (Ouyang et al. 2022, section 3.5).

It sees comparisons and nothing of where their labels came from, so human and AI labels take this one path.
"""

import json
from pathlib import Path
from typing import Any

from cai.config.sections import Policy, Reward
from cai.core.errors import UserError
from cai.core.records import Comparison, labelled_pairs
from cai.core.store import Artifact, version
from cai.models.chat import answered
from cai.models.loading import load_tokenizer, save
from cai.models.references import Dtype, ModelRef
from cai.models.workbench import Workbench
from cai.train.starting import load_to_train


@version(1)
def train_reward(
    out: Path,
    work: Workbench,
    *,
    pairs: tuple[Artifact, ...],
    labels: tuple[Artifact, ...],
    model: ModelRef,
    policy: Policy,
    settings: Reward,
    dtype: Dtype,
    seed: int,
) -> None:
    """model/ (the reward model), curves.json and counts.json, from the training pairs that have a label.

    pairs, labels: one of each for every round so far. A reward model of a later round is trained anew on all of them.
    """
    from datasets import Dataset  # heavy: only when there is something to train
    from trl import RewardConfig

    from cai.train.common import arguments, curves, quiet, weights_dtype
    from cai.train.reward_trainer import SoftRewardTrainer, fitting

    work.release()
    tokenizer = load_tokenizer(model)
    labelled = labelled_pairs(pairs, labels)
    rows = [fitting(row, settings.max_length) for row in elements(labelled, tokenizer, policy, settings)]
    rows = [row for row in rows if row["p"]]
    kept = sum(len(row["p"]) for row in rows)
    if not rows:
        raise UserError(
            f"none of {len(labelled)} labelled training pairs is left to train the reward model on",
            "reward",
            f"raise reward.max_length ({settings.max_length} tokens), or give more pairs",
        )
    counts = {
        "training pairs labelled": len(labelled),
        "dropped: longer than reward.max_length": len(labelled) - kept,
    }
    if settings.group == "prompt":
        counts |= {"prompts, each one batch element": len(rows), "answers read": sum(len(r["answers"]) for r in rows)}

    network, adapter = load_to_train(model, policy, weights_dtype(policy, dtype), work.device, reward=True)
    config = RewardConfig(
        output_dir=str(out / "trainer"),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        max_length=settings.max_length,
        gradient_checkpointing=False,
        **arguments(work, out, policy, dtype, seed),
    )
    trainer = quiet(
        SoftRewardTrainer(
            model=network,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=adapter,
        ),
        "train the reward model",
    )
    trainer.train()
    names = {"loss": "loss", "accuracy": "accuracy", "margin": "margin"}
    (out / "curves.json").write_text(json.dumps(curves(trainer.state.log_history, names)))
    (out / "counts.json").write_text(json.dumps(counts, indent=1))
    save(trainer.model, tokenizer, out / "model")


def elements(labelled: list[Comparison], tokenizer: Any, policy: Policy, settings: Reward) -> list[dict[str, list]]:
    """Rows for `SoftRewardTrainer`, in the order of the comparisons: one for each, or one for each prompt."""
    from cai.models.score import render_scored
    from cai.train.reward_trainer import element

    groups: dict[Any, list[Any]] = {}
    for number, comparison in enumerate(labelled):
        pair = comparison.pair
        a, b = (
            render_scored(tokenizer, answered(pair.prompt.messages, text, policy.system)) for text in (pair.a, pair.b)
        )
        key = pair.prompt.id if settings.group == "prompt" else number
        groups.setdefault(key, []).append((a, b, comparison.p_a))
    return [element(group) for group in groups.values()]
