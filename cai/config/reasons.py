"""`constitution:` of an arm: a file, or a file and what becomes of the reasons in it (`Why:`).

constitution: constitutions/harmless.txt              nobody reads `Why:`
constitution: {file: constitutions/harmless.txt, why: judge}
    why: none       as above
    why: judge      the reason stands beside the principle in the judge's question (prompts/why.jinja)
    why: critique   it stands beside what is asked for in critiques and revisions
    why: train      before SFT the policy is trained on documents made of principles and their reasons
                    (prompts/reasons.jinja; Guan et al. 2024, "Deliberative alignment", trains on the text as well)
    reasons: others the placebo: each principle is given another one's reason, as near to its own in length as can be
                    (cai/constitution/reasons.py). All of them together are the same words, and so as many tokens.
    training:       of why: train
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from cai.config.section import LearningRate, Positive, Rate, Section
from cai.config.tree import show
from cai.config.validation import Fault

FORMS = "write constitution: FILE, or constitution: {file: FILE, why: judge}"


class ReasonTraining(Section):
    """Next-token training on documents of reasons. batch_size: blocks a step, each of `max_length` tokens."""

    epochs: Rate = 8
    learning_rate: LearningRate = 1e-4
    batch_size: Positive = 4
    max_length: Annotated[int, Field(ge=2)] = 256


class ConstitutionFile(Section):
    """No part of a key: stages are given what they read of the file. SHORT: what may stand for the whole section."""

    SHORT: ClassVar[str] = "a file"

    file: Annotated[str, Field(min_length=1)]
    why: Literal["none", "judge", "critique", "train"] = "none"
    reasons: Literal["own", "others"] = "own"
    training: ReasonTraining = ReasonTraining()

    @model_validator(mode="after")
    def _everything_given_is_read(self) -> "ConstitutionFile":
        if self.reasons == "others" and self.why == "none":
            problem = "constitution.reasons: others gives principles other reasons, and why: none has nobody read them"
            raise Fault(problem, "set why: judge, critique or train, or leave reasons out", "reasons")
        if "training" in self.model_fields_set and self.why != "train":
            problem = f"constitution.training is that of why: train, and why is {self.why}"
            raise Fault(problem, "set why: train, or leave it out", "training")
        return self


def parse(given: Any) -> Any:
    """A path as the section that says the same. Raises Fault for what is neither."""
    if isinstance(given, str):
        return {"file": given}
    if not isinstance(given, dict | ConstitutionFile):
        raise Fault(f"constitution must be text or a section of keys, not {show(given)}", FORMS)
    return given


ConstitutionKey = Annotated[ConstitutionFile, BeforeValidator(parse)]
