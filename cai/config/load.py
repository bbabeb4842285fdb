"""One YAML file -> one frozen, typed `Experiment`.

An arm is the whole experiment with some keys changed; the file's own keys are what all arms share. What the arms do not
change is computed once, because the store keys it the same. The sections themselves are in cai/config/sections.py. A
file with a sweep in it (cai/config/sweep.py) is several experiments.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cai.config.comparable import budget_faults, policy_faults, uneven_faults
from cai.config.criteria import Criteria, check_labels, check_readers, check_weights, faults_between
from cai.config.generative import check_generative
from cai.config.labels import Labels, Sources, check_given
from cai.config.layers import OWN_KEYS, arm_of, faults_of_names, with_judges
from cai.config.moderation import Moderation
from cai.config.panel import ArmJudge, check_panel
from cai.config.pretrain import MADE_HERE, Pretrain
from cai.config.publics import Publics
from cai.config.reasons import ConstitutionKey
from cai.config.rl import Rl
from cai.config.runtime import Runtime
from cai.config.section import Count, Positive, Section, Seed
from cai.config.sections import Data, Evaluate, Helpful, Pairs, Policy, Revise, Reward, Sft, Simulated
from cai.config.serve import served_by_run
from cai.config.slim import check_distilled
from cai.config.sweep import points
from cai.config.tree import Tree, load_tree
from cai.config.validation import Fault, raise_all, validate
from cai.core.errors import UserError
from cai.core.shipped import locate


class Arm(Section):
    """One arm of an experiment: everything that decides its result."""

    constitution: ConstitutionKey
    # A principle of it that this arm does without; `each`: this arm as it is, and one more without each of its
    # principles (cai/constitution/each.py).
    without: str | None = None
    labels: Labels = Sources(default="ai")
    # What an answer should be, where that is several things; empty: what `constitution:` says.
    criteria: Criteria
    seed: Count = 0
    # auto: bfloat16 where the device computes in it natively, else float32.
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    # Instead of a `policy.model` that is there: one that is made here, from nothing.
    pretrain: Pretrain | None = None
    policy: Policy = Policy()
    data: Data
    helpful: Helpful | None = Helpful()
    moderation: Moderation | None = None
    revise: Revise = Revise()
    sft: Sft = Sft()
    pairs: Pairs = Pairs()
    judge: ArmJudge = ArmJudge()
    simulated: Simulated = Simulated()
    reward: Reward = Reward()
    rl: Rl = Rl()
    # How often pairs -> labels -> reward -> policy is gone through, each time from the last round's policy.
    rounds: Positive = 1
    evaluate: Evaluate = Evaluate()

    @property
    def asks_judge(self) -> bool:
        """Whether `judge:` is asked, for labels or for rewards (`rl.asked`)."""
        return "ai" in self.labellers and self.rl.asks_labellers

    @model_validator(mode="after")
    def _all_start_from_what_is_made(self) -> "Arm":
        """With `pretrain:`, `policy.model` is what that makes."""
        policy = self.policy
        if self.pretrain is None:
            return self
        if "model" in policy.model_fields_set and policy.model != MADE_HERE:
            problem = f"pretrain: makes the model to start from, and policy.model names another: {policy.model}"
            raise Fault(problem, "leave one of them out", "policy.model")
        if policy.server:
            raise Fault("a model that is made here is served nowhere yet", "remove policy.server", "policy.server")
        return self.model_copy(update={"policy": policy.model_copy(update={"model": MADE_HERE})})

    @model_validator(mode="after")
    def _labels_have_what_they_need(self) -> "Arm":
        labellers = self.labellers
        keyed = {f"criteria.{name}.labels": its.labels for name, its in self.criteria.items() if its.labels}
        for key, labels in {"labels": self.labels, **keyed}.items():
            check_given(labels, self.pairs.source, bool(self.simulated.pool), key)
        if self.rounds > 1 and self.pairs.source == "data":
            raise Fault(
                "rounds repeats the labelling of what the last round's policy answers, and pairs.source: data are the "
                "same old answers in every round",
                "set pairs.source: policy (or opposed), or rounds: 1",
                "rounds",
            )
        if self.rounds > 1 and not (self.rl.trains and self.rl.reads_labels):
            raise Fault(
                f"rounds repeats the labelling of what a trained policy answers, and rl.method: {self.rl.method} "
                + ("reads no label" if self.rl.trains else "trains none"),
                "name another rl.method, or set rounds: 1",
                "rounds",
            )
        for key, judge in self.judge.asked.items() if "ai" in labellers and self.pairs.source != "opposed" else ():
            if judge.method == "provenance":
                raise Fault(
                    "judge.method: provenance labels by which instruction wrote which answer, and nobody knows that "
                    f"of pairs.source: {self.pairs.source}",
                    "set pairs.source: opposed, or name another method",
                    f"{key}.method",
                )
        if self.rl.gold and not self.data.calibration:
            raise Fault(
                "rl.gold needs prompts that nothing else is trained or reported on",
                "set data.calibration to the share of prompts to keep for it, such as 0.15",
                "rl.gold",
            )
        for section, judge in self.judge.asked.items() if "ai" in labellers and not self.data.calibration else ():
            for key, wanted in (("method", judge.method == "auto"), ("calibrate", judge.calibrate)):
                if wanted:
                    raise Fault(
                        f"judge.{key} needs human-labelled pairs that are used for nothing else",
                        "set data.calibration to the share of prompts to keep for it, such as 0.15",
                        f"{section}.{key}",
                    )
        return self

    @property
    def answer_shots(self) -> int:
        """Examples that stand before every prompt of the evaluation."""
        return self.judge.shots if self.evaluate.shots == "judge" else self.evaluate.shots

    @model_validator(mode="after")
    def _shots_are_drawn_where_they_are_shown(self) -> "Arm":
        if self.rl.asked and self.judge.shots:
            problem = f"rl.method: {self.rl.method} asks the judge as the policy learns, and judge.shots are for labels"
            raise Fault(problem, "set judge.shots: 0, or name another rl.method", "judge.shots")
        if self.rl.gold and self.rl.gold.by == "judge" and self.evaluate.judge.shots:
            problem = "rl.gold asks the evaluation's judge as the policy learns, and shows it no examples"
            raise Fault(problem, "set evaluate.judge.shots: 0, or leave rl.gold out", "evaluate.judge.shots")
        return self

    @model_validator(mode="after")
    def _the_judge_can_be_slimmed_or_joined(self) -> "Arm":
        if self.judge.slim and self.judge.server:
            problem = "slim makes another model of the judge's weights, and a server has them"
            raise Fault(problem, "remove judge.server, or judge.slim and serve a smaller model", "judge.slim")
        check_panel(self.judge, self.rl.method, bool(self.criteria))
        check_distilled(self.judge.slim, self.judge.method, bool(self.judge.preflight))
        return self

    @model_validator(mode="after")
    def _criteria_can_be_weighed(self) -> "Arm":
        check_generative(self)
        if self.criteria:
            check_weights(self.criteria)
            check_readers(self.rl, self.judge, self.without)
            check_labels(self.criteria, self.labels)
            if self.judge.slim:
                problem = "slim: is measured on one set of labels, and each of criteria: has its own"
                raise Fault(problem, "slim it by hand (python -m cai.models slim) and name its folder", "judge.slim")
        return self

    @model_validator(mode="after")
    def _the_judge_can_be_asked_for_rewards(self) -> "Arm":
        how, judge = self.rl.asked, self.judge
        if how is None:
            return self
        about = "each answer" if how == "alone" else "fresh answers"
        asks = f"rl.method: {self.rl.method} asks the judge about {about}"
        if self.labels.all != ("ai",):
            raise Fault(f"{asks} and reads no label", "set labels: ai, or name another rl.method", "labels")
        if judge.slim:
            remedy = "slim it by hand (python -m cai.models slim) and name its folder"
            raise Fault(f"{asks}, and slim: is measured on its labels", remedy, "judge.slim")
        if how == "alone" and judge.combine != "average":
            problem = f"{asks} and averages what the principles say of it; there is nothing to vote on"
            raise Fault(problem, "set judge.combine: average", "judge.combine")
        if how != "alone" and judge.calibrate:
            raise Fault(f"{asks}, and calibrate: is for labels", "set judge.temperature instead", "judge.calibrate")
        unsettled = {"auto", "provenance"} & ({judge.method} if isinstance(judge.method, str) else {*judge.method})
        if how != "alone" and unsettled:
            problem = f"{asks}, and judge.method: {unsettled.pop()} knows only pairs that were made for labels"
            raise Fault(problem, "name another method, such as choice or rate", "judge.method")
        return self

    @property
    def labellers(self) -> set[str]:
        """Everybody who labels something, under any criterion."""
        return {who for view in self.by_criterion().values() for who in view.labels.all}

    def by_criterion(self) -> dict[str, "Arm"]:
        """Name of each criterion -> the arm as labels see it, under that constitution; {"": the arm} without any."""
        if not self.criteria:
            return {"": self}
        return {name: self.model_copy(update=its.instead_of(self)) for name, its in self.criteria.items()}


class File(Arm):
    """The whole file. seeds: one replica of label -> reward -> policy for each, the noise floor of the comparison."""

    name: str | None = None
    question: str = "Does an AI judge that reads a constitution do what human labellers do?"
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    # Reward models from so many human labels each: how many are the judge's worth? (cai/stats/crossing.py)
    label_budget: tuple[Positive, ...] = ()
    publics: Publics | None = None
    arms: dict[str, dict | None] = Field(default={})
    runtime: Runtime = Runtime()


class Experiment(BaseModel):
    """What a run needs: its arms in the order of the file, complete and checked."""

    model_config = ConfigDict(frozen=True)

    name: str
    question: str
    seeds: tuple[int, ...]
    label_budget: tuple[int, ...] = ()
    publics: Publics | None = None
    base: Arm | None = Field(default=None, exclude=True, repr=False)  # with publics: the file's own keys
    arms: dict[str, Arm]
    runtime: Runtime
    text: str  # the file as written, for the report
    overrides: tuple[str, ...]
    sweep: str = ""  # the name of the sweep that it is a point of
    point: dict[str, Any] = {}  # and the swept keys with their values here
    trees: dict[str, Any] = Field(default={}, exclude=True, repr=False)  # arm -> the `Tree` that it was read from

    def where(self, arm: str, key: str) -> str:
        """Where a dotted key of an arm stands, `mine.yaml:6: sft.max_length`; of one left out, the section around."""
        tree = self.trees.get(arm)
        return f"{tree.where(tuple(key.split('.')))}: {key}" if tree else key


def read_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check a file that sweeps nothing. Raises UserErrors with all faults, each with its line."""
    grid = read_sweep(path, overrides)
    if grid[0].point:
        keys = ", ".join(grid[0].point)
        raise UserError(f"{keys}: swept, and this takes one experiment", str(path), "fix it: --set key=value")
    return grid[0]


