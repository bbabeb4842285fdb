"""What a report says of where it comes from: how the arms differ, and which code made it."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cai.compare.sections.notes import differences, in_more_than_one_thing
from cai.compare.sections.provenance import CODE, begin, code_of
from cai.compare.sections.watched import said_once, warnings
from cai.config.load import Arm, read_experiment
from cai.config.runtime import Runtime
from cai.models.workbench import Workbench

CONFIG = """
question: What differs?
constitution: constitutions/short.txt
seeds: [0]
arms:
  ai: {labels: ai}
  human: {labels: human}
  long: {labels: {shares: {ai: 0.9, human: 0.1}}, rl: {steps: 9}, judge: {temperature: 2.0}}
  dpo: {rl: {method: dpo}}
  unseen: {judge: {preflight: null}}
policy: {model: tiny-random}
data: {source: rated-answers}
"""


def test_differences_of_the_arms_are_named_as_the_command_line_names_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    (tmp_path / "one.yaml").write_text(CONFIG)
    human, long, dpo, unseen = differences(read_experiment(tmp_path / "one.yaml"))
    assert (human["arm"], human["from"], [key["key"] for key in human["keys"]]) == ("human", "ai", ["labels"])
    assert human["keys"][0]["from"] == "the AI judge" and human["keys"][0]["to"] == "people"
    assert sorted(key["key"] for key in long["keys"]) == ["judge.temperature", "labels", "rl.steps"]
    (steps,) = [key for key in long["keys"] if key["key"] == "rl.steps"]
    assert steps["to"] == "9" != steps["from"]
    # No key of a stage holds `rl.method`, and yet it is what differs.
    assert dpo["keys"] == [{"key": "rl.method", "from": "ppo", "to": "dpo"}]
    assert unseen["keys"] == [{"key": "judge.preflight", "from": "{…}", "to": "null"}]
    read_back = read_experiment(tmp_path / "one.yaml", [f"rl.steps={steps['to']}"])
    assert "rl.steps" not in {key["key"] for key in differences(read_back)[1]["keys"]}


def test_judges_of_panels_differ_setting_by_setting(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    panels = "".join(
        f"  {name}: {{judge: {{panel: {{judges: [{{}}, {{method: {method}}}]}}}}}}\n"
        for name, method in (("p", "choice"), ("q", "score"))
    )
    (tmp_path / "one.yaml").write_text(CONFIG[: CONFIG.index("  ai:")] + panels + CONFIG[CONFIG.index("policy:") :])
    (found,) = differences(read_experiment(tmp_path / "one.yaml"))
    assert found["keys"] == [{"key": "judge.panel.judges.1.method", "from": "choice", "to": "score"}]


def test_an_arm_that_ends_with_its_reward_model_is_not_said_to_differ_in_its_rl(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    coin = "  coin: {labels: shuffled, rl: {method: none}}\n  both: {judge: {turns: 1}, rl: {method: none}}\n"
    (tmp_path / "one.yaml").write_text(CONFIG.replace("policy:", f"{coin}policy:", 1))
    assert in_more_than_one_thing(read_experiment(tmp_path / "one.yaml")) == [
        "Arm long differs from ai in more than labels: judge, rl.",
        "Arm dpo differs from ai in more than labels: rl.",
        "Arm unseen differs from ai in more than labels: judge.",
        "Arm both differs from ai in more than labels: judge.",
    ]


def test_commit_of_the_code_and_what_was_changed_in_it(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    assert code_of(package)["git commit"] == "not known" and "changed since" not in code_of(package)

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "other.py").write_text("1")
    (package / "code.py").write_text("1")
    git("add", "other.py")
    git("commit", "-qm", "somebody else's project, with the package installed inside it")
    assert code_of(package)["git commit"] == "not known"
    (package / "inner" / "page.jinja").write_text("1")
    git("add", "-A")
    git("commit", "-qm", "one")
    clean = code_of(package, tmp_path / "prompts")
    assert clean["git commit"] == git("rev-parse", "HEAD") and clean["changed since"] == "no"
    (tmp_path / "other.py").write_text("2")
    assert code_of(package, tmp_path / "prompts") == clean
    (package / "inner" / "page.jinja").write_text("2")
    (package / "new.py").write_text("")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "judge.jinja").write_text("")
    found = code_of(package, tmp_path / "prompts")
    for file in ("package/inner/page.jinja", "package/new.py", "prompts/judge.jinja"):
        assert file in found["changed since"]
    assert found["sha256 of the package"] != clean["sha256 of the package"]


def test_the_code_of_a_run_is_the_whole_package() -> None:
    assert (CODE / "judge" / "asking.py").is_file() and (CODE / "compare" / "sections" / "provenance.py").is_file()
    assert set(begin().code) >= {"git commit", "sha256 of the package"}


def test_a_constitution_is_read_once_in_a_run(tmp_path: Path) -> None:
    file, work = tmp_path / "law.txt", Workbench.open(Runtime(root=str(tmp_path / "runs"), device="cpu"))
    file.write_bytes(b"- Be kind.\r\n")
    law = work.constitution(str(file))
    assert law.text == "- Be kind.\n"
    file.write_text("- Be unkind.\n")
    assert work.constitution(str(file)) is law
    assert {path: one.text for path, one in work.constitutions.items()} == {str(file): "- Be kind.\n"}


def test_gold_by_the_model_that_labelled_an_arm_is_said() -> None:
    def cell(labels: str, gold: bool, model: str = "tiny-random") -> Any:
        given = {"constitution": "x.txt", "labels": labels, "data": {"source": "rated-answers", "calibration": 0.2}}
        given |= {"rl": {"gold": {"keep": "last"}} if gold else {}, "judge": {"model": model}}
        arm = Arm.model_validate(given | {"evaluate": {"judge": {"model": "tiny-random"}}})
        return SimpleNamespace(settings=arm, policy=Path("gone"), arm="ai", seed=0)

    said = "The gold reward is by the model that also labelled the AI arm: what fools that model looks like gold."
    assert warnings([cell("human", True), cell("ai", True)]) == [said]
    assert warnings([cell("human", True), cell("ai", False)]) == []
    assert warnings([cell("ai", True, "smollm2-135m")]) == []


def test_what_is_said_of_several_runs_is_said_once() -> None:
    said = [("ai", 0, ": up."), ("ai", 1, ": up."), ("ai", 2, ": down."), ("human", 1, ": up."), ("ai", 4, ": up.")]
    assert said_once(said) == ["Arm ai, seeds 0, 1 and 4; arm human, seed 1: up.", "Arm ai, seed 2: down."]
    assert said_once([]) == []
