"""Statements about an assistant, judged by what it said: scripted ratings, worked out by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedJudge, asked_judge

from cai.config.sections import Judge
from cai.constitution import read_constitution
from cai.core.draws import uniform
from cai.core.records import Abstained, Label, Message, Pair, Prompt
from cai.data.comparisons import Item
from cai.judge.bench import Asking, bench_file, page
from cai.judge.conduct import FEWEST, FOLDS, TOO_FEW, UNRATED, judge_conduct
from cai.judge.methods import principles_for

KIND, CRUEL = "The assistant was kind.", "The assistant was cruel."
JUDGE = Judge(method="rate", principles="all")


def item(number: int, kind: bool, said: str = "", *, turned: bool = False, opening: str = "") -> Item:
    """A conversation whose assistant said `said`. kind: which statement people found right. turned: it is b."""
    prompt = Prompt(f"prompt {number}", (Message("user", f"Question {number}?"),), "all", "test")
    right, wrong = (KIND, CRUEL) if kind else (CRUEL, KIND)
    a, b, human = (wrong, right, 0.0) if turned else (right, wrong, 1.0)
    pair = Pair(f"pair {number}", prompt, a, b, human, (human,))
    conduct = (prompt, said or ("yes" if kind else "no"))
    return Item(pair, None, opening or f"opening {number}", f"file:{number}", conduct)


def rating(question: Any) -> tuple[float, ...] | None:
    """Log-odds of Yes of 1 for "yes", -1 for "no"; "unsure" has no probability on the options; "long" is too long."""
    text = question.chat[-1].content
    if "Assistant: long" in text:
        return None
    if "Assistant: unsure" in text:
        return (-20.0, -20.0)
    p = 1 / (1 + math.exp(-1.0 if "Assistant: yes" in text else 1.0))
    return math.log(p), math.log(1 - p)


def judged(tmp_path: Path, items: list[Item], script: Any = rating) -> list[Label | Abstained]:
    law = tmp_path / "law.txt"
    law.write_text("- Choose the response that is kind.\n")
    judging = principles_for(read_constitution(law), JUDGE)
    return judge_conduct(ScriptedJudge(script), items, asked_judge(JUDGE, judging), title="")


def test_a_good_answer_speaks_for_the_statement_that_it_goes_with(tmp_path: Path) -> None:
    items = [item(n, kind=n % 2 == 0, turned=n % 3 == 0) for n in range(60)]
    found = judged(tmp_path, items)
    assert [label.pair_id for label in found] == [one.pair.id for one in items]
    for one, label in zip(items, found, strict=True):
        assert isinstance(label, Label) and (label.p_a > 0.5) == (one.pair.human == 1.0)


def test_the_sign_is_learnt_as_well(tmp_path: Path) -> None:
    """A judge that likes what people call cruel is turned round: which statement is the friendly one is not known."""
    items = [item(n, kind=n % 2 == 0, said="no" if n % 2 == 0 else "yes") for n in range(60)]
    assert all(isinstance(label, Label) and label.p_a > 0.5 for label in judged(tmp_path, items))


def test_no_item_is_judged_by_a_fit_that_has_seen_its_opening(tmp_path: Path) -> None:
    """Of one opening that goes against all others, every item is judged wrongly, however many there are."""
    others = [item(n, kind=n % 2 == 0) for n in range(40)]
    odd = [item(n, kind=n % 2 == 0, said="no" if n % 2 == 0 else "yes", opening="odd") for n in range(40, 90)]
    found = judged(tmp_path, [*others, *odd])[40:]
    assert all(isinstance(label, Label) and label.p_a < 0.5 for label in found)


def test_the_fit_is_platts(tmp_path: Path) -> None:
    """In 9 of 12 other conversations the right statement is "kind" where the answer is rated 1, in 3 of 12 where it is
    rated -1. Platt's targets for 12 and 12 are 13/14 and 1/14, so the mean target is (9 * 13 + 3 * 1) / (12 * 14) =
    5/7 for a rating of 1: a slope of ln(2.5) and no bias."""
    folds = {n: int(FOLDS * uniform("conduct", 0, f"opening {n}")) for n in range(400)}
    mine = next(n for n in folds if folds[n] == 0)
    rest = [n for n in folds if folds[n] != 0][:24]
    said = ["yes"] * 12 + ["no"] * 12
    kind = [True] * 9 + [False] * 3 + [True] * 3 + [False] * 9
    items = [item(n, k, s) for n, k, s in zip(rest, kind, said, strict=True)]
    label = judged(tmp_path, [*items, item(mine, True, "yes")])[-1]
    assert isinstance(label, Label) and label.p_a == pytest.approx(5 / 7, abs=1e-6)


def test_what_cannot_be_rated_is_an_abstention(tmp_path: Path) -> None:
    items = [item(n, kind=n % 2 == 0) for n in range(40)] + [item(40, True, "unsure"), item(41, True, "long")]
    found = judged(tmp_path, items)
    assert [one for one in found if isinstance(one, Abstained)] == [
        Abstained("pair 40", UNRATED), Abstained("pair 41", UNRATED),
    ]  # fmt: skip


@pytest.mark.parametrize("few", ["one-sided", "alike"])
def test_a_threshold_is_not_guessed(tmp_path: Path, few: str) -> None:
    if few == "one-sided":
        items = [item(n, kind=n >= FEWEST - 1) for n in range(60)]
    else:
        items = [item(n, kind=n % 2 == 0, said="yes") for n in range(60)]
    assert {(type(one), one.reason) for one in judged(tmp_path, items) if isinstance(one, Abstained)} == {
        (Abstained, TOO_FEW)
    }


def test_other_statements_have_a_threshold_of_their_own(tmp_path: Path) -> None:
    items = [item(n, kind=n % 2 == 0) for n in range(60)]
    prompt = Prompt("alone", (Message("user", "Hi?"),), "all", "test")
    alone = Item(
        Pair("alone", prompt, "It was right.", "It was wrong.", 1.0, (1.0,)), None, "x", "file:x", (prompt, "no")
    )
    assert judged(tmp_path, [*items, alone])[-1] == Abstained("alone", TOO_FEW)


def test_the_bench_has_a_row_for_conduct(tmp_path: Path) -> None:
    path = tmp_path / "law.txt"
    path.write_text("- Choose the response that is kind.\n")

    class Counting(ScriptedJudge):
        asked = found = 0

    engine: Any = Counting(rating)
    asking = Asking(engine, read_constitution(path), asked_judge(Judge(principles="all")))
    items = [item(n, kind=n % 2 == 0) for n in range(60)]
    rows = bench_file("file.jsonl", items, ("rate", "choice"), asking)
    assert [row.name for row in rows] == ["rate", "choice", "rate, of the conduct", "longer answer", "shorter answer"]
    assert rows[2].accuracy.value == 1.0 and rows[2].accuracy.clusters == 60
    held: Any = type("Held", (), {"form": {"evaluation item": 60}, "faults": ()})()
    of = {"file": "file.jsonl", "judged": 60, "comparisons": 60, "clusters": 60}
    said = page(of, rows, held, "")
    assert any(line.startswith("*, of the conduct: a conversation's last answer is judged alone") for line in said)
