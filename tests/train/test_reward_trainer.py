"""The soft Bradley-Terry loss, by hand-computed numbers, and that no path falls back to hard labels."""

import math
from itertools import combinations

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from test_score import CHATS, tiny_reward_model, tiny_tokenizer
from trl import RewardConfig, RewardTrainer

from cai.models.score import render_scored, score
from cai.train.reward_trainer import (
    ElementCollator,
    SoftRewardTrainer,
    dataset_of,
    element,
    fitting,
    soft_bradley_terry,
)

torch.set_num_threads(1)


def rows(labels: list[float]) -> Dataset:
    """Pair i: CHATS[2i] against CHATS[2i + 1]."""
    ids = [render_scored(tiny_tokenizer(), one) for one in CHATS]
    return Dataset.from_list([element([pair]) for pair in zip(ids[::2], ids[1::2], labels, strict=True)])


def config(path, **options) -> RewardConfig:
    defaults = {"max_length": 99, "use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no"}
    defaults |= {"gradient_checkpointing": False, "disable_tqdm": True, "logging_steps": 1, "seed": 3}
    return RewardConfig(str(path), **defaults | {"per_device_train_batch_size": 3} | options)


def trainer(path, labels=(), data=None, **options):
    return SoftRewardTrainer(
        model=tiny_reward_model(),
        args=config(path, **options),
        train_dataset=data or rows(labels),
        processing_class=tiny_tokenizer(),
    )


def trls_own(path, **options):
    """TRL's RewardTrainer on the same pairs, whose labels are hard."""
    ids = [render_scored(tiny_tokenizer(), one) for one in CHATS]
    data = [{"chosen_ids": a, "rejected_ids": b} for a, b in zip(ids[::2], ids[1::2], strict=True)]
    return RewardTrainer(
        model=tiny_reward_model(),
        args=config(path, **options),
        train_dataset=Dataset.from_list(data),
        processing_class=tiny_tokenizer(),
    )


def first_loss(trainer) -> torch.Tensor:
    batch = next(iter(trainer.get_train_dataloader()))
    return trainer.compute_loss(trainer.model, batch)


def test_loss_by_hand():
    # d = ln 3: sigmoid(d) = 3/4. p = 0.6: -(0.6 ln 0.75 + 0.4 ln 0.25) = 0.1726 + 0.5545 = 0.7271.
    # d = 0: ln 2 = 0.6931 whatever p. Mean: 0.7101.
    loss = soft_bradley_terry(torch.tensor([math.log(3), 0.0]), torch.tensor([0.6, 0.9]), torch.tensor([0, 1])).mean()
    assert loss.item() == pytest.approx(0.7101, abs=1e-4)


def test_loss_stays_exact_far_from_zero():
    # p = 1 and a margin of -100: the loss is 100, not infinite.
    far = soft_bradley_terry(torch.tensor([-100.0]), torch.tensor([1.0]), torch.tensor([0]))
    assert far.item() == pytest.approx(100)


def test_an_even_label_pulls_equal_rewards_nowhere():
    margin = torch.zeros(2, requires_grad=True)
    soft_bradley_terry(margin, torch.tensor([0.5, 1.0]), torch.tensor([0, 1])).mean().backward()
    assert margin.grad.tolist() == pytest.approx([0.0, -0.25])  # -(1 - 1/2) / 2 rows for the certain label


def test_certain_labels_give_trls_own_loss(tmp_path):
    hard = trls_own(tmp_path)
    soft = trainer(tmp_path, [1.0, 1.0, 1.0])
    assert first_loss(soft).item() == pytest.approx(first_loss(hard).item(), abs=1e-6)


def test_pairs_with_certain_labels_train_bit_for_bit_as_trl_does(tmp_path):
    ours, theirs = trainer(tmp_path, [1.0] * 3, max_steps=4), trls_own(tmp_path, max_steps=4)
    ours.train()
    theirs.train()
    for name, weight in theirs.model.state_dict().items():
        assert torch.equal(weight, ours.model.state_dict()[name]), name


