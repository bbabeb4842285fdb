"""The tools for people who write constitutions: the paper's files, what lint says, and which labels an edit flips."""

import json
import math
import random
import typing
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import ScriptedJudge, asked_judge

from cai.config.sections import Judge, Method
from cai.constitution import Constitution, Principle, read_constitution
from cai.constitution.__main__ import METHODS, main
from cai.constitution.changes import applied, changes, headline, show
from cai.constitution.lint import long_for_model, unknown_subsets, warnings
from cai.constitution.paper import import_paper
from cai.core.errors import UserError, UserErrors, run_main
from cai.core.records import Abstained, Label, Message, Pair, Prompt, Vote
from cai.judge.flips import compare, head, heard, tail
from cai.judge.flips import show as show_outcome
from cai.judge.following import Edit
from cai.judge.trial import Record, idle, judge_all, read_pairs, table, track_records

PAPER = Path(__file__).parents[3] / "shared" / "data" / "cai-paper"
JUDGE = Judge(model="tiny-random", method="rate", principles="all")


# The paper's files ---------------------------------------------------------------------------------------------------


def entry(critique: str, revise: str) -> dict[str, object]:
    return {
        "prompt": [f"\n\nCritiqueRequest: {critique}\n\nCritique:"],
        "edit_request": f"\n\nRevisionRequest: {revise}\n\nRevision:",
    }


def files(tmp_path: Path, entries: object, standards: object) -> list[Path]:
    paths = [tmp_path / "critiques.json", tmp_path / "standards.json"]
    for path, value in zip(paths, (entries, standards), strict=True):
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return paths


def faults(paths: list[Path]) -> list[str]:
    with pytest.raises(UserErrors) as caught:
        import_paper(paths)
    return [f"{Path(e.where).name}: {e.problem}" for e in caught.value.errors]


TRICKY = [
    ("Two kinds: rude, and cold: name both.", "Mend: this.", "Which is kinder: the first, or the second?"),
    ("Write Critique: and then a critique.\n\nCritique: too", "Prefer: no.", "Applies to: everything, Weight: 2"),
    ("A path C:\\tmp, Critique\\: and Why \\\\: stay.", "e\u0301 is one letter.", "# not a heading ## nor this"),
]


def test_texts_come_back_letter_for_letter(tmp_path, capsys):
    paths = files(
        tmp_path,
        {f"rule {n}": entry(critique, revise) for n, (critique, revise, _) in enumerate(TRICKY)},
        [f"\n{prefer} Options:" for *_, prefer in TRICKY],
    )
    out = tmp_path / "law.txt"
    assert main(["import", *map(str, paths), "--out", str(out)]) == 0
    law = read_constitution(out)
    assert [(p.name, p.critique, p.revise, p.prefer) for p in law.principles] == [
        ("rule 0", *TRICKY[0]),
        ("rule 1", "Write Critique: and then a critique. Critique: too", "Prefer: no.", TRICKY[1][2]),
        ("rule 2", TRICKY[2][0], "\u00e9 is one letter.", TRICKY[2][2]),
    ]
    assert "paired by position" in law.notes
    assert "critiques.json" in law.notes and "standards.json" in law.notes
    assert "full form, 3 principles" in capsys.readouterr().out
    assert run_main(main, ["import", *map(str, paths), "--out", str(out)]) == 2  # never over somebody's edits
    assert "exists already" in capsys.readouterr().err


PIECES = ["Critique:", "Prefer :", "Applies", "to:", "Weight\\:", "##", "#", "- x", "1.", "Note:", "critique:", "and",
          "Options:", "Revision:", "{{ x }}", "long" * 40, ":", "\\", "é", "\n\n", "CritiqueRequest:"]  # fmt: skip


def test_any_mixture_of_labels_survives(tmp_path):
    rng = random.Random(0)

    def text() -> str:
        return "x " + " ".join(rng.choice(PIECES) for _ in range(rng.randint(1, 60))) + " z"

    for _ in range(30):
        texts = [(text(), text(), text()) for _ in range(3)]
        entries = {f"n{n}": entry(critique, revise) for n, (critique, revise, _) in enumerate(texts)}
        written, law = import_paper(files(tmp_path, entries, [f"{prefer} Options:" for *_, prefer in texts]))
        (tmp_path / "law.txt").write_text(written)
        reread = read_constitution(tmp_path / "law.txt")
        assert reread.principles == law.principles
        assert [(p.critique, p.revise, p.prefer) for p in reread.principles] == [
            tuple(" ".join(part.split()) for part in texts_of) for texts_of in texts
        ]
        written, law = import_paper([tmp_path / "standards.json"])
        assert [p.prefer for p in law.principles] == [" ".join(prefer.split()) for *_, prefer in texts]


