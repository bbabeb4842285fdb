"""A killed RLOO or GRPO run goes on from its last checkpoint and ends, bit for bit, as the run that was not killed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from test_ppo import PROMPTS, adapter, share_of_yes, weights
from test_resume import KilledAt, log
from test_score import tiny_policy, tiny_tokenizer
from transformers import LlamaForCausalLM

from cai.train.checkpoints import last_checkpoint
from cai.train.rl.groups import TRAINERS

torch.set_num_threads(1)


def trainer(path: Path, method: str, *, lora: bool, callbacks: Any = None, **options: Any) -> Any:
    """Seven rollouts of two updates: two and a third passes over the prompts."""
    config, kind = TRAINERS[method]
    defaults = {"per_device_train_batch_size": 8, "num_generations": 2, "max_completion_length": 6, "seed": 5}
    defaults |= {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True, "disable_dropout": True}
    defaults |= {"max_steps": 14, "num_iterations": 2, "logging_steps": 2, "beta": 0.1, "warmup_steps": 3}
    defaults |= {"save_strategy": "steps", "save_steps": 1, "temperature": 1.3, "learning_rate": 1e-2}
    tiny_policy().save_pretrained(base := path.with_name("base"))  # from where the reference of whole weights is read
    return kind(
        LlamaForCausalLM.from_pretrained(base), share_of_yes, config(str(path), **defaults | options),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        processing_class=tiny_tokenizer(), peft_config=adapter() if lora else None, callbacks=callbacks,
        missing_eos_penalty=0.5,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["rloo", "grpo"])
@pytest.mark.parametrize(
    ("killed_at", "goes_on_from", "lora", "options"),
    [
        # Between the two updates of a rollout: test_optimisers.py.
        (12, 12, False, {}),  # in the third pass, all weights
        (9, 8, True, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "generation_batch_size": 8}),
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, method, killed_at, goes_on_from, lora, options):
    whole = trainer(tmp_path / "whole", method, lora=lora, **options | {"save_strategy": "no"})
    whole.train()
    killed = trainer(tmp_path / "killed", method, lora=lora, callbacks=[KilledAt(killed_at)], **options)
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    assert last_checkpoint(tmp_path / "killed") == tmp_path / f"killed/checkpoint-{goes_on_from}"
    resumed = trainer(tmp_path / "killed", method, lora=lora, **options)
    resumed.train(resume_from_checkpoint=True)
    assert log(resumed) == log(whole) and len(log(whole)) == 7
    ours = weights(resumed)
    assert [name for name, tensor in weights(whole).items() if not torch.equal(tensor, ours[name])] == []
    states = [made.optimizer.state_dict()["state"] for made in (whole, resumed)]
    assert all(torch.equal(states[0][i]["exp_avg_sq"], states[1][i]["exp_avg_sq"]) for i in states[0])
