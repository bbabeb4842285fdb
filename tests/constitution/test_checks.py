"""`Check:` in constitution files: what is understood, what is refused and where, and what the tools make of it."""

from pathlib import Path

import pytest
from test_constitution import faults, write

from cai.constitution import Checked, Judging, read_constitution
from cai.constitution.changes import changes, headline, show
from cai.constitution.checks import EXAMPLES, LANGUAGES, Check, keys_of, language_of, parse_check
from cai.constitution.lint import describe, warnings
from cai.constitution.parse import escape
from cai.constitution.without import less

FULL = """\
# Sums

## right

Critique: Say what is calculated wrongly.

Revise: Calculate it anew.

Prefer: Choose the response that calculates rightly.

Check: arithmetic

Weight: 2

## brief
Check: at most 60
  words
Applies to: sums

## kind
Critique: c
Revise: r
Prefer: Choose the response that is kind.
"""


@pytest.mark.parametrize(
    ("text", "checker", "arguments"),
    [
        ("arithmetic", "arithmetic", {}), ("Exact arithmetic.", "arithmetic", {"exact": "Exact "}),
        ("units", "units", {}), ("valid JSON", "json", {}),
        ("json with keys Name, age and town", "json", {"keys": "Name, age and town"}),
        ("at most 60 words", "length", {"most": "60", "unit": "word"}),
        ("at least 1 sentence", "length", {"least": "1", "unit": "sentence"}),
        ("between 20 and 400 characters", "length", {"least": "20", "most": "400", "unit": "character"}),
        ("language English", "language", {"language": "English"}), ("language de", "language", {"language": "de"}),
        ("python code runs", "code", {}), ("Python code prints 4 2", "code", {"prints": "4 2"}),
        ("my.module:fn", "function", {"module": "my.module", "function": "fn"}),
    ],
)  # fmt: skip
def test_checks_in_plain_words(text, checker, arguments):
    check = parse_check(text)
    assert isinstance(check, Check) and (check.checker, dict(check.arguments)) == (checker, arguments)


def test_every_example_is_understood_and_has_its_checker():
    folder = Path(__file__).parents[2] / "cai" / "judge" / "checkers"
    for example in EXAMPLES:
        check = parse_check(example)
        assert isinstance(check, Check) and (folder / f"{check.checker}.py").is_file()
    assert [parse_check(text).runs for text in ("arithmetic", "python code runs", "a:b")] == ["", "code", "a:b"]
    assert keys_of("name, age, and the town") == ("name", "age", "the town")
    assert [language_of(name) for name in ("en", "german", "Klingon")] == ["en", "de", None] and len(LANGUAGES) == 19


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("arithmetics", 'unknown check "arithmetics"', 'did you mean "arithmetic"?'),
        ("fewer than 60 words", 'unknown check "fewer than 60 words"', "at most 60 words"),
        ("that it is true", 'unknown check "that it is true"', "known: arithmetic, "),
        ("language Englisch", 'unknown language "Englisch"', 'did you mean "english"?'),
        ("language Klingon", 'unknown language "Klingon"', "known: en (English)"),
        ("at most 0 words", "a length that no answer can have", "at most 60 words"),
        ("between 9 and 3 words", "a length that no answer can have", "from 1 on"),
        ("at most 6٠ words", 'unknown check "at most 6٠ words"', "at most 60 words"),
        ("__import__('os').system('ls')", "unknown check \"__import__('os').system('ls')\"", "known: arithmetic"),
        ("json with keys ,", "json with keys, and no key", "json with keys name, age"),
    ],
)
def test_what_is_no_check_is_an_error_at_its_line_with_a_remedy(tmp_path, text, problem, remedy):
    law = f"## right\nCritique: c\nRevise: r\nPrefer: Choose p.\n\nCheck: {text}\n"
    assert faults(tmp_path, law) == [("6", problem)]
    assert remedy in parse_check(text)[1]


def test_a_principle_may_be_checked_alone(tmp_path):
    law = read_constitution(write(tmp_path, FULL))
    assert [p.check for p in law.principles] == ["arithmetic", "at most 60 words", ""] and law.form == "full"
    assert [p.name for p in law.revising] == ["right", "kind"] and [p.name for p in law.judging] == ["right", "kind"]
    assert law.checking == (
        Checked("right", "Choose the response that calculates rightly.", (), 2.0, "", "arithmetic"),
        Checked("brief", "", ("sums",), 1.0, "", "at most 60 words"),
        Judging("kind", "Choose the response that is kind.", (), 1.0, ""),
    )
    alone = read_constitution(write(tmp_path, "## brief\nCheck: at most 60 words\n"))
    assert (alone.form, alone.revising, alone.judging, len(alone.checking)) == ("full", (), (), 1)
    assert [p.name for p in less(law, "brief").checking] == ["right", "kind"]


def test_what_is_begun_is_written_whole(tmp_path):
    text = "## one\nCheck: json\nCritique: c\n\n## two\nCheck: json\nAgainst: Give a bad one.\n\n## three\nCheck:\n"
    assert faults(tmp_path, text) == [
        ("1", 'principle "one" has no "Revise:"'), ("5", 'principle "two" has no "Prefer:"'),
        ("10", '"Check:" is empty'),
    ]  # fmt: skip
    # In the short form a field is out of place, and in a text its name is escaped.
    assert faults(tmp_path, "Be kind.\nCheck: json\n") == [("2", 'field "Check:" outside any section')]
    assert escape("Check: it") == "Check\\: it"


def test_lint_and_diff_know_it(tmp_path):
    law = read_constitution(write(tmp_path, FULL))
    told = describe(law)
    assert "checked by a program: arithmetic" in told and "sums; checked by a program: at most 60 words" in told
    assert warnings(law) == []
    edited = FULL.replace("at most 60\n  words", "at most 40 words").replace("Check: arithmetic\n", "")
    (tmp_path / "new.txt").write_text(edited)
    made = changes(law, read_constitution(tmp_path / "new.txt"))
    assert headline(made) == "2 reworded" and [change.fields for change in made] == [("check",), ("check",)]
    assert show(made[0]).endswith("- check: arithmetic\n    + check: (none)")
    (tmp_path / "new.txt").write_text(FULL + "\n## tidy\nCheck: json\n")
    (added,) = changes(law, read_constitution(tmp_path / "new.txt"))
    assert show(added).endswith("+ check: json") and added.kind == "added"
