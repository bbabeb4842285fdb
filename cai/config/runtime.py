"""The `runtime:` section of a YAML file: where, how fast and for how much a run works. None of it is in a key."""

from typing import Literal

from pydantic import Field, model_validator

from cai.config.processes import Processes
from cai.config.section import Amount, Positive, Rate, Section
from cai.config.serve import Serving
from cai.config.served import Price
from cai.config.validation import Fault


class TaskNeeds(Section):
    """gpus: null for one where `device` is a GPU; a share (0.5) puts several stages on one. cpus: null for `threads`,
    or what the cores come to among as many stages as run side by side."""

    cpus: Positive | None = None
    gpus: Amount | None = None


class Runtime(Processes):
    """Where and how fast; never part of a key, never changes a result by more than rounding.

    Two exceptions: dtype is stored with each call and all weights; with `serve` a judge is what its server answers for.
    """

    device: str = "auto"
    threads: Positive | None = None
    batch_tokens: Positive = 4096
    root: str = "runs"
    # Trackers that every training is reported to, through TRL; each is a package of its own. None unless named.
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    # Servers that the run starts for the models that it only asks, and stops: llama.cpp, or vllm (cai/config/serve.py).
    serve: Serving = None
    # Servers: how many requests are under way at one time, over all replicas of a model.
    concurrency: Positive = 16
    # A run stops before its servers have read and written more tokens than this, or cost more; answers are kept.
    max_tokens: Positive | None = None
    max_cost: Rate | None = None
    # The name of a served model -> its price.
    prices: dict[str, Price] = Field(default={})
    # null: one stage after another, in this process. processes: independent stages side by side, each in a process of
    # its own on this machine. ray: as tasks of Ray (pip install 'cai[ray]'), on this machine or on a cluster.
    executor: Literal["processes", "ray"] | None = None
    # Stages side by side, at most. null: one for each card; where there is none, one for four cores, and at least two.
    workers: Positive | None = None
    # What Ray sets aside for a stage that computes with a model.
    task: TaskNeeds = TaskNeeds()
    # A cluster of Ray that runs: its address, or auto. null: RAY_ADDRESS, else one is started on this machine.
    ray: str | None = None

    @model_validator(mode="after")
    def _somebody_runs_the_workers(self) -> "Runtime":
        if self.workers and not self.executor:
            problem = "workers run stages side by side, and no executor starts any"
            raise Fault(problem, "add runtime.executor: processes (or ray)", "workers")
        return self
