"""The frozen records that flow between stages, and their JSONL form (one record a line).

Roles are data, never text: a message that contains "Assistant:" is one message. See cai/core/templates.py for how
conversations are shown to a model without letting their text forge a role.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from cai.core.errors import DIGITS, UserError

T = TypeVar("T")
Role = Literal["system", "user", "assistant"]
Split = Literal["train", "calibration", "test"]
# NaN, which JSON holds as null (see `plain`).
Number = Annotated[float, BeforeValidator(lambda x: math.nan if x is None else x)]


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


Chat = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that ends with the user's turn. `subset` is a harm category or "helpful"."""

    id: str
    messages: Chat
    subset: str
    split: Split


@dataclass(frozen=True, slots=True)
class Response:
    """finish: "stop" (the model ended its turn) or "length" (it ran out of tokens)."""

    prompt_id: str
    text: str
    model: str
    finish: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Round:
    """One round of critique and revision (Bai et al. 2022, section 3.1). principle: its name."""

    principle: str
    critique: str
    revision: str


@dataclass(frozen=True, slots=True)
class Revision:
    prompt: Prompt
    draft: str
    rounds: tuple[Round, ...]

    @property
    def final(self) -> str:
        return self.rounds[-1].revision if self.rounds else self.draft


@dataclass(frozen=True, slots=True)
class Rating:
    """One answer as several people rated it: 0 (harmless) to 1 (harmful), one score for each rater of a panel."""

    prompt_id: str
    answer: str
    panel: str
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return math.fsum(self.scores) / len(self.scores)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt.

    human: P(a better) by the human labellers, in [0, 1], or None where no human judged the pair.
    votes: each labeller's own P(a better): 1, 0, or 0.5 for a tie. raters: their names, where they are known, as votes.
    prompted: P(a better) by the instruction that each answer was written under (RLCD, Yang et al. 2023): 1 where a was
    told to keep to a principle and b to go against it; None where the answers came from elsewhere.
    """

    id: str
    prompt: Prompt
    a: str
    b: str
    human: float | None = None
    votes: tuple[float, ...] = ()
    prompted: float | None = None
    raters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Vote:
    """What one method of asking made of one pair by one principle.

    order: "ab" or "ba" for a question that shows both answers, "each" for questions about each answer alone.
    p_a:   P(a better), in [0, 1].
    mass:  the smallest share of probability that the options had together, in [0, 1]; 1 where a method has no options.
    logprobs: the raw log-probabilities of the options, in the order asked.
    fault: why this vote is not to be read, "" for a vote that is.
    reply: what the judge wrote before it chose (method `reason`).
    """

    method: str
    principle: str
    order: str
    p_a: float
    mass: float
    logprobs: tuple[float, ...]
    fault: str = ""
    reply: str = ""


@dataclass(frozen=True, slots=True)
class RaterVote:
    """What one person, or one simulated person, said of a pair. p_a: P(a better): 1, 0, or 0.5 for a tie."""

    rater: str
    p_a: float
    note: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row, or one person's part of it, that could not be used: as it was found, with its place and the reason."""

    where: str
    reason: str
    row: str


@dataclass(frozen=True, slots=True)
class Label:
    """source: "ai", "human" (the pair's own data), "human file", "simulated", "shuffled" (a coin),
    "shorter" (length alone). votes: a judge's. said: people's, or of a panel each judge's (the rater is its name)."""

    pair_id: str
    p_a: float
    source: str
    votes: tuple[Vote, ...] = ()
    said: tuple[RaterVote, ...] = ()


@dataclass(frozen=True, slots=True)
class Abstained:
    """The judge could not be read. Counted and left out; never a tie."""

    pair_id: str
    reason: str
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that a reward model ever sees: it carries no source, so human and AI labels take one code path."""

    pair: Pair
    p_a: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95% interval. n: rows; clusters: independent units (prompts) behind the interval."""

    value: Number
    low: Number
    high: Number
    n: int
    clusters: int


