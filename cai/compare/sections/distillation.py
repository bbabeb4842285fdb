"""Self-distillation (`rl.method: self_distil`): is every policy nearer to a model that reads the constitution, and for
how many tokens?

Arms that install a constitution in other ways are compared at equal tokens: those that the policy learnt from, counted
once an epoch, and those that were written for it. Tokens that are only read, by a judge, a teacher or a reward model
that scores, are in neither; those that a reward model learnt from stand beside.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from cai.compare.cells import Cell, Iteration, Measured
from cai.compare.measures import Measure, Rows, measure
from cai.compare.schema import MeasureLine
from cai.compare.section import ReportSection
from cai.core.records import read_jsonl
from cai.train.drift import AnswerDrift


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmTokens:
    """Means over seeds. learnt, written: of SFT and of RL, by the policy; pairs: answers written to be labelled.

    reward: tokens that a reward model learnt from.
    """

    arm: str
    learnt: int
    learnt_sft: int
    learnt_rl: int
    written: int
    written_sft: int
    written_pairs: int
    written_rl: int
    reward: int


@dataclass(frozen=True, slots=True)
class TeacherDistance:
    """How far every policy is from the teacher of this arm."""

    arm: str
    line: MeasureLine


@dataclass(frozen=True, slots=True)
class Distillation:
    tokens: list[ArmTokens]
    teachers: list[TeacherDistance]


def distillation(cells: Sequence[Cell], measured: Measured) -> Distillation | None:
    if not measured.tokens:
        return None
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    lines = [arm_tokens(arm, [cell for cell in cells if cell.arm == arm], measured) for arm in arms]
    teachers = dict.fromkeys(arm for arm, _ in measured.teacher_kl)
    return Distillation(lines, [TeacherDistance(arm, against(arm, cells, measured)) for arm in teachers])


def against(teacher: str, cells: Sequence[Cell], measured: Measured) -> MeasureLine:
    """The policies' KL to one teacher, nats a token of their own answers."""

    def rows(name: str) -> Rows:
        made = measured.teacher_kl[teacher, name]
        return {row.prompt_id: row.kl / row.tokens for row in read_jsonl(made / "drift.jsonl", AnswerDrift)}

    line = Measure(f"teacher_kl {teacher}", f"KL to the teacher of {teacher}", better="lower", help="nats a token")
    return measure(line, rows, [cell for cell in cells if (teacher, cell.name) in measured.teacher_kl])


def arm_tokens(arm: str, replicas: Sequence[Cell], measured: Measured) -> ArmTokens:
    counted = [seed_tokens(cell, measured) for cell in replicas]
    mean = {name: round(fmean(row[name] for row in counted)) for name in counted[0]}
    written = mean["written_sft"] + mean["written_pairs"] + mean["written_rl"]
    return ArmTokens(arm=arm, learnt=mean["learnt_sft"] + mean["learnt_rl"], written=written, **mean)


def seed_tokens(cell: Cell, measured: Measured) -> dict[str, int]:
    text = json.loads((measured.tokens[cell.name] / "tokens.json").read_text())
    rl, learnt, written = cell.settings.rl, 0, 0
    for iteration in cell.lineage if rl.is_online else ():
        more = rollout_tokens(cell, iteration)
        learnt, written = learnt + more[0], written + more[1]
    if rl.method == "dpo":
        learnt = text["labelled"] * rl.epochs
    reward = round(text["labelled"] * cell.settings.reward.epochs) if rl.reads_rewards else 0
    return {
        "learnt_sft": text["sft"], "learnt_rl": learnt, "written_sft": text["sft_written"],
        "written_pairs": text["pairs_written"], "written_rl": written, "reward": reward,
    }  # fmt: skip


def rollout_tokens(cell: Cell, iteration: Iteration) -> tuple[int, int]:
    """(tokens that a method learnt from in its rollouts, tokens of these)."""
    if iteration.policy is None:
        return 0, 0
    counts: Mapping[str, int] = json.loads((iteration.policy / "counts.json").read_text())
    if "tokens sampled" in counts:
        return counts["tokens learnt from"], counts["tokens sampled"]
    lengths = json.loads((iteration.policy / "curves.json").read_text())["completion_length"]
    written = round(sum(lengths) * cell.settings.rl.batch_size)
    return written * cell.settings.rl.epochs, written


SECTION = ReportSection(
    "distillation", "Self-distillation", Distillation | None, lambda run: distillation(run.cells, run.measured),
    chapter="training", template="distillation.html.jinja",
)  # fmt: skip
