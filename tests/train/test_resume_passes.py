"""Trainings over rows go on from their last checkpoint: a stage that was killed at any step leaves the same bytes.

DPO, SFT, the reward model and the harmfulness model pass over rows (cai/train/common.py: `fit`), on adapters and whole
weights. Online methods: test_resume.py (PPO), test_online_dpo.py, test_resume_groups.py; pretraining: test_pretrain.py.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, DataLoaderShard, SeedableRandomSampler, skip_first_batches
from test_harm import ratings
from test_same_bytes import given  # noqa: F401
from torch.utils.data import BatchSampler

from cai.config.runtime import Runtime
from cai.config.sections import Harmfulness, Policy, Reward, Sft
from cai.core.store import Artifact, Store
from cai.models.workbench import Workbench
from cai.train import common
from cai.train.checkpoints import COMPLETE, last_checkpoint
from cai.train.harm import train_harm
from cai.train.reward import train_reward
from cai.train.rl.methods.dpo import DpoSettings, train_dpo
from cai.train.sft import Everyday, train_sft
from cai.train.trainable import Trainable


class Killed(common.Bar):
    """Stops dead after a step. copies: where the folder as a kill after each step would leave it is copied to."""

    at = 0
    copies: Path | None = None

    def on_step_end(self, args, state, control, **more):
        super().on_step_end(args, state, control, **more)
        before = state.global_step - 1  # what `Saves` asked for after this step was written
        if self.copies and before:
            shutil.copytree(self.copies / "killed", self.copies / str(before))
        if before == self.at:
            raise KeyboardInterrupt


def made(root: Path, function: Any, inputs: dict[str, Any], **runtime: Any) -> Artifact:
    work = Workbench.open(Runtime(root=str(root), device="cpu", **runtime))
    return Store(root).stage(function, runtime=work, **inputs)


def killed(
    root: Path, step: int, function: Any, inputs: dict[str, Any], copies: Path | None = None, **runtime: Any
) -> None:
    """Killed in the step after `step`, with a checkpoint a step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "Bar", Killed)
        patch.setattr(Killed, "at", step)
        patch.setattr(Killed, "copies", copies)
        patch.setattr(common, "OFTEN", 0.0)
        torch.rand(3)
        with pytest.raises(KeyboardInterrupt):
            made(root, function, inputs, **runtime)
    assert unfinished(root)[1] == f"checkpoint-{step}"


def unfinished(root: Path) -> tuple[Path, str]:
    """The folder of a killed training's checkpoints, and the name of the last one."""
    (folder,) = (root / "store").glob("*.unfinished")
    last = last_checkpoint(folder)
    assert last is not None
    return folder, last.name


def same(ours: Artifact, theirs: Artifact) -> None:
    for file in sorted(ours.path.rglob("*")):
        if file.is_file() and file.name != "manifest.json":
            assert file.read_bytes() == (theirs / str(file.relative_to(ours.path))).read_bytes(), file.name
    assert ours.digest == theirs.digest


@pytest.fixture(scope="module")
def trainings(given, tiny, tmp_path_factory):  # noqa: F811
    """Stage -> its inputs, for adapters or whole weights. 8 rows in batches of 3 are 3 steps a pass, the last of 2."""
    rated = ratings(tmp_path_factory.mktemp("ratings") / "data")

    def of(training: str) -> dict[Any, dict[str, Any]]:
        policy = Policy(model="tiny-random", system=None, training=training, lora_rank=2)
        start = Trainable(tiny, policy, "float32")
        sft = replace(given["run"].start, policy=policy) if training == "lora" else start
        passes: dict[str, Any] = {"epochs": 2, "batch_size": 3}
        dpo = DpoSettings(**passes, learning_rate=1e-3, beta=0.1, max_length=500)
        return {
            train_dpo: {"labelled": given["labelled"], "start": sft, "settings": dpo, "seed": 3},
            train_sft: {
                "revisions": given["revisions"], "everyday": Everyday(given["helpful"], given["helpful"]),
                "start": start, "settings": Sft(**passes, helpful=0.1), "seed": 3,
            },
            train_reward: {
                "labelled": given["labelled"], "start": start, "settings": Reward(**passes), "seed": 3,
            },
            train_harm: {
                "ratings": rated, "start": start, "settings": Harmfulness(**passes), "seed": 3,
            },
        }  # fmt: skip

    return of


