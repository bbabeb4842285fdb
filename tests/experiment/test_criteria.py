"""`criteria:` end to end on the tiny model: labels, a reward model and a scale for each, one policy for their sum."""

import json
import re
from pathlib import Path

import pytest
from test_experiment import EXPERIMENT, begin_from, planned

from cai.compare.runs import experiment_of, read_run
from cai.core.errors import UserError
from cai.core.upkeep import unneeded
from cai.experiment.command import main

SHARED = EXPERIMENT[: EXPERIMENT.index("arms:")]
for before, now in (
    ("comparisons: [items.jsonl]", "comparisons: []"),
    ("  xstest: xstest.csv\n", ""),
    ("audit: 2", "audit: 0"),
    ("transcripts: 2", "transcripts: 0"),
    ("gold: {every: 1, prompts: 3}", "gold: null"),
):
    assert before in SHARED
    SHARED = SHARED.replace(before, now)
CRITERIA = """
criteria:
  safe: {constitution: safe.txt}
  brief: {constitution: brief.txt, weight: 3, labels: shorter}
arms:
  both: {}
  safest: {criteria: {safe: {weight: 9}}, rl: {method: rloo}}
  picked: {rl: {method: best_of_n, best_of: 2}}
  alone: {criteria: null, labels: ai}
"""


def add_criteria(folder: Path) -> None:
    (folder / "safe.txt").write_text("- Choose the response that is safe.\n")
    (folder / "brief.txt").write_text("- Choose the response that is brief.\n")
    (folder / "mine.yaml").write_text(SHARED + CRITERIA)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_run):
    folder = tmp_path_factory.mktemp("criteria")
    begin_from(small_run, folder)
    add_criteria(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["mine.yaml"]) == 0
    return folder


@pytest.fixture
def place(finished, monkeypatch):
    monkeypatch.chdir(finished)
    return finished


@pytest.fixture
def results(finished):
    return json.loads((finished / "runs/mine/results.json").read_text())


def test_each_criterion_is_labelled_and_learnt_once_and_weighed_by_each_arm(finished, results):
    made = [stage["stage"] for stage in results["stages"]]
    counted = {
        stage: made.count(stage) for stage in ("label_by_judge", "label_by_length", "train_reward", "scale_reward")
    }
    # Two criteria, whatever the weights, and the constitution of the arm that has none.
    assert counted == {"label_by_judge": 2, "label_by_length": 1, "train_reward": 3, "scale_reward": 2}
    assert made.count("train_ppo") == 2 and made.count("train_rloo") == 1
    shares = {(row["arm"], row["criterion"]): row["share"] for row in results["criteria"]["models"]}
    assert shares == {
        **{(arm, "safe"): 0.25 for arm in ("both", "picked")}, **{(arm, "brief"): 0.75 for arm in ("both", "picked")},
        ("safest", "safe"): 0.75, ("safest", "brief"): 0.25,
    }  # fmt: skip


def test_the_curves_say_what_each_criterion_paid(finished, results):
    links = json.loads((finished / "runs/mine/links.json").read_text())
    for arm in ("both", "safest"):
        table = json.loads((finished / links[f"{arm}/0"]["policy"] / "curves.json").read_text())
        shares = {"safe": 0.25, "brief": 0.75} if arm == "both" else {"safe": 0.75, "brief": 0.25}
        for step, reward in enumerate(table["reward"]):
            paid = sum(share * table[f"criterion {name}"][step] for name, share in shares.items())
            assert reward == pytest.approx(paid, abs=1e-4), "the reward is the weighed sum of what is logged"
        counts = json.loads((finished / links[f"{arm}/0"]["policy"] / "counts.json").read_text())
        scale = json.loads((finished / links[f"{arm}/0"]["criteria"]["brief"]["scale"] / "scale.json").read_text())
        assert counts["reward spread on the SFT answers, brief"] == pytest.approx(scale["spread"], abs=1e-4)
        assert 0 < counts["reward spread on the SFT answers, of the sum"] <= 1
    lines = {(line["arm"], line["criterion"]) for line in results["criteria"]["paid"]}
    assert lines == {(arm, name) for arm in ("both", "safest") for name in ("safe", "brief")}
    alone = json.loads((finished / links["alone/0"]["policy"] / "curves.json").read_text())
    assert not [name for name in alone if name.startswith("criterion")] and "criteria" not in links["alone/0"]


def test_every_policy_lies_on_the_plane_of_every_two_criteria(results, finished):
    rows = {row["policy"]: row for row in results["criteria"]["policies"]}
    assert list(rows) == ["start", "sft", "both/0", "safest/0", "picked/0", "alone/0"]
    for row in rows.values():
        assert row["judged"]["safe"]["n"] == 6, "four held-out prompts and two everyday ones"
        assert row["gains"]["brief"]["n"] == 4 and row["gains"]["brief"]["low"] is not None
    assert rows["sft"]["gains"]["safe"]["value"] == 0 and rows["alone/0"]["total"] is None
    total = rows["both/0"]["gains"]
    assert rows["both/0"]["total"]["value"] == pytest.approx(
        0.25 * total["safe"]["value"] + 0.75 * total["brief"]["value"]
    )
    page = (finished / "runs/mine/report.html").read_text()
    assert "Which criterion paid, arm both" in page and "Brief and safe" in page
    (pair,) = results["criteria"]["together"]
    assert (pair["arm"], pair["first"], pair["second"]) == ("both", "safe", "brief"), "arms of the same labels are one"
    assert [entry["arm"] for entry in results["reading"]] == ["both safe", "safest safe", "picked safe", "alone"]


def test_another_weight_trains_no_reward_model(place):
    same = planned(["criteria.brief.weight=6", "criteria.safe.weight=2", "arms.safest.criteria.safe.weight=18"])
    assert same == {}, "twice all weights is the same reward"
    other = planned(["criteria.brief.weight=1"])
    assert not other.keys() & {
        "label_by_judge",
        "label_by_length",
        "preflight",
        "train_reward",
        "scale_reward",
        "score_pairs",
    }
    assert other["train_ppo"] == 1 and other["train_rloo"] == 1 and other["respond_best"] >= 1


def test_a_criterions_constitution_reruns_its_own_labels_alone(place):
    (place / "safe.txt").write_text("- Choose the response that is very safe.\n")
    changed = planned()
    (place / "safe.txt").write_text("- Choose the response that is safe.\n")
    assert changed["label_by_judge"] == 1 and changed["train_reward"] == 1 and "label_by_length" not in changed


def test_the_run_can_be_read_back_and_nothing_of_it_is_thrown_away(place):
    run = read_run(Path("runs/mine"))
    _, cells = experiment_of([run])
    made = {cell.arm: list(cell.criteria) for cell in cells}
    assert made["mine.both"] == ["safe", "brief"] and made["mine.alone"] == []
    kept = {path.name for path in (cells[0].criteria["brief"].scale.path, cells[0].criteria["safe"].reward.path)}
    assert not [each for each in unneeded(Path("runs"), 0) if each.path.name in kept]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("criteria.safe.constitution=none.txt", "none.txt"),
        ("criteria.brief.labels={default: human, file: none.jsonl}", "none.jsonl"),
    ],
)
def test_faults_of_a_criterions_files_come_before_the_first_minute(place, changed, said):
    with pytest.raises(UserError, match=re.escape(said)):
        main(["mine.yaml", "--plan", "--set", changed])
