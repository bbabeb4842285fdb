"""The policy by DPO: straight from the labelled pairs, without a reward model (Rafailov et al. 2023).

It learns from the pairs that a reward model would learn from, in the same order and with the same soft labels, and its
reference is the SFT policy. `rl.beta` is its beta, `rl.epochs` its passes over the pairs, `rl.batch_size` pairs a step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.core.errors import UserError
from cai.core.records import Comparison, labelled_pairs
from cai.core.store import Artifact, version
from cai.models.chat import answer_ids, with_system
from cai.models.loading import load_causal, load_tokenizer
from cai.models.workbench import Workbench
from cai.train.launch import launched
from cai.train.rl.given import Given
from cai.train.trainable import Labelled, Trainable


@dataclass(frozen=True, slots=True)
class DpoSettings:
    """beta: the price of a nat. max_length: of conversation and answer, in tokens."""

    epochs: int
    batch_size: int
    learning_rate: float
    beta: float
    max_length: int

    def keyed(self) -> dict[str, Any]:
        """beta by its first name."""
        names = ("epochs", "batch_size", "learning_rate", "max_length")
        return {**{name: getattr(self, name) for name in names}, "kl": self.beta}


@launched
@version(2)
def train_dpo(
    out: Path, work: Workbench, *, labelled: Labelled, start: Trainable, settings: DpoSettings, seed: int
) -> None:
    """model/ (the policy), curves.json (one row a step) and counts.json. start: also the reference."""
    from datasets import Dataset  # heavy: only when there is something to train
    from trl import DPOConfig

    from cai.train.common import fit, pass_arguments
    from cai.train.dpo_trainer import SoftDPOTrainer
    from cai.train.thrift import spare

    work.release()
    tokenizer = load_tokenizer(start.ref)
    comparisons = labelled_pairs(labelled.pairs, labelled.labels)
    rows = [encode(tokenizer, comparison, start.policy.system) for comparison in comparisons]
    kept = [
        row
        for row in rows
        if len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) <= settings.max_length
    ]
    if not kept:
        raise UserError(
            f"none of {len(rows)} labelled training pairs is left to learn from",
            "rl.method: dpo",
            f"raise reward.max_length ({settings.max_length} tokens), or give more pairs",
        )
    counts = {"training pairs labelled": len(rows), "dropped: longer than reward.max_length": len(rows) - len(kept)}

    config = DPOConfig(
        beta=settings.beta,
        max_length=None,
        **pass_arguments(work, out, start, settings, seed, section="rl"),
    )
    network = load_causal(start.ref, start.learning_dtype, work.device, train=True)
    data = Dataset.from_list(kept)
    trainer = SoftDPOTrainer(network, config, train_dataset=data, processing_class=tokenizer)
    spare(work, trainer, start.ref)
    columns = {"loss": "loss", "accuracy": "accuracy", "margin": "margin", "entropy": "entropy"}
    fit(trainer, "DPO", out, tokenizer, columns, counts, section="rl")


def encode(tokenizer: Any, comparison: Comparison, system: str | None) -> dict[str, Any]:
    """Ids of the conversation, opened for an answer, and of both answers up to the end of their turn; p."""
    pair = comparison.pair
    chat = with_system(pair.prompt.messages, system)
    (start, a), (_, b) = (answer_ids(tokenizer, chat, text) for text in (pair.a, pair.b))
    return {"prompt_ids": start, "chosen_ids": a, "rejected_ids": b, "p": comparison.p_a}


def policy(stage: Callable[..., Artifact], given: Given) -> Artifact:
    rl = given.arm.rl
    settings = DpoSettings(
        epochs=rl.epochs, batch_size=rl.batch_size, learning_rate=rl.learning_rate, beta=rl.beta,
        max_length=given.arm.reward.max_length,
    )  # fmt: skip
    return stage(train_dpo, labelled=given.labelled, start=given.start, settings=settings, seed=given.seed)
