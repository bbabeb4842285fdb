"""`judge.panel` end to end on the tiny model: labels of each judge shared among arms, one reward model for all."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import asked_judge
from test_experiment import EXPERIMENT, begin_from, drop_the_rest

from cai.compare.__main__ import main as compare
from cai.config.sections import Labeller
from cai.core.errors import UserError
from cai.experiment.command import main
from cai.experiment.labelling import try_of_panel

SHARED = EXPERIMENT[: EXPERIMENT.index("arms:")]
for before, now in (
    ("comparisons: [items.jsonl]", "comparisons: []"),
    ("  xstest: xstest.csv\n", ""),
    ("audit: 2", "audit: 0"),
    ("preflight: {mass: 0, accuracy: 0, reads: off}", "preflight: null"),
    (", gold: {every: 1, prompts: 3}", ""),
    ("rl: {steps: 2,", "rl: {method: none, steps: 2,"),
    ("transcripts: 2", "transcripts: 0"),
):
    assert before in SHARED
    SHARED = SHARED.replace(before, now)
ARMS = """
arms:
  weighed: {judge: {panel: {judges: [{}, {method: choice}, {method: score}], combine: reliability}}}
  asked: {judge: {panel: {judges: [{}, {method: choice}], escalate: {below: 0.99}}}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_run):
    folder = tmp_path_factory.mktemp("panel")
    begin_from(small_run, folder, "store")  # and not its calls: what judges read is counted
    (folder / "mine.yaml").write_text(SHARED + ARMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["mine.yaml"]) == 0
        drop_the_rest()
    return folder


def results(folder: Path):
    return json.loads((folder / "runs/mine/results.json").read_text())


def test_each_judges_labels_are_made_once(finished):
    """Three judges on all pairs, of whom both panels have the first; one on what is unsure; what two panels say."""
    made = [path.name.rpartition("-")[0] for path in (finished / "runs/store").iterdir() if path.is_dir()]
    assert (made.count("label_by_judge"), made.count("label_the_unsure"), made.count("combine_panel")) == (3, 1, 2)


def test_the_report_has_each_panel_and_each_judge_in_it(finished):
    found = results(finished)
    weighed, asked = found["panels"]
    assert [panel["rule"] for panel in (weighed, asked)] == ["reliability", "last"]
    assert all(0 < judge["found"]["right"] < 1 for judge in weighed["judges"])
    assert weighed["judges"][1]["method"] == "choice"
    first, second = asked["judges"]
    assert first["found"]["asked"] >= second["found"]["asked"] == round(second["share"] * first["found"]["asked"])
    assert first["found"]["right"] is None and first["tokens"] > 0
    arms = {entry["arm"] for entry in found["judges"]}
    assert arms == {*(f"weighed judge {n}" for n in (1, 2, 3)), *(f"asked judge {n}" for n in (1, 2))}
    page = (finished / "runs/mine/report.html").read_text()
    assert "Panel of arm weighed" in page and "asked decides" in page


def test_a_plan_after_it_has_nothing_to_run(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    assert main(["mine.yaml", "--plan"]) == 0
    assert "0 of" in capsys.readouterr().out


def test_a_comparison_has_the_panels_of_its_runs(finished, monkeypatch):
    """Each judge, its preflight and what all say together, as the run's own report has them."""
    monkeypatch.chdir(finished)
    assert compare(["runs/mine"]) == 0
    own, other = results(finished), json.loads((finished / "runs/compare-mine/results.json").read_text())
    renamed = [{**panel, "arm": f"mine.{panel['arm']}"} for panel in own["panels"]]
    assert other["panels"] == renamed
    for key in ("judges", "reading"):
        assert [entry["arm"] for entry in other[key]] == [f"mine.{entry['arm']}" for entry in own[key]]


def test_a_judge_that_does_not_pass_its_preflight_is_named_by_its_key():
    def stage(function, **inputs):
        raise UserError("the judge did not pass its preflight", "judge.method", "set judge.method")

    judge = asked_judge(Labeller(preflight=None, calibrate=True))
    constitution: Any = None  # nothing is read of it without a preflight
    with pytest.raises(UserError) as error:
        try_of_panel(stage, "judge.panel.judges.1", constitution, {}, judge)
    assert error.value.where == "judge.panel.judges.1.method"
