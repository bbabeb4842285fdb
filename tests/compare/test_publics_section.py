"""Several publics in the report: the matrix, what each group loses, who is worst off. Planted, and counted by hand."""

from types import SimpleNamespace
from typing import Any

import pytest
from test_criteria_section import made
from test_schema import given

from cai.compare import report
from cai.compare.cells import Measured
from cai.compare.measures import HeldOutPairs
from cai.compare.schema import as_json
from cai.compare.sections.publics import publics_report, sentences
from cai.config.labels import Sources
from cai.config.publics import Publics
from cai.core.records import Label, Message, Pair, Prompt

# Eight held-out pairs: on the first four the publics want opposite answers, on the others the same.
PAIRS = [Pair(f"p{n}", Prompt(f"q{n}", (Message("user", f"{n}?"),), "all", "test"), "A.", "B.") for n in range(8)]
BRIEF, CAREFUL = [1.0] * 4 + [1.0] * 4, [0.0] * 4 + [1.0] * 4
# What the reward models of each arm prefer: own taste; and of the merged one, brief's on one of the first four.
ARMS = {"brief": [0.9] * 8, "careful": [0.1] * 4 + [0.9] * 4, "merged": [0.9, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9]}


def finished(tmp_path, seeds=(0, 1), arms=ARMS, wins: dict[str, list[float]] | None = None) -> Any:
    pairs = made(tmp_path, "pairs", pairs=PAIRS)
    settings = {
        arm: SimpleNamespace(labels=Sources(default="human", file="l.jsonl"),
                             constitution=SimpleNamespace(file=f"{arm}.txt" if wins else "all.txt")) for arm in arms
    }  # fmt: skip
    cells: list[Any] = [
        SimpleNamespace(
            arm=arm, seed=seed, name=f"{arm}/{seed}", settings=settings[arm], pairs=pairs, labels=None,
            policy="made" if wins else None,
        )
        for arm in arms
        for seed in seeds
    ]  # fmt: skip
    measured = Measured(None)
    for group, wants in (("brief", BRIEF), ("careful", CAREFUL)):
        labels = [Label(pair.id, p, "human file") for pair, p in zip(PAIRS, wants, strict=True)]
        measured.publics[group] = made(tmp_path, f"by-{group}", labels=labels)
        for cell in cells if wins else ():
            games = [Label(f"q{n}", p, "ai") for n, p in enumerate((wins or {})[f"{cell.arm} by {group}"])]
            measured.public_games[group, cell.name] = made(tmp_path, f"{cell.arm}-{cell.seed}-{group}", games=games)
    held_out: Any = HeldOutPairs.__new__(HeldOutPairs)
    held_out.pairs, held_out.human, held_out.labels = {pair.id: pair for pair in PAIRS}, {}, {}
    held_out.margins = {
        cell.name: {pair.id: p for pair, p in zip(PAIRS, arms[cell.arm], strict=True)} for cell in cells
    }
    publics = Publics(file="l.jsonl", groups={"brief": ("ann", "bob"), "careful": ("cleo",)})
    experiment = SimpleNamespace(publics=publics, arms=settings)
    return SimpleNamespace(experiment=experiment, cells=cells, measured=measured, held_out=held_out)


def test_the_matrix_by_hand(tmp_path):
    """brief says what brief says of all 8, and what careful says of 4; merged 5 of 8 by brief and 7 of 8 by careful."""
    found = publics_report(finished(tmp_path))
    assert found and found.groups == {"brief": 2, "careful": 1}
    ((first, second, same),) = found.among
    assert (first, second, same.value, same.n) == ("brief", "careful", 0.5, 8)
    (by_labels,) = found.measures
    rates = {row.arm: {group: e.value for group, e in row.by.items()} for row in by_labels.rows}
    assert rates == {
        "brief": {"brief": 1.0, "careful": 0.5},
        "careful": {"brief": 0.5, "careful": 1.0},
        "merged": {"brief": 0.625, "careful": 0.875},
    }


