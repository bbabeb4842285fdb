"""What all trainers have in common: one device a process, and a rate above 0 however few steps there are."""

from pathlib import Path

import pytest
import torch
from test_reward_trainer import CHATS, config, rows, tiny_reward_model, tiny_tokenizer, trainer

from cai.train.own_trainer import OwnTrainer
from cai.train.reward_trainer import SoftRewardTrainer
from cai.train.rl.groups import ResumableRLOO
from cai.train.sealed_trainer import SealedTrainer

WARM = {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 3, "learning_rate": 0.3}
LABELS = [1.0] * (len(CHATS) // 2)


@pytest.mark.parametrize(
    ("steps", "rates"), [(1, [0.3]), (2, [0, 0.1]), (3, [0, 0.1, 0.2]), (6, [0, 0.1, 0.2, 0.3, 0.3, 0.3])]
)
def test_a_single_step_has_the_whole_rate_and_longer_trainings_are_warmed_up(
    tmp_path: Path, steps: int, rates: list[float]
) -> None:
    made = trainer(tmp_path, LABELS, **WARM)
    optimizer = made.create_optimizer()
    schedule, seen = made.create_scheduler(steps), []
    for _ in range(steps):
        seen.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx(rates)


@pytest.mark.parametrize("schedule", ["constant_with_warmup", "linear"])
def test_a_training_of_one_step_learns(tmp_path: Path, schedule: str) -> None:
    made = trainer(tmp_path, LABELS, **WARM | {"max_steps": 1, "lr_scheduler_type": schedule})
    before = made.model.score.weight.detach().clone()
    made.train()
    assert not torch.equal(made.model.score.weight, before)


def test_a_second_card_makes_no_batch_larger(tmp_path: Path) -> None:
    """transformers would read 3 rows on each, 6 a step."""
    arguments = config(tmp_path)
    arguments._n_gpu = 2
    made = SoftRewardTrainer(
        model=tiny_reward_model(), args=arguments, train_dataset=rows(LABELS), processing_class=tiny_tokenizer()
    )
    assert (made.args.n_gpu, made._train_batch_size) == (1, 3)
    assert made._wrap_model(made.model) is made.model


def test_packages_are_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer(tmp_path / "first", LABELS, max_steps=1).train()
    monkeypatch.setattr("importlib.metadata.metadata", lambda name: pytest.fail(f"{name} is looked for again"))
    trainer(tmp_path / "second", LABELS, max_steps=2).train()


def test_it_comes_before_transformers_trainer_in_all() -> None:
    for kind in (SoftRewardTrainer, SealedTrainer, ResumableRLOO):
        names = [base.__name__ for base in kind.__mro__]
        assert issubclass(kind, OwnTrainer) and names.index("OwnTrainer") < names.index("Trainer")
