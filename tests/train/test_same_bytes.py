"""A stage is a function of its inputs: whatever the process drew at random before, it leaves the same bytes.

A run that is killed and goes on, or that finds half of its stages in the store, reaches a stage in another random state
than one that runs through; other bytes would be another digest, and so other keys for all that comes after.
"""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_harm import ratings
from test_stages import artifact, prompt

from cai.config.rl import Rl, SelfDistil
from cai.config.runtime import Runtime
from cai.config.sections import Harmfulness, Judge, Policy, Reward, Sft
from cai.constitution import Judging, read_constitution
from cai.core.records import Label, Pair, Response, Revision
from cai.core.store import Artifact, Store
from cai.core.templates import load_template
from cai.judge.asked import AskedJudge
from cai.models.references import ModelRef, trained
from cai.models.workbench import Workbench
from cai.train.harm import train_harm
from cai.train.learnt import Everyday
from cai.train.reward import train_reward
from cai.train.rl.given import OnlineRun, RewardModel
from cai.train.rl.judged import RatedBy
from cai.train.rl.methods.direct import train_direct
from cai.train.rl.methods.dpo import DpoSettings, train_dpo
from cai.train.rl.methods.grpo import train_grpo, train_judged_grpo
from cai.train.rl.methods.online_dpo import train_online_dpo
from cai.train.rl.methods.ppo import train_ppo
from cai.train.rl.methods.rloo import train_rloo
from cai.train.rl.methods.self_distil import train_self_distil
from cai.train.rl.teacher import TeacherContext
from cai.train.sft import leave_untrained, train_sft
from cai.train.trainable import Labelled, Trainable

POLICY = Policy(model="tiny-random", system=None, lora_rank=2)
RL = Rl(steps=2, batch_size=4, max_new_tokens=4, epochs=1, helpful=0, learning_rate=1e-3)


