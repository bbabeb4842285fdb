"""One YAML file -> one frozen, typed `Experiment`.

An arm is the whole experiment with some keys changed; the file's own keys are what all arms share. What the arms do not
change is computed once, because the store keys it the same.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cai.errors import UserError
from cai.validation import Fault, raise_all, validate
from cai.yamlfile import Tree, load_tree, merge

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Amount = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Policy(Section):
    """The model that is trained. model: an embedded name (smollm2-135m), a local folder, or a hub id."""

    model: str = "smollm2-135m"
    system: str | None = "You are a helpful assistant."
    training: Literal["lora", "full"] = "lora"
    lora_rank: Positive = 16
    # LoRA on the last n layers only (null: all): the layers below then need no backward pass.
    lora_layers: Positive | None = None


class Data(Section):
    """Prompts, and the human-labelled pairs that come with them.

    source: rated-answers (human-rated answers carried by a pip package), hh-rlhf (the hub), or a .jsonl(.gz) file of
    prompts, of pairs, or of HH-RLHF rows. Splits are by prompt: no prompt is in both train and test.
    """

    source: str
    test: Share = 0.3
    # Pairs from ratings: the least difference between the two mean ratings, and how many pairs one prompt may give.
    min_gap: Share = 0.25
    pairs_per_prompt: Positive = 6
    max_words: Positive = 400
    train_pairs: Positive | None = None
    test_pairs: Positive | None = None


class Helpful(Section):
    """Harmless everyday prompts: the helpfulness mix of SFT and PPO, and the check for over-refusal."""

    source: str = "experiments/data/helpful.jsonl"


class Revise(Section):
    """Drafts, then rounds of critique and revision (Bai et al. 2022, section 3.1)."""

    prompts: Positive = 64
    rounds: Positive = 2
    max_new_tokens: Positive = 96
    temperature: Amount = 1.0


class Sft(Section):
    """Supervised fine-tuning on the final revisions. helpful: share of rows that answer a helpful prompt."""

    epochs: Rate = 1
    learning_rate: Rate = 1e-4
    batch_size: Positive = 8
    helpful: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_length: Positive = 512


class Pairs(Section):
    """data: the labelled pairs of `data:`. policy: two fresh answers of the SFT policy to each training prompt."""

    source: Literal["data", "policy"] = "data"
    prompts: Positive | None = None
    max_new_tokens: Positive = 96
    temperature: Amount = 1.0


class Judge(Section):
    """rate: each answer alone, log-odds of Yes. choice: both answers, (A) or (B), in both orders."""

    model: str = "smollm2-135m"
    method: Literal["rate", "choice"] = "rate"
    # How many principles are drawn for a prompt; the paper draws one. Their log-odds are averaged.
    principles: Positive | Literal["all"] = 1
    # A vote whose options hold less than this share of the probability is not read; no readable vote, no label.
    min_mass: Share = 0.02
    # Divides the log-odds: below 1 it sharpens the timid probabilities of a small judge; it never turns a verdict.
    temperature: Rate = 1.0
    system: str | None = None
    # Longest question in tokens; a pair that needs more is abstained and counted, never cut.
    max_length: Positive = 1024


class Reward(Section):
    epochs: Rate = 1
    learning_rate: Rate = 1e-4
    batch_size: Positive = 8
    max_length: Positive = 384


class Rl(Section):
    """PPO (Schulman et al. 2017) with a KL penalty to the SFT policy for each token (Ziegler et al. 2019)."""

    steps: Positive = 16
    batch_size: Positive = 8
    epochs: Positive = 2
    learning_rate: Rate = 5e-5
    kl: Amount = 0.05
    clip: Rate = 0.2
    value_clip: Rate = 0.2
    value_weight: Amount = 0.1
    gamma: Share = 1.0
    gae_lambda: Share = 0.95
    # Taken off the score of an answer that did not end by itself.
    no_eos_penalty: Amount = 1.0
    helpful: Share = 0.25
    max_prompt_tokens: Positive = 192
    max_new_tokens: Positive = 48
    temperature: Rate = 1.0


class Evaluate(Section):
    """Held-out prompts that every policy answers, and the judge that compares the answers.

    The judge's constitution is one of its own, so that editing an arm's constitution never moves the yardstick.
    """

    constitution: str = "constitutions/yardstick.txt"

    prompts: Positive = 60
    helpful: Count = 30
    # Held-out prompts whose critiques and revisions are made as well, to be read in the report beside the answers.
    transcripts: Count = 20
    max_new_tokens: Positive = 64
    temperature: Amount = 1.0
    judge: Judge = Judge(principles="all")


class Runtime(Section):
    """Where and how fast; never part of a key, never changes a result by more than rounding.

    dtype is the exception that is made plain: it is stored with each call and each set of weights.
    """

    device: str = "auto"
    threads: Positive | None = None
    batch_tokens: Positive = 4096
    root: str = "runs"


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
    judge: Judge = Judge()
    reward: Reward = Reward()
    rl: Rl = Rl()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _human_labels_need_judged_pairs(self) -> "Arm":
        if self.labels == "human" and self.pairs.source == "policy":
            raise Fault(
                "labels: human needs pairs that people have judged, and pairs.source: policy makes fresh ones",
                "use pairs.source: data, or labels: ai",
                "labels",
            )
        return self


class File(Arm):
    """The whole file. seeds: one replica of label -> reward -> policy for each, the noise floor of the comparison."""

    name: str | None = None
    question: str = "Does an AI judge that reads a constitution do what human labellers do?"
    seeds: Annotated[tuple[Count, ...], Field(min_length=1)] = (0,)
    arms: dict[str, dict | None] = {}
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
