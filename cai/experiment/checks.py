"""What can be found wrong with an experiment before the first minute of work, all of it at once."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cai.config.flat import flat
from cai.config.load import Arm, Experiment
from cai.constitution import Constitution, read_constitution
from cai.core.errors import UserError, UserErrors, fault_of_machine
from cai.core.hub import is_unreachable
from cai.core.memo import remembered
from cai.core.packages import cache_folder
from cai.core.places import check_folder, check_run
from cai.core.store import digest_of
from cai.data.comparisons import read_comparisons
from cai.data.input_file import feedback_file
from cai.data.sources import at_hand, source_digest, source_of
from cai.data.sources.rated_answers import NAME as RATED
from cai.data.xstest import xstest_file
from cai.experiment.check_criteria import criteria_checks, files_of_labels, label_contents, read_by, writers_of
from cai.experiment.check_data import Rows, check_yardsticks, data_checks, length_checks, rows_of
from cai.experiment.check_models import check_judge, check_reviser, check_reward_model, policy_checks, reader_of, slims
from cai.experiment.check_pretrain import pretrain_checks
from cai.experiment.check_servers import asked_judges, judges_of, server_checks
from cai.experiment.check_sft import (
    check_sft,
    constitution_of,
    demonstrations,
    given_answers,
    how_it_revises,
    placebos_fit,
)
from cai.experiment.executors import check_executor
from cai.judge.methods import ALONE, templates_for
from cai.judge.moderation import filter_files
from cai.models.embedded import EMBEDDED, TINY
from cai.models.references import find, model_of
from cai.models.workbench import check_device
from cai.train.launch import check_ranks, shares_of

LOOKED = 2  # raise it when a dry run would find what it did not find before
# What a run, or a sweep, writes into its folder.
FILES = ("config.yaml", "links.json", "results.json", "report.html", "sweep.csv", "sweep.parquet", "sweep.html")


@dataclass
class Faults:
    """What was wrong so far. experiment: knows on which line a key stands."""

    experiment: Experiment
    errors: list[UserError] = field(default_factory=list)

    def attempt(self, tasks: Iterable[Callable[[], object]], arm: str = "", section: str = "") -> bool:
        """Do each; keep what is wrong. arm: whose keys it is about. section: where its model is named.

        True where nothing was wrong.
        """
        before = len(self.errors)
        for task in tasks:
            try:
                task()
            except UserErrors as error:
                self.errors += [self._placed(each, arm, section) for each in error.errors]
            except UserError as error:
                self.errors.append(self._placed(error, arm, section))
            except OSError as error:
                fault = fault_of_machine(error)
                if fault is None:
                    raise
                self.errors.append(fault)
        return len(self.errors) == before

    def _placed(self, error: UserError, arm: str, section: str) -> UserError:
        """At the line of its key, where it is about a key."""
        if section:
            error = at_section(error, section)
        if error.where.partition(".")[0] not in Arm.model_fields:
            return error
        return UserError(error.problem, self.experiment.where(arm, error.where), error.remedy)

    def all(self) -> list[UserError]:
        return list({str(fault): fault for fault in self.errors}.values())


def check(*grid: Experiment, plan: bool = False) -> None:
    """Everything that can be found wrong before the first minute of work, all of it at once.

    plan: nothing will be written, and nothing fetched: a place that cannot be written to is no fault, and a model or
    data that are not here yet are not looked at.
    """
    runtime = grid[0].runtime
    errors: list[UserError] = []
    machine = Faults(grid[0])
    if not plan:
        homes = dict.fromkeys(name for experiment in grid for name in (experiment.sweep, experiment.name) if name)
        machine.attempt([lambda: check_run(Path(runtime.root), homes, FILES)])
    machine.attempt([lambda: device_of(runtime.device, plan)])
    machine.attempt([lambda: plan or check_ranks(runtime)])
    machine.attempt([lambda name=name: installed(name) for name in runtime.report_to])
    if not plan:
        machine.attempt([lambda: check_executor(runtime)])
    refs: dict[str, None] = {}
    for experiment in grid:
        faults = Faults(experiment)
        for name, arm in experiment.arms.items():
            own = (*shares_of(arm, runtime), *slims(arm, runtime, plan), *pretrain_checks(arm, runtime, plan))
            faults.attempt([*files_of(arm, plan), *own], name)
            for section, ref in models_of(arm).items():
                if ref not in refs:
                    refs[ref] = None
                    faults.attempt([lambda ref=ref: reachable(ref, plan)], name, section)
        errors += faults.all()
    if not plan and any(ref in (*EMBEDDED, TINY) and not (cache_folder() / "models" / ref).is_dir() for ref in refs):
        machine.attempt([lambda: check_folder(cache_folder(), "make it writable, or set CAI_CACHE to another folder")])
    errors += machine.all()
    if not errors:  # what follows reads all that was looked at above
        errors = dry_run(grid, plan)
    if not errors and not plan:
        for one in grid:
            faults = Faults(one)
            for name, section, task in server_checks(one):
                faults.attempt([task], name, section)
            errors += faults.all()
    if unique := list({str(fault): fault for fault in errors}.values()):
        raise UserErrors(unique) if len(unique) > 1 else unique[0]


def files_of(arm: Arm, plan: bool) -> list[Callable[[], object]]:
    """Are the files (and data sets) that an arm names there, and what they should be?"""
    evaluation = arm.evaluate
    return [
        lambda: how_it_revises(arm),
        lambda: demonstrations(arm),
        lambda: arm.sft.revises and arm.revise.audit and placebos_fit(arm),
        lambda: read_constitution(evaluation.constitution),
        lambda: arm.helpful and evaluation.helpful and read_constitution(evaluation.helpfulness),
        lambda: (
            evaluation.xstest and had(xstest_file(evaluation.xstest).digest, evaluation.xstest, "evaluate.xstest", plan)
        ),
        *(lambda file=file: read_comparisons(file) for file in evaluation.comparisons),
        *files_of_labels(arm),
        lambda: arm.rl.feedback and feedback_file(arm.rl.feedback.log),
        lambda: rewards_alone(arm),
        lambda: had(source_digest(arm.data), arm.data.source, "data.source", plan),
        lambda: rated(arm),
        lambda: arm.helpful and everyday(arm, plan),
        lambda: arm.moderation and filter_files(arm.moderation),
        *(lambda judge=judge: templates_for(judge) for judge in judges_of(arm).values()),
    ]


def rewards_alone(arm: Arm) -> None:
    """Can the judge's method reward a single answer, where RL asks it to? Raises UserError."""
    methods = arm.judge.method if isinstance(arm.judge.method, dict) else [arm.judge.method]
    comparing = [method for method in methods if method not in ALONE]
    if arm.rl.asked == "alone" and comparing:
        does = f"{' and '.join(comparing)} {'may come to compare' if comparing == ['auto'] else 'compares'} two"
        problem = f"rl.method: {arm.rl.method} rewards single answers, and judge.method: {does}"
        raise UserError(problem, "judge.method", f"name {' or '.join(ALONE)}")


