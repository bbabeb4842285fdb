"""`python -m cai.bench pipeline RUN`: where the time of a finished run goes, by kind of stage. `--by-hand` in place of
a run: what the pipeline costs beside one plain script (cai/bench/overhead.py).

What its stages took stands in results.json as the store's manifests have it: seconds by the clock, CPU seconds of all
threads, and the peak of memory (cai/core/usage.py; unknown for stages that were made before it was counted). Stages
that the run took from the store are among them, with what they took when they were made, and are not in its own time.

    by the clock    from the beginning of the run to its end
    in stages       the sum of the stages that it made itself; side by side, several are made in one second
    between         the clock's time less that sum, of a run that made one stage after another: its overhead
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cai.bench import overhead
from cai.bench.common import positive
from cai.bench.overhead import OverheadSize
from cai.compare.schema import Results, StageMade, read_results
from cai.core.errors import UserError

WALL = "wall time, s"  # in the provenance of a run
MB = 1e6


@dataclass(frozen=True, slots=True)
class StageKind:
    """All stages of one name. made: in this run; the others it found. seconds, cpu: of all together; share: of the
    seconds of all kinds; longest: of one. cpu, memory, card: None where a stage of the kind was not counted."""

    stage: str
    count: int
    made: int
    seconds: float
    share: float
    longest: float
    cpu: float | None
    memory: float | None
    card: float | None


@dataclass(frozen=True, slots=True)
class TimeSpent:
    """A run. wall: seconds by the clock; in_stages: of the stages that it made; between: None where they were made side
    by side. cpu: of all its stages, None where some were not counted."""

    name: str
    wall: float
    in_stages: float
    between: float | None
    cpu: float | None
    kinds: list[StageKind]


def spent(results: Results) -> TimeSpent:
    groups: dict[str, list[StageMade]] = defaultdict(list)
    for made in results.stages:
        groups[made.stage].append(made)
    whole = sum(made.seconds or 0.0 for made in results.stages) or 1.0
    kinds = [_kind(stage, stages, whole) for stage, stages in groups.items()]
    wall = float(results.provenance[WALL])
    in_stages = sum(made.seconds or 0.0 for made in results.stages if not made.cached)
    return TimeSpent(
        name=results.name,
        wall=wall,
        in_stages=in_stages,
        between=wall - in_stages if in_stages <= wall else None,
        cpu=_sum(kind.cpu for kind in kinds),
        kinds=sorted(kinds, key=lambda kind: -kind.seconds),
    )


def _kind(stage: str, stages: Sequence[StageMade], whole: float) -> StageKind:
    seconds = [made.seconds or 0.0 for made in stages]
    return StageKind(
        stage=stage,
        count=len(stages),
        made=sum(not made.cached for made in stages),
        seconds=sum(seconds),
        share=sum(seconds) / whole,
        longest=max(seconds),
        cpu=_sum(made.used.get("cpu") for made in stages),
        memory=_most(made.used.get("memory") for made in stages),
        card=_most(made.used.get("card") for made in stages),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", nargs="?", type=Path, help="a finished run: runs/quickstart, say")
    parser.add_argument("--by-hand", action="store_true", help="a small experiment, beside one script of TRL's calls")
    parser.add_argument(
        "--model", default="smollm2-135m", help="of --by-hand: a Llama, by an embedded name or a folder"
    )
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--data", default="rated-answers", help="of --by-hand: where pairs come from")
    for part in fields(OverheadSize):
        about = f"of --by-hand (default: {part.default})"
        parser.add_argument(f"--{part.name}", type=positive, default=part.default, help=about)
    parser.add_argument("--rounds", type=positive, default=3, help="of --by-hand (default: 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> None:
    """The benchmark `pipeline`. Raises UserError where the folder is no finished run."""
    if args.by_hand:
        size = OverheadSize(**{part.name: getattr(args, part.name) for part in fields(OverheadSize)})
        beside = overhead.measure(args.model, args.dtype, size, args.rounds, args.data)
        print(json.dumps(asdict(beside), indent=1) if args.json else "\n".join(overhead.page(beside)))
        return
    if args.run_folder is None:
        raise UserError("there is no run to look at", "RUN", "name a finished run's folder, or give --by-hand")
    file = args.run_folder / "results.json"
    if not file.is_file():
        raise UserError("this folder is no finished run: it holds no results.json", str(args.run_folder),
                        "run its experiment to the end, and name a folder like runs/quickstart")  # fmt: skip
    found = spent(read_results(file))
    print(json.dumps(asdict(found), indent=1) if args.json else "\n".join(page(found)))


def page(found: TimeSpent) -> list[str]:
    head = f"{found.name}: {found.wall:.0f} s by the clock, {found.in_stages:.0f} s in stages that it made"
    if found.between is not None:
        head += f", {found.between:.0f} s between them ({found.between / max(found.wall, 1e-9):.1%})"
    else:
        head += f", {found.in_stages / found.wall:.2f} side by side"
    if found.cpu is not None:
        head += f"; {found.cpu:.0f} CPU seconds in all of them"
    lines = [head, "", f"{'stage':22}{'stages':>7}{'seconds':>9}{'share':>8}{'longest':>9}{'CPU s':>8}{'cores':>7}"
             f"{'peak MB':>9}"]  # fmt: skip
    for kind in found.kinds:
        cpu = "" if kind.cpu is None else f"{kind.cpu:.1f}"
        cores = "" if kind.cpu is None or kind.seconds < 0.05 else f"{kind.cpu / kind.seconds:.2f}"
        peak = "" if kind.memory is None else f"{kind.memory / MB:.0f}"
        kept = "" if kind.made == kind.count else f"  {kind.count - kind.made} found"
        lines.append(
            f"{kind.stage.replace('_', ' '):22}{kind.count:>7}{kind.seconds:>9.1f}{kind.share:>8.1%}"
            f"{kind.longest:>9.1f}{cpu:>8}{cores:>7}{peak:>9}{kept}".rstrip()
        )
    return lines