def write_jsonl(path: Path, records: Iterable[Any]) -> None:
    """Write dataclass records, one JSON object a line, in UTF-8."""
    encode = json.JSONEncoder(ensure_ascii=False, default=_parts).encode  # `asdict` would copy every text first
    with path.open("w", encoding="utf-8") as file:
        file.writelines(encode(record) + "\n" for record in records)


def _parts(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _names(type(record))}


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(part.name for part in fields(kind))


def plain(value: Any) -> Any:
    """Records as dictionaries, NaN and infinities as null: what JSON can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_jsonl(path: Path, kind: type[T]) -> list[T]:
    """Read what `write_jsonl` wrote. Raises UserError with file:line for a row that is not a `kind`."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        where = f"{path}:{error.object.count(10, 0, error.start) + 1}"
        raise UserError(f"cannot be read on from here: {error}", where, "the file is damaged: make it again") from None
    except OSError as error:
        raise UserError(f"cannot read it: {error.strerror}", str(path), "give a file that exists") from None
    places = ((f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip())
    return [decode(parse_json(line, where), kind, where) for where, line in places]


def parse_json(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"not valid JSON: {error.msg} at column {error.colno}",
            where,
            "each line must be one whole JSON object; the file may be cut off",
        ) from None
    except ValueError:
        raise UserError(f"not valid JSON: {DIGITS[0]}", where, DIGITS[1]) from None
    except RecursionError:
        raise UserError("not valid JSON: nested too deeply", where, "mend or remove this row") from None


@cache
def _adapter(kind: type) -> TypeAdapter:
    return TypeAdapter(kind)


def decode(row: Any, kind: type[T], where: str) -> T:
    """Turn parsed JSON into a record, or raise UserError naming the field at fault."""
    try:
        return _adapter(kind).validate_python(row)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(str(part) for part in fault["loc"])
        raise UserError(
            f"not a {getattr(kind, '__name__', kind)}: {field}: {fault['msg']}", where, "mend or remove this row"
        ) from None


def ratings_of(data: Any, split: Split) -> list[tuple[Prompt, Rating]]:
    """The answers that people rated, each with its prompt, in the order of the data (a folder of its stage)."""
    prompts = {prompt.id: prompt for prompt in read_jsonl(data / "prompts.jsonl", Prompt) if prompt.split == split}
    file = data / "ratings.jsonl"
    ratings = read_jsonl(file, Rating) if file.is_file() else []
    return [(prompts[rating.prompt_id], rating) for rating in ratings if rating.prompt_id in prompts]


def labelled_pairs(pairs: Sequence[Any], labels: Sequence[Any]) -> list[Comparison]:
    """The labelled training pairs in the order of the pairs: the same rows, in one order, for every label source.

    pairs, labels: the folders that hold pairs.jsonl and labels.jsonl, one of each for every round.
    """
    comparisons: list[Comparison] = []
    for some, labelled in zip(pairs, labels, strict=True):
        p_a = {label.pair_id: label.p_a for label in read_jsonl(labelled / "labels.jsonl", Label)}
        rows = [pair for pair in read_jsonl(some / "pairs.jsonl", Pair) if pair.prompt.split == "train"]
        comparisons += [Comparison(pair, p_a[pair.id]) for pair in rows if pair.id in p_a]
    return comparisons


Origin = Literal["constitution", "checked"]


Control = Literal["text", "opposite", "placebo"]


@dataclass(frozen=True, slots=True)
class Controlled:
    """One revision of one draft. principle: the one that was drawn, whose text, opposite or placebo was asked for.

    asked: all that the model was told of it. draw: 0 or 1. critique: "" where none was asked for. Of critique and
    revision, None where the model gave none.
    """

    prompt_id: str
    subset: str
    origin: Origin
    principle: str
    control: Control
    draw: int
    asked: str
    draft: str
    critique: str | None
    revision: str | None
