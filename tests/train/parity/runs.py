"""One rollout of PPO by TRL 1.12's trainer and by ours, on the same models, answers and scores. See compare.py."""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from datasets import Dataset
from test_score import tiny_config, tiny_reward_model, tiny_tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM, TrainerCallback

import cai.train.rl.ppo as our_ppo
from cai.train import PPOConfig, PPOTrainer
from cai.train.rl.ppo_math import gae, masked_mean, masked_variance, whiten

PAD, EOS = 0, 2
PROMPTS = [[1, 6, 4], [1, 6, 4, 12, 13], [1, 5], [1, 6, 10, 11], [1, 7], [1, 6, 4, 14], [1, 5, 15, 16], [1, 6, 9]]
SCORES = [1.0, -0.5, 2.0, 0.25, -1.5, 0.75, 3.0, -2.0]
FULL = [[8, 9, 11, 12, 13], [14, 8, 8, 9, 9], [10, 10, 19, 20, 21], [5, 6, 7, 8, 9]]
SOME_END = [*FULL, [8, EOS], [9, 14, EOS], [EOS], [10, 11, 12, 13, EOS]]
SETTINGS = {
    "response_length": 5, "num_ppo_epochs": 2, "learning_rate": 0.02, "temperature": 0.8, "kl_coef": 0.3, "gamma": 0.97,
    "lam": 0.9, "cliprange": 0.02, "cliprange_value": 0.05, "vf_coef": 0.2, "missing_eos_penalty": 0.5,
    "stop_token": "eos", "max_grad_norm": 1e-3, "seed": 3,
}  # fmt: skip


# 1. What both are given -----------------------------------------------------------------------------------------------


