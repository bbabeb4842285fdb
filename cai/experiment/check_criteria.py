"""What can be found wrong with `criteria:` before the first stage: constitutions, rubrics, who labels by them, rows."""

from collections.abc import Callable, Iterator
from typing import Any

from cai.config.load import Arm
from cai.constitution import Constitution, read_constitution
from cai.core.errors import UserError
from cai.core.templates import load_template
from cai.data.input_file import InputFile
from cai.data.labels import label_file
from cai.data.rubrics import read_rubrics, rubric_file
from cai.experiment.check_data import Rows, check_principles, labelled
from cai.experiment.check_sft import constitution_of


def files_of_labels(arm: Arm) -> list[Callable[[], object]]:
    """Is there every constitution that pairs are labelled by, every file of labels, and every rubric?"""
    return [
        task
        for name, view in arm.by_criterion().items()
        for task in (
            _placed(arm, name, lambda view=view: constitution_of(view)),
            _placed(arm, name, lambda view=view: view.labels.file and label_file(view.labels.file)),
            _placed(arm, name, lambda view=view: criteria_of(view)),
        )
    ]


def label_contents(arm: Arm) -> list[Any]:
    """What decides whether these are in order, besides the settings."""
    views = arm.by_criterion().values()
    files = [label_file(view.labels.file) for view in views if view.labels.file]
    files += [file for view in views if (file := criteria_of(view))]
    files += [load_template("rubric_write") for view in views if view.judge.rubric and view.judge.rubric.write]
    return [[constitution_of(view).text for view in views], files]


def criteria_of(arm: Arm) -> InputFile | None:
    """The file of `judge.rubric`. Raises UserError(s) for what is wrong in it, and for a template to write one by."""
    rubric = arm.judge.rubric
    if rubric and rubric.write:
        load_template("rubric_write")
    if not (rubric and rubric.file):
        return None
    file = rubric_file(rubric.file)
    read_rubrics(file.path)
    return file


def read_by(arm: Arm, section: str) -> Iterator[Constitution]:
    """Under what the judge of a section of the config is asked."""
    if section == "evaluate.judge":
        yield read_constitution(arm.evaluate.constitution)
        yield from (read_constitution(criterion.constitution) for criterion in arm.criteria.values())
    else:
        yield from map(constitution_of, arm.by_criterion().values())


def criteria_checks(arm: Arm, rows: Rows) -> list[Callable[[], object]]:
    """Are the data enough for each criterion's labels, and are rubrics for them?"""
    views = arm.by_criterion().items() if arm.criteria else ()
    rubrics = [
        _placed(arm, name, lambda view=view: check_rubric(view, rows)) for name, view in arm.by_criterion().items()
    ]
    return rubrics + [
        _placed(arm, name, task)
        for name, view in views
        for task in (
            lambda view=view: labelled(view, rows),
            lambda view=view: check_principles(view, rows, constitution_of(view)),
        )
    ]


def check_rubric(arm: Arm, rows: Rows) -> None:
    """Has a file of rubrics a criterion for any training prompt that is judged? Raises UserError."""
    if not (arm.asks_judge and arm.judge.rubric and arm.judge.rubric.file):
        return
    rubrics = read_rubrics(rubric_file(arm.judge.rubric.file).path)
    of_pairs = arm.pairs.source == "data" and not arm.rl.asked
    prompts = [pair.prompt for pair in rows.pairs_of("train")] if of_pairs else rows.of("train")
    if prompts and not any(rubrics.of(prompt) for prompt in prompts):
        subsets = ", ".join(sorted({prompt.subset for prompt in prompts}))
        problem = f"{arm.judge.rubric.file} has no criterion for any of the {len(prompts)} training "
        problem += "pairs" if of_pairs else "prompts"
        remedy = f"name these prompts or subsets in it ({subsets}), or leave both out of a row: it is then for all"
        raise UserError(problem, "judge.rubric.file", remedy)


def writers_of(arm: Arm) -> dict[str, str]:
    """The section that names a model which writes rubrics -> its name."""
    views = {f"criteria.{name}.rubric" if name else "judge.rubric": view for name, view in arm.by_criterion().items()}
    named = {key: view.judge.rubric.write.model for key, view in views.items()
             if view.judge.rubric and view.judge.rubric.write}  # fmt: skip
    return {f"{key}.write": model for key, model in named.items() if model}


def _placed(arm: Arm, name: str, task: Callable[[], object]) -> Callable[[], object]:
    """The task, with its faults at the criterion's own keys."""

    def run() -> None:
        try:
            task()
        except UserError as error:
            key, own = error.where.partition(".")[0], arm.criteria.get(name)
            if own and (key == "constitution" or (key == "labels" and own.labels)):
                raise UserError(error.problem, f"criteria.{name}.{error.where}", error.remedy) from None
            if own and own.rubric and error.where.startswith("judge.rubric"):
                where = f"criteria.{name}.{error.where.removeprefix('judge.')}"
                raise UserError(error.problem, where, error.remedy) from None
            raise

    return run
