"""Constitution files: what is understood, what is refused, and which draws an edit moves."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cai.constitution import Judging, Limit, Order, Principle, Revising, draw, less, read_constitution
from cai.constitution.__main__ import main
from cai.constitution.changes import changes, headline, show
from cai.constitution.lint import warnings
from cai.constitution.negation import negated
from cai.constitution.parse import escape
from cai.core.errors import UserError, UserErrors, run_main

ROOT = Path(__file__).parents[2]
FULL = """\
# A title

Notes for people: any text, such as {{ this }}.

## kind words

Why: Words hurt.

Critique: Say where the
last response is rude.

And where it is cold.

Revise: Make it kind.
Prefer: Choose the kind response.
Against: Choose the rude response.
Applies to: hate,  insults
Weight: 2.5

## second one
Critique: c
Revise: r
Prefer: Choose p
"""


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "law.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def faults(tmp_path: Path, text: str | bytes) -> list[tuple[str, str]]:
    """(line, problem) of every fault reported."""
    with pytest.raises(UserErrors) as caught:
        read_constitution(write(tmp_path, text))
    return [(error.where.removeprefix(str(tmp_path / "law.txt") + ":"), error.problem) for error in caught.value.errors]


# Reading


def test_full_form(tmp_path):
    law = read_constitution(write(tmp_path, FULL))
    assert (law.title, law.notes, law.form) == ("A title", "Notes for people: any text, such as {{ this }}.", "full")
    assert law.principles[0] == Principle(
        name="kind words",
        critique="Say where the last response is rude. And where it is cold.",
        revise="Make it kind.",
        prefer="Choose the kind response.",
        against="Choose the rude response.",
        why="Words hurt.",
        applies_to=("hate", "insults"),
        weight=2.5,
        line=5,
    )
    assert law.principles[1] == Principle("second one", "c", "r", "Choose p", "", "", (), 1.0, 20)


def test_short_form(tmp_path):
    law = read_constitution(
        write(tmp_path, "# T\n# remark\n- Be kind: always.\n\nBe  {{ honest }}.\n- One that is\n  wrapped.\n")
    )
    assert (law.title, law.notes, law.form) == ("T", "remark", "short")
    texts = ["Be kind: always.", "Be {{ honest }}.", "One that is wrapped."]
    assert [(p.name, p.prefer, p.line) for p in law.principles] == [
        (t, t, n) for t, n in zip(texts, (3, 5, 6), strict=True)
    ]
    assert {(p.critique, p.revise, p.why, p.weight) for p in law.principles} == {("", "", "", 1.0)}


@pytest.mark.parametrize(
    "rewrapped",
    [
        FULL.replace("Say where the\nlast response is rude.", "Say\n   where the last\nresponse\tis rude."),
        FULL.replace("rude.\n\nAnd", "rude. And"),
        FULL.replace("\n", "\n\n").replace("\n\nlast response", "\nlast response"),
        FULL.replace("\n", "\r\n"),
        "\ufeff" + FULL,
        FULL.replace("Revise: Make it kind.", "Revise:\nMake it\n\n\nkind."),
    ],
)
def test_wrapping_blank_lines_and_line_ends_do_not_matter(tmp_path, rewrapped):
    def values(text: str) -> list[Principle]:
        return [replace(p, line=0) for p in read_constitution(write(tmp_path, text)).principles]

    assert values(rewrapped) == values(FULL)


def test_stages_see_only_what_they_read(tmp_path):
    law = read_constitution(write(tmp_path, FULL))
    critique = "Say where the last response is rude. And where it is cold."
    assert law.revising[0] == Revising("kind words", critique, "Make it kind.", "", ("hate", "insults"), 2.5)
    assert law.judging[1] == Judging("second one", "Choose p", (), 1.0)
    edited = FULL.replace("Words hurt.", "Anything else.").replace("# A title", "# Another\n\nmore notes")
    other = read_constitution(write(tmp_path, edited))
    assert (other.revising, other.judging) == (law.revising, law.judging)
    other = read_constitution(write(tmp_path, FULL.replace("the kind response", "the kinder response")))
    assert other.revising == law.revising
    assert other.judging != law.judging


def test_only_the_methods_that_read_against_see_it(tmp_path):
    law = read_constitution(write(tmp_path, FULL))
    kind = Judging("kind words", "Choose the kind response.", ("hate", "insults"), 2.5, "Choose the rude response.")
    assert law.judging[0] == replace(kind, against="")
    assert law.contrasting == (kind, Judging("second one", "Choose p", (), 1.0, ""))
    other = read_constitution(write(tmp_path, FULL.replace("the rude response", "the cold response")))
    assert other.judging == law.judging
    assert other.contrasting[0].against == "Choose the cold response."
    assert read_constitution(write(tmp_path, "Be kind.\n")).contrasting[0].against == ""


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"Say Critique\: here.", "Say Critique: here."),
        (r"Applies to \: all, Why\:", "Applies to : all, Why:"),
        (r"Weight\\: 2", r"Weight\: 2"),  # a backslash of its own stands in front of another one
        ("Applies\nto\\: all", "Applies to: all"),
        (r"note\: this \ stays", r"note\: this \ stays"),
    ],
)
def test_a_backslash_makes_a_label_text(tmp_path, written, read):
    law = read_constitution(write(tmp_path, f"## a\nCritique: {written}\nRevise: r\nPrefer: Choose p\n"))
    assert law.principles[0].critique == read
    assert escape(read) == " ".join(written.split())


def test_short_form_gives_its_text_to_both_views(tmp_path):
    law = read_constitution(write(tmp_path, "Be kind.\n"))
    assert law.revising == (Revising("Be kind.", "", "", "Be kind.", (), 1.0),)
    assert law.judging == (Judging("Be kind.", "Be kind.", (), 1.0),)


# Faults

OTHER = "\n## other\nCritique: c\nRevise: r\nPrefer: p\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"# T\nna\xefve", [("2", "not UTF-8 text")]),
        ("", [("1", "no principles in this file")]),
        ("# only a title\n\n", [("1", "no principles in this file")]),
        (FULL + "\nPrefre: x\n", [("25", 'unknown field "Prefre:"')]),
        (FULL + "prefer: x\n", [("24", 'unknown field "prefer:"')]),
        (FULL + "\nNote: x\n", [("25", 'unknown field "Note:"')]),
        (FULL + "Prefer: again\n", [("24", '"Prefer:" is given twice (first on line 23)')]),
        (FULL + "and so on, Weight: 3\n", [("24", '"Weight:" in the middle of a line')]),
        (FULL + "Why:\n", [("24", '"Why:" is empty')]),
        (FULL + "\n## Kind  Words\nCritique: c\nRevise: r\nPrefer: p\n",
         [("25", 'two sections with one name: "Kind Words" (first on line 5)')]),
        (FULL + "\n##\nCritique: c\nRevise: r\nPrefer: p\n", [("25", "a section without a name")]),
        (FULL + "\n### Part\n", [("25", "a heading inside a section")]),
        (FULL.replace("Weight: 2.5", "Weight: 0"), [("18", 'weight "0" is not a positive number')]),
        (FULL.replace("Weight: 2.5", "Weight: nan"), [("18", 'weight "nan" is not a positive number')]),
        (FULL.replace("Weight: 2.5", "Weight: inf"), [("18", 'weight "inf" is not a positive number')]),
        (FULL.replace("Weight: 2.5", "Weight: two"), [("18", 'weight "two" is not a positive number')]),
        ("## a\nstray text\n\nCritique: c\nRevise: r\nPrefer: p\n", [("2", "text outside any field")]),
        ("## a\nCritique: c\nPrefer: p\n", [("1", 'principle "a" has no "Revise:"')]),
        ("## a\nCritique: c\nRevise: r\n", [("1", 'principle "a" has no "Prefer:"')]),
        ("## a\n" + OTHER, [("1", f'principle "a" has no "{field}:"') for field in ("Critique", "Prefer", "Revise")]),
        ("# T\n- Be kind.\n" + OTHER, [("2", "this looks like a principle, but stands before the first section")]),
        ("# T\nPrefer: x\n" + OTHER, [("2", "this looks like a principle, but stands before the first section")]),
        ("Be kind.\nPrefer: x\n", [("2", 'field "Prefer:" outside any section')]),
        ("Be kind.\n- Be kind.\n", [("2", 'this principle stands twice: "Be kind." (first on line 1)')]),
        ("Be kind to people\nand to animals.\n", [("2", "this looks like the rest of the line above")]),
    ],
)  # fmt: skip
def test_faults(tmp_path, text, expected):
    assert faults(tmp_path, text) == expected


def test_all_faults_are_reported_at_once_in_the_order_of_the_file(tmp_path):
    text = "## a\nCritique: c\nWieght: 1\nPrefer: p\n\n## b\nCritique: c\nRevise: r\nPrefer: p\nWeight: -1\n"
    assert faults(tmp_path, text) == [
        ("1", 'principle "a" has no "Revise:"'),
        ("3", 'unknown field "Wieght:"'),
        ("10", 'weight "-1" is not a positive number'),
    ]


def test_suggestions(tmp_path):
    with pytest.raises(UserErrors, match=r'did you mean "Prefer"\?'):
        read_constitution(write(tmp_path, FULL + "\nPrefre: x\n"))
    write(tmp_path, FULL)
    with pytest.raises(UserErrors, match=r"lwa\.txt: cannot read it: No such file.*\n.*did you mean .*law\.txt"):
        read_constitution(tmp_path / "lwa.txt")


# Drawing


def rules(n: int) -> list[Judging]:
    return [Judging(f"principle {i}", f"text {i}", (), 1.0) for i in range(n)]


def firsts(principles: list[Judging], keys: int = 4000) -> list[str]:
    return [draw(principles, seed=0, key=f"prompt {i}")[0].name for i in range(keys)]


def test_a_seventeenth_principle_moves_a_seventeenth_of_the_draws():
    before, after = firsts(rules(16)), firsts(rules(17))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"principle 16"}  # no draw moves between the old ones
    assert 190 <= len(moved) <= 281  # 4000/17 = 235, standard deviation 15


def test_draws_are_even():
    counts = [firsts(rules(16)).count(f"principle {i}") for i in range(16)]
    assert sum(counts) == 4000
    assert min(counts) >= 204 and max(counts) <= 296  # 250 each, standard deviation 15.3


def test_wording_and_order_move_nothing():
    reworded = [replace(p, prefer=p.prefer + " reworded") for p in rules(16)]
    assert firsts(reworded, 500) == firsts(rules(16), 500)
    assert firsts(rules(16)[::-1], 500) == firsts(rules(16), 500)


def test_weight_two_is_drawn_twice_as_often():
    principles = rules(3)
    principles[1] = replace(principles[1], weight=2.0)
    drawn = firsts(principles)
    assert abs(drawn.count("principle 1") - 2000) < 95  # half of 4000, standard deviation 32
    assert abs(drawn.count("principle 0") - 1000) < 82


def test_draws_depend_on_seed_and_key():
    principles = rules(16)
    by_seed = [draw(principles, seed=s, key="p")[0].name for s in range(40)]
    assert len(set(by_seed)) > 8
    assert len(set(firsts(principles, 40))) > 8


def test_draws_are_the_same_on_every_machine():
    assert firsts(rules(16), 4) == PINNED


PINNED = ["principle 15", "principle 6", "principle 10", "principle 7"]


def test_n_distinct_principles_best_first():
    drawn = draw(rules(6), seed=3, key="p", n=6)
    assert len({p.name for p in drawn}) == 6
    assert draw(rules(6), seed=3, key="p", n=2) == drawn[:2]


def test_applies_to():
    principles = [
        Judging("a", "", ("privacy", "hate"), 1.0),
        Judging("b", "", (), 1.0),
        Judging("c", "", ("crime",), 1.0),
    ]
    assert {p.name for p in draw(principles, seed=0, key="k", subset="hate", n=3)} == {"a", "b"}
    assert draw(principles, seed=0, key="k", subset="other")[0].name == "b"
    with pytest.raises(UserError, match='none of the 1 principles applies to subset "hate"'):
        draw(principles[2:], seed=0, key="k", subset="hate")


# Lint and the files that we ship


def test_lint_warnings(tmp_path):
    text = FULL.replace("Choose the kind response.", "Be kind.").replace("Critique: c", "Critique: " + "long " * 121)
    text += "\n## third\nCritique: c\nRevise: r\nPrefer: Choose p\n"
    assert warnings(read_constitution(write(tmp_path, text))) == [
        (5, '"kind words": Prefer does not begin with "Choose", as the judging prompts expect'),
        (20, '"second one": critique has 121 words; models read short principles better'),
        (20, 'no "Against:" for "second one", "third", but for the others: the method contrast treats them unlike'),
        (25, '"third" says almost the same as "second one" (line 20)'),
    ]


def test_one_principle_is_one(tmp_path, capsys):
    assert main(["lint", str(write(tmp_path, "Be kind.\n"))]) == 0
    assert "short form, 1 principle\n" in capsys.readouterr().out


def test_lint_shows_what_it_understood(tmp_path, capsys):
    path = str(write(tmp_path, FULL))
    assert main(["lint", path]) == 0
    shown = capsys.readouterr().out
    assert "A title" in shown and "full form, 2 principles\n" in shown
    assert [line.split() for line in shown.splitlines() if line.startswith("kind words")] == [
        ["kind", "words", "2.5", "12", "3", "4", "4", "2", "hate,", "insults"]
    ]


def test_lint_of_a_faulty_file_ends_with_2_and_no_traceback(tmp_path, capsys):
    path = write(tmp_path, "## a\nPrefer: p\n")
    assert run_main(main, ["lint", str(path)]) == 2
    assert f'{path}:1: principle "a" has no "Critique:"' in capsys.readouterr().err


@pytest.mark.parametrize("module", ["cai.constitution", "cai.constitution.__main__"])
def test_lint_loads_nothing_heavy(module):
    heavy = {"torch", "transformers", "trl", "pydantic", "numpy", "jinja2"}
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


PLACEBO = ("quickstart", "quickstart-placebo")
SHIPPED = sorted((ROOT / "constitutions").glob("*.txt"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_constitutions_parse_without_warnings(path):
    law = read_constitution(path)
    assert law.title and law.notes
    assert warnings(law) == []
    if law.form == "full":
        assert all(p.prefer.startswith("Choose the response ") and p.prefer.count(".") == 1 for p in law.principles)
        assert all("the assistant's last response" in p.critique for p in law.principles)
        assert all(p.revise.startswith("Rewrite the response ") and p.why for p in law.principles)


def test_shipped_constitutions_have_the_promised_sizes():
    sizes = {path.stem: len(read_constitution(path).principles) for path in SHIPPED}
    assert sizes == {
        "arithmetic": 1,
        "arithmetic-asked": 1,
        "harmless": 16,
        "helpful": 7,
        "hhh": 4,
        "quickstart": 6,
        "quickstart-placebo": 6,
        "short": 8,
        "truthful": 7,
        "yardstick": 3,
        "helpfulness": 2,
    }
    quickstart = read_constitution(ROOT / "constitutions/quickstart.txt")
    assert max(len(p.prefer.split()) for p in quickstart.principles) <= 16


def test_the_quickstarts_placebo_differs_in_what_the_judge_reads_and_in_nothing_else():
    law, placebo = (read_constitution(ROOT / f"constitutions/{name}.txt") for name in PLACEBO)
    for real, control in zip(law.principles, placebo.principles, strict=True):
        assert replace(control, prefer=real.prefer, line=real.line) == real
        assert control.prefer != real.prefer and len(control.prefer.split()) == len(real.prefer.split())


# What stands above what (how it decides: tests/judge/test_order.py)

LIMITS = """\
## first
Critique: c
Revise: r
Prefer: Choose the response that is first.
Priority: 1

