"""RLOO, GRPO and soft DPO as trainers: the reference is what they start from, they resume, and each learns."""

import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import get_peft_model
from test_ppo import PROMPTS, adapter, share_of_yes, weights
from test_resume import KilledAt, history, log
from test_score import tiny_policy, tiny_tokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, RLOOConfig

from cai.models.architectures import lora
from cai.models.loading import load_causal, load_tokenizer, save
from cai.models.references import ModelRef
from cai.train.checkpoints import last_checkpoint
from cai.train.dpo_trainer import SoftDPOTrainer
from cai.train.rl.groups import ResumableGRPO, ResumableRLOO

torch.set_num_threads(1)
KINDS: dict[str, Any] = {"rloo": (ResumableRLOO, RLOOConfig), "grpo": (ResumableGRPO, GRPOConfig)}
QUIET = {
    "use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "seed": 5, "disable_tqdm": True,
    "activation_checkpointing": False, "disable_dropout": True, "logging_steps": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def sft(tiny, tmp_path_factory) -> dict[str, ModelRef]:
    """What fine-tuning might have made of the tiny model: an adapter that is not zero, and other whole weights."""
    made = {}
    for kind in ("lora", "full"):
        torch.manual_seed(1)
        model: Any = load_causal(tiny, "float32", "cpu")
        if kind == "lora":
            model = get_peft_model(model, lora(model, 4, None))
        for name, parameter in model.named_parameters():
            if "lora_B" in name or kind == "full":
                parameter.data += 0.1 * torch.randn_like(parameter)
        folder = tmp_path_factory.mktemp("sft") / kind
        save(model, load_tokenizer(tiny), folder)
        made[kind] = ModelRef(kind, str(folder), kind)
    return made


def length(completions, **_) -> list[float]:
    return [len(answer[0]["content"]) / 10 for answer in completions]


def trainer(kind: str, path: Path, model=None, reward=share_of_yes, penalty=0.0, **options) -> Any:
    make, config = KINDS[kind]
    given = {name: options.pop(name, None) for name in ("processing_class", "callbacks")}
    given["processing_class"] = given["processing_class"] or tiny_tokenizer()
    defaults = QUIET | {"max_steps": 3, "per_device_train_batch_size": 8, "num_generations": 2, "learning_rate": 1e-2}
    defaults |= {"max_completion_length": 6, "beta": 0.05}
    return make(
        model or tiny_policy(),
        reward,
        config(str(path), **defaults | options),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        missing_eos_penalty=penalty,
        **given,
    )


# --- RLOO and GRPO


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["lora", "full"])
def test_the_reference_is_the_sft_policy(kind, form, sft, tiny, tmp_path):
    """KL is 0 at the first step and not later; had the reference been the start model, it would not be 0 at first."""
    model = load_causal(sft[form], "float32", "cpu", train=True)
    made = trainer(kind, tmp_path, model, length, processing_class=load_tokenizer(tiny))
    made.train()
    kls = [row["kl"] for row in history(made)]
    assert kls[0] == pytest.approx(0, abs=1e-5) and abs(kls[-1]) > 1e-3
    ids = torch.tensor([[1, 5, 9, 20, 33]])
    with torch.no_grad():
        before, after = (load_causal(source, "float32", "cpu")(ids).logits for source in (tiny, sft[form]))
    assert (before.log_softmax(-1) - after.log_softmax(-1)).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_bit_for_bit(kind, sft, tiny, tmp_path):
    """From the adapter of SFT, between a rollout's two updates. Whole weights, new adapters: test_resume_groups.py."""
    options = {"max_steps": 8, "num_iterations": 2, "save_strategy": "steps", "save_steps": 2, "temperature": 1.3}
    options |= {"logging_steps": 2, "warmup_steps": 3, "lr_scheduler_type": "constant_with_warmup"}

    def make(name: str, **more) -> Any:
        model = load_causal(sft["lora"], "float32", "cpu", train=True)
        given = {"processing_class": load_tokenizer(tiny)}
        return trainer(kind, tmp_path / name, model, length, **given, **options | more)

    whole = make("whole", save_strategy="no")
    whole.train()
    killed = make("killed", callbacks=[KilledAt(5)])
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    assert last_checkpoint(tmp_path / "killed") == tmp_path / "killed/checkpoint-4"
    resumed = make("killed")
    resumed.train(resume_from_checkpoint=True)
    assert log(resumed) == log(whole) and len(log(whole)) == 4
    ours = weights(resumed)
    assert [name for name, tensor in weights(whole).items() if not torch.equal(tensor, ours[name])] == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_raises_a_reward(kind, tmp_path):
    made = trainer(kind, tmp_path, max_steps=26, per_device_train_batch_size=24, beta=0.0, max_completion_length=4)
    made.train()
    rewards = [row["reward"] for row in history(made)]
    assert fmean(rewards[:5]) < 0.2 and fmean(rewards[-5:]) > 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_without_end_is_penalised_and_the_curve_shows_the_reward_without_it(kind, tmp_path):
    """One-token answers: those that are not the end of the turn were cut off. Every third cannot be scored."""
    answers: list[list[int]] = []

    def reward(completion_ids, **_):
        answers.extend(completion_ids)
        return [None if n % 3 == 2 else 2.0 for n in range(len(completion_ids))]

    made = trainer(kind, tmp_path, None, reward, penalty=0.5, beta=0.0, max_steps=1, max_completion_length=1)
    kept, calculate = [], made._calculate_rewards

    def watched(*args):
        kept.append(calculate(*args))
        return kept[-1]

    made._calculate_rewards = watched
    made.train()
    wanted = [None if n % 3 == 2 else 2.0 if ids == [2] else 1.5 for n, ids in enumerate(answers)]
    assert [None if math.isnan(value) else value for value in kept[0].squeeze(1).tolist()] == wanted
    (row,) = history(made)
    assert row["reward"] == 2.0 and row["unscored"] == 0.25 and len(answers) == 8
    assert row["eos_rate"] == pytest.approx(sum(ids == [2] for ids in answers) / 8)


