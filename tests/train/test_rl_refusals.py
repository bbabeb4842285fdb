"""What several processes cannot do with rollouts is said before it is done wrong."""

from types import SimpleNamespace
from typing import Any

import pytest

from cai.config.rl import Rl
from cai.config.runtime import Runtime
from cai.config.sections import Policy
from cai.core.errors import UserError
from cai.models.references import ModelRef
from cai.models.sharded import everyones, own_rows, shared_out
from cai.train.rl.online import rollout_arguments
from cai.train.rl.ppo import check_parts, keep_from_vllm
from cai.train.rl.rollouts import Rollouts
from cai.train.trainable import Trainable


def run_of(batch: int) -> Any:
    start = Trainable(ModelRef("m", "m", "d"), Policy(), "float32")
    return SimpleNamespace(settings=Rl(batch_size=batch), start=start, seed=0)


def told(tmp_path, batch: int, **runtime: Any) -> tuple[int, int]:
    work: Any = SimpleNamespace(runtime=Runtime(**runtime), device="cpu", root=tmp_path)
    told = rollout_arguments(work, tmp_path / "out", run_of(batch))
    assert told["generation_batch_size"] == batch, "of all processes"
    return told["per_device_train_batch_size"], told["gradient_accumulation_steps"]


@pytest.mark.parametrize(
    ("processes", "micro", "rows", "times"), [(1, None, 12, 1), (2, None, 6, 1), (2, 4, 3, 2), (3, 1, 1, 4)]
)
def test_a_rollout_is_shared_out(tmp_path, monkeypatch, processes, micro, rows, times):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    assert told(tmp_path, 12, micro_batch=micro) == (rows, times)


def test_unequal_shares_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match=r"3 processes cannot have equal shares of rl.batch_size: 8"):
        told(tmp_path, 8)


@pytest.mark.parametrize(
    ("deepspeed", "plugin", "problem"),
    [
        (True, None, "not tried under DeepSpeed"),
        (False, SimpleNamespace(fsdp_version=1, cpu_ram_efficient_loading=False), "version 2"),
        (False, SimpleNamespace(fsdp_version=2, cpu_ram_efficient_loading=True), "only the first process"),
        (False, SimpleNamespace(fsdp_version=2, cpu_ram_efficient_loading=False), ""),
        (False, None, ""),
    ],
)
def test_ways_to_hold_weights_that_are_refused(deepspeed, plugin, problem):
    state = SimpleNamespace(fsdp_plugin=plugin)
    trainer: Any = SimpleNamespace(is_deepspeed_enabled=deepspeed, accelerator=SimpleNamespace(state=state))
    if not problem:
        Rollouts.check_processes(trainer)
        return
    with pytest.raises(UserError, match=problem):
        Rollouts.check_processes(trainer)


def test_policies_in_parts_that_ppo_refuses():
    check_parts(True, None)
    for pads_left, value_model, problem in ((False, None, "reads padding"), (True, "path", "separate critic")):
        with pytest.raises(UserError, match=problem):
            check_parts(pads_left, value_model)


def test_parts_by_hand(monkeypatch):
    """Seven rows in three processes: 2, 2 and 3; of two rows the third process has the first as well."""
    assert everyones([1, 2]) == [1, 2] and own_rows([4, 5]) == [4, 5], "one process has all"
    assert shared_out([], list) == []
    parts = []
    for rank in range(3):
        monkeypatch.setattr("cai.models.sharded.place", lambda rank=rank: (rank, 3))
        monkeypatch.setattr("cai.models.sharded.everyones", list)
        parts.append((shared_out(range(7), list), own_rows(range(7)), own_rows([8, 9])))
    assert [part[0] for part in parts] == [[0, 1], [2, 3], [4, 5, 6]]
    assert [part[1] for part in parts] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [part[2] for part in parts] == [[8], [9], [8]]


def test_vllm_is_given_no_critic():
    weights = {"model.norm.weight": 1, "value_head.linear.weight": 2, "model.value_head_of_its_own": 3}
    generation = SimpleNamespace(_iter_named_params=lambda: iter(weights.items()))
    keep_from_vllm(generation)
    assert [dict(generation._iter_named_params()) for _ in range(2)] == [
        {"model.norm.weight": 1, "model.value_head_of_its_own": 3}
    ] * 2
