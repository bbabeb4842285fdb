"""PPO, RLOO and GRPO in two processes (gloo, CPU), plain and in parts (FSDP2): they do what one process does, are of
one mind, and resume bit for bit. And in one process: micro-batches and checkpointing change nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import rl_ranks
import torch
from rl_ranks import RUNS, made, seen
from safetensors.torch import load_file

pytestmark = pytest.mark.slow


def ran(folder: Path, *arguments: str) -> None:
    """Two processes with these arguments, which find no fault."""
    path = os.pathsep.join(sys.path)  # where the tests find one another
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if line.startswith("[rank"))[
        -4000:
    ]


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def two(request, tmp_path_factory) -> Path:
    """The folder in which two processes have made all runs."""
    folder = tmp_path_factory.mktemp(request.param)
    rl_ranks.base(folder)
    ran(folder, rl_ranks.__file__, str(folder), request.param)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> dict:
    """What one process comes to, by run."""
    folder, ends = tmp_path_factory.mktemp("one"), {}
    base = rl_ranks.base(folder)
    for name in RUNS:
        trainer, watch = made(folder, name, base, processes=1)
        trainer.train()
        ends[name] = seen(trainer, watch, name.partition("-")[0])
    return ends


def alike(ours: dict, theirs: dict) -> None:
    """Within rounding; and the policy has gone a thousand times as far."""
    for name, values in theirs["curves"].items():
        assert len(values) == 4
        assert ours["curves"][name] == pytest.approx(values, abs=2e-5), name
    assert ours["answers"] == theirs["answers"]
    for look, other in zip(ours["looks"], theirs["looks"], strict=True):
        assert look["texts"] == other["texts"]
        for name in ("kls", "proxies", "golds"):
            assert look[name] == pytest.approx(other[name], abs=2e-5), name
    weights = theirs["weights"]
    assert ours["weights"].keys() == weights.keys()
    assert max((ours["weights"][name] - weight).abs().max().item() for name, weight in weights.items()) < 3e-5


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_do_what_one_does_and_resume(two, one, name):
    alike(torch.load(two / name / "end.pt"), one[name])
    assert max(look["kl"] for look in one[name]["looks"]) > 1e-3, "the reference is not the policy"
    if name.startswith("ppo"):
        assert 0 < sum(one[name]["curves"]["early_stop"]) < 2.5, "it stops now and then"


@pytest.mark.parametrize("name", ["ppo-lora", "ppo-full"])
def test_what_two_processes_save_is_whole(two, name):
    end = torch.load(two / name / "end.pt")["weights"]
    file = "adapter_model.safetensors" if name == "ppo-lora" else "model.safetensors"
    for folder in ("saved", "left-0/model"):
        saved = load_file(two / name / folder / file)
        assert saved and not [weight for weight in saved if "value_head" in weight]
        for weight, tensor in saved.items():
            assert torch.equal(
                tensor,
                end[weight.replace(".weight", ".default.weight") if "lora" in file or name == "ppo-lora" else weight],
            )
    critic = load_file(two / name / "saved" / "value_head.safetensors")
    for weight, tensor in critic.items():
        assert torch.equal(tensor, next(w for n, w in end.items() if n.endswith(f"value_head.{weight}")))
    assert not (two / name / "left-1" / "model").exists(), "one process writes"
    assert (two / name / "left-0" / "snapshots" / "1").is_dir()


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("how", [{"parts": 2}, {"activation_checkpointing": True}])
def test_micro_batches_and_checkpointing_change_nothing(tmp_path, one, name, how):
    trainer, watch = made(tmp_path, name, rl_ranks.base(tmp_path), processes=1, **how)
    trainer.train()
    alike(seen(trainer, watch, name.partition("-")[0]), one[name])
    assert trainer.args.gradient_accumulation_steps == (2 if name == "ppo-full" else 1) * how.get("parts", 1)