def test_who_loses_what_by_hand(tmp_path):
    """brief loses 3 of 8, careful 1 of 8. The gap between them is (5 - 7) / 8, on the same pairs: -1 on three of the
    first four, +1 on one."""
    found = publics_report(finished(tmp_path))
    assert found
    (by_labels,) = found.measures
    brief, careful = by_labels.lines
    assert (brief.group, brief.arm, brief.over, brief.seeds) == ("brief", "merged", "brief", 2)
    assert brief.difference.value == pytest.approx(-0.375) and careful.difference.value == pytest.approx(-0.125)
    assert (brief.own.value, brief.merged.value) == (1.0, 0.625)
    (worst,) = by_labels.worst
    assert (worst.arm, worst.group, worst.next) == ("merged", "brief", "careful")
    assert worst.gap.value == pytest.approx(-0.25) and worst.gap.high > 0
    assert "Who is worst off under merged cannot be told; brief has the lowest rate" in by_labels.sentences[1]
    merged = {row.arm: row.welfare for row in by_labels.rows}["merged"]
    assert (merged.mean.value, merged.least.value) == (0.75, 0.625)
    assert merged.nash.value == pytest.approx((0.625 * 0.875) ** 0.5)


def test_a_loss_that_is_shown_is_said_to_be_one(tmp_path):
    """Merged goes against brief on all eight: surely lost, and brief worst off; with careful it goes half and half."""
    arms = ARMS | {"merged": [0.1] * 8}
    found = publics_report(finished(tmp_path, arms=arms))
    assert found
    (by_labels,) = found.measures
    first, second = by_labels.sentences
    assert first.startswith("By the arm merged instead of its own, over prompts and 2 seeds")
    assert "loses: brief −100.0 points [−100.0" in first
    assert second.startswith(
        "Who is worst off" if by_labels.worst[0].gap.high >= 0 else "Worst off under merged is brief"
    )


def test_nothing_is_shown_where_nothing_is_shown(tmp_path):
    found = publics_report(finished(tmp_path, arms=dict.fromkeys(ARMS, [0.9] * 8)))
    assert found
    (by_labels,) = found.measures
    assert all(line.difference.value == 0 for line in by_labels.lines)
    assert "is not shown to lose or gain: brief +0.0 points" in by_labels.sentences[0]


def test_wins_are_judged_by_each_groups_constitution(tmp_path):
    wins = {f"{arm} by {group}": [0.9] * 6 + [0.1] * 2 if arm == group else [0.5] * 8 for arm in ARMS
            for group in ("brief", "careful")}  # fmt: skip
    found = publics_report(finished(tmp_path, wins=wins))
    assert found and found.constitutions == {"brief": "brief.txt", "careful": "careful.txt"}
    by_labels, games = found.measures
    assert (by_labels.key, games.key) == ("agreement", "wins")
    rates = {row.arm: {group: e.value for group, e in row.by.items()} for row in games.rows}
    assert rates["brief"] == {"brief": 0.75, "careful": 0.5} and rates["merged"] == {"brief": 0.5, "careful": 0.5}
    assert [line.difference.value for line in games.lines] == [-0.25, -0.25]


def test_one_seed_is_said_to_be_one(tmp_path):
    found = publics_report(finished(tmp_path, seeds=(0,)))
    assert found and "for this seed only" in found.measures[0].sentences[0]
    assert sentences("agreement", [], []) == []


def test_the_page_shows_it(tmp_path):
    found = publics_report(finished(tmp_path))
    report.write_report(as_json(given(publics=found)), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in (
        "Several publics: who loses what", "brief and careful want the same answer on 50.0%", "Merged less own",
        "Who is served by whose arm", "Nash", "brief (2 people), careful (1 person)",
    ):  # fmt: skip
        assert text in page


def test_an_experiment_without_publics_has_nothing_to_say():
    run: Any = SimpleNamespace(experiment=SimpleNamespace(publics=None), measured=Measured(None))
    assert publics_report(run) is None
