"""`judge.rubric` in the YAML: its short form, what it stands beside, and what is refused, with its line."""

from pathlib import Path

import pytest

from cai.config.load import read_experiment
from cai.core.errors import UserError

FILE = """constitution: constitutions/quickstart.txt
data: {source: rated-answers}
rl: {method: none}
judge:
"""


def read(tmp_path: Path, text: str):
    file = tmp_path / "mine.yaml"
    file.write_text(FILE + text)
    return next(iter(read_experiment(file).arms.values()))


def test_a_path_is_short_for_a_file_and_makes_the_method(tmp_path) -> None:
    for text in (
        "  rubric: r.jsonl\n",
        "  {method: rubric, rubric: {file: r.jsonl}}\n",
        "  {method: channel, rubric: r.jsonl}\n",
    ):
        judge = read(tmp_path, text).judge
        assert (
            judge.rubric and judge.rubric.file == "r.jsonl" and judge.rubric.write is None and judge.method == "rubric"
        )
        assert "rubric" not in judge.model_dump()
    judge = read(tmp_path, "  rubric: {write: {}}\n").judge
    assert judge.rubric and judge.rubric.write and judge.rubric.write.criteria == 5
    assert str(judge.rubric) == "5 criteria written for each prompt"


def test_an_arm_may_go_without_the_files_rubric(tmp_path) -> None:
    arm = read(tmp_path, "  rubric: r.jsonl\narms:\n  a: {judge: {rubric: null}}\n  b: {}\n")
    assert arm.judge.rubric is None and arm.judge.method == "rate"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("  rubric: {}\n", 5, "rubric names no criteria"),
        ("  rubric: {file: r.jsonl, write: {}}\n", 5, "rubric.file has criteria"),
        ("  rubric: 3\n", 5, "rubric must be text or a section of keys"),
        ("  rubric: {write: {criteria: 0}}\n", 5, "criteria must be a whole number from 1 to 20"),
        ("  rubric: {flie: r.jsonl}\n", 5, 'unknown key "flie"'),
        ("  method: rubric\n", 5, "there are no criteria"),
        ("  method: {rubric: 1, rate: 1}\n", 5, "scores by criteria"),
        ("  {rubric: r.jsonl, panel: [{}, {turns: 1}]}\n", 5, "panel is of a judge that reads a constitution"),
        ("  {rubric: r.jsonl, attacks: 4}\n", 5, "attacks is of a judge"),
        ("  {rubric: r.jsonl, slim: {how: wanda}}\n", 5, "slim is of a judge"),
        ("  {panel: [{}, {method: rubric}]}\n", 5, "scores by criteria"),
        ("  {}\nevaluate: {judge: {method: rubric}}\n", 6, "scores by criteria"),
        ("  {rubric: r.jsonl}\ncriteria: {good: {constitution: c.txt}}\n", 5, "would label all criteria alike"),
    ],
)
def test_what_is_refused(tmp_path, text, line, problem) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    error = getattr(caught.value, "errors", (caught.value,))[0]
    assert problem in error.problem and error.where == f"{tmp_path / 'mine.yaml'}:{line}", str(caught.value)


def test_one_of_several_criteria_may_have_a_rubric(tmp_path) -> None:
    arm = read(
        tmp_path,
        "  {method: channel}\ncriteria: {good: {constitution: c.txt}, scored: {constitution: d.txt, rubric: r.jsonl}}",
    )
    views = arm.by_criterion()
    assert views["good"].judge.rubric is None and views["good"].judge.method == "channel"
    assert views["scored"].judge.rubric and views["scored"].judge.method == "rubric"
