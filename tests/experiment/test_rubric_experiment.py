"""`judge.rubric` end to end on the tiny model: a file, written, as the reward itself, as one of several criteria."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_experiment import begin_from, drop_the_rest
from test_panel_experiment import SHARED

from cai.config.load import read_sweep
from cai.data.rubrics import RubricItem
from cai.experiment.command import main, plan
from cai.judge import rubric_writing
from cai.models.workbench import Workbench

ARMS = """
arms:
  direct: {judge: {rubric: rubrics.jsonl}, rl: {method: direct}}
  several:
    criteria:
      good: {constitution: law.txt}
      scored: {constitution: yardstick.txt, rubric: rubrics.jsonl, weight: 2}
    rl: {method: rloo}
  plain: {}
  file: {judge: {rubric: rubrics.jsonl}}
  written: {judge: {rubric: {write: {criteria: 2, max_new_tokens: 4}}}}
"""
ROWS = [
    {"rubrics": [
        {"criterion": "It is kind.", "points": 3, "only_if": "It says something."},
        {"criterion": "It is rude.", "points": -1},
    ]},
    {"prompt": "Question number 1?", "rubrics": [{"criterion": "It names a number.", "points": 2}]},
]  # fmt: skip


def read_for(reply: Any, most: int) -> tuple[list[RubricItem], Counter[str]]:
    """Whatever a model of random weights writes, it is read so."""
    return [RubricItem("It is true.", 5.0, "It is true."), RubricItem("It is long.", -2.0, "It is long.")], Counter(
        cut=1
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_run):
    folder = tmp_path_factory.mktemp("rubrics")
    begin_from(small_run, folder)
    (folder / "rubrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "mine.yaml").write_text(SHARED + ARMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(rubric_writing, "read_criteria", read_for)
        assert main(["mine.yaml"]) == 0
        drop_the_rest()
    return folder


def results(folder: Path) -> Any:
    return json.loads((folder / "runs/mine/results.json").read_text())


def test_stages_are_made_once(finished):
    """Labels: of plain, also those of criterion `good`; by the file, also those of `scored`; by what was written."""
    made = Counter(path.name.rpartition("-")[0] for path in (finished / "runs/store").iterdir() if path.is_dir())
    assert (made["label_by_judge"], made["write_rubrics"], made["train_direct"], made["train_rloo"]) == (3, 1, 1, 1)


def test_the_report_shows_criteria(finished):
    found = {entry["arm"]: entry for entry in results(finished)["rubrics"]}
    assert set(found) == {"file", "written", "several scored"}
    rows = {row["criterion"]: row for row in found["file"]["criteria"]}
    assert set(rows) == {"It is kind.", "It is rude.", "It names a number."}
    assert rows["It is kind."]["only_if"] == "It says something." and rows["It is kind."]["gated_out"]["n"] > 0
    assert rows["It is rude."]["gated_out"]["n"] == 0 and rows["It is rude."]["points"] == -1
    assert rows["It names a number."]["asked"] <= 1
    decided = sum(row["decided"]["value"] for row in rows.values())
    assert decided == pytest.approx(1.0)
    assert (
        "lines dropped" in found["written"]["about"] and found["written"]["examples"][0]["items"][0] == "+5 It is true."
    )
    page = (finished / "runs/mine/report.html").read_text()
    assert "Rubric of arm written" in page and "Gated out" in page
    assert "are scores by criteria; whether they come from a constitution was not measured" in page


def test_criteria_of_the_arms_are_weighed(finished):
    assert {row["arm"] for row in results(finished)["judges"]} >= {"plain", "file", "written"}
    links = json.loads((finished / "runs/mine/links.json").read_text())
    assert {"good", "scored"} == set(links["several/0"]["criteria"])


def test_a_plan_after_it_has_nothing_to_run(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    assert main(["mine.yaml", "--plan"]) == 0
    assert "0 of" in capsys.readouterr().out


def test_an_edit_of_the_template_that_writes_reruns_it_and_what_reads_it_alone(finished, monkeypatch):
    monkeypatch.chdir(finished)
    shipped = Path(rubric_writing.__file__).parents[2] / "prompts/rubric_write.jinja"
    (finished / "prompts").mkdir()
    (finished / "prompts/rubric_write.jinja").write_text(shipped.read_text().replace("You write", "You now write"))
    grid = read_sweep(Path("mine.yaml"), [])
    ledger, _ = plan(grid, Workbench.open(grid[0].runtime))
    ran = [stage.stage for stage in ledger if not stage.cached]
    assert ran[:3] == ["write_rubrics", "label_by_judge", "train_reward"] and ran.count("label_by_judge") == 1
    assert not {"load_data", "revise", "train_sft", "train_direct", "train_rloo"} & set(ran)
