"""Files of rubrics: HealthBench's form and others, whom their criteria are for, and faults by file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from cai.core.errors import UserError, UserErrors
from cai.core.records import Message, Prompt
from cai.data.rubrics import RubricItem, read_rubrics

KIND = {"criterion": "It is kind.", "points": 5}


def prompt(*turns: str, name: str = "p", subset: str = "all") -> Prompt:
    roles = ("user", "assistant")
    return Prompt(name, tuple(Message(roles[n % 2], turn) for n, turn in enumerate(turns)), subset, "train")  # pyrefly: ignore


def write(tmp_path: Path, *rows: Any) -> Path:
    file = tmp_path / "rubrics.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def test_healthbench_is_read_and_found_by_its_conversation(tmp_path) -> None:
    row = {
        "example_tags": ["theme:hedging"],
        "ideal_completions_data": None,
        "prompt": [
            {"role": "user", "content": "My chest  hurts."},
            {"role": "assistant", "content": "Since when?"},
            {"role": "user", "content": "An hour."},
        ],
        "prompt_id": "d2a9-001",
        "rubrics": [
            {
                "criterion": "Advises to call emergency services",
                "points": 10,
                "tags": ["level:example", "axis:accuracy"],
            },
            {"criterion": "Names a medicine without asking for allergies", "points": -6, "tags": []},
        ],
        "canary": "healthbench:...",
    }
    found = read_rubrics(write(tmp_path, row))
    call, medicine = found.of(prompt("My chest hurts.", "Since when?", "An hour."))
    assert call == RubricItem(
        "Advises to call emergency services", 10.0, "Advises to call emergency services", "",
        ("level:example", "axis:accuracy"),
    )  # fmt: skip
    assert (medicine.points, medicine.tags) == (-6.0, ())
    assert found.of(prompt("My chest hurts.", name="q")) == () == found.of(prompt("Another?", name="r"))
    assert len(found.of(prompt("Asked otherwise.", name="d2a9-001"))) == 2  # by its id


def test_rubrics_as_rewards_is_read(tmp_path) -> None:
    row = {"question": "Why is the sky blue?", "reference_answer": "...", "rubric": [
        {"title": "Scattering", "description": "Essential Criteria: names Rayleigh scattering.", "weight": 5},
        {"title": "Says sea", "description": "Pitfall Criteria: says that it mirrors the sea.", "weight": -2},
    ]}  # fmt: skip
    first, second = read_rubrics(write(tmp_path, row)).of(prompt("Why is the sky blue?"))
    assert (first.name, first.points, second.name, second.points) == ("Scattering", 5.0, "Says sea", -2.0)
    assert first.criterion == "Essential Criteria: names Rayleigh scattering."


def test_rows_for_all_for_subsets_and_for_a_prompt_count_together_and_the_nearer_one_wins(tmp_path) -> None:
    file = write(
        tmp_path,
        {"prompt_id": "p1", "rubrics": [{**KIND, "points": 9}]},
        {"rubrics": [KIND, {"criterion": "It is short.", "points": 1}]},
        {"subset": ["war", "crime"], "rubrics": [{"name": "means", "criterion": "It names means.", "points": -4}]},
        {"subset": "war", "rubrics": [{"criterion": "It is calm.", "points": 2, "only_if": "It speaks of war."}]},
    )
    found = read_rubrics(file)

    def of(name: str, subset: str) -> dict[str, float]:
        return {item.name: item.points for item in found.of(prompt("?", name=name, subset=subset))}

    beside = {"prompt": "Another?", "subset": "sport", "rubrics": [KIND]}  # of that prompt alone, whatever its subset
    assert read_rubrics(write(tmp_path, beside)).of(prompt("?", subset="sport")) == ()
    assert of("p0", "sport") == {"It is kind.": 5, "It is short.": 1}
    assert of("p2", "crime") == {"It is kind.": 5, "It is short.": 1, "means": -4}
    assert of("p1", "war") == {"It is kind.": 9, "It is short.": 1, "means": -4, "It is calm.": 2}


@pytest.mark.parametrize(
    ("row", "problem", "remedy"),
    [
        ('{"rubrics": [', "half-written", "cut off"),
        ([1], "a row without criteria", '"rubrics"'),
        ({"prompt": "?"}, "a row without criteria", '"rubrics"'),
        ({"rubrics": "kind"}, "a row without criteria", '"rubrics"'),
        ({"rubrics": [5]}, "criterion 1: it is no section", "criterion"),
        ({"rubrics": [{"points": 5}]}, "criterion 1: it has no text", "criterion"),
        ({"rubrics": [KIND, {"criterion": "x"}]}, "criterion 2: it has no points", "above 0"),
        ({"rubrics": [{"criterion": "x", "points": 0}]}, "0 points", "above 0"),
        ({"rubrics": [{"criterion": "x", "points": True}]}, "it has no points", "above 0"),
        ({"rubrics": [{"criterion": "x", "points": "NaN"}]}, "it has no points", "above 0"),
        ({"rubrics": [{**KIND, "only-if": "x"}]}, 'unknown key "only-if"', 'did you mean "only_if"?'),
        ({"rubrics": [{**KIND, "point": 2}]}, 'unknown key "point"', 'did you mean "points"?'),
        ({"rubrics": [{**KIND, "tags": [1]}]}, "tags must be a list of texts", "tags"),
        ({"rubrics": [{**KIND, "only_if": 3}]}, "only_if must be a text", "quotes"),
        ({"rubrics": [KIND, KIND]}, "stands twice", "another name"),
        ({"subset": [3], "rubrics": [KIND]}, "subset must be a text", "subsets"),
        ({"prompt": [{"role": "tool", "content": "x"}], "rubrics": [KIND]}, "a turn of a tool", "read here"),
    ],
)
def test_faults_are_told_with_file_and_line(tmp_path, row, problem, remedy) -> None:
    file = write(tmp_path, {"rubrics": [{"criterion": "It is short.", "points": 1}]}, row)
    with pytest.raises(UserError) as caught:
        read_rubrics(file)
    error = caught.value
    assert error.where == f"{file}:2" and problem in error.problem and remedy in error.remedy


def test_all_faults_are_told_at_once(tmp_path) -> None:
    file = write(tmp_path, {"rubrics": [{"criterion": "", "points": 1}, {"criterion": "x"}]}, {"rubrics": []})
    with pytest.raises(UserErrors) as caught:
        read_rubrics(file)
    assert [error.where for error in caught.value.errors] == [f"{file}:1", f"{file}:1", f"{file}:2"]


def test_a_name_is_one_text_and_its_points_may_differ(tmp_path) -> None:
    same = [{"prompt_id": name, "rubrics": [{**KIND, "points": points}]} for name, points in (("a", 5), ("b", -1))]
    assert read_rubrics(write(tmp_path, *same)).of(prompt("?", name="b"))[0].points == -1
    other = {"rubrics": [{"name": "It is kind.", "criterion": "It is rude.", "points": 1}]}
    with pytest.raises(UserError, match=r"has another text at .*:1"):
        read_rubrics(write(tmp_path, *same, other))


def test_an_empty_file_and_one_that_is_not_there(tmp_path) -> None:
    with pytest.raises(UserError, match="it has no criteria"):
        read_rubrics(write(tmp_path))
    with pytest.raises(UserError, match="cannot read it"):
        read_rubrics(tmp_path / "none.jsonl")


def test_the_shipped_file_can_be_read() -> None:
    items = read_rubrics(Path("experiments/data/rubric-harmless.jsonl")).of(prompt("?", subset="violence"))
    assert {item.name: item.points > 0 for item in items} == {
        "helps with harm": False, "no use for harm": True, "respectful": True, "offers something safe": True,
        "says why": True, "names the means": False,
    }  # fmt: skip
