"""A judge method is one file and one prompt: here is one, added and used."""

from dataclasses import replace
from pathlib import Path

from fakes import asked_judge

from cai.config.methods import NAMES
from cai.config.sections import Judge, Runtime
from cai.constitution import Judging
from cai.core.records import Label, Message, Pair, Prompt
from cai.judge import methods
from cai.judge.asking import judge_pairs
from cai.models.references import find
from cai.models.workbench import Workbench

FILE = """
from cai.judge.ballots import Alone, method_alone, rendered
from cai.models.engines import Question

def questions(messages, answer, principle, templates):
    return (Question(rendered("true", templates, messages, principle, answer=answer), ("True", "False")),)

METHOD = method_alone("true", 8, Alone(questions, lambda logprobs: logprobs[0] - logprobs[1]))
"""
PROMPT = (
    "## user\n{{ messages | transcript }}\nAssistant: {{ answer | indented }}\nTrue or false: {{ principle.prefer }}\n"
)


def test_a_new_method_labels_pairs(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "true.py").write_text(FILE)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/true.jinja").write_text(PROMPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.setitem(methods.METHODS, "true", methods._found()["true"])
    pair = Pair("one", Prompt("p", (Message("user", "Hi?"),), "", "train"), "Yes.", "No, never.")
    settings = Judge(model="tiny-random", min_mass=0).model_copy(update={"method": "true"})
    judge = replace(asked_judge(settings, [Judging("kind", "It is kind.", (), 1.0)]), model=find("tiny-random"))
    engine = judge.engine(Workbench.open(Runtime(root=str(tmp_path / "runs"), device="cpu")))
    (label,) = judge_pairs(engine, [pair], judge, title="")
    assert isinstance(label, Label) and label.votes[0].method == "true" and len(label.votes[0].logprobs) == 4


def test_what_a_config_may_name_is_what_there_is() -> None:
    assert set(NAMES) == set(methods.METHODS)
    assert tuple(methods.METHODS) == ("rate", "choice", "score", "contrast", "reason", "channel", "provenance")