def test_standards_alone_make_the_short_form(tmp_path, capsys):
    _, standards = files(tmp_path, {}, ["\nBe kind. Options:", "\n- Prefer: the honest one. Options:"])
    assert main(["import", str(standards)]) == 0
    (tmp_path / "law.txt").write_text(capsys.readouterr().out)
    law = read_constitution(tmp_path / "law.txt")
    assert (law.form, [p.name for p in law.principles]) == ("short", ["Be kind.", "- Prefer: the honest one."])


def test_critiques_alone_lack_the_standard(tmp_path):
    critiques, _ = files(tmp_path, {"a": entry("c", "r")}, [])
    with pytest.raises(UserError, match=r'no "Prefer:"(.|\n)*give RLMadisonInstructions\.json as well'):
        import_paper([critiques])


def test_different_lengths_cannot_be_paired(tmp_path):
    with pytest.raises(UserError, match="1 principles for critique and revision, but 2 standards"):
        import_paper(files(tmp_path, {"a": entry("c", "r")}, ["x Options:", "y Options:"]))


@pytest.mark.parametrize(
    ("entries", "standards", "expected"),
    [
        ({"a": {"prompt": ["x"]}}, ["y Options:"], ['critiques.json: "a": no "prompt" and "edit_request"']),
        ({"a": entry("c", "r") | {"prompt": ["CritiqueRequest: c", "d"]}}, ["y Options:"],
         ['critiques.json: "a", prompt: not one text']),
        ({"a": entry("c", "r") | {"edit_request": "RevisionRequest: r"}}, ["y Options:"],
         ['critiques.json: "a", edit_request: it does not end with "Revision:"']),
        ({"a": entry("c", " ")}, ["y Options:"], ['critiques.json: "a", edit_request: no text between its labels']),
        ({"a b": entry("c", "r"), "A  b": entry("c", "r")}, ["x Options:", "y Options:"],
         ['critiques.json: "A  b": the same name as "a b"']),
        ({}, ["Be kind."], ["critiques.json: no principles in this file",
                            'standards.json: item 1: it does not end with "Options:"']),
        ({"a": entry("c", "r")}, ["Be kind. Options:", 3, "be kind.  Options:"],
         ["standards.json: item 2: not one text", "standards.json: item 3: the same text as item 1"]),
        (["x Options:"], ["y Options:"], ["standards.json: a second file of one kind"]),
        ("3", ["y Options:"], ["critiques.json: neither an object nor a list"]),
    ],
)  # fmt: skip
def test_faults_of_the_files(tmp_path, entries, standards, expected):
    assert faults(files(tmp_path, entries, standards)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": {},\n "b" }', r"critiques\.json:2: not valid JSON: Expecting ':' delimiter at column 6"),
        ('{"a": 1, "a": 2}', r'critiques\.json: the key "a" stands twice'),
        ('["\\ud800 Options:"]', r"critiques\.json: .* lone surrogate"),
        ("[" * 100_000, r"critiques\.json: not valid JSON: nested too deeply"),
    ],
)
def test_malformed_json_is_named_with_its_place(tmp_path, text, expected):
    with pytest.raises(UserError, match=expected):
        import_paper(files(tmp_path, text, [])[:1])


def test_the_papers_own_files(tmp_path):
    sources = [PAPER / "CritiqueRevisionInstructions.json", PAPER / "RLMadisonInstructions.json"]
    if not all(path.is_file() for path in sources):
        pytest.skip(f"the paper's files are not in {PAPER}")
    entries, standards = (json.loads(path.read_text()) for path in sources)
    written, _ = import_paper(sources)
    (tmp_path / "law.txt").write_text(written)
    law = read_constitution(tmp_path / "law.txt")
    assert len(law.principles) == 16
    for p, (name, of), standard in zip(law.principles, entries.items(), standards, strict=True):
        assert p.name == name
        assert of["prompt"] == [f"\n\nCritiqueRequest: {p.critique}\n\nCritique:"]
        assert of["edit_request"] == f"\n\nRevisionRequest: {p.revise}\n\nRevision:"
        assert standard == f"\n{p.prefer} Options:"
    _, short = import_paper(sources[1:])
    assert [f"\n{p.name} Options:" for p in short.principles] == standards


