"""`label_budget:`: reward models from growing numbers of people's labels, for the judge's to be held against.

What they come to is in cai/compare/sections/budgets.py, and how it is counted in cai/stats/crossing.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from cai.compare.cells import Cell, Measured
from cai.config.comparable import opponents
from cai.config.load import Experiment
from cai.core.store import Artifact
from cai.data.sources import load_data, source_digest
from cai.judge.label import draw_labels, label_by_people
from cai.models.references import model_of, trained
from cai.models.workbench import Workbench
from cai.train.reward import train_reward
from cai.train.scores import score_pairs
from cai.train.trainable import Labelled, Scorer, Trainable

Stage = Callable[..., Artifact]
Drawn = dict[tuple[int, int], Artifact]


def draw_budgets(stage: Stage, experiment: Experiment) -> Drawn:
    """(number of labels, seed) -> so many of people's labels. Done before all else, so that too few show at once."""
    met = opponents(experiment.arms) if experiment.label_budget else None
    if not met:
        return {}
    arm = experiment.arms[met[1]]
    data = stage(load_data, data=arm.data, contents=source_digest(arm.data), seed=arm.seed)
    labels = stage(label_by_people, pairs=data, rule=None, file=None, raters=(), seed=arm.seed)
    return {
        (count, seed): stage(draw_labels, pairs=data, labels=labels, count=count, seed=seed)
        for count in experiment.label_budget
        for seed in experiment.seeds
    }


def train_budgets(stage: Stage, work: Workbench, cells: Sequence[Cell], drawn: Drawn, measured: Measured) -> None:
    """A reward model from each draw of people's labels, trained and scored as the arms' own are."""
    met = opponents({cell.arm: cell.settings for cell in cells})
    people = {cell.seed: cell for cell in cells if met and cell.arm == met[1]}
    for (count, seed), labels in drawn.items():
        cell, name = people[seed], f"{people[seed].arm} {count}/{seed}"
        arm = cell.settings
        start = Trainable(model_of(arm.policy, cell.pretrained), arm.policy, work.dtype(arm))
        labelled = Labelled((cell.pairs,), (labels,))
        reward = stage(train_reward, labelled=labelled, start=start, settings=arm.reward, seed=seed)
        scorer = Scorer(replace(start, ref=trained(reward, name), role="reward"), arm.reward.max_length)
        measured.pair_scores[name] = stage(score_pairs, pairs=cells[0].pairs, scorer=scorer)
        measured.budgets.setdefault(count, {})[name] = reward
