"""`criteria:` of an arm: several things that an answer should be, each judged, learnt and weighed apart.

criteria:
  truthful: {constitution: constitutions/truthful.txt, weight: 1}
  harmless: {constitution: constitutions/harmless.txt, weight: 2}
  helpful:
    constitution: constitutions/helpful.txt
    labels: {default: human, file: helpful.jsonl}     # who labels under it; left out: the arm's `labels:`
  safe: {constitution: constitutions/harmless.txt, rubric: rubrics.jsonl}   # the judge labels by these criteria

For each there are labels on the same pairs, and a reward model on these labels. RL is paid the sum

    sum over criteria of  weight / (sum of weights) * (reward - mean) / spread,

where mean and spread are those of the criterion's own reward model on the answers that the SFT policy was trained on
(cai/train/criteria.py says why). So weights alone decide what a criterion is worth, not how loud its reward model is.
The arm's `constitution:` is still what revisions are made by.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cai.config.labels import Labels, Sources
from cai.config.rl import Rl
from cai.config.rubric import RUBRIC, RubricKey
from cai.config.section import Amount, Section
from cai.config.sections import Labeller
from cai.config.tree import Tree, show
from cai.config.validation import Fault
from cai.core.errors import UserError
from cai.core.places import fault_of_arm

READS_A_CONSTITUTION = ("ai", "simulated")  # labellers of whom each criterion gets labels of its own


class Criterion(Section):
    """constitution: by which a judge labels the pairs. weight: 0 trains a reward model that RL is not paid by.

    labels: who labels under this criterion; null: whom the arm's `labels:` name. rubric: by which the judge labels in
    the constitution's place (cai/config/rubric.py); that is then what the report measures policies by.
    """

    constitution: str
    weight: Amount = 1.0
    labels: Labels | None = None
    rubric: RubricKey = None

    def instead_of(self, arm: Any) -> dict[str, Any]:
        """The keys by which the arm is one that this criterion alone is labelled in.

        What people said of the data's pairs is about one thing, and no measure of a judge that is asked about another:
        the preflight looks at how it reads and at its consistency, and not at its agreement with people.
        """
        judge = arm.judge
        if judge.preflight:
            reads = judge.preflight.reads and judge.preflight.reads.model_copy(update={"gain": -1.0})
            preflight = judge.preflight.model_copy(update={"accuracy": 0.0, "reads": reads})
            judge = judge.model_copy(update={"preflight": preflight})
        if self.rubric:
            judge = judge.model_copy(update={"rubric": self.rubric, "method": RUBRIC})
        constitution = arm.constitution.model_copy(update={"file": self.constitution})
        return {
            "constitution": constitution, "labels": self.labels or arm.labels, "judge": judge, "criteria": {},
        }  # fmt: skip


def _none_is_empty(given: object) -> object:
    """`criteria: null`, by which an arm goes without those of the file."""
    return {} if given is None else given


Criteria = Annotated[dict[str, Criterion], BeforeValidator(_none_is_empty), Field(default={})]


def check_weights(criteria: Mapping[str, Criterion]) -> None:
    """Raises Fault for a name that is none, and where no criterion weighs anything."""
    for name in criteria:
        if why := fault_of_arm(name):
            remedy = "use letters, digits, - and _"
            raise Fault(f"a criterion cannot be called {show(name)}: {why}", remedy, "criteria")
    if criteria and not math.fsum(criterion.weight for criterion in criteria.values()):
        raise Fault("every weight is 0: nothing is left to be paid for", "give one a weight above 0", "criteria")


def check_readers(rl: Rl, judge: Labeller, without: str | None) -> None:
    """Raises Fault for what cannot be done under several constitutions."""
    if rl.method in ("dpo", "self_distil") or rl.asked:
        what = {"dpo": "one label a pair", "self_distil": "one constitution"}
        reads = what.get(rl.method, "the judge under one constitution")
        problem = f"rl.method: {rl.method} reads {reads}, and criteria weigh the rewards of several reward models"
        raise Fault(problem, "name ppo, rloo, grpo or best_of_n, or remove criteria", "rl.method")
    for key, wanted in (("method", judge.method == "auto"), ("calibrate", judge.calibrate)):
        if wanted:
            problem = f"judge.{key}: {'auto' if key == 'method' else 'true'} goes by people's labels, which are about "
            problem += "one thing, and criteria are several"
            raise Fault(problem, "name a method" if key == "method" else "set it to false", f"judge.{key}")
    if judge.method == RUBRIC:
        problem = "judge.rubric would label all criteria alike"
        raise Fault(problem, "write it under one of them: criteria: {NAME: {rubric: FILE}}", "judge.rubric")
    if judge.method == "provenance":
        problem = "judge.method: provenance labels by who was told what, which is the same for every criterion"
        raise Fault(problem, "name another method, or remove criteria", "judge.method")
    if without:
        problem = "without leaves a principle out of `constitution:`, by which nothing is labelled under criteria"
        raise Fault(problem, "remove it, and name files without that principle under criteria", "without")


def check_labels(criteria: Mapping[str, Criterion], labels: Sources) -> None:
    """Raises Fault where two criteria would have the same labels. labels: the arm's own."""
    by: dict[tuple[str, str | None], str] = {}
    for name, criterion in criteria.items():
        own = criterion.labels or labels
        for who in own.all:
            if who in READS_A_CONSTITUTION:
                continue
            source = (who, own.file if who == "human" else None)
            if source not in by:
                by[source] = name
                continue
            problem = f"criteria {by[source]} and {name} would have the same labels: {who} labels by no constitution"
            remedy = f"set criteria.{name}.labels: ai"
            if who == "human":
                problem = f"criteria {by[source]} and {name} would have the same labels: people judged each pair once"
                remedy = f"write criteria.{name}.labels: {{default: human, file: FILE}} with what people said by that "
                remedy += "criterion, or ai"
            raise Fault(problem, remedy, f"criteria.{name}.labels" if criterion.labels else "labels")


def faults_between(tree: Tree, arms: Mapping[str, Mapping[str, Criterion]]) -> list[UserError]:
    """A name must be one criterion in every arm that has it: the report measures all policies by it. tree: of all."""
    known: dict[str, tuple[str, str]] = {}
    faults = []
    for arm, criteria in arms.items():
        for name, criterion in criteria.items():
            first, constitution = known.setdefault(name, (arm, criterion.constitution))
            if criterion.constitution != constitution:
                problem = (
                    f"criterion {name} is {criterion.constitution} in arm {arm}, and {constitution} in arm {first}"
                )
                where = tree.where(("arms", arm, "criteria", name, "constitution"))
                faults.append(UserError(problem, where, "give one of them another name"))
    return faults
