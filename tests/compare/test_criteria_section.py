"""Criteria in the report: who paid, how labels go together, gains on the scale that RL is paid on; all by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cai.compare.cells import Cell, CriterionMade, Iteration, Measured
from cai.compare.measures import HeldOutPairs
from cai.compare.sections.criteria import SECTION, criteria, draw
from cai.config.criteria import Criterion
from cai.config.load import Arm
from cai.config.sections import Data
from cai.core.records import Label, Message, Pair, Prompt, plain, write_jsonl
from cai.core.store import Artifact
from cai.judge.rate import TextRating
from cai.train.scores import Score

PROMPTS = [Prompt(f"q{n}", (Message("user", f"Question {n}?"),), "all", "test") for n in range(4)]


def made(folder: Path, name: str, **files: Any) -> Artifact:
    """A stage's folder: lists become JSON lines, the rest JSON."""
    place = folder / name
    place.mkdir(parents=True)
    for file, content in files.items():
        if isinstance(content, list):
            write_jsonl(place / f"{file}.jsonl", content)
        else:
            (place / f"{file}.json").write_text(json.dumps(content))
    return Artifact("made", name, place, name)


def criterion(folder: Path, name: str, labels: list[float], spread: float, share: float) -> CriterionMade:
    return CriterionMade(
        labels=made(folder, f"labels {name}", labels=[Label(f"p{n}", p, "ai", ()) for n, p in enumerate(labels)]),
        labellers={}, preflight=None, reward=made(folder, f"reward {name}"), share=share,
        scale=made(folder, f"scale {name}", scale={"mean": 10.0, "spread": spread, "outputs": []}),
    )  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Two criteria, kind and brief, of weights 1 and 3; and what one arm's policy gained."""
    data = made(tmp_path, "data", prompts=PROMPTS)
    pairs = made(
        tmp_path, "pairs", pairs=[Pair(f"p{n}", prompt, "A.", "B.", human=1.0) for n, prompt in enumerate(PROMPTS)]
    )
    apart = {
        "kind": criterion(tmp_path, "kind", [0.9, 0.8, 0.7, 0.6], 2.0, 0.25),
        "brief": criterion(tmp_path, "brief", [0.1, 0.2, 0.3, 0.6], 0.5, 0.75),
    }
    curves = {"step": [1, 2, 3, 4], "criterion kind": [0.0, 0.4, 0.8, 1.0], "criterion brief": [0.2, 0.1, 0.0, -0.2]}
    policy = made(tmp_path, "policy", curves=curves)
    settings = Arm(
        constitution="c.txt", data=Data(source="d"),
        criteria={"kind": Criterion(constitution="kind.txt"), "brief": Criterion(constitution="brief.txt", weight=3)},
    )  # fmt: skip
    nothing: Any = None
    cell = Cell(
        arm="both", seed=0, settings=settings, constitution=nothing, data=data, helpful=None, revised=data, sft=data,
        pairs=pairs, preflight=None, labels=None, reward=None, policy=policy, labellers={},
        lineage=(Iteration(pairs, None, None, policy, apart),),
    )  # fmt: skip
    measured = Measured(None)
    for name, gain in (("kind", 1.0), ("brief", -0.5)):
        model = cell.reward_of(name)
        rows = [Score(f"p{n}", side, 1.0 if side == "a" else 0.0) for n in range(4) for side in "ab"]
        measured.pair_scores[model] = made(tmp_path, f"pairs by {name}", scores=rows)
        for policy_name, more in (("start", 0.0), ("sft", 0.0), ("both/0", gain)):
            answers = [Score(prompt.id, "", n + more) for n, prompt in enumerate(PROMPTS)]
            measured.scores[model, policy_name] = made(tmp_path, f"{policy_name} by {name}", scores=answers)
            merits = [TextRating(prompt.id, 0, more) for prompt in PROMPTS]
            measured.criteria[name, policy_name, "red-team"] = made(tmp_path, f"{policy_name} {name}", merits=merits)
    return [cell], measured


