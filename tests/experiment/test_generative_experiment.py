"""A generative reward model end to end on the tiny model: trained, compared, and picking the best of two answers."""

import json
import shutil
from pathlib import Path

import pytest
from test_experiment import EXPERIMENT, begin_from, drop_the_rest

from cai.core.records import read_jsonl
from cai.experiment.command import main
from cai.train.generative.asking import Thought

SHARED = EXPERIMENT[: EXPERIMENT.index("arms:")]
for before, now in (
    ("  xstest: xstest.csv\n", ""),
    ("audit: 2", "audit: 0"),
    ("preflight: {mass: 0, accuracy: 0, reads: off}", "preflight: null"),
    ("rl: {steps: 2, batch_size: 4, max_new_tokens: 6, epochs: 1, gold: {every: 1, prompts: 3}}",
     "rl: {method: best_of_n, best_of: 2}"),
    ("transcripts: 2", "transcripts: 0"),
    ("prompts: 4\n  helpful: 2", "prompts: 2\n  helpful: 0"),
):  # fmt: skip
    assert before in SHARED
    SHARED = SHARED.replace(before, now)
ARMS = """
arms:
  scalar: {labels: human}
  generative:
    labels: human
    reward: {kind: generative, samples: 2, draws: 3, rationale_tokens: 4, max_length: 1600, min_mass: 0}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_run):
    folder = tmp_path_factory.mktemp("generative")
    begin_from(small_run, folder)
    (folder / "mine.yaml").write_text(SHARED + ARMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["mine.yaml"]) == 0
        drop_the_rest()
    return folder


def stages(folder: Path, name: str) -> list[Path]:
    return [path for path in (folder / "runs/store").iterdir() if path.name.rpartition("-")[0] == name]


def test_it_thinks_learns_thinks_again_and_prefers(finished):
    assert len(stages(finished, "draw_rationales")) == 2
    (learnt,), (preferred,) = (stages(finished, f"{what}_rationales") for what in ("learn", "prefer"))
    first, second = (json.loads((stage / "counts.json").read_text()) for stage in (learnt, preferred))
    assert first["training pairs labelled"] > 0 and first["dropped: longer than reward.max_length"] == 0
    assert first["rationales drawn"] == 6 * first["training pairs labelled"]
    assert 0 < first["rationales that led to the right verdict"] < first["rationales drawn"]
    assert second.items() >= first.items() and second["DPO: rationales drawn"] == first["rationales drawn"]
    assert json.loads((preferred / "curves.json").read_text())["loss"]
    drawn = [read_jsonl(stage / "thoughts.jsonl", Thought) for stage in stages(finished, "draw_rationales")]
    assert drawn[0] != drawn[1], "the second time the model that has learnt thinks"


def test_the_report_compares_both_kinds_at_equal_labels(finished):
    found = json.loads((finished / "runs/mine/results.json").read_text())
    (arm,) = found["generative"]
    held_out, items = arm["against"]
    assert (held_out["scalar_arm"], held_out["on"], held_out["outside"]) == ("scalar", "all held-out pairs", False)
    assert items["on"] == "items.jsonl" and items["outside"]
    assert held_out["difference"]["of"] == ["generative", "scalar"]
    assert arm["faithfulness"]["moved"]["n"] == arm["faithfulness"]["chance"]["n"] > 0
    assert arm["unjudged"] == 0 and len(arm["examples"]) == 3
    names = {measure["key"] for measure in found["measures"]}
    assert {"reward_accuracy", "reward_scalar", "reward_generative"} <= names
    page = (finished / "runs/mine/report.html").read_text()
    assert "Generative reward model of arm generative" in page and "follows the rationale" in page


def test_it_picks_the_best_of_two(finished):
    picked = [json.loads((stage / "counts.json").read_text()) for stage in stages(finished, "respond_compared")]
    assert len(picked) == 1 and all(counts["drawn"] == 2 * counts["prompts asked"] for counts in picked)
    assert len(stages(finished, "respond_best")) == 1


def test_what_was_lost_is_made_again_to_the_same_bytes(place):
    """What a kill leaves undone: one stage of the training; its calls are kept, and all after it is found."""
    (learnt,) = stages(place, "learn_rationales")
    before = json.loads((learnt / "manifest.json").read_text())["digest"]
    (last,) = stages(place, "prefer_rationales")
    shutil.rmtree(learnt)
    assert main(["mine.yaml"]) == 0
    assert json.loads((learnt / "manifest.json").read_text())["digest"] == before
    assert stages(place, "prefer_rationales") == [last]


def test_a_plan_after_it_has_nothing_to_run(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    assert main(["mine.yaml", "--plan"]) == 0
    assert "0 of" in capsys.readouterr().out
