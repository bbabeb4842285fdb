"""What SFT learns from: whether there is any of it, and whether it fits; see cai/experiment/check_data.py."""

from typing import Any

from cai.config.load import Arm
from cai.constitution import Constitution, less, read_constitution
from cai.constitution.reasons import as_read
from cai.core.draws import pick
from cai.core.errors import UserError
from cai.core.records import Revision
from cai.data.demonstrations import demonstrations_file, preferred, read_demonstrations
from cai.data.input_file import InputFile
from cai.experiment.check_data import ENDING, Reader, Rows
from cai.judge.reads.placebos import check as check_placebos
from cai.judge.reads.placebos import read_placebos
from cai.train.revise import revising


def constitution_of(arm: Arm) -> Constitution:
    return as_read(less(read_constitution(arm.constitution.file), arm.without), arm.constitution)


def how_it_revises(arm: Arm) -> dict[str, Any] | None:
    """What `revise` is given, None for an arm that does not. Raises UserErrors."""
    constitution = constitution_of(arm)
    return revising(constitution, arm.revise, arm.seed) if arm.sft.revises else None


def placebos_fit(arm: Arm) -> None:
    """A placebo that is the constitution would have the audit of revisions find that a principle does nothing."""
    check_placebos(read_placebos(), constitution_of(arm).judging)


def demonstrations(arm: Arm) -> InputFile | None:
    """The file that SFT learns from, if it does. Raises UserError."""
    return demonstrations_file(arm.sft.file) if arm.sft.file else None


def given_answers(arm: Arm, rows: Rows) -> list[Revision]:
    """What SFT learns that the policy does not write itself: none, where it does. Raises UserError where it is to learn
    from others, and they gave nothing."""
    if file := demonstrations(arm):
        return read_demonstrations(file.path, file.written, [*rows.prompts, *rows.helpful]).answers
    return preferred(rows.pairs_of("train"))[0] if arm.sft.learns == "preferred" else []


def check_sft(arm: Arm, rows: Rows, reader: Reader) -> None:
    """Rows that are longer than `sft.max_length` are dropped: is any left?"""
    if arm.sft.revises:
        _check_prompts(arm, rows, reader)
        return
    if arm.sft.learns == "nothing":
        return
    try:
        answers = given_answers(arm, rows)
    except UserError:  # told already
        return
    if all(reader.learnt(answer.prompt, answer.final) > arm.sft.max_length for answer in answers):
        problem = f"none of the {len(answers)} answers to learn is left: all end beyond {arm.sft.max_length} tokens"
        raise UserError(problem, "sft.max_length", "raise it, or give shorter prompts and answers")


def _check_prompts(arm: Arm, rows: Rows, reader: Reader) -> None:
    """Of what is yet to be drafted, the prompts are known."""
    chosen = pick(rows.prompts, "train", arm.revise.prompts, arm.seed)
    lengths = [reader.prompt_tokens(prompt.messages) for prompt in chosen]
    if not chosen or any(length + ENDING <= arm.sft.max_length for length in lengths):
        return
    raise UserError(
        f"none of the {len(chosen)} prompts to revise leaves room for an answer: the shortest has {min(lengths)} "
        f"tokens, and rows of more than {arm.sft.max_length} are dropped",
        "sft.max_length",
        "raise it, or give shorter prompts",
    )
