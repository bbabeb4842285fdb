"""Run by each of two processes in test_rl_processes.py: trainings of rollouts, plain (DDP) and in parts (FSDP2).

torchrun --nproc-per-node 2 rl_ranks.py FOLDER ddp|fsdp
"""

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__" and sys.argv[2] == "fsdp":
    import fsdp_on_cpu

    fsdp_on_cpu.switch_on()

import torch
from datasets import Dataset
from test_ppo import PROMPTS, adapter, curve, share_of_yes
from test_score import tiny_policy, tiny_tokenizer
from test_watch import held_out
from transformers import LlamaForCausalLM

from cai.models.sharded import everyones, place, whole_weights
from cai.train.rl.groups import TRAINERS
from cai.train.rl.ppo import PPOTrainer
from cai.train.rl.ppo_config import PPOConfig
from cai.train.rl.watch import Watch

# Answers a rollout, rows in a forward of one process that is alone; two have half as many. What else is set.
PPO: dict[str, dict[str, Any]] = {
    "lora": {"batch": 8, "learning_rate": 1e-2, "kl_stop": 1e-4, "kl_target": 0.3, "kl_horizon": 8},
    "full": {
        "batch": 16, "rows": 4, "gradient_accumulation_steps": 2, "learning_rate": 3e-3, "whiten_rewards": True,
        "kl_stop": 1e-2,
    },
}  # fmt: skip
GROUPS: dict[str, Any] = {"batch": 8, "beta": 0.1, "missing_eos_penalty": 0.5, "learning_rate": 1e-2}
RUNS = [f"{method}-{how}" for method in ("ppo", "rloo", "grpo") for how in ("lora", "full")]
SAME = ("reward", "kl", "entropy", "clip_fraction", "completion_length", "eos_rate", "loss", "grad_norm")
CURVES = {
    "ppo": (*SAME, "kl_coef", "approx_kl", "ratio_variance", "policy_loss", "value_loss", "explained_variance",
        "early_stop"),
    "rloo": SAME,
    "grpo": SAME,
}  # fmt: skip


def base(folder: Path) -> str:
    tiny_policy().save_pretrained(folder / "base")
    return str(folder / "base")


def made(folder: Path, name: str, model: str, processes: int, parts: int = 1, **more: Any) -> Any:
    """A trainer and the watch over it. parts: into how many an update is cut, beside what is in `PPO`."""
    method, _, how = name.partition("-")
    options = dict(PPO[how] if method == "ppo" else GROUPS) | more
    batch, penalty = options.pop("batch"), options.pop("missing_eos_penalty", 1.0)
    rows = options.pop("rows", batch) // processes // parts
    options["gradient_accumulation_steps"] = options.get("gradient_accumulation_steps", 1) * parts
    options |= {"output_dir": str(folder / name), "generation_batch_size": batch, "per_device_train_batch_size": rows}
    options |= {"use_cpu": True, "report_to": "none", "seed": 5, "disable_tqdm": True, "num_generations": 2}
    options |= {"max_completion_length": 6, "save_strategy": "steps", "save_steps": 1, "warmup_steps": 1}
    watch = Watch(tiny_tokenizer(), held_out(lambda texts, first: [float(len(text)) for text in texts]), [1])
    given: dict[str, Any] = {
        "train_dataset": Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        "processing_class": tiny_tokenizer(), "peft_config": adapter() if how == "lora" else None,
        "callbacks": [watch],
    }  # fmt: skip
    policy, reward = LlamaForCausalLM.from_pretrained(model), watch.reading(share_of_yes)
    if method == "ppo":
        trainer: Any = PPOTrainer(policy, reward, PPOConfig(**options, rollouts=4), **given)
    else:
        config, kind = TRAINERS[method]
        options |= {"max_steps": 8, "num_iterations": 2, "logging_steps": 2, "bf16": False, "disable_dropout": True}
        trainer = kind(policy, reward, config(**options), missing_eos_penalty=penalty, **given)
    watch.reference = trainer.reference
    return trainer, watch


def seen(trainer: Any, watch: Watch, method: str) -> dict[str, Any]:
    """What a run comes to. All processes must call."""
    answers = [row["answers"] for row in trainer.state.log_history if "answers" in row]
    curves = {name: curve(trainer, name) for name in CURVES[method]}
    network = trainer.accelerator.unwrap_model(trainer.model)
    return {"weights": whole_weights(network, network), "curves": curves, "answers": answers, "looks": watch.looks}


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert all(torch.equal(tensor, other["weights"][name]) for name, tensor in one["weights"].items())
    assert all(one[what] == other[what] for what in ("curves", "answers", "looks"))


def main(folder: Path, kind: str) -> None:
    for name in RUNS:
        trainer, watch = made(folder, name, str(folder / "base"), processes=2)
        assert trainer.accelerator.num_processes == 2
        assert trainer.is_fsdp_enabled == (kind == "fsdp")
        trainer.train()
        whole = seen(trainer, watch, name.partition("-")[0])
        for other in everyones([whole]):
            same(whole, other)
        left = folder / name / f"left-{place()[0]}"
        left.mkdir()
        watch.leave(trainer.model, left)
        if name.startswith("ppo"):
            trainer.save_model(str(folder / name / "saved"))
        trainer.let_go()
        checkpoint = str(folder / name / "checkpoint-4")
        trainer, watch = made(folder, name, str(folder / "base"), processes=2)
        trainer.train(resume_from_checkpoint=checkpoint)
        same(whole, seen(trainer, watch, name.partition("-")[0]))
        if place()[0] == 0:
            torch.save(whole, folder / name / "end.pt")
        trainer.let_go()
    trainer.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