def scrambled(seed: int) -> None:
    """The process as it may be when it comes to a stage."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.rand(seed % 7)


def both(folder: Path, function: Any, **inputs: Any) -> Artifact:
    """Run a stage twice, in stores of its own and from other random states. Returns what the first run made."""
    made = []
    for seed in (11, 222):
        scrambled(seed)
        work = Workbench.open(Runtime(root=str(folder / str(seed)), device="cpu"))
        made.append(Store(work.root).stage(function, runtime=work, **inputs))
    names = {file.relative_to(made[0].path) for file in made[0].path.rglob("*") if file.name != "manifest.json"}
    for name in sorted(names):
        files = [one.path / name for one in made]
        assert not files[0].is_file() or files[0].read_bytes() == files[1].read_bytes(), f"{function.__name__}: {name}"
    assert made[0].digest == made[1].digest
    return made[0]


GIVEN: dict[str, Any] = {}


@pytest.fixture(scope="module")
def given(tmp_path_factory, tiny) -> dict[str, Any]:
    """What the training stages learn from, and the SFT policy and the reward model that come of it; made once for all
    files that borrow it."""
    if not GIVEN:
        GIVEN.update(make_given(tmp_path_factory.mktemp("same"), tiny))
    return GIVEN


def make_given(folder: Path, tiny: ModelRef) -> dict[str, Any]:
    prompts = [prompt(str(n)) for n in range(8)]
    pairs = [Pair(p.id, p, f"A long answer {p.id}.", "No.", 1.0) for p in prompts]
    made: dict[str, Any] = {
        "folder": folder,
        "data": artifact(folder / "data", prompts=prompts),
        "revisions": artifact(folder / "revisions", revisions=[Revision(p, f"Draft {p.id}", ()) for p in prompts]),
        "labelled": Labelled(
            (artifact(folder / "pairs", pairs=pairs),),
            (artifact(folder / "labels", labels=[Label(p.id, 0.8, "ai") for p in prompts]),),
        ),
        "start": Trainable(tiny, POLICY, "float32"),
        "helpful": artifact(folder / "helpful", prompts=prompts, responses=[Response("1", "Yes", "m", "stop")]),
    }
    made["sft"] = both(
        folder / "sft", train_sft, revisions=made["revisions"], everyday=Everyday(made["helpful"], made["helpful"]),
        start=made["start"], settings=Sft(batch_size=4, helpful=0.1), seed=3,
    )  # fmt: skip
    made["reward"] = both(
        folder / "reward", train_reward, labelled=made["labelled"], start=made["start"],
        settings=Reward(batch_size=4), seed=3,
    )  # fmt: skip
    made["run"] = OnlineRun(
        start=replace(made["start"], ref=trained(made["sft"], "sft"), role="sft"), data=made["data"], helpful=None,
        revisions=made["revisions"], settings=RL, gold=None, seed=3,
    )  # fmt: skip
    return made


def test_the_policy_of_sft_and_the_reward_model(given):
    assert (given["sft"] / "model" / "adapter_model.safetensors").is_file()
    assert (given["reward"] / "model" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("training", ["lora", "full"])
def test_the_model_of_harm(tmp_path, tiny, training):
    policy = Policy(model="tiny-random", system=None, training=training, lora_rank=2)
    settings = Harmfulness(epochs=1, batch_size=4, max_length=200)
    start = Trainable(tiny, policy, "float32")
    both(tmp_path, train_harm, ratings=ratings(tmp_path / "data"), start=start, settings=settings, seed=3)


@pytest.mark.parametrize("training", ["lora", "full"])
def test_whole_weights_and_adapters_of_sft_and_reward(tmp_path, given, tiny, training):
    policy = Policy(model="tiny-random", system=None, training=training, lora_rank=2, lora_layers=1)
    common: dict[str, Any] = {"start": Trainable(tiny, policy, "float32"), "seed": 3}
    both(
        tmp_path / "sft", train_sft, revisions=given["revisions"], everyday=Everyday(), settings=Sft(batch_size=4),
        **common,
    )  # fmt: skip
    both(
        tmp_path / "reward", train_reward, labelled=given["labelled"], settings=Reward(batch_size=4), **common
    )  # fmt: skip


def test_dpo(tmp_path, given):
    settings = DpoSettings(epochs=1, batch_size=4, learning_rate=1e-3, beta=0.1, max_length=500)
    both(tmp_path, train_dpo, labelled=given["labelled"], start=given["run"].start, settings=settings, seed=3)


@pytest.mark.parametrize("method", [train_ppo, train_rloo, train_grpo])
def test_against_a_reward_model(tmp_path, given, method):
    both(tmp_path, method, run=given["run"], reward=RewardModel(trained(given["reward"], "reward"), 500))


def test_against_the_judge(tmp_path, given, tiny):
    judge = AskedJudge(
        settings=Judge(model="tiny-random", min_mass=0.0), model=tiny, templates={"rate": load_template("rate")},
        principles=(Judging("kind", "Choose the kind one.", (), 1.0),), dtype="float32", seed=0,
    )  # fmt: skip
    run, rater = given["run"], RatedBy(judge)
    both(tmp_path / "direct", train_direct, run=run, rater=rater)
    both(tmp_path / "circle", train_judged_grpo, run=run, rater=rater, asked="circle")
    both(tmp_path / "dpo", train_online_dpo, run=run, rater=rater, beta=0.1)


def test_from_its_own_teacher_and_without_sft(tmp_path, given):
    constitution = read_constitution(Path(__file__).parents[2] / "constitutions/quickstart.txt")
    distil = SelfDistil(critique=True, tokens=20)
    teacher = TeacherContext.of(constitution, distil, 0)
    both(tmp_path / "taught", train_self_distil, run=given["run"], teacher=teacher, distil=distil)
    both(tmp_path / "bare", leave_untrained, start=given["start"], seed=3)
