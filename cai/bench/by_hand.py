"""A small experiment made by hand, with no store, no keys and no report: `python -m cai.bench.by_hand SPEC.json`.

It is what somebody would write who knows transformers, PEFT and TRL 1.16: a judge labels pairs of answers by its
log-probabilities of Yes and No; the model is fine-tuned on the better answers; a reward model learns the labels; PPO,
which TRL has no longer and which therefore is ours, trains the fine-tuned model against it; start, SFT and PPO models
answer held-out prompts, and reward model and judge rate what they say. `python -m cai.bench pipeline --by-hand` runs it
beside the same experiment through the pipeline, and compares what both give.

SPEC.json: {"model": folder, "dtype", "system", "principles": [text], "pairs": JSONL of prompt, a, b, human, split,
"sft", "reward", "rl", "answers": settings}. What it finds is printed as one JSON object.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, set_seed
from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from cai.train import PPOConfig, PPOTrainer

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]  # of a Llama's blocks
BATCH = 16  # rows that are padded to one length and read, or written, together
Chat = list[dict[str, str]]
Spec = Mapping[str, Any]


# 1. The judge ---------------------------------------------------------------------------------------------------------


def question(prompt: str, answer: str, principle: str) -> Chat:
    """How prompts/rate.jinja asks."""
    asked = (
        f"Conversation:\n\nHuman: {prompt}\n\nAssistant: {answer}\n\nInstruction to the judge: {principle}\n\n"
        "Would you choose the assistant's last message? Answer Yes or No."
    )
    judge = "You read a conversation and judge the assistant's last message."
    return [{"role": "system", "content": judge}, {"role": "user", "content": asked}]


@torch.no_grad()
def log_odds(model: Any, tokenizer: Any, chats: Sequence[Chat]) -> list[float]:
    """Log-probability of Yes less that of No, of each chat, in batches of the longest first."""
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    options = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("Yes", "No")]
    rows = {(i, *option[:-1]): [*ids, *option[:-1]] for i, ids in enumerate(prompts) for option in options}
    found: dict[tuple[int, ...], torch.Tensor] = {}  # of the last tokens of a row: log-probabilities of what follows
    keep = max(map(len, options))
    for some in batches(sorted(rows, key=lambda row: -len(rows[row]))):
        padded = tokenizer.pad({"input_ids": [rows[row] for row in some]}, padding_side="left", return_tensors="pt")
        logits = model(**padded, logits_to_keep=keep).logits.float().log_softmax(-1)
        found |= dict(zip(some, logits, strict=True))

    def logprob(number: int, option: list[int]) -> float:
        last = found[(number, *option[:-1])][-len(option) :]
        return last[range(len(option)), option].sum().item()

    return [logprob(i, options[0]) - logprob(i, options[1]) for i in range(len(prompts))]


def rated(model: Any, tokenizer: Any, said: Sequence[tuple[str, str]], principles: Sequence[str]) -> list[float]:
    """The mean log-odds over the principles, of each (prompt, answer)."""
    asked = [question(prompt, answer, principle) for prompt, answer in said for principle in principles]
    odds = iter(log_odds(model, tokenizer, asked))
    return [fmean(next(odds) for _ in principles) for _ in said]


# 2. Training ----------------------------------------------------------------------------------------------------------


def arguments(settings: Spec) -> dict[str, Any]:
    return {
        "output_dir": tempfile.mkdtemp(), "seed": 0, "data_seed": 0, "use_cpu": not torch.cuda.is_available(),
        "bf16": False, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 3, "activation_checkpointing": False,
        "dataloader_pin_memory": False, "learning_rate": settings["learning_rate"],
        "per_device_train_batch_size": settings["batch_size"],
    }  # fmt: skip


def lora(spec: Spec, task: str) -> LoraConfig:
    return LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, target_modules=LINEAR, task_type=task,
        layers_to_transform=spec["layers"], modules_to_save=["score"] if task == "SEQ_CLS" else None,
    )  # fmt: skip


def fine_tuned(spec: Spec, model: Any, tokenizer: Any, said: Sequence[tuple[str, str]]) -> tuple[Any, list[float]]:
    """(the model with an adapter that learnt the answers, losses)."""
    rows = [{"prompt": asked(spec, prompt), "completion": assistant(answer)} for prompt, answer in said]
    config = SFTConfig(**arguments(spec["sft"]), num_train_epochs=1, completion_only_loss=True, max_length=2048)
    trainer = SFTTrainer(
        model, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        peft_config=lora(spec, "CAUSAL_LM"),
    )  # fmt: skip
    trainer.train()
    return trainer.model, [row["loss"] for row in trainer.state.log_history if "loss" in row]


def reward_model(spec: Spec, tokenizer: Any, pairs: Sequence[Spec], better: Sequence[str]) -> tuple[Any, list[float]]:
    """(a reward model of the labels, losses). better: "a" or "b", of each pair."""
    model = AutoModelForSequenceClassification.from_pretrained(
        spec["model"], num_labels=1, dtype=getattr(torch, spec["dtype"])
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    torch.nn.init.zeros_(model.score.weight)
    rows = [
        {"prompt": asked(spec, pair["prompt"]), "chosen": assistant(pair[side]), "rejected": assistant(pair[other])}
        for pair, side in zip(pairs, better, strict=True)
        for other in "ab".replace(side, "")
    ]
    config = RewardConfig(**arguments(spec["reward"]), num_train_epochs=1, max_length=2048)
    trainer = RewardTrainer(
        model, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        peft_config=lora(spec, "SEQ_CLS"),
    )  # fmt: skip
    trainer.train()
    return trainer.model, [row["loss"] for row in trainer.state.log_history if "loss" in row]


@torch.no_grad()
def rewards(spec: Spec, model: Any, tokenizer: Any, said: Sequence[tuple[str, str]]) -> list[float]:
    model.eval()
    chats = [[*asked(spec, prompt), *assistant(answer)] for prompt, answer in said]
    rows = [
        tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), add_special_tokens=False)["input_ids"]
        for chat in chats
    ]
    found: dict[int, float] = {}
    for some in batches(sorted(range(len(rows)), key=lambda i: -len(rows[i]))):
        padded = tokenizer.pad({"input_ids": [rows[i] for i in some]}, padding_side="right", return_tensors="pt")
        found |= dict(zip(some, model(**padded).logits.squeeze(-1).float().tolist(), strict=True))
    return [found[i] for i in range(len(rows))]


def ppo(spec: Spec, policy: Any, reward: Any, tokenizer: Any, prompts: Sequence[str], scale: Any) -> list[Spec]:
    """The log, a row a rollout; the policy itself is changed. scale: mean and spread of rewards on the SFT answers."""
    rl = spec["rl"]

    def scored(prompts: Sequence[Chat], completions: Sequence[Chat], **_: Any) -> list[float]:
        said = [(chat[-1]["content"], answer[-1]["content"]) for chat, answer in zip(prompts, completions, strict=True)]
        return [(value - scale[0]) / scale[1] for value in rewards(spec, reward, tokenizer, said)]

    config = PPOConfig(
        **arguments(rl), rollouts=rl["steps"], num_ppo_epochs=rl["epochs"], generation_batch_size=rl["batch_size"],
        max_completion_length=rl["max_new_tokens"], temperature=1.0,
    )  # fmt: skip
    rows = Dataset.from_list([{"prompt": asked(spec, prompt)} for prompt in prompts])
    for name, weight in policy.named_parameters():
        weight.requires_grad_("lora_" in name)
    trainer = PPOTrainer(policy, scored, config, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return [row for row in trainer.state.log_history if "reward" in row]


# 3. Answers -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def answers(spec: Spec, model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    said, how = [], spec["answers"]
    model.eval()
    for some in batches(prompts):
        texts = [
            tokenizer.apply_chat_template(asked(spec, prompt), tokenize=False, add_generation_prompt=True)
            for prompt in some
        ]
        padded = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
        out = model.generate(
            **padded, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=how["max_new_tokens"]
        )
        said += tokenizer.batch_decode(out[:, padded["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


def asked(spec: Spec, prompt: str) -> Chat:
    return [{"role": "system", "content": spec["system"]}, {"role": "user", "content": prompt}]


def assistant(text: str) -> Chat:
    return [{"role": "assistant", "content": text}]


def batches(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


def main(spec: Spec) -> dict[str, Any]:
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(spec["model"], pad_token=spec["pad"])
    base = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=getattr(torch, spec["dtype"])).eval()
    pairs = [json.loads(line) for line in Path(spec["pairs"]).read_text().splitlines()]
    training, held_out = ([pair for pair in pairs if pair["split"] == split] for split in ("train", "test"))

    # The judge labels all pairs: log-odds that a is better.
    said = [(pair["prompt"], pair[side]) for pair in pairs for side in "ab"]
    odds = rated(base, tokenizer, said, spec["principles"])
    labels = {pair["id"]: odds[2 * i] - odds[2 * i + 1] for i, pair in enumerate(pairs)}

    # Start model: its answers come first, for SFT puts its adapter into the model itself.
    prompts = list(dict.fromkeys(pair["prompt"] for pair in held_out))
    texts = {"start": answers(spec, base, tokenizer, prompts)}

    better = [(pair["prompt"], pair["a"] if pair["human"] > 0.5 else pair["b"]) for pair in training]
    policy, sft_losses = fine_tuned(spec, base, tokenizer, better)
    texts["sft"] = answers(spec, policy, tokenizer, prompts)

    sides = ["a" if labels[pair["id"]] > 0 else "b" for pair in training]
    reward, reward_losses = reward_model(spec, tokenizer, training, sides)
    of_sft = rewards(spec, reward, tokenizer, better)
    of_pairs = rewards(spec, reward, tokenizer, [(pair["prompt"], pair[side]) for pair in held_out for side in "ab"])

    scale = (fmean(of_sft), pstdev(of_sft) or 1.0)
    log = ppo(spec, policy, reward, tokenizer, [pair["prompt"] for pair in training], scale)
    texts["policy"] = answers(spec, policy, tokenizer, prompts)

    # What everybody said, by the reward model and by the judge, who is the start model: the adapter is switched off.
    scores = {
        who: rewards(spec, reward, tokenizer, list(zip(prompts, mine, strict=True))) for who, mine in texts.items()
    }
    with policy.disable_adapter():
        everything = [(prompt, text) for mine in texts.values() for prompt, text in zip(prompts, mine, strict=True)]
        merits = rated(policy, tokenizer, everything, spec["principles"])
    return {
        "labels": labels, "sft losses": sft_losses, "reward losses": reward_losses, "pair rewards": of_pairs,
        "rollouts": [{name: row[name] for name in ("reward", "kl")} for row in log], "answers": texts,
        "scores": scores, "merits": merits,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
