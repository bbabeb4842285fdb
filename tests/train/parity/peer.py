"""TRL 1.12's PPOTrainer on given tiny models, unmodified and watched: run by its own Python, `peer.py SPEC.json`.

Its `train` is one long function. What it computes is read from the local variables of that running function: at every
`optimizer.step`, and at the end of the rollout. The spec is a list of cases; what was seen is written to `result` of
each (tensors as nested lists), its final weights beside it. compare.py says what is done with it.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental import ppo  # pyrefly: ignore
from trl.experimental.ppo import ppo_trainer  # pyrefly: ignore

ROLLOUT = (
    "queries", "responses", "logprobs", "ref_logprobs", "values", "scores", "padding_mask", "padding_mask_p1", "kl",
    "rewards", "advantages", "returns", "approxkl_stats", "pg_clipfrac_stats", "entropy_stats", "ratio_stats",
)  # fmt: skip
EPOCH = (
    "micro_batch_inds", "mb_advantage", "mb_return", "mb_values", "new_logprobs", "vpred", "ratio", "pg_loss",
    "vf_loss",
)  # fmt: skip
SAMPLING = ppo_trainer.batch_generation
SCORING = ppo_trainer.get_reward


def seen(frame: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Local variables of the trainer's `train`, as lists."""
    while frame.f_code.co_name != "train":
        frame = frame.f_back
    return {name: torch.as_tensor(frame.f_locals[name]).detach().tolist() for name in names}


class AtTheEnd(TrainerCallback):
    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.found |= seen(sys._getframe(), ROLLOUT)


def use_given(case: dict[str, Any], temperature: float, pad: int, reward_model: Any) -> None:
    """Answers and scores by prompt, where the case gives them; the log-probabilities are still the peer's own."""
    by_prompt = {tuple(p): (a, s) for p, a, s in zip(case["prompts"], case["answers"], case["scores"], strict=True)}

    def rows(queries: torch.Tensor) -> list[Any]:
        return [by_prompt[tuple(id for id in row if id != pad)] for row in queries.tolist()]

    def generation(model: Any, queries: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(answer) for answer in case["answers"])
        answers = [answer + [pad] * (width - len(answer)) for answer, _ in rows(queries)]
        both = torch.cat([queries, torch.tensor(answers)], dim=1)
        logits = ppo_trainer.forward(model, both, pad).logits[:, queries.size(1) - 1 : -1]
        return both, logits / (temperature + 1e-7)

    def reward(model: Any, both: torch.Tensor, pad_id: int, context: int) -> Any:
        found = SCORING(model, both, pad_id, context)
        if model is not reward_model:
            return found
        return found[0], torch.tensor([score for _, score in rows(both[:, :context])]), found[2]

    ppo_trainer.batch_generation, ppo_trainer.get_reward = generation, reward


def run(case: dict[str, Any]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(case["tokenizer"], padding_side="left")
    policy, reference = (AutoModelForCausalLM.from_pretrained(case[name]) for name in ("policy", "reference"))
    critic, reward = (AutoModelForSequenceClassification.from_pretrained(case["critic"]) for _ in range(2))
    found: dict[str, Any] = {"epochs": []}
    prompts = case["prompts"]
    config = ppo.PPOConfig(
        output_dir=case["folder"], total_episodes=len(prompts), per_device_train_batch_size=len(prompts),
        optim="sgd", lr_scheduler_type="constant", num_sample_generations=0, gradient_checkpointing=False,
        use_cpu=True, bf16=False, report_to="none", save_strategy="no", disable_tqdm=True, **case["settings"],
    )  # fmt: skip
    ppo_trainer.batch_generation, ppo_trainer.get_reward = SAMPLING, SCORING
    if case["answers"] is not None:
        use_given(case, config.temperature, tokenizer.pad_token_id, reward)
    rows = Dataset.from_list([{"input_ids": ids} for ids in prompts])
    trainer = ppo.PPOTrainer(config, tokenizer, policy, reference, reward, rows, critic, callbacks=[AtTheEnd(found)])
    step = trainer.optimizer.step

    def watched(*args: Any, **kwargs: Any) -> Any:
        gradients = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
        found["epochs"].append(seen(sys._getframe(1), EPOCH) | {"norm": torch.cat(gradients).norm().item()})
        return step(*args, **kwargs)

    trainer.optimizer.step = watched
    trainer.train()
    found["groups"] = [[group["lr"], group["weight_decay"]] for group in trainer.optimizer.param_groups]
    found["pad"] = tokenizer.pad_token_id
    Path(case["result"]).write_text(json.dumps(found))
    weights = {f"policy.{name}": p.detach() for name, p in policy.named_parameters()}
    weights |= {f"critic.{name}": p.detach() for name, p in critic.named_parameters()}
    save_file({name: tensor.clone() for name, tensor in weights.items()}, case["result"] + ".safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in json.loads(Path(sys.argv[1]).read_text()):
        run(each)
