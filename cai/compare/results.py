"""Everything that a run says at its end: results.json, examples, report.html and the table on the terminal."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cai.compare import contents
from cai.compare.carried import ONE_RUN, ComparedRuns
from cai.compare.cells import ROUND, Cell, Iteration, Measured
from cai.compare.lines import measures, replicas
from cai.compare.measures import HeldOutPairs
from cai.compare.report import write_report
from cai.compare.schema import Results, StageMade, as_json
from cai.compare.section import Finished
from cai.compare.sections.examples import examples
from cai.compare.sections.harmfulness import warnings_of_harmfulness
from cai.compare.sections.headline import headline
from cai.compare.sections.notes import differences, fallen_out, warnings
from cai.compare.sections.provenance import Began, provenance
from cai.compare.table import print_table
from cai.config.load import Experiment
from cai.core.durable import make_folders, write_whole
from cai.core.store import Artifact
from cai.models.workbench import Workbench

# Stages of a cell that links.json leads to, beside those of its earlier rounds.
LINKED = (
    "data",
    "helpful",
    "revised",
    "sft",
    "pairs",
    "preflight",
    "labels",
    "reward",
    "policy",
    "acceptance",
    "attacks",
    "pretrained",
    "taught",
)


def finish(
    experiment: Experiment,
    cells: Sequence[Cell],
    measured: Measured,
    ledger: Sequence[Artifact],
    work: Workbench,
    began: Began,
    compared: ComparedRuns = ONE_RUN,
) -> dict[str, Any]:
    """Write runs/<name>/. Returns what results.json holds. compared: the finished runs that this is a comparison of."""
    home = Path(experiment.runtime.root) / experiment.name
    make_folders(home)
    run = Finished(experiment, cells, measured, HeldOutPairs(cells, measured))
    rows, counted = examples(cells, measured, run.held_out)
    results = as_json(build(run, ledger, work, began, compared, counted))
    write_whole(home / "config.yaml", experiment.text)
    for arm, cell in {cell.arm: cell for cell in cells}.items():
        write_whole(home / f"constitution-{arm}.txt", cell.constitution.text)
    links = {
        cell.name: {stage: str(getattr(cell, stage).path) for stage in LINKED if getattr(cell, stage)}
        | {"said": {who: str(said.path) for who, said in cell.labellers.items()}}
        | {
            f"round {number}": {stage: str(getattr(one, stage).path) for stage in ROUND if getattr(one, stage)}
            | apart_of(one)
            for number, one in enumerate(cell.lineage[:-1], 1)
        }
        | (apart_of(cell.lineage[-1]) if cell.lineage else {})
        | besides_of(cell)
        | ({"publics": {group: str(said.path) for group, said in measured.publics.items()}} if measured.publics else {})
        | ({"moderated": {name: str(its.path) for name, its in cell.moderated.items()}} if cell.moderated else {})
        | ({"scores": str(measured.pair_scores[cell.name].path)} if cell.name in measured.pair_scores else {})
        for cell in cells
    }
    write_whole(home / "links.json", json.dumps(links, indent=1))
    write_whole(home / "results.json", json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False))
    write_report(results, rows, home / "report.html")
    return results


def apart_of(iteration: Iteration) -> dict[str, Any]:
    """Links to what a round left for each of `criteria:`; nothing without them."""
    links = {
        name: {stage: str(artifact.path) for stage, artifact in made.artifacts.items()}
        | {"share": made.share, "said": {who: str(each.path) for who, each in made.labellers.items()}}
        for name, made in iteration.criteria.items()
    }
    return {"criteria": links} if links else {}


def besides_of(cell: Cell) -> dict[str, Any]:
    """Links to what each judge of a panel left, and to what SFT learnt besides revisions."""
    panel = [
        {"key": made.key, "name": made.name, "labels": str(made.labels.path)}
        | ({"preflight": str(made.preflight.path)} if made.preflight else {})
        for made in cell.panel
    ]
    everyday = {"prompts": cell.everyday.prompts, "answers": cell.everyday.answers}
    links: dict[str, Any] = {"everyday": {name: str(made.path) for name, made in everyday.items() if made}}
    return links | ({"panel": panel} if panel else {})


def tell(results: dict[str, Any], home: Path) -> None:
    """Print the table of a run, and where the rest is."""
    print_table(results)
    print(f"\nreport: {home / 'report.html'}\nnumbers: {home / 'results.json'}")


def build(
    run: Finished,
    ledger: Sequence[Artifact],
    work: Workbench,
    began: Began,
    compared: ComparedRuns,
    examples: dict[str, int],
) -> Results:
    cells, measured, experiment = run.cells, run.measured, run.experiment
    won, lines = headline(cells, measured), measures(cells, measured, run.held_out)
    sections = sections_of(run)
    on_the_way = {name for cell in cells for name in cell.snapshots}
    return Results(
        name=experiment.name,
        question=experiment.question,
        arms=tuple(experiment.arms),
        seeds=tuple(experiment.seeds),
        differences=differences(experiment),
        warnings=[
            *compared.differs,
            *compared.not_carried_over(sections),
            *warnings(experiment, cells, run.held_out, work.dtype(cells[0].settings)),
            *warnings_of_harmfulness(measured),
            *fallen_out(won, lines),
        ],
        headline=won,
        elo=[one for one in run.ratings if one.policy not in on_the_way],
        measures=lines,
        replicas=replicas(cells, measured),
        point=experiment.point,
        stages=[
            StageMade(
                stage=a.stage,
                key=a.key[:8],
                digest=a.digest[:12],
                seconds=a.seconds,
                cached=a.cached,
                calls=dict(a.calls),
                used=dict(a.used),
            )
            for a in ledger
        ],
        provenance=provenance(experiment, cells, work, began, ledger),
        examples=examples,
        sections=sections,
    )


def sections_of(run: Finished) -> dict[str, Any]:
    """Key of each section of the report -> what it says of the run."""
    return {section.key: section.build(run) for section in contents.SECTIONS}
