"""`--plan`: each stage as cached or to run, with an estimate of its time, before the first minute is spent.

What is known of a stage's time is what earlier ones took (cai/experiment/timings.py); of others it says "unknown".
"""

from collections.abc import Sequence

from cai.config.load import Experiment
from cai.core.progress import clock, total
from cai.core.store import Artifact
from cai.experiment.timings import Expected


def print_plan(experiment: Experiment, ledger: Sequence[Artifact], expected: Sequence[Expected], device: str) -> None:
    """The table of stages and the sum of what is to run."""
    print(f"{experiment.name}: arms {', '.join(experiment.arms)}; seeds {', '.join(map(str, experiment.seeds))}")
    for name, arm in experiment.arms.items():
        print(f"  arm {name}: labels by {arm.labels}" + (f"; {arm.rounds} rounds" if arm.rounds > 1 else ""))
    if experiment.label_budget:
        print(f"  reward models from {', '.join(map(str, experiment.label_budget))} human labels as well")
    for artifact, each in zip(ledger, expected, strict=True):
        if artifact.cached:
            print(f"  cached   {artifact.stage:<16} {artifact.key}   took {clock(artifact.seconds)}")
        else:
            about = "unknown" if each.seconds is None else f"about {clock(each.seconds)}{' *' * bool(each.machine)}"
            print(f"  to run   {artifact.stage:<16} {artifact.key}   {about}")
    print_sum(ledger, expected, device)


def print_grid(
    grid: Sequence[Experiment],
    starts: Sequence[int],
    ledger: Sequence[Artifact],
    expected: Sequence[Expected],
    device: str,
) -> None:
    """What each point of a sweep adds to the points before it. starts: where each one's stages begin in the ledger."""
    for experiment, start, end in zip(grid, starts, [*starts[1:], len(ledger)], strict=True):
        new = sum(not artifact.cached for artifact in ledger[start:end])
        about = total([each.seconds for each in expected[start:end]])
        print(f"  {experiment.name}: {new} stages to run beside those of the points above, {about}")
    print_sum(ledger, expected, device)


def print_sum(ledger: Sequence[Artifact], expected: Sequence[Expected], device: str) -> None:
    running = sum(not artifact.cached for artifact in ledger)
    about = total([each.seconds for each in expected])
    print(f"{running} of {len(ledger)} stages to run on {device}, {about} in all")
    elsewhere = {each.machine for each in expected if each.machine}
    for machine in sorted(elsewhere):
        print(f"* as measured on {machine}; the next plan goes by what stages took here")
    if any(each.seconds is None for each in expected):
        print("unknown: no such stage has run here with a model of this size, or its data are not counted yet")
    if running:
        print("what follows a stage that runs is counted as to run; where that stage comes out the same, it is skipped")
