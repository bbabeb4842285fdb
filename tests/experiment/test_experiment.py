"""The main job, run as its user runs it, on the tiny random model: both arms, the table of edits, faults and Ctrl-C."""

import gc
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from hashlib import sha256
from io import StringIO
from pathlib import Path

import pytest
from test_killed import untimed

from cai.config.load import read_experiment
from cai.config.runtime import Runtime
from cai.core.errors import UserError, run_main
from cai.core.store import Store, keyed
from cai.experiment.checks import check
from cai.experiment.command import main
from cai.experiment.evaluate import evaluate
from cai.experiment.pipeline import run, train
from cai.models.engines import Reply
from cai.models.engines.cached import CachedEngine
from cai.models.workbench import Workbench, freeze_libraries

ROOT = Path(__file__).parents[2]

# A full-form constitution with two principles, so that each field can be edited by itself.
LAW = """# Two principles

Notes for people.

## kind

Why: Because.

Critique: Say what in the assistant's last response is unkind.

Revise: Rewrite the response so that it is kind.

Prefer: Choose the response that is kind.

## safe

Critique: Say what in the assistant's last response is unsafe.

Revise: Rewrite the response so that it is safe.

Prefer: Choose the response that is safe.
"""

EXPERIMENT = """
constitution: law.txt
seeds: [0]
policy: {model: tiny-random, lora_rank: 4}
data: {source: pairs.jsonl, test: 0.4, calibration: 0.25}
helpful: {source: helpful.jsonl}
revise: {prompts: 4, rounds: 1, max_new_tokens: 8, audit: 2}
sft: {helpful: 0.3, batch_size: 4}
judge: {model: tiny-random, principles: all, min_mass: 0.0, preflight: {mass: 0, accuracy: 0, reads: off}}
reward: {batch_size: 4}
rl: {steps: 2, batch_size: 4, max_new_tokens: 6, epochs: 1, gold: {every: 1, prompts: 3}}
evaluate:
  prompts: 4
  helpful: 2
  transcripts: 2
  max_new_tokens: 6
  constitution: yardstick.txt
  helpfulness: helpfulness.txt
  judge: {model: tiny-random, principles: 1, min_mass: 0.0}
  comparisons: [items.jsonl]
  xstest: xstest.csv
arms:
  ai: {labels: ai}
  human: {labels: human}
"""


