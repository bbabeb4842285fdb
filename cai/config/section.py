"""What every section of an experiment's YAML is: frozen, without unknown keys, its numbers in their bounds."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cai.config.validation import Fault

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
# Adam moves every weight by about so much a step, and weights are smaller than 1: beyond it nothing is learnt any more.
LearningRate = Annotated[float, Field(gt=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy takes, and with it every trainer
COLDEST = 0.01  # below it, log-probabilities divided by a temperature soon are infinite


def _drawable(value: float) -> float:
    if 0 < value < COLDEST:
        problem = f"a temperature of {value:g} is too low to divide log-probabilities by"
        raise Fault(problem, f"write 0, which takes the likeliest token, or at least {COLDEST}")
    return value


Temperature = Annotated[float, Field(ge=0), AfterValidator(_drawable)]
Warm = Annotated[float, Field(ge=COLDEST)]


class Section(BaseModel):
    # No number of an experiment is infinite: YAML's `.inf` would pass as a rate, and `.nan` as anything.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