# Lint by the text -----------------------------------------------------------------------------------------------------


def principle(name: str, line: int = 1, **fields: typing.Any) -> Principle:
    base = Principle(name, "c", "r", f"Choose {name}", "", "", (), 1.0, line)
    return replace(base, **fields)


def law_of(*principles: Principle) -> Constitution:
    return Constitution("T", "", principles, Path("law.txt"))


def test_a_long_standard_is_named_and_by_words_only_for_want_of_a_model():
    law = law_of(principle("a", prefer="Choose" + " x" * 60), principle("b", line=2, prefer="Choose" + " y" * 59))
    assert warnings(law) == [(1, '"a": prefer has 61 words; a small model reads only short standards well')]
    assert warnings(law, by_words=False) == []


def test_opposites_for_some_principles_only():
    law = law_of(principle("a", against="bad"), principle("b", line=5), principle("c", line=9))
    text = 'no "Against:" for "b", "c", but for the others: the method contrast treats them unlike'
    assert warnings(law) == [(5, text)]
    assert warnings(law_of(principle("a"), principle("b"))) == []
    assert warnings(law_of(principle("a", against="x"), principle("b", against="y"))) == []


def test_a_field_may_take_a_quarter_of_a_question():
    law = law_of(principle("a", critique="c" * 26, prefer="p" * 25, revise="r" * 25), principle("b", line=2))
    expected = [(1, '"a": critique takes 26 of the 100 tokens that a question may have, over a quarter')]
    assert long_for_model(law, len, 100) == expected


def test_subsets_that_the_pairs_do_not_have():
    law = law_of(principle("a", applies_to=("hate", "hatred")), principle("b", line=2))
    expected = [(1, '"a" applies to "hatred", which no pair belongs to (the pairs have: crime, hate)')]
    assert unknown_subsets(law, ["hate", "crime", "hate"]) == expected


def test_lint_counts_the_tokens_of_the_model(tiny, tmp_path, capsys):
    path = tmp_path / "law.txt"
    path.write_text("## a\nCritique: c\nRevise: r\nPrefer: Choose the kind response.\n")
    assert main(["lint", str(path), "--model", "tiny-random", "--max-length", "99"]) == 0
    shown = capsys.readouterr().out  # 25 bytes, a token each: more than 99 / 4 = 24.75
    assert f'{path}:1: "a": prefer takes 25 of the 99 tokens' in shown and "1 warning\n" in shown
    assert main(["lint", str(path), "--model", "tiny-random", "--max-length", "100"]) == 0
    assert "0 warnings" in capsys.readouterr().out


# Lint by a judge ------------------------------------------------------------------------------------------------------


def pair(number: int, subset: str = "all", human: float | None = None) -> Pair:
    prompt = Prompt(f"p{number}", (Message("user", f"question {number}"),), subset, "test")
    return Pair(f"pair-{number}", prompt, f"answer {number} a", f"answer {number} b", human)


def votes(**odds: float | None) -> tuple[Vote, ...]:
    """A `rate` vote of these log-odds for each principle; None: it cannot be read."""
    return tuple(
        Vote("rate", name, "each", 0.5, 1.0, (value or 0.0, 0.0, 0.0, 0.0), "" if value is not None else "unreadable")
        for name, value in odds.items()
    )


def test_what_each_principle_decides_by_hand():
    law = law_of(principle("x", 1), principle("y", 2), principle("z", 3), principle("w", 4))
    labels = [
        Label("1", 0.6, "ai", votes(x=1.0, y=2.0, z=-1.0)),
        Label("2", 0.6, "ai", votes(x=-3.0, y=-2.0, z=-1.0)),
        Label("3", 0.6, "ai", votes(x=0.5, y=-0.5, z=None)),
        Abstained("4", "unreadable", votes(x=None, y=None, z=None)),
    ]
    # x: pair 1 the others tie, pair 2 agrees, pair 3 dissents from y. z: dissents on pair 1, agrees on pair 2.
    # y: pair 1 tie, pair 2 agrees, pair 3 dissents from x.
    x, y, z, w = track_records(law, labels)
    assert (x.n, x.decided, x.dissent) == (3, 2, 0.5)
    assert x.strength == pytest.approx(1.5)  # (1 + 3 + 0.5) / 3
    assert x.spread == pytest.approx(math.sqrt((1.5**2 + 2.5**2 + 1.0**2) / 3))  # about the mean of -0.5
    assert (y.n, y.decided, y.dissent) == (3, 2, 0.5)
    assert (z.n, z.strength, z.spread, z.decided, z.dissent) == (2, 1.0, 0.0, 2, 0.5)
    assert (w.n, w.decided) == (0, 0) and math.isnan(w.strength) and math.isnan(w.dissent)
    assert [line.split() for line in table([x, w]).splitlines()[1:]] == [
        ["x", "1.500", "1.780", "50%", "of", "2", "3"],
        ["w", "-", "-", "-", "0"],
    ]


