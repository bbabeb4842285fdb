"""What `cai.bench card` and `cai.bench all` measure of training (card.py, all.py): steps of SFT, of a reward model and
of PPO, over the one network of a size."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cai.bench.card_parts import LORA, CardRun, Subject
from cai.bench.ppo_run import Meter, common_arguments, rollout_clock
from cai.models.architectures import lora
from cai.models.loading import load_tokenizer

STEPS = 3  # of a reward model that are timed, after one that is not
PAIRS = 8  # of one of these


@contextmanager
def with_adapter(subject: Subject) -> Iterator[Any]:
    """Within: the network with an adapter that learns; after it, as it was."""
    from peft import get_peft_model

    wrapped: Any = get_peft_model(subject.network, lora(subject.network, LORA, None)).train()
    if subject.shape.recomputes:
        wrapped.enable_input_require_grads()
        wrapped.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        yield wrapped
    finally:
        wrapped.unload()
        if subject.shape.recomputes:
            subject.network.disable_input_require_grads()
            subject.network.gradient_checkpointing_disable()
        subject.network.eval().requires_grad_(False)


def trained(session: CardRun, subject: Subject, network: Any, *, tf32: bool = False) -> dict[str, Any]:
    """network: with an adapter that learns, whose products are in float32 (PEFT's way)."""
    import torch

    rows = max(1, subject.shape.rows // 4)
    ids = torch.randint(2, subject.shape.vocabulary, (rows, subject.tokens), device=session.device)
    optimizer = torch.optim.AdamW([weight for weight in network.parameters() if weight.requires_grad], lr=1e-5)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")

    def step() -> float:
        network(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(ids.numel())

    try:
        return session.timed(step, 2) | {"rows": rows, "text_tokens": subject.tokens, "lora_rank": LORA}
    finally:
        torch.set_float32_matmul_precision(precision)


def reward(session: CardRun, subject: Subject, who: str) -> dict[str, Any]:
    """Steps of a reward model with LoRA, on pairs of answers to one prompt. who: "ours" or "trl", on the same pairs."""
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    from cai.models.resident import with_reward_head
    from cai.train.common import checkpointing
    from cai.train.reward_trainer import SoftRewardTrainer, element
    from cai.train.thrift import thrifty

    rows = max(1, PAIRS if subject.shape.rows > 2 else 2)
    draw = torch.Generator().manual_seed(0)
    ids = [
        torch.randint(2, 250, (subject.tokens - 17 * (k % 3),), generator=draw).tolist()
        for k in range(2 * rows * (STEPS + 1))
    ]
    pairs = list(zip(ids[::2], ids[1::2], strict=True))
    ours = [element([(a, b, 0.7)]) for a, b in pairs]
    theirs = [{"chosen_ids": a, "rejected_ids": b} for a, b in pairs]
    network: Any = with_reward_head(subject.network)
    network.config.pad_token_id = 0
    meter = Meter("cuda" if session.cuda else session.device)
    with tempfile.TemporaryDirectory() as folder:
        arguments = common_arguments({"folder": folder, "batch": rows, "epochs": 1, "device": session.device})
        for name in ("num_ppo_epochs", "temperature"):
            del arguments[name]
        config = RewardConfig(
            max_length=None, max_steps=STEPS + 1, **checkpointing(subject.shape.recomputes), **arguments
        )
        kind: Any = SoftRewardTrainer if who == "ours" else RewardTrainer
        trainer: Any = kind(
            model=network, args=config, train_dataset=Dataset.from_list(ours if who == "ours" else theirs),
            processing_class=load_tokenizer(subject.ref), peft_config=lora(network, LORA, None, reward=True),
        )  # fmt: skip
        if who == "ours" and not subject.shape.recomputes:  # as the stages do
            thrifty(trainer.model)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(rollout_clock(meter))
        session.forget_peak()
        trainer.train()
    tokens = float(sum(len(a) + len(b) for a, b in pairs)) * STEPS / (STEPS + 1)
    return {
        "per_second": tokens / meter.seconds, "units": tokens, "seconds": meter.seconds, "peak_bytes": session.peak(),
        "pairs": rows, "text_tokens": subject.tokens,
    }  # fmt: skip


def ppo(session: CardRun, subject: Subject) -> dict[str, Any]:
    """Rollouts of our trainer: the first is a warm-up, the second is timed. phases: seconds of that, by what was done;
    what is left of the whole is the optimizer, and what lies between."""
    from datasets import Dataset
    from transformers import PrinterCallback

    from cai.train import PPOConfig, PPOTrainer
    from cai.train.common import checkpointing

    rows, new, network = max(2, subject.shape.rows // 4), subject.new, subject.network
    meter = Meter("cuda" if session.cuda else session.device)
    with tempfile.TemporaryDirectory() as folder:
        spec = {"folder": folder, "batch": rows, "epochs": 1, "device": session.device}
        config = PPOConfig(
            rollouts=2, generation_batch_size=rows, max_completion_length=new,
            **checkpointing(subject.shape.recomputes), **common_arguments(spec),
        )  # fmt: skip
        chats = [subject.chat(k, subject.tokens // 2) for k in range(2 * rows)]
        prompts = [[{"role": turn.role, "content": turn.content} for turn in chat] for chat in chats]
        trainer: Any = PPOTrainer(
            network,
            lambda completions, **_: [float(len(turns[-1]["content"])) for turns in completions],
            config,
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
            processing_class=load_tokenizer(subject.ref),
            peft_config=lora(network, LORA, None),
        )
        trainer.eos_token_ids = {-1}
        trainer.remove_callback(PrinterCallback)  # which would print among our figures
        trainer.add_callback(rollout_clock(meter, config.updates_per_rollout))
        for owner, name, phase in (
            (trainer, "_generate", "generate"),
            (trainer, "_evaluate_rollout", "evaluate"),
            (trainer, "_compute_loss", "forward"),
            (trainer.accelerator, "backward", "backward"),
        ):
            meter.watch(owner, name, phase)
        session.forget_peak()
        trainer.train()
    units = float(rows * new)
    phases = {name: round(seconds, 4) for name, seconds in meter.phases.items() if seconds}
    says = f"{meter.seconds:.2f} s a rollout of {rows} x {new}: " + ", ".join(f"{n} {s:.2f}" for n, s in phases.items())
    return {
        "per_second": units / meter.seconds, "units": units, "seconds": meter.seconds, "peak_bytes": session.peak(),
        "rows": rows, "new_tokens": new, "phases": phases, "says": says,
    }  # fmt: skip


def training_parts(session: CardRun, subject: Subject) -> None:
    """`ppo` comes last, because it puts an adapter of its own on the network."""
    place, size = session.found["sizes"][subject.size], subject.size
    with with_adapter(subject) as wrapped:
        session.part(place, "trained", size, lambda: trained(session, subject, wrapped))
        if session.cuda:
            session.part(place, "trained, TF32", size, lambda: trained(session, subject, wrapped, tf32=True))
    session.part(place, "ppo", size, lambda: ppo(session, subject))