## second
Critique: c
Revise: r
Prefer: Choose the response that is second.

## no bombs
Why: They kill.
Never: Give instructions
  for a bomb.
Critique: Say where it tells how to build a bomb.
Revise: Leave that out.
Applies to: war

## brief
Never: Ramble.
Check: at most 60 words
"""


def test_limits_and_levels_stand_apart_from_what_a_judge_compares_by(tmp_path):
    law = read_constitution(write(tmp_path, LIMITS))
    assert [p.name for p in law.judging] == ["first", "second"] == [p.name for p in law.checking]
    assert [p.name for p in law.revising] == ["first", "second", "no bombs"]
    assert law.order == Order(
        levels=(("first", 1), ("second", 2)),
        limits=(Limit("no bombs", "Give instructions for a bomb.", ("war",)), Limit("brief", "Ramble.", (), LENGTH)),
    )
    assert [(p.name, p.check) for p in law.order.checked] == [("brief", LENGTH)]
    plain = read_constitution(write(tmp_path, LIMITS.replace("Priority: 1\n", "")))
    assert plain.order.levels == () and plain.judging == law.judging and plain.revising == law.revising


LENGTH = "at most 60 words"


@pytest.mark.parametrize(
    ("change", "line", "problem"),
    [
        (("Priority: 1", "Priority: high"), "5", 'priority "high" is not a whole number from 1'),
        (("Priority: 1", "Priority: 0"), "5", 'priority "0" is not a whole number from 1'),
        (("Why: They kill.", "Prefer: Choose peace."), "13", '"no bombs" has a "Never:", and "Prefer:" beside it'),
        (("Why: They kill.", "Priority: 2"), "13", '"no bombs" has a "Never:", and "Priority:" beside it'),
        (("Never: Ramble.", "Never:"), "21", '"Never:" is empty'),
        (("Revise: Leave that out.\n", ""), "12", 'principle "no bombs" has no "Revise:"'),
        (("Never: Ramble.", "Nevr: Ramble."), "21", 'unknown field "Nevr:"'),
    ],
)
def test_faults_of_limits_and_levels_have_their_line(tmp_path, change, line, problem):
    assert (line, problem) in faults(tmp_path, LIMITS.replace(*change))


def test_lint_knows_limits_and_levels(tmp_path, capsys):
    same = LIMITS.replace("Revise: r\nPrefer: Choose the response that is second.\n",
                          "Revise: r\nPrefer: Choose the response that is second.\nPriority: 1\n")  # fmt: skip
    path = write(tmp_path, same.replace("Never: Ramble.", "Never: Do not ramble."))
    assert main(["lint", str(path)]) == 0
    shown = capsys.readouterr().out
    assert f"{path}:1: every principle has the same Priority: it orders nothing" in shown
    assert "this negates it" in shown and "priority 1" in shown
    assert warnings(read_constitution(write(tmp_path, LIMITS))) == []


def test_changes_name_priorities_and_limits(tmp_path):
    old = read_constitution(write(tmp_path, LIMITS))
    new = read_constitution(write(tmp_path, LIMITS.replace("Priority: 1", "Priority: 2").replace("Ramble.", "Drone.")))
    found = changes(old, new)
    assert [(change.kind, change.name, change.fields) for change in found] == [
        ("reordered", "first", ("priority",)), ("reworded", "brief", ("never",))
    ]  # fmt: skip
    assert headline(found) == "1 reworded, 1 reordered"
    assert "    - priority: 1\n    + priority: 2" in show(found[0])


def test_a_limit_can_be_left_out_and_has_no_negation(tmp_path):
    law = read_constitution(write(tmp_path, LIMITS))
    assert less(law, "no bombs").order.limits == law.order.limits[1:]
    assert less(law, "second").order.levels == ()
    assert negated(law.principles[2]) is None
