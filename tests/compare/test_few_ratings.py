"""Few human ratings and many of a model's: what is asked, what is refused, the report; and coverage by simulation."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_criteria_section import made
from test_schema import given

from cai.compare import report
from cai.compare.cells import Measured
from cai.compare.human_games import page_order
from cai.compare.human_ratings import answers_of, read_ratings, write_answers
from cai.compare.schema import as_json
from cai.compare.sections import few_ratings as section
from cai.core.errors import UserError, UserErrors
from cai.core.odds import logit
from cai.core.records import Message, Prompt, Response
from cai.judge.rate import TextRating
from cai.stats.ppi import RATINGS, powered

PROMPTS = [Prompt(f"q{n}", (Message("user", f"{n}?"),), "all", "test") for n in range(40)]


def ran(tmp_path: Path, judged: float = 0.2) -> tuple[list[Any], Measured]:
    """Arm ai answers every prompt harmlessly, human and the start model harmfully, and all the first one alike. The
    judge says P(harmless) = `judged` of all of them."""
    data = made(tmp_path, "data", prompts=PROMPTS)
    measured = Measured(None)
    texts = {"start": "bad", "sft": "good", "ai/0": "good", "human/0": "bad"}
    for name, text in texts.items():
        rows = [Response(p.id, "same" if p.id == "q0" else f"{text} {p.id}", name, "stop") for p in PROMPTS]
        measured.answers[name, "red-team"] = made(tmp_path, f"answers-{name.replace('/', '-')}", responses=rows)
        rated = [TextRating(p.id, 0, logit(judged)) for p in PROMPTS]
        measured.merits[name, "red-team"] = made(tmp_path, f"merits-{name.replace('/', '-')}", merits=rated)
    cells: list[Any] = [
        SimpleNamespace(arm=arm, seed=0, name=f"{arm}/0", policy="p", data=data) for arm in ("ai", "human")
    ]
    return cells, measured


def filled(tmp_path: Path, cells: list[Any], measured: Measured, which=lambda place: place < 40) -> Path:
    """People's ratings: 1 for what is bad, 0 for what is good."""
    file = tmp_path / "answers.jsonl"
    write_answers(answers_of(cells, measured), file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for place, row in enumerate(rows):
        row["rating"] = (1 if row["answer"].startswith("bad") else 0) if which(place) else None
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_each_answer_is_asked_once_and_says_no_policy(tmp_path) -> None:
    cells, measured = ran(tmp_path)
    answers = answers_of(cells, measured)
    assert len(answers) == 79  # two answers to each of 40 prompts, but one to the first
    assert [answer.id for answer in answers] == sorted((answer.id for answer in answers), key=page_order)
    assert {answer.policies for answer in answers} == {
        ("sft", "ai/0"),
        ("start", "human/0"),
        ("start", "sft", "ai/0", "human/0"),
    }
    write_answers(answers, tmp_path / "out.jsonl")
    assert not any(name in (tmp_path / "out.jsonl").read_text() for name in ("start", "human", "sft", "ai/0"))
    with pytest.raises(UserError, match="this file exists already"):
        write_answers(answers, tmp_path / "out.jsonl")


def test_policies_by_people_and_the_judge(tmp_path) -> None:
    """The judge says 0.8 harmful of everything, which tells nothing: its weight is 0, and people alone decide."""
    cells, measured = ran(tmp_path)
    file = filled(tmp_path, cells, measured)
    found = section.few_ratings(cells, replace(measured, human_ratings=file))
    assert found and found.refused == []
    lines = {line.title: line for line in found.lines}
    assert set(lines) == {"answers of start", "answers of sft", "answers of ai", "answers of human"}
    ai, human = lines["answers of ai"], lines["answers of human"]
    assert (ai.whose, ai.part, ai.arm, lines["answers of sft"].arm) == (
        "the evaluation's judge",
        "labelled",
        "ai",
        None,
    )
    assert ai.model == pytest.approx(0.8) and ai.both.value == 0 and ai.both.n == 40
    assert human.both.value == pytest.approx(human.alone.value) and human.alone.value >= 0.9
    assert ai.both.high < human.both.low
    assert human.sentence.startswith(
        f"People rated {human.alone.n} of 40 ({human.alone.n} prompts): the answers of human"
    )
    report.write_report(as_json(given(few_ratings=found)), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Few human ratings and many of a model" in page and "filled in by the evaluation&#39;s judge" in page


def test_ratings_that_were_not_drawn_by_chance_correct_nothing(tmp_path) -> None:
    cells, measured = ran(tmp_path)
    file = filled(tmp_path, cells, measured, which=lambda place: place % 3 == 0)
    found = section.few_ratings(cells, replace(measured, human_ratings=file))
    assert found and found.lines == [] and "was not drawn by chance. So no rating is corrected" in found.refused[0]


def test_without_ratings_there_is_nothing(tmp_path) -> None:
    cells, measured = ran(tmp_path)
    assert section.few_ratings(cells, measured) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rating": 3}, "a rating is a number from 0 (harmless) to 1 (harmful), not 3"),
        ({"rating": True}, "a rating is a number from 0 (harmless) to 1 (harmful), not true"),
        ({"rating": 1, "id": "other"}, "no policy of this run gives this answer"),
    ],
)
def test_faults_of_ratings_are_named_by_line(tmp_path, change, says) -> None:
    cells, measured = ran(tmp_path)
    file = filled(tmp_path, cells, measured)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[2] |= change
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError) as error:
        read_ratings(file, answers_of(cells, measured))
    assert error.value.where.endswith(":3") and says in error.value.problem
    rows[4] |= change
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserErrors, match=":5: "):
        read_ratings(file, answers_of(cells, measured))


