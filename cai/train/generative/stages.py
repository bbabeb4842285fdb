"""The training of a generative reward model, a stage a step, so that a killed run goes on behind the last one:

    draw_rationales    the start model thinks about the training pairs (calls that were answered are kept)
    learn_rationales   SFT on those that led to the right verdict
    draw_rationales    with `reward.dpo`: the model that learnt so far thinks again,
    prefer_rationales  and DPO learns from its right ones against its wrong ones

The last one's folder is the reward model: a language model (an adapter, or whole weights).
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.config.sections import Reward
from cai.core.errors import UserError
from cai.core.records import Comparison, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.models.loading import load_causal, load_tokenizer
from cai.models.workbench import Workbench
from cai.train.generative.asking import RationaleAsking, Thought, deliberate
from cai.train.generative.selection import preferences, right_ones
from cai.train.generative.written import preferred, spoken
from cai.train.launch import launched
from cai.train.starting import load_to_train
from cai.train.trainable import Labelled, Trainable


@dataclass(frozen=True, slots=True)
class PairsToJudge:
    """Labelled training pairs of some subsets (empty: of all), and how a model is asked about them."""

    labelled: Labelled
    subsets: tuple[str, ...]
    asking: RationaleAsking

    def keyed(self) -> dict[str, Any]:
        return {**self.labelled.keyed(), "subsets": self.subsets, **self.asking.keyed()}

    def read(self) -> dict[str, Comparison]:
        """By the id of the pair, in their order."""
        return {row.pair.id: row for row in self.labelled.comparisons(self.subsets)}


@dataclass(frozen=True, slots=True)
class RationaleTraining:
    """max_length: of question, rationale and verdict, in tokens. beta: of DPO."""

    epochs: float
    batch_size: int
    learning_rate: float
    max_length: int
    beta: float

    @classmethod
    def of(cls, reward: Reward) -> "RationaleTraining":
        names = ("epochs", "batch_size", "learning_rate", "max_length", "beta")
        return cls(**{name: getattr(reward, name) for name in names})


@version(1)
def draw_rationales(
    out: Path, work: Workbench, *, judged: PairsToJudge, model: Trainable, seed: int
) -> None:  # fmt: skip
    """thoughts.jsonl: rationales for each order of each training pair, and what each led to."""
    pairs = [comparison.pair for comparison in judged.read().values()]
    thoughts = deliberate(model.engine(work), pairs, judged.asking, seed=seed, title="learn to judge")
    write_jsonl(out / "thoughts.jsonl", [thought for mine in thoughts for thought in mine])


@launched
@version(1)
def learn_rationales(
    out: Path, work: Workbench, *, rationales: Artifact, judged: PairsToJudge, start: Trainable,
    settings: RationaleTraining, seed: int,
) -> None:  # fmt: skip
    """model/, curves.json and counts.json. Raises UserError where no rationale led to the right verdict."""
    from datasets import Dataset  # heavy: only when there is something to train
    from trl import SFTConfig

    from cai.train.common import fit, pass_arguments
    from cai.train.sft_trainer import AnswerTrainer

    work.release()
    tokenizer = load_tokenizer(start.ref)
    comparisons = judged.read()
    right, counts = right_ones(read_jsonl(rationales / "thoughts.jsonl", Thought), _labels(comparisons))
    if not right:
        raise nothing_right(counts, settings)
    rows = [spoken(tokenizer, comparisons[thought.pair_id], thought, judged.asking) for thought in right]
    network, adapter = load_to_train(start, work.device)
    config = SFTConfig(
        max_length=None, completion_only_loss=True,
        **pass_arguments(work, out, start, settings, seed, section="reward"),
    )  # fmt: skip
    trainer = AnswerTrainer(
        model=network, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        peft_config=adapter,
    )  # fmt: skip
    columns = {"loss": "loss", "mean_token_accuracy": "token accuracy", "entropy": "entropy"}
    fit(trainer, "learn rationales", out, tokenizer, columns, counts, section="reward")


@launched
@version(2)
def prefer_rationales(
    out: Path, work: Workbench, *, rationales: Artifact, judged: PairsToJudge, start: Trainable,
    settings: RationaleTraining, seed: int,
) -> None:  # fmt: skip
    """model/, curves.json and counts.json, those of what SFT learnt among them. start: what SFT left, the reference.

    Where all rationales of an order are right, or all wrong, for every pair, there is nothing to prefer, and the model
    stays as SFT left it; the counts say so.
    """
    from datasets import Dataset  # heavy: only when there is something to train
    from trl import DPOConfig

    from cai.train.common import fit, pass_arguments
    from cai.train.dpo_trainer import SoftDPOTrainer
    from cai.train.thrift import spare

    work.release()
    tokenizer = load_tokenizer(start.ref)
    comparisons = judged.read()
    wanted, counts = preferences(read_jsonl(rationales / "thoughts.jsonl", Thought), _labels(comparisons))
    before = Path(start.ref.place)
    counts = json.loads((before.parent / "counts.json").read_text()) | counts
    if not wanted:
        shutil.copytree(before, out / "model")
        (out / "counts.json").write_text(json.dumps(counts, indent=1))
        shutil.copy(before.parent / "curves.json", out / "curves.json")
        return
    rows = [preferred(tokenizer, comparisons[row.right.pair_id], row, judged.asking) for row in wanted]
    config = DPOConfig(
        beta=settings.beta, max_length=None, **pass_arguments(work, out, start, settings, seed, section="reward")
    )
    network = load_causal(start.ref, start.learning_dtype, work.device, train=True)
    trainer = SoftDPOTrainer(network, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    spare(work, trainer, start.ref)
    columns = {"loss": "loss", "accuracy": "accuracy", "margin": "margin", "entropy": "entropy"}
    fit(trainer, "prefer rationales", out, tokenizer, columns, counts, section="reward")


def _labels(comparisons: Mapping[str, Comparison]) -> dict[str, float]:
    return {pair_id: comparison.p_a for pair_id, comparison in comparisons.items()}


def nothing_right(counts: dict[str, int], settings: RationaleTraining) -> UserError:
    """Why there is nothing to learn from."""
    pairs, drawn = counts["training pairs labelled"], counts["rationales drawn"]
    if not drawn:
        problem = f"none of {pairs} labelled training pairs fits: question, rationale and verdict are longer than "
        return UserError(
            f"{problem}{settings.max_length} tokens", "reward.max_length", "raise it, or give shorter pairs"
        )
    problem = f"none of {drawn} rationales led to the right verdict ({counts['rationales that cannot be read']} cannot "
    remedy = "raise reward.draws or reward.rationale_tokens, lower reward.min_mass, or take a larger model"
    return UserError(f"{problem}be read)", "reward", remedy)
