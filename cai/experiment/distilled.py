"""What is measured where an arm distils itself (`rl.method: self_distil`): how far every policy is from its teacher,
and the tokens that every arm learnt from and wrote. cai/compare/sections/distillation.py shows both."""

from collections.abc import Callable, Mapping, Sequence

from cai.compare.cells import Cell, Measured
from cai.core.store import Artifact, digest_of
from cai.models.references import Dtype, ModelRef, drafting, trained
from cai.train.rl.teacher import TeacherContext
from cai.train.teacher_kl import Teacher, score_teacher_kl
from cai.train.tokens import count_tokens
from cai.train.trainable import Labelled, PromptSet, Trainable

Stage = Callable[..., Artifact]


def teacher_of(cell: Cell) -> Teacher:
    arm = cell.settings
    context = TeacherContext.of(cell.constitution, arm.rl.distil, arm.seed)
    return Teacher(trained(cell.sft, "sft"), context, arm.policy.system)


def compare_with_teachers(
    stage: Stage, cells: Sequence[Cell], policies: Mapping[str, ModelRef], measured: Measured, asked: PromptSet,
    dtype: Dtype,
) -> None:  # fmt: skip
    """Nothing where no arm distils itself. policies: by name, all that answered. asked: the prompts that they answered.

    Every policy is held against every teacher, so that arms which never had one lie on its scale. A teacher is that of
    its arm's first seed.
    """
    arms = {cell.arm: cell for cell in reversed(cells) if cell.settings.rl.method == "self_distil"}
    if not arms:
        return
    first, made_by = cells[0].settings, {cell.name: cell.settings.policy for cell in cells}
    temperature = first.evaluate.temperature or 1.0  # the most probable words alone have no KL
    teachers = {digest_of(teacher_of(cell).keyed()): (arm, teacher_of(cell)) for arm, cell in arms.items()}
    for arm, teacher in reversed(teachers.values()):
        for name, ref in policies.items():
            measured.teacher_kl[arm, name] = stage(
                score_teacher_kl, prompts=asked, answers=measured.answers[name, "red-team"],
                model=Trainable(ref, made_by.get(name, first.policy), dtype), teacher=teacher, temperature=temperature,
            )  # fmt: skip
    for cell in cells:
        measured.tokens[cell.name] = stage(count_tokens, **texts_of(cell, dtype))


def texts_of(cell: Cell, dtype: Dtype) -> dict[str, object]:
    """The inputs of `count_tokens`."""
    arm = cell.settings
    labelled = Labelled()
    for made in cell.lineage if arm.rl.reads_labels else ():
        labelled = labelled.with_round(made.pairs, made.labels)
    return {
        "revisions": cell.revised,
        "everyday": cell.everyday,
        "start": Trainable(drafting(arm.policy, cell.pretrained), arm.policy, dtype),
        "settings": None if arm.sft.learns == "nothing" else arm.sft,
        "labelled": labelled,
        "sampled": arm.rl.reads_labels and arm.pairs.source != "data",
        "seed": cell.seed if arm.rl.ends_with_sft else arm.seed,
    }
