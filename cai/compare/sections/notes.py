"""What a reader must know before the first number: how the arms differ, and what the numbers cannot carry."""

from collections.abc import Sequence
from typing import Any

from cai.compare import table
from cai.compare.cells import Cell
from cai.compare.measures import HeldOutPairs
from cai.compare.schema import Headline, MeasureLine
from cai.compare.sections.judges import gamed
from cai.compare.sections.watched import unlearnt
from cai.compare.sections.watched import warnings as watched
from cai.config.flat import flat, part_of, unlike
from cai.config.load import Arm, Experiment
from cai.config.sections import Judge, Policy, Revise
from cai.config.serve import OwnServer


def differences(experiment: Experiment) -> list[dict[str, Any]]:
    """Each further arm's settings that are not the first arm's: {"arm", "from", "keys": [{"key", "from", "to"}]}.

    Keys are dotted, as `--set` takes them, and the labels are spelled as in the config. A section that one of the two
    does without stands for all that the other has in it.
    """
    (first, base), *others = experiment.arms.items()
    start = _spelt(base)
    found = []
    for name, arm in others:
        mine = _spelt(arm)
        changed = [{"key": k, "from": _shown(start, k), "to": _shown(mine, k)} for k in unlike(start, mine)]
        found.append({"arm": name, "from": first, "keys": changed})
    return found


def _shown(settings: dict[str, str], key: str) -> str:
    return settings.get(key) or part_of(settings, key)


def _spelt(arm: Arm) -> dict[str, str]:
    rest = {key: _as_yaml(value) for key, value in flat(arm).items() if not key.startswith("labels.")}
    return {"labels": str(arm.labels), **rest}


def _as_yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def fallen_out(headline: Headline | None, measures: Sequence[MeasureLine]) -> list[str]:
    """One line for each way in which rows fell out of paired comparisons: what is left may be the easier part."""
    found: dict[str, list[str]] = {}
    for title, difference in [("games", headline), *((line.title, line.difference) for line in measures)]:
        if difference and (said := table.fallen_out(difference.left_out)):
            found.setdefault(said, []).append(title)
    return [f"Not compared on all that was asked ({', '.join(titles)}): {said}." for said, titles in found.items()]


def served(experiment: Experiment) -> list[str]:
    """One line for each model that a server answered for: nobody can hash what stood behind it."""
    arms = experiment.arms.values()
    asked: list[tuple[str, Judge | Policy | Revise]] = []
    asked += [each for arm in arms if arm.asks_judge for each in arm.judge.asked.items()]
    asked += [("evaluate.judge", arm.evaluate.judge) for arm in arms]
    asked += [("policy", arm.policy) for arm in arms] + [("revise", arm.revise) for arm in arms]
    found: dict[str, None] = {}
    for section, each in asked:
        if isinstance(each.server, OwnServer):  # of weights that are here, and hashed
            continue
        if each.server and not each.server.same:
            name, revision = each.server.name or each.model, each.server.revision
            version = f"revision {revision}, as the config has it" if revision else "no revision was given"
            found[
                f"{section}: {name} was asked at a server ({version}). Its weights cannot be checked, so what it said "
                "is not reproducible by weights: it is kept in runs/calls."
            ] = None
    return list(found)


def in_more_than_one_thing(experiment: Experiment) -> list[str]:
    """One line for each arm that differs from the first in more than its labels; of arms that end with their SFT
    policy, in more than what SFT learns and by whose revising."""
    (first, base), *others = experiment.arms.items()
    notes = []
    for name, other in others:
        sft = base.rl.ends_with_sft and other.rl.ends_with_sft
        one_thing = ("labels", "simulated", *(("sft", "revise") if sft else ()))
        if other.rl.method == "none":
            one_thing = (*one_thing, "rl")  # it ends with its reward model, and is compared by that alone
        changed = sorted(k for k in Arm.model_fields if getattr(other, k) != getattr(base, k) and k not in one_thing)
        if sft and base.sft.model_copy(update={"learns": other.sft.learns}) != other.sft:
            changed.append("sft")
        if changed:
            notes.append(
                f"Arm {name} differs from {first} in more than {'what SFT learns' if sft else 'labels'}: "
                f"{', '.join(changed)}."
            )
    return notes


def warnings(experiment: Experiment, cells: Sequence[Cell], held_out: HeldOutPairs, dtype: str) -> list[str]:
    """What a careful reader must know before the first number."""
    notes = []
    arm = cells[0].settings
    labelled = [view for cell in cells for view in cell.views if "ai" in view.labellers]
    asked = [judge for view in labelled for judge in view.settings.judge.asked.values()]
    if any(judge.model == arm.evaluate.judge.model for judge in asked):
        notes.append(
            f"The games are judged by {arm.evaluate.judge.model}, the model that also labelled the AI arm: it may "
            "favour that arm. Set evaluate.judge.model to another model for a claim."
        )
    notes += served(experiment)
    if dtype == "bfloat16":
        notes.append(
            "Models ran in bfloat16: the same question to the judge can move by up to 0.25 in log-odds with the batch "
            "it is asked in. `dtype: float32` is exact, and slower."
        )
    if len(experiment.seeds) < 2:
        notes.append("One seed: there is no noise floor, so no difference can be told from chance in training.")
    elif len(experiment.seeds) < 3:
        covered = "SFT, not what it learns" if arm.rl.ends_with_sft else "reward model and RL, not revisions and SFT"
        notes.append(f"The noise floor rests on two seeds. They cover {covered}.")
    notes += in_more_than_one_thing(experiment)
    if held_out.human:
        shorter = held_out.line("", "baseline", held_out.baselines()["shorter answer"], "test").accuracy
        if shorter.value > 0.6:
            notes.append(
                f"On these pairs people prefer the shorter answer {100 * shorter.value:.0f}% "
                f"[{100 * shorter.low:.0f}, {100 * shorter.high:.0f}] of the time (refusals are short), so agreement "
                "is also shown with length balanced out."
            )
    return notes + gamed(cells) + unlearnt(cells) + watched(cells)
