"""One training in a process of its own, by our trainer or by TRL's: `python -m cai.bench.train_run SPEC.json`.

It makes one step each time a line comes on its standard input, and answers each with a line of JSON on its standard
output. So two trainings can take turns step by step, on the same batches, with nothing of one in the memory of the
other. A step is all from one to the next: the batch is made, the model reads it, the weights move, the loss is logged.

Both ways get the same base weights, adapter (drawn from one seed), batches in one order, hard labels, precision and
schedule, and compute no activation twice. TRL's DPOTrainer tokenises texts; here it is given token ids instead, as its
RewardTrainer takes them, so that both read the same.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from cai.bench.ppo_run import Meter
from cai.models.architectures import lora
from cai.models.loading import load_causal, load_reward, load_tokenizer
from cai.models.references import find

BETA = 0.1


def arguments(spec: dict[str, Any]) -> dict[str, Any]:
    """What the configs of all trainers are told."""
    from cai.train.common import checkpointing

    return {
        "output_dir": spec["folder"], "per_device_train_batch_size": spec["batch"], "max_steps": spec["steps"],
        "learning_rate": 1e-4, "lr_scheduler_type": "constant", "max_length": None, "seed": 0,
        "train_sampling_strategy": "sequential", "use_cpu": spec["device"] == "cpu", "bf16": False,
        "report_to": "none", "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True,
        "dataloader_pin_memory": False, **checkpointing(False),
    }  # fmt: skip


def reward_trainer(spec: dict[str, Any], ours: bool) -> Any:
    from datasets import Dataset
    from trl import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    from cai.train.reward_trainer import SoftRewardTrainer, element

    model = find(spec["model"])
    network: Any = load_reward(model, spec["dtype"], spec["device"])
    rows = spec["rows"]
    if ours:
        rows = [element([(row["chosen_ids"], row["rejected_ids"], 1.0)]) for row in rows]
    kind: Any = SoftRewardTrainer if ours else RewardTrainer
    return kind(
        model=network, args=RewardConfig(**arguments(spec)), train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(model), peft_config=lora(network, spec["rank"], spec["layers"], reward=True),
    )  # fmt: skip


def dpo_trainer(spec: dict[str, Any], ours: bool) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from cai.train.dpo_trainer import SoftDPOTrainer

    class OfTokens(DPOTrainer):  # its own steps
        def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
            return dataset

    model = find(spec["model"])
    network: Any = load_causal(model, spec["dtype"], spec["device"])
    rows = [row | {"p": 1.0} for row in spec["rows"]] if ours else spec["rows"]
    kind: Any = SoftDPOTrainer if ours else OfTokens
    return kind(
        network, args=DPOConfig(beta=BETA, **arguments(spec)), train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(model), peft_config=lora(network, spec["rank"], spec["layers"]),
    )  # fmt: skip


def step_by_step(trainer: Any, meter: Meter, listen: Any, answer: Any) -> None:
    """Train; before each step a line is waited for, after each one its seconds are told."""
    from transformers import PrinterCallback, TrainerCallback

    class Turns(TrainerCallback):
        begun = (0.0, 0.0)

        def wait(self) -> None:
            listen.readline()
            self.begun = meter.now(), time.process_time()

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.wait()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seconds, cpu = meter.now() - self.begun[0], time.process_time() - self.begun[1]
            print(json.dumps({"seconds": seconds, "cpu": cpu}), file=answer, flush=True)
            if state.global_step < state.max_steps:
                self.wait()

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Turns())
    meter.start()
    print(json.dumps({"ready": meter.loading}), file=answer, flush=True)
    trainer.train()


def train(spec: dict[str, Any], listen: Any, answer: Any) -> None:
    """One training, step by step: lines come from `listen` and go to `answer`."""
    make = {"reward": reward_trainer, "dpo": dpo_trainer}[spec["method"]]
    import torch
    import trl
    from transformers import set_seed

    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    set_seed(0)
    trainer = make(spec, spec["way"] == "ours")
    if spec["way"] == "ours":
        from cai.models.trunk import States, read_once
        from cai.train.thrift import thrifty

        thrifty(trainer.model)
        read_once(trainer.model, spec["model"], States())  # as the stages do
    meter = Meter(spec["device"].partition(":")[0])
    step_by_step(trainer, meter, listen, answer)
    measured = meter.result()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    told = {"process": measured["process"], "training": measured["training"], "losses": losses}
    print(json.dumps(told | {"trl": trl.__version__, "threads": torch.get_num_threads()}), file=answer, flush=True)


def main(file: str) -> None:
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    train(json.loads(Path(file).read_text()), sys.stdin, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