def models_of(arm: Arm) -> dict[str, str]:
    """The section that names a model -> its name."""
    gold = arm.rl.gold
    asked = {section: (judge.model, judge.server) for section, judge in judges_of(arm).items()}
    asked |= {"revise": (arm.revise.model, arm.revise.server)} if arm.revise.model and arm.sft.revises else {}
    # What a chat API serves is nowhere here.
    named = {} if arm.pretrain else {"policy": arm.policy.model}  # which is yet to be made
    named |= {section: name for section, (name, server) in asked.items() if not (server and server.api == "chat")}
    named |= {"rl.gold": gold.by} if gold and gold.by != "judge" else {}
    classifier = arm.moderation and arm.moderation.classifier
    return named | writers_of(arm) | ({"moderation.classifier": classifier.model} if classifier else {})


def at_section(error: UserError, section: str) -> UserError:
    """The fault of a model at the section that names it: at its `template`, or at its `model`."""
    if error.where.partition(".")[0] in Arm.model_fields:
        return error
    key = "template" if error.where == "template" else "by" if section == "rl.gold" else "model"
    return UserError(error.problem, f"{section}.{key}", error.remedy)


# The dry run ----------------------------------------------------------------------------------------------------------


def dry_run(grid: Sequence[Experiment], plan: bool) -> list[UserError]:
    """What is wrong with how rows, models and settings come together (check_data.py, check_models.py).

    Where nothing is, that is remembered for these very settings, contents and versions: looking takes some seconds.
    """
    errors: list[UserError] = []

    def look() -> str:
        seen: dict[str, Any] = {}
        for experiment in grid:
            errors.extend(_look(experiment, plan, seen))
        if errors:
            raise UserErrors(errors)
        return stamp

    arms = [arm for experiment in grid for arm in experiment.arms.values()]
    stamp = digest_of([LOOKED, versions(), *map(_looked_at, arms)])
    with suppress(UserErrors):
        whole = not plan or all(_here(ref) for arm in arms for ref in models_of(arm).values())
        if whole and (not plan or all(at_hand(arm.data) for arm in arms)):
            remembered(stamp, look)
        else:
            look()
    return errors


def versions() -> list[str]:
    return [version(name) for name in ("cai", "torch", "transformers", "trl", "peft")]