def test_the_loss_of_a_ranking_by_hand():
    # Rewards 2, 1, 0 ranked in that order: -log sigmoid(1), of d = 2, of d = 1 = 0.3133, 0.1269, 0.3133; mean 0.2512.
    # Beside it a pair at d = 0: 0.6931. The prompt with three comparisons weighs as much as the pair: 0.4721.
    margins = torch.tensor([1.0, 2.0, 1.0, 0.0])
    loss = soft_bradley_terry(margins, torch.tensor([1.0, 1.0, 1.0, 0.3]), torch.tensor([0, 0, 0, 1])).mean()
    assert loss.item() == pytest.approx(0.4721, abs=1e-4)


def test_an_element_holds_each_answer_once_and_knows_who_met_whom():
    row = element([([1], [2, 2], 1.0), ([3], [1], 0.5), ([2, 2], [3], 0.25)])
    assert row == {"answers": [[1], [2, 2], [3]], "first": [0, 2, 1], "second": [1, 0, 2], "p": [1.0, 0.5, 0.25]}
    # The answer [2, 2] is too long for one token: one comparison is left, and its answers are numbered anew.
    assert fitting(row, 1) == {"answers": [[3], [1]], "first": [0], "second": [1], "p": [0.5]}
    assert fitting(row, 0)["p"] == []


def test_a_batch_of_elements_of_different_sizes():
    batch = ElementCollator(0)([element([([5], [6], 0.9)]), element([([7], [8, 8], 1.0), ([8, 8], [9], 0.4)])])
    # First answers first, then second ones, then third ones.
    assert batch["input_ids"].tolist() == [[5, 0], [7, 0], [6, 0], [8, 8], [9, 0]]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 0], [1, 0], [1, 1], [1, 0]]
    assert batch["first"].tolist() == [0, 1, 3] and batch["second"].tolist() == [2, 3, 4]
    assert batch["element"].tolist() == [0, 1, 1] and batch["p"].tolist() == pytest.approx([0.9, 1.0, 0.4])


def test_a_ranking_in_one_element_gives_the_loss_of_its_pairs_with_half_the_forwards(tmp_path):
    """Four answers, six comparisons: twelve answers are read as pairs, four as one element."""
    ids = [render_scored(tiny_tokenizer(), one) for one in CHATS[:4]]
    pairs = [(ids[a], ids[b], 0.9) for a, b in combinations(range(4), 2)]
    losses, read = [], []
    for data in (Dataset.from_list([element([pair]) for pair in pairs]), Dataset.from_list([element(pairs)])):
        one = trainer(tmp_path, data=data, per_device_train_batch_size=6)
        one.model.register_forward_pre_hook(
            lambda module, args, kwargs: read.append(len(kwargs["input_ids"])), with_kwargs=True
        )
        loss = first_loss(one)
        loss.backward()
        losses.append((loss.item(), one.model.score.weight.grad))
        assert len(one._metrics["train"]["accuracy"]) == 6
    assert read == [12, 4]
    assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-6)
    assert torch.allclose(losses[0][1], losses[1][1], atol=1e-5)


def test_a_ranking_is_learnt(tmp_path):
    ids = [render_scored(tiny_tokenizer(), one) for one in CHATS[:3]]
    data = Dataset.from_list([element((ids[a], ids[b], 0.9) for a, b in combinations(range(3), 2))])
    taught = trainer(tmp_path, data=data, max_steps=40, learning_rate=1e-2, lr_scheduler_type="constant")
    taught.train()
    first, second, third = score(taught.model, tiny_tokenizer(), CHATS[:3], max_length=99, batch_tokens=999)
    assert first > second > third


def test_the_label_reaches_the_loss(tmp_path):
    """Through dataset, collator and trainer: p and 1 - p differ by the mean margin times (2p - 1)."""
    towards, against = (first_loss(trainer(tmp_path, [p] * 3)).item() for p in (0.9, 0.1))
    rewards = score(tiny_reward_model(), tiny_tokenizer(), CHATS, max_length=99, batch_tokens=999)
    margin = sum(rewards[::2]) / 3 - sum(rewards[1::2]) / 3
    assert against - towards == pytest.approx(0.8 * margin, abs=1e-4)


