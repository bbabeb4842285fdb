"""Which way of asking is picked, and what is measured of it: made judges, and the command on a tiny model."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedJudge, asked_judge

from cai.config.sections import Judge
from cai.constitution import Judging, read_constitution
from cai.core.draws import uniform
from cai.core.errors import run_main
from cai.core.records import Message, Pair, Prompt
from cai.data.comparisons import Item
from cai.judge.__main__ import main
from cai.judge.asked import AskedJudge
from cai.judge.reads.placebos import Placebo
from cai.judge.selecting.command import page, selection
from cai.judge.selecting.ways import Way, WayOdds, ahead, by_category, figures, odds_of, split, votes_on, ways_of
from cai.models.engines import Question
from cai.models.references import ModelRef
from cai.stats import intervals

PLACEBOS = [Placebo("garden", ("Choose the response that waters beans.", "Choose the response that digs."))]
KIND, BLUNT = "Choose the response that is kind.", "Choose the response that is blunt."


def item(n: int, human: float = 1.0, a: str = "good", b: str = "bad", subset: str = "all") -> Item:
    prompt = Prompt(f"prompt {n}", (Message("user", f"Question {n}?"),), subset, "test")
    return Item(Pair(f"pair {n}", prompt, a, b, human, (human,)), None, f"opening {n}", f"file:{n}")


def judge_by(*texts: str, weights: tuple[float, ...] = (), combine: Any = "average") -> AskedJudge:
    principles = [
        Judging(text, text, (), weight) for text, weight in zip(texts, weights or (1.0,) * len(texts), strict=True)
    ]
    return asked_judge(Judge(principles="all", combine=combine, min_mass=0.01), principles)


def yes(odds: float) -> tuple[float, float]:
    """Log-probabilities of Yes and No with these log-odds."""
    return odds - math.log1p(math.exp(odds)), -math.log1p(math.exp(odds))


def liking(**odds: float) -> Any:
    """By `rate`: "good" has these log-odds of Yes where the question holds the word, and any other answer even ones."""

    def script(question: Question) -> tuple[float, float]:
        text = question.chat[-1].content
        worth = sum(value for word, value in odds.items() if f"{word}." in text)
        return yes(worth if "Assistant: good" in text else 0.0)

    return ScriptedJudge(script)


# Ways and parts


def test_ways_are_texts_alone_and_together_by_method_and_by_vote() -> None:
    names = [way.name for way in ways_of(["x.txt", "y.txt"], ["rate", "channel"], True)]
    assert names == [
        "x.txt, rate", "x.txt, rate, by vote", "x.txt, channel", "x.txt, channel, by vote",
        "y.txt, rate", "y.txt, rate, by vote", "y.txt, channel", "y.txt, channel, by vote",
        "x.txt + y.txt, rate", "x.txt + y.txt, rate, by vote",
        "x.txt + y.txt, channel", "x.txt + y.txt, channel, by vote",
    ]  # fmt: skip
    assert [way.name for way in ways_of(["x.txt"], ["rate"], False)] == ["x.txt, rate"]


def test_openings_are_split_as_wholes_and_more_of_them_move_none() -> None:
    items = [item(n // 2) for n in range(60)]
    choosing, aside = split(items, 0.5, 3)
    assert len(choosing) + len(aside) == 60
    assert not {i.cluster for i in choosing} & {i.cluster for i in aside}
    fewer = split(items[:30], 0.5, 3)
    assert fewer[0] == [i for i in choosing if i in items[:30]]
    assert {i.cluster for i in choosing} == {
        i.cluster for i in items if uniform("select", 3, i.cluster) < 0.5
    }  # fmt: skip


# Log-odds


def test_texts_together_are_as_one_text_with_all_their_principles() -> None:
    # x has one principle with log-odds 3, y two with 1 and -7, of weights 2 and 1: alone 3 and (2 - 7) / 3 = -5/3;
    # together (3 + 2 - 7) / 4 = -0.5. By vote, x is one for a ((1 + 0.5) / 2 = 0.75: log-odds ln 3); in y two thirds of
    # the weight are, of two voters: (2/3 * 2 + 0.5) / 3 = 11/18, log-odds ln(11/7).
    engine = liking(x=3.0, y=1.0, z=-7.0)
    votes = {
        ("x.txt", "rate"): votes_on(engine, [item(0).pair], judge_by("Choose x."), PLACEBOS, "t"),
        ("y.txt", "rate"): votes_on(
            engine, [item(0).pair], judge_by("Choose y.", "Choose z.", weights=(2.0, 1.0)), PLACEBOS, "t"
        ),
    }
    odds = {
        way.name: odds_of(way, votes).text[0] for way in ways_of(["x.txt", "y.txt"], ["rate"], True)
    }  # fmt: skip
    assert odds == {
        "x.txt, rate": pytest.approx(3), "x.txt, rate, by vote": pytest.approx(math.log(3)),
        "y.txt, rate": pytest.approx(-5 / 3), "y.txt, rate, by vote": pytest.approx(math.log(11 / 7)),
        "x.txt + y.txt, rate": pytest.approx(-0.5),
        "x.txt + y.txt, rate, by vote": pytest.approx((math.log(3) + 3 * math.log(11 / 7)) / 4),
    }  # fmt: skip


def test_the_placebo_has_a_sentence_for_each_principle_and_is_asked_about_the_same_pair() -> None:
    engine = liking(kind=2.0, digs=1.0)
    votes = votes_on(engine, [item(0).pair], judge_by(KIND), PLACEBOS, "t")
    assert [p.prefer for p in votes.placebo[0][0].principles] == ["Choose the response that waters beans."]
    odds = odds_of(Way(("x",), "rate"), {("x", "rate"): votes})
    assert odds == WayOdds([pytest.approx(2.0)], [pytest.approx(0.0)])


def test_an_answer_without_words_is_decided_alike_under_every_text() -> None:
    engine = liking(kind=2.0)
    votes = votes_on(engine, [item(0, a="good", b=" ").pair], judge_by(KIND), PLACEBOS, "t")
    odds = odds_of(Way(("x",), "rate"), {("x", "rate"): votes})
    assert odds.text == odds.placebo and odds.text[0] > 0 and not engine.questions


def test_what_one_text_cannot_read_is_left_to_the_other() -> None:
    # Yes and No hold nothing where the question is about x.
    def script(question: Question) -> tuple[float, float]:
        text = question.chat[-1].content
        return (-20.0, -20.0) if "x." in text else yes(1.0 if "Assistant: good" in text else 0.0)

    votes = {
        (f"{name}.txt", "rate"): votes_on(
            ScriptedJudge(script), [item(0).pair], judge_by(f"Choose {name}."), PLACEBOS, "t"
        )
        for name in "xy"
    }  # fmt: skip
    alone, both = (odds_of(Way(names, "rate"), votes) for names in (("x.txt",), ("x.txt", "y.txt")))
    assert math.isnan(alone.text[0]) and both.text == [pytest.approx(1.0)]


# Figures


def test_what_is_not_read_counts_as_a_guess_and_split_people_do_not_count() -> None:
    items = [item(0), item(1), item(2, human=0.0), item(3, human=0.5), item(4)]
    odds = WayOdds([2.0, math.nan, 1.0, 1.0, 0.0], [-1.0, -1.0, -1.0, -1.0, -1.0])
    of = figures("way", odds, items)
    # Hits 1, 0.5, 0, -, 0.5; under the placebo 0, 0, 1, -, 0.
    assert (of.agreement.value, of.agreement.n, of.read) == (0.5, 4, 4)
    assert of.placebo.value == 0.25 and of.gain.value == 0.25
    # Brier of the four that were read, split people too: sigmoid 0.8808, 0.7311, 0.7311, 0.5
    assert of.brier.value == pytest.approx((0.1192**2 + 0.7311**2 + 0.2311**2 + 0.25) / 4, abs=1e-4)


def test_how_far_one_way_is_ahead_and_its_placebo() -> None:
    items = [item(n) for n in range(4)]
    mine, first = WayOdds([1.0, 1.0, 1.0, -1.0], [1.0, -1.0, -1.0, -1.0]), WayOdds([1.0, -1.0, -1.0, -1.0], [-1.0] * 4)
    text, placebo = ahead(mine, first, items)
    assert (text.value, placebo.value) == (0.5, 0.25)


def test_a_category_with_few_pairs_has_no_figures() -> None:
    # Ten pairs at log-odds ln 3 (P 0.75) of which people go along with eight: Brier (8 * 0.0625 + 2 * 0.5625) / 10;
    # with slope 2 the log-odds are ln 9 (P 0.9): (8 * 0.01 + 2 * 0.81) / 10.
    items = [item(n, human=float(n < 8), subset="hate") for n in range(10)] + [
        item(n, subset="crime") for n in (10, 11)
    ]
    (row,) = by_category(WayOdds([math.log(3)] * 12, [0.0] * 12), items, 2.0)
    assert (row.subset, row.pairs, row.agreement.value) == ("hate", 10, 0.8)
    assert (row.brier.value, row.brier_fitted.value) == (pytest.approx(0.1625), pytest.approx(0.17))


# Picking


def select_by(engine: Any, items: list[Item], *, texts: dict[str, str], share: float = 0.5, seed: int = 0) -> Any:
    parts = split(items, share, seed)
    judges = {(name, "rate"): judge_by(text) for name, text in texts.items()}
    return selection(engine, ways_of(list(texts), ["rate"], False), judges, parts, PLACEBOS), parts


def test_the_wording_that_reads_is_picked_and_two_ways_alone_are_measured() -> None:
    # The judge reads "kind." and takes "blunt." the wrong way round; "mild." does nothing. People prefer "good".
    engine = liking(kind=1.0, blunt=-1.0)
    items = [item(n, human=float(n % 2), a="good" if n % 2 else "bad", b="bad" if n % 2 else "good") for n in range(40)]
    texts = {"blunt": BLUNT, "mild": "Choose the response that is mild.", "kind": KIND}
    found, (choosing, aside) = select_by(engine, items, texts=texts)
    assert [(of.name, of.agreement.value) for of in found.tried] == [
        ("blunt, rate", 0.0), ("mild, rate", 0.5), ("kind, rate", 1.0), ("blunt + mild + kind, rate", 0.5)
    ]  # fmt: skip
    assert found.picked.name == "kind, rate" and found.first.name == "blunt, rate"
    assert (found.pick.agreement.value, found.pick.agreement.n) == (1.0, len(aside))
    assert (found.pick.placebo.value, found.pick.gain.value) == (0.5, 0.5)
    assert (found.ahead.value, found.ahead_placebo.value) == (1.0, 0.0) and found.slope > 0
    asked = {word: {q.chat[-1].content for q in engine.questions if f"{word}." in q.chat[-1].content}
             for word in ("mild", "kind")}  # fmt: skip
    assert len(asked["mild"]) == 2 * len(choosing) and len(asked["kind"]) == 2 * len(items)
    text = "\n".join(page(found, (choosing, aside), "pairs.jsonl"))
    assert "picked of 4 ways: kind, rate\nit is ahead of the first way named: +100.0" in text
    assert "its text gains over placebos: +50.0" in text and "without reading" not in text


def test_a_judge_that_goes_by_length_is_said_to_be_a_ruler() -> None:
    # Short answers have log-odds 1 whatever the text, and people prefer them on three of four prompts.
    def script(question: Question) -> tuple[float, float]:
        return yes(0.0 if "long and longer" in question.chat[-1].content else 1.0)

    items = [item(n, human=float(n % 4 > 0), a="short", b="long and longer") for n in range(60)]
    found, parts = select_by(ScriptedJudge(script), items, texts={"kind": KIND, "blunt": BLUNT})
    assert found.picked.name == "kind, rate" and found.first is None and found.ahead is None
    assert found.pick.gain.value == 0 and found.pick.placebo.value == found.pick.agreement.value
    assert found.trivial["shorter answer"].value == found.pick.agreement.value
    text = "\n".join(page(found, parts, "pairs.jsonl"))
    assert "that is the first way named" in text and "its text is not shown to gain over placebos" in text
    assert '"shorter answer" agrees with people as often without reading' in text


def test_what_is_measured_has_not_been_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five wordings that a judge answers by chance: the best is above a coin where it was picked, and not elsewhere."""
    drawn = intervals.draws
    monkeypatch.setattr(intervals, "draws", lambda k, seed, _: drawn(k, seed, 2))  # no interval is looked at
    texts = {word: f"Choose {word}." for word in ("a", "b", "c", "d", "e")}
    chosen, measured = [], []
    for seed in range(40):
        noise = ScriptedJudge(lambda q, seed=seed: yes(4 * uniform("noise", seed, q.chat[-1].content) - 2))
        found, _ = select_by(noise, [item(n) for n in range(24)], texts=texts, seed=seed)
        chosen.append(max(of.agreement.value for of in found.tried))
        measured.append(found.pick.agreement.value)
    # The best of five means of 12 throws is above a half by some 1.16 * 0.5 / sqrt(12) = 0.17; of what is measured, a
    # standard error is 0.5 / sqrt(40 * 12) = 0.023.
    assert sum(chosen) / 40 > 0.61
    assert abs(sum(measured) / 40 - 0.5) < 0.055