def _looked_at(arm: Arm) -> list[Any]:
    """Everything that the outcome of a dry run depends on."""
    evaluation, constitution = arm.evaluate, constitution_of(arm)
    judges = judges_of(arm)
    return [
        flat(arm),
        [find(ref).digest for ref in models_of(arm).values()],
        [model_of(section).digest for section in (*([] if arm.pretrain else [arm.policy]), *judges.values())],
        [templates_for(judge) for judge in judges.values()],
        how_it_revises(arm),
        demonstrations(arm),
        [constitution.text, read_constitution(evaluation.constitution).text],
        read_constitution(evaluation.helpfulness).text if arm.helpful and evaluation.helpful else None,
        filter_files(arm.moderation) if arm.moderation else None,
        source_digest(arm.data),
        source_digest(arm.data.model_copy(update={"source": arm.helpful.source})) if arm.helpful else None,
        label_contents(arm),
    ]


def _look(experiment: Experiment, plan: bool, seen: dict[str, Any]) -> list[UserError]:
    """Its faults. seen: rows that were read, and judges that were looked at, for other experiments."""
    faults = Faults(experiment)
    for name, arm in experiment.arms.items():
        constitution = constitution_of(arm)
        rows = _rows(arm, name, faults, seen) if at_hand(arm.data) or not plan else None
        prompts = rows.prompts if rows else ()
        if rows:
            own = [partial(given_answers, arm, rows), *criteria_checks(arm, rows)]
            faults.attempt([*own, *data_checks(arm, rows, constitution)], name)
            if arm is next(iter(experiment.arms.values())):  # by whose constitutions all arms are judged
                faults.attempt([lambda arm=arm, rows=rows: check_yardsticks(arm, rows)], name)
        _look_at_policy(arm, name, constitution, rows, faults, plan)
        for section, judge in asked_judges(arm).items():
            hosted = judge.server is not None and judge.server.api == "chat"
            if hosted or (plan and not _here(judge.model)):
                continue
            for by in read_by(arm, section):
                key = digest_of([judge, model_of(judge), by.text, by.reasons])
                if key not in seen:
                    seen[key] = True
                    faults.attempt([partial(check_judge, judge, prompts, by)], name, section)
        for section in ("rl.gold", "moderation.classifier"):
            if (ref := models_of(arm).get(section)) and (not plan or _here(ref)):
                faults.attempt([lambda ref=ref: check_reward_model(ref)], name, section)
        if "revise" in models_of(arm) and (not plan or _here(str(arm.revise.model))):
            faults.attempt([partial(check_reviser, arm, prompts, constitution)], name, "revise")
    return faults.all()


def _rows(arm: Arm, name: str, faults: Faults, seen: dict[str, Any]) -> Rows | None:
    key = digest_of([arm.data, arm.helpful, arm.seed])
    if key not in seen:
        rows: list[Rows] = []
        faults.attempt([lambda: rows.append(rows_of(arm))], name)
        seen[key] = rows[0] if rows else None
    return seen[key]


def _look_at_policy(
    arm: Arm, name: str, constitution: Constitution, rows: Rows | None, faults: Faults, plan: bool
) -> None:  # fmt: skip
    if arm.pretrain or (plan and not _here(arm.policy.model)):
        return
    tasks: list[Callable[[], object]] = []
    prompts = rows.prompts if rows else ()
    if not faults.attempt([lambda: tasks.extend(policy_checks(arm, prompts, constitution))], name, "policy"):
        return
    if faults.attempt(tasks, name, "policy") and rows:
        reader = reader_of(arm)
        faults.attempt([partial(check_sft, arm, rows, reader), *length_checks(arm, rows, reader)], name)


def _here(ref: str) -> bool:
    """Whether a model can be looked at without making or asking for it first."""
    if ref in (*EMBEDDED, TINY):
        return (cache_folder() / "models" / ref / "config.json").is_file()
    return not is_unreachable(find(ref).digest)


def device_of(device: str, plan: bool) -> None:
    try:
        check_device(device)
    except UserError as error:
        if not plan:  # it may be made for another machine
            raise
        print(f"note: {error.problem}; planned all the same")


def installed(name: str) -> None:
    if find_spec(name) is None:
        raise UserError(f"the package {name} is not installed", "runtime.report_to", f"pip install {name}")


def rated(arm: Arm) -> None:
    """Absolute harmfulness is learnt from people's ratings of single answers, which comparisons do not hold."""
    harmfulness = arm.evaluate.harmfulness
    if harmfulness is None:
        return
    source = harmfulness.source or arm.data.source
    if not source_of(source).rates:
        raise UserError(
            f'no ratings of single answers in "{source}": harmfulness cannot be learnt from it',
            "evaluate.harmfulness",
            f"set evaluate.harmfulness.source: {RATED}, or evaluate.harmfulness: null",
        )
    if source == arm.data.source and arm.data.test == 1:
        problem = "every prompt is held out: no ratings are left to learn harmfulness from"
        raise UserError(problem, "data.test", "lower it, or set evaluate.harmfulness: null")


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


def everyday(arm: Arm, plan: bool) -> None:
    assert arm.helpful
    source = arm.data.model_copy(update={"source": arm.helpful.source})
    had(source_digest(source, "helpful.source"), source.source, "helpful.source", plan)
