"""PPO, RLOO and GRPO in two processes (gloo, CPU), plain and in parts (FSDP2): they do what one process does, are of
one mind, and resume bit for bit. And in one process: micro-batches and checkpointing change nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rl_ranks
import rl_stage
import torch
from rl_ranks import RUNS, made, seen
from safetensors.torch import load_file

pytestmark = pytest.mark.slow


def ran(*arguments: str) -> None:
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
    ran(rl_ranks.__file__, str(folder), request.param)
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
    """Within rounding, of processors without AVX-512 too (4e-5); and the policy has gone hundreds of times as far."""
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
    assert max((ours["weights"][name] - weight).abs().max().item() for name, weight in weights.items()) < 1e-4


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_do_what_one_does_and_resume(two, one, name):
    alike(torch.load(two / name / "end.pt"), one[name])
    assert max(look["kl"] for look in one[name]["looks"]) > 1e-3, "the reference is not the policy"
    if name.startswith("ppo"):
        assert 0 < sum(one[name]["curves"]["early_stop"]) < 2.5, "it stops now and then"


@pytest.mark.parametrize("name", ["ppo-lora", "ppo-full"])
def test_what_two_processes_save_is_whole(two, name):
    """A policy without its critic, the critic beside it, and a policy on the way; written by one process."""
    end = {
        weight.replace(".default", ""): tensor
        for weight, tensor in torch.load(two / name / "end.pt")["weights"].items()
    }
    file = "adapter_model.safetensors" if name == "ppo-lora" else "model.safetensors"
    saved = load_file(two / name / "saved" / file)
    assert saved and not [weight for weight in saved if "value_head" in weight]
    assert all(torch.equal(tensor, end[weight]) for weight, tensor in saved.items())
    for weight, tensor in load_file(two / name / "saved" / "value_head.safetensors").items():
        assert torch.equal(
            tensor, next(other for known, other in end.items() if known.endswith(f"value_head.{weight}"))
        )
    on_the_way = load_file(two / name / "left-0" / "snapshots" / "1" / file)
    assert on_the_way.keys() == saved.keys()
    assert any(not torch.equal(tensor, saved[weight]) for weight, tensor in on_the_way.items())
    assert sorted(path.name for path in (two / name / "left-1").iterdir()) == ["gold.json", "warnings.json"]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("how", [{"parts": 2}, {"activation_checkpointing": True}])
def test_micro_batches_and_checkpointing_change_nothing(tmp_path, one, name, how):
    trainer, watch = made(tmp_path, name, rl_ranks.base(tmp_path), processes=1, **how)
    trainer.train()
    alike(seen(trainer, watch, name.partition("-")[0]), one[name])
    assert trainer.args.gradient_accumulation_steps == (2 if name == "ppo-full" else 1) * how.get("parts", 1)


# --- The stages


def close(ours: Any, theirs: Any, where: str = "") -> None:
    """The same but for rounding of numbers."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for name in theirs:
            close(ours[name], theirs[name], f"{where}/{name}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), where
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            close(*pair, f"{where}[{number}]")
    else:
        assert ours == (pytest.approx(theirs, rel=1e-4, abs=5e-5) if isinstance(theirs, float) else theirs), where


def alike_folders(ours: Path, theirs: Path) -> None:
    files = {path.relative_to(theirs) for path in theirs.rglob("*") if path.is_file()}
    assert files == {path.relative_to(ours) for path in ours.rglob("*") if path.is_file()}
    assert {Path("gold.json"), Path("curves.json"), Path("counts.json")} <= files
    for file in files:
        if file.suffix == ".safetensors":
            weights, others = load_file(ours / file), load_file(theirs / file)
            assert weights.keys() == others.keys()
            assert max((weights[name] - others[name]).abs().max().item() for name in others) < 3e-5, file
        elif file.suffix == ".json":
            close(json.loads((ours / file).read_text()), json.loads((theirs / file).read_text()), str(file))


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The folder in which one process has made the stages."""
    folder = tmp_path_factory.mktemp("stages")
    rl_stage.prepare(folder)
    for method in rl_stage.STAGES:
        rl_stage.run(folder, folder / "one" / f"{method}.partial", method)
    return folder


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_stage_in_two_processes_leaves_what_it_leaves_in_one(alone, tmp_path, kind):
    for method in rl_stage.STAGES:
        ran(rl_stage.__file__, str(alone), kind, str(tmp_path), method)
        alike_folders(tmp_path / "two-0" / f"{method}.partial", alone / "one" / f"{method}.partial")
        assert not list(tmp_path.glob("two-1/*.unfinished")), "one folder of checkpoints"


@pytest.mark.parametrize("method", rl_stage.STAGES)
def test_a_stage_in_micro_batches_leaves_the_same(alone, method):
    """Of 8 answers 3 at most, which is 2."""
    out = alone / "micro" / f"{method}.partial"
    rl_stage.run(alone, out, method, micro_batch=3, checkpointing=True)
    alike_folders(out, alone / "one" / f"{method}.partial")
