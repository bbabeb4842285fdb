"""What every section of an experiment's YAML is: frozen, without unknown keys, its numbers in their bounds."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Amount = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    # No number of an experiment is infinite: YAML's `.inf` would pass as a rate, and `.nan` as anything.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
