"""Stages that train in two processes on the CPU, through accelerate's launcher: as in one, and when a process dies."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.data_loader import BatchSamplerShard
from safetensors.torch import load_file
from test_harm import ratings
from test_stages import artifact, prompt
from torch.utils.data import BatchSampler
from transformers import Trainer

from cai.config.load import read_experiment
from cai.config.runtime import Runtime
from cai.config.sections import Harmfulness, Policy, Reward, Sft
from cai.core.errors import UserError, UserErrors
from cai.core.records import Label, Pair, Revision
from cai.core.store import Artifact, Store
from cai.experiment.checks import check
from cai.experiment.command import main
from cai.models.references import trained
from cai.models.workbench import Workbench
from cai.train.harm import train_harm
from cai.train.launch import check_ranks, refuse_bare_ranks
from cai.train.reward import train_reward
from cai.train.rl.methods.dpo import DpoSettings, train_dpo
from cai.train.sft import Everyday, train_sft
from cai.train.shares import StepShares, split
from cai.train.trainable import Labelled, Trainable

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
STAGES = {"sft": train_sft, "reward": train_reward, "dpo": train_dpo, "harm": train_harm}


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The inputs of each stage. 11 rows in batches of 4: the last has 3, of which two processes have 2 and 1, or 1
    and none where they read one at a time. Answers and prompts are of many lengths."""
    folder = tmp_path_factory.mktemp("given")
    prompts = [prompt(str(n), text="Why? " * (n % 4 + 1)) for n in range(11)]
    pairs = [Pair(p.id, p, f"A long answer {p.id}." * (n % 3 + 1), "No.", 1.0) for n, p in enumerate(prompts)]
    labels = [Label(p.id, (0.9, 0.5, 0.2)[n % 3], "ai") for n, p in enumerate(prompts)]
    labelled = Labelled((artifact(folder / "pairs", pairs=pairs),), (artifact(folder / "labels", labels=labels),))
    revisions = [Revision(p, f"Draft {p.id}" + " so" * n, ()) for n, p in enumerate(prompts)]
    passes: dict[str, Any] = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3}
    return {
        "sft": {
            "revisions": artifact(folder / "revisions", revisions=revisions), "everyday": Everyday(),
            "settings": Sft(**passes),
        },
        "reward": {"labelled": labelled, "settings": Reward(**passes)},
        "dpo": {"labelled": labelled, "settings": DpoSettings(**passes, beta=0.1, max_length=500)},
        "harm": {"ratings": ratings(folder / "r"), "settings": Harmfulness(**passes, max_length=200, answers=11)},
    }  # fmt: skip


def made(root: Path, given: dict, ref: Any, name: str, training: str = "lora", **runtime: Any) -> Artifact:
    policy = Policy(model="tiny-random", system=None, training=training, lora_rank=2)  # pyrefly: ignore
    work = Workbench.open(Runtime(root=str(root), device="cpu", **runtime))
    start = Trainable(ref, policy, "float32")
    return Store(root).stage(STAGES[name], runtime=work, **given[name], start=start, seed=3)


def check_same(one: Artifact, other: Artifact, curves: float = 2e-5, weights: float = 2e-5) -> None:
    """The same key, files, counts and steps; curves and weights within a tolerance."""
    assert one.key == other.key
    first, second = (sorted(p.relative_to(a.path) for p in a.path.rglob("*")) for a in (one, other))
    assert first == second
    assert (one / "counts.json").read_text() == (other / "counts.json").read_text()
    theirs, ours = (json.loads((a / "curves.json").read_text()) for a in (one, other))
    assert theirs.keys() == ours.keys() and len(theirs["step"]) == 6
    for name, values in theirs.items():
        assert ours[name] == pytest.approx(values, abs=curves), name
    (file,) = (one / "model").glob("*.safetensors")
    before, after = load_file(file), load_file(other / "model" / file.name)
    assert before.keys() == after.keys()
    apart = {name: (before[name] - after[name]).abs().max().item() for name in before}
    off = max(abs(a - b) for name in theirs for a, b in zip(theirs[name], ours[name], strict=True) if a is not None)
    print(f"{one.stage}: curves differ by {off:.1e}, weights by {max(apart.values()):.1e}")
    assert max(apart.values()) < weights, apart


