"""What each stage needs of a device: which model works, on how much at a time, and the memory that takes.

Worst cases, so that what passes here does not run out of memory after an hour: rows as long as their limits allow.
Nothing is loaded: shapes come from config.json, or from the size in a model's name (cai/models/shapes.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cai.config.load import Experiment
from cai.config.processes import read_accelerate
from cai.config.runtime import Runtime
from cai.core.errors import UserError, UserErrors
from cai.core.store import Artifact
from cai.experiment.check_servers import asked_judges, servers_of, with_revisers
from cai.experiment.work import JUDGED, model_of
from cai.models import memory
from cai.models.memory import GIB, Batch, Learning
from cai.models.shapes import Shape, shape_named

DISTILLED = "train_self_distil"
Kind = Literal["write", "read", "score", "train", "roll"]
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("respond", "respond_best", "sample_pairs", "revise", "revise_controls", "write_rubrics"), "write"),
    **dict.fromkeys(("draw_rationales", "compare_pairs", "compare_items", "score_beside"), "write"),
    "respond_compared": "write",
    **dict.fromkeys(("preflight", "label_by_judge", "label_by_simulation", "play", "rate_answers"), "read"),
    **dict.fromkeys(("label_the_unsure", "attack_judge"), "read"),
    **dict.fromkeys(("rate_revisions", "rate_controlled", "judge_items", "choose_items"), "read"),
    **dict.fromkeys(("score_pairs", "score_answers", "score_ratings", "score_items", "scale_reward"), "score"),
    **dict.fromkeys(("train_reasons", "train_sft", "train_reward", "train_harm", "train_dpo"), "train"),
    **dict.fromkeys(("learn_rationales", "prefer_rationales"), "train"),
    **dict.fromkeys(("train_ppo", "train_rloo", "train_grpo", DISTILLED, *JUDGED), "roll"),
}  # fmt: skip
PAIRED = ("train_reward", "train_dpo", "prefer_rationales")  # a row of a batch is two answers
PROMPT = 256  # tokens of a prompt, where no limit says more
ROW_TOKENS, PREDICTIONS = 2048, 2048  # of the engine in process: its widest row, its predictions at a time


@dataclass(frozen=True, slots=True)
class Need:
    """A stage's work on one device. rows: that go through the model at a time; width: tokens of each, at most.

    learning: how it is trained, None where it only reads or writes. new: tokens that it writes in each row.
    beside: bytes of other models in memory. served: whether a server does it, and no device here.
    """

    stage: str
    kind: Kind
    model: str
    shape: Shape
    dtype: str
    rows: float
    width: float
    new: float = 0.0
    learning: Learning | None = None
    generated: float = 0.0  # rows of a rollout that are written at a time
    beside: float = 0.0
    served: bool = False

    @property
    def peak(self) -> float:
        """Bytes of all tensors on one device at the fullest moment."""
        if self.served:
            return 0.0
        tokens = self.rows * self.width
        if self.learning is None:
            return memory.weights(self.shape, self.dtype) + self.beside + self._read(tokens, self.rows)
        if self.kind == "train":
            head = memory.head(self.shape, "float32", 0) + memory.HEAD_ROWS * self.shape.vocabulary * 12
            return memory.training(self.shape, self.learning, Batch(tokens, head=head)) + self.beside
        critic = self.stage in ("train_ppo", "train_direct")
        chosen = memory.choices(self.shape, self.learning, self.rows * self.new if critic else memory.HEAD_ROWS)
        if self.stage == DISTILLED:  # both distributions at every token, and what moves one to the other, in float32
            chosen = self.shape.vocabulary * self.rows * self.new * 4 * 5
        learns = memory.training(self.shape, self.learning, Batch(tokens, states=critic, head=chosen))
        whole = memory.weights(self.shape, self.dtype) if self.learning.sharded > 1 else 0.0  # to write with
        writes = memory.resident(self.shape, self.learning) + whole
        writes += self._read(self.generated * self.width, self.generated)
        return max(learns, writes) + memory.learnt(self.shape, self.learning) + self.beside

    def _read(self, tokens: float, rows: float) -> float:
        """What a batch takes that is read, and where it is written, its cache and the logits of a step."""
        batch = memory.reading(self.shape, self.dtype, tokens)
        if self.new:
            prompts = memory.reading(self.shape, self.dtype, rows * max(self.width - self.new, 1))
            step = memory.sampling(self.shape, rows)
            return max(prompts, step) + memory.cache(self.shape, self.dtype, tokens)
        if self.kind == "read":
            masks = tokens * min(self.width, ROW_TOKENS) * memory.BYTES[self.dtype]
            return batch + masks + memory.head(self.shape, self.dtype, PREDICTIONS)
        return batch


def needs(experiment: Experiment, ledger: Iterable[Artifact]) -> list[Need | None]:
    """Of each stage that is to run; None for those that need no model, or one of which nobody knows the size."""
    served = served_models(experiment)
    return [
        None if artifact.cached else need(artifact.stage, artifact.inputs, experiment.runtime, served)
        for artifact in ledger
    ]


def served_models(experiment: Experiment) -> frozenset[str]:
    """Names of models that servers answer for, wherever they are used."""
    served, here = set(), set()
    for arm in experiment.arms.values():
        asked = servers_of(arm)
        served |= {model.name for section, model in asked.items() if section != "policy"}
        here |= {judge.model for section, judge in asked_judges(arm).items() if section not in asked}
    return frozenset(served - here)


def need(stage: str, inputs: Mapping[str, Any], runtime: Runtime, served: frozenset[str] = frozenset()) -> Need | None:
    """Of one stage, by what its manifest will say of its inputs."""
    kind, model = KINDS.get(stage), model_of(stage, inputs)
    shape = shape_named(model) if kind and model else None
    dtype = inputs.get("dtype") or "bfloat16"
    if kind is None or (shape is None and model not in served):
        return None
    shape = shape or Shape(1, 1, 1, 1, 1, 1, 1, assumed=True)
    settings = inputs.get("settings") or inputs  # of DPO they stand among the inputs
    if kind in ("train", "roll"):
        return _learner(Need(stage, kind, model, shape, dtype, 1, 1), inputs, settings, runtime)
    new = (inputs.get("sampling") or settings).get("max_new_tokens", 0) if kind == "write" else 0
    judge = inputs.get("judge") or {}
    width = new + PROMPT if new else judge.get("max_length") or inputs.get("max_length") or ROW_TOKENS
    rows = max(1.0, runtime.batch_tokens / width)
    return Need(stage, kind, model, shape, dtype, rows, width, new=new, served=model in served)


def _learner(start: Need, inputs: Mapping[str, Any], settings: Mapping[str, Any], runtime: Runtime) -> Need:
    policy, stage = inputs["policy"], start.stage
    ranks, sharded = spread(runtime)
    of_one = max(1, settings["batch_size"] // ranks)
    micro = min(of_one, runtime.micro_batch or of_one)
    how = Learning(
        training=policy["training"],
        dtype=start.dtype,
        rank=policy["lora_rank"],
        layers=policy["lora_layers"],
        checkpointing=runtime.checkpointing,
        accumulates=micro < of_one,
        sharded=sharded,
    )
    adapter = 2 * start.shape.lora(how.rank, how.layers)
    if start.kind == "train":
        beside = 0.0
        if stage in ("train_dpo", "prefer_rationales"):  # the reference: the adapter as it was, or the weights
            beside = memory.learnt(start.shape, how)
        rows = micro * (2 if stage in PAIRED else 1)
        return replace(start, rows=rows, width=settings["max_length"], learning=how, beside=beside)
    judge = (inputs.get("judge") or {}).get("model", "")
    reward = start.shape if stage not in JUDGED else shape_named(judge)
    beside = adapter if how.lora and stage not in JUDGED and sharded == 1 else 0.0
    if stage == DISTILLED:  # by itself
        beside, reward = 0.0, None
    if not beside and reward:
        beside = memory.weights(reward, start.dtype)
    beside *= len(inputs.get("criteria") or "1")  # reward models, one for each criterion
    new = settings["max_new_tokens"]
    width = settings["max_prompt_tokens"] + new
    return replace(start, rows=micro, width=width, new=new, learning=how, generated=of_one, beside=beside)


def spread(runtime: Runtime) -> tuple[int, int]:
    """(processes that train together, over how many of them weights and what learns are divided)."""
    if runtime.ranks == 1 or not runtime.accelerate:
        return runtime.ranks, 1
    read = read_accelerate(runtime.accelerate)
    stage = (read.get("deepspeed_config") or {}).get("zero_stage")
    whole = read["distributed_type"] == "FSDP" or (read["distributed_type"] == "DEEPSPEED" and stage == 3)
    return runtime.ranks, runtime.ranks if whole else 1


# What does not fit ----------------------------------------------------------------------------------------------------


def check_memory(experiment: Experiment, ledger: Sequence[Artifact], total: float) -> None:
    """Does every stage that is to run fit a device of so many bytes? Raises UserErrors with the settings that would."""
    faults: dict[str, UserError] = {}
    served = served_models(experiment)
    for artifact in with_revisers(experiment, ledger):
        one = None if artifact.cached else need(artifact.stage, artifact.inputs, experiment.runtime, served)
        if one and artifact.stage not in faults and memory.on_device(one.peak) > total:
            faults[artifact.stage] = _too_large(one, artifact, experiment, total)
    if len(faults) == 1:
        raise next(iter(faults.values()))
    if faults:
        raise UserErrors(list(faults.values()))


def _too_large(one: Need, artifact: Artifact, experiment: Experiment, total: float) -> UserError:
    takes, has = memory.on_device(one.peak) / GIB, total / GIB
    key = "runtime.micro_batch" if one.learning else "runtime.batch_tokens"
    problem = f"{artifact.stage} with {one.model} takes about {takes:.0f} GiB, and the device has {has:.0f}"
    remedy = remedy_for(artifact, experiment.runtime, total)
    return UserError(problem, experiment.where("", key), remedy)


def remedy_for(artifact: Artifact, runtime: Runtime, total: float) -> str:
    """The least change of `runtime:` by which a stage fits, as far as there is one."""

    def fits(changed: Mapping[str, Any], sharded: int = 1) -> bool:
        one = need(artifact.stage, artifact.inputs, runtime.model_copy(update=dict(changed)))
        assert one is not None
        if sharded > 1 and one.learning:
            share = max(1.0, one.rows / sharded) if not runtime.micro_batch else one.rows
            one = replace(one, learning=replace(one.learning, sharded=sharded), rows=share)
        return memory.on_device(one.peak) <= total

    if KINDS[artifact.stage] not in ("train", "roll"):
        smaller = (2**k for k in range(30, 8, -1) if 2**k < runtime.batch_tokens)
        tokens = next((size for size in smaller if fits({"batch_tokens": size})), None)
        return f"write runtime.batch_tokens: {tokens}" if tokens else "take a smaller model, or serve it (`server:`)"
    batch = (artifact.inputs.get("settings") or artifact.inputs)["batch_size"]
    rows = [2**k for k in range(20, -1, -1) if 2**k < (runtime.micro_batch or batch)]
    for checkpointing in dict.fromkeys((runtime.checkpointing, True)):
        also = ", checkpointing: true" if checkpointing and not runtime.checkpointing else ""
        if also and fits({"checkpointing": True}):
            return "write runtime.checkpointing: true"
        for size in rows:
            if fits({"micro_batch": size, "checkpointing": checkpointing}):
                return f"write runtime: {{micro_batch: {size}{also}}}"
    for ranks in (2, 4, 8, 16):
        if fits({"micro_batch": 1, "checkpointing": True}, ranks):
            return (
                f"write runtime: {{micro_batch: 1, checkpointing: true, processes: {ranks}, accelerate: FILE}} with a "
                "file for FSDP2, which divides the weights among devices"
            )
    return "take a smaller model, or policy.training: lora"
