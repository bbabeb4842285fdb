"""How long stages take, by what earlier ones took: manifests of the store, and a table measured on a named machine.

A stage's work is counted in what its inputs say: prompts, pairs, principles, rollouts, tokens (work.py). Seconds are a
fixed part and so much a unit, fitted to what earlier stages took; nothing is known of a stage of which there are none,
nor any of its kind, that worked with a model of about the same size, on the same kind of device. Answers may end early,
and what the call cache has is not asked again, so an estimate is no promise.

timings.json holds `Took`s of the quickstart, the edit and the smoke experiment (`write`); it is made anew when `COUNTS`
changes, or when a stage becomes quicker.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Literal

from cai.core.store import MANIFEST, Artifact
from cai.experiment.work import JUDGED, Work, model_of
from cai.models.embedded import TINY
from cai.models.shapes import shape_named, size_named

REFERENCE = Path(__file__).with_name("timings.json")
NEAREST = 6  # counts that a line is fitted to
NEAR = 0.05  # (log count)^2: points that are nearer than this weigh about alike
LOADING = 2.0  # seconds, of a small model and of the libraries
LEAST = 0.01  # seconds that a stage is taken to last at least
# The quickstart took so many times as long in float32, which `dtype: auto` is on a processor without bfloat16 units
# (experiments/benchmarks.md: 20 minutes, 6 with them).
FLOAT32 = 3.3
TELLING = 1.0  # stages that took less say nothing of how fast a machine is
# Stages that do the same with what they count: tokens that are sampled, or revised; questions; texts that are scored;
# rollouts; pairs that are learnt from.
KIN = (
    frozenset({"respond", "respond_best", "sample_pairs"}),
    frozenset({"revise", "revise_controls"}),
    frozenset({"draw_rationales", "compare_pairs", "compare_items", "score_beside", "respond_compared"}),
    frozenset(
        {
            *("preflight", "label_by_judge", "label_the_unsure", "play", "rate_answers", "rate_revisions"),
            *("rate_controlled", "attack_judge"),
        }
    ),
    frozenset({"score_answers", "score_ratings", "scale_reward", "score_drift", "score_teacher_kl"}),
    frozenset({"train_ppo", "train_rloo", "train_grpo", "train_self_distil", *JUDGED}),
)
ALIKE = 1.6  # two sizes of models that are not further apart than this take about as long


@dataclass(frozen=True, slots=True)
class Expected:
    """Seconds that a stage will take, None where nothing is known.

    machine: on which they were measured, "" for this store's. modelled: not measured anywhere (cards.py). count: what
    it has to do (work.py).
    """

    seconds: float | None
    machine: str = ""
    modelled: bool = False
    count: float | None = None

    @property
    def basis(self) -> Literal["here", "elsewhere", "modelled"]:
        return "modelled" if self.modelled else "elsewhere" if self.machine else "here"


@dataclass(frozen=True, slots=True)
class Took:
    """A finished stage. model: that does its work, "" where none does. count: of `COUNTS`. device: "" for unknown."""

    stage: str
    model: str
    dtype: str
    device: str
    count: float
    seconds: float


# Stages whose time is that of their model calls, of which the call cache may have some.
CALLS = (
    *("revise", "revise_controls", "respond", "sample_pairs", "preflight", "label_by_judge", "label_by_simulation"),
    *("label_the_unsure", "play", "rate_answers", "rate_revisions", "rate_controlled", "judge_items", "choose_items"),
    *("attack_judge", "write_rubrics", "draw_rationales", "compare_pairs", "compare_items", "score_beside"),
    "respond_compared",
)


def known(store: Path, work: Work) -> list[Took]:
    """What the finished stages of a store took; each is added to `work`. A manifest that cannot be read is skipped."""
    manifests = []
    for file in sorted(store.glob(f"*-*/{MANIFEST}")):
        if file.parent.suffix:  # what was set aside, or is being made
            continue
        with suppress(OSError, ValueError, KeyError, TypeError):  # half a manifest, or one that had no inputs yet
            made = json.loads(file.read_bytes())
            work.add(made["digest"], made["stage"], made["inputs"], file.parent)
            manifests.append(made)
    timings = []
    for made in manifests:
        stage, inputs, calls = made["stage"], made["inputs"], made.get("calls", {})
        made_by_model, cached = calls.get("asked", 0), calls.get("found", 0)
        if stage in CALLS and cached >= 4 * made_by_model:  # answered from the call cache: that tells nothing
            continue
        fresh = Work(work.inputs)  # what it asked itself is what its calls say
        if count := fresh.count(stage, inputs):
            share = made_by_model / (made_by_model + cached) if stage in CALLS else 1.0
            timings.append(
                Took(
                    stage=stage,
                    model=model_of(stage, inputs),
                    dtype=inputs.get("dtype", ""),
                    device=made.get("device", ""),
                    count=count * share,
                    seconds=float(made["seconds"]),
                )
            )
    return timings


def reference() -> tuple[str, list[Took]]:
    """(the machine, what stages took on it): for a store that has none of its own yet."""
    table = json.loads(REFERENCE.read_text(encoding="utf-8"))
    rows = [Took(**row) for row in table["stages"]]
    whole = [row for row in rows if row.dtype == "bfloat16" and row.model != TINY]  # whose time is that of products
    return table["machine"], rows + [replace(row, dtype="float32", seconds=row.seconds * FLOAT32) for row in whole]


def write(machine: str, *stores: Path) -> None:
    """timings.json from the stores of finished runs: of stages with the same count the median."""
    alike: dict[Took, list[float]] = {}
    for stage in (stage for store in stores for stage in known(store, Work())):
        alike.setdefault(replace(stage, count=round(stage.count, 1), device="cpu", seconds=0.0), []).append(
            stage.seconds
        )
    stages = [asdict(replace(stage, seconds=round(median(took), 2))) for stage, took in alike.items()]
    rows = ",\n".join(f"  {json.dumps(stage)}" for stage in sorted(stages, key=lambda stage: tuple(stage.values())))
    text = f'{{"machine": {json.dumps(machine)}, "stages": [\n{rows}\n]}}\n'
    REFERENCE.write_text(text, encoding="utf-8")


def seconds_of(
    stage: str, model: str, dtype: str, count: float, earlier: Sequence[Took], shipped: Sequence[Took] = ()
) -> float | None:
    """Seconds by earlier stages like this one; None where none of them tells.

    They are a fixed part (loading, compiling) and so much a unit: the line that fits best in the logarithm of the
    seconds. The nearest counts say most. A shipped table (brought to this machine's speed: `at_speed`) and stages of
    the same kind tell little beside earlier ones of the stage's own name: they are for counts that those did not have.
    """
    tiers = [(1.0, stage, earlier), (0.3, stage, shipped), (0.1, "", earlier), (0.05, "", shipped)]
    points: list[Timing] = []
    for weight, name, rows in tiers:
        names = {name} if name else _kin(stage) - {stage}
        alike = _same([row for row in rows if row.stage in names and row.count > 0], model, dtype)
        points += _points(alike, weight)
    if not points:
        return None
    if not count:  # the call cache will have it all
        return min(1.0, *(point.seconds for point in points))
    return at(fitted(points, count), count)


@dataclass(frozen=True, slots=True)
class Timing:
    count: float
    seconds: float
    weight: float


def fitted(points: Sequence[Timing], count: float) -> tuple[float, float]:
    """(fixed seconds, seconds a unit) for about this count: of the lines through one or two points, the one with the
    least sum of |log(expected / took)|, each weighed by how near its count is.
    """
    apart = lambda point: abs(math.log(point.count / count))  # noqa: E731
    near = sorted(points, key=lambda point: (apart(point) / point.weight**0.25, point.count))[:NEAREST]
    weights = [point.weight / (NEAR + apart(point) ** 2) for point in near]
    lines = [line for one in near for line in _lines_through(one)]
    for one, other in combinations(near, 2):
        if one.count == other.count:
            continue
        slope = (other.seconds - one.seconds) / (other.count - one.count)
        fixed = one.seconds - slope * one.count
        if slope >= 0 and fixed >= 0:
            lines.append((fixed, slope))

    def off(line: tuple[float, float]) -> float:
        return sum(w * abs(math.log(at(line, p.count) / p.seconds)) for p, w in zip(near, weights, strict=True))

    return min(lines, key=off)


def at(line: tuple[float, float], count: float) -> float:
    return line[0] + line[1] * count


def _lines_through(point: Timing) -> list[tuple[float, float]]:
    """One point does not say which part of it is fixed: at most half, and not more than a small model takes to load."""
    fixed = min(LOADING, point.seconds / 2)
    return [(fixed, (point.seconds - fixed) / point.count)]


def _points(rows: Sequence[Took], weight: float) -> list[Timing]:
    """Of each count the median, which weighs more the more there are, up to threefold."""
    by_count: dict[float, list[float]] = {}
    for row in rows:
        by_count.setdefault(round(row.count, 1) or row.count, []).append(max(row.seconds, LEAST))
    return [
        Timing(count, median(seconds), weight * min(3.0, 1 + math.log(len(seconds))))
        for count, seconds in by_count.items()
    ]


def _same(rows: Sequence[Took], model: str, dtype: str) -> list[Took]:
    """Those of the same model at the same precision; else of one of the two; else of a model of about its size."""
    same = [row for row in rows if row.model == model or _alike(row.model, model)]
    same = [row for row in same if row.dtype == dtype] or same
    return [row for row in same if row.model == model] or same


def at_speed(shipped: Sequence[Took], earlier: Sequence[Took]) -> list[Took]:
    """A shipped table as if it had been measured here: its seconds times the median of what stages took here over what
    it says of them, at about their counts."""
    ratios = []
    for row in earlier:
        twins = _same(
            [other for other in shipped if other.stage == row.stage and other.count > 0], row.model, row.dtype
        )
        counts = [twin.count for twin in twins]
        if row.seconds >= TELLING and twins and min(counts) / 2 <= row.count <= 2 * max(counts):
            ratios.append(row.seconds / at(fitted(_points(twins, 1.0), row.count), row.count))
    slower = median(ratios) if ratios else 1.0
    return [replace(row, seconds=row.seconds * slower) for row in shipped]


def _kin(stage: str) -> frozenset[str]:
    return next((family for family in KIN if stage in family), frozenset({stage}))


def estimates(
    ledger: Iterable[Artifact],
    store: Path,
    device: str,
    model: Callable[[Artifact, float], float | None] | None = None,
) -> list[Expected]:
    """What each stage of a plan will take; 0 seconds where it is there already.

    model: the seconds of a stage with so much to do, for those that no earlier ones tell of.
    """
    ledger = list(ledger)
    if all(artifact.cached for artifact in ledger):
        return [Expected(0.0) for _ in ledger]
    work = Work()
    own = [took for took in known(store, work) if took.device in ("", device)]
    for artifact in ledger:
        if not artifact.cached:
            work.add(artifact.digest, artifact.stage, artifact.inputs, artifact.path)
    machine, measured = reference()
    if any(artifact.inputs.get("dtype") == "float32" for artifact in ledger):
        machine = f"{machine}, in float32 {FLOAT32:g} times as long"
    if device != "cpu":  # what needs no model takes as long anywhere
        measured = [row for row in measured if not row.model]
    measured = at_speed(measured, own)

    @cache
    def seconds(stage: str, model: str, dtype: str, count: float) -> tuple[float | None, bool]:
        """(seconds, whether the shipped table alone says so)"""
        elsewhere = seconds_of(stage, model, dtype, count, own) is None
        return seconds_of(stage, model, dtype, count, [] if elsewhere else own, measured), elsewhere

    def expected(artifact: Artifact) -> Expected:
        stage, inputs = work.inputs.get(artifact.digest, (artifact.stage, artifact.inputs, artifact.path))[:2]
        count = work.count(stage, inputs)  # of a finished one too: what it asked, later ones find in the call cache
        if artifact.cached:
            return Expected(0.0)
        if count is None:
            return Expected(None)
        took, elsewhere = seconds(stage, model_of(stage, inputs), inputs.get("dtype", ""), count)
        if took is None and model:
            return Expected(model(artifact, count), modelled=True, count=count)
        return Expected(took, machine if elsewhere and took is not None else "", count=count)

    return [expected(artifact) for artifact in ledger]


def _alike(first: str, second: str) -> bool:
    sizes = parameters(first), parameters(second)
    return None not in sizes and max(sizes) <= ALIKE * min(sizes)  # pyrefly: ignore


def parameters(model: str) -> float | None:
    """How large a model is: from its config.json, or from the "8B" in its name; None where neither says it."""
    shape = shape_named(model)
    return None if shape is None else size_named(model) if shape.assumed else float(shape.parameters)
