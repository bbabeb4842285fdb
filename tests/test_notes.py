"""What a report says of where it comes from: how the arms differ, and which code made it."""

import subprocess
from pathlib import Path

from cai.compare.notes import differences
from cai.compare.provenance import commit
from cai.config import read_experiment

CONFIG = """
question: What differs?
constitution: constitutions/short.txt
seeds: [0]
arms:
  ai: {labels: ai}
  human: {labels: human}
  long: {labels: {ai: 0.9, human: 0.1}, rl: {steps: 9}, judge: {temperature: 2.0}}
  dpo: {rl: {method: dpo}}
policy: {model: tiny-random}
data: {source: rated-answers}
"""


def test_differences_of_the_arms_are_named_as_the_command_line_names_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    (tmp_path / "one.yaml").write_text(CONFIG)
    human, long, dpo = differences(read_experiment(tmp_path / "one.yaml"))
    assert (human["arm"], human["from"], [key["key"] for key in human["keys"]]) == ("human", "ai", ["labels"])
    assert human["keys"][0]["from"] == "the AI judge" and human["keys"][0]["to"] == "people"
    assert sorted(key["key"] for key in long["keys"]) == ["judge.temperature", "labels", "rl.steps"]
    (steps,) = [key for key in long["keys"] if key["key"] == "rl.steps"]
    assert steps["to"] == "9" != steps["from"]
    # No key of a stage holds `rl.method`, and yet it is what differs.
    assert dpo["keys"] == [{"key": "rl.method", "from": "ppo", "to": "dpo"}]
    read_back = read_experiment(tmp_path / "one.yaml", [f"rl.steps={steps['to']}"])
    assert "rl.steps" not in {key["key"] for key in differences(read_back)[1]["keys"]}


def test_commit_of_the_code_and_whether_it_was_changed(tmp_path: Path) -> None:
    assert commit(tmp_path) == {"git commit": "not known"}

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "code.py").write_text("1")
    git("add", "-A")
    git("commit", "-qm", "one")
    assert commit(tmp_path) == {"git commit": git("rev-parse", "HEAD"), "changed since": "no"}
    (tmp_path / "code.py").write_text("2")
    assert commit(tmp_path)["changed since"] == "yes"
