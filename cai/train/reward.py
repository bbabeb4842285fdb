"""The reward model: Bradley-Terry on the labels' soft probabilities (Ouyang et al. 2022, section 3.5).

It sees comparisons and nothing of where their labels came from, so human and AI labels take this one path.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai.config.sections import Policy, Reward
from cai.core.errors import UserError
from cai.core.records import Comparison
from cai.core.store import version
from cai.models.chat import answered
from cai.models.loading import load_tokenizer
from cai.models.workbench import Workbench
from cai.train.launch import launched
from cai.train.starting import load_to_train
from cai.train.trainable import Labelled, Trainable


@launched
@version(3)
def train_reward(
    out: Path, work: Workbench, *, labelled: Labelled, start: Trainable, settings: Reward, seed: int
) -> None:
    """model/ (the reward model), curves.json and counts.json, from the training pairs that have a label.

    A reward model of a later round is trained anew on the labels of all rounds so far.
    """
    from trl import RewardConfig  # heavy: only when there is something to train

    from cai.train.common import fit, pass_arguments
    from cai.train.reward_trainer import SoftRewardTrainer, dataset_of, fitting
    from cai.train.thrift import spare

    work.release()
    tokenizer = load_tokenizer(start.ref)
    comparisons = labelled.comparisons(settings.subsets)
    rows = (fitting(row, settings.max_length) for row in elements(comparisons, tokenizer, start.policy, settings))
    data = dataset_of(row for row in rows if row["p"])
    if not len(data):
        raise UserError(
            f"none of {len(comparisons)} labelled training pairs is left to train the reward model on",
            "reward",
            f"raise reward.max_length ({settings.max_length} tokens), or give more pairs",
        )
    counts = {
        "training pairs labelled": len(comparisons),
        "dropped: longer than reward.max_length": len(comparisons) - sum(map(len, data["p"])),
    }
    if settings.group == "prompt":
        counts |= {"prompts, each one batch element": len(data), "answers read": sum(map(len, data["answers"]))}
    del comparisons  # the dataset has what is learnt, in a tenth of the memory

    network, adapter = load_to_train(start, work.device, reward=True)
    config = RewardConfig(
        max_length=settings.max_length,
        **pass_arguments(work, out, start, settings, seed, section="reward"),
    )
    trainer = SoftRewardTrainer(
        model=network, args=config, train_dataset=data, processing_class=tokenizer, peft_config=adapter
    )
    spare(work, trainer, start.ref)
    columns = {"loss": "loss", "accuracy": "accuracy", "margin": "margin"}
    fit(trainer, "train the reward model", out, tokenizer, columns, counts, section="reward")


def elements(
    comparisons: list[Comparison], tokenizer: Any, policy: Policy, settings: Reward
) -> Iterator[dict[str, list]]:
    """Rows for `SoftRewardTrainer`, in the order of the comparisons: one for each, or one for each prompt."""
    from cai.models.score import render_all_scored
    from cai.train.reward_trainer import element

    groups: dict[Any, list[Comparison]] = {}
    for number, comparison in enumerate(comparisons):
        groups.setdefault(comparison.pair.prompt.id if settings.group == "prompt" else number, []).append(comparison)
    pairs = (comparison.pair for group in groups.values() for comparison in group)
    chats = (answered(pair.prompt.messages, text, policy.system) for pair in pairs for text in (pair.a, pair.b))
    ids = render_all_scored(tokenizer, chats)
    for group in groups.values():
        yield element((next(ids), next(ids), comparison.p_a) for comparison in group)