# The command


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"Is {n} even?", "a": "Yes, I do.", "b": "No.", "human": n % 2} for n in range(24)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("kind.txt").write_text(f"- {KIND}\n- Choose the response that is honest.\n")
    Path("mild.txt").write_text("- Choose the response that is mild.\n")
    return tmp_path


def command(model: str, *more: str) -> list[str]:
    return ["select", "pairs.jsonl", "kind.txt", "mild.txt", "--model", model, "--dtype", "float32", "--method",
            "contrast", "--choose", "0.5", *more]  # fmt: skip


def test_tables_and_the_same_as_json_from_the_cache(place: Path, sharp: ModelRef, capsys: Any) -> None:
    assert run_main(main, command(sharp.place)) == 0
    out, err = capsys.readouterr()
    assert "principles: all\npairs.jsonl: chosen on " in out and "\nkept aside:\n" in out
    assert out.count("\nkind.txt, contrast") >= 2 and "\nkind.txt + mild.txt, contrast, by vote" in out
    assert "\nshorter answer" in out and "\nanswer that refuses" in out and "\npicked of 6 ways: " in out
    assert "choose: mild.txt, contrast" in err

    assert run_main(main, command(sharp.place, "--json")) == 0
    given = json.loads(capsys.readouterr().out)
    assert given["constitutions"] == ["kind.txt", "mild.txt"] and given["choose"] == 0.5
    found = given["selection"]
    assert len(found["tried"]) == 6 and "agrees with people  under placebos" in out
    assert found["tried"][0]["agreement"]["n"] + found["pick"]["agreement"]["n"] == 24


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--method", "provenance"), "provenance asks the judge nothing, so it is no way of asking"),
        (("--choose", "1"), "1 is no share between 0 and 1"),
        (("--choose", "0.01"), "a part of the pairs has 0 openings of conversations, and 5 are needed in each"),
        (("--limit", "6"), "and 5 are needed in each"),
        (("--placebo", "kind.txt"), 'the placebo "kind" is the constitution'),
    ],
)
def test_faults_are_named_before_a_model_is_loaded(
    place: Path, tiny: ModelRef, capsys: Any, more: tuple[str, ...], says: str
) -> None:
    assert run_main(main, command("tiny-random", *more)) == 2
    out, err = capsys.readouterr()
    assert says in err and "Traceback" not in err and not out and not Path("runs").exists()


def test_a_category_that_no_principle_is_for(place: Path, tiny: ModelRef, capsys: Any) -> None:
    Path("mild.txt").write_text(
        "## crime\nCritique: c\nRevise: r\nPrefer: Choose the response that is safe.\nApplies to: crime\n"
    )
    assert read_constitution("mild.txt")
    assert run_main(main, command("tiny-random")) == 2
    assert 'mild.txt: no principle applies to the pairs of category "' in capsys.readouterr().err
