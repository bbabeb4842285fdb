"""Online DPO: its loss by hand, soft labels, abstentions, pairs that stay together, resumption, and that it learns."""

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import get_peft_model
from test_ppo import EOS, PROMPTS, YES, adapter, curve, rollout_of, weights
from test_resume import KilledAt, log
from test_score import tiny_policy, tiny_tokenizer
from trl import GRPOConfig

from cai.train.checkpoints import last_checkpoint
from cai.train.rl.online_dpo import OnlineDPOTrainer

torch.set_num_threads(1)
ANSWERS = [[YES, EOS], [YES, YES, YES], [EOS], [YES, 9, EOS]]
SEEDS = (1, 2, 3)


def shorter(prompts, completion_ids, **_) -> list[float]:
    """P(this one is better) of each answer of a pair: the shorter is, surely."""
    won: list[float] = []
    for a, b in zip(completion_ids[::2], completion_ids[1::2], strict=True):
        p = 0.5 if len(a) == len(b) else float(len(a) < len(b))
        won += [p, 1 - p]
    return won


def says(*p: float | None) -> Any:
    """A judge that gives these P(a better) of two pairs."""
    return lambda prompts, **_: [x for p_a in p for x in ((None, None) if p_a is None else (p_a, 1 - p_a))]


def trainer(path: Path, judge: Any = shorter, *, beta: float = 0.5, lora: bool = False, **options: Any) -> Any:
    rollouts, epochs = options.pop("rollouts", 2), options.pop("epochs", 1)
    callbacks = options.pop("callbacks", None)
    defaults = {"per_device_train_batch_size": 8, "num_generations": 2, "max_completion_length": 6}
    defaults |= {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "seed": 5}
    defaults |= {"disable_tqdm": True, "activation_checkpointing": False, "disable_dropout": True}
    defaults |= {"max_steps": rollouts * epochs, "logging_steps": epochs, "num_iterations": epochs}
    model = tiny_policy()
    return OnlineDPOTrainer(
        get_peft_model(model, adapter()) if lora else model,
        judge,
        GRPOConfig(str(path), **defaults | {"learning_rate": 1e-2} | options),
        Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        dpo_beta=beta,
        processing_class=tiny_tokenizer(),
        callbacks=callbacks,
    )


def loss_of(made: Any, lead: tuple[float, ...]) -> torch.Tensor:
    """Of `ANSWERS` whose log-probabilities are so many nats above the reference's."""
    inputs = rollout_of(made, ANSWERS)
    for name, logp_B in zip(("ref_logp", "ref_sampled"), made._logprobs(made.model, inputs)[:2], strict=True):
        inputs[name] = logp_B.detach() - torch.tensor(lead)
    return made._compute_loss(made.model, inputs | {"update_tokens": inputs["mask"].sum()})


def gradient(made: Any, lead: tuple[float, ...] = (0.0,) * 4) -> torch.Tensor:
    made.model.zero_grad()
    loss_of(made, lead).backward()
    return torch.cat([p.grad.flatten() for p in made.model.parameters() if p.grad is not None])


def test_the_loss_by_hand(tmp_path):
    # beta 1/2: d = (2 - 0)/2 = 1 and (0 - 4)/2 = -2. -log sigmoid of 1, -1, -2: 0.313262, 1.313262, 2.126928.
    # p = 3/4: 0.75 0.313262 + 0.25 1.313262 = 0.563262; p = 1: 2.126928. Their mean:
    made = trainer(tmp_path, says(0.75, 1.0))
    assert loss_of(made, (2.0, 0.0, 0.0, 4.0)).item() == pytest.approx(1.345095, abs=1e-5)
    # The judge is right about the first (margin 1) and the policy prefers the other of the second (margin -2).
    metrics = made._metrics["train"]
    assert metrics["accuracy"] == [0.5] and metrics["margin"] == [pytest.approx(-0.5, abs=1e-5)]
    assert metrics["kl"] == [pytest.approx(1.5, abs=1e-5)], "2, 0, 0 and 4 nats"
    assert metrics["reward"] == [0.5] and metrics["unscored"] == [0.0]
    assert metrics["completion_length"] == [pytest.approx(9 / 4)] and metrics["eos_rate"] == [0.75]


def test_a_pair_that_cannot_be_read_takes_no_part(tmp_path):
    made = trainer(tmp_path, says(0.75, None))
    assert loss_of(made, (2.0, 0.0, 0.0, 4.0)).item() == pytest.approx(0.563262, abs=1e-5)
    assert made._metrics["train"]["unscored"] == [0.5] and made._metrics["train"]["margin"] == [pytest.approx(1.0)]
    nothing = gradient(trainer(tmp_path, says(None, None)))
    assert nothing.abs().max() == 0, "and where none can be read, nothing is learnt"


