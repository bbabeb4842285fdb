"""Few human labels and many of the judge's in the report: what is drawn, what refused, and games for people."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_principles import held_out as made_held_out
from test_schema import given as results

from cai.annotate.sheet import find_pairs, tasks
from cai.compare.cells import Measured
from cai.compare.human_games import games_of, not_drawn, page_order, people_on, write_games
from cai.compare.report import write_report
from cai.compare.schema import as_json
from cai.compare.sections import ppi as section
from cai.core.errors import UserError
from cai.core.records import Label, Message, Prompt, Response, write_jsonl

NOTHING = Measured(None)


def cell(arm: str, seed: int = 0, file: str | None = None, **more: Any) -> Any:
    settings = SimpleNamespace(labels=SimpleNamespace(file=file))
    given: dict[str, Any] = {"labellers": {}, "reward": None, "policy": "policy"} | more
    return SimpleNamespace(arm=arm, seed=seed, name=f"{arm}/{seed}", settings=settings, **given)


def run_of(prompts: int = 48, labelled: Any = lambda row: True, file: str | None = None):
    """Two pairs a prompt; the judge is right on four of five, its reward models as often as it, in two seeds."""
    rng = np.random.default_rng(0)
    rows = [f"p{prompt}.{pair}" for prompt in range(prompts) for pair in range(2)]
    truth = {row: float(rng.random() < 0.5) for row in rows}
    said = {
        row: (0.8 if rng.random() < 0.8 else 0.2) if truth[row] else (0.2 if rng.random() < 0.8 else 0.8)
        for row in rows
    }
    margins = {f"ai/{seed}": {row: p if rng.random() < 0.9 else 1 - p for row, p in said.items()} for seed in range(2)}
    people = {row: p for row, p in truth.items() if labelled(row)}
    held_out = made_held_out(truth, {}, margins)
    held_out.human = {} if file else people
    by = {"ai": said, "people": people}
    held_out.of = lambda artifact: by[artifact]  # pyrefly: ignore
    cells = [cell("ai", seed, labellers={"ai": "ai"}, reward="model") for seed in range(2)]
    if file:
        cells.append(cell("mine", file=file, labellers={"human": "people"}))
    return cells, held_out


def test_a_quarter_is_drawn_where_people_labelled_all(tmp_path) -> None:
    cells, held_out = run_of()
    found = section.powered_report(cells, NOTHING, held_out)
    assert found and found.refused == [] and [line.part for line in found.lines] == ["drawn", "drawn"]
    judge, models = found.lines
    assert (judge.alone.clusters, judge.both.clusters, judge.seeds, models.seeds) == (12, 48, 1, 2)
    assert judge.everything and judge.everything.n == 96 and 0.65 < judge.everything.value < 0.9
    assert judge.weight <= 1 and judge.both.high - judge.both.low <= 1.02 * (judge.alone.high - judge.alone.low)
    assert models.title == "reward models of arm ai agree with people" and models.everything
    assert models.sentence.startswith(
        "As if with people's labels of 24 of 96 (12 prompts) and the judge's of all: reward models of arm"
    )
    write_report(as_json(results(ppi=found)), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Few human labels and many of the judge" in page and "12 of 48 prompts" in page


def test_of_few_prompts_none_is_drawn() -> None:
    assert section.powered_report(*_with(run_of(19))) is None


def _with(given: Any) -> Any:
    return given[0], NOTHING, given[1]


def test_where_some_have_no_label_and_nobody_knows_why_there_is_no_number() -> None:
    found = section.powered_report(*_with(run_of(labelled=lambda row: row < "p3")))
    assert found and found.lines == [] and "was not drawn by chance here. So no estimate" in found.refused[0]


def test_a_file_is_taken_where_people_went_along_the_page() -> None:
    rows = [f"p{prompt}.{pair}" for prompt in range(48) for pair in range(2)]
    first = set(sorted(rows, key=page_order)[:30])
    found = section.powered_report(*_with(run_of(labelled=first.__contains__, file="mine.jsonl")))
    assert found and [line.part for line in found.lines] == ["labelled", "labelled"] and found.refused == []
    assert found.lines[0].alone.n == 30 and found.lines[0].everything is None
    liked = set(sorted(rows)[:30])
    found = section.powered_report(*_with(run_of(labelled=liked.__contains__, file="mine.jsonl")))
    assert found and found.lines == [] and "not the first ones in the order of the labelling page" in found.refused[0]


def test_what_is_a_random_part() -> None:
    asked = [f"pair-{n}" for n in range(100)]
    order = sorted(asked, key=page_order)
    assert not_drawn(asked, dict.fromkeys(order[:40], 1.0)) == ""
    assert not_drawn(asked, dict.fromkeys([*order[:10], *order[12:40]], 1.0)) == ""  # two passed over
    assert "labelled 37 of 100" in not_drawn(asked, dict.fromkeys([*order[:10], *order[13:40]], 1.0))
    assert not_drawn(asked, {}) == "people labelled none of them"


# --- games ------------------------------------------------------------------------------------------------------------


def play(tmp_path: Path, prompts: int = 40) -> tuple[list[Any], Measured]:
    """Arm ai answers `good`, but to the first prompt as human does; the judge prefers ai in every other game."""
    ids = [f"p{n}" for n in range(prompts)]
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data/prompts.jsonl", [Prompt(i, (Message("user", f"{i}?"),), "harm", "test") for i in ids])
    answers, games = {}, {}
    for arm, text in (("ai", "good"), ("human", "bad")):
        (tmp_path / arm).mkdir()
        rows = [Response(i, "same" if i == "p0" else f"{text} {i}", arm, "stop") for i in ids]
        write_jsonl(tmp_path / arm / "responses.jsonl", rows)
        answers[f"{arm}/0", "red-team"] = tmp_path / arm
    write_jsonl(tmp_path / "data/games.jsonl", [Label(i, 0.8 if n % 2 else 0.2, "ai") for n, i in enumerate(ids)])
    games["ai/0", "human/0"] = tmp_path / "data"
    measured: Any = Measured(None, answers=answers, games=games)
    return [cell("ai", data=tmp_path / "data"), cell("human", data=tmp_path / "data")], measured


def test_people_judge_games_and_the_report_says_what_it_comes_to(tmp_path) -> None:
    cells, measured = play(tmp_path)
    games = games_of(cells, measured)
    assert len(games) == 39 and {game.turned for game in games} == {True, False}  # the same answer is no question
    write_games(games, tmp_path / "games.jsonl")
    asked = [task.pair for task in tasks(find_pairs(tmp_path / "games.jsonl"), "random")]
    assert [(pair.id, pair.a) for pair in asked] == [(game.pair.id, game.pair.a) for game in games]

    # People prefer "good" in the first 16 games of the page but three.
    log, wrong = tmp_path / "said.jsonl", {3, 7, 11}
    rows = [
        {"pair_id": pair.id, "choice": "a" if pair.a.startswith("good") != (n in wrong) else "b", "rater": "ann"}
        for n, pair in enumerate(asked[:16])
    ]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    people = people_on(games, log)
    assert len(people) == 16 and sum(people.values()) == 13
    found = section.powered_report(cells, replace(measured, human_games=log), made_held_out({}, {}))
    assert found and not found.refused
    (line,) = found.lines
    assert line.title == "ai wins against human, where their answers differ" and line.alone.value == 13 / 16
    assert (line.alone.n, line.both.n, line.part) == (16, 39, "labelled")
    assert line.sentence.startswith(
        "With people's labels of 16 of 39 (16 prompts) and the judge's of all: ai wins against human, where"
    )

    log.write_text("".join(json.dumps(row) + "\n" for row in rows[::2]))
    found = section.powered_report(cells, replace(measured, human_games=log), made_held_out({}, {}))
    assert found and found.lines == [] and "So no win rate is corrected by them." in found.refused[0]


def test_one_arm_plays_no_games(tmp_path) -> None:
    with pytest.raises(UserError, match="name a run of two arms"):
        write_games(games_of([cell("ai")], NOTHING), tmp_path / "games.jsonl")
