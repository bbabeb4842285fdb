"""`publics:`: what each group of people says of the held-out pairs; which policies win by each group's constitution.

What they come to is in cai/compare/sections/publics.py.
"""

from collections.abc import Callable, Sequence

from cai.compare.cells import Cell, Measured, with_policy
from cai.config.load import Experiment
from cai.core.errors import UserError
from cai.core.store import Artifact
from cai.data.labels import read_labels
from cai.data.publics import constitutions_of, public_file
from cai.data.sources import at_hand, read_used
from cai.data.votes import why_so_few
from cai.judge.asked import AskedJudge
from cai.judge.label import label_by_people
from cai.judge.play import play
from cai.models.workbench import Workbench

Stage = Callable[..., Artifact]


def hear_publics(
    stage: Stage, work: Workbench, cells: Sequence[Cell], experiment: Experiment, measured: Measured
) -> None:
    """The labels of each group's people, and games under each group's constitution."""
    publics, first = experiment.publics, cells[0]
    if publics is None:
        return
    arm, file = first.settings, public_file(publics)
    for group, raters in publics.groups.items():
        measured.publics[group] = stage(
            label_by_people, pairs=first.pairs, rule=None, file=file, raters=raters, seed=arm.seed
        )
    play_for_publics(stage, work, cells, experiment, measured)


def play_for_publics(
    stage: Stage, work: Workbench, cells: Sequence[Cell], experiment: Experiment, measured: Measured
) -> None:
    """Games of every policy against the SFT policy under each group's constitution, where the groups have constitutions
    of their own; as the cells have them, whatever has become of their files since."""
    if experiment.publics is None:
        return
    arm, first = cells[0].settings, cells[0]
    texts = {cell.arm: cell.constitution for cell in cells}
    yardstick = work.constitution(arm.evaluate.constitution)
    judge = AskedJudge.of(arm.evaluate.judge, yardstick, work.dtype(arm), arm.seed, first.data)
    for group, owner in constitutions_of(experiment).items():
        own = judge.under(texts[owner])
        for cell in with_policy(cells):
            measured.public_games[group, cell.name] = stage(
                play, prompts=first.data, first=measured.answers[cell.name, "red-team"],
                second=measured.answers["sft", "red-team"], judge=own,
            )  # fmt: skip


def check_publics(experiment: Experiment, plan: bool = False) -> None:
    """Has each group labelled held-out pairs? Raises UserError where not. plan: data that are not here are not read."""
    publics = experiment.publics
    arm = next(iter(experiment.arms.values()))
    if publics is None or arm.pairs.source != "data" or (plan and not at_hand(arm.data)):
        return
    pairs = [pair for pair in read_used(arm.data, arm.seed)[1] if pair.prompt.split != "calibration"]
    held_out = {pair.id for pair in pairs if pair.prompt.split == "test"}
    everybody = [rater for raters in publics.groups.values() for rater in raters]
    known, aside = read_labels(public_file(publics).path, pairs, everybody)
    spoke = {vote.rater for pair_id in known.keys() & held_out for vote in known[pair_id]}
    for group, raters in publics.groups.items():
        if spoke.isdisjoint(raters):
            problem = (
                f"group {group} has labelled none of the {len(held_out)} held-out pairs, by which arms are compared"
            )
            remedy = "mend or write again what was set aside, or " if aside else ""
            remedy += "have its people label them: python -m cai.annotate"
            raise UserError(problem + why_so_few(aside), "publics.file", remedy)