@pytest.fixture(scope="module")
def alone(tmp_path_factory, given, tiny):
    """(what a stage leaves that one process has made, its batches whole; the model that it started from)"""
    root, known = tmp_path_factory.mktemp("alone"), {}

    def get(name: str, training: str = "lora") -> tuple[Artifact, Any]:
        if (name, training) not in known:
            start = trained(get("sft", training)[0], "sft") if name == "dpo" else tiny
            known[name, training] = made(root, given, start, name, training), start
        return known[name, training]

    return get


# --- One process ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", ["lora", "full"])
@pytest.mark.parametrize("name", STAGES)
def test_small_parts_and_checkpointing_change_nothing_but_rounding(tmp_path, given, alone, monkeypatch, name, training):
    whole, start = alone(name, training)
    seen = []

    def step(self, model, inputs, *args):
        seen.append(
            (inputs["real"] if "real" in inputs else len(inputs["input_ids"]), model.is_activation_checkpointing)
        )
        return known(self, model, inputs, *args)

    known = Trainer.training_step
    monkeypatch.setattr(Trainer, "training_step", step)
    check_same(whole, made(tmp_path / "a", given, start, name, training, micro_batch=1))
    assert seen == [(1, False)] * 22
    seen.clear()
    check_same(whole, made(tmp_path / "b", given, start, name, training, micro_batch=3, checkpointing=True))
    assert seen == [*[(2, True)] * 5, (1, True)] * 2, "3 is no share of 4, and 2 is the largest below it"


def test_two_processes_and_their_parts_have_the_rows_of_one_batch():
    """11 rows in steps of 4, by accelerate's own sampler: what each process gets, and how much of it counts."""
    order = [7, 2, 9, 0, 4, 10, 1, 8, 3, 6, 5]

    class Part(StepShares):
        def __init__(self, rank: int) -> None:
            self._train_batch_size, self.train_dataset = 1, order
            self.accelerator = SimpleNamespace(num_processes=2, process_index=rank)
            self.args, self.state = SimpleNamespace(gradient_accumulation_steps=2), SimpleNamespace(global_step=0)

        def _get_num_items_in_batch(self, batches, device):
            return None

    def steps(rank: int) -> list[list[list[int]]]:
        trainer, shard = Part(rank), BatchSamplerShard(BatchSampler(order, 1, False), 2, rank)
        epoch = ({"rows": rows} for rows in shard)
        taken = [trainer.get_batch_samples(epoch, count, None)[0] for count in (2, 2, 2)]
        return [[batch["rows"][: batch["real"]] for batch in step] for step in taken]

    assert steps(0) == [[[7], [9]], [[4], [1]], [[3], [5]]]
    assert steps(1) == [[[2], [0]], [[10], [8]], [[6], []]]


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "expected"),
    [(8, None, 1, (8, 1)), (8, None, 2, (4, 1)), (8, 2, 2, (2, 2)), (12, 5, 2, (3, 2)), (6, 9, 3, (2, 1)),
     (5, 2, 1, (1, 5))],
)  # fmt: skip
def test_how_a_batch_is_split(batch, micro, processes, expected):
    assert split(batch, Runtime(micro_batch=micro), "sft.batch_size", processes) == expected


# --- Two --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_two_processes_do_what_one_does(tmp_path, given, alone, name):
    whole, start = alone(name)
    check_same(whole, made(tmp_path, given, start, name, processes=2, micro_batch=None if name == "reward" else 1))
    assert not list((tmp_path / "ranks").iterdir())


@pytest.fixture
def fsdp_on_cpu(tmp_path, monkeypatch) -> Path:
    """accelerate turns FSDP on for accelerators alone; here in the ranks too. Returns where each says what it was."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(f"""