def test_idle_principles():
    usual = Record("usual", 1, 30, 1.0, 1.0, 30, 0.2)
    assert idle([usual, replace(usual, line=2)]) == []
    assert idle([usual, usual, Record("flat", 3, 30, 0.9, 0.2, 30, 0.5)]) == [
        (3, '"flat" hardly tells answers apart: its log-odds spread by 0.200, those of the other principles by 1.000')
    ]
    assert idle([usual, usual, Record("near", 3, 30, 0.9, 0.21, 30, 0.5)]) == []
    echo = Record("echo", 3, 20, 1.0, 1.0, 20, 0.0)
    assert idle([usual, usual, echo]) == [
        (3, '"echo" never decided against the majority of the other principles (20 pairs): '
            "it adds no judgement of its own")
    ]  # fmt: skip
    assert idle([usual, usual, replace(echo, n=19, decided=19)]) == []  # too few pairs to say so
    assert idle([usual, replace(usual, n=0, decided=0)]) == [(1, '"usual" gave no readable vote on any pair')]


def rating(standards: dict[str, tuple[float, float]]) -> ScriptedJudge:
    """A judge that answers each standard with given log-odds of Yes, for answer a and for answer b."""

    def script(question) -> tuple[float, ...]:
        text = question.chat[-1].content
        odds = next(value for standard, value in standards.items() if standard in text)
        yes = 1 / (1 + math.exp(-odds[" b\n" in text]))
        return math.log(yes), math.log(1 - yes)

    return ScriptedJudge(script)


def test_principles_vote_where_they_apply():
    law = law_of(principle("everywhere"), principle("hateful", applies_to=("hate",)))
    engine = rating({"everywhere": (1.0, 0.0), "hateful": (0.0, 3.0)})
    labels = judge_all(engine, [pair(1), pair(2, "hate")], law, asked_judge(JUDGE))
    assert [[vote.principle for vote in label.votes] for label in labels] == [["everywhere"], ["everywhere", "hateful"]]
    odds = [math.log(label.p_a / (1 - label.p_a)) for label in labels if isinstance(label, Label)]
    assert odds == pytest.approx([1.0, -1.0])
    with pytest.raises(UserError, match='no principle applies to the pairs of subset "all"'):
        judge_all(engine, [pair(1)], law_of(principle("hateful", applies_to=("hate",))), asked_judge(JUDGE))


