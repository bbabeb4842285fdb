"""What can be found wrong with an experiment before the first minute of work, all of it at once."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from cai.annotate.feedback import FeedbackFile
from cai.comparisons import read_comparisons
from cai.config import Arm, Experiment
from cai.constitution import read_constitution
from cai.embedded import EMBEDDED, TINY
from cai.errors import UserError, UserErrors, fault_of_machine
from cai.hub import is_unreachable
from cai.labels import LabelFile
from cai.methods import templates_for
from cai.models import find
from cai.packages import cache_folder
from cai.places import check_folder, check_run
from cai.reads.placebos import check as check_placebos
from cai.reads.placebos import read_placebos
from cai.settings import Judge
from cai.sources import RATED, source_digest
from cai.stages.revise import revising
from cai.workbench import check_device
from cai.xstest import contents_of

# What a run, or a sweep, writes into its folder.
FILES = ("config.yaml", "links.json", "results.json", "report.html", "sweep.csv", "sweep.parquet", "sweep.html")


def check(*grid: Experiment, plan: bool = False) -> None:
    """Everything that can be found wrong before the first minute of work, all of it at once.

    plan: nothing will be written, and nothing computed: a place that cannot be written to is no fault.
    """
    faults: list[UserError] = []
    refs: set[str] = set()
    runtime = grid[0].runtime

    def try_all(tasks: Sequence[Callable[[], object]]) -> None:
        for task in tasks:
            try:
                task()
            except UserErrors as error:
                faults.extend(error.errors)
            except UserError as error:
                faults.append(error)
            except OSError as error:
                fault = fault_of_machine(error)
                if fault is None:
                    raise
                faults.append(fault)

    if not plan:
        homes = dict.fromkeys(name for one in grid for name in (one.sweep, one.name) if name)
        try_all([lambda: check_run(Path(runtime.root), homes, FILES)])
    try_all([lambda: device_of(runtime.device, plan)])
    try_all([lambda name=name: installed(name) for name in runtime.report_to])
    for arm in (arm for one in grid for arm in one.arms.values()):
        ask = arm.evaluate
        judges = (arm.judge, ask.judge, *(arm.simulated.pool if "simulated" in arm.labels.all else ()))
        tasks: list[Callable[[], object]] = [
            lambda arm=arm: revising(read_constitution(arm.constitution), arm.revise, arm.seed),
            lambda arm=arm: arm.revise.audit and placebos_fit(arm),
            lambda ask=ask: read_constitution(ask.constitution),
            lambda arm=arm: arm.helpful and arm.evaluate.helpful and read_constitution(arm.evaluate.helpfulness),
            lambda ask=ask: ask.xstest and had(contents_of(ask.xstest), ask.xstest, "evaluate.xstest", plan),
            *(lambda file=file: read_comparisons(file) for file in ask.comparisons),
            *(lambda ref=ref: reachable(ref, plan) for ref in dict.fromkeys(models_of(arm, judges)) if ref not in refs),
            lambda arm=arm: arm.labels.file and LabelFile.of(arm.labels.file),
            lambda arm=arm: arm.rl.feedback and FeedbackFile.of(arm.rl.feedback.log),
            lambda arm=arm: had(source_digest(arm.data), arm.data.source, "data.source", plan),
            lambda arm=arm: rated(arm),
            lambda arm=arm: arm.helpful and everyday(arm, plan),
            *(lambda judge=judge: templates_for(judge) for judge in judges),
        ]
        refs.update(models_of(arm, judges))
        try_all(tasks)
    if not plan and any(ref in (*EMBEDDED, TINY) and not (cache_folder() / "models" / ref).is_dir() for ref in refs):
        try_all([lambda: check_folder(cache_folder(), "make it writable, or set CAI_CACHE to another folder")])
    unique = list({str(fault): fault for fault in faults}.values())
    if len(unique) > 1:
        raise UserErrors(unique)
    if unique:
        raise unique[0]


def device_of(device: str, plan: bool) -> None:
    """A plan may be made for another machine: it only says what is missing here."""
    try:
        check_device(device)
    except UserError as error:
        if not plan:
            raise
        print(f"note: {error.problem}; planned all the same")


def models_of(arm: Arm, judges: Sequence[Judge]) -> list[str]:
    gold = arm.rl.gold
    own = [gold.by] if gold and gold.by != "judge" else []
    revisers = [arm.revise.model] if arm.revise.model else []
    return [arm.policy.model, *revisers, *(judge.model for judge in judges), *own]


def placebos_fit(arm: Arm) -> None:
    """A placebo that is the constitution would have the audit of revisions find that a principle does nothing."""
    check_placebos(read_placebos(), read_constitution(arm.constitution).judging)


def installed(tracker: str) -> None:
    if find_spec(tracker) is None:
        raise UserError(f"the package {tracker} is not installed", "runtime.report_to", f"pip install {tracker}")


def rated(arm: Arm) -> None:
    """Absolute harmfulness is learnt from people's ratings of single answers, which comparisons do not hold."""
    ask = arm.evaluate.harmfulness
    if ask is None:
        return
    source = ask.source or arm.data.source
    if source != RATED:
        raise UserError(
            f'no ratings of single answers in "{source}": harmfulness cannot be learnt from it',
            "evaluate.harmfulness",
            f"set evaluate.harmfulness.source: {RATED}, or evaluate.harmfulness: null",
        )
    if source == arm.data.source and arm.data.test == 1:
        problem = "every prompt is held out: no ratings are left to learn harmfulness from"
        raise UserError(problem, "data.test", "lower it, or set evaluate.harmfulness: null")


def everyday(arm: Arm, plan: bool) -> None:
    assert arm.helpful
    source = arm.data.model_copy(update={"source": arm.helpful.source})
    had(source_digest(source, "helpful.source"), source.source, "helpful.source", plan)


def reachable(ref: str, plan: bool) -> None:
    """A model that cannot be had is a fault now, not when its stage comes up hours later; a plan only says so."""
    had(find(ref).digest, ref, "model", plan)


def had(digest: str, name: str, where: str, plan: bool) -> None:
    """As `reachable`, of whatever may be the hub's, by its digest. where: the key that names it."""
    if is_unreachable(digest):
        problem = f'cannot reach the hub for "{name}", and it is not in the local cache'
        if not plan:
            raise UserError(problem, where, "check the network, or give a local folder or file")
        print(f"note: {problem}; planned all the same")
