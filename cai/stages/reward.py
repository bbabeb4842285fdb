"""The reward model: Bradley-Terry on the labels' soft probabilities (Ouyang et al. 2022, section 3.5).

It sees comparisons and nothing of where their labels came from, so human and AI labels take this one path.
"""

import json
from pathlib import Path
from typing import Any

from cai.errors import UserError
from cai.models import Dtype, Source, answered, load_reward, load_tokenizer, lora, save
from cai.records import Comparison, Label, Pair, comparisons, read_jsonl
from cai.settings import Policy, Reward
from cai.store import Artifact, version
from cai.workbench import Workbench


@version(1)
def train_reward(
    out: Path,
    work: Workbench,
    *,
    pairs: Artifact,
    labels: Artifact,
    model: Source,
    policy: Policy,
    settings: Reward,
    dtype: Dtype,
    seed: int,
) -> None:
    """model/ (the reward model), curves.json and counts.json, from the training pairs that have a label."""
    from datasets import Dataset  # heavy: only when there is something to train
    from trl import RewardConfig

    from cai.trainers.common import arguments, curves, quiet, weights_dtype
    from cai.trainers.reward import SoftRewardTrainer
    from cai.trainers.score import render_scored

    work.release()
    tokenizer = load_tokenizer(model)
    rows: list[dict[str, Any]] = []
    for comparison in read_comparisons(pairs, labels):
        pair = comparison.pair
        ids = [
            render_scored(tokenizer, answered(pair.prompt.messages, text, policy.system)) for text in (pair.a, pair.b)
        ]
        rows.append({"chosen_ids": ids[0], "rejected_ids": ids[1], "p": comparison.p_a})
    kept = [row for row in rows if max(len(row["chosen_ids"]), len(row["rejected_ids"])) <= settings.max_length]
    if not kept:
        raise UserError(
            f"none of {len(rows)} labelled training pairs is left to train the reward model on",
            "reward",
            f"raise reward.max_length ({settings.max_length} tokens), or give more pairs",
        )
    counts = {"training pairs labelled": len(rows), "dropped: longer than reward.max_length": len(rows) - len(kept)}

    network = load_reward(model, weights_dtype(policy, dtype), work.device)
    adapter = lora(network, policy.lora_rank, policy.lora_layers, reward=True) if policy.training == "lora" else None
    config = RewardConfig(
        output_dir=str(out / "trainer"),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        max_length=settings.max_length,
        gradient_checkpointing=False,
        **arguments(work.device, policy, dtype, seed),
    )
    trainer = quiet(
        SoftRewardTrainer(
            model=network,
            args=config,
            train_dataset=Dataset.from_list(kept),
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


def read_comparisons(pairs: Artifact, labels: Artifact) -> list[Comparison]:
    """`comparisons` of what the stages left."""
    return comparisons(read_jsonl(pairs / "pairs.jsonl", Pair), read_jsonl(labels / "labels.jsonl", Label))
