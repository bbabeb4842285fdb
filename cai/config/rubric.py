"""`judge.rubric`: answers are scored criterion by criterion, and not by the principles of a constitution.

judge: {rubric: rubrics.jsonl}                    short for rubric: {file: rubrics.jsonl}; `method` is then rubric
judge: {rubric: {write: {criteria: 5}}}           a model writes the criteria for each prompt, by the constitution

file    for one prompt, for a subset or for all, positive and negative, weighed, and asked only where a condition holds;
        HealthBench's form and others (cai/data/rubrics.py)
write   a stage of its own, whose rubrics.jsonl is such a file; the judge's principles are what it is written by

How criteria become a score and a label stands in cai/judge/rubric.py. Under `criteria:` each may have a rubric of its
own (cai/config/criteria.py): one reward model for each, normalised and weighed.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from cai.config.section import Positive, Section, Temperature
from cai.config.tree import show
from cai.config.validation import Fault

RUBRIC = "rubric"  # the method of its votes, and the template that asks about one criterion
FORMS = "write rubric: FILE.jsonl, or rubric: {write: {criteria: 5}}"


class WrittenRubric(Section):
    """criteria: at most so many for a prompt. model: who writes them; null: the judge's model."""

    criteria: Annotated[int, Field(ge=1, le=20)] = 5
    # No part of the settings in a key: the stage is given the model.
    model: str | None = Field(default=None, exclude=True)
    max_new_tokens: Positive = 256
    temperature: Temperature = 0.7


class Rubric(Section):
    """One of the two."""

    file: Annotated[str, Field(min_length=1)] | None = None
    write: WrittenRubric | None = None

    @model_validator(mode="after")
    def _is_one_of_the_two(self) -> "Rubric":
        if self.file and self.write:
            raise Fault(
                "rubric.file has criteria, and rubric.write has them written", "set one of them to null", "write"
            )
        if not (self.file or self.write):
            raise Fault("rubric names no criteria", FORMS)
        return self

    def __str__(self) -> str:
        return self.file or f"{self.write.criteria if self.write else 0} criteria written for each prompt"


def parse(given: Any) -> Any:
    """A path as the section that says the same. Raises Fault for what is neither."""
    if isinstance(given, str):
        return {"file": given}
    if given is not None and not isinstance(given, dict | Rubric):
        raise Fault(f"rubric must be text or a section of keys, not {show(given)}", FORMS)
    return given


RubricKey = Annotated[Rubric | None, BeforeValidator(parse)]
