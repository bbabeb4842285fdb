"""A judge method is one file and one prompt: here is one, dropped into a copy of the package, and asked for by name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cai
from cai.config.methods import NAMES
from cai.judge import methods

FILE = """
from cai.judge.ballots import Alone, method_alone, rendered
from cai.models.engines import Question

def questions(messages, answer, principle, templates):
    return (Question(rendered("true", templates, messages, principle, answer=answer), ("True", "False")),)

METHOD = method_alone("true", 8, Alone(questions, lambda logprobs: logprobs[0] - logprobs[1]))
"""
PROMPT = (
    "## user\n{{ messages | transcript }}\nAssistant: {{ answer | indented }}\nTrue or false: {{ principle.prefer }}"
)
COMMAND = "-m cai.judge bench pairs.jsonl --model tiny-random --constitution mine.txt --method true --cache runs"


def test_a_new_method_judges_pairs(tmp_path: Path, tiny) -> None:
    others = shutil.ignore_patterns("__pycache__")  # which other tests' programs write to
    shutil.copytree(Path(cai.__file__).parent, tmp_path / "cai", ignore=others)
    (tmp_path / "cai/judge/methods/true.py").write_text(FILE)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/true.jinja").write_text(PROMPT)
    (tmp_path / "mine.txt").write_text("- It is kind.\n")
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "Hi?", "a": "Yes.", "b": "No, never.", "human": 1}\n')
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = [sys.executable, *COMMAND.split()]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "true" in done.stdout and "longer answer" in done.stdout


def test_what_a_config_may_name_is_what_there_is() -> None:
    assert set(NAMES) == set(methods.METHODS)
    asking = ("rate", "choice", "score", "contrast", "reason", "channel")
    assert tuple(methods.METHODS) == (*asking, "provenance", "check", "rubric") and asking == methods.ASKING
