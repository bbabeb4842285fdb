"""Who speaks and who scores: policies, reward models and the judge of a finished run, as its links name them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cai.compare.cells import Cell
from cai.compare.runs import FinishedRun, cell_of, read_run
from cai.core.errors import UserError, suggest
from cai.experiment.evaluate import picks
from cai.experiment.moderating import moderator_of
from cai.judge.asked import AskedJudge
from cai.judge.moderation import Moderator
from cai.models.engines import Sampling
from cai.models.references import model_of, trained
from cai.models.workbench import Workbench
from cai.train.trainable import Scorer, Trainable

RUNS = Path("runs")
MOST = 2  # policies beside one another
BEFORE = ("sft", "start")  # policies that come before those of the arms


@dataclass(frozen=True, slots=True)
class Party:
    """Those who take part. speakers: name -> policy, one or two. scorers: name of an arm and seed -> reward model.

    sampling: as in the evaluation. judge: the evaluation's; None where nobody is to judge. moderator: the filter on
    what is typed, where the first arm named has one (`moderation.at: queries`).
    """

    speakers: Mapping[str, Trainable]
    scorers: Mapping[str, Scorer]
    judge: AskedJudge | None
    sampling: Sampling
    moderator: Moderator | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for. seed: which replica of the arms; None for the first."""

    arms: Sequence[str] = ()
    policies: Sequence[str] = ()
    seed: int | None = None
    judged: bool = True


def find_run(name: str) -> FinishedRun:
    """A run by its folder, or by its name under runs/. Raises UserError where there is none that is finished."""
    places = [place for place in (Path(name), RUNS / name) if place.is_dir()]
    places.sort(key=lambda place: not (place / "results.json").is_file())  # some folder may be called as a run is
    home = places[0] if places else None
    if home is None:
        known = sorted(file.parent.relative_to(RUNS).as_posix() for file in RUNS.rglob("results.json"))
        remedy = suggest(name, known) if known else "name a folder like runs/quickstart"
        raise UserError(f'there is no run "{name}"', "", remedy)
    return read_run(home)


def find_party(run: FinishedRun, work: Workbench, wanted: Wanted) -> Party:
    """Raises UserError for an arm, seed or policy that the run does not have, or that cannot be talked to."""
    experiment = run.experiment
    seed = experiment.seeds[0] if wanted.seed is None else wanted.seed
    if seed not in experiment.seeds:
        known = ", ".join(map(str, experiment.seeds))
        raise UserError(f"this run has no seed {seed}", "--seed", f"known: {known}")
    named = list(dict.fromkeys(wanted.arms)) or ([] if wanted.policies else _talkative(run)[:MOST])
    before = list(dict.fromkeys(wanted.policies))
    if len(named) + len(before) > MOST:
        raise UserError(f"{len(named) + len(before)} policies are named", "--arm, --policy", f"name {MOST} at most")
    cells = {name: cell_named(run, name, seed) for name in named}
    speakers = {cell.name: _policy(cell, work) for cell in cells.values()}
    # Policies that come before the arms have no reward model of their own: those of the first arms score them.
    scoring = list(cells.values()) or [cell_named(run, name, seed) for name in list(experiment.arms)[:MOST]]
    for name in before:
        speakers[name] = _before(name, scoring[0], work)
    scorers = {cell.name: scorer for cell in scoring if (scorer := scorer_of(cell, work))}
    arm = next(iter(experiment.arms.values()))  # whose evaluation it was
    judge = None
    if wanted.judged:
        yardstick = work.constitution(arm.evaluate.constitution)
        judge = AskedJudge.of(arm.evaluate.judge, yardstick, work.dtype(arm), arm.seed, scoring[0].data)
    sampling = Sampling(arm.evaluate.max_new_tokens, arm.evaluate.temperature)
    settings = scoring[0].settings
    filters = settings.moderation and "queries" in settings.moderation.at
    return Party(speakers, scorers, judge, sampling, moderator_of(work, settings) if filters else None)


def _talkative(run: FinishedRun) -> list[str]:
    """Arms whose policy is a model of its own."""
    methods = {name: arm.rl.method for name, arm in run.experiment.arms.items()}
    able = [name for name, method in methods.items() if method not in ("none", "best_of_n")]
    if not able:
        problem = "no arm of this run left a policy that can be talked to"
        raise UserError(problem, str(run.home), "talk to --policy sft, or --policy start")
    return able


def cell_named(run: FinishedRun, arm: str, seed: int) -> Cell:
    """What an arm of the run left, under the arm's own name. Raises UserError for one that the run does not have."""
    if arm not in run.experiment.arms:
        raise UserError(f'this run has no arm "{arm}"', "--arm", suggest(arm, list(run.experiment.arms)))
    return replace(cell_of(run, arm, run.experiment.arms[arm], seed), arm=arm)


def _policy(cell: Cell, work: Workbench) -> Trainable:
    if picks(cell):
        problem = f'the policy of "{cell.arm}" is the best of several answers of sft, and no model'
        raise UserError(problem, "--arm", "talk to --policy sft, whose answers it picks from")
    if cell.policy is None:
        problem = f'"{cell.arm}" has no policy: its rl.method is none'
        raise UserError(problem, "--arm", "name another arm, or --policy sft")
    return Trainable(trained(cell.policy, cell.name), cell.settings.policy, work.dtype(cell.settings))


def _before(name: str, cell: Cell, work: Workbench) -> Trainable:
    policy = cell.settings.policy
    ref = trained(cell.sft, "sft") if name == "sft" else model_of(policy)
    return Trainable(ref, policy, work.dtype(cell.settings))


def scorer_of(cell: Cell, work: Workbench) -> Scorer | None:
    """The reward model that a cell trained; None for a cell without one that scores a single answer."""
    if cell.reward is None or cell.settings.reward.generates:
        return None
    settings = cell.settings
    reads = Trainable(trained(cell.reward, cell.name), settings.policy, work.dtype(settings), role="reward")
    return Scorer(reads, settings.reward.max_length)
