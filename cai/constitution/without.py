"""What does a principle buy? A constitution less one of its principles, and the arms that leave out each in turn.

    arms:
      ai: {labels: ai, without: each}          ai, and an arm more for every principle: ai-without-no-crime, ...
      mine: {labels: ai, without: no crime}    one arm, without that principle

Nothing is copied: the file stays as it is, and the text of the smaller constitution is the file's less the lines of the
principle. The draw of principles for a prompt is a rendezvous hash (drawing.py): where the principle had not been
drawn, the same ones are drawn without it, and where it had, the others stay and the next in line takes its place. So
only questions about what took its place are asked, and the rest comes from the call cache.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from cai.config.load import Arm, Experiment
from cai.config.sections import Preflight
from cai.config.tree import show
from cai.config.validation import raise_all
from cai.constitution.parse import parse, read_constitution
from cai.constitution.records import Constitution
from cai.core.errors import UserError, suggest

EACH = "each"
LONGEST = 32  # characters of a principle's name in that of an arm
KEY = "without"


def less(constitution: Constitution, name: str | None) -> Constitution:
    """The constitution less one principle, or as it is for None. Raises UserError where there is no such principle, or
    no other one."""
    if name is None:
        return constitution
    lines, rows = {p.line: p for p in constitution.principles}, constitution.text.split("\n")
    names = [p.name for p in constitution.principles]
    if name not in names:
        raise UserError(f"no principle of {constitution.path} is called {show(name)}", KEY, suggest(name, names))
    if len(names) == 1:
        raise UserError(f"{show(name)} is the only principle of {constitution.path}", KEY, "leave it in")
    first = next(line for line, principle in lines.items() if principle.name == name)
    end = first + 1
    while end <= len(rows) and end not in lines and _belongs(rows[end - 1], constitution.form):
        end += 1
    smaller = parse("\n".join(rows[: first - 1] + rows[end - 1 :]), constitution.path)
    kept = [replace(p, line=0) for p in constitution.principles if p.name != name]
    assert [replace(p, line=0) for p in smaller.principles] == kept, f"cutting {name!r} moved another principle"
    return smaller


def _belongs(row: str, form: str) -> bool:
    """Whether a line behind a principle's first is a part of it: all of a section, or the rest of a wrapped line."""
    return form == "full" or bool(row[:1].isspace() and row.strip())


def expanded(
    experiment: Experiment,
    read: Callable[[str, Arm], Constitution] = lambda name, arm: read_constitution(arm.constitution),
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