def test_soft_labels_matter(tmp_path):
    """At d = 0 the loss is ln 2 whatever p is, and its slope in d is 1/2 - p: 0, -0.2 and -0.5."""
    for p in (0.5, 0.7, 1.0):
        loss = loss_of(trainer(tmp_path, says(p, 0.5)), (0.0,) * 4)
        assert loss.item() == pytest.approx(0.693147, abs=1e-5)
    even, soft, hard = (gradient(trainer(tmp_path, says(p, 0.5))) for p in (0.5, 0.7, 1.0))
    assert even.abs().max() == 0 and hard.abs().max() > 1e-4
    assert torch.allclose(soft, 0.4 * hard, atol=1e-7)


def test_the_temperature_of_sampling_is_none_of_the_loss(tmp_path):
    cold, warm = (trainer(tmp_path, says(0.75, 1.0), temperature=temperature) for temperature in (1.0, 2.0))
    rows = rollout_of(cold, ANSWERS)
    (logp, same, entropy), (also, sampled, more) = (made._logprobs(made.model, rows) for made in (cold, warm))
    assert torch.equal(logp, also) and torch.equal(logp, same) and not torch.allclose(sampled, logp)
    assert torch.equal(sampled, rollout_of(warm, ANSWERS)["ref_sampled"]) and (more > entropy).all()
    assert loss_of(warm, (2.0, 0.0, 0.0, 4.0)).item() == pytest.approx(1.345095, abs=1e-5)


def test_a_pair_goes_through_the_model_together(tmp_path):
    """In two forwards of two pairs each as in one of four, and in epochs that each see all of them."""
    one = trainer(tmp_path / "one", rollouts=3, epochs=2, warmup_steps=0)
    two = trainer(
        tmp_path / "two", rollouts=3, epochs=2, per_device_train_batch_size=2, gradient_accumulation_steps=4,
        generation_batch_size=8,
    )  # fmt: skip
    for made in (one, two):
        made.train()
    ours = weights(two)
    assert all(torch.allclose(tensor, ours[name], atol=1e-4) for name, tensor in weights(one).items())
    for name in ("loss", "kl", "margin", "entropy", "accuracy"):
        assert curve(two, name) == pytest.approx(curve(one, name), abs=1e-3), name
    assert curve(one, "kl")[0] == pytest.approx(0, abs=1e-5) and len(curve(one, "kl")) == 3


@pytest.mark.parametrize(("killed_at", "goes_on_from", "options"), [(3, 2, {"epochs": 2}), (6, 6, {"lora": True})])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, killed_at, goes_on_from, options):
    options |= {"rollouts": 7, "temperature": 1.3, "save_strategy": "steps", "save_steps": 1, "warmup_steps": 3}
    whole = trainer(tmp_path / "whole", **options | {"save_strategy": "no"})
    whole.train()
    killed = trainer(tmp_path / "killed", callbacks=[KilledAt(killed_at)], **options)
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    assert last_checkpoint(tmp_path / "killed") == tmp_path / f"killed/checkpoint-{goes_on_from}"
    resumed = trainer(tmp_path / "killed", **options)
    resumed.train(resume_from_checkpoint=True)
    assert log(resumed) == log(whole) and len(log(whole)) == 7
    ours = weights(resumed)
    assert [name for name, tensor in weights(whole).items() if not torch.equal(tensor, ours[name])] == []
    states = [made.optimizer.state_dict()["state"] for made in (whole, resumed)]
    assert all(torch.equal(states[0][i]["exp_avg_sq"], states[1][i]["exp_avg_sq"]) for i in states[0])


def test_a_judge_of_short_answers_makes_them_shorter(tmp_path):
    """Eight tokens at most; the mean length of the last five rollouts against the first five, over three seeds."""
    fell = []
    for seed in SEEDS:
        made = trainer(
            tmp_path / str(seed), seed=seed, rollouts=20, beta=0.1, max_completion_length=8,
            per_device_train_batch_size=16, lr_scheduler_type="constant",
        )  # fmt: skip
        made.train()
        lengths = curve(made, "completion_length")
        fell.append(fmean(lengths[:5]) - fmean(lengths[-5:]))
        assert curve(made, "loss")[0] == pytest.approx(0.6931, abs=1e-3)
        assert curve(made, "kl")[-1] > 0.1 and curve(made, "eos_rate")[-1] > curve(made, "eos_rate")[0]
    assert fmean(fell) - 4.303 * stdev(fell) / 3**0.5 > 0, fell  # Student's t, two degrees of freedom


def test_a_judge_that_knows_no_difference_moves_nothing(tmp_path):
    before = weights(made := trainer(tmp_path, says(*[0.5] * 4), rollouts=3, weight_decay=0.0))
    made.train()
    after = weights(made)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
