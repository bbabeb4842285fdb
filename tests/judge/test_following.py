"""Whether a judge follows an edit, told before its flips are believed: judges made for it, and the two programs."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedJudge, asked_judge

from cai.config.sections import Judge
from cai.constitution import Constitution
from cai.constitution.__main__ import main
from cai.constitution.changes import changes
from cai.constitution.parse import parse
from cai.core.errors import UserError, run_main
from cai.core.records import Abstained, Estimate, Label, Message, Pair, Prompt
from cai.judge.flips import heard
from cai.judge.following import (
    Edit,
    Floor,
    Following,
    among_placebos,
    as_json,
    fair_controls,
    floor,
    following,
    sentence,
)
from cai.judge.reads.placebos import Placebo
from cai.judge.trial import Court, judge_all
from cai.models.engines import Question

JUDGE = Judge(principles="all", min_mass=0.0)
LONGER = "- Choose the longer response.\n- Choose the response that is polite.\n"
SHORTER = LONGER.replace("longer", "shorter")


def law(text: str) -> Constitution:
    return parse(text, Path("law.txt"))


def pairs(count: int = 12, subset: str = "all") -> list[Pair]:
    """The long answer is a in every other pair; people always prefer it."""
    found = []
    for n in range(count):
        prompt = Prompt(f"{subset} {n}", (Message("user", f"Question {n}?"),), subset, "test")
        answers = ("A long one.", "Short.") if n % 2 else ("Short.", "A long one.")
        found.append(Pair(f"pair {subset} {n}", prompt, *answers, float(n % 2)))
    return found


def instruction(question: Question) -> str:
    return question.chat[-1].content.split("Instruction to the judge: ")[1].split("\n")[0]


def court(likes: Callable[[str, str, str], float]) -> Court:
    """A judge whose log-odds of Yes for an answer are likes(instruction, prompt, answer)."""

    def script(question: Question) -> tuple[float, ...]:
        text = question.chat[-1].content
        prompt = text.split("Question ")[1].split("?")[0]
        answer = text.split("Assistant: ")[1].split("\n")[0]
        return likes(instruction(question), prompt, answer), 0.0

    engine: Any = ScriptedJudge(script)
    return Court(asked_judge(JUDGE), engine, Path("runs/calls"))


def tried(of: Court, old: str = LONGER, new: str = SHORTER, rows: list[Pair] | None = None) -> tuple[Following, Floor]:
    rows = rows or pairs()
    laws = law(old), law(new)
    edit = Edit(*laws, tuple(one for one in changes(*laws) if heard(one, JUDGE, *laws)))
    controls, noted = fair_controls(edit.tested, rows)
    verdicts = [judge_all(of.engine, rows, one, of.judge) for one in laws]
    return following(of, rows, edit.tested, controls, noted), floor(of, rows, edit, controls.placebos, verdicts)


# Judges


def long(answer: str) -> float:
    return 1.0 if "long" in answer else -1.0


def follower(text: str, prompt: str, answer: str) -> float:
    return long(answer) if "longer" in text else -long(answer) if "shorter" in text else 0.0


def deaf(text: str, prompt: str, answer: str) -> float:
    return long(answer)


def seer(text: str, prompt: str, answer: str) -> float:
    """Of subjects: whatever is said of length makes it like what is long."""
    return long(answer) if "longer" in text or "shorter" in text else 0.0


def pushed(text: str, prompt: str, answer: str) -> float:
    """Any text pushes it about, and none by its sense."""
    return 1.0 if hashlib.sha256(f"{text} {prompt} {answer}".encode()).digest()[0] % 2 else -1.0


def test_a_judge_that_follows() -> None:
    follows, than = tried(court(follower))
    # The edited principle alone: log-odds of 2 under it, -2 negated, 0 under placebos.
    assert follows.follows and follows.effect and follows.effect.turn.value == -1 and follows.effect.share.value == 1
    # Politeness says nothing: with the edit every label turns. Among placebos all are ties before and after.
    assert (than.edit.value, than.placebo.value, than.beyond.value) == (1, 0, 1) and than.beyond.low > 0
    said = sentence(follows, "edits of this kind", than)
    assert said.startswith(
        "this judge follows edits of this kind: turn -1.00 [-1.00, -1.00] (-1 follows the negation, +1 ignores it), "
        "share 100.0% [100, 100], 100.0% ["
    )
    assert said.endswith(
        "of labels turn with the negation; the flips below (12 of 12) are more than a placebo edit causes (0 of 12)"
    )


def test_what_people_like_plays_no_part() -> None:
    """An edit to what nobody likes is followed as well: gain is below 0 here."""
    follows, _ = tried(court(follower), SHORTER.replace("shorter", "kinder"), SHORTER, pairs(24))
    assert follows.follows and follows.effect and follows.effect.gain.value < 0 and follows.effect.gain.high < 0


def test_a_judge_that_ignores_the_text() -> None:
    follows, than = tried(court(deaf))
    assert follows.follows is False
    said = sentence(follows, "edits of this kind", than)
    assert said.startswith(
        "this judge was not seen to follow edits of this kind: turn undefined (the text moves its log-odds no more "
        "than one placebo or another does), share 0.0% [0, 0], 0.0% ["
    )
    assert said.endswith(
        "; the flips below (0 of 12) are as many, as far as these pairs can tell, as a placebo edit causes (0 of 12)"
    )


def test_a_judge_that_sees_subjects_and_not_their_sense() -> None:
    follows, than = tried(court(seer))
    assert follows.follows is False and follows.effect and follows.effect.turn.value == 1
    assert (than.edit.value, than.placebo.value) == (0, 0)


def test_a_judge_that_any_text_pushes_about_flips_as_many_labels_at_a_placebo_edit() -> None:
    follows, than = tried(court(pushed), rows=pairs(200))
    assert follows.follows is False
    assert than.edit.value > 0.25 and than.placebo.value > 0.25  # flips enough to be taken for an effect of the text
    assert than.beyond.low < 0 < than.beyond.high
    assert "as many, as far as these pairs can tell, as a placebo edit causes" in sentence(follows, "edits", than)


def test_more_and_fewer_are_told() -> None:
    follows, _ = tried(court(deaf))

    def than(low: float, high: float) -> str:
        edit, placebo = (Estimate(share, 0.0, 1.0, 10, 10) for share in (0.3, 0.2))
        return sentence(follows, "edits", Floor(edit, placebo, Estimate(0.1, low, high, 10, 10)))

    assert than(0.05, 0.2).endswith("the flips below (3 of 10) are more than a placebo edit causes (2 of 10)")
    assert "are fewer than a placebo edit causes" in than(-0.2, -0.05)


# What cannot be measured


def test_without_a_negation_it_says_so() -> None:
    follows, than = tried(court(follower), "Kindness above all.\n", "Kindness above everything.\n")
    assert follows.follows is None and than.edit.n == 12
    assert sentence(follows, "edits of this kind") == (
        "whether this judge follows edits of this kind could not be measured: none of them has an `Against:`, and no "
        "rule knows the form of one"
    )
    assert '"Kindness above everything." has no negation: write its `Against:`' in follows.noted


def test_the_old_text_is_tried_where_the_new_one_has_no_negation() -> None:
    laws = law("Choose the response that is kind.\n"), law("Choose that response that is kind.\n")
    (change,) = changes(*laws)
    assert Edit(*laws, (change,)).tested.principles == laws[0].principles


def test_principles_for_other_pairs_are_not_put_to_the_test() -> None:
    text = "## {}\nCritique: c\nRevise: r\nPrefer: Choose the {} response.\n"
    old = text.format("all", "kinder") + text.format("size", "longer") + "Applies to: crime\n"
    new = old.replace("longer", "shorter")
    rows = pairs(4, "crime") + pairs(8, "hate")
    follows, than = tried(court(follower), old, new, rows)
    assert follows.follows and follows.pairs == 4
    assert (than.edit.n, than.edit.value) == (12, pytest.approx(4 / 12))
    follows, than = tried(court(follower), old, new, pairs(8, "hate"))
    assert follows.follows is None and than.edit.value == than.placebo.value == 0
    assert "could not be measured: no pair is of a category that they apply to" in sentence(follows, "edits")
    assert as_json(follows, "edits", than)["effect"] is None


def test_a_judge_that_cannot_be_read() -> None:
    of = court(follower)
    of.engine.script = lambda question: None  # pyrefly: ignore: longer than judge.max_length
    follows, than = tried(of)
    assert follows.follows is None and than.edit.n == 0
    assert "could not be measured: no pair could be read" in sentence(follows, "edits", than)
    assert json.dumps(as_json(follows, "edits", than), allow_nan=False)


def test_a_placebo_that_is_the_constitution(tmp_path: Path) -> None:
    text = Path("constitutions/placebo/pottery.txt").read_text()
    controls, noted = fair_controls(parse(text, Path("pottery.txt")), pairs())
    assert [placebo.name for placebo in controls.placebos] == ["bicycles", "seasons", "vegetables"]
    assert noted[1] == 'placebo "pottery" is left out: most of its sentences share words with the principles'
    with pytest.raises(UserError, match='the placebo "pottery" is the constitution'):
        names = [f"constitutions/placebo/{name}.txt" for name in ("bicycles", "pottery")]
        fair_controls(parse(text, Path("pottery.txt")), pairs(), names)


def test_a_word_that_a_placebo_shares_with_an_edited_principle_takes_the_sentence_out() -> None:
    controls, noted = fair_controls(law("Choose the shorter response.\n"), pairs())
    assert len(controls.placebos) == 4 and all("shorter" not in " ".join(p.sentences) for p in controls.placebos)
    assert noted == ['placebo "seasons": 1 of its sentences are left out for sharing "shorter"']


# The placebo edit


def test_the_same_edit_among_placebos() -> None:
    """A sentence for each edited principle, of its length, name, weight and pairs; the others stay."""
    section = "## {0}\nCritique: c\nRevise: r\nPrefer: Choose the response that {1}.\n"
    old = law("".join(section.format(*of) for of in (("kept", "sings"), ("worded", "a b c"), ("weighed", "runs"),
                                                     ("gone", "swims"))))  # fmt: skip
    new = law("".join(section.format(*of) for of in (("kept", "sings"), ("worded", "x"), ("fresh", "d e"),
                                                     ("weighed", "runs"))) + "Weight: 3\n")  # fmt: skip
    p = Placebo("p", ("p five words are here.", "p four words here.", "p three words."))
    q = Placebo("q", ("q three words.", "q four words here.", "q five words are here."))
    before, after = among_placebos(old.judging, new.judging, changes(old, new), (p, q))
    # Lengths: worded 7 words, weighed and gone 5; the longest is matched first, and no sentence is used twice.
    assert [(one.name, one.prefer, one.weight) for one in before] == [
        ("kept", "Choose the response that sings.", 1.0),
        ("worded", "p five words are here.", 1.0),
        ("weighed", "p three words.", 1.0),
        ("gone", "p four words here.", 1.0),
    ]
    assert [(one.name, one.prefer, one.weight) for one in after] == [
        ("kept", "Choose the response that sings.", 1.0),
        ("worded", "q three words.", 1.0),
        ("fresh", "q five words are here.", 1.0),
        ("weighed", "p three words.", 3.0),  # its text is what it was
    ]


def test_pairs_count_that_have_a_label_all_four_times(monkeypatch: pytest.MonkeyPatch) -> None:
    def label(number: int, p: float) -> Label:
        return Label(f"pair {number}", p, "ai", ())

    gone = Abstained("pair", "unreadable", ())
    made = [
        label(0, 0.9),
        label(0, 0.1),
        label(1, 0.9),
        label(1, 0.8),
        label(2, 0.9),
        gone,
        label(3, 0.5),
        label(3, 0.6),
    ]
    monkeypatch.setattr("cai.judge.following.judge_jobs", lambda *args, **more: made)
    laws = law(LONGER), law(SHORTER)
    old = [label(0, 0.9), label(1, 0.9), label(2, 0.9), label(3, 0.9)]
    new = [label(0, 0.8), label(1, 0.2), label(2, 0.1), label(3, 0.5)]
    placebos = [Placebo(name, (f"{name} one.", f"{name} two.")) for name in "pq"]
    found = floor(court(deaf), pairs(4), Edit(*laws, tuple(changes(*laws))), placebos, [old, new])
    # The third pair has no label after the placebo edit. Of the others the edit flips 1 and 3 (to a tie), placebos
    # flip 0 and 3 (from a tie).
    assert (found.edit.n, found.edit.value, found.placebo.value) == (3, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert found.beyond.value == 0


# The programs


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    placebos = [str(path.resolve()) for path in sorted(Path("constitutions/placebo").glob("*.txt"))[:2]]
    monkeypatch.chdir(tmp_path)
    Path("old.txt").write_text(LONGER)
    Path("new.txt").write_text(SHORTER)
    Path("placebos.json").write_text(json.dumps(placebos))
    rows = [{"prompt": f"question {n}", "a": f"answer {n}", "b": f"other {n}", "human": 1.0} for n in range(4)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_diff_says_so_before_the_flips(sharp: Any, place: Path, capsys: Any) -> None:
    arguments = ["diff", "old.txt", "new.txt", "--pairs", "pairs.jsonl", "--model", sharp.place, "--method", "contrast"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if " edits of this kind: turn " in line)
    assert lines[at].startswith(("this judge follows", "this judge was not seen to follow"))
    assert lines[at + 1].startswith('note: placebo "seasons": ')
    flips, floor_line, difference = lines[at + 2 : at + 5]
    assert flips.startswith("labels that flip          ") and " of 4, " in flips
    assert floor_line.startswith("  by a placebo edit       ") and " of 4, " in floor_line
    assert difference.startswith("  difference              ") and difference.endswith(" points")
    # The edited principle and its negation (which is the edit, asked already), and a sentence of two placebos for each
    # pair. `contrast` asks each for and against.
    (calls,) = [line for line in lines if line.startswith("calls for negations and placebos")]
    assert calls.startswith("calls for negations and placebos: 16 asked, ")

    assert main([*arguments, "--json"]) == 0
    held = json.loads(capsys.readouterr().out)["labels"]
    assert held["calls"]["controls"]["asked"] == 0
    assert held["follows"]["sentence"] == lines[at] and held["follows"]["pairs"] == 4
    assert set(held["follows"]["placebo_edit"]) == {"edit", "placebo", "beyond"}
    assert held["follows"]["placebo_edit"]["edit"]["value"] == held["flips"]["value"]


def test_lint_says_so_of_the_whole_constitution(tiny: Any, place: Path, capsys: Any) -> None:
    assert main(["lint", "old.txt", "--pairs", "pairs.jsonl", "--model", "tiny-random"]) == 0
    out = capsys.readouterr().out
    assert (
        "whether this judge follows edits of these principles could not be measured: no pair could be read under their "
        "text, its negation and two placebos\n" in out
    )


def test_placebos_of_ones_own(tiny: Any, place: Path, capsys: Any) -> None:
    Path("same.txt").write_text(SHORTER)
    command = ["diff", "old.txt", "new.txt", "--pairs", "pairs.jsonl", "--model", "tiny-random"]
    given = [word for name in json.loads(Path("placebos.json").read_text()) for word in ("--placebo", name)]
    assert run_main(main, [*command, "--placebo", "same.txt", *given]) == 2
    err = capsys.readouterr().err
    assert 'the placebo "same" is the constitution' in err and "Traceback" not in err
    assert run_main(main, [*command, *given[:2]]) == 2
    assert "1 of 1 placebos have nothing to do with the data, and 2 are needed" in capsys.readouterr().err
    assert run_main(main, [*command, *given]) == 0
