"""A reward model trained on soft preferences: TRL's RewardTrainer with the exact Bradley-Terry cross-entropy.

Where an AI judge answers "A, with probability 0.7", Constitutional AI (Bai et al. 2022, sections 4.1 and 4.3) trains on
the 0.7 rather than on "A". For a margin d = r(a) - r(b) and a label p = P(a better), the loss is

    -p log sigmoid(d) - (1 - p) log sigmoid(-d)

which is TRL's hard loss at p = 1, and has no gradient at d = 0 for p = 1/2.

A batch element is one prompt with K answers and the comparisons among them, at most K(K-1)/2 (Ouyang et al. 2022,
section 3.5): each answer goes through the model once, and the loss is the mean over the comparisons of an element, then
over the elements. Comparisons that are shuffled apart show the model each answer K-1 times an epoch, and the paper's
reward model overfitted to them in one. K = 2 is the pairwise case.

Departure from the papers: none in the loss. The labels are not clamped here to 40-60% (Bai et al. do so for
chain-of-thought labels); that belongs to labelling. The comparisons need not be all K(K-1)/2: those without a label, or
with an answer that is too long, are left out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset, concatenate_datasets
from peft import PeftConfig
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.utils import pad

from cai.train.common import Unpublished
from cai.train.own_trainer import OwnTrainer
from cai.train.shares import StepShares
from cai.train.still import without_dropout

COLUMNS = ("answers", "first", "second", "p")
BLOCK = 4096  # elements that are put into a dataset at once


def soft_bradley_terry(margin_C: Tensor, p_C: Tensor, element_C: Tensor) -> Tensor:
    """Cross-entropies (B,) between the labels p = P(a better) and sigmoid(r(a) - r(b)), in fp32.

    element_C: which batch element each of the C comparisons belongs to, from 0, none left out. The mean is over the
    comparisons of an element first, so that a prompt with many answers weighs no more than one with two.
    """
    margin_C, p_C = margin_C.float(), p_C.float()
    loss_C = -(p_C * logsigmoid(margin_C) + (1 - p_C) * logsigmoid(-margin_C))
    size_B = torch.bincount(element_C)
    return torch.zeros(len(size_B), device=loss_C.device).index_add(0, element_C, loss_C) / size_B


def element(comparisons: Iterable[tuple[list[int], list[int], float]]) -> dict[str, list]:
    """One batch element: a dataset row from the comparisons (ids of a, ids of b, P(a better)) of one prompt.

    answers: the token ids of each distinct answer, once. first, second: their places in it. p: P(first better).
    """
    places: dict[tuple[int, ...], int] = {}
    row: dict[str, list] = {"answers": [], "first": [], "second": [], "p": []}
    for a, b, p in comparisons:
        for ids, side in ((a, "first"), (b, "second")):
            place = places.setdefault(tuple(ids), len(places))
            row["answers"] += [ids] if place == len(row["answers"]) else []
            row[side].append(place)
        row["p"].append(p)
    return row


def fitting(row: dict[str, list], max_length: int | None) -> dict[str, list]:
    """The element without the comparisons that have an answer of more than `max_length` tokens; it may become empty."""
    answers = row["answers"]
    if max_length is None or all(len(ids) <= max_length for ids in answers):
        return row
    sides = zip(row["first"], row["second"], row["p"], strict=True)
    return element(
        (answers[a], answers[b], p) for a, b, p in sides if max(len(answers[a]), len(answers[b])) <= max_length
    )


def dataset_of(elements: Iterable[dict[str, list]]) -> Dataset:
    """The elements as a dataset, block by block: all of them as lists take several times its memory."""
    rest = iter(elements)
    blocks = [Dataset.from_list(some) for some in iter(lambda: list(islice(rest, BLOCK)), [])]
    return concatenate_datasets(blocks) if len(blocks) > 1 else blocks[0] if blocks else Dataset.from_list([])


def right_padded(rows: Iterable[Sequence[int]], padding: int) -> dict[str, Tensor]:
    """input_ids and attention_mask of token ids, in one batch."""
    ids = [torch.tensor(row) for row in rows]
    return {
        "input_ids": pad(ids, padding_value=padding, padding_side="right"),
        "attention_mask": pad([torch.ones_like(row) for row in ids], padding_value=0, padding_side="right"),
    }


@dataclass
class ElementCollator:
    """Elements -> one right-padded batch of all their answers, and the comparisons as places in that batch.

    The first answers of all elements stand first, then the second ones, and so on: of pairs, all a's and then all b's.
    """

    pad_token_id: int

    def __call__(self, elements: Sequence[dict[str, list]]) -> dict[str, Tensor]:
        order = sorted((k, i) for i, row in enumerate(elements) for k in range(len(row["answers"])))
        place = {(i, k): n for n, (k, i) in enumerate(order)}
        return {
            **right_padded((elements[i]["answers"][k] for k, i in order), self.pad_token_id),
            **{
                side: torch.tensor([place[i, k] for i, row in enumerate(elements) for k in row[side]])
                for side in ("first", "second")
            },
            "p": torch.tensor([p for row in elements for p in row["p"]], dtype=torch.float32),
            "element": torch.tensor([i for i, row in enumerate(elements) for _ in row["p"]]),
        }


class SoftRewardTrainer(Unpublished, OwnTrainer, StepShares, RewardTrainer):
    """RewardTrainer over rows of `element`: `per_device_train_batch_size` counts elements, each a prompt's answers.

    The ids of all answers come from `cai.models.score.render_scored`.

    Metrics differ from TRL's in two: `accuracy` is agreement with the label's side (p > 1/2 or p < 1/2; p == 1/2 has no
    side and is not counted) and `margin` is the reward of the preferred answer minus that of the other; both count each
    comparison once. `too_long` counts the comparisons that `max_length` removed, by dataset name: TRL removes them
    without a word.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: RewardConfig,
        *,
        processing_class: PreTrainedTokenizerBase,
        peft_config: PeftConfig | None = None,
        **kwargs: Any,
    ) -> None:
        padding, eos = processing_class.pad_token_id, processing_class.eos_token_id
        assert isinstance(padding, int) and padding != eos, (
            f"the padding token ({padding}) must exist and differ from eos ({eos})"
        )
        if peft_config is not None:  # any other task type trains an adapter below a frozen random head, unwarned
            assert peft_config.task_type == "SEQ_CLS" and "score" in (
                getattr(peft_config, "modules_to_save", ()) or ()
            ), 'a reward model by LoRA needs task_type="SEQ_CLS" and modules_to_save=["score"]'
        assert args.center_rewards_coefficient is None, "the loss here is cross-entropy alone"
        self.too_long: dict[str, int] = {}
        collator: Any = ElementCollator(padding)
        super().__init__(model, args, collator, processing_class=processing_class, peft_config=peft_config, **kwargs)
        if args.disable_dropout:
            without_dropout(self.accelerator.unwrap_model(self.model))

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        missing = [column for column in COLUMNS if column not in dataset.column_names]
        assert not missing, f"the {dataset_name} dataset lacks {missing}: without p, hard labels would be trained on"
        self.too_long[dataset_name] = 0
        for row in dataset:  # one at a time: all of them as lists are several times what the dataset holds
            assert all(0 <= p <= 1 for p in row["p"]), f"p must lie in [0, 1] ({dataset_name} dataset)"
            self.too_long[dataset_name] += len(row["p"]) - len(fitting(row, args.max_length)["p"])
        if not self.too_long[dataset_name]:
            return dataset
        kept = (fitting(row, args.max_length) for row in dataset)
        return dataset_of(row for row in kept if row["p"])

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            self._signature_columns = list(COLUMNS)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        assert "p" in inputs, "the batch lacks p: hard labels would be trained on"
        first_C, second_C, p_C, element_C = (inputs.pop(name) for name in ("first", "second", "p", "element"))
        real = inputs.pop("real", None)
        outputs = model(**inputs, use_cache=False)
        reward_A = outputs.logits.squeeze(-1).float()
        margin_C = reward_A[first_C] - reward_A[second_C]
        loss_B = soft_bradley_terry(margin_C, p_C, element_C)
        loss = self.mean_of(loss_B, real)
        mode = "train" if model.training else "eval"
        self._note(mode, reward_A.detach(), inputs["attention_mask"])
        sided_C = (p_C != 0.5) & (element_C < len(loss_B[:real]))
        self._note_margins(mode, (torch.sign(p_C - 0.5) * margin_C.detach())[sided_C])
        return (loss, outputs) if return_outputs else loss

    def _note(self, mode: str, reward_A: Tensor, mask_AT: Tensor) -> None:
        """TRL's metrics of this batch. Processes hold different numbers of answers: gathered as sums and extremes."""
        metrics = self._metrics[mode]
        sums = torch.stack([reward_A.sum(), reward_A.new_tensor(len(reward_A)), mask_AT.sum()])
        reward, answers, tokens = self.accelerator.reduce(sums.double(), "sum").tolist()
        low, high = self.accelerator.gather(torch.stack([reward_A.min(), reward_A.max()])[None]).unbind(-1)
        self._total_train_tokens += round(tokens) if mode == "train" else 0
        metrics["num_tokens"] = [self._total_train_tokens]
        for name, value in (("min_reward", low.min()), ("mean_reward", reward / answers), ("max_reward", high.max())):
            metrics[name].append(float(value))

    def _note_margins(self, mode: str, margin_C: Tensor) -> None:
        """One value a comparison that has a side, so that means are exact over processes and parts of a step."""
        metrics = self._metrics[mode]
        margins = gather_object(margin_C.tolist())
        if margins:  # an empty list has no mean
            metrics["accuracy"] += [float(margin > 0) for margin in margins]
            metrics["margin"] += margins
