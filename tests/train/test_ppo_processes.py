"""PPO in two processes (gloo, CPU): they do what one process does, are of one mind, and resume bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_ppo import adapter, curve, trainer, weights

# Of one process; two take half as many answers each into a forward. The update of "full" is made of two forwards.
RUNS = {
    "lora": {"per_device_train_batch_size": 8, "learning_rate": 1e-2, "kl_stop": 3e-4, "kl_target": 0.3,
        "kl_horizon": 8},
    "full": {
        "per_device_train_batch_size": 4, "generation_batch_size": 16, "gradient_accumulation_steps": 2,
        "learning_rate": 3e-3, "whiten_rewards": True, "kl_stop": 1e-2,
    },
}  # fmt: skip
CURVES = (
    "reward", "kl", "kl_coef", "entropy", "clip_fraction", "approx_kl", "ratio_variance", "policy_loss", "value_loss",
    "explained_variance", "completion_length", "eos_rate", "early_stop", "loss", "grad_norm",
)  # fmt: skip

# Run by each process: a whole run with checkpoints, then the same run from its second or third rollout on. Both ways in
# the same two processes: half of what they take is to start and to import.
RUN = """
import sys
from pathlib import Path

import torch
from test_ppo import curve, weights
from test_ppo_processes import CURVES, RUNS, made

for how in RUNS:
    folder = Path(sys.argv[1], how)
    ended = []
    for start in (None, str(folder / "checkpoint-4")):
        taught = made(folder, how, processes=2)
        assert taught.accelerator.num_processes == 2
        taught.train(resume_from_checkpoint=start)
        ended.append(taught)
    whole, resumed = map(weights, ended)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    assert all(curve(ended[0], name) == curve(ended[1], name) for name in CURVES)
    for name, tensor in whole.items():
        both = ended[0].accelerator.gather(tensor.detach().reshape(1, -1).contiguous())
        assert torch.equal(both[0], both[1]), f"the processes differ in {name}"
    if ended[0].accelerator.is_main_process:
        torch.save({"weights": whole, "curves": {name: curve(ended[0], name) for name in CURVES}}, folder / "end.pt")
    for taught in ended:
        taught.let_go()
taught.end()
"""


def made(folder: Path, how: str, processes: int):
    options = RUNS[how] | {"rollouts": 5, "save_strategy": "steps", "save_steps": 1}
    options["per_device_train_batch_size"] //= processes
    return trainer(folder, peft_config=adapter() if how == "lora" else None, **options)


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Path:
    """The folder in which two processes have made all runs, and found no fault in them."""
    folder = tmp_path_factory.mktemp("processes")
    script = folder / "run.py"
    script.write_text(RUN)
    path = os.pathsep.join(sys.path)  # where the tests find one another
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        [*command, str(folder)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("how", RUNS)
def test_two_processes_do_what_one_does_and_resume(ended, tmp_path, how):
    two = torch.load(ended / how / "end.pt")
    one = made(tmp_path, how, processes=1)
    first = weights(one)
    one.train()
    assert len(curve(one, "kl")) == 5 and 0 < sum(curve(one, "early_stop")) < 2.5, "it stops now and then"
    for name in CURVES:
        assert two["curves"][name] == pytest.approx(curve(one, name), abs=1e-5), name
    apart = {name: (two["weights"][name] - tensor).abs().max().item() for name, tensor in weights(one).items()}
    assert max(apart.values()) < 2e-5, apart
    moved = [(first[name] - tensor).abs().max().item() for name, tensor in weights(one).items()]
    assert max(moved) > 0.01, "a thousand times as far as the rounding"
