"""Who labels the pairs: the judge, people, simulated people, a coin, length, or several by the rule of `labels:`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cai.compare.cells import JudgeMade
from cai.config.load import Arm
from cai.config.panel import Panel
from cai.config.sections import Labeller
from cai.config.slim import Slim
from cai.constitution import Constitution
from cai.core.errors import UserError
from cai.core.store import Artifact
from cai.data.labels import label_file
from cai.judge.asked import AskedJudge
from cai.judge.attack.exploits import read_exploits
from cai.judge.attack.stage import attack_judge
from cai.judge.label import (
    Simulation,
    label_by_coin,
    label_by_judge,
    label_by_length,
    label_by_people,
    label_by_simulation,
    mix_labels,
)
from cai.judge.panel import combine_panel, label_the_unsure
from cai.judge.preflight import preflight
from cai.judge.reads.controls import controls_for
from cai.judge.rubric_writing import criteria_for
from cai.judge.slimming.acceptance import with_orders, without_principles
from cai.judge.slimming.stages import accept_slim, distil_judge, slim_judge
from cai.models.references import trained
from cai.models.workbench import Workbench

Stage = Callable[..., Artifact]


@dataclass(frozen=True, slots=True)
class Labelling:
    """labels: to train on, None where nothing is. by_labeller: what each says of its pairs. preflight: the judge's.

    acceptance: of a judge that was slimmed. attacks: what exploits do to the judge (`judge.attacks`). panel: what each
    judge of `judge.panel` left; by_labeller has what they say together.
    """

    labels: Artifact | None = None
    by_labeller: dict[str, Artifact] = field(default_factory=dict)
    preflight: Artifact | None = None
    acceptance: Artifact | None = None
    attacks: Artifact | None = None
    panel: tuple[JudgeMade, ...] = ()


def label(
    stage: Stage,
    work: Workbench,
    arm: Arm,
    prompts: Artifact,
    pairs: Artifact,
    last: Labelling,
    replica: int,
) -> Labelling:
    """last: of the round before, whose looks at the judge are not done again. replica: whose coin is tossed."""
    if not arm.rl.asks_labellers:
        return Labelling()
    constitution, dtype = work.constitution_of(arm), work.dtype(arm)
    labellers, rule = arm.labels.all, arm.labels.rule
    given = {"pairs": pairs, "rule": rule}
    by: dict[str, Artifact] = {}
    passed, acceptance, attacks = last.preflight, last.acceptance, last.attacks
    panel: tuple[JudgeMade, ...] = ()
    if "ai" in labellers and arm.judge.panel:
        judges = arm.judge.asked.items()
        asked = {key: AskedJudge.of(judge, constitution, dtype, arm.seed, prompts) for key, judge in judges}
        tried = {made.key: made.preflight for made in last.panel} or {
            key: try_of_panel(stage, key, constitution, {"data": prompts, "pairs": pairs}, judge)
            for key, judge in asked.items()
        }
        panel = label_by_each(stage, arm.judge.panel, asked, tried, given)
        parts = {made.name: made.labels for made in panel}
        by["ai"] = stage(combine_panel, pairs=pairs, parts=parts, rule=arm.judge.panel.rule)
    elif "ai" in labellers:
        whole = judge = AskedJudge.of(arm.judge, constitution, dtype, arm.seed, prompts)
        looked_at = (prompts, pairs) if arm.judge.preflight or arm.judge.calibrate else ()
        judged = looked_at or ((pairs,) if arm.rl.reads_labels else ())  # RL's own prompts are seen to by its method
        if arm.judge.rubric and judged:
            criteria = criteria_for(stage, arm.judge, constitution, dtype, arm.seed, pairs=judged)
            judge = replace(judge, rubric=criteria)
        if arm.judge.slim:
            judge = slimmed(stage, whole, arm.judge.slim, prompts)
        passed = passed or try_judge(stage, arm.judge, constitution, {"data": prompts, "pairs": pairs}, judge)
        if arm.judge.attacks and attacks is None:
            attacks = stage(
                attack_judge, data=prompts, judge=judge, preflight=passed, exploits=read_exploits(),
                count=arm.judge.attacks,
            )  # fmt: skip
        if not arm.rl.reads_labels:  # the judge is asked about the policy's answers instead
            return Labelling(preflight=passed, attacks=attacks)
        by["ai"] = stage(label_by_judge, preflight=passed, judge=judge, **given)
        if arm.judge.slim and acceptance is None:
            acceptance = stage(
                accept_slim, pairs=pairs, preflight=passed, judge=with_orders(whole), slimmed=judge.model,
                margin=arm.evaluate.margin,
            )  # fmt: skip
    if "human" in labellers:
        file = label_file(arm.labels.file) if arm.labels.file else None
        raters = arm.labels.groups or arm.labels.raters
        by["human"] = stage(label_by_people, file=file, raters=raters, seed=arm.seed, **given)
    if "simulated" in labellers:
        pool = tuple(AskedJudge.of(judge, constitution, dtype, arm.seed, prompts) for judge in arm.simulated.pool)
        people = Simulation(pool, arm.simulated.flip, arm.seed)
        by["simulated"] = stage(label_by_simulation, people=people, **given)
    if "shuffled" in labellers:
        by["shuffled"] = stage(label_by_coin, seed=arm.seed, replica=replica, **given)
    if "shorter" in labellers:
        by["shorter"] = stage(label_by_length, seed=arm.seed, **given)
    if rule is None:
        return Labelling(by[labellers[0]], by, passed, acceptance, attacks, panel)
    return Labelling(stage(mix_labels, parts=by, seed=arm.seed, **given), by, passed, acceptance, attacks, panel)


def label_by_each(
    stage: Stage,
    panel: Panel,
    asked: Mapping[str, AskedJudge],
    tried: Mapping[str, Artifact | None],
    given: Mapping[str, Any],
) -> tuple[JudgeMade, ...]:
    """The labels of each judge of a panel, as an arm that has it alone would have them; with `escalate`, of the pairs
    that the one before it leaves open. asked, tried: by the key of the judge. given: of every stage that labels."""
    made: list[JudgeMade] = []
    for number, (key, judge) in enumerate(asked.items(), 1):
        with_preflight = {"preflight": tried[key], "judge": judge}
        if panel.escalate and made:
            labels = stage(
                label_the_unsure, pairs=given["pairs"], labels=made[-1].labels, below=panel.escalate.below,
                **with_preflight,
            )  # fmt: skip
        else:
            labels = stage(label_by_judge, **with_preflight, **given)
        made.append(JudgeMade(key, f"judge {number}", labels, tried[key]))
    return tuple(made)


def try_of_panel(
    stage: Stage, key: str, constitution: Constitution, rows: Mapping[str, Artifact], judge: AskedJudge
) -> Artifact | None:
    """As `try_judge`, with the faults of a judge of a panel at its own keys."""
    assert isinstance(judge.settings, Labeller)
    try:
        return try_judge(stage, judge.settings, constitution, rows, judge)
    except UserError as error:
        section, _, name = error.where.partition(".")
        raise UserError(error.problem, f"{key}.{name}" if section == "judge" else error.where, error.remedy) from None


def slimmed(stage: Stage, judge: AskedJudge, how: Slim, data: Artifact) -> AskedJudge:
    """The judge with a smaller model made of its own (`judge.slim`)."""
    smaller, principles = judge.model, judge.principles
    if how.how != "distil":
        made = stage(slim_judge, model=judge.model, how=how, data=data if how.reads_texts else None)
        smaller = trained(made, f"{judge.model.name}, {how.pruned.name}")
    if how.distil:
        made = stage(distil_judge, judge=judge, student=smaller, how=how, teaching=how.distil, data=data)
        smaller = trained(made, f"{judge.model.name}, {how.name}")
        principles = principles if how.distil.context else without_principles(principles)
    return replace(judge, model=smaller, principles=principles)


def try_judge(
    stage: Stage, settings: Labeller, constitution: Constitution, rows: Mapping[str, Artifact], judge: AskedJudge
) -> Artifact | None:
    """The judge on a sample, before it labels all: its method is chosen, calibrated, and seen to read; or None."""
    if not (settings.preflight or settings.method == "auto" or settings.calibrate):
        return None
    if not settings.preflight or judge.rubric:  # by a rubric no principle is read
        return stage(preflight, **rows, judge=judge, controls=None)
    # Where the judge does not pass, every other method is tried, as it would be asked.
    tried = replace(judge, principles=constitution.checking)
    return stage(preflight, **rows, judge=tried, controls=controls_for(constitution))