def read_sweep(path: Path, overrides: Sequence[str] = ()) -> list[Experiment]:
    """Every point of a file's grid, one where it sweeps nothing. Raises UserErrors with all faults of all points."""
    faults: list[UserError] = []
    grid = []
    path = locate(path)
    tree = load_tree(path, overrides)
    for point in points(tree):
        try:
            experiment = _experiment(point.tree, path, (*overrides, *point.overrides))
            if point.values:
                own = {"name": f"{experiment.name}/{point.slug}", "sweep": experiment.name, "point": dict(point.values)}
                experiment = experiment.model_copy(update=own)
            grid.append(experiment)
        except UserError as error:
            faults.append(error)
    raise_all(faults)
    return grid


def _experiment(tree: Tree, path: Path, overrides: tuple[str, ...]) -> Experiment:
    """A whole file and every arm in it, checked."""
    shared = tree.without(*OWN_KEYS)
    faults: list[UserError] = []

    def checked(of: Tree, kind: type[Section]) -> Any:
        try:
            return validate(of, kind)
        except UserError as error:
            faults.append(error)

    file = checked(with_judges(tree), File)
    named = tree.get(("arms",))
    names = list(named) if isinstance(named, dict) else []
    trees = {name: arm_of(shared, tree.at("arms", name)) for name in names}
    arms = {name: checked(trees[name], Arm) for name in names}
    name = file.name if file and file.name is not None else path.stem
    faults += faults_of_names(tree, path, name, names)
    if file and len(set(file.seeds)) < len(file.seeds):
        faults.append(UserError("a seed stands twice", tree.where(("seeds",)), "give each replica a seed of its own"))
    if file and file.label_budget and all(arms.values()):
        faults += budget_faults(tree, file.label_budget, arms)
    if all(arms.values()):
        faults += uneven_faults(tree, arms) + policy_faults(tree, arms)
        faults += faults_between(tree, {name: arm.criteria for name, arm in arms.items()})
    raise_all(faults)
    if not arms:
        trees = {file.labels.name: with_judges(shared)}
        arms = {name: validate(own, Arm) for name, own in trees.items()}
    base = validate(with_judges(shared), Arm) if file.publics else None
    if file.publics and not names:
        arms = {}  # those of the groups (cai/data/publics.py)
    if file.runtime.serve:
        arms = served_by_run(arms, file.runtime.serve)
        base = base and served_by_run({"": base}, file.runtime.serve)[""]
    return Experiment(
        name=name,
        question=file.question,
        seeds=file.seeds,
        label_budget=file.label_budget,
        publics=file.publics,
        base=base,
        arms=arms,
        trees=trees,
        runtime=file.runtime,
        text=path.read_text(encoding="utf-8"),
        overrides=overrides,
    )
