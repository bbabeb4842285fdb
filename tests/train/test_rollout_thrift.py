"""What a rollout need not compute: a prompt again for each of its answers, and the first forward of an update where it
was the evaluation's. It comes out as where it does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_ppo import adapter, curve, trainer, weights
from test_score import tiny_reward_model

from cai.train.rl.ppo import PPOTrainer


def forwards_of_training(taught: PPOTrainer) -> list[bool]:
    """Of each forward with which rollouts are learnt from: whether for gradients. Trains."""
    kept: list[bool] = []
    own = taught._forward
    taught._forward = lambda *args, **kwargs: kept.append(torch.is_grad_enabled()) or own(*args, **kwargs)
    taught.train()
    return kept


@pytest.mark.parametrize("how", ["full", "adapter", "separate critic"])
def test_the_first_update_goes_on_from_the_evaluation(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(name: str) -> PPOTrainer:
        critic = tiny_reward_model(3) if how == "separate critic" else None
        peft = adapter() if how == "adapter" else None
        return trainer(tmp_path / name, peft_config=peft, value_model=critic, rollouts=3)

    sparing = made("sparing")
    # Reference, policy, and the second epoch.
    assert forwards_of_training(sparing) == [False, True, True] * 3
    assert sparing._first is None, "no graph is held beyond the update"
    again = made("again")
    evaluate = PPOTrainer._evaluate_rollout

    def forgetful(self: PPOTrainer, rollout: Any) -> Any:
        known = evaluate(self, rollout)
        self._first = None
        return known

    monkeypatch.setattr(PPOTrainer, "_evaluate_rollout", forgetful)
    assert forwards_of_training(again) == [False, True, True, True] * 3
    first = weights(made("new"))
    moved = 0.0
    for name, tensor in weights(again).items():
        assert torch.allclose(weights(sparing)[name], tensor, atol=1e-4), name
        moved = max(moved, float((tensor - first[name]).abs().max()))
    assert moved > 1e-2
    for name in ("reward", "kl", "entropy", "policy_loss", "value_loss", "grad_norm"):
        assert curve(sparing, name) == pytest.approx(curve(again, name), abs=1e-4), name


def test_minibatches_are_read_anew(tmp_path: Path) -> None:
    """Two of four answers: each is evaluated without gradients, by both models, and learnt from twice."""
    taught = trainer(tmp_path, rollouts=1, per_device_train_batch_size=4, generation_batch_size=8)
    assert forwards_of_training(taught) == [False] * 4 + [True] * 4


def test_an_evaluation_on_the_way_keeps_nothing(tmp_path: Path) -> None:
    taught = trainer(tmp_path, rollouts=1)
    prompts, answers = [[1, 6, 4], [1, 6, 4, 12, 13]], [[8, 2], [9, 14, 2]]
    taught.model.train()
    taught._evaluate_rollout(taught._padded("prompt", prompts, "left") | taught._padded("completion", answers, "right"))
    assert taught._first is None


def test_a_prompt_is_read_once_for_its_answers(tmp_path: Path) -> None:
    """Eight answers to four prompts, six tokens each: the first forward has four rows, and five have eight."""
    taught = trainer(tmp_path, rollouts=1)
    rows = []
    taught._draw([[1, 6, 4], [1, 6, 4]])  # what is tried is tried
    taught.network.get_decoder().register_forward_hook(lambda _, args, output: rows.append(output[0].shape[0]))
    ids = [[1, 6, 4, 12], [1, 6, 4, 12], [1, 5], [1, 5], [9, 6, 4], [9, 6, 4], [1, 5, 8], [1, 5, 8]]
    taught.eos_token_ids = []
    answers = taught._draw(ids)
    assert rows == [4] + [8] * 5 and len({tuple(answer) for answer in answers}) == 8