def pairs_file(tmp_path: Path, count: int = 3) -> Path:
    rows = [
        {"prompt": f"question {n}", "a": f"answer {n}", "b": f"other {n}", "human": 1.0, "subset": "s"}
        for n in range(count)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_read_pairs(tmp_path):
    path = pairs_file(tmp_path)
    pairs, left_out = read_pairs(path)
    assert [(p.a, p.human) for p in pairs] == [(f"answer {n}", 1.0) for n in range(3)] and not left_out
    with path.open("a") as file:
        file.write('{"prompt": "x", "a": "y"}\n')
    pairs, left_out = read_pairs(path)
    assert (len(pairs), [where for where, _ in left_out]) == (3, [f"{path}:4"])
    path.write_text('{"prompt": "nobody judged this", "a": "y", "b": "z"}\n')
    assert [(p.a, p.human) for p in read_pairs(path)[0]] == [("y", None)]
    with pytest.raises(UserError, match="cannot read it: No such file"):
        read_pairs(tmp_path / "none.jsonl")
    path.write_text('{"prompt": "x"}\n')
    with pytest.raises(UserError, match="no comparison in this file can be used"):
        read_pairs(path)


LAW = """\
## a
Critique: c
Revise: r
Prefer: Choose the kind response.

## b
Critique: c
Revise: r
Prefer: Choose the honest response.
"""


def test_lint_on_pairs_shows_every_principle(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("law.txt").write_text(LAW + "Applies to: s, typo\n")
    with pairs_file(tmp_path).open("a") as file:
        file.write("no JSON\n" * 5)
    assert main(["lint", "law.txt", "--pairs", "pairs.jsonl", "--model", "tiny-random"]) == 0
    shown, told = capsys.readouterr()
    assert ", pairs.jsonl:6: not valid JSON" in told and " and 2 more\n" in told
    # 3 pairs, 2 answers, 2 principles
    assert "3 pairs judged by tiny-random, method rate (12 calls asked, 0 found in runs/calls)" in shown
    # The tiny model spreads its probability over all words alike, so no vote of it can be read: lint must say so.
    rows = [line.split() for line in shown.splitlines() if line.startswith(("a ", "b "))]
    assert [(row[0], row[-1]) for row in rows[-2:]] == [("a", "0"), ("b", "0")]
    assert 'law.txt:1: "a" gave no readable vote on any pair' in shown
    assert 'law.txt:6: "b" applies to "typo", which no pair belongs to (the pairs have: s)' in shown


# Differences of text --------------------------------------------------------------------------------------------------


def test_every_kind_of_change():
    old = law_of(principle("kept"), principle("worded", prefer="Choose x"), principle("weighed"), principle("gone"),
                 principle("first name", prefer="Choose the response that hurts nobody."))  # fmt: skip
    new = law_of(principle("fresh", prefer="Be brief"), principle("weighed", weight=2.0, line=7), principle("kept"),
                 principle("worded", prefer="Choose y", why="because"),
                 principle("second name", prefer="Choose the response that hurts nobody."))  # fmt: skip
    found = changes(old, new)
    assert [(change.kind, change.name, change.fields) for change in found] == [
        ("added", "fresh", ()),
        ("reweighted", "weighed", ("weight",)),
        ("reworded", "worded", ("prefer", "why")),
        ("renamed", "second name", ("name",)),
        ("removed", "gone", ()),
    ]
    assert headline(found) == "1 added, 1 removed, 1 reworded, 1 renamed, 1 reweighted"
    assert headline([]) == "no principle differs"
    assert show(found[1]).splitlines() == ["reweighted weighed", "    - weight: 1", "    + weight: 2"]
    assert show(found[2]).splitlines()[1:] == [
        "    - prefer: Choose x", "    + prefer: Choose y", "    - why: (none)", "    + why: because"
    ]  # fmt: skip
    # What one change makes of the old constitution: the rest stays.
    assert {p.name for p in applied(old, found[3]).principles} == {"kept", "worded", "weighed", "gone", "second name"}
    assert {p.name for p in applied(old, found[4]).principles} == {"kept", "worded", "weighed", "first name"}
    assert len(applied(old, found[0]).principles) == 6


def test_an_edited_line_of_the_short_form_is_one_change(tmp_path):
    laws = []
    for name, text in (("old", "Be kind to every person.\nStay calm.\n"), ("new", "Be kind to every animal.\nSing.\n")):
        (tmp_path / name).write_text(text)
        laws.append(read_constitution(tmp_path / name))
    found = changes(*laws)
    assert [(c.kind, c.name, c.fields) for c in found] == [
        ("reworded", "Be kind to every animal.", ("prefer",)),
        ("added", "Sing.", ()),
        ("removed", "Stay calm.", ()),
    ]
    assert show(found[2]).splitlines() == ["removed    Stay calm.", "    - prefer: Stay calm."]


def test_what_a_method_reads():
    def one(**fields: typing.Any) -> bool:
        old, new = law_of(principle("a")), law_of(principle("a", **fields))
        return [heard(change, judge, old, new) for change in changes(old, new)] == [True]

    judge = JUDGE
    assert one(prefer="x") and one(weight=2.0) and one(applies_to=("s",))
    assert not one(why="x") and not one(critique="x") and not one(against="x")
    judge = Judge(method="contrast", principles="all")
    assert one(against="x")


# Flips ----------------------------------------------------------------------------------------------------------------


def verdict(number: int, **odds: float | None) -> Label | Abstained:
    """As the judge would give it: the mean of the readable votes, weights of 1."""
    read = [value for value in odds.values() if value is not None]
    if not read:
        return Abstained(f"pair-{number}", "unreadable", votes(**odds))
    return Label(f"pair-{number}", 1 / (1 + math.exp(-sum(read) / len(read))), "ai", votes(**odds))


def test_flips_by_hand():
    old = law_of(principle("x"), principle("y"), principle("gone"))
    new = law_of(principle("x", prefer="Choose another"), principle("y", why="new"), principle("fresh", prefer="Sing"))
    found = changes(old, new)
    assert [(c.kind, c.name) for c in found] == [
        ("reworded", "x"), ("reworded", "y"), ("added", "fresh"), ("removed", "gone")
    ]  # fmt: skip
    pairs = [pair(1, human=1.0), pair(2, human=0.0), pair(3), pair(4, human=0.5)]
    before = [
        verdict(1, x=1.0, y=1.0, gone=1.0),  # sum +3
        verdict(2, x=1.0, y=0.5, gone=-1.0),  # sum +0.5
        verdict(3, x=None, y=None, gone=None),
        verdict(4, x=0.5, y=-1.0, gone=1.0),  # sum +0.5
    ]
    after = [
        verdict(1, x=2.0, y=1.0, fresh=3.0),  # sum +6
        verdict(2, x=-2.0, y=0.5, fresh=-1.0),  # sum -2.5: flips
        verdict(3, x=1.0, y=1.0, fresh=1.0),
        verdict(4, x=0.5, y=-1.0, fresh=0.0),  # sum -0.5: flips
    ]
    outcome = compare(pairs, (before, after), Edit(old, new, tuple(found)), JUDGE, 2)
    assert (outcome.flips.n, outcome.flips.value) == (3, pytest.approx(2 / 3))
    p = {number: 1 / (1 + math.exp(-number)) for number in (1, 2, 1 / 6, -5 / 6, -1 / 6)}
    moves = [p[2] - p[1], p[1 / 6] - p[-5 / 6], p[1 / 6] - p[-1 / 6]]
    assert outcome.moved.value == pytest.approx(sum(moves) / 3)
    assert [(a.change.name, a.read, a.flips, a.n) for a in outcome.alone] == [
        ("x", True, 1, 3),  # x alone: sums 4, -2.5, 0.5: pair 2 flips. Pair 3: unreadable before
        ("y", False, 0, 3),  # `rate` does not read Why
        ("fresh", True, 1, 3),  # fresh added: sums 6, -0.5, 0.5: pair 2 flips
        ("gone", True, 1, 3),  # gone removed: sums 2, 1.5, -0.5: pair 4 flips
    ]
    # pair 2 moves most; by itself x moves its mean from 1/6 to -2.5/3
    first, second = outcome.examples
    assert (first.pair.id, first.flipped, first.by) == ("pair-2", True, "x")
    assert (first.own_before, first.own_after) == (pytest.approx(0.7310586), pytest.approx(0.1192029))
    assert (second.pair.id, second.by, second.own_before, second.own_after) == (
        "pair-4", "gone", pytest.approx(0.7310586), None
    )  # fmt: skip
    was, now, gain = outcome.agreement  # people: a on pair 1, b on pair 2, split on pair 4
    assert (was.value, now.value, gain.value, gain.n) == (0.5, 1.0, 0.5, 2)
    shown = show_outcome(outcome)
    assert "labels that flip          2 of 3, 66.7% [" in shown
    assert "left out, the judge abstained: 1 before" in shown
    assert "reworded   y      not read by this judge" in shown
    assert 'moved most by "gone", whose own P goes 0.731 -> no vote' in shown


def test_people_who_are_split_give_no_agreement():
    old, new = law_of(principle("x")), law_of(principle("x", prefer="Choose y"))
    verdicts = [[verdict(1, x=odds)] for odds in (1.0, -1.0)]
    outcome = compare([pair(1, human=0.5)], verdicts, Edit(old, new, tuple(changes(old, new))), JUDGE, 0)
    assert outcome.agreement == ()
    assert "people" not in show_outcome(outcome)


def test_weights_count_when_one_change_is_applied():
    old, new = law_of(principle("x"), principle("y")), law_of(principle("x", weight=3.0), principle("y"))
    before = [verdict(1, x=1.0, y=-2.0)]
    # With weight 3: (3 * 1 - 2) / 4 = 0.25
    after = [replace(before[0], p_a=1 / (1 + math.exp(-0.25)))]
    outcome = compare([pair(1)], (before, after), Edit(old, new, tuple(changes(old, new))), JUDGE, 1)
    assert [(a.change.kind, a.flips) for a in outcome.alone] == [("reweighted", 1)]
    assert outcome.alone[0].moved.value == pytest.approx(outcome.moved.value)
    assert outcome.examples[0].own_before == outcome.examples[0].own_after  # its vote is what it was; its weight is not


def test_one_change_alone_is_the_whole_change():
    """Judged by a scripted judge, through the real judging: recombining gives exactly what judging gives."""
    old = law_of(principle("kind", weight=2.0), principle("honest", prefer="Choose honest"))
    new = law_of(principle("kind", weight=2.0), principle("honest", prefer="Choose brief words"))
    engine = rating({"kind": (0.3, 0.0), "honest": (0.5, 0.0), "brief": (0.0, 1.5)})
    pairs = [pair(1), pair(2)]
    before, after = (judge_all(engine, pairs, law, asked_judge(JUDGE)) for law in (old, new))
    outcome = compare(pairs, (before, after), Edit(old, new, tuple(changes(old, new))), JUDGE, 0)
    assert (outcome.flips.value, outcome.alone[0].flips) == (1.0, 2)  # (2*0.3 + 0.5)/3 against (2*0.3 - 1.5)/3
    assert outcome.alone[0].moved.value == pytest.approx(outcome.moved.value, abs=1e-12)


def test_cuts_of_long_texts():
    assert head("a " * 300).endswith("...") and len(head("a " * 300)) == 200
    assert tail("x" * 300 + " end").endswith("x end") and len(tail("x" * 300)) == 200
    assert (head("short\n text"), tail("short")) == ("short text", "short")


def test_diff_asks_only_what_changed(sharp, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("old.txt").write_text(LAW)
    Path("new.txt").write_text(LAW.replace("the honest response", "the shorter response") + "Weight: 2\n")
    pairs_file(tmp_path)
    arguments = ["diff", "old.txt", "new.txt", "--pairs", "pairs.jsonl", "--model", sharp.place, "--method", "contrast"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "old.txt -> new.txt: 1 reworded" in shown
    assert "    - prefer: Choose the honest response.\n    + prefer: Choose the shorter response." in shown
    # 3 pairs x 2 sides (for, against) x 2 principles, of which one changed
    assert "calls for old.txt: 12 asked, 0 found" in shown and "calls for new.txt: 6 asked, 6 found" in shown
    assert "agreement with people" in shown

    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["labels"]["calls"]["old"] == report["labels"]["calls"]["new"] == {"asked": 0, "found": 12}
    assert report["changes"][0]["fields"]["weight"] == {"before": 1.0, "after": 2.0}
    moves = [abs(row["p_after"] - row["p_before"]) for row in report["labels"]["pairs"]]
    assert len(moves) == 3 and report["labels"]["mean_abs_change"]["value"] == pytest.approx(sum(moves) / 3)
    assert f"mean |change of P|        {sum(moves) / 3:.4f}" in shown

    Path("new.txt").write_text(LAW + "Why: because\n")
    assert main(arguments) == 0
    assert "nothing that this judge reads has changed: no label can flip" in capsys.readouterr().out


def test_diff_and_lint_of_what_a_program_checks(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("old.txt").write_text("## brief\nCheck: at most 3 words\n")
    Path("new.txt").write_text("## brief\nCheck: at least 3 words\n")
    prompt = {"role": "user", "content": "Well?"}
    rows = [{"prompt": [prompt], "a": "One two.", "b": "One two three four.", "human": 1.0} for _ in range(2)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["diff", "old.txt", "new.txt", "--pairs", "pairs.jsonl", "--model", "tiny-random"]) == 0
    shown = capsys.readouterr().out
    assert "- check: at most 3 words" in shown and "calls for new.txt: 0 asked, 0 found" in shown
    assert "could not be measured: a program checks what has changed, and no judge reads it" in shown
    assert "100.0%" in shown.split("labels that flip")[1].splitlines()[0]
    assert main(["lint", "old.txt", "--pairs", "pairs.jsonl", "--model", "tiny-random"]) == 0
    assert "checked by a program: at most 3 words" in capsys.readouterr().out
    Path("new.txt").write_text("## brief\nCheck: python code runs\n")
    assert run_main(main, ["diff", "old.txt", "new.txt", "--pairs", "pairs.jsonl", "--model", "tiny-random"]) == 2
    assert "new.txt: " in (told := capsys.readouterr().err) and "nothing allows that" in told


def test_diff_with_a_judge_that_cannot_be_read(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("old.txt").write_text(LAW)
    Path("new.txt").write_text(LAW.replace("honest", "shorter"))
    pairs_file(tmp_path)
    asked = ["--pairs", "pairs.jsonl", "--model", "tiny-random", "--cache", "mine"]
    assert main(["diff", "old.txt", "new.txt", *asked]) == 0
    shown = capsys.readouterr().out
    assert f"found in {Path('mine', 'calls')}" in shown
    assert main(["lint", "old.txt", *asked]) == 0
    assert Path("mine/calls").is_dir() and not Path("runs").exists()
    assert "no pair got a label both times: there is nothing to compare" in shown
    assert "left out, the judge abstained: 3 both times" in shown and "nan" not in shown


def test_diff_of_texts_alone_needs_no_judge(tmp_path, capsys):
    (tmp_path / "old.txt").write_text(LAW)
    (tmp_path / "new.txt").write_text(LAW.split("\n## b")[0])
    assert main(["diff", str(tmp_path / "old.txt"), str(tmp_path / "new.txt")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "removed    b", "    - prefer: Choose the honest response."
    ]  # fmt: skip


def test_revise_tells_what_the_principles_do_to_revisions(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("law.txt").write_text("- The response is honest.\n- Kindness!\n")
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Why is {n} odd?"}) + "\n" for n in (1, 3, 5)))
    short = ["--model", "tiny-random", "--drafts", "2", "--max-new-tokens", "8"]
    arguments = ["revise", "law.txt", "prompts.jsonl", *short]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "2 drafts of tiny-random, revised by tiny-random; law.txt, prompts.jsonl" in shown
    assert "Revisions were not seen to follow checkable principles" in shown and "nan" not in shown
    assert 'note: "Kindness!" has no opposite to be revised under: write its `Against:`' in shown
    assert "less placebo" in shown and "owed to the texts" in shown

    examples = Path(__file__).parents[2] / "prompts/examples/revise.jinja"
    assert main([*arguments, "--examples", str(examples), "--reviser", "tiny-random", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["effect"]["drafts"] == 2 and report["examples"] == str(examples)
    # Two drafts, a principle of the constitution and a checked one, two draws: three texts, or two without an opposite.
    own = [row for row in report["revisions"] if row["origin"] == "constitution"]
    assert len(report["revisions"]) - len(own) == 2 * 3 * 2
    assert {row["principle"]: row["control"] for row in own if row["control"] == "opposite"}.keys() <= {
        "The response is honest."
    }


def test_revise_says_what_is_missing_before_it_asks(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("law.txt").write_text("- The response is honest.\n")
    Path("prompts.jsonl").write_text('{"prompt": "Why?"}\n')
    pottery = Path(__file__).parents[2] / "constitutions/placebo/pottery.txt"
    assert run_main(main, ["revise", str(pottery), "prompts.jsonl"]) == 2
    assert 'the placebo "pottery" is the constitution' in capsys.readouterr().err
    for more, said in (
        (["gone.jsonl"], 'there is no data source "gone.jsonl"'),
        (["prompts.jsonl", "--examples", "gone.jinja"], "no such template"),
        (["prompts.jsonl", "--model", "gone"], "gone"),
        (["prompts.jsonl", "--reviser", "gone"], "gone"),
    ):
        assert run_main(main, ["revise", "law.txt", *more]) == 2
        err = capsys.readouterr().err
        assert said in err and "Traceback" not in err
    for bad in (["--temperature", "warm"], ["--temperature", "-1"], ["--drafts", "0"]):
        with pytest.raises(SystemExit):
            main(["revise", "law.txt", "prompts.jsonl", *bad])
        assert "argument --" in capsys.readouterr().err


def test_methods_on_the_command_line_exist():
    assert set(METHODS) == set(typing.get_args(Method)) - {
        "check",
        "provenance",
        "rubric",
    }  # they ask about no principle


def test_bad_numbers_are_refused(capsys):
    for arguments in (["lint", "x", "--max-length", "0"], ["diff", "x", "y", "--examples", "-1"]):
        with pytest.raises(SystemExit):
            main(arguments)
    shown = capsys.readouterr().err
    assert "it must be above 0" in shown and "not a whole number" in shown
