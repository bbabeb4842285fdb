"""The bench of judges: figures worked out by hand from scripted answers, and the program on a tiny model."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedJudge, asked_judge
from faulty_server import FaultyServer

from cai.config.sections import Judge
from cai.constitution import read_constitution
from cai.core.draws import uniform
from cai.core.errors import UserError, run_main
from cai.core.records import Message, Pair, Prompt
from cai.data.comparisons import Comparisons, Item
from cai.judge.__main__ import main
from cai.judge.bench import AS_GIVEN, Asking, Clock, Row, bench_file, page, report, rulers, sample
from cai.judge.common import methods_named
from cai.models.engines import Question
from cai.models.references import ModelRef

LAW = "- Choose the response that is kind.\n"


class Counting(ScriptedJudge):
    """A scripted judge that counts its calls, as the call cache does."""

    asked = found = 0

    def choose(self, questions: Any, max_length: int, title: str) -> Any:
        self.asked += len(questions)
        return super().choose(questions, max_length, title)


def asking(tmp_path: Path, script: Any) -> Asking:
    path = tmp_path / "law.txt"
    path.write_text(LAW)
    engine: Any = Counting(script)
    return Asking(engine, read_constitution(path), asked_judge(Judge(principles="all")))


def item(name: str, human: float = 1.0, right: str = "", cluster: str = "", a: str = "good", b: str = "bad") -> Item:
    """right: the label of the right option of a multiple choice; without it there is none."""
    prompt = Prompt(f"prompt {name}", (Message("user", f"Question {name}?"),), "all", "test")
    wrong = {"A": "B", "B": "A"}.get(right, "")
    chat = (Message("user", f"Which {name}?\n (A) x\n (B) y"),)
    given = Question(chat, (f" ({right})", f" ({wrong})"), "Answer:") if right else None
    pair = Pair(f"pair {name}", prompt, a, b, human, (human,))
    return Item(pair, given, cluster or name, f"file:{name}")


def logs(*shares: float) -> tuple[float, ...]:
    return tuple(math.log(share) for share in shares)


def row(rows: list[Row], name: str) -> Row:
    (found,) = [row for row in rows if row.name == name]
    return found


# Which methods


def test_methods_by_name() -> None:
    assert methods_named("all") == ()
    assert methods_named("rate, choice,rate") == ("rate", "choice")


def test_an_unknown_method_is_named_with_a_suggestion() -> None:
    with pytest.raises(UserError) as caught:
        methods_named("rate,chioce")
    assert (caught.value.problem, caught.value.where) == ('there is no method "chioce"', "--method")
    assert caught.value.remedy == 'did you mean "choice"?'


def test_all_methods_and_provenance_only_where_it_is_known(tmp_path: Path) -> None:
    one = item("1")
    known = replace(one, pair=replace(one.pair, prompted=1.0))
    script = lambda question: logs(*[1 / len(question.options)] * len(question.options))  # noqa: E731
    five = ["rate", "choice", "score", "contrast", "reason", "channel"]
    names = [found.name for found in bench_file("f", [one], (), asking(tmp_path, script))]
    assert names == [*five, "longer answer", "shorter answer"]
    rows = bench_file("f", [known], (), asking(tmp_path, script))
    assert [found.name for found in rows] == [*five, "provenance", "longer answer", "shorter answer"]
    assert row(rows, "provenance").accuracy.value == 1.0


# The sample


def test_a_sample_takes_openings_as_wholes_and_keeps_the_order() -> None:
    items = [item(f"{cluster}{n}", cluster=cluster) for n in (1, 2) for cluster in "abcdef"]
    order = sorted("abcdef", key=lambda cluster: uniform("bench", 3, cluster))
    kept = sample(items, 4, 3)
    assert {held.cluster for held in kept} == set(order[:2]) and len(kept) == 4
    assert kept == [held for held in items if held in kept]
    assert {held.where for held in sample(items, 5, 3)} > {held.where for held in kept}
    assert sample(items, None, 3) == sample(items, 99, 3) == items


def test_another_seed_draws_another_sample() -> None:
    items = [item(str(n)) for n in range(40)]
    assert sample(items, 10, 0) != sample(items, 10, 1)


# Methods


def test_a_method_is_diagnosed_with_openings_as_clusters(tmp_path: Path) -> None:
    # Yes has 3 to 1 for "good" and 1 to 1 for "bad": odds of 3, so P(good better) = 0.75 for every pair. It is right
    # on three of four; Brier is (3 * 0.25^2 + 0.75^2) / 4 = 0.1875, log-loss (3 * -ln 0.75 - ln 0.25) / 4 = 0.562.
    items = [item("1"), item("2", cluster="1"), item("3", human=0.0, a="bad", b="good"), item("4", human=0.0)]
    script = lambda q: logs(0.6, 0.2) if "Assistant: good" in q.chat[-1].content else logs(0.3, 0.3)  # noqa: E731
    judge = asking(tmp_path, script)
    found = row(bench_file("f", items, ("rate",), judge), "rate")
    assert found.diagnosis is not None and found.first is None
    engine: Any = judge.engine
    assert len(engine.questions) == 2 + 8  # the first pair is asked before the clock runs, to load the model
    assert (found.accuracy.value, found.accuracy.n, found.accuracy.clusters) == (0.75, 4, 3)
    assert found.diagnosis.brier.value == pytest.approx(0.1875)
    assert found.diagnosis.log_loss.value == pytest.approx(0.5623351)
    assert found.diagnosis.mass == pytest.approx(0.6)  # a vote's mass is the smaller of 0.8 and 0.6
    assert (found.diagnosis.labelled, found.diagnosis.abstained, found.diagnosis.consistency.n) == (4, {}, 0)


def test_a_liking_for_a_position_is_told(tmp_path: Path) -> None:
    # (A) at 0.8 whatever stands there: every question is answered for the first, and no two orders agree.
    rows = bench_file("f", [item("1"), item("2")], ("choice",), asking(tmp_path, lambda question: logs(0.8, 0.1)))
    found = row(rows, "choice")
    assert found.first is not None and found.diagnosis is not None
    assert (found.first.value, found.first.n) == (1.0, 4)
    assert (found.diagnosis.consistency.value, found.diagnosis.consistency.n) == (0.0, 2)
    assert found.accuracy.value == 0.5  # both orders cancel to a tie


# As given


def test_the_multiple_choice_as_given(tmp_path: Path) -> None:
    # (A) has 3 to 1 wherever it can be read: right on 1 and 4, wrong on 2; too little mass on 3.
    items = [
        item("1", human=1.0, right="A"),
        item("2", human=0.0, right="B"),
        item("3", human=1.0, right="B"),
        item("4", human=0.0, right="A"),
        item("5"),
    ]
    judge = asking(tmp_path, lambda q: logs(0.003, 0.001) if "Which 3" in q.chat[-1].content else logs(0.6, 0.2))
    rows = bench_file("f", items, ("rate",), judge)
    found = row(rows, AS_GIVEN)
    assert found.diagnosis is not None and found.first is not None
    assert (found.accuracy.value, found.accuracy.n) == (pytest.approx(2 / 3), 3)
    assert found.diagnosis.brier.value == pytest.approx((0.0625 + 0.5625 + 0.0625) / 3)
    assert (found.first.value, found.first.n) == (1.0, 3)
    assert found.diagnosis.abstained == {"too little probability on the options": 1}
    assert (found.diagnosis.n, found.diagnosis.labelled) == (4, 3)
    engine: Any = judge.engine
    asked = [question for question in engine.questions if question.lead == "Answer:"]
    assert {question.options for question in asked} == {(" (A)", " (B)")}


def test_without_multiple_choice_there_is_no_such_row(tmp_path: Path) -> None:
    rows = bench_file("f", [item("1")], ("rate",), asking(tmp_path, lambda question: logs(0.5, 0.5)))
    assert [found.name for found in rows] == ["rate", "longer answer", "shorter answer"]


# Rulers and clocks


def test_rulers() -> None:
    # Right when it picks the longer one on 1, wrong on 2 and 3, and 4 is as long as the other: (1 + 0 + 0 + 0.5) / 4.
    items = [
        item("1", human=1.0, a="two words", b="one"),
        item("2", human=1.0, a="one", b="two words"),
        item("3", human=0.0, a="two words", b="one"),
        item("4", human=1.0, a="two words", b="words two"),
    ]
    longer, shorter = rulers(items)
    assert (longer.accuracy.value, shorter.accuracy.value) == (0.375, 0.625)
    assert longer.diagnosis is None


def test_the_clock_counts_what_was_newly_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = Counting(lambda question: None)
    now = iter((10.0, 14.0, 20.0, 25.0))
    monkeypatch.setattr("cai.judge.bench.time.perf_counter", lambda: next(now))
    clock = Clock(engine)
    engine.asked, engine.found = 30, 10  # three quarters of 16 pairs, in four seconds
    assert clock.per_second(16) == 3.0
    clock = Clock(engine)
    engine.found += 40
    assert clock.per_second(16) is None


# The page


def test_the_page(tmp_path: Path) -> None:
    items = [item("1"), item("2")]
    rows = bench_file("f", items, ("choice",), asking(tmp_path, lambda question: logs(0.8, 0.1)))
    faults = tuple((f"f:{n}", "not a comparison") for n in range(7))
    held = Comparisons((*items, item("3")), faults, {"pair": 3})
    lines = page(report("f", held, items, rows), rows, held, "settings")
    assert lines[0] == "f: 2 comparisons (a sample of 3) with 2 openings; read: 3 pair"
    assert lines[3].split()[:3] == ["method", "accuracy,", "95%"]
    assert lines[4].startswith("choice ") and " 50.0% " in lines[4] and " 0.0% " in lines[4]
    (position,) = [line for line in lines if line.startswith("position: choice votes for the answer shown first in")]
    assert "100.0%" in position and position.endswith("of 4 votes")
    assert lines[-7:] == [
        "malformed rows: 7", *(f"  f:{n}: not a comparison" for n in range(5)), "  and 2 more (--json names them all)",
    ]  # fmt: skip
    assert all(line.isascii() for line in lines)


# The program


@pytest.fixture
def files(tmp_path: Path, sharp: ModelRef) -> list[str]:
    """Two files of comparisons and the arguments to judge the first with a model that answers at all."""
    rows = [{"prompt": f"{n}?", "a": "Yes, I do.", "b": "No.", "human": n % 2} for n in range(6)]
    lines = [*(json.dumps(row) for row in rows), "{", json.dumps(rows[0])]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    choice = {"prompt": "Red?\n (A) blood\n (B) grass\nIt is", "corrects": [" (A)"], "incorrects": [" (B)"]}
    (tmp_path / "items.json").write_text(json.dumps([choice]))
    (tmp_path / "law.txt").write_text(LAW)
    where = ["--constitution", str(tmp_path / "law.txt"), "--cache", str(tmp_path / "runs"), "--dtype", "float32"]
    return ["bench", str(tmp_path / "pairs.jsonl"), "--model", sharp.place, *where]


def run(capsys: pytest.CaptureFixture, *argv: str) -> dict:
    assert run_main(main, [*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_everything_as_json_and_a_second_run_from_the_cache(files: list[str], tmp_path: Path, capsys: Any) -> None:
    files.insert(2, str(tmp_path / "items.json"))
    first = run(capsys, *files, "--max-length", "2048")
    pairs, items = first["files"]
    assert (first["dtype"], first["principles"], first["seed"], first["max_length"]) == ("float32", "all", 0, 2048)
    assert (pairs["comparisons"], pairs["judged"], pairs["clusters"], pairs["forms"]) == (6, 6, 6, {"pair": 6})
    assert [fault["where"] for fault in pairs["malformed"]] == [f"{tmp_path / 'pairs.jsonl'}:{n}" for n in (7, 8)]
    methods = ["rate", "choice", "score", "contrast", "reason", "channel"]
    assert list(pairs["rows"]) == [*methods, "longer answer", "shorter answer"]
    assert list(items["rows"]) == [*methods, AS_GIVEN, "longer answer", "shorter answer"]
    # The longer answer is the better one on the odd three.
    assert pairs["rows"]["longer answer"]["accuracy"]["value"] == 0.5
    contrast = pairs["rows"]["contrast"]
    assert (contrast["n"], contrast["labelled"], contrast["abstained"], contrast["mass"]) == (6, 6, {}, None)
    assert contrast["per_second"] > 0 and set(contrast["auc"]) == {"value", "low", "high", "n", "clusters"}
    assert contrast["first_shown"] is None and pairs["rows"]["choice"]["first_shown"]["clusters"] <= 6
    for name in methods:
        found = pairs["rows"][name]
        assert found["labelled"] + sum(found["abstained"].values()) == 6

    second = run(capsys, *files, "--max-length", "2048")
    assert {held["per_second"] for name, held in second["files"][0]["rows"].items() if name in methods} == {None}
    for held in (*first["files"], *second["files"]):
        for found in held["rows"].values():
            found.pop("per_second", None)
    assert second == first


def test_a_sample_and_one_method_as_a_table(files: list[str], capsys: Any) -> None:
    assert run_main(main, [*files, "--method", "contrast", "--limit", "4", "--principles", "1"]) == 0
    out, err = capsys.readouterr()
    assert "pairs.jsonl: 4 comparisons (a sample of 6) with 4 openings; read: 6 pair\n" in out
    names = [line.split("  ")[0] for line in out.splitlines() if line.startswith(("contrast", "longer", "shorter"))]
    assert names == ["contrast", "longer answer", "shorter answer"]
    assert "malformed rows: 2\n" in out and "a half-written line" in out
    assert "pairs.jsonl: contrast, 4 comparisons" in err


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--method", "vote"], '--method: there is no method "vote"\n  -> known: all, rate, choice,'),
        (["--limit", "0"], "--limit: 0 is not a number from 1 on"),
        (["--principles", "some"], "--principles: some is not a number from 1 on"),
        (["--max-length", "-1"], "--max-length: -1 is not a number from 1 on"),
        (["--constitution", "none.txt"], "none.txt"),
        (["--model", "smollm"], 'there is no model "smollm"'),
        (["none.jsonl"], "none.jsonl: cannot read it: No such file or directory"),
        (["law.txt"], "no comparison in this file can be used"),
    ],
)
def test_faults_of_users_are_told_before_a_model_is_loaded(
    files: list[str], more: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    at = 2 if more[0].endswith((".jsonl", ".txt")) else len(files)
    assert run_main(main, [*files[:at], *more, *files[at:]]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and problem in err and not out
    assert not (tmp_path / "runs").exists()


def test_the_constitution_of_the_bench_is_sound() -> None:
    law = read_constitution(Path(__file__).parents[2] / "constitutions" / "hhh.txt")
    assert law.form == "short" and 3 <= len(law.principles) <= 5
    for principle in law.principles:
        assert principle.prefer.startswith("Choose the response that ") and len(principle.prefer.split()) <= 16


# A judge behind a server ----------------------------------------------------------------------------------------------


def test_a_served_judge_is_asked_there(tiny: ModelRef, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "Well?", "chosen": "Gladly.", "rejected": "No."}) + "\n")
    law = tmp_path / "law.txt"
    law.write_text(LAW)
    with FaultyServer(model="toy") as server:
        given = ["--constitution", str(law), "--method", "rate", "--model", "tiny-random", "--cache", str(tmp_path)]
        at = ["--server", server.url, "--served-as", "toy"]
        assert main(["bench", str(file), *given, *at]) == 0
        assert f"tiny-random, served at {server.url}" in capsys.readouterr().out
        with pytest.raises(UserError, match='the server has no model "tiny-random"'):
            main(["bench", str(file), *given, "--server", server.url])
        with pytest.raises(UserError, match='"nowhere" is no address'):
            main(["bench", str(file), *given, "--server", "nowhere"])
