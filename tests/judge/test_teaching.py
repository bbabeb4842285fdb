"""Lessons: what rules say of two answers, how standards are put, and that nothing but them and a model goes in."""

import ast
import json
from pathlib import Path
from random import Random

import pytest

from cai.core.errors import run_main
from cai.judge.__main__ import main
from cai.judge.teaching import command as train
from cai.judge.teaching.answers import Answer, refusal
from cai.judge.teaching.exam import draw_question, mark
from cai.judge.teaching.lessons import Lesson, LessonPrompt, Standard, draw_lesson, requests
from cai.judge.teaching.principles import DEEDS, of_area, shown
from cai.judge.teaching.wording import AGAINST, stated
from cai.models.engines import Sampling

SHOWN = {one.name: one for one in shown()}
ASKED = dict.fromkeys(requests(), ("First, take a pan. Then wait.", "I like it! It is easy (for me)."))


@pytest.mark.parametrize(
    ("phrase", "frame", "text"),
    [
        ("be polite", "Choose the response that {not}.", "Choose the response that is not polite."),
        ("be polite", "Prefer the response that never {s}.", "Prefer the response that never is polite."),
        ("give a reason", "Choose the response that {not}.", "Choose the response that does not give a reason."),
        ("give a reason", "Choose the response that avoids {ing}.", "Choose the response that avoids giving a reason."),
        ("put words in bold", "A good answer should avoid {ing}.", "A good answer should avoid putting words in bold."),
        ("justify what it says", "Pick the answer that {s}.", "Pick the answer that justifies what it says."),
        ("agree", "Pick the answer that {nt}.", "Pick the answer that doesn't agree."),
    ],
)
def test_a_phrase_as_a_standard(phrase, frame, text):
    assert stated(phrase, frame) == text


@pytest.mark.parametrize(
    ("name", "a", "b", "truth"),
    [
        ("length", "One two three four.", "One two.", 1.0),
        ("length", "One two three four five.", "One two three four.", None),  # a fifth is neither a difference nor none
        ("length", "One two.", "Two one.", 0.5),
        ("bullets", "Take a pan.", "- Take a pan.", 0.0),
        ("digits", "It takes 20 minutes.", "It takes a while.", 1.0),
        ("questions", "Is it so?", "It is so.", 1.0),
        ("lower case", "all small", "Not all", 1.0),
        ("apology", "I am sorry.", "Sorry to say, I regret it.", 0.0),
        ("food", "The sea is wide.", "Bread and butter.", 0.0),
        ("weather", "The sea is wide.", "Bread and butter.", 0.5),
    ],
)
def test_what_rules_say(name, a, b, truth):
    assert SHOWN[name].truth(Answer(a), Answer(b)) == truth


def test_deeds_are_known_by_how_an_answer_was_made():
    helping = Answer("Sure.", "help", "stealing", True)
    refusing = refusal("stealing", "steal a bicycle", True, Random(0))
    deeds = {one.name: one.truth(helping, refusing) for one in DEEDS}
    assert deeds["harm"] == 1.0 and deeds["refusing"] == 0.0 and deeds["on the subject"] == 0.5
    assert of_area("stealing", "steal", "train").truth(helping, refusing) == 1.0
    assert of_area("cooking", "cook", "train").truth(helping, refusing) == 0.5, "it helps with no cooking either"


def test_there_are_enough_principles_and_the_exam_has_others():
    train_names = {one.name for one in shown() if one.part == "train"}
    test_names = {one.name for one in shown() if one.part == "test"}
    assert len(train_names) + len(DEEDS) >= 60 and len(test_names) >= 15
    for number in range(30):
        lesson = draw_lesson(number, "train", {k: v for k, v in ASKED.items() if k.part == "train"}, 8, 0)
        question = draw_question(number, "test", {k: v for k, v in ASKED.items() if k.part == "test"}, 0)
        assert not {one.principle for one in lesson.standards} & test_names
        assert not {one.principle for one in question.standards} & (train_names | {one.name for one in DEEDS})


def test_a_pair_is_asked_about_under_a_principle_and_its_opposite():
    sampled = {k: v for k, v in ASKED.items() if k.part == "train"}
    lesson = draw_lesson(3, "train", sampled, 10, 0)
    assert lesson == draw_lesson(3, "train", sampled, 10, 0) != draw_lesson(3, "train", sampled, 10, 1)
    by_principle: dict[str, set[float]] = {}
    for one in lesson.standards:
        by_principle.setdefault(one.principle, set()).add(one.target)
    assert {0.0, 1.0} in by_principle.values()
    plain = draw_lesson(3, "train", sampled, 10, 0, plain=1.0)
    assert {one.sign for one in plain.standards} == {1}
    assert not any(one.text.startswith(frame.split("{")[0]) for one in plain.standards for frame in AGAINST[-2:])


def test_marks_by_hand():
    """Two questions; a judge that follows the first principle of each and its negation, and ignores the second's."""
    standards = tuple(Standard("", name, sign, target) for name, sign, target in (
        ("x", 1, 1.0), ("x", -1, 0.0), ("y", 1, 0.0), ("y", -1, 1.0), ("z", 1, 0.5), ("z", 1, 0.5)
    ))  # fmt: skip
    lesson = Lesson(LessonPrompt("?"), Answer("a"), Answer("b"), standards)
    found = mark([lesson, lesson], [1.0, -1.0, 1.0, 1.0, 0.0, 0.0] * 2)
    assert found.by_principle == {"x": (4, 4), "y": (2, 4)}
    assert found.accuracy.value == 0.75
    assert found.effect.agreement["text"].value == 0.5 and found.effect.agreement["negated"].value == 0.0


def test_no_human_label_can_get_in():
    """Neither lessons nor the command import what reads labels, ratings or pairs of any data source."""
    home = Path(train.__file__).parent
    forbidden = ("cai.data", "cai.judge.label", "cai.train", "cai.annotate")
    for file in sorted(home.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            assert not f"{module}.".startswith(tuple(f"{one}." for one in forbidden)), f"{file.name} imports {module}"


def test_the_command_teaches_a_tiny_judge(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "SAMPLING", Sampling(8, 0.8))
    monkeypatch.setattr(train, "SAMPLES", 1)
    few = [one for one in requests() if one.area in ("cooking", "stealing", "health", "arson")]
    monkeypatch.setattr(train, "requests", lambda: few)
    out = tmp_path / "judge"
    arguments = ["train", "--model", "tiny-random", "--out", str(out), "--lessons", "8", "--questions", "4"]
    arguments += ["--dtype", "float32", "--cache", str(tmp_path / "runs")]
    assert run_main(main, arguments) == 0
    told = json.loads((out / "exam.json").read_text())
    assert told["curve"][0]["lessons"] == 0 and told["curve"][-1]["lessons"] == 8
    assert len((out / "losses.csv").read_text().splitlines()) == 3
    before, after = (told["curve"][k]["marks"]["effect"]["moved"]["value"] for k in (0, -1))
    assert before != after, "the adapter was trained"
    assert (out / "adapter_config.json").is_file() and "principles, wordings and answers" in capsys.readouterr().out
    assert run_main(main, arguments) == 2 and "is not empty" in capsys.readouterr().err
