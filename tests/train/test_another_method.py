"""To add a method of RL is to add one file, and its name in one place: here it is done, and the new method runs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from test_experiment import EXPERIMENT, lay_out

ROOT = Path(__file__).parents[2]
# What a method of RL has no part in.
BESIDE = ("  comparisons: [items.jsonl]\n", "  xstest: xstest.csv\n", "  helpfulness: helpfulness.txt\n", ", audit: 2")
REINFORCE = '''
"""REINFORCE with whitened returns (Williams 1992): PPO's trainer, whose critic learns nothing and is not heard."""

from dataclasses import replace

from cai.core.store import version
from cai.train.rl.given import against_rewards
from cai.train.rl.online import by_ppo, learn_from_rewards


@version(1)
def train_reinforce(out, work, *, run, reward):
    settings = run.settings.model_copy(update={"lam": 1.0, "vf_coef": 0.0})
    learn_from_rewards(out, work, replace(run, settings=settings), reward, by_ppo)


def policy(stage, given):
    return stage(train_reinforce, **against_rewards(given))
'''


def test_a_method_is_one_file_and_its_name(tmp_path, tiny):
    shutil.copytree(ROOT / "cai", tmp_path / "cai", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("prompts", "constitutions", "experiments"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "cai/train/rl/methods/reinforce.py").write_text(REINFORCE)
    names = tmp_path / "cai/config/rl.py"
    names.write_text(names.read_text().replace('"none"]', '"none", "reinforce"]', 1))

    lay_out(tmp_path)
    arm = "  new: {rl: {method: reinforce, snapshots: 1, num_generations: 4}}\n"
    shared = EXPERIMENT[: EXPERIMENT.index("  ai:")]
    for line in BESIDE:
        assert line in shared
        shared = shared.replace(line, "")
    (tmp_path / "mine.yaml").write_text(shared + arm)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "cai.experiment", "mine.yaml"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    policy = tmp_path / json.loads((tmp_path / "runs/mine/links.json").read_text())["new/0"]["policy"]
    assert policy.name.startswith("train_reinforce-") and (policy / "snapshots/1").is_dir()
    assert json.loads((policy / "curves.json").read_text())["step"] == [1, 2]
    counts = json.loads((policy / "counts.json").read_text())
    assert counts["prompts used"] == 2, "two rollouts of four answers to one prompt"
