"""What can be found wrong with `criteria:` before the first stage: constitutions, who labels by them, rows."""

from collections.abc import Callable, Iterator
from typing import Any

from cai.config.load import Arm
from cai.constitution import Constitution, read_constitution
from cai.core.errors import UserError
from cai.data.labels import label_file
from cai.experiment.check_data import Rows, check_principles, labelled
from cai.experiment.check_sft import constitution_of


def files_of_labels(arm: Arm) -> list[Callable[[], object]]:
    """Is there every constitution that pairs are labelled by, and every file of labels?"""
    return [
        task
        for name, view in arm.by_criterion().items()
        for task in (
            _placed(arm, name, lambda view=view: constitution_of(view)),
            _placed(arm, name, lambda view=view: view.labels.file and label_file(view.labels.file)),
        )
    ]


def label_contents(arm: Arm) -> list[Any]:
    """What decides whether these are in order, besides the settings."""
    views = arm.by_criterion().values()
    files = [label_file(view.labels.file) for view in views if view.labels.file]
    return [[constitution_of(view).text for view in views], files]


def read_by(arm: Arm, section: str) -> Iterator[Constitution]:
    """Under what the judge of a section of the config is asked."""
    if section == "evaluate.judge":
        yield read_constitution(arm.evaluate.constitution)
        yield from (read_constitution(criterion.constitution) for criterion in arm.criteria.values())
    else:
        yield from map(constitution_of, arm.by_criterion().values())


def criteria_checks(arm: Arm, rows: Rows) -> list[Callable[[], object]]:
    """Are the data enough for each criterion's labels?"""
    views = arm.by_criterion().items() if arm.criteria else ()
    return [
        _placed(arm, name, task)
        for name, view in views
        for task in (
            lambda view=view: labelled(view, rows),
            lambda view=view: check_principles(view, rows, constitution_of(view)),
        )
    ]


def _placed(arm: Arm, name: str, task: Callable[[], object]) -> Callable[[], object]:
    """The task, with its faults at the criterion's own keys."""

    def run() -> None:
        try:
            task()
        except UserError as error:
            key, own = error.where.partition(".")[0], arm.criteria.get(name)
            if own and (key == "constitution" or (key == "labels" and own.labels)):
                raise UserError(error.problem, f"criteria.{name}.{error.where}", error.remedy) from None
            raise

    return run