def test_all_of_it_by_hand(run):
    cells, measured = run
    found = criteria(cells, measured, HeldOutPairs(cells, measured))
    assert found is not None and found.names == ("kind", "brief")

    # 0.25 * (1.0 - 0.0) and 0.75 * (-0.2 - 0.2): a quarter of four rollouts is one.
    assert {line.criterion: line.paid for line in found.paid} == {
        "kind": pytest.approx(0.25),
        "brief": pytest.approx(-0.3),
    }

    # Labels: p - 0.5 is (.4, .3, .2, .1) and (-.4, -.3, -.2, .1): one of four pairs alike, r = -.28 / .30.
    (pair,) = found.together
    assert pair.labels_agree.value == 0.25 and pair.labels_correlation.value == pytest.approx(-0.28 / 0.30)
    assert pair.models_agree.value == 1 and pair.models_correlation.value == pytest.approx(1)

    # The reward models say a of every pair: as all labels of kind do, and one of brief's four.
    assert [(model.criterion, model.own.value, model.people.value) for model in found.models] == [
        ("kind", 1.0, 1.0), ("brief", 0.25, 1.0),
    ]  # fmt: skip

    # Gains in spreads: 1.0 / 2.0 and -0.5 / 0.5; weighed 0.25 * 0.5 - 0.75 * 1.
    rows = {row.policy: row for row in found.policies}
    assert {name: each.value for name, each in rows["both/0"].gains.items()} == {"kind": 0.5, "brief": -1.0}
    assert rows["both/0"].total and rows["both/0"].total.value == pytest.approx(-0.625)
    assert rows["sft"].gains["kind"].value == 0 and rows["sft"].total is None
    assert rows["both/0"].judged["brief"].value == -0.5


def test_what_is_drawn(run):
    cells, measured = run
    found = plain(criteria(cells, measured, HeldOutPairs(cells, measured)))
    drawn = draw({"criteria": found, "arms": ["both"], "seeds": [0]})
    assert [chart.title for chart in drawn["planes"]] == ["Brief and kind"]
    assert [series.name for series in drawn["planes"][0].series] == ["start", "sft", "both/0"]
    (paid,) = drawn["paid"]
    assert paid.title == "Which criterion paid, arm both"
    assert {series.name: len(series.points) for series in paid.series} == {"kind, seed 0": 4, "brief, seed 0": 4}
    assert draw({"criteria": None, "arms": [], "seeds": []}) == {"planes": [], "paid": []}


def test_arms_that_differ_in_weights_alone_have_one_row_of_labels(run):
    cells, measured = run
    other = replace(cells[0], arm="kindest")
    for model in list(measured.pair_scores):
        measured.pair_scores[model.replace("both", "kindest")] = measured.pair_scores[model]
    for model, policy in list(measured.scores):
        measured.scores[model.replace("both", "kindest"), policy.replace("both", "kindest")] = measured.scores[
            model, policy
        ]
    found = criteria([*cells, other], measured, HeldOutPairs(cells, measured))
    assert found is not None and [pair.arm for pair in found.together] == ["both"]
    assert [model.arm for model in found.models] == ["both", "both", "kindest", "kindest"]


def test_a_run_without_criteria_has_nothing_to_say(run):
    cells, measured = run
    bare = replace(cells[0], lineage=(replace(cells[0].lineage[0], criteria={}),))
    assert criteria([bare], measured, HeldOutPairs(cells, measured)) is None
    assert SECTION.empty is None and bare.views == [bare]


def test_each_criterion_is_seen_as_an_arm_that_has_it_alone(run):
    (cell,) = run[0]
    assert [(view.arm, view.settings.constitution.file, view.labels) for view in cell.views] == [
        (f"both {name}", f"{name}.txt", own.labels) for name, own in cell.criteria.items()
    ]
    assert [it.reward for it in cell.views[0].lineage] == [cell.criteria["kind"].reward]