def test_several_raters_are_averaged_and_none_is_none(tmp_path) -> None:
    cells, measured = ran(tmp_path)
    answers = answers_of(cells, measured)
    rows = [
        {"id": answers[0].id, "rating": 1},
        {"id": answers[0].id, "rating": "0.5"},
        {"id": answers[1].id, "rating": None},
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_ratings(tmp_path / "r.jsonl", answers) == {answers[0].id: 0.75}
    (tmp_path / "r.jsonl").write_text(json.dumps(rows[2]) + "\n")
    with pytest.raises(UserError, match="nothing in it is rated"):
        read_ratings(tmp_path / "r.jsonl", answers)


def test_held_out_answers_as_if_people_had_rated_a_quarter(monkeypatch) -> None:
    """80 prompts of two answers; the score is 0.2 too high. A quarter is drawn, and the bias taken off."""
    rng = np.random.default_rng(3)
    truth = np.round(rng.beta(0.8, 1.6, 160) * 4) / 4
    rated = SimpleNamespace(
        prompts=[f"q{n // 2}" for n in range(160)],
        truth=list(truth),
        score=list(0.8 * truth + 0.2 + rng.normal(0, 0.05, 160)),
    )
    monkeypatch.setattr(section, "held_out_ratings", lambda measured: rated)
    found = section.few_ratings([], Measured(None, harm={"data": "made"}))  # pyrefly: ignore
    assert found
    (line,) = found.lines
    assert (line.part, line.alone.n, line.alone.clusters, line.both.n) == ("drawn", 40, 20, 160)
    assert line.everything and line.everything.value == pytest.approx(truth.mean())
    assert line.model > line.everything.high  # by the score alone it would be wrong
    assert line.both.low <= truth.mean() <= line.both.high
    assert line.both.high - line.both.low < line.alone.high - line.alone.low and line.worth and line.worth > 0
    assert line.sentence.startswith("Had people rated but 40 of 160 (20 prompts): the held-out answers")


# --- coverage ---------------------------------------------------------------------------------------------------------


def rated(rng, prompts: int, rows: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ratings in quarters, most of them harmless; what a model says of them, biased by 1.5 on its hidden scale."""
    prompt = np.repeat(np.arange(prompts), rows)
    hidden = 0.7 * rng.normal(size=prompts)[prompt] + 0.7 * rng.normal(size=len(prompt)) - 1
    noise = rng.normal(size=len(prompt))
    model = {"useless": noise, "good": hidden + 0.5 * noise, "biased": hidden + 0.5 * noise + 1.5}[kind]
    return np.round(4 / (1 + np.exp(-2 * hidden))) / 4, 1 / (1 + np.exp(-2 * model)), prompt


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("kind", ["useless", "good", "biased"])
def test_a_biased_model_makes_no_interval_wrong(kind, rows) -> None:
    """200 prompts of which people rated 50, 400 experiments, seed 7; the table is in cai/stats/ppi.py."""
    truth = rated(np.random.default_rng(99), 400_000, 1, kind)[0].mean()
    rng = np.random.default_rng(7)
    both, alone, widths = 0, 0, []
    for _ in range(400):
        people, model, prompt = rated(rng, 200, rows, kind)
        found = powered(np.where(prompt < 50, people, np.nan), model, prompt, apart=RATINGS)
        both += found.estimate.low <= truth <= found.estimate.high
        alone += found.alone.low <= truth <= found.alone.high
        widths.append((found.estimate.high - found.estimate.low) / (found.alone.high - found.alone.low))
    assert 0.93 <= both / 400 <= 0.97 and 0.93 <= alone / 400 <= 0.97
    assert np.mean(widths) <= {"useless": 1.01, "good": 0.75, "biased": 0.9}[kind]
