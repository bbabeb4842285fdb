"""Self-distillation: the constitution as training data, on-policy and token by token (cai/train/rl/self_distil.py). No
labels, no reward model and no judge; the teacher is the policy that training starts from, with principles in its
context (cai/train/rl/teacher.py).

`rl.distil` says what it reads and for how many tokens; `rl.epochs` is the updates on each rollout. Nothing else than
the teacher holds the policy near what it was: `rl.kl_coef` and what clips or penalises are read by nobody. Not tried in
several processes.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cai.config.rl import Rl, SelfDistil
from cai.core.store import Artifact, version
from cai.models.workbench import Workbench
from cai.train.launch import launched
from cai.train.rl.given import Given, OnlineRun
from cai.train.rl.online import Ready, begin, load_policy, optimise
from cai.train.rl.teacher import TeacherContext, TeacherReader

COLUMNS = ("teacher_kl", "kl", "entropy", "completion_length", "eos_rate", "repetition", "distinct_2")


@launched
@version(3)
def train_self_distil(
    out: Path, work: Workbench, *, run: OnlineRun, teacher: TeacherContext, distil: SelfDistil
) -> None:
    """Leaves what `learn_from_rewards` leaves, and in counts.json the tokens that were sampled and learnt from.

    Raises UserError where a prompt does not fit behind its principles.
    """
    from cai.models.architectures import length_limit

    tokenizer, prompts, counts = begin(work, run)
    network, settings = load_policy(work, run), run.settings
    most = length_limit(network.config) - settings.max_new_tokens
    reader = TeacherReader(tokenizer, prompts, teacher, run.start.policy.system, most)
    reader.check()
    ready = Ready(network, tokenizer, prompts, unrewarded, counts, columns=COLUMNS)
    optimise(out, work, run, ready, partial(by_teacher, reader, distil))


def unrewarded(prompts: list[Any], **_: Any) -> list[float | None]:
    """No answer is better than another."""
    return [0.0] * len(prompts)


def by_teacher(
    reader: TeacherReader, distil: SelfDistil, network: Any, reward: Any, settings: Rl, arguments: dict[str, Any],
    **options: Any,
) -> Any:  # fmt: skip
    """A trainer, as `MakeTrainer` in cai/train/rl/online.py."""
    from trl import GRPOConfig

    from cai.train.rl.self_distil import SelfDistilTrainer

    steps: dict[str, Any] = {"max_steps": settings.steps * settings.epochs, "logging_steps": settings.epochs}
    made = GRPOConfig(**arguments | steps, num_iterations=settings.epochs)
    return SelfDistilTrainer(network, reward, made, reader=reader, settings=distil, **options)


def policy(stage: Callable[..., Artifact], given: Given) -> Artifact:
    distil = given.arm.rl.distil
    teacher = TeacherContext.of(given.constitution, distil, given.arm.seed)
    return stage(train_self_distil, run=OnlineRun.of(given), teacher=teacher, distil=distil)
