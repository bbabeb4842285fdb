"""PPO in two processes (gloo, CPU): they stay of one mind, and resume bit for bit as one process does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Run by each process: a whole run with checkpoints, then the same run from its second rollout on.
RUN = """
import sys
from pathlib import Path

import torch
from test_ppo import adapter, curve, trainer, weights

folder, lora = Path(sys.argv[1]), sys.argv[2] == "lora"
options = dict(rollouts=5, per_device_train_batch_size=4, save_strategy="steps", save_steps=1, kl_stop=5e-3)
options |= dict(kl_target=0.3, kl_horizon=8)
ended = []
for start in (None, str(folder / "checkpoint-4")):
    taught = trainer(folder, peft_config=adapter() if lora else None, **options)
    assert taught.accelerator.num_processes == 2
    taught.train(resume_from_checkpoint=start)
    ended.append(taught)
whole, resumed = map(weights, ended)
assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
assert all(curve(ended[0], name) == curve(ended[1], name) for name in ("reward", "kl", "kl_coef", "early_stop"))
for name, tensor in whole.items():
    both = ended[0].accelerator.gather(tensor.detach().reshape(1, -1).contiguous())
    assert torch.equal(both[0], both[1]), f"the processes differ in {name}"
(folder / f"of one mind {ended[0].accelerator.process_index}").touch()
ended[1].let_go()
ended[0].end()
"""


@pytest.mark.parametrize("lora", ["lora", "full"])
def test_two_processes_resume_and_agree(tmp_path, lora):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent), str(here), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        [*command, str(tmp_path / "out"), lora],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / "out").glob("of one mind *"))) == 2