@pytest.mark.parametrize("training", ["lora", "full"])
@pytest.mark.parametrize("function", [train_dpo, train_sft, train_reward, train_harm])
def test_a_killed_training_goes_on_bit_for_bit(function, training, trainings, tmp_path):
    """Killed in the middle of the second pass, whose order is another than that of the first."""
    inputs = trainings(training)[function]
    whole = made(tmp_path / "whole", function, inputs)
    killed(tmp_path / "killed", 4, function, inputs)
    same(made(tmp_path / "killed", function, inputs), whole)
    assert [path.name for path in (tmp_path / "killed" / "store").iterdir()] == [whole.path.name], "nothing is left"


PARTS = {"micro_batch": 1}


@pytest.fixture(scope="module")
def dpo(trainings, tmp_path_factory) -> tuple[Path, Artifact]:
    """DPO that reads its steps in parts: folders called after the step after which it was killed, and the whole."""
    inputs, folder = trainings("lora")[train_dpo], tmp_path_factory.mktemp("dpo")
    killed(folder / "killed", 5, train_dpo, inputs, folder, **PARTS)
    return folder, made(folder / "whole", train_dpo, inputs, **PARTS)


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_dpo_goes_on_from_any_step(step, dpo, trainings):
    """Also from the last step of a pass, which has fewer rows, and where a step is read in parts."""
    folder, whole = dpo
    assert unfinished(folder / str(step))[1] == f"checkpoint-{step}"
    same(made(folder / str(step), train_dpo, trainings("lora")[train_dpo], **PARTS), whole)


def test_a_checkpoint_of_dpo_that_is_damaged_is_passed_over(dpo, trainings):
    folder, whole = dpo
    checkpoints, last = unfinished(folder / "4")
    assert last == "checkpoint-4" and not (checkpoints / last / "README.md").exists()
    (checkpoints / last / COMPLETE).unlink()
    assert last_checkpoint(checkpoints) == checkpoints / "checkpoint-3"
    same(made(folder / "4", train_dpo, trainings("lora")[train_dpo], **PARTS), whole)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_pass_that_is_gone_on_with_has_its_own_order(processes):
    """accelerate's loaders of 12 rows in batches of 2, gone on with in the second pass after its first batch."""

    def loader() -> Any:
        batches: Any = BatchSampler(SeedableRandomSampler(range(12), data_seed=3), 2, False)
        if processes > 1:
            batches = BatchSamplerShard(batches, num_processes=processes, process_index=0)
        return DataLoaderShard(list(range(12)), batch_sampler=batches)

    def rows(of: Any, epoch: int) -> list[list[int]]:
        of.set_epoch(epoch)
        return [batch.tolist() for batch in of]

    def begin(of: Any, epoch: float) -> None:
        common.Saves().on_epoch_begin(None, SimpleNamespace(epoch=epoch), None, train_dataloader=of)

    whole, killed, passes = loader(), loader(), []
    for epoch in range(2):
        begin(whole, float(epoch))
        passes.append(rows(whole, epoch))
    assert passes[0] != passes[1]
    begin(killed, 1 + processes / 6)
    assert rows(skip_first_batches(killed, 1), 1) == passes[1][1:]


def test_a_short_training_writes_no_checkpoint(trainings, tmp_path, monkeypatch):
    monkeypatch.setattr(common.Saves, "on_save", lambda *_, **__: pytest.fail("a checkpoint"))
    made(tmp_path, train_dpo, trainings("lora")[train_dpo])