def sharp_policy(seed: int) -> LlamaForCausalLM:
    """Its log-probabilities differ by some nats from token to token."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(tiny_config(tie_word_embeddings=True, initializer_range=0.2))


def save_models(folder: Path) -> dict[str, str]:
    policy, tokenizer = sharp_policy(0), tiny_tokenizer()
    policy.save_pretrained(folder / "policy")
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.05)
    policy.save_pretrained(folder / "reference")
    tiny_reward_model(1).save_pretrained(folder / "critic")
    tokenizer.save_pretrained(folder / "tokenizer")
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder / "pad is eos")
    return {name: str(folder / name) for name in ("policy", "reference", "critic", "tokenizer")}


def cases(folder: Path) -> dict[str, dict[str, Any]]:
    """Specs for peer.py by name."""
    models = save_models(folder)

    def case(name: str, answers: list[list[int]] | None, *, tokenizer: str = "tokenizer", **settings: Any) -> Any:
        place = {"folder": str(folder / "out"), "result": str(folder / f"{name}.json")}
        given = {"prompts": PROMPTS, "answers": answers, "scores": SCORES, "settings": SETTINGS | settings}
        return models | place | given | {"tokenizer": str(folder / tokenizer)}

    with_padding = [[8, PAD, 11, 12, 13], *FULL[1:], *FULL]
    return {
        "theirs": case("theirs", None, stop_token=None, seed=6),
        "ours": case("ours", sample_ours(models)),
        "whitened rewards": case("whitened rewards", FULL + FULL[::-1], whiten_rewards=True),
        "some end": case("some end", SOME_END),
        "pad is eos": case("pad is eos", SOME_END, tokenizer="pad is eos"),
        "pad sampled": case("pad sampled", with_padding),
    }


def sample_ours(models: dict[str, str]) -> list[list[int]]:
    """Answers to PROMPTS as our trainer samples them: the first rollout in which none ends early or has padding."""
    for seed in range(100):
        with our_trainer(models, SETTINGS | {"seed": seed}) as trainer:
            texts = [trainer._tokenizer.decode(ids) for ids in PROMPTS]
            prompt_ids, answers, *_ = trainer._generate(texts)
        assert len(prompt_ids) == len(PROMPTS)
        if all(len(answer) == 5 and PAD not in answer for answer in answers):
            return answers
    raise AssertionError("no such rollout")


def ask_peer(python: str, specs: dict[str, dict[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """What the peer's trainer did in each case."""
    file = folder / "cases.json"
    file.write_text(json.dumps(list(specs.values())))
    command = [python, "-I", str(Path(__file__).with_name("peer.py")), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the peer failed:\n{done.stderr[-3000:]}")
    return {name: json.loads(Path(spec["result"]).read_text()) for name, spec in specs.items()}


# 2. Ours on the same rollout ------------------------------------------------------------------------------------------


@contextmanager
def our_trainer(models: dict[str, str], settings: dict[str, Any], **more: Any) -> Iterator[Any]:
    """Our trainer with the peer's settings: no clipping of gradients, critic and policy at the same rate."""
    same = ("num_ppo_epochs", "learning_rate", "temperature", "kl_coef", "gamma", "lam", "cliprange", "cliprange_value")
    same = (*same, "vf_coef", "missing_eos_penalty", "seed")
    # The policy was moved off its reference on purpose, which a training of ours refuses.
    with tempfile.TemporaryDirectory() as out, patch.object(our_ppo, "check_first_kl"):
        config = PPOConfig(
            out, rollouts=1, generation_batch_size=8, per_device_train_batch_size=8,
            max_completion_length=settings["response_length"], critic_learning_rate=settings["learning_rate"],
            whiten_rewards=settings.get("whiten_rewards", False), max_grad_norm=0.0, optim="sgd",
            lr_scheduler_type="constant", use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
            **{name: settings[name] for name in same}, **more,
        )  # fmt: skip
        trainer = PPOTrainer(
            LlamaForCausalLM.from_pretrained(models["reference"]),
            lambda prompts, **_: list(trainer.scores),
            config,
            train_dataset=Dataset.from_list([{"prompt": f"w{n}"} for n in range(8)]),
            processing_class=tiny_tokenizer(),
            value_model=models["critic"],
        )
        moved = LlamaForCausalLM.from_pretrained(models["policy"]).state_dict()
        trainer.network.load_state_dict(moved, strict=False)
        yield trainer


def bessel_whiten(x_BT: Tensor, mask_BT: Tensor, *, keep_mean: bool = False) -> Tensor:
    """[1]: as the peer whitens."""
    mean, n = masked_mean(x_BT, mask_BT), mask_BT.sum()
    scaled_BT = (x_BT - mean) * torch.rsqrt(masked_variance(x_BT, mask_BT) * n / (n - 1) + 1e-8)
    return (scaled_BT + mean if keep_mean else scaled_BT) * mask_BT


class Norms(TrainerCallback):
    def __init__(self) -> None:
        self.found: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        self.found.append(torch.cat(gradients).norm().item())


def run_ours(spec: dict[str, Any], theirs: dict[str, Any], how: Callable[..., Tensor] = whiten) -> dict[str, Any]:
    """One rollout of ours on the prompts, answers and scores of the peer's, in its order; how: the whitening."""
    pad = theirs["pad"]
    prompts = [[id for id in ids if id != pad] for ids in theirs["queries"]]
    answers = [list(ids) for ids in theirs["responses"]]
    if spec["answers"] is not None:
        by_prompt = dict(zip(map(tuple, spec["prompts"]), spec["answers"], strict=True))
        answers = [by_prompt[tuple(prompt)] for prompt in prompts]
    found: dict[str, Any] = {}
    with our_trainer(spec, spec["settings"]) as trainer:
        penalty = spec["settings"]["missing_eos_penalty"]
        trainer.scores = [
            score + penalty * (answer[-1] != EOS) for score, answer in zip(theirs["scores"], answers, strict=True)
        ]
        texts = [[{"role": "assistant", "content": "text"}] for _ in answers]
        trainer._generate = lambda _: (prompts, answers, None, texts, None, {}, None, [])
        evaluate, compute = trainer._evaluate_rollout, trainer._generate_and_score_completions

        def evaluated(rollout: dict[str, Any]) -> dict[str, Tensor]:
            known = evaluate(rollout)
            found.update(logprobs=known["old_logprobs"], values=known["old_values"], ref_logprobs=known["ref_logprobs"])
            return known

        def estimated(rewards_BT: Tensor, *args: Any) -> Tensor:
            found["rewards"] = rewards_BT.clone()
            found["raw_advantages"] = gae(rewards_BT, *args)
            return found["raw_advantages"]

        def computed(inputs: Any) -> dict[str, Any]:
            rollout = compute(inputs)
            found.update({name: rollout[name].clone() for name in ("mask", "returns", "advantages")})
            return rollout

        trainer._evaluate_rollout, trainer._generate_and_score_completions = evaluated, computed
        norms = Norms()
        trainer.add_callback(norms)
        with patch.object(our_ppo, "gae", estimated), patch.object(our_ppo, "whiten", how):
            kept = trainer._metrics["train"]
            trainer.log = lambda logs, *_: found.update(log=dict(logs), each={n: list(v) for n, v in kept.items()})
            trainer.train()
        found["norms"] = norms.found
        weights = dict(trainer.network.named_parameters())
        found["weights"] = {f"policy.{n}": p.detach() for n, p in weights.items() if not n.startswith("value_head")}
        found["weights"] |= {f"critic.{n}": p.detach() for n, p in trainer.value_head.model.named_parameters()}
        found["groups"] = [(group["lr"], group["weight_decay"]) for group in trainer.optimizer.param_groups]
    return found