def test_forgetting_p_raises(tmp_path):
    with pytest.raises(AssertionError, match=r"lacks \['p'\]"):
        SoftRewardTrainer(
            model=tiny_reward_model(),
            args=config(tmp_path),
            train_dataset=rows([1.0, 1.0, 1.0]).remove_columns("p"),
            processing_class=tiny_tokenizer(),
        )
    whole = trainer(tmp_path, [1.0, 1.0, 1.0])
    batch = next(iter(whole.get_train_dataloader()))
    del batch["p"]
    with pytest.raises(AssertionError, match="lacks p"):
        whole.compute_loss(whole.model, batch)


def test_accuracy_is_agreement_with_the_labels_side(tmp_path):
    """Labels set by the model's own margins: one agrees, one disagrees, one has no side."""
    rewards = score(tiny_reward_model(), tiny_tokenizer(), CHATS, max_length=99, batch_tokens=999)
    margins = [a - b for a, b in zip(rewards[::2], rewards[1::2], strict=True)]
    labels = [0.8 if margins[0] > 0 else 0.2, 0.2 if margins[1] > 0 else 0.8, 0.5]
    judged = trainer(tmp_path, labels)
    first_loss(judged)
    assert sum(judged._metrics["train"]["accuracy"]) == 1 and len(judged._metrics["train"]["accuracy"]) == 2
    assert sum(judged._metrics["train"]["margin"]) == pytest.approx(abs(margins[0]) - abs(margins[1]), abs=1e-4)


def test_a_batch_of_even_labels_can_be_logged(tmp_path):
    even = trainer(tmp_path, [0.5] * 3, max_steps=2)
    even.train()
    assert all("accuracy" not in row for row in even.state.log_history)


def test_too_long_pairs_are_counted(tmp_path):
    # Pairs are of 12 and 21, 14 and 12, 16 and 13 tokens.
    assert trainer(tmp_path, [1.0, 1.0, 1.0], max_length=15).too_long == {"train": 2}


def test_training_agrees_with_score_and_learns_soft_labels(tmp_path):
    """Trained to the end, sigmoid(margin) under `score` is the label: soft labels are learnt as probabilities."""
    labels = [0.9, 0.3, 0.6]
    taught = trainer(tmp_path, labels, max_steps=60, learning_rate=1e-2, lr_scheduler_type="constant")
    taught.train()
    rewards = score(taught.model, tiny_tokenizer(), CHATS, max_length=99, batch_tokens=999)
    learnt = [1 / (1 + math.exp(b - a)) for a, b in zip(rewards[::2], rewards[1::2], strict=True)]
    assert learnt == pytest.approx(labels, abs=0.02)


def test_the_trainers_forward_equals_score(tmp_path):
    seen = trainer(tmp_path, [1.0, 1.0, 1.0])
    batch = seen.data_collator([seen.train_dataset[i] for i in range(3)])
    logits = seen.model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.squeeze(-1)
    rewards = score(tiny_reward_model(), tiny_tokenizer(), CHATS, max_length=99, batch_tokens=999)
    assert logits.tolist() == pytest.approx(rewards[::2] + rewards[1::2], abs=1e-4)


def test_an_adapter_under_a_frozen_head_is_refused(tmp_path):
    def with_adapter(adapter):
        return SoftRewardTrainer(
            model=tiny_reward_model(),
            args=config(tmp_path),
            train_dataset=rows([1.0, 1.0, 1.0]),
            processing_class=tiny_tokenizer(),
            peft_config=adapter,
        )

    with pytest.raises(AssertionError, match="SEQ_CLS"):
        with_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    good = with_adapter(LoraConfig(r=2, target_modules=["q_proj"], task_type="SEQ_CLS", modules_to_save=["score"]))
    trained = {name for name, parameter in good.model.named_parameters() if parameter.requires_grad}
    assert any("score.modules_to_save" in name for name in trained) and any("lora_B" in name for name in trained)


def test_a_dataset_made_in_blocks_has_the_rows_in_their_order(monkeypatch):
    monkeypatch.setattr("cai.train.reward_trainer.BLOCK", 2)
    rows = [element([([1, number], [2], 0.5)]) for number in range(5)]
    assert list(dataset_of(iter(rows))) == rows and not len(dataset_of([]))
