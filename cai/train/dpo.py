"""The policy by DPO: straight from the labelled pairs, without a reward model (Rafailov et al. 2023).

It learns from the pairs that a reward model would learn from, in the same order and with the same soft labels, and its
reference is the SFT policy. `rl.kl` is its beta, `rl.epochs` its passes over the pairs, `rl.batch_size` pairs a step.
"""

import json
from pathlib import Path
from typing import Any

from cai.config.sections import Policy
from cai.core.errors import UserError
from cai.core.records import Comparison, labelled_pairs
from cai.core.store import Artifact, version
from cai.models.chat import answer_ids, with_system
from cai.models.loading import load_causal, load_tokenizer, save
from cai.models.references import Dtype, ModelRef
from cai.models.workbench import Workbench


@version(1)
def train_dpo(
    out: Path,
    work: Workbench,
    *,
    pairs: tuple[Artifact, ...],
    labels: tuple[Artifact, ...],
    sft: ModelRef,
    policy: Policy,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    kl: float,
    max_length: int,
    dtype: Dtype,
    seed: int,
) -> None:
    """model/ (the policy), curves.json (one row a step) and counts.json. max_length: of conversation and answer.

    pairs, labels: one of each for every round so far.
    """
    from datasets import Dataset  # heavy: only when there is something to train
    from trl import DPOConfig

    from cai.train.common import arguments, curves, quiet, weights_dtype
    from cai.train.dpo_trainer import SoftDPOTrainer

    work.release()
    tokenizer = load_tokenizer(sft)
    found = labelled_pairs(pairs, labels)
    rows = [encode(tokenizer, comparison, policy.system) for comparison in found]
    kept = [
        row
        for row in rows
        if len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) <= max_length
    ]
    if not kept:
        raise UserError(
            f"none of {len(rows)} labelled training pairs is left to learn from",
            "rl.method: dpo",
            f"raise reward.max_length ({max_length} tokens), or give more pairs",
        )
    counts = {"training pairs labelled": len(rows), "dropped: longer than reward.max_length": len(rows) - len(kept)}

    config = DPOConfig(
        output_dir=str(out / "trainer"),
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        beta=kl,
        max_length=None,
        activation_checkpointing=False,
        **arguments(work, out, policy, dtype, seed),
    )
    network = load_causal(sft, weights_dtype(policy, dtype), work.device, train=True)
    data = Dataset.from_list(kept)
    trainer = quiet(SoftDPOTrainer(network, config, train_dataset=data, processing_class=tokenizer), "DPO")
    trainer.train()
    names = {"loss": "loss", "accuracy": "accuracy", "margin": "margin", "entropy": "entropy"}
    (out / "curves.json").write_text(json.dumps(curves(trainer.state.log_history, names)))
    (out / "counts.json").write_text(json.dumps(counts, indent=1))
    save(trainer.model, tokenizer, out / "model")


def encode(tokenizer: Any, comparison: Comparison, system: str | None) -> dict[str, Any]:
    """Ids of the conversation, opened for an answer, and of both answers up to the end of their turn; p."""
    pair = comparison.pair
    chat = with_system(pair.prompt.messages, system)
    (start, a), (_, b) = (answer_ids(tokenizer, chat, text) for text in (pair.a, pair.b))
    return {"prompt_ids": start, "chosen_ids": a, "rejected_ids": b, "p": comparison.p_a}
