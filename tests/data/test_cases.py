"""The cases of tests/cases that are no data: constitutions and experiments with an oddity are read, or named."""

from pathlib import Path

import pytest

from cai.config.load import read_experiment
from cai.constitution import read_constitution
from cai.core.errors import UserError
from cai.core.textstats import words

CASES = Path(__file__).parents[1] / "cases"


@pytest.mark.parametrize(
    ("name", "principles"),
    [
        ("a_crlf_smart.txt", ["The response is “kind”.", "The response isn’t cruel."]),
        ("b_modelspec.md", ["Help people: do what the developer asks.", "Do no harm."]),
        ("p_chinese.txt", ["回答应当诚实。", "回答应当友善。", "回答应当简短。"]),
    ],
)
def test_principles_without_bullets_or_numbers(name: str, principles: list[str]) -> None:
    assert [principle.name for principle in read_constitution(CASES / "constitutions" / name).principles] == principles


@pytest.mark.parametrize(
    "bullet",
    [
        "- ",
        "* ",
        "• ",
        "–",
        "— ",
        "−",
        "‑ ",
        "－",
        "・",
        "● ",
        "1. ",
        "2) ",
        "(3) ",
        "３．",
        "（４）",
        "５、",
        "① ",
        "六、",
    ],
)
def test_dashes_and_numbers_of_any_kind_are_bullets(tmp_path: Path, bullet: str) -> None:
    (tmp_path / "c.txt").write_text(f"{bullet}Be kind.\n{bullet}Be 1.5 times as honest - always.\n")
    found = read_constitution(tmp_path / "c.txt").principles
    assert [principle.name for principle in found] == ["Be kind.", "Be 1.5 times as honest - always."]


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("c.json", '["Be kind."]', "JSON"),
        ("c.txt", '{\n "principles": ["Be kind."]}', "JSON"),
        ("c.txt", '[{"name": "kind", "text": "cut', "JSON"),
        ("c.yaml", "- Be kind.\n", "YAML"),
        ("c.txt", "principles:\n  - name: kind\n    prefer: Be kind.\n", "YAML"),
        ("c.csv", "name,prefer\nkind,Be kind.\n", "CSV"),
        ("c.txt", "<!DOCTYPE html>\n<p>Be kind.</p>", "HTML"),
        ("c.html", "<p>Be kind.</p>", "HTML"),
        ("c.txt", '<?xml version="1.0"?>\n<p>Be kind.</p>', "XML"),
    ],
)
def test_a_structured_file_is_refused_by_its_name(tmp_path: Path, name: str, text: str, kind: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        read_constitution(tmp_path / name)
    assert f"this is {kind}, not a constitution" in str(caught.value) and "one principle a line" in str(caught.value)


@pytest.mark.parametrize("name", ["d_hf.json", "h_yaml.yaml"])
def test_the_structured_cases_are_refused(name: str) -> None:
    with pytest.raises(UserError) as caught:
        read_constitution(CASES / "constitutions" / name)
    assert "not a constitution in plain words" in str(caught.value)


def test_a_principle_may_begin_with_a_bracket(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("[Always] be kind.\n{Never} lie.\n")
    assert len(read_constitution(tmp_path / "c.txt").principles) == 2


@pytest.mark.parametrize("name", ["bom", "crlf", "no", "oct", "sci"])
def test_an_odd_experiment_is_read(name: str) -> None:
    experiment = read_experiment(CASES / "yaml" / f"{name}.yaml")
    assert "ai" in experiment.arms and experiment.seeds == ((10, 16) if name == "oct" else (0, 1))
    assert list(experiment.arms) == {"anchor": ["ai", "ai2", "human"], "no": ["ai", "no"]}.get(name, ["ai", "human"])
    assert experiment.arms["ai"].reward.learning_rate == (1e-5 if name == "sci" else 1e-4)


@pytest.mark.parametrize(
    ("name", "line", "problem"),
    [
        ("armname", 7, "an arm cannot be called"),
        ("dup", 30, "given twice, on lines 13 and 30"),
        ("env", 10, 'a "{" stands inside a value without quotes'),
        ("seed", 4, "must be a list"),
        ("tab", 7, "a tab"),
        ("utf16", 1, "not UTF-8"),
    ],
)
def test_an_odd_experiment_is_named_with_its_line(name: str, line: int, problem: str) -> None:
    path = CASES / "yaml" / f"{name}.yaml"
    with pytest.raises(UserError) as caught:
        read_experiment(path)
    assert f"{path}:{line}: " in str(caught.value) and problem in str(caught.value)


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
@pytest.mark.parametrize("key", ["sft.learning_rate", "reward.learning_rate", "policy.lora_rank", "judge.min_mass"])
def test_no_setting_is_infinite(key: str, value: str) -> None:
    with pytest.raises(UserError, match=key.rpartition(".")[2].replace("_", ".")):
        read_experiment(CASES / "yaml" / "crlf.yaml", [f"{key}={value}"])


def test_words_of_scripts_that_write_no_spaces() -> None:
    assert words("回答应当诚实。" * 60) == 360
    assert words("Use 中文, please") == 5  # Use, 中, 文, a comma by itself, please
    assert words("한국어 문장") == 2 and words("naïve café") == 2
    assert words("สวัสดี") == 2  # six characters, four to a word


def test_an_arm_with_a_seed_of_its_own_is_named_with_its_line() -> None:
    with pytest.raises(UserError, match=r"anchor\.yaml:8: arms ai and ai2 differ in `seed`"):
        read_experiment(CASES / "yaml" / "anchor.yaml")
