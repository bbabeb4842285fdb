"""One YAML file -> one frozen, typed `Experiment`.

An arm is the whole experiment with some keys changed; the file's own keys are what all arms share. What the arms do not
change is computed once, because the store keys it the same. The sections themselves are in cai/settings.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cai.errors import UserError
from cai.settings import (
    Count,
    Data,
    Evaluate,
    Helpful,
    Labeller,
    Pairs,
    Policy,
    Revise,
    Reward,
    Rl,
    Runtime,
    Section,
    Sft,
)
from cai.validation import Fault, raise_all, validate
from cai.yamlfile import Tree, load_tree, merge


class Arm(Section):
    """One arm of an experiment: everything that decides its result."""

    constitution: str
    labels: Literal["ai", "human"] = "ai"
    seed: Count = 0
    # auto: bfloat16 where the device computes in it natively, else float32.
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    policy: Policy = Policy()
    data: Data
    helpful: Helpful | None = Helpful()
    revise: Revise = Revise()
    sft: Sft = Sft()
    pairs: Pairs = Pairs()
    judge: Labeller = Labeller()
    reward: Reward = Reward()
    rl: Rl = Rl()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _labels_have_what_they_need(self) -> "Arm":
        if self.labels == "human" and self.pairs.source != "data":
            raise Fault(
                "labels: human needs pairs that people have judged, and pairs.source: "
                f"{self.pairs.source} makes fresh ones",
                "use pairs.source: data, or labels: ai",
                "labels",
            )
        if self.labels == "ai" and self.judge.method == "provenance" and self.pairs.source != "opposed":
            raise Fault(
                "judge.method: provenance labels by which instruction wrote which answer, and nobody knows that of "
                f"pairs.source: {self.pairs.source}",
                "set pairs.source: opposed, or name another method",
                "judge.method",
            )
        if self.rl.gold and not self.data.calibration:
            raise Fault(
                "rl.gold needs prompts that nothing else is trained or reported on",
                "set data.calibration to the share of prompts to keep for it, such as 0.15",
                "rl.gold",
            )
        if self.labels == "ai" and not self.data.calibration:
            for key, wanted in (("method", self.judge.method == "auto"), ("calibrate", self.judge.calibrate)):
                if wanted:
                    raise Fault(
                        f"judge.{key} needs human-labelled pairs that are used for nothing else",
                        "set data.calibration to the share of prompts to keep for it, such as 0.15",
                        f"judge.{key}",
                    )
        return self


class File(Arm):
    """The whole file. seeds: one replica of label -> reward -> policy for each, the noise floor of the comparison."""

    name: str | None = None
    question: str = "Does an AI judge that reads a constitution do what human labellers do?"
    seeds: Annotated[tuple[Count, ...], Field(min_length=1)] = (0,)
    arms: dict[str, dict | None] = Field(default={})
    runtime: Runtime = Runtime()


class Experiment(BaseModel):
    """What a run needs: its arms in the order of the file, complete and checked."""

    model_config = ConfigDict(frozen=True)

    name: str
    question: str
    seeds: tuple[int, ...]
    arms: dict[str, Arm]
    runtime: Runtime
    text: str  # the file as written, for the report
    overrides: tuple[str, ...]


OWN_KEYS = ("name", "question", "seeds", "arms", "runtime")


def read_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check a whole file and every arm in it. Raises UserErrors with all faults, each with its line."""
    tree = load_tree(path, overrides)
    shared = tree.without(*OWN_KEYS)
    faults: list[UserError] = []

    def checked(of: Tree, kind: type[Section]) -> Any:
        try:
            return validate(of, kind)
        except UserError as error:
            faults.append(error)

    file = checked(tree, File)
    named = tree.get(("arms",))
    names = list(named) if isinstance(named, dict) else []
    arms = {name: checked(merge(shared, tree.at("arms", name)), Arm) for name in names}
    faults += [
        UserError(f'an arm cannot be called "{name}"', tree.where(("arms", name)), "use letters, digits, - and _")
        for name in names
        if not name.replace("-", "").replace("_", "").isalnum()
    ]
    if file and len(set(file.seeds)) < len(file.seeds):
        faults.append(UserError("a seed stands twice", tree.where(("seeds",)), "give each replica a seed of its own"))
    raise_all(faults)
    return Experiment(
        name=file.name or path.stem,
        question=file.question,
        seeds=file.seeds,
        arms=arms or {file.labels: validate(shared, Arm)},
        runtime=file.runtime,
        text=path.read_text(encoding="utf-8"),
        overrides=tuple(overrides),
    )
