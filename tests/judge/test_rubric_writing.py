"""Rubrics that a model writes: what is read of a reply, what is dropped, and what the stage leaves."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedJudge
from test_judging import pair
from test_preflight import Bench, folder

from cai.config.panel import ArmJudge
from cai.config.rubric import WrittenRubric
from cai.constitution import Judging
from cai.core.errors import UserError
from cai.core.records import write_jsonl
from cai.core.store import Artifact, digest_of, keyed
from cai.core.templates import load_template
from cai.data.rubrics import read_rubrics
from cai.judge.rubric_writing import AGAIN, CUT, NO_FORM, NOTHING, OVER, RubricWriter, criteria_for, read_criteria
from cai.judge.rubric_writing import write_rubrics as stage
from cai.models.engines import Reply
from cai.models.references import ModelRef

RULES = (
    Judging("kind", "Choose the response that is kind.", (), 1.0),
    Judging("safe", "Choose the response that is safe.", ("weapons",), 1.0),
)
GOOD = """+8: It tells the human to see a doctor soon.
- +4: It is kind about the worry.
3. −6 : It names a dose. | only if: it names a medicine
"""


def test_a_criterion_a_line() -> None:
    items, dropped = read_criteria(Reply(GOOD, "stop"), 5)
    assert [(item.criterion, item.points, item.only_if) for item in items] == [
        ("It tells the human to see a doctor soon.", 8.0, ""),
        ("It is kind about the worry.", 4.0, ""),
        ("It names a dose.", -6.0, "it names a medicine"),
    ]
    assert not dropped and {item.tags for item in items} == {("written",)}


@pytest.mark.parametrize(
    "line",
    [
        "Here are 3 criteria:",
        "8: It tells the human to see a doctor.",  # no sign: is it for or against?
        "+0: It tells the human to see a doctor.",
        "+11: It tells the human to see a doctor.",
        "+100: It tells the human to see a doctor.",
        "+5 It tells the human to see a doctor.",
        "+5: Kind.",
        "+5: " + "word " * 41,
        "+5:",
    ],
)
def test_what_is_of_another_form_is_dropped(line) -> None:
    assert read_criteria(Reply(line, "stop"), 5) == ([], Counter({NO_FORM: 1}))


def test_again_over_and_cut_off() -> None:
    text = GOOD + "+2: it tells the human to see a doctor soon.\n+1: It is short and clear.\n+1: It is in good"
    items, dropped = read_criteria(Reply(text, "length"), 3)
    assert len(items) == 3 and dropped == {AGAIN: 1, OVER: 1, CUT: 1}
    assert read_criteria(None, 3) == ([], Counter()) == read_criteria(Reply("  \n", "stop"), 3)


def writer(**settings: Any) -> RubricWriter:
    template = load_template("rubric_write")
    return RubricWriter(WrittenRubric(**settings), ModelRef("m", "", "m"), RULES, template, "float32", 3)


def test_the_stage_leaves_a_file_of_rubrics_and_what_was_dropped(tmp_path) -> None:
    rows = [pair("1"), pair("1", b="Another answer."), pair("2", subset="weapons"), pair("3")]
    replies = {"Question 1?": GOOD, "Question 2?": "No idea.\n+3: It is calm and safe.", "Question 3?": "I cannot."}
    engine = ScriptedJudge(
        lambda question: None,
        says=lambda request, number: next(text for asked, text in replies.items() if asked in request.chat[-1].content),
    )
    out = tmp_path / "out"
    out.mkdir()
    bench: Any = Bench(engine)
    stage(out, bench, pairs=(folder(tmp_path / "in", rows),), prompts=(), writer=writer(criteria=4))
    assert len(engine.requests) == 3 == len({request.seed for request in engine.requests})
    first, second, _ = (request.chat[-1].content for request in engine.requests)
    assert "Write 4 criteria" in first and "that is kind" in first and "that is safe" not in first
    assert "that is safe" in second  # the principle of its subset
    assert "Yes sir." not in first + second  # no answer is shown
    found = read_rubrics(out / "rubrics.jsonl")
    assert [len(found.of(row.prompt)) for row in rows] == [3, 3, 1, 0]
    assert found.of(rows[0].prompt)[2].only_if == "it names a medicine"
    counts = json.loads((out / "counts.json").read_text())
    assert counts == {"prompts": 3, "criteria": 4, NOTHING: 1, f"lines dropped: {NO_FORM}": 2}
    written = [json.loads(line) for line in (out / "written.jsonl").read_text().splitlines()]
    assert written[2] == {"prompt_id": "prompt 3", "written": "I cannot.", "criteria": 0, "dropped": {NO_FORM: 1}}


def test_nothing_that_can_be_read_is_told(tmp_path) -> None:
    bench: Any = Bench(ScriptedJudge(lambda question: None))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError) as caught:
        stage(tmp_path / "out", bench, pairs=(folder(tmp_path / "in", [pair()]),), prompts=(), writer=writer())
    assert caught.value.where == "judge.rubric.write" and "larger model" in caught.value.remedy


def test_for_rewards_training_prompts_have_rubrics(tmp_path) -> None:
    train = pair("1").prompt
    prompts = [train.__class__(train.id, train.messages, "x", "train"), pair("2").prompt]
    (tmp_path / "in").mkdir()
    write_jsonl(tmp_path / "in/prompts.jsonl", prompts)
    bench: Any = Bench(ScriptedJudge(lambda question: None, says=lambda request, number: GOOD))
    (tmp_path / "out").mkdir()
    given = Artifact("load_data", "key", tmp_path / "in", "digest")
    stage(tmp_path / "out", bench, pairs=(), prompts=(given,), writer=writer())
    found = read_rubrics(tmp_path / "out/rubrics.jsonl")
    assert [len(found.of(prompt)) for prompt in prompts] == [3, 0]


def test_its_key_holds_principles_template_model_and_seed() -> None:
    plain = writer()
    assert digest_of(keyed({"writer": plain})) == digest_of(keyed({"writer": writer(model="another name")}))
    assert digest_of(keyed({"writer": plain})) != digest_of(keyed({"writer": writer(criteria=6)}))
    assert {"judging", "template", "model", "seed", "settings"} <= plain.keyed().keys()


def test_a_file_is_no_stage_and_a_judge_without_a_rubric_has_no_criteria(tmp_path) -> None:
    asked: list[Any] = []

    def made(function: Any, **inputs: Any) -> Any:
        asked.append(function)
        return Artifact("write_rubrics", "key", Path("x"), "digest")

    nothing: Any = None
    assert criteria_for(made, ArmJudge(), nothing, "float32", 0) is None
    file = tmp_path / "r.jsonl"
    file.write_text('{"rubrics": [{"criterion": "It is kind.", "points": 1}]}\n')
    judge = ArmJudge.model_validate({"rubric": {"file": str(file)}})
    found = criteria_for(made, judge, nothing, "float32", 0)
    assert found is not None and not isinstance(found, Artifact) and found.path == file and not asked
    missing = ArmJudge.model_validate({"rubric": {"file": "none.jsonl"}})
    with pytest.raises(UserError, match="there is no file of rubrics"):
        criteria_for(made, missing, nothing, "float32", 0)
