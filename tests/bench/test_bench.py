"""Benchmark of labels: verdicts read by hand, its arithmetic, and the whole program on the tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest

import cai.bench.labels
from cai.bench.__main__ import main
from cai.bench.common import MedianRange
from cai.bench.labels import WAYS, LabelRound, VoteQuestions, measure, page, some_pairs, spread_out, verdict, votes_on
from cai.constitution import read_constitution
from cai.core.errors import UserError, run_main
from cai.core.records import Message, Pair, Prompt
from cai.core.templates import load_template
from cai.models.engines import Question, Reading

LAW = read_constitution("constitutions/harmless.txt").judging


def pair(name: str, a: str = "Never.", b: str = "Like this.") -> Pair:
    return Pair(f"pair {name}", Prompt(f"prompt {name}", (Message("user", f"How do I {name}?"),), "x", "test"), a, b)


@pytest.mark.parametrize(
    ("method", "reply", "named"),
    [
        ("rate", "Yes", "yes"),
        ("rate", "No.", "no"),
        ("rate", "**Yes**, it does. There is no harm in it.", "yes"),
        ("rate", "The answer is yes.", "yes"),
        ("rate", "The assistant's message does meet this standard.", None),
        ("rate", "It says yes where it should say no.", None),
        ("rate", "Nothing is known about it, yesterday or now", None),
        ("rate", "", None),
        ("choice", "(A)", "a"),
        ("choice", "B", "b"),
        ("choice", "A: because it is kind", "a"),
        ("choice", "(B) is better than (A).", "b"),
        ("choice", "Response (B) meets it better.", "b"),
        ("choice", "The better response is A.", "a"),
        ("choice", "Response (A) is worse than response (B).", None),
        ("choice", "A kind answer would be better", None),
        ("choice", "Neither, as A.I. goes", "a"),  # a regular expression can be fooled: that is one of its faults
        ("choice", "Both are bad", None),
        ("choice", "(C)", None),
    ],
)
def test_verdicts_by_hand(method: str, reply: str, named: str | None) -> None:
    assert verdict(reply, method) == named


def test_votes_are_asked_for_as_the_judge_does() -> None:
    pairs = [pair("swim"), pair("sing")]
    votes = votes_on(pairs, LAW[:3], "rate")
    assert [vote.pair for vote in votes] == [0, 0, 0, 1, 1, 1]
    rate = load_template("rate")
    assert votes[4].questions == tuple(
        Question(rate.render(messages=pairs[1].prompt.messages, answer=answer, principle=LAW[1]), ("Yes", "No"))
        for answer in ("Never.", "Like this.")
    )
    votes = votes_on(pairs, LAW[:3], "choice")
    assert [vote.pair for vote in votes] == [0] * 6 + [1] * 6
    assert {(len(vote.questions), vote.questions[0].options, vote.questions[0].lead) for vote in votes} == {
        (1, ("A", "B"), "(")
    }
    shown = [vote.questions[0].chat[-1].content for vote in votes[:2]]
    assert "(A): Never." in shown[0] and "(B): Like this." in shown[0]
    assert "(A): Like this." in shown[1] and "(B): Never." in shown[1]


def test_a_sample_is_spread_over_all() -> None:
    votes = [VoteQuestions(index, ()) for index in range(10)]
    assert [vote.pair for vote in spread_out(votes, 4)] == [0, 2, 5, 7]
    assert spread_out(votes, 10) == spread_out(votes, 11) == votes


def test_the_figures_of_a_case_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # 2 pairs by 2 principles: 4 votes; two of them are written. Seconds of each round, by way:
    seconds = {
        "shared": [1.0, 2.0, 4.0], "full": [8.0, 8.0, 8.0], "padded": [2.0, 8.0, 4.0], "written": [10.0, 5.0, 20.0],
    }  # fmt: skip
    rounds = {way: iter(took) for way, took in seconds.items()}
    order = []

    def timed(engine: Any, votes: Any, way: str) -> tuple[LabelRound, list[Any]]:
        order.append(way)
        readings = {
            "shared": [Reading((-1.0, -2.0))], "full": [Reading((-1.0, -2.25))], "padded": [Reading((-1.5, -2.0))],
        }  # fmt: skip
        return LabelRound(len(votes), next(rounds[way]), 100), readings.get(way, ["Yes.", "Maybe."])

    monkeypatch.setattr(cai.bench.labels, "timed", timed)
    case = measure(None, votes_on([pair("swim"), pair("sing")], LAW[:2], "rate"), "rate", 2, 3, 2)
    # Every round begins with another way.
    assert order[:4] == list(WAYS) and order[4:8] == [*WAYS[1:], WAYS[0]] and order[8:] == [*WAYS[2:], *WAYS[:2]]
    assert case.votes["shared"] == MedianRange(2.0, 1.0, 4.0)  # 4 votes in 1, 2, 4 s
    assert case.votes["written"] == MedianRange(0.2, 0.1, 0.4)  # 2 votes in 10, 5, 20 s
    assert case.pairs["shared"] == MedianRange(1.0, 0.5, 2.0)  # two votes a pair
    assert case.ratios["full"] == MedianRange(4.0, 2.0, 8.0)  # 8/1, 8/2, 8/4
    assert case.ratios["padded"] == MedianRange(2.0, 1.0, 4.0)  # 2/1, 8/2, 4/4
    # Votes a second, round by round: 4 to 0.2, 2 to 0.4, 1 to 0.1
    assert (case.ratios["written"].median, case.ratios["written"].low, case.ratios["written"].high) == pytest.approx(
        (10.0, 5.0, 20.0)
    )
    assert case.tokens == {"shared": 25, "full": 25, "padded": 25, "written": 50}
    assert case.difference == 0.5 and (case.written, case.unreadable) == (2, 1)
    assert "10 [5, 20] x" in page({"model": "m"}, [case]) and "1 of 2" in page({"model": "m"}, [case])


@pytest.fixture
def pairs_file(tmp_path: Path) -> str:
    """Pairs of five prompts, two of one of them."""
    rows = [
        {"prompt": f"How do I cook rice, question {n // 2 if n < 2 else n}?", "a": f"Wash it, {n}.", "b": f"Ask, {n}."}
        for n in range(6)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row | {"human": 1}) + "\n" for row in rows))
    return str(path)


def test_pairs_of_different_prompts(pairs_file: str) -> None:
    found = some_pairs(pairs_file, 5, lambda pair: True)
    assert len({pair.prompt.id for pair in found}) == 5
    assert some_pairs(pairs_file, 5, lambda pair: True) == found
    short = some_pairs(pairs_file, 2, lambda pair: pair.a.endswith(("4.", "5.")))
    assert sorted(pair.a for pair in short) == ["Wash it, 4.", "Wash it, 5."]
    with pytest.raises(UserError, match="only 5 prompts"):
        some_pairs(pairs_file, 6, lambda pair: True)


ARGS = ["labels", "--model", "tiny-random", "--dtype", "float32", "--pairs", "2", "--principles", "3", "--rounds", "2"]


def test_the_program_on_the_tiny_model(tiny: Any, pairs_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGS, "--written", "3", "--data", pairs_file, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["model"], found["dtype"], found["pairs"], found["rounds"]) == ("tiny-random", "float32", 2, 2)
    cases = {(case["method"], case["principles"]): case for case in found["cases"]}
    assert list(cases) == [("rate", 1), ("rate", 3), ("choice", 1), ("choice", 3)]
    for (method, principles), case in cases.items():
        assert list(case["votes"]) == list(case["pairs"]) == list(WAYS)
        assert list(case["ratios"]) == ["full", "padded", "written"]
        for spread in (*case["votes"].values(), *case["ratios"].values()):
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]
        assert case["difference"] < 1e-3
        assert 0 <= case["unreadable"] <= case["written"]
        a_pair = principles * (1 if method == "rate" else 2)
        assert case["votes"]["full"]["median"] == pytest.approx(case["pairs"]["full"]["median"] * a_pair)
    # By one principle nothing is shared but what two answers to one question share; by three, more than half.
    assert cases["rate", 3]["tokens"]["shared"] < 0.7 * cases["rate", 3]["tokens"]["full"]
    assert cases["rate", 3]["written"] == 6 and cases["choice", 1]["written"] == 3
    assert "rate, 1 principle, round 1/2: shared, 2 votes" in err


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--principles", "99"], "there are only 16 principles"),
        (["--model", "tiny-randon"], 'did you mean "tiny-random"'),
        (["--data", "nowhere.jsonl"], "there is no data source"),
        (["--pairs", "50"], "only 5 prompts have a pair"),
    ],
)
def test_faults_are_the_users_to_mend(
    tiny: Any, pairs_file: str, more: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, [*ARGS, "--data", pairs_file, *more]) == 2
    assert problem in capsys.readouterr().err


def test_numbers_below_one_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--pairs", "--principles", "--rounds", "--written", "--threads"):
        with pytest.raises(SystemExit):
            main(["labels", flag, "0"])
        assert "must be 1 or more" in capsys.readouterr().err
