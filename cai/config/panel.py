"""`judge.panel`: several judges label the same pairs, and what they say is put together.

judge:
  model: smollm2-135m-judge
  method: channel
  panel:                                    # short for panel: {judges: [...]}
    - {}                                    # the judge above, as it is
    - {turns: 1}                            # the same under other settings
    - {model: smollm2-135m, method: rate}   # another one

Each judge is written as what it changes of `judge:`, of which everything but `slim` and `attacks` is laid under it.
Every judge's labels are a stage of their own, which an arm that has this judge alone shares.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cai.config.rubric import FORMS, RUBRIC, RubricKey
from cai.config.section import Section
from cai.config.sections import Labeller
from cai.config.validation import Fault

INFORMED = 3  # judges by whose agreement alone the reliability of each can be told (cai/stats/reliability.py)
# Settings of `judge:` that are measured on the labels of one judge.
ALONE = {
    "slim": "slim it by hand (python -m cai.models slim) and name its folder",
    "attacks": "set it to 0; python -m cai.judge attack CONFIG attacks a judge that labels alone",
}
OF_A_CONSTITUTION = {
    "panel": "leave one of them out",
    "slim": ALONE["slim"],
    "attacks": "set it to 0",
    "shots": "set it to 0",
}


class Escalate(Section):
    """Ask each judge of the list only about pairs that the one before it was asked about and is unsure of.

    below: unsure is a judge that gives the answer it prefers a probability below this, or none at all. The last judge
    that was asked and could be read decides.
    """

    below: Annotated[float, Field(gt=0.5, le=1)]


class Panel(Section):
    """judges: in order; the cheapest first where they are asked by `escalate`.

    combine: the mean of the log-odds of all that could be read, or their votes weighed by how reliable each judge is,
    which is fitted to their agreement and to no person's label. null: mean; with `escalate` nothing is combined.
    """

    judges: Annotated[tuple[Labeller, ...], Field(min_length=1)]
    combine: Literal["mean", "reliability"] | None = None
    escalate: Escalate | None = None

    @property
    def rule(self) -> Literal["mean", "reliability", "last"]:
        """By what the labels of all are made."""
        return "last" if self.escalate else self.combine or "mean"

    def __str__(self) -> str:
        """`a panel of 3 judges (reliability)`"""
        how = f"the next where one is below {self.escalate.below:g}" if self.escalate else self.rule
        return f"a panel of {len(self.judges)} judges ({how})"

    @model_validator(mode="after")
    def _is_one(self) -> "Panel":
        if len(self.judges) == 1:
            problem = "a panel of one judge has nothing to put together"
            raise Fault(problem, "add another, or write its keys into judge: itself", "judges")
        if self.escalate and self.combine:
            problem = f"escalate lets the last judge that is asked decide, and combine: {self.combine} all of them"
            raise Fault(problem, "leave one of them out", "combine")
        if self.combine == "reliability" and len(self.judges) < INFORMED:
            problem = "combine: reliability goes by how often judges agree, and of two nobody knows which one is right"
            raise Fault(problem, f"name {INFORMED} judges or more, or write combine: mean", "combine")
        for number, judge in enumerate(self.judges):
            if judge in self.judges[:number]:
                problem = f"judge {number + 1} of the panel is judge {self.judges.index(judge) + 1} again"
                raise Fault(problem, "change something of it, or leave it out", f"judges.{number}")
            for key, remedy in ALONE.items():
                if getattr(judge, key):
                    raise Fault(f"{key} is of a judge that labels alone", remedy, f"judges.{number}.{key}")
        return self


class ArmJudge(Labeller):
    """`judge:` of an arm: one judge, or with `panel` several; by a constitution, or by a rubric (`method: rubric`)."""

    # No part of a key: the stages of its judges, and the one that puts them together, are given what they read of it.
    panel: Panel | None = Field(default=None, exclude=True)
    rubric: RubricKey = Field(default=None, exclude=True)  # nor is this: they are given the criteria

    @model_validator(mode="after")
    def _scores_by_its_rubric(self) -> "ArmJudge":
        if self.rubric is None:
            if self.method == RUBRIC:
                raise Fault("judge.method: rubric, and there are no criteria", FORMS, "method")
            return self
        for key, remedy in OF_A_CONSTITUTION.items():
            if getattr(self, key):
                problem = f"{key} is of a judge that reads a constitution, and judge.rubric has it read criteria"
                raise Fault(problem, remedy, key)
        return self if self.method == RUBRIC else self.model_copy(update={"method": RUBRIC})

    @property
    def asked(self) -> dict[str, Labeller]:
        """The key of each judge that is asked for labels -> the judge."""
        if self.panel is None:
            return {"judge": self}
        return {f"judge.panel.judges.{number}": judge for number, judge in enumerate(self.panel.judges)}


def alone(judge: Labeller) -> ArmJudge:
    """A judge of a panel as that of an arm which asks nobody else."""
    return ArmJudge(**{name: getattr(judge, name) for name in Labeller.model_fields})


def is_labeller(section: str) -> bool:
    """Whether a section that names a judge is of those that label."""
    return section.partition(".")[0] == "judge"


def check_panel(judge: ArmJudge, rl_method: str, criteria: bool) -> None:
    """Raises Fault for what a panel cannot do."""
    if judge.panel is None:
        return
    if rl_method == "direct":
        problem = "rl.method: direct asks one judge about each answer as the policy learns, and judge.panel names some"
        raise Fault(problem, "name another rl.method, or leave the panel out", "judge.panel")
    if criteria:
        problem = "criteria are each labelled by one judge, and judge.panel names some"
        raise Fault(problem, "leave one of them out", "judge.panel")
    for key, remedy in ALONE.items():
        if getattr(judge, key):
            raise Fault(f"{key} is of a judge that labels alone, and judge.panel names some", remedy, f"judge.{key}")