import atexit, os, pathlib
if "RANK" in os.environ:
    import fsdp_on_cpu
    fsdp_on_cpu.switch_on()
    kind = lambda: str(fsdp_on_cpu.AcceleratorState._shared_state.get("distributed_type"))
    atexit.register(lambda: pathlib.Path({str(tmp_path)!r}, "was-" + os.environ["RANK"]).write_text(kind()))
""")
    path = os.pathsep.join([str(tmp_path / "site"), str(FOLDER), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("name", "training"), [("sft", "lora"), ("sft", "full"), ("reward", "lora"), ("dpo", "lora")])
def test_two_processes_with_parts_of_the_weights_do_what_one_does(given, alone, fsdp_on_cpu, name, training):
    whole, start = alone(name, training)
    file = str(ROOT / "experiments" / "accelerate" / "fsdp2.yaml")
    both = made(fsdp_on_cpu / "runs", given, start, name, training, processes=2, accelerate=file)
    assert [(fsdp_on_cpu / f"was-{rank}").read_text() for rank in (0, 1)] == ["DistributedType.FSDP"] * 2
    check_same(whole, both)


# --- What goes wrong --------------------------------------------------------------------------------------------------


def ranks_of(root: Path) -> dict[int, int]:
    """The process ids of launcher (-1) and ranks that work below a folder."""
    found = {}
    for place in Path("/proc").iterdir():
        with suppress(OSError):
            if place.name.isdecimal() and f"{root}/ranks/".encode() in (place / "cmdline").read_bytes():
                given = re.search(rb"(?:^|\0)RANK=(\d+)", (place / "environ").read_bytes())
                found[int(given[1]) if given else -1] = int(place.name)
    return found


def when_it_trains(root: Path, kill: Callable[[dict[int, int]], None]) -> None:
    """Wait until the ranks below `root` have made a step, and then do something about them."""
    end = time.monotonic() + 600
    while not any("done" in file.read_text() for file in root.glob("ranks/*/progress")):
        assert time.monotonic() < end
        time.sleep(0.05)
    kill(ranks_of(root))


def long(given: dict, epochs: int = 20) -> dict:
    settings = given["sft"]["settings"].model_copy(update={"epochs": epochs})
    return given | {"sft": given["sft"] | {"settings": settings}}


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_stage_with_its_name_and_the_next_start_finishes(tmp_path, given, tiny):
    killer = threading.Thread(
        target=when_it_trains, args=(tmp_path, lambda ranks: os.kill(ranks[1], signal.SIGKILL)), daemon=True
    )
    killer.start()
    with pytest.raises(UserError, match=r"rank 1 of 2 was killed \(SIGKILL\) in train_sft") as caught:
        made(tmp_path, long(given), tiny, "sft", processes=2)
    killer.join()
    assert ranks_of(tmp_path) == {}
    assert Path(caught.value.where).name == "rank-1.log" and Path(caught.value.where).is_file()
    assert "run the same command again" in caught.value.remedy
    (unfinished,) = (tmp_path / "store").iterdir()  # where its checkpoints would stand, one every five minutes
    assert unfinished.name.endswith(".unfinished") and not list(unfinished.rglob("checkpoint-*"))
    again = made(tmp_path, long(given), tiny, "sft", processes=2)
    assert list((tmp_path / "store").iterdir()) == [again.path]
    assert len(json.loads((again / "curves.json").read_text())["step"]) == 60
    assert not list((tmp_path / "ranks").iterdir()), "the logs of the one that failed are gone"


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ranks_die_with_the_run(tmp_path, given, tiny, end):
    script = tmp_path / "run.py"
    (tmp_path / "inputs").write_bytes(pickle.dumps((tmp_path, long(given, 10_000), tiny)))
    script.write_text(
        "import pickle, sys\nfrom test_ranks import made\n"
        'root, given, tiny = pickle.load(open(sys.argv[1], "rb"))\nmade(root, given, tiny, "sft", processes=2)\n'
    )
    path = os.pathsep.join(sys.path)
    command = [sys.executable, str(script), str(tmp_path / "inputs")]
    parent = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.DEVNULL)
    seen = []
    when_it_trains(tmp_path, seen.append)
    assert seen[0].keys() == {-1, 0, 1}
    parent.send_signal(end)
    assert parent.wait(120) != 0
    deadline = time.monotonic() + 60
    while ranks_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ranks_of(tmp_path) == {}


@pytest.mark.slow
def test_what_a_rank_refuses_is_what_the_run_says(tmp_path, given, tiny):
    short = given["sft"]["settings"].model_copy(update={"max_length": 2})
    with pytest.raises(UserError) as caught:
        made(tmp_path, given | {"sft": given["sft"] | {"settings": short}}, tiny, "sft", processes=2)
    assert caught.value.where == "sft.max_length"
    assert caught.value.problem == "none of 11 answers is left to fine-tune on: all are longer than 2 tokens"


def test_batches_without_equal_shares_are_refused(tmp_path, given, tiny):
    with pytest.raises(UserError, match=r"3 processes cannot have equal shares of sft.batch_size: 8") as caught:
        split(8, Runtime(processes=3), "sft.batch_size", 3)
    assert caught.value.where == "runtime.processes"
    with pytest.raises(UserErrors) as several:
        check(read_experiment(ROOT / "experiments" / "smoke.yaml", ["runtime.processes=3"]), plan=True)
    assert all(f"equal shares of {at}.batch" in str(several.value) for at in ("sft", "reward", "rl"))


def test_a_run_inside_of_torchrun_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    refuse_bare_ranks()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one of 2 processes that torchrun") as caught:
        main([str(ROOT / "experiments" / "smoke.yaml"), "--plan"])
    assert "set runtime.processes: 2" in caught.value.remedy


@pytest.mark.parametrize(
    ("runtime", "cards", "fault"),
    [
        ({"device": "cuda", "processes": 4}, 2, "4 processes need as many GPUs, and there are 2"),
        ({"device": "auto", "processes": 2}, 1, "2 processes need as many GPUs, and there is 1"),
        ({"device": "cuda:1", "processes": 2}, 2, "2 processes cannot train on the one device cuda:1"),
        ({"device": "cuda", "processes": 2}, 2, None),
        ({"device": "cpu", "processes": 64}, 0, None),
        ({"device": "cuda:1"}, 2, "trainers compute on the first card that a process sees, and cuda:1 is another"),
        ({"device": "cuda:0"}, 2, None),
    ],
)
def test_more_processes_than_gpus_are_refused(monkeypatch, runtime, cards, fault):
    monkeypatch.setattr("torch.cuda.device_count", lambda: cards)
    with pytest.raises(UserError, match=fault) if fault else nullcontext():
        check_ranks(Runtime(**runtime))


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero2", "zero3"])
def test_the_shipped_files_are_accelerates_own_and_take_any_number_of_processes(name):
    file = f"experiments/accelerate/{name}.yaml"
    config = load_config_from_file(str(ROOT / file))  # refuses keys that it does not know
    assert config.mixed_precision == "no"
    assert Runtime(processes=8, accelerate=file).ranks == 8
    with pytest.raises(ValueError, match="does not say how many processes"):
        Runtime(accelerate=file)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("distributed_type: MULTI_GPU\nnum_processes: 4", "processes is 2, and .* has num_processes: 4"),
        ("distributed_type: MULTI_GPU\nnum_processes: many", "num_processes is 'many'"),
        ("distributed_type: MULTI_GPU\nnum_machines: 2", "is for 2 machines, and a stage trains on one"),
        ("num_processes: 2", "it has no distributed_type"),
        ("a: [", "is no YAML"),
        (None, "cannot read .*: No such file or directory"),
    ],
)
def test_files_that_are_not_accelerates_or_say_otherwise_are_refused(tmp_path, text, fault):
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=fault):
        Runtime(processes=2, accelerate=str(file))


def test_a_file_may_say_how_many(tmp_path):
    (tmp_path / "mine.yaml").write_text("distributed_type: MULTI_GPU\nnum_processes: 4")
    assert Runtime(accelerate=str(tmp_path / "mine.yaml")).ranks == 4
    assert Runtime().ranks == 1
