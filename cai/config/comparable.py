"""Can the arms of an experiment be compared? What all of them must share, and what the first two must have.

arms: by name, each an `Arm` of cai/config/load.py, which imports this."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from cai.config.tree import Tree
from cai.core.errors import UserError

# Settings that decide which prompts are held out, or what is measured on them: all arms answer the first one's held-out
# prompts, so where these differ an arm may be asked what it was trained on. `data.train_pairs` moves no prompt.
SAME = {
    "seed": "it draws which prompts are held out, so another arm may have trained on these prompts",
    "data": "its held-out prompts are asked of every arm, and another arm may have trained on them",
    "helpful": "its held-out prompts are asked of every arm, and another arm may have trained on them",
    "evaluate": "all arms are measured alike, by the first arm's",
}


def uneven_faults(tree: Tree, arms: Mapping[str, Any]) -> list[UserError]:
    """What makes arms incomparable: a difference in a key of SAME, once for each arm and key."""

    def of(arm: Any, key: str) -> Any:
        return arm.data.model_copy(update={"train_pairs": None}) if key == "data" else getattr(arm, key)

    if not arms:
        return []
    faults = []
    (first, base), *others = arms.items()
    for (name, arm), (key, why) in product(others, SAME.items()):
        ours, theirs = of(base, key), of(arm, key)
        if ours == theirs or (key == "helpful" and None in (ours, theirs)):  # an arm may do without everyday prompts
            continue
        at = next(
            (path for path in (("arms", name, key), ("arms", first, key)) if tree.get(path) is not None), ("arms",)
        )
        problem = f"arms {first} and {name} differ in `{key}`: {why}"
        remedy = f"set `{key}` once, beside `arms`"
        if key == "data":
            remedy += " (data.train_pairs alone may differ)"
        faults.append(UserError(problem, tree.where(at), remedy))
    return faults


def policy_faults(tree: Tree, arms: Mapping[str, Any]) -> list[UserError]:
    """The first two arms are compared: where any arm has a policy, these have."""
    without = [name for name, arm in arms.items() if arm.rl.method == "none"]
    if len(without) == len(arms):
        return []
    problem = "has no policy (rl.method: none), and the first two arms are those whose policies are compared"
    return [
        UserError(f"arm {name} {problem}", tree.where(("arms", name)), "name it after two that have one")
        for name in list(arms)[:2]
        if name in without
    ]


def opponents(arms: Mapping[str, Any]) -> tuple[str, str] | None:
    """(the arm that the judge labels, the arm that people label), the first of each; None where one is missing."""
    plain = {name: arm for name, arm in arms.items() if not (arm.criteria or arm.reward.generates)}  # one scalar
    judge = next((name for name, arm in plain.items() if arm.labels.all == ("ai",) and arm.rl.reads_rewards), None)
    people = next((name for name, arm in plain.items() if arm.labels.comes_with_pairs), None)
    return (judge, people) if judge is not None and people is not None else None


def budget_faults(tree: Tree, budget: tuple[int, ...], arms: Mapping[str, Any]) -> list[UserError]:
    """Of `label_budget`."""
    where = tree.where(("label_budget",))
    if len(budget) < 2 or list(budget) != sorted(set(budget)):
        return [UserError("label_budget must be two or more growing numbers", where, "write [25, 50, 100]")]
    if not opponents(arms):
        problem = "label_budget holds people's labels against the judge's: it needs an arm of each, with reward models"
        return [UserError(problem, where, "add arms: {ai: {labels: ai}, human: {labels: human}}")]
    return []
