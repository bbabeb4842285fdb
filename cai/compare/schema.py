"""results.json: the records behind it, how they become JSON (NaN is null), and how a file is read back.

What a section of the report is about stands under its own key, beside the keys of `Results`: records of its `kind`, in
the section's file (cai/compare/contents.py lists them). The page, its plots and the table read the plain form, so that
they show a results.json as well as a run that has just ended. Still dictionaries: crossing, reading, judges, sources,
overoptimisation, differences and provenance.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import nan
from pathlib import Path
from typing import Any, Literal

from cai.core.errors import UserError
from cai.core.records import Estimate, Number, decode, plain

SCHEMA = 1  # raised where a key changes its name or its meaning
AGAIN = "run its experiment again: what is done is reused"
Better = Literal["higher", "lower"] | None
LabelKind = Literal["judge", "reward", "baseline", "ceiling"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A contrast over prompts and seeds (cai/stats/crossed.py) and what two seeds of one arm differ by.

    noise: root mean square, None with one seed an arm; noise_floor: the same with its interval (n: pairs of seeds).
    prompts_needed: None where no number of prompts would show it. left_out: arm -> rows of either arm that it lacks.
    """

    estimate: Estimate
    p: Number = nan
    seeds: int = 0
    margin: float | None = None
    p_equivalence: Number | None = None
    equivalent: bool | None = None
    prompts_needed: int | None = None
    noise: float | None = None
    noise_floor: Estimate | None = None
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Tested):
    """First arm of `of` minus the second. p_these_seeds: exact McNemar of these very models, None where outcomes are
    not right, wrong or tied. p_holm: p by Holm's correction over the whole table."""

    of: tuple[str, str]
    p_these_seeds: Number | None = None
    p_holm: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline(Tested):
    """Share of games that the first arm wins against the second, 0 to 1; length_controlled: at equal length."""

    arms: tuple[str, str]
    judge: str
    length_controlled: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureLine:
    """A line of the comparison table. unit: "%" for shares in 0 to 1. arms: arm or policy -> its value."""

    key: str
    title: str
    unit: Literal["%", ""]
    better: Better
    help: str
    arms: dict[str, Estimate]
    difference: Difference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLine:
    """A source of labels beside people. balanced: accuracy with length taken out. seed: of a reward model.

    title: the name, with the arm where labellers of several arms have that name.
    """

    name: str
    kind: LabelKind
    split: str
    accuracy: Estimate
    arm: str | None = None
    seed: int | None = None
    title: str = ""
    balanced: Estimate | None = None
    auc: Estimate | None = None
    picks_shorter: Estimate | None = None
    kappa: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Rated:
    """Elo of a policy; the SFT policy is 1000. arm, seed: None for a policy of no arm (the start model, SFT)."""

    policy: str
    elo: Estimate
    arm: str | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Replica:
    """A line of the table for one seed by itself; arms that were trained alone."""

    seed: int
    key: str
    unit: str
    arms: dict[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMade:
    """A stage of the run. calls: of models, "asked", "found", "tokens read" and "tokens written". used: of the machine
    when it was made, "cpu" (seconds), "memory" and "card" (bytes, at the peak), as far as known."""

    stage: str
    key: str
    digest: str
    seconds: float | None
    cached: bool
    calls: dict[str, int]
    used: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All of results.json. arms: their order decides the colours. point: swept key -> value, empty without a sweep.

    examples: how many are on the page. sections: key of a section -> its value.
    """

    name: str
    question: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    differences: list[dict[str, Any]]
    warnings: list[str]
    headline: Headline | None
    elo: list[Rated]
    measures: list[MeasureLine]
    replicas: list[Replica]
    point: dict[str, Any]
    stages: list[StageMade]
    provenance: dict[str, Any]
    examples: dict[str, int]
    sections: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA


def as_json(results: Results) -> dict[str, Any]:
    """What results.json holds: `Results` with its sections at the same level."""
    given = {one.name: getattr(results, one.name) for one in fields(results)}
    sections = given.pop("sections")
    return plain({"schema": given.pop("schema"), **given, **sections})


def read_results(file: Path, kinds: Mapping[str, Any] | None = None) -> Results:
    """Read a results.json back. Raises UserError where it is of another schema, or no results.json at all.

    kinds: section -> the type of its value (cai/compare/contents.py: `KINDS`); others stay as JSON has them.
    """
    where = str(file.parent)
    try:
        given = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or "name" not in given or not isinstance(given.get("schema", 0), int):
        raise UserError("results.json or links.json is cut off, or was not written by a run", where, AGAIN)
    if given.get("schema") != SCHEMA:
        age = "an older version" if given.get("schema", 0) < SCHEMA else "a newer version"
        problem = f"{age} made this run: its results.json has schema {given.get('schema', 0)}, not {SCHEMA}"
        raise UserError(problem, where, AGAIN)
    core = {one.name for one in fields(Results)} - {"sections"}
    sections = {key: value for key, value in given.items() if key not in core}
    try:
        sections |= {key: decode(sections[key], kind, where) for key, kind in (kinds or {}).items() if key in sections}
        return decode({key: given[key] for key in core & given.keys()} | {"sections": sections}, Results, where)
    except UserError as error:
        raise UserError(error.problem, where, AGAIN) from None
