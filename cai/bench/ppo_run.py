"""One measured run of PPO in a process of its own, by our trainer or by TRL 1.12's: `ppo_run.py ours|trl SPEC.json`.

The peer's interpreter runs this file by its path, without `cai` beside it: so nothing of `cai` is imported here but in
`ours`, and what both sides measure with (`Meter`) is here too.

What the peer was given, and why, where its own defaults would have made it look worse, or the comparison unfair:

- The critic has LoRA, as the policy has. TRL's examples train the critic whole, which costs two more numbers a weight
  of optimizer state, and a backward pass through all of them. PPOTrainer takes `peft_config` for the policy alone, but
  a critic that PEFT has wrapped already works, if PEFT was asked for the task SEQ_CLS.
- The reward model is an adapter; the peer reads it merged into its weights, which is quicker than beside them.
- No activations are recomputed, as in ours. (The peer never reads `gradient_checkpointing`, whatever it is set to.)
- The whole batch in one forward (`local_rollout_forward_batch_size`), no samples printed, nothing saved or reported.
- Its `bf16` setting changes nothing: it makes an Accelerator that is not told of it. What does work is to load all its
  models in bfloat16; so it is run in both precisions (`dtype` in the spec), and the table shows both. (The environment
  variable ACCELERATE_MIXED_PRECISION works too, but keeps its float32 weights, and so their memory.)
- No stop token: then each answer has exactly the number of tokens that was asked for. So has ours.
"""

import gc
import json
import re
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

PHASES = ("generate", "score", "evaluate", "forward", "backward", "optimizer")


class Meter:
    """Time, tokens and memory of a run; the first rollout is a warm-up and counts for memory alone.

    Phases exclude one another: what runs inside a phase belongs to it.
    """

    def __init__(self, device: str, warmup: int = 1) -> None:
        self.device, self.warmup = device, warmup
        self.rollouts = self.tokens = 0
        self.seconds, self.began = 0.0, 0.0
        self.phases = dict.fromkeys(PHASES, 0.0)
        self.inside = False
        self.loading, self.forgot = 0, False

    def now(self) -> float:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def start(self) -> None:
        """Call it when everything is loaded: what loading took at its peak is not training's."""
        gc.collect()
        self.loading = peak_memory()
        self.forgot = forget_peak()

    def rollout_ended(self) -> None:
        self.rollouts += 1
        if self.rollouts == self.warmup:
            self.tokens, self.phases = 0, dict.fromkeys(PHASES, 0.0)
            self.began = self.now()
        self.seconds = self.now() - self.began

    def watch(self, owner: Any, name: str, phase: str | Callable[..., str]) -> None:
        """Time a method or function; phase: where its time belongs, or what says so from its arguments."""
        plain = getattr(owner, name)

        @wraps(plain)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self.inside:
                return plain(*args, **kwargs)
            self.inside, start = True, self.now()
            try:
                return plain(*args, **kwargs)
            finally:
                self.inside = False
                self.phases[phase if isinstance(phase, str) else phase(*args)] += self.now() - start

        setattr(owner, name, timed)

    def result(self, **more: Any) -> dict[str, Any]:
        """Bytes, seconds. training: the peak since `start`; None where this system does not tell."""
        training = peak_memory()
        measured: dict[str, Any] = {"rollouts": self.rollouts - self.warmup, "seconds": self.seconds}
        measured |= {"tokens": self.tokens, "phases": self.phases, "process": max(self.loading, training)}
        measured["training"] = training if self.forgot else None
        if self.device == "cuda":
            import torch

            measured["process"] = measured["training"] = torch.cuda.max_memory_allocated()
        return measured | more


def peak_memory() -> int:
    """The most memory (bytes) that the process ever had at once, since `forget_peak` where the system can forget."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def forget_peak() -> bool:
    """Whether it could: only Linux can, and not in every container."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def watch_backward_and_optimizer(meter: Meter) -> None:
    import torch

    meter.watch(torch.Tensor, "backward", "backward")
    meter.watch(torch.optim.AdamW, "step", "optimizer")


