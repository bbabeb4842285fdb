"""A killed PPO run goes on from its last checkpoint and ends, bit for bit, as the run that was not killed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_ppo import adapter, trainer, weights
from test_score import tiny_reward_model
from transformers import TrainerCallback
from trl.trainer.utils import RepeatSampler

from cai.core.errors import UserError
from cai.train.checkpoints import COMPLETE, last_checkpoint, state_of
from cai.train.rl.ppo import PPOTrainer
from cai.train.rl.rollouts import WholeRun


class KilledAt(TrainerCallback):
    """Stops dead in the middle of a run, before the update of that number."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **_) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


class SaveAt(TrainerCallback):
    """Asks for a checkpoint after one update."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **_) -> None:
        control.should_save = state.global_step == self.step


def log(trainer) -> list[dict]:
    """All that was logged, without the times."""
    rows = [{k: v for k, v in row.items() if "time" not in k and "per_second" not in k} for row in history(trainer)]
    assert rows
    return rows


def history(trainer) -> list[dict]:
    return [row for row in trainer.state.log_history if "reward" in row]


# 12 prompts and 4 a rollout: 7 rollouts are two and a third passes, so the last falls into the third order.
OPTIONS = {"rollouts": 7, "temperature": 1.3, "warmup_steps": 3}
SAVING = {"save_strategy": "steps", "save_steps": 1}
TWO_UPDATES = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "generation_batch_size": 8}


@pytest.mark.parametrize(
    ("killed_at", "goes_on_from", "options"),
    [
        (3, 2, {}),  # between the two updates of the second rollout
        (6, 6, {}),  # at the start of the second pass over the prompts
        (11, 10, {"num_ppo_epochs": 2, **TWO_UPDATES}),
        (19, 18, {"num_ppo_epochs": 3, "lora": True}),  # in the third pass
        (9, 8, {"critic": 3, "critic_learning_rate": 1e-3}),
        (5, 4, {"kl_target": 0.3, "kl_horizon": 8, "kl_stop": 1e-3, "whiten_rewards": True}),
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, killed_at, goes_on_from, options):
    options = OPTIONS | options
    peft, critic = {"peft_config": adapter()} if options.pop("lora", False) else {}, options.pop("critic", None)

    def make(name: str, callbacks=None, **more) -> PPOTrainer:
        given = peft | ({} if critic is None else {"value_model": tiny_reward_model(critic)})
        return trainer(tmp_path / name, callbacks=callbacks, **given, **options, **more)

    whole = make("whole")  # which saves nothing
    whole.train()

    killed = make("killed", [KilledAt(killed_at)], **SAVING)
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    assert last_checkpoint(tmp_path / "killed") == tmp_path / f"killed/checkpoint-{goes_on_from}"
    resumed = make("killed", **SAVING)
    resumed.train(resume_from_checkpoint=True)

    assert resumed.state.global_step == whole.state.global_step
    assert log(resumed) == log(whole) and len(log(whole)) == 7
    assert (len({row["kl_coef"] for row in log(whole)}) > 1) == ("kl_target" in options)
    ours = weights(resumed)
    assert [name for name, tensor in weights(whole).items() if not torch.equal(tensor, ours[name])] == []
    states = [t.optimizer.state_dict()["state"] for t in (whole, resumed)]
    assert all(torch.equal(states[0][i]["exp_avg_sq"], states[1][i]["exp_avg_sq"]) for i in states[0])


def test_a_trainer_that_was_interrupted_can_go_on_itself(tmp_path):
    whole = trainer(tmp_path / "whole", **OPTIONS)
    whole.train()
    killer = KilledAt(5)
    killed = trainer(tmp_path / "killed", callbacks=[killer], **OPTIONS, **SAVING)
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    killer.step = -1
    killed.train(resume_from_checkpoint=True)
    assert log(killed) == log(whole)


def test_a_checkpoint_waits_for_the_end_of_its_rollout(tmp_path):
    taught = trainer(tmp_path, rollouts=3, num_ppo_epochs=4, callbacks=[SaveAt(5)])
    taught.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-8"]


def test_a_checkpoint_that_was_being_written_is_passed_over(tmp_path):
    options = {"rollouts": 3, "save_strategy": "steps", "save_steps": 2}
    trainer(tmp_path, **options).train()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-6"
    (tmp_path / "checkpoint-6" / COMPLETE).unlink()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    with pytest.raises(UserError, match="not complete"):
        trainer(tmp_path, **options).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))


def flip(file: Path) -> None:
    """One bit in the middle; the size and the time stay."""
    raw, status = bytearray(file.read_bytes()), file.stat()
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_checkpoint_that_was_damaged_is_passed_over_and_the_one_before_gone_on_from(tmp_path):
    """Each of its files with a flipped bit, cut, empty or gone: never the damage, never a traceback."""
    options = {"rollouts": 3, "save_strategy": "steps", "save_steps": 2}
    whole = trainer(tmp_path / "whole", **options)
    whole.train()
    damages: dict[str, Callable[[Path], object]] = {
        "flipped": flip, "cut": cut, "empty": lambda file: file.write_bytes(b""), "gone": Path.unlink,
        "nested": lambda file: file.write_text("[" * 100_000), "a folder": lambda file: (file.unlink(), file.mkdir()),
    }  # fmt: skip
    names = sorted(file.name for file in (tmp_path / "whole" / "checkpoint-6").iterdir())
    assert len(names) >= 9 and COMPLETE in names
    for name in names:
        for kind, damage in damages.items():
            if name == COMPLETE and kind == "flipped":
                continue  # what it still says may be true
            copy = tmp_path / "copy"
            shutil.copytree(tmp_path / "whole", copy)
            damage(copy / "checkpoint-6" / name)
            assert last_checkpoint(copy) == copy / "checkpoint-4", (name, kind)
            shutil.rmtree(copy)
    flip(tmp_path / "whole" / "checkpoint-6" / "model.safetensors")
    again = trainer(tmp_path / "whole", **options)
    again.train(resume_from_checkpoint=True)
    ours = weights(again)
    assert log(again) == log(whole) and all(torch.equal(ours[name], w) for name, w in weights(whole).items())


def test_a_checkpoint_of_an_older_version_is_gone_on_from(tmp_path):
    """It had sizes and no sums; before that it had the state alone."""
    trainer(tmp_path, rollouts=3, save_strategy="steps", save_steps=2).train()
    file = tmp_path / "checkpoint-6" / COMPLETE
    said = json.loads(file.read_text())
    sizes = {name: size for name, (size, _) in said["files"].items()}
    file.write_text(json.dumps(said | {"files": sizes}))
    assert state_of(tmp_path / "checkpoint-6") == said["state"]
    file.write_text(json.dumps(said | {"files": sizes | {"model.safetensors": 1}}))
    assert state_of(tmp_path / "checkpoint-6") is None
    file.write_text(json.dumps(said["state"]))
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-6"


def test_nothing_to_go_on_from_is_said(tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint"):
        trainer(tmp_path).train(resume_from_checkpoint=True)


def test_the_run_takes_pass_after_pass_each_in_an_order_of_its_own():
    # 5 prompts in twos: a pass is 4 of them, each twice, and each pair of prompts is handed out 3 times: 24 rows.
    sampler = WholeRun(RepeatSampler(range(5), 2, 2, 3, shuffle=True, seed=4), rows=72)
    rows = list(sampler)
    assert len(rows) == len(sampler) == 72, "three passes"
    assert rows == list(sampler), "asked again, it says the same"
    assert rows[:24] != rows[24:48] != rows[48:]
    assert all(rows[i : i + 4] == rows[i + 4 : i + 8] == rows[i + 8 : i + 12] for i in range(0, 72, 12))
    assert list(WholeRun(RepeatSampler(range(5), 2, 2, 3, shuffle=True, seed=4), rows=49)) == rows[:49]


def test_a_folder_without_checkpoints_has_no_last_one(tmp_path: Path):
    assert last_checkpoint(tmp_path) is None
