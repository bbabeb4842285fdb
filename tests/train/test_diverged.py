"""A training that diverges is stopped with its key, and leaves nothing that a later run would take for a result."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_same_bytes import RL, given  # noqa: F401 (a fixture)

from cai.config.runtime import Runtime
from cai.config.sections import Reward, Sft
from cai.core.errors import UserError
from cai.core.store import Store
from cai.models.references import trained
from cai.models.workbench import Workbench
from cai.train.reward import train_reward
from cai.train.rl.given import RewardModel
from cai.train.rl.methods.dpo import DpoSettings, train_dpo
from cai.train.rl.methods.grpo import train_grpo
from cai.train.rl.methods.ppo import train_ppo
from cai.train.rl.methods.rloo import train_rloo
from cai.train.sft import Everyday, train_sft

RATE = 1e30


def sft(made: dict[str, Any]) -> tuple[Callable[..., None], dict[str, Any]]:
    settings = Sft(batch_size=2, learning_rate=RATE)
    return train_sft, {
        "revisions": made["revisions"], "everyday": Everyday(), "start": made["start"], "settings": settings, "seed": 3,
    }  # fmt: skip


def reward(made: dict[str, Any]) -> tuple[Callable[..., None], dict[str, Any]]:
    settings = Reward(batch_size=2, learning_rate=RATE)
    return train_reward, {"labelled": made["labelled"], "start": made["start"], "settings": settings, "seed": 3}


def dpo(made: dict[str, Any]) -> tuple[Callable[..., None], dict[str, Any]]:
    settings = DpoSettings(epochs=1, batch_size=2, learning_rate=RATE, beta=0.1, max_length=500)
    return train_dpo, {"labelled": made["labelled"], "start": made["run"].start, "settings": settings, "seed": 3}


def against(method: Callable[..., None]) -> Callable[[dict[str, Any]], tuple[Callable[..., None], dict[str, Any]]]:
    def told(made: dict[str, Any]) -> tuple[Callable[..., None], dict[str, Any]]:
        run = replace(made["run"], settings=RL.model_copy(update={"learning_rate": RATE, "steps": 3}))
        return method, {"run": run, "reward": RewardModel(trained(made["reward"], "reward"), 500)}

    return told


@pytest.mark.parametrize(
    ("case", "section"),
    [
        (sft, "sft"), (reward, "reward"), (dpo, "rl"),
        (against(train_ppo), "rl"), (against(train_rloo), "rl"), (against(train_grpo), "rl"),
    ],
    ids=["sft", "reward", "dpo", "ppo", "rloo", "grpo"],
)  # fmt: skip
def test_it_is_stopped_and_nothing_of_it_is_kept(
    tmp_path: Path,
    given: dict[str, Any],  # noqa: F811
    case: Callable[..., Any],
    section: str,
) -> None:
    stage, inputs = case(given)
    work = Workbench.open(Runtime(root=str(tmp_path), device="cpu"))
    store = Store(work.root)
    for _ in range(2):  # and again, from what an interrupted run leaves
        with pytest.raises(UserError) as refused:
            store.stage(stage, runtime=work, **inputs)
        error = str(refused.value)
        assert f"{section}.learning_rate" in error and "diverged" in error and "it is 1e+30" in error, error
    assert not list(tmp_path.rglob("manifest.json"))
