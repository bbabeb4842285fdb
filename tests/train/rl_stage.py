"""A stage of RL, whole: prompts, a reward model, looks by another one, snapshots. Also run by each of two processes:

torchrun --nproc-per-node 2 rl_stage.py FOLDER ddp|fsdp OUT METHOD
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__" and sys.argv[2] == "fsdp":
    import fsdp_on_cpu

    fsdp_on_cpu.switch_on()

from peft import get_peft_model
from test_backbone import noisy
from test_ppo import adapter
from test_score import tiny_policy, tiny_tokenizer
from transformers import AutoModelForSequenceClassification, LlamaForCausalLM

from cai.config.rl import Gold, Rl
from cai.config.runtime import Runtime
from cai.config.sections import Policy
from cai.core.records import Message, Prompt, Revision, write_jsonl
from cai.core.store import Artifact
from cai.models.architectures import lora
from cai.models.references import find
from cai.models.workbench import Workbench
from cai.train.rl.given import OnlineRun, RewardModel
from cai.train.rl.methods.grpo import train_grpo
from cai.train.rl.methods.ppo import train_ppo
from cai.train.trainable import Trainable

STAGES = {"ppo": (train_ppo, "lora"), "grpo": (train_grpo, "full")}


def prepare(folder: Path) -> None:
    """Models and prompts: a base, an adapter to start from, and two reward models on the base."""
    base = str(folder / "base")
    tiny_policy().save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    noisy(get_peft_model(LlamaForCausalLM.from_pretrained(base), adapter()), 2).save_pretrained(folder / "start")
    for seed, name in ((3, "reward"), (4, "gold")):
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
        noisy(get_peft_model(model, lora(model, 4, None, reward=True)), seed).save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
    prompts = [
        Prompt(f"p{i}", (Message("user", f"hello w{i % 12} " * (i % 3 + 1)),), "s", "train" if i % 3 else "calibration")
        for i in range(18)
    ]
    (folder / "data").mkdir()
    write_jsonl(folder / "data" / "prompts.jsonl", prompts)
    write_jsonl(
        folder / "data" / "revisions.jsonl", [Revision(p, "w1 w2 yes"[: i % 9 + 1], ()) for i, p in enumerate(prompts)]
    )


def run(folder: Path, out: Path, method: str, **runtime: int | bool) -> None:
    stage, training = STAGES[method]
    policy = Policy(system=None, training=training, lora_rank=4)
    start = Trainable(find(str(folder / ("start" if training == "lora" else "base"))), policy, "float32")
    data = Artifact("data", "key", folder / "data", "digest")
    gold = Gold(by=str(folder / "gold"), every=1, prompts=5)
    settings = Rl(
        steps=3, batch_size=8, epochs=2, max_new_tokens=6, helpful=0, learning_rate=5e-3, gold=gold, snapshots=1
    )
    online = OnlineRun(
        start=start, data=data, helpful=None, revisions=data, settings=settings, seed=3, snapshots=(2,),
        gold={"model": find(gold.by), "seed": 3},
    )  # fmt: skip
    out.mkdir(parents=True)
    work = Workbench(folder / "runs", Runtime(device="cpu", **runtime), "cpu")
    stage(out, work, run=online, reward=RewardModel(find(str(folder / "reward")), 99))


if __name__ == "__main__":
    # Each process has its folder, as cai/train/rank.py gives it one; the first one's is kept.
    inputs, _, out, method = sys.argv[1:]
    run(Path(inputs), Path(out, f"two-{os.environ['RANK']}", f"{method}.partial"), method)