def common_arguments(spec: dict[str, Any]) -> dict[str, Any]:
    """What both configs are told in the same words."""
    return {
        "output_dir": spec["folder"],
        "per_device_train_batch_size": spec["batch"],
        "num_ppo_epochs": spec["epochs"],
        "learning_rate": 1e-5,
        "temperature": 1.0,
        "seed": 0,
        "use_cpu": spec["device"] == "cpu",
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def rollout_clock(meter: Meter, updates: int = 1) -> Any:
    """A trainer's callback that tells the meter of the end of each rollout. updates: the trainer's steps a rollout."""
    from transformers import TrainerCallback

    class RolloutClock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % updates == 0:
                meter.rollout_ended()

    return RolloutClock()


# 1. Ours --------------------------------------------------------------------------------------------------------------


def ours(spec: dict[str, Any]) -> dict[str, Any]:
    """Our PPOTrainer: a policy with a new adapter, and the reward model by its path."""
    import trl
    from datasets import Dataset

    from cai.models.architectures import lora
    from cai.models.loading import load_causal, load_tokenizer
    from cai.models.references import find
    from cai.train import PPOConfig, PPOTrainer

    meter, model = Meter(spec["device"]), find(spec["model"])
    policy = load_causal(model, spec["dtype"], spec["device"])
    config = PPOConfig(
        rollouts=spec["steps"] + meter.warmup,
        generation_batch_size=spec["batch"],
        max_completion_length=spec["tokens"],
        **common_arguments(spec),
    )
    trainer: Any = PPOTrainer(
        policy,
        spec["reward"],
        config,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in spec["prompts"]]),
        processing_class=load_tokenizer(model),
        peft_config=lora(policy, spec["lora"]["r"], None),
    )
    trainer.eos_token_ids = {-1}  # which no token is
    generate = trainer._generate

    def counted(*args: Any) -> Any:
        output = generate(*args)
        meter.tokens += sum(len(answer) for answer in output[1])
        return output

    trainer._generate = counted
    watch_backward_and_optimizer(meter)
    for name, phase in (
        ("_generate", "generate"),
        ("_calculate_rewards", "score"),
        ("_evaluate_rollout", "evaluate"),
        ("_compute_loss", "forward"),
    ):
        meter.watch(trainer, name, phase)

    trainer.add_callback(rollout_clock(meter, config.updates_per_rollout))
    meter.start()
    trainer.train()
    return meter.result(trl=trl.__version__)


# 2. The peer ----------------------------------------------------------------------------------------------------------


def peer(spec: dict[str, Any]) -> dict[str, Any]:
    """TRL 1.12's PPOTrainer: policy and critic with adapters, reference = the policy's adapter switched off."""
    import torch
    import trl
    from datasets import Dataset
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.experimental import ppo  # pyrefly: ignore
    from trl.experimental.ppo import ppo_trainer  # pyrefly: ignore

    meter, dtype = Meter(spec["device"]), getattr(torch, spec["dtype"])

    def with_reward_adapter() -> Any:
        model = AutoModelForSequenceClassification.from_pretrained(spec["base"], num_labels=1, dtype=dtype)
        return PeftModel.from_pretrained(model, spec["reward"]).merge_and_unload().to(dtype)

    tokenizer = AutoTokenizer.from_pretrained(spec["reward"])  # its padding token is not its end of text
    policy = AutoModelForCausalLM.from_pretrained(spec["base"], dtype=dtype)
    critic = get_peft_model(
        with_reward_adapter(), LoraConfig(**spec["lora"], task_type="SEQ_CLS", modules_to_save=["score"])
    )
    config = ppo.PPOConfig(
        total_episodes=spec["batch"] * (spec["steps"] + meter.warmup),
        response_length=spec["tokens"],
        local_rollout_forward_batch_size=spec["batch"],
        num_sample_generations=0,
        gradient_checkpointing=False,
        **common_arguments(spec),
    )

    reward_model = with_reward_adapter()
    generate = ppo_trainer.batch_generation

    def counted(model: Any, queries: Any, *args: Any) -> Any:
        output = generate(model, queries, *args)
        meter.tokens += output[0].size(0) * (output[0].size(1) - queries.size(1))
        return output

    ppo_trainer.batch_generation = counted
    meter.watch(ppo_trainer, "batch_generation", "generate")
    meter.watch(ppo_trainer, "get_reward", lambda model, *_: "score" if model is reward_model else "evaluate")
    meter.watch(ppo_trainer, "forward", lambda *_: "forward" if torch.is_grad_enabled() else "evaluate")
    watch_backward_and_optimizer(meter)
    trainer = ppo.PPOTrainer(
        config,
        tokenizer,
        policy,
        None,
        reward_model,
        Dataset.from_list([{"input_ids": ids} for ids in spec["ids"]]),
        critic,
        callbacks=[rollout_clock(meter)],
        peft_config=LoraConfig(**spec["lora"], task_type="CAUSAL_LM"),
    )
    meter.start()
    trainer.train()
    return meter.result(trl=trl.__version__)


def main(who: str, file: str) -> None:
    spec = json.loads(Path(file).read_text())
    import torch

    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    measured = {"ours": ours, "trl": peer}[who](spec)
    Path(spec["result"]).write_text(json.dumps(measured | {"threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