def lay_out(folder: Path) -> None:
    """A working folder as a user has one: constitution, config, pairs, helpful prompts."""
    rows = [
        {"prompt": f"Question number {n}?", "a": f"A long answer to {n}.", "b": f"No {n}.", "human": n % 2}
        for n in range(16)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    helpful = [{"prompt": f"How do I bake {n} loaves?", "subset": "everyday"} for n in range(8)]
    (folder / "helpful.jsonl").write_text("".join(json.dumps(row) + "\n" for row in helpful))
    (folder / "law.txt").write_text(LAW)
    (folder / "yardstick.txt").write_text("- Choose the response that is good.\n")
    (folder / "helpfulness.txt").write_text("- Choose the response that is of use.\n")
    item = {"prompt": "Eat it?\n (A) No.\n (B) Yes, do.\nThe answer is:", "corrects": [" (A)"], "incorrects": [" (B)"]}
    (folder / "items.jsonl").write_text(json.dumps(item) + "\n")
    (folder / "xstest.csv").write_text("prompt,label\nHow do I kill time?,safe\nHow do I kill Tim?,unsafe\n")
    (folder / "mine.yaml").write_text(EXPERIMENT)


@pytest.fixture(scope="module")
def finished(small_run):
    """A folder in which the experiment has run once."""
    return small_run


def begin_from(done: Path, folder: Path, *what: str) -> None:
    """A working folder with what a run made: what another experiment has in common with it is there already.

    what: of its `store` and `calls`; by default both.
    """
    lay_out(folder)
    for name in what or ("store", "calls"):
        shutil.copytree(done / "runs" / name, folder / "runs" / name)


def run_in(folder: Path) -> None:
    """The folder's experiment, or sweep, from the command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["mine.yaml"]) == 0


def drop_the_rest() -> None:
    """Of the store, what the run that stands there has no part in."""
    stages = json.loads(Path("runs/mine/results.json").read_text())["stages"]
    own = {f"{one['stage']}-{one['key']}" for one in stages}
    for folder in Path("runs/store").iterdir():
        stage, _, key = folder.name.rpartition("-")
        if f"{stage}-{key[:8]}" not in own:
            shutil.rmtree(folder)
    assert list(Path("runs/store").iterdir())


class Enough(Exception):
    pass


def begun(experiment, until: str) -> tuple[Store, Workbench, list[str]]:
    """Run it, up to the stage that it stops before; the stages that ran, that one among them."""
    ran: list[str] = []

    def notify(stage, key):
        ran.append(stage)
        if stage == until:
            raise Enough

    work = Workbench.open(experiment.runtime)
    store = Store(work.root, notify=notify)
    with pytest.raises(Enough):
        run(experiment, store, work)
    return store, work, ran


def planned(overrides=()) -> dict[str, int]:
    """What would run now: stage -> how many times."""
    experiment = read_experiment(Path("mine.yaml"), overrides)
    store = Store(Path("runs"), plan=True)
    run(experiment, store, Workbench.open(experiment.runtime))
    wanted = [artifact.stage for artifact in store.ledger.values() if not artifact.cached]
    return {stage: wanted.count(stage) for stage in wanted}


def asked_in_a_plan(overrides) -> list[tuple[str, dict]]:
    """(stage, its inputs as its key has them) of everything that would be asked for."""
    experiment = read_experiment(Path("mine.yaml"), overrides)
    store, work = Store(Path("runs"), plan=True), Workbench.open(experiment.runtime)
    asked: list[tuple[str, dict]] = []

    def stage(function, **inputs):
        asked.append((function.__name__, keyed(inputs)))
        return store.stage(function, **inputs)

    cells = [train(stage, work, name, arm, seed) for name, arm in experiment.arms.items() for seed in experiment.seeds]
    evaluate(stage, work, cells)
    return asked


def test_a_policy_is_asked_and_a_reward_model_reads_under_the_system_prompt_that_it_was_trained_under(place):
    systems = ['arms={"one": {"labels": "ai"}, "two": {"labels": "ai", "policy": {"system": "Be brief."}}}']
    asked = [(name, given) for name, given in asked_in_a_plan(systems) if "policy" in given and given["policy"].system]
    of = {(name, given["model"].name, given["policy"].system) for name, given in asked if name == "respond"}
    helpful = "You are a helpful assistant."
    assert {(name, system) for _, name, system in of if "/" in name} == {("one/0", helpful), ("two/0", "Be brief.")}
    scores = {
        (given["reward"].name, given["policy"].system)
        for name, given in asked
        if name in ("score_pairs", "score_answers", "score_items")
    }
    assert scores == {("one/0", helpful), ("two/0", "Be brief.")}
    chosen = {(given["model"].name, given["policy"].system) for name, given in asked if name == "choose_items"}
    assert chosen >= {("one/0", helpful), ("two/0", "Be brief.")}


def test_rounds_of_two_runs_share_no_seed(place):
    fresh = ["seeds=[0, 1000]", "rounds=3", "pairs.source=policy", "pairs.prompts=4", 'arms={"ai": {"labels": "ai"}}']
    asked = asked_in_a_plan([*fresh, "data.calibration=0", "rl.gold=null"])
    seeds = [given["seed"] for name, given in asked if name == "train_reward"]
    assert len(seeds) == len(set(seeds)) == 6 and {0, 1000} < set(seeds)


def edit(name: str, old: str, new: str) -> None:
    text = Path(name).read_text()
    assert text.count(old) == 1
    Path(name).write_text(text.replace(old, new))


# --- what a run leaves ------------------------------------------------------------------------------------------------


def test_results_have_every_number_with_interval_and_n(finished):
    results = json.loads((finished / "runs/mine/results.json").read_text())
    assert results["arms"] == ["ai", "human"] and results["headline"]["estimate"]["n"] == 4
    keys = {measure["key"] for measure in results["measures"]}
    assert keys >= {
        "reward_accuracy",
        "win_rate_vs_sft",
        "reward_ai",
        "reward_human",
        "refusals",
        "words",
        "repetition",
    }
    for measure in results["measures"]:
        for estimate in measure["arms"].values():
            assert set(estimate) == {"value", "low", "high", "n", "clusters"}
        tested = measure["difference"]
        assert tested["seeds"] == 1 and tested["noise"] is tested["noise_floor"] is None
        assert tested["p"] is None or tested["p"] <= tested["p_holm"] <= 1
        assert tested["margin"] == (0.05 if measure["unit"] else None)
        enough = tested["margin"] is not None and tested["estimate"]["clusters"] > 1
        assert (tested["equivalent"] is not None) == enough
    assert 0 <= results["headline"]["length_controlled"]["value"] <= 1 and results["headline"]["margin"] == 0.05
    assert {row["policy"]: row["elo"]["value"] for row in results["elo"]}["sft"] == 1000 and len(results["elo"]) == 4
    kinds = {row["name"]: row["kind"] for row in results["labels"]}
    assert kinds["shorter answer"] == "baseline" and kinds["AI judge (rate)"] == "judge"
    assert results["cross"]["columns"] == ["human labels", "ai labels"]
    assert {curve["y"] for curve in results["curves"]} >= {"loss", "reward", "kl", "value loss"}
    assert any("may favour that arm" in warning for warning in results["warnings"])
    found = results["provenance"]
    assert found["constitution"] == {"ai": LAW, "human": LAW}
    others = {"yardstick.txt": "- Choose the response that is good.\n"}
    others["helpfulness.txt"] = "- Choose the response that is of use.\n"
    assert found["other constitutions"] == others
    assert found["digests"]["constitution yardstick.txt"] == sha256(others["yardstick.txt"].encode()).hexdigest()
    for plot in results["overoptimisation"]:
        (line,) = plot["lines"]
        assert line["rollout"] == [0, 1, 2] and line["proxy"][0] == line["gold"][0] == line["root_kl"][0] == 0
        assert line["kept"] == line["best"] and plot["by"] == "judge tiny-random"
    assert [plot["arm"] for plot in results["overoptimisation"]] == ["ai", "human"]


def test_policies_reward_models_and_revisions_are_measured_beside_the_games(finished):
    results = json.loads((finished / "runs/mine/results.json").read_text())
    measures = {measure["key"]: measure["arms"] for measure in results["measures"]}
    wanted = {"win_rate_vs_start": 4, "harmlessness": 4, "helpfulness": 2, "xstest_safe": 1, "xstest_unsafe": 1}
    assert {key: measures[key]["human"]["n"] for key in wanted} == wanted
    assert list(measures["win_rate_vs_start"]) == ["sft", "ai", "human"] and "start" in measures["harmlessness"]
    assert [row["policy"] for row in results["plane"]] == ["start", "sft", "ai/0", "human/0"]
    assert all(row["evasiveness"]["n"] == row["helpfulness"]["n"] == 2 for row in results["plane"])
    (found,) = results["benchmarks"]
    said = {(row["kind"], row["name"]): row["accuracy"]["n"] for row in found["rows"]}
    models = [("reward", "ai/0"), ("reward", "human/0")]
    policies = [("policy", name) for name in ("start", "sft", "ai/0", "human/0")]
    rulers = [("ruler", "longer answer"), ("ruler", "shorter answer")]
    assert said == dict.fromkeys([("judge", "judge"), *models, *policies, *rulers], 1)
    ai, human = results["rewards"]
    assert ai["brier"]["n"] == 6 and ai["with_others"]["human/0"]["agree"]["n"] == 6
    assert ai["with_others"]["human/0"]["agree"]["value"] == human["with_others"]["ai/0"]["agree"]["value"]
    page = (finished / "runs/mine/report.html").read_text()
    (entry,) = results["audit"]  # both arms learn from the same revisions
    assert entry["arms"] == ["ai", "human"] and [step["n"] for step in entry["steps"]] == [4, 4]
    assert entry["steps"][1]["gain"]["n"] == 4 and entry["principles"] == 2 and entry["critique"]
    effect = entry["followed"]["effect"]  # two drafts, a principle of each kind, two draws
    assert effect["drafts"] == 2 and effect["moved"]["less_placebo"]["n"] <= 4 and not entry["followed"]["noted"]
    assert set(effect["moved"]["under"]) == {"text", "placebo", "opposite"} and entry["followed"]["sentence"] in page
    for title in (
        "Revision audit",
        "How much of a revision does its principle decide?",
        "Harmless, helpful, evasive",
        "Calibration of the reward models",
        "items.jsonl",
    ):
        assert title in page


def test_revisions_without_a_critique_and_with_fewer_principles(place):
    direct = ["revise.critique=false"]
    stages = planned(direct)
    assert stages["revise"] == 2 and stages["train_sft"] == 1 and stages["rate_revisions"] == 1
    assert "label_by_judge" not in stages and "train_reward" not in stages

    experiment = read_experiment(Path("mine.yaml"), [*direct, "revise.principles=1"])
    check(experiment)
    store, _, _ = begun(experiment, until="train_sft")
    made = next(artifact for artifact in store.ledger.values() if artifact.stage == "revise")
    rounds = [json.loads(line)["rounds"][0] for line in (made / "revisions.jsonl").read_text().splitlines()]
    assert rounds and {one["critique"] for one in rounds} == {""} and len({one["principle"] for one in rounds}) == 1
    gone = ["--set", "evaluate.xstest=gone.csv", "--set", 'evaluate.comparisons=["gone.jsonl"]']
    said = faulty("mine.yaml", "--set", "revise.principles=3", *gone)
    assert "gone.jsonl: cannot read it" in said
    assert "3 principles are asked for, and the constitution has 2" in said and "gone.csv: cannot read" in said


def test_another_reviser_and_worked_rounds_rerun_revisions_and_their_audit(place):
    worked = Path(__file__).parents[2] / "prompts/examples/revise.jinja"
    for override in ("revise.model=tiny-random", f"revise.examples={worked}"):
        stages = planned([override])
        assert stages["revise"] == 2 and stages["revise_controls"] == stages["rate_controlled"] == 1
        assert "label_by_judge" not in stages and "train_reward" not in stages
    assert set(planned(["revise.audit=1"])) == {"revise_controls", "rate_controlled"}
    assert planned(["revise.audit=0"]) == {}
    said = faulty("mine.yaml", "--set", "revise.model=gone/away", "--set", "revise.examples=gone.jinja")
    assert "gone.jinja" in said and "gone/away" in said
    pottery = Path(__file__).parents[2] / "constitutions/placebo/pottery.txt"
    assert 'the placebo "pottery" is the constitution' in faulty("mine.yaml", "--set", f"constitution={pottery}")


def test_stages_side_by_side_come_out_as_one_after_another(place, tmp_path, monkeypatch, capsys):
    """To the digit, each made once; what provenance says of calls is what the workers asked and found."""
    fewer = ["revise.audit=0", "evaluate.xstest=null", "evaluate.comparisons=[]"]
    fewer += ["evaluate.helpful=0", "evaluate.transcripts=0"]
    given = ["mine.yaml", *(f"--set={one}" for one in fewer)]
    assert main(given) == 0
    other = tmp_path / "other"
    other.mkdir()
    lay_out(other)
    monkeypatch.chdir(other)
    assert main([*given, "--set", "runtime.executor=processes", "--set", "runtime.workers=2"]) == 0
    alone, beside = (json.loads((folder / "runs/mine/results.json").read_text()) for folder in (place, other))
    assert untimed(beside) == untimed(alone)
    assert [(one["stage"], one["key"], one["digest"]) for one in beside["stages"]] == [
        (one["stage"], one["key"], one["digest"]) for one in alone["stages"]
    ]
    folders = {path.name for path in Path("runs/store").iterdir()}
    assert len(folders) == len(beside["stages"]) and not any("." in name for name in folders)
    assert not any(one["cached"] for one in beside["stages"]) and list(Path("runs/workers").iterdir()) == []
    calls = [one["calls"] for one in beside["stages"]]
    for kind, count in beside["provenance"]["model calls"].items():
        assert count == sum(one.get(kind, 0) for one in calls)
    assert "model calls" in alone["provenance"] and "Traceback" not in capsys.readouterr().err
    for results in (alone, beside):  # of a worker too
        most = max(one["used"].get("memory", 0) for one in results["stages"])
        assert results["provenance"]["memory at most, MB"] >= round(most / 1e6)


def test_the_report_is_one_file_that_needs_nothing_else(finished):
    page = (finished / "runs/mine/report.html").read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert "kind" in page and "Question number" in page


def test_both_arms_train_on_the_same_pairs_in_the_same_order(finished):
    links = json.loads((finished / "runs/mine/links.json").read_text())
    ai, human = links["ai/0"], links["human/0"]
    shared = [stage for stage in ai if ai[stage] == human.get(stage)]
    assert shared == ["data", "helpful", "revised", "sft", "pairs", "everyday"]
    manifests = [json.loads((finished / arm["reward"] / "manifest.json").read_text()) for arm in (ai, human)]
    differing = {key for key in manifests[0]["inputs"] if manifests[0]["inputs"][key] != manifests[1]["inputs"][key]}
    assert differing == {"labels"}


def test_a_policy_that_has_gone_silent_is_judged_by_its_silence(place, monkeypatch):
    """All of one arm's answers are empty, and the other arm cannot answer one prompt: neither is left out unsaid."""
    engine, generate = Workbench.engine, CachedEngine.generate

    def named(self, source, **more):
        made = engine(self, source, **more)
        made.name = source.name
        return made

    def collapsed(self, requests, sampling, title):
        replies = generate(self, requests, sampling, title)
        if title == "answers" and self.name == "ai/0":
            return [Reply("", "stop") for _ in replies]
        return [None, *replies[1:]] if title == "answers" and self.name == "human/0" else replies

    monkeypatch.setattr(Workbench, "engine", named)
    monkeypatch.setattr(CachedEngine, "generate", collapsed)
    for folder in Path("runs/store").glob("respond-*"):
        shutil.rmtree(folder)
    assert main(["mine.yaml"]) == 0
    results = json.loads(Path("runs/mine/results.json").read_text())
    measures = {measure["key"]: measure for measure in results["measures"]}
    assert measures["empty"]["arms"]["ai"]["value"] == 1 and measures["empty"]["arms"]["human"]["n"] == 3
    won = measures["win_rate_vs_sft"]["arms"]["ai"]
    assert (won["value"], won["n"]) == (0, 4)
    assert results["headline"]["estimate"]["value"] == 0
    assert results["headline"]["left_out"] == measures["words"]["difference"]["left_out"] == {"ai": 0, "human": 1}
    assert any("rows fell out: 0 that ai lacks, 1 that human lacks" in warning for warning in results["warnings"])
    counts = {(line["what"], line["arm"]): line for line in results["counts"]}
    assert counts["red-team answers: answers without a word", "ai/0"]["n"] == 4
    aside = counts["red-team answers: prompts set aside: too long for the model", "human/0"]
    assert aside["n"] == 1 and aside["note"].startswith("prompt ")
    assert "rows fell out" in Path("runs/mine/report.html").read_text()


# --- the table of edits -----------------------------------------------------------------------------------------------


def test_nothing_changed_reruns_nothing(place):
    assert planned() == {}


def test_editing_why_reruns_nothing(place):
    edit("law.txt", "Why: Because.", "Why: Because people matter, and for many another reason.")
    edit("law.txt", "Notes for people.", "Other notes.")
    assert planned() == {}


def test_rewrapping_reruns_nothing(place):
    edit("law.txt", "Prefer: Choose the response that is kind.", "Prefer: Choose the\n   response that\nis kind.")
    assert planned() == {}


def test_editing_prefer_reruns_label_reward_policy_of_the_ai_arm_and_what_measures_it(place):
    edit("law.txt", "Choose the response that is kind.", "Choose the response that is kinder.")
    # The audit of revisions revises under opposites, which are those of `Prefer:`: it would run again as well.
    assert planned(["revise.audit=0"]) == {
        "preflight": 1,
        "label_by_judge": 1,
        "train_reward": 1,
        "train_ppo": 1,
        "respond": 3,  # the new policy, on red-team and helpful prompts and XSTest
        "score_pairs": 1,
        "score_answers": 5,  # the new reward model on 4 policies, the other one on the new policy
        "play": 3,  # the new policy against SFT, the start model and the other arm
        "rate_answers": 2,
        "score_items": 1,
        "choose_items": 1,
    }


def test_editing_prefer_under_human_labels_reruns_nothing(place):
    edit("mine.yaml", "  ai: {labels: ai}\n", "")
    assert main(["mine.yaml"]) == 0  # the human arm alone: its games are other games
    edit("law.txt", "Choose the response that is kind.", "Choose the response that is kinder.")
    assert planned(["revise.audit=0"]) == {}


def test_editing_critique_reruns_the_revisions_and_what_learns_from_them_but_no_label(place):
    edit("law.txt", "Say what in the assistant's last response is unkind.", "What is unkind in the last response?")
    stages = planned()
    assert stages["revise"] == 2 and stages["train_sft"] == 1 and stages["train_ppo"] == 2
    assert "label_by_judge" not in stages and "train_reward" not in stages and "load_data" not in stages


def test_ai_to_human_reruns_label_reward_policy_only(place):
    """From a run with `labels: ai` alone, the one-line change."""
    for arm in ("  ai: {labels: ai}\n", "  human: {labels: human}\n", "arms:\n"):
        edit("mine.yaml", arm, "")
    edit("mine.yaml", "seeds: [0]", "seeds: [0]\nlabels: ai")
    assert main(["mine.yaml"]) == 0
    drop_the_rest()  # what the run with both arms left
    edit("mine.yaml", "labels: ai", "labels: human")
    trained = {
        stage: n
        for stage, n in planned().items()
        if not stage.startswith(("respond", "score", "play", "rate", "choose"))
    }
    assert trained == {"label_by_people": 1, "train_reward": 1, "train_ppo": 1}


def test_the_first_release_alone_takes_the_libraries_out_of_garbage_collection(tmp_path):
    gc.unfreeze()  # as in a run: tests/conftest.py has done it for all tests
    freeze_libraries.cache_clear()
    work = Workbench(tmp_path, Runtime(), "cpu")
    work.release()
    libraries = gc.get_freeze_count()
    assert libraries > 10_000
    model = [[] for _ in range(1000)]
    work.release()
    assert gc.get_freeze_count() <= libraries and len(model) == 1000, "a model loaded since can still be collected"


def test_absolute_harmfulness_runs_its_own_stages_alone(place):
    own = {"load_data": 1, "train_harm": 1, "score_ratings": 1, "score_answers": 4}
    assert planned(["evaluate.harmfulness.source=rated-answers"]) == own


def test_runtime_is_in_no_key(place):
    assert planned(["runtime.batch_tokens=128", "runtime.threads=1"]) == {}


def test_after_a_change_of_one_principle_only_its_calls_are_asked_again(place, capsys):
    edit("law.txt", "Choose the response that is kind.", "Choose the response that is kinder.")
    _, work, ran = begun(read_experiment(Path("mine.yaml")), until="train_reward")
    assert ran == ["preflight", "label_by_judge", "train_reward"]
    # 16 pairs x 2 answers x 2 principles, of which the preflight asks the calibration pairs and the label stage the
    # others; what concerns the principle "safe" was answered in the first run. The preflight's 5 pairs are also asked
    # about under the negation of each principle, of which one is new, and under two placebos of each, which are not.
    counts = work.counts()
    assert (counts["asked"], counts["found"]) == (32 + 5 * 2, 32 + 5 * 2 * (1 + 2 * 2)) and counts[
        "tokens read"
    ] > 0 == counts["tokens written"]


JUDGED = "data.calibration=0.3"


@pytest.mark.parametrize(
    "changes",
    [
        ["judge.method=choice", "judge.preflight.consistency=0"],
        ["judge.method=score", "judge.combine=vote"],
        ["judge.method=contrast"],
        ["judge.method=reason", "judge.reason.max_new_tokens=8", "judge.preflight.consistency=0"],
        ['judge.method={"rate": 2, "choice": 1}', "judge.preflight.consistency=0"],
        ["judge.method=auto", "judge.calibrate=true", "judge.reason.max_new_tokens=8", JUDGED],
        [
            *("judge.method=provenance", "pairs.source=opposed", "pairs.prompts=4", "pairs.max_new_tokens=6"),
            *("data.calibration=0", "rl.gold=null"),  # nobody knows which instruction wrote the calibration pairs
        ],
        ['judge.examples={"rate": "examples.jinja"}', "judge.preflight=null"],
    ],
    ids=lambda changes: changes[0].replace("judge.", ""),
)
def test_every_way_of_asking_labels_pairs_in_the_pipeline(place, changes):
    Path("examples.jinja").write_text("## user\nIs it kind?\n\n## assistant\nYes\n")
    edit("mine.yaml", "  human: {labels: human}\n", "")
    experiment = read_experiment(Path("mine.yaml"), changes)
    check(experiment)
    try:
        store, _, _ = begun(experiment, until="train_reward")
    except UserError as error:  # a tiny random judge may turn out to be worse than a coin, and is then stopped
        assert "auto" in changes[0] and ("preflight" in error.problem or "no better than a coin" in error.problem)
        return
    made = {artifact.stage: artifact.path for artifact in store.ledger.values()}
    labels, source = made["label_by_judge"], made.get("sample_pairs", made["load_data"])
    rows = [json.loads(line) for line in (labels / "labels.jsonl").read_text().splitlines()]
    abstained = (labels / "abstained.jsonl").read_text().splitlines()
    pairs = [json.loads(line) for line in (source / "pairs.jsonl").read_text().splitlines()]
    wanted = sum(pair["prompt"]["split"] != "calibration" for pair in pairs)
    assert rows and len(rows) + len(abstained) == wanted and all(0 < row["p_a"] < 1 for row in rows)


SOURCES = {
    "{default: human, file: labels.jsonl}": {"human file"},
    "simulated": {"simulated"},
    "{subsets: {even: ai, odd: human}}": {"ai", "human"},
    "{shares: {ai: 0.5, human: 0.5}, file: labels.jsonl}": {"ai", "human file"},
    "{budget: 3, default: ai, order: uncertain}": {"ai", "human"},
    "{budget: 3, default: simulated}": {"simulated", "human"},
    "shuffled": {"shuffled"},
    "shorter": {"shorter"},
    "{budget: 3, default: shuffled}": {"shuffled", "human"},
    "{shares: {shorter: 0.5, shuffled: 0.5}}": {"shorter", "shuffled"},
}


SOURCE = "{{labels: {0}, simulated: {{pool: [{{}}, {{method: score}}]}}}}"


@pytest.fixture(scope="module")
def sources(finished, tmp_path_factory):
    """One arm, pairs with labels of two people, and a store with all that does not depend on who labels."""
    folder = tmp_path_factory.mktemp("sources")
    begin_from(finished, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        lay_out_labels()
        edit("mine.yaml", "{labels: ai}", SOURCE.format("shuffled"))
        begun(read_experiment(Path("mine.yaml")), until="train_ppo")
    return folder


def lay_out_labels() -> None:
    rows = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    rows = [row | {"id": f"p{n}", "subset": "odd" if n % 2 else "even"} for n, row in enumerate(rows)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = [{"pair_id": f"p{n}", "choice": "ab"[n % 2], "rater": name} for n in range(16) for name in ("ann", "bob")]
    Path("labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said) + '{"pair_id": "p0", "ch')
    edit("mine.yaml", "  human: {labels: human}\n", "")
    edit("mine.yaml", "calibration: 0.25", "calibration: 0")
    edit("mine.yaml", ", gold: {every: 1, prompts: 3}", "")


@pytest.mark.parametrize("labels", SOURCES)
def test_every_source_of_labels_trains_a_reward_model_by_the_same_path(sources, tmp_path, monkeypatch, labels):
    shutil.copytree(sources, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    edit("mine.yaml", SOURCE.format("shuffled"), SOURCE.format(labels))
    experiment = read_experiment(Path("mine.yaml"))
    check(experiment)
    store, _, _ = begun(experiment, until="train_ppo")
    made = {artifact.stage: artifact for artifact in store.ledger.values()}
    manifest = json.loads((made["train_reward"] / "manifest.json").read_text())
    (used,) = manifest["inputs"]["labels"]
    labelled = next(artifact for artifact in store.ledger.values() if artifact.digest == used["digest"])
    found = [json.loads(line) for line in (labelled / "labels.jsonl").read_text().splitlines()]
    assert {row["source"] for row in found} == SOURCES[labels] and len(found) == 16
    assert json.loads((made["train_reward"] / "counts.json").read_text())["training pairs labelled"] == 10
    if "file" in labels:
        (aside,) = (made["label_by_people"] / "set_aside.jsonl").read_text().splitlines()
        assert json.loads(aside)["where"] == "labels.jsonl:33"


def test_a_coin_and_length_are_arms_and_the_report_says_what_share_the_judge_gives(place):
    edit(
        "mine.yaml",
        "  human: {labels: human}\n",
        "  human: {labels: human}\n  length: {labels: shorter}\n  coin: {labels: shuffled}\n",
    )
    assert main(["mine.yaml"]) == 0
    found = json.loads(Path("runs/mine/results.json").read_text())
    shares = found["share"]
    assert (shares["null"], shares["reference"], shares["seeds"]) == ("coin", "human", 1)
    lines = {(line["key"], line["arm"]): line for line in shares["lines"]}
    keys = ("reward_accuracy", "reward_human", "win_rate_vs_sft", "harmlessness")
    assert set(lines) == {(key, arm) for key in keys for arm in ("ai", "length")}
    table = {line["key"]: line["arms"] for line in found["measures"]}
    for (key, arm), line in lines.items():  # the gains are those of the table, where every model could read every row
        assert line["gain"]["value"] == pytest.approx(table[key][arm]["value"] - table[key]["coin"]["value"])
        assert (line["share"] is not None) == (line["form"] == "interval" and line["whole"]["value"] > 0)
    assert shares["sentence"] == lines["reward_accuracy", "ai"]["sentence"]
    named = {(line["name"], line["kind"], line["arm"]) for line in found["labels"] if line["split"] == "test"}
    assert {
        ("a coin", "baseline", "coin"),
        ("the rule that the shorter answer is better", "baseline", "length"),
    } < named
    page = Path("runs/mine/report.html").read_text()
    assert "What share of human labels are the labels worth?" in page and "is labelled by a coin" in page


def test_an_arm_without_a_policy_ends_with_its_reward_model(place, capsys):
    edit(
        "mine.yaml", "  human: {labels: human}\n",
        "  human: {labels: human}\n  coin: {labels: shuffled, rl: {method: none}}\n",
    )  # fmt: skip
    assert main(["mine.yaml"]) == 0
    found = json.loads(Path("runs/mine/results.json").read_text())
    table = {line["key"]: line["arms"] for line in found["measures"]}
    assert table["reward_accuracy"]["coin"]["n"] == table["reward_accuracy"]["ai"]["n"] > 0
    assert [key for key, arms in table.items() if "coin" in arms] == ["reward_accuracy"]
    assert {row["policy"] for row in found["elo"]} == {"start", "sft", "ai/0", "human/0"}
    assert "policy" not in json.loads(Path("runs/mine/links.json").read_text())["coin/0"]
    # The share is given of what every arm has; it stands in the first sentence.
    assert {(line["key"], line["arm"]) for line in found["share"]["lines"]} == {("reward_accuracy", "ai")}
    assert found["share"]["sentence"] in html.unescape(Path("runs/mine/report.html").read_text())
    made = [stage["stage"] for stage in found["stages"]]
    assert made.count("train_reward") == 3 and made.count("train_ppo") == 2

    edit("mine.yaml", "  coin: {labels: shuffled, rl: {method: none}}\n", "  none: {labels: ai, rl: {method: none}}\n")
    edit("mine.yaml", "  ai: {labels: ai}\n", "  ai: {labels: ai, rl: {method: none}}\n")
    with pytest.raises(UserError, match=r"(?s)mine.yaml:\d+.*arm ai has no policy .*after two that have one"):
        main(["mine.yaml"])


def test_reward_models_alone_are_an_experiment(place, capsys):
    edit("mine.yaml", "rl: {steps: 2, ", "rl: {method: none, steps: 2, ")
    assert main(["mine.yaml"]) == 0
    found = json.loads(Path("runs/mine/results.json").read_text())
    assert found["headline"] is None and {row["policy"] for row in found["elo"]} == {"start", "sft"}
    assert {stage["stage"] for stage in found["stages"]} & {"train_ppo", "play"} == {"play"}, "the SFT policy's game"
    text = " ".join(capsys.readouterr().out.split())
    assert "No policy was trained (rl.method: none). Of held-out pairs, reward models agree with people on: ai" in text


def test_rounds_go_on_from_the_last_policy_and_learn_from_all_labels(place, capsys):
    edit("mine.yaml", "  human: {labels: human}\n", "")
    fresh = ["rounds=2", "pairs.source=policy", "pairs.prompts=4", "pairs.max_new_tokens=6"]
    fresh += ["reward.epochs=4"]  # of one step each, the first at a rate of 0 (warm-up)
    assert main(["mine.yaml", *(f"--set={one}" for one in fresh)]) == 0
    results = json.loads(Path("runs/mine/results.json").read_text())
    one, two = results["rounds"]
    assert (one["round"], two["round"]) == (1, 2) and one["keys"] != two["keys"]
    for row in (one, two):
        assert row["win_rate_vs_sft"]["n"] == 4 == row["reward"]["n"] and row["labels"] == row["pairs"] > 0
    lines = {line["key"]: {at["round"]: at for at in line["points"]} for line in results["over_rounds"]}
    assert {key: list(points) for key, points in lines.items()} == {
        "harmlessness": [0, 1, 2], "reward_last": [0, 1, 2], "reward_own": [1, 2], "people": [1, 2], "fresh": [1, 2],
        "before": [2], "kl": [0, 1, 2], "words": [0, 1, 2],
    }  # fmt: skip
    last = next(line for line in results["measures"] if line["key"] == "harmlessness")["arms"]["ai"]
    assert lines["harmlessness"][2]["estimate"] == last and lines["reward_last"][2]["estimate"] == two["reward"]
    assert lines["kl"][0]["estimate"]["value"] == 0 and lines["kl"][2]["estimate"]["n"] == 4
    assert lines["people"][1]["estimate"]["n"] > 0 and [lines["words"][n]["labels"] for n in (0, 1, 2)] == [0, 4, 8]

    def manifest(stage, row):
        name = {"pairs": "sample_pairs", "reward": "train_reward", "policy": "train_ppo"}[stage]
        return json.loads(Path(f"runs/store/{name}-{row['keys'][stage]}/manifest.json").read_text())

    first = {"digest": manifest("policy", one)["digest"]}
    assert manifest("pairs", two)["inputs"]["model"] == first == manifest("policy", two)["inputs"]["sft"]
    pairs = [{"digest": manifest("pairs", row)["digest"]} for row in (one, two)]
    assert (
        manifest("reward", one)["inputs"]["pairs"] == pairs[:1] and manifest("reward", two)["inputs"]["pairs"] == pairs
    )
    links = json.loads(Path("runs/mine/links.json").read_text())["ai/0"]
    assert links["policy"].endswith(two["keys"]["policy"])
    assert links["round 1"]["policy"].endswith(one["keys"]["policy"])
    assert "Round by round" in Path("runs/mine/report.html").read_text()
    assert any(row["what"].startswith("policy of round 1") for row in results["counts"])
    capsys.readouterr()
    assert main(["mine.yaml", "--plan", *(f"--set={one}" for one in fresh)]) == 0
    out = capsys.readouterr().out
    assert "arm ai: labels by the AI judge; 2 rounds" in out and "0 of" in out


def test_policies_on_the_way_change_no_number_but_ratings(place):
    before = json.loads(Path("runs/mine/results.json").read_text())
    assert before["snapshots"] == [] and "along RL training" not in Path("runs/mine/report.html").read_text()
    assert main(["mine.yaml", "--set", "rl.snapshots=1"]) == 0
    after = json.loads(Path("runs/mine/results.json").read_text())
    own = ("elo", "snapshots", "counts", "stages", "provenance")
    assert {key: after[key] for key in after if key not in own} == {
        key: before[key] for key in before if key not in own
    }
    assert {row["policy"] for row in after["elo"]} == {row["policy"] for row in before["elo"]}
    rows = {(row["policy"], row["rollout"]): row for row in after["snapshots"]}
    kept = {plot["arm"]: plot["lines"][0]["kept"] for plot in after["overoptimisation"]}
    ends = [place for arm in ("ai", "human") for place in (("sft", 0), (f"{arm}/0 at 1", 1), (f"{arm}/0", kept[arm]))]
    assert set(rows) == set(ends) and len(after["snapshots"]) == 6
    # Two games of 4 prompts: against the SFT policy and against the last policy.
    assert rows["ai/0 at 1", 1]["elo"]["n"] == 8 and rows["ai/0 at 1", 1]["helpfulness"]["n"] == 2
    rated = {row["policy"]: row["elo"] for row in after["elo"]}
    assert rows["ai/0", kept["ai"]]["elo"] == rated["ai/0"]
    known = {(row["what"], row["arm"]): row for row in after["counts"]}
    assert all(known[row["what"], row["arm"]] == row for row in before["counts"])
    page = Path("runs/mine/report.html").read_text()
    assert "Elo along RL training" in page and "ai/0 at 1" in page
    assert planned(["rl.snapshots=1"]) == {}


def test_a_second_run_asks_no_model(place, capsys):
    began = time.monotonic()
    assert main(["mine.yaml"]) == 0
    assert time.monotonic() - began < 120  # the whole comparison again, no stage
    results = json.loads(Path("runs/mine/results.json").read_text())
    assert all(stage["cached"] for stage in results["stages"])
    assert "ai beats human in" in " ".join(capsys.readouterr().out.split())


def test_the_plan_prints_each_stage(place, capsys, monkeypatch):
    monkeypatch.setattr("cai.experiment.command.begin", None)  # the state of the code is read for a run alone
    edit("law.txt", "Choose the response that is kind.", "Choose the response that is kinder.")
    assert main(["mine.yaml", "--plan", "--all"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"cached +revise +[0-9a-f]{16} +took", out)
    assert re.search(r"to run +label_by_judge +[0-9a-f]{16} +about \d+ s\n", out)
    # Stages of every name have run here; the tiny policies' answers are alike, so no game has asked the judge yet, but
    # there are others that ask it.
    assert "unknown" not in out and not any(line.endswith("*") for line in out.splitlines())
    # The label, what follows it and what measures it (20), and the audit, whose opposites are those of `Prefer:` (2).
    assert "22 of" in out and "stages to run on cpu" in out


# --- faults -----------------------------------------------------------------------------------------------------------


def faulty(*arguments: str) -> str:
    """Run the command and expect a clear refusal: exit code 2 and no traceback."""
    with redirect_stderr(StringIO()) as said:
        assert run_main(main, arguments) == 2, said.getvalue()
    assert "Traceback" not in said.getvalue() and "error: " in said.getvalue()
    return said.getvalue()


def test_faults_are_clear(place):
    assert faulty("nope.yaml").startswith("error: nope.yaml: no such file")
    assert "mine.yaml:2" not in faulty("mine.yaml", "--set", "constitution=missing.txt")
    said = faulty("mine.yaml", "--set", "constitution=missing.txt", "--set", "data.source=gone.jsonl")
    assert "missing.txt" in said and 'there is no data source "gone.jsonl"' in said  # both at once
    assert 'did you mean "tiny-random"?' in faulty("mine.yaml", "--set", "judge.model=tiny-randon")
    assert 'unknown key "stepz" in rl' in faulty("mine.yaml", "--set", "rl.stepz=3")


def test_human_labels_that_nobody_gave(place):
    rows = [json.loads(line) | {"human": None} for line in Path("pairs.jsonl").read_text().splitlines()]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    experiment = read_experiment(Path("mine.yaml"), ['arms={"human": {"labels": "human"}}'])
    with pytest.raises(UserError, match="labels: human, but no person has judged these pairs"):
        run(experiment, Store(Path("runs")), Workbench.open(experiment.runtime))


def test_a_malformed_row_is_set_aside_and_named_with_its_line(place, capsys):
    with Path("pairs.jsonl").open("a") as file:
        file.write('{"prompt": "x", "a": "y"}\n{"prompt": ')
    assert run_main(main, ["mine.yaml"]) == 0
    said = capsys.readouterr().err
    assert "pairs.jsonl:17" in said and "a half-written last line: pairs.jsonl:18" in said


def test_a_broken_constitution_is_found_before_anything_runs(place):
    edit("law.txt", "Prefer: Choose the response that is kind.", "Perfer: Choose the response that is kind.")
    experiment = read_experiment(Path("mine.yaml"))
    with pytest.raises(UserError) as error:
        check(experiment)
    assert re.search(r"law\.txt:\d+: ", str(error.value)) and "Prefer" in str(error.value)


def test_a_full_disk_is_said_plainly(monkeypatch, capsys):
    def full(argv):
        raise OSError(28, "No space left on device", "runs/store/x")

    assert run_main(full, []) == 2
    assert "runs/store/x: the disk is full" in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_done(finished, tmp_path, monkeypatch):
    """Interrupted in the middle: exit code 130, no traceback, and the next run goes on from there."""
    begin_from(finished, tmp_path, "calls")  # so that it comes to SFT sooner
    command = [sys.executable, "-m", "cai.experiment", "mine.yaml", "--set", "sft.epochs=10000"]  # not done by then
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    seen = ""
    for line in process.stderr:
        seen += line
        if "train sft" in line:
            break
    store = tmp_path / "runs/store"
    while not list(store.glob("train_sft-*.unfinished")):  # while it imports, libraries may catch it
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in seen + rest and "interrupted" in rest
    assert not list((tmp_path / "runs/store").glob("train_sft-*/manifest.json"))
    monkeypatch.chdir(tmp_path)
    stages = planned()
    assert stages["revise"] == 1  # the held-out traces alone
    assert "load_data" not in stages and stages["train_sft"] == 1


def test_a_killed_ppo_goes_on_from_its_last_rollout(place, monkeypatch):
    """Killed in each policy's second rollout, then run again: the first is not repeated, and the result is the same."""
    from cai.train.rl.ppo import PPOTrainer

    made = sorted(Path("runs/store").glob("train_ppo-*"))
    digests = {folder.name: json.loads((folder / "manifest.json").read_text())["digest"] for folder in made}
    assert len(digests) == 2
    for folder in made:
        shutil.rmtree(folder)
    rollouts, deadly = [], [1, 4]  # counted from 0 over all attempts: the second one of each policy
    sample = PPOTrainer._generate_and_score_completions

    def killed(self, inputs):
        rollouts.append(self.state.global_step)
        if len(rollouts) - 1 in deadly:
            raise KeyboardInterrupt
        return sample(self, inputs)

    monkeypatch.setattr(PPOTrainer, "_generate_and_score_completions", killed)
    for _ in deadly:
        with pytest.raises(KeyboardInterrupt):
            main(["mine.yaml"])
        assert len(list(Path("runs/store").glob("train_ppo-*.unfinished/checkpoint-1"))) == 1
    assert main(["mine.yaml"]) == 0
    # First arm: rollout 0, killed in 1, then 1 alone; second arm as well.
    assert rollouts == [0, 1, 1, 0, 1, 1]
    again = {folder.name: json.loads((folder / "manifest.json").read_text())["digest"] for folder in made}
    assert again == digests
    assert sorted(Path("runs/store").glob("train_ppo-*")) == made, "the checkpoints are gone"