# --- DPO

PAIRS = [("hello", "yes", "no"), ("w1", "w2 w3 yes", "no"), ("w4 w5", "stop", "yes yes")]
LABELS = [0.9, 0.3, 0.6]


def pair_rows(labels=LABELS) -> Dataset:
    tokenizer = tiny_tokenizer()
    rows = []
    for texts, p in zip(PAIRS, labels, strict=True):
        prompt, a, b = (tokenizer(text)["input_ids"] for text in texts)
        rows.append({"prompt_ids": [1, 6, 4, *prompt], "chosen_ids": [*a, 2], "rejected_ids": [*b, 2], "p": p})
    return Dataset.from_list(rows)


class TrlsOwn(DPOTrainer):
    """On rows that are tokenised already."""

    def _prepare_dataset(self, dataset, *_):
        return dataset


def dpo(path: Path, model=None, labels=LABELS, kind=SoftDPOTrainer, ref_model=None, **options) -> Any:
    defaults = QUIET | {"per_device_train_batch_size": 3, "beta": 0.2, "max_length": None}
    defaults |= {"lr_scheduler_type": "constant"}
    config = DPOConfig(str(path), **defaults | options)
    rows = pair_rows(labels)
    return kind(
        model or adapted(), args=config, train_dataset=rows, processing_class=tiny_tokenizer(), ref_model=ref_model
    )


def adapted() -> Any:
    """A policy with an adapter that has learnt something already."""
    torch.manual_seed(0)
    model = get_peft_model(tiny_policy(), adapter())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def gain(policy: Any, reference: Any, prompt: list[int], answer: list[int]) -> float:
    """log pi(answer) - log pi_ref(answer), token by token, without any batch."""
    total, seen = 0.0, list(prompt)
    with torch.no_grad():
        for token in answer:
            for model, sign in ((policy, 1), (reference, -1)):
                total += sign * model(torch.tensor([seen])).logits[0, -1].log_softmax(-1)[token].item()
            seen.append(token)
    return total


def test_the_soft_loss_by_hand(tmp_path):
    """From log-probabilities that are summed one by one: -p log s - (1 - p) log(1 - s), s = o / (1 + o), o = e^d."""
    policy, reference = tiny_policy(1), tiny_policy(0)
    losses = []
    for row in pair_rows():
        a, b = (gain(policy, reference, row["prompt_ids"], row[name]) for name in ("chosen_ids", "rejected_ids"))
        odds = math.exp(0.2 * (a - b))
        losses.append(-row["p"] * math.log(odds / (1 + odds)) - (1 - row["p"]) * math.log(1 / (1 + odds)))
    made = dpo(tmp_path, tiny_policy(1), ref_model=reference)
    batch = made.data_collator([made.train_dataset[i] for i in range(3)])
    assert made.compute_loss(made.model.eval(), batch).item() == pytest.approx(fmean(losses), abs=1e-5)
    assert max(losses) - min(losses) > 0.01


def test_certain_labels_give_trls_own_loss(tmp_path):
    losses = []
    for kind in (SoftDPOTrainer, TrlsOwn):
        made = dpo(tmp_path, None, [1.0] * 3, kind, max_steps=4, learning_rate=1e-2)
        made.train()
        losses.append([row["loss"] for row in made.state.log_history if "loss" in row])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][0] == pytest.approx(math.log(2), abs=1e-4) and losses[0][-1] < 0.66


def test_dpo_learns_the_labels_as_probabilities_against_what_it_started_from(tmp_path):
    """Trained to the end, sigmoid of the implicit rewards' difference is the label, against the first policy."""
    reference = adapted().eval()
    made = dpo(tmp_path, adapted(), max_steps=90, learning_rate=3e-2, beta=1.0)
    made.train()
    steps = [row for row in made.state.log_history if "accuracy" in row]
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-4), "no difference at the first step"
    assert steps[-1]["accuracy"] == 1.0 and steps[-1]["margin"] > 0.5
    policy = made.model.eval()
    learnt = []
    for row in pair_rows():
        a, b = (gain(policy, reference, row["prompt_ids"], row[name]) for name in ("chosen_ids", "rejected_ids"))
        learnt.append(1 / (1 + math.exp(b - a)))
    assert learnt == pytest.approx(LABELS, abs=0.05)


def test_dpo_without_p_or_with_another_loss_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="soft DPO alone"):
        dpo(tmp_path, label_smoothing=0.1)
    with pytest.raises(AssertionError, match=r"lacks \['p'\]"):
        SoftDPOTrainer(
            tiny_policy(), DPOConfig(str(tmp_path), **QUIET), processing_class=tiny_tokenizer(),
            train_dataset=pair_rows().remove_columns("p"),
        )  # fmt: skip
