"""The policies that RL passed through (`rl.snapshots`), as Bai et al. (2022) follow theirs in figures 2, 3 and 8.

There crowd workers' Elo is shown over training sequences; here it is the evaluation judge's, over rollouts. All games
of the run are rated in one go, those of the snapshots among them: a policy's rating is one number wherever it stands.
Snapshots are in no comparison of arms, and in no family of tests.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cai.compare.cells import Cell, Measured
from cai.compare.measures import by_judge
from cai.compare.schema import Rated
from cai.compare.section import ReportSection
from cai.core.records import Estimate
from cai.core.store import Artifact
from cai.stats import intervals as statistics
from cai.stats.intervals import EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOnTheWay:
    """rollout: how many had been made, those of earlier rounds included. elo: as `ratings` rates it.

    kl: nats an answer to the policy that its round began with, by its own answers in training, which are those of the
    next rollout: None for one that answered none there, such as the last.
    """

    policy: str
    arm: str
    seed: int
    rollout: int
    elo: Estimate
    harmlessness: Estimate | None
    helpfulness: Estimate | None
    kl: float | None


def snapshots(cells: Sequence[Cell], measured: Measured, rated: Sequence[Rated]) -> list[PolicyOnTheWay]:
    """A row a policy on each cell's way from the SFT policy to the one that is reported, both included; none without
    snapshots. In the order of training: with `rl.gold.keep: best` the reported one may come before a
    snapshot. rated: what `ratings` says."""
    elo = {row.policy: row.elo for row in rated}
    rows = []
    for cell in cells:
        if not cell.path:
            continue
        places: list[tuple[str, int, float | None]] = [("sft", 0, None)]
        steps = cell.settings.rl.steps
        for name, (its, kept) in cell.path.items():
            assert its.policy
            rollout = left_at(its.policy, steps) if kept is None else kept
            places.append((name, cell.lineage.index(its) * steps + rollout, kl_after(its.policy, rollout)))
        rows += [
            PolicyOnTheWay(
                policy=name,
                arm=cell.arm,
                seed=cell.seed,
                rollout=rollout,
                elo=elo.get(name, EMPTY),
                harmlessness=_rating(measured, name, "red-team"),
                helpfulness=_rating(measured, name, "helpful"),
                kl=kl,
            )
            for name, rollout, kl in sorted(places, key=lambda place: place[1])
        ]
    return rows


def left_at(policy: Artifact, steps: int) -> int:
    """After which rollout a training left its policy: the last one, or the one that `rl.gold` liked best."""
    file = policy / "gold.json"
    return json.loads(file.read_text())["kept"] if file.is_file() else steps


def kl_after(policy: Artifact, rollout: int) -> float | None:
    """Mean KL of the policy after a rollout, as the training's curves have it."""
    table = json.loads((policy / "curves.json").read_text())
    return dict(zip(table["step"], table["kl"], strict=True)).get(rollout + 1) if "kl" in table else None


def _rating(measured: Measured, name: str, kind: str) -> Estimate | None:
    if (name, kind) not in measured.merits:
        return None
    rows = by_judge(measured, kind)(name)
    return statistics.mean(list(rows.values()), list(rows))


SECTION = ReportSection(
    "snapshots", "Policies along RL training", list[PolicyOnTheWay],
    lambda run: snapshots(run.cells, run.measured, run.ratings), empty=(),
)  # fmt: skip
