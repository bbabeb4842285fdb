"""`without: each`: an arm as it is, and one more without each of its principles (without.py).

    arms:
      ai: {labels: ai, without: each}          ai, and behind all others ai-without-no-harm, ...

Apart from its `__init__`, for it reads experiments: nothing else of the room needs to know what they are.
"""

import re
from collections.abc import Callable, Sequence

from cai.config.load import Arm, Experiment
from cai.config.sections import Preflight
from cai.config.validation import raise_all
from cai.constitution.parse import read_constitution
from cai.constitution.records import Constitution
from cai.constitution.without import KEY
from cai.core.errors import UserError

EACH = "each"
LONGEST = 32  # characters of a principle's name in that of an arm


def expanded(
    experiment: Experiment,
    read: Callable[[str, Arm], Constitution] = lambda name, arm: read_constitution(arm.constitution.file),
) -> Experiment:
    """Every arm `without: each` becomes the arm itself and, behind all others, one without each of its principles.

    read: the constitution of an arm by name. Raises UserErrors for arms that cannot be made, or names that are taken.
    """
    arms, more, faults = {}, {}, []
    trees = dict(experiment.trees)
    for name, arm in experiment.arms.items():
        arms[name] = arm.model_copy(update={KEY: None}) if arm.without == EACH else arm
        if arm.without != EACH:
            continue
        where = experiment.where(name, KEY)
        if arm.judge.method == "auto" and "ai" in arm.labels.all:
            problem = "judge.method: auto would pick another method with a principle than without it"
            faults.append(UserError(problem, where, "name the method, or leave `without` out"))
        names = [principle.name for principle in read(name, arm).principles]
        if len(names) < 2 or EACH in names:
            why = f'one is called "{EACH}"' if EACH in names else "there is one principle, and none would be left"
            faults.append(UserError(f"without: each: {why}", where, "change the constitution, or leave `without` out"))
        for of, short in zip(names, slugs(names), strict=True):
            if (arm_name := f"{name}-without-{short}") in experiment.arms or arm_name in more:
                faults.append(UserError(f'an arm is called "{arm_name}" already', where, "give it another name"))
            more[arm_name] = _unchecked(arm).model_copy(update={KEY: of})
            trees[arm_name] = experiment.trees.get(name)
    raise_all(faults)
    return experiment.model_copy(update={"arms": arms | more, "trees": trees}) if more else experiment


def slugs(names: Sequence[str]) -> list[str]:
    """Each principle's name as a part of an arm's: ASCII letters and digits, cut, and its number where two would be
    alike or nothing is left."""
    short = [re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST].strip("-") for name in names]
    return [
        part if part and short.count(part) == 1 else f"{part}-{number}".strip("-")
        for number, part in enumerate(short, 1)
    ]


def _unchecked(arm: Arm) -> Arm:
    """The arm with a judge that passes any preflight: without a principle it labels whatever it is worth, for that is
    the question. The preflight stays where it fits slope and bias."""
    given = arm.judge.preflight or Preflight()
    lenient = given.model_copy(update={"mass": 0.0, "consistency": 0.0, "accuracy": 0.0, "reads": None})
    judge = arm.judge.model_copy(update={"preflight": lenient if arm.judge.calibrate else None})
    return arm.model_copy(update={"judge": judge})


def same_but_for_principle(arm: Arm, other: Arm) -> bool:
    """Whether an arm is another one less a principle, and nothing else."""
    first, second = (_unchecked(one).model_copy(update={KEY: None}) for one in (arm, other))
    return arm.without is not None and other.without is None and first == second
