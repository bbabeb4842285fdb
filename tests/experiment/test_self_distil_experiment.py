"""`rl.method: self_distil` from the config to the report, beside SL-CAI, on the tiny model: tokens, KL, reruns."""

import json
from pathlib import Path

import pytest
from test_config import BASE, fault
from test_experiment import lay_out, planned

from cai.compare.__main__ import main as compare
from cai.config.load import read_experiment
from cai.core.records import Revision, read_jsonl
from cai.core.store import canonical
from cai.experiment.command import main

EXPERIMENT = """
constitution: law.txt
seeds: [0]
policy: {model: tiny-random, lora_rank: 4}
data: {source: pairs.jsonl, test: 0.4}
helpful: {source: helpful.jsonl}
revise: {prompts: 4, rounds: 1, max_new_tokens: 8}
judge: {model: tiny-random, min_mass: 0.0, preflight: {mass: 0, accuracy: 0, reads: off}}
rl: {method: self_distil, steps: 6, batch_size: 4, max_new_tokens: 6, epochs: 1, helpful: 0, distil: {tokens: 30}}
evaluate:
  prompts: 3
  helpful: 0
  transcripts: 0
  max_new_tokens: 6
  constitution: yardstick.txt
  judge: {model: tiny-random, principles: 1, min_mass: 0.0}
arms:
  sl-cai: {rl: {method: sft}, sft: {epochs: 3}}
  taught: {sft: {learns: nothing}}
  criticised: {rl: {distil: {critique: true, principles: all, beta: 0.5}}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("distilled")
    lay_out(folder)
    (folder / "mine.yaml").write_text(EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["mine.yaml"]) == 0
    return folder


def linked(finished: Path, cell: str, what: str) -> Path:
    return finished / json.loads((finished / "runs/mine/links.json").read_text())[cell][what]


def results(finished: Path) -> dict:
    return json.loads((finished / "runs/mine/results.json").read_text())


def test_nobody_is_asked_for_a_label(finished):
    stages = [stage["stage"] for stage in results(finished)["stages"]]
    assert not {"label_by_judge", "preflight", "train_reward"} & set(stages)
    assert stages.count("train_self_distil") == 2 and stages.count("leave_untrained") == 1
    assert {line["arm"]: line["said"] for line in results(finished)["sources"]}["taught"] == (
        "nobody: rl.method is self_distil"
    )


def test_an_arm_without_sft_goes_on_from_the_start_model(finished):
    counts = json.loads((linked(finished, "taught/0", "sft") / "counts.json").read_text())
    drafts = read_jsonl(linked(finished, "taught/0", "revised") / "revisions.jsonl", Revision)
    assert counts == {} and len(drafts) == 4 and all(draft.rounds == () for draft in drafts)
    revised = read_jsonl(linked(finished, "sl-cai/0", "revised") / "revisions.jsonl", Revision)
    assert {row.prompt.id: row.draft for row in revised}.items() <= {r.prompt.id: r.draft for r in drafts}.items()
    kl = json.loads((linked(finished, "taught/0", "policy") / "curves.json").read_text())
    assert kl["kl"][0] == pytest.approx(0, abs=1e-5) and kl["teacher_kl"][0] > 0


def test_the_report_has_tokens_and_distances(finished):
    section = results(finished)["distillation"]
    tokens = {line["arm"]: line for line in section["tokens"]}
    for arm in ("taught", "criticised"):
        assert tokens[arm]["learnt_rl"] == 30 <= tokens[arm]["written_rl"]
    assert tokens["taught"]["learnt"] == 30 and tokens["taught"]["learnt_sft"] == 0
    assert tokens["criticised"]["learnt"] == 30 + tokens["criticised"]["learnt_sft"]
    assert tokens["sl-cai"]["learnt"] == tokens["sl-cai"]["learnt_sft"] == 3 * tokens["criticised"]["learnt_sft"] > 0
    assert tokens["sl-cai"]["written"] == tokens["criticised"]["written_sft"] > tokens["taught"]["written_sft"] == 0
    counts = json.loads((linked(finished, "criticised/0", "policy") / "counts.json").read_text())
    assert counts["tokens learnt from"] == 30 and counts["critiques of answers"] > 0
    teachers = {teacher["arm"]: teacher["line"]["arms"] for teacher in section["teachers"]}
    assert list(teachers) == ["taught", "criticised"]
    for line in teachers.values():
        assert set(line) == {"start", "sft", "sl-cai", "taught", "criticised"}
        assert all(value["n"] == 3 and value["value"] > 0 for value in line.values())
    page = (finished / "runs/mine/report.html").read_text()
    for text in ("Self-distillation", "self-distillation: KL to the teacher", "nats a token away", "Table of tokens"):
        assert text in page


def test_what_reruns_when_something_is_edited(finished, monkeypatch):
    monkeypatch.chdir(finished)
    assert planned() == {}
    assert "train_self_distil" in planned(["rl.distil.tokens=20"])
    law = (finished / "law.txt").read_text()
    try:
        (finished / "law.txt").write_text(law.replace("Because.", "For another reason."))
        assert planned() == {}, "nobody reads Why:"
        (finished / "law.txt").write_text(law.replace("that is kind.\n\n## safe", "that is gentle.\n\n## safe"))
        assert planned()["train_self_distil"] == 2 and "train_sft" not in planned()
        (finished / "law.txt").write_text(law.replace("Say what in the assistant's last response is unsafe", "Say"))
        changed = planned()
        assert changed["train_self_distil"] == 1 and changed["revise"] == 1, "without critiques nobody reads Critique:"
    finally:
        (finished / "law.txt").write_text(law)


def test_its_settings_are_no_part_of_others_keys():
    from cai.config.rl import Rl, SelfDistil

    assert canonical(Rl(method="self_distil", distil=SelfDistil(tokens=9))) == canonical(Rl())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rl: {method: self_distil, gold: {}}\ndata: {calibration: 0.2}\n", "follows no reward, which gold is there"),
        ("rl: {method: self_distil, distil: {beta: 1.5}}\n", "rl.distil.beta must be"),
        ("rl: {method: self_distil, distil: {tokens: 999999}}\n", "distil.tokens (999,999) cannot be reached: 16 roll"),
        (
            "rl: {method: self_distil, distil: {tokens: 9}, snapshots: 1}\n",
            "distil.tokens leaves open",
        ),
        ("rl: {method: self_distil, kl_target: 3}\n", "method: self_distil cannot hold a kl_target"),
        ("rl: {method: self_distil}\nrounds: 2\npairs: {source: policy}\n", "reads no label"),
        (
            "rl: {method: self_distil}\ncriteria: {a: {constitution: a.txt}, b: {constitution: b.txt}}\n",
            "self_distil reads one constit",
        ),
    ],
)
def test_faults_of_the_config(tmp_path, text, expected):
    assert expected in fault(tmp_path, BASE + text)


def test_the_shipped_experiment_has_the_same_budget_for_all(monkeypatch):
    arms = read_experiment(Path(__file__).parents[2] / "experiments/self-distil.yaml", []).arms
    assert [arm.rl.method for arm in arms.values()] == ["sft", "self_distil", "self_distil", "ppo"]
    assert {arm.sft.learns for name, arm in arms.items() if name != "sl-cai"} == {"nothing"}
    assert {arm.rl.distil.tokens for name, arm in arms.items() if "self" in name} == {1900}


def test_a_comparison_counts_the_tokens_that_its_runs_did(finished, monkeypatch):
    """Those of the everyday answers that SFT learnt among them."""
    monkeypatch.chdir(finished)
    before = set((finished / "runs/store").glob("count_tokens-*"))
    assert compare(["runs/mine"]) == 0
    assert before and set((finished / "runs/store").glob("count_tokens-*")) == before
