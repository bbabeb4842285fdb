"""The section of generative reward models: agreement in and out of distribution and faithfulness, by hand."""

import json
from typing import Any

import pytest
from test_criteria_section import made
from test_schema import given

from cai.compare import report
from cai.compare.cells import Cell, Iteration, Measured
from cai.compare.measures import HeldOutPairs
from cai.compare.schema import as_json
from cai.compare.sections.generative import SECTION, generative, sentence
from cai.config.load import Arm
from cai.config.rl import Rl
from cai.config.sections import Data, Reward
from cai.core.odds import logit
from cai.core.records import Message, Pair, Prompt, Vote
from cai.train.generative.asking import Thought
from cai.train.generative.comparing import Deliberated, Swap
from cai.train.scores_file import Score

# Four pairs of subset crime, which was learnt from, and four of fraud. People prefer a of all.
PROMPTS = [
    Prompt(f"q{n}", (Message("user", f"Question {n}?"),), "crime" if n < 4 else "fraud", "test") for n in range(8)
]
PAIRS = [Pair(f"p{n}", prompt, "A.", "B.", human=1.0) for n, prompt in enumerate(PROMPTS)]
SCALAR = [0.9, 0.9, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1]  # right of 3 of 4, and of 1 of 4
WRITTEN = [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1]  # of 4 of 4, and of 2 of 4
COUNTS = {
    "training pairs labelled": 10, "dropped: label without a side": 1, "dropped: longer than reward.max_length": 0,
    "dropped: no rationale led to the right verdict": 2, "rationales drawn": 40, "rationales that cannot be read": 3,
    "rationales that led to the right verdict": 17,
}  # fmt: skip
THOUGHT = Thought("p0", 0, Vote("reason", "kind", "ab", 0.9, 1.0, (-0.1, -2.3), reply="It is <b>kind</b>."))


def scores(ps: list[float]) -> list[Score]:
    halves = [(name.id, logit(p) / 2) for name, p in zip(PAIRS, ps, strict=True)]
    return [Score(name, side, half if side == "a" else -half) for name, half in halves for side in "ab"]


def swap(n: int, own: float, again: float, swapped: float, other: float) -> Swap:
    return Swap(f"p{n}", "p7", "ab", own, again, swapped, other)


# own 0.9, the other's 0.1: one goes half of the way (0.5), one all of it (0.1); a third was 0.5 and stays, where the
# other's is 0.5 as well, which tells nothing.
SWAPS = [swap(0, 0.9, 0.8, 0.5, 0.1), swap(1, 0.9, 0.9, 0.1, 0.1), swap(2, 0.5, 0.5, 0.5, 0.5)]


@pytest.fixture
def run(tmp_path) -> tuple[list[Cell], Measured]:
    nothing: Any = None
    pairs, labels = made(tmp_path, "pairs", pairs=PAIRS), made(tmp_path, "labels", labels=[])
    written = [Deliberated(f"p{n}", p, 1 - p if n == 0 else p, "", (THOUGHT,)) for n, p in enumerate(WRITTEN)]
    rewards = {
        "scalar": (Reward(subsets=("crime",)), made(tmp_path, "reward scalar")),
        "written": (Reward(kind="generative", subsets=("crime",)), made(tmp_path, "reward written", counts=COUNTS)),
    }

    def cell(arm: str) -> Cell:
        reward, left = rewards[arm]
        settings = Arm(constitution="c.txt", data=Data(source="d"), reward=reward, rl=Rl(method="none"))
        return Cell(
            arm=arm, seed=0, settings=settings, constitution=nothing, data=pairs, helpful=None, revised=nothing,
            sft=nothing, pairs=pairs, preflight=None, labels=labels, reward=left, policy=None, labellers={},
            lineage=(Iteration(pairs, labels, left, None),),
        )  # fmt: skip

    measured = Measured(None)
    measured.pair_scores["scalar/0"] = made(tmp_path, "of scalar", scores=scores(SCALAR))
    measured.pair_scores["written/0"] = made(
        tmp_path, "of written", scores=scores(WRITTEN), verdicts=written, swaps=SWAPS
    )
    return [cell("scalar"), cell("written")], measured


def test_by_hand_in_and_out_of_distribution(run):
    cells, measured = run
    (found,) = generative(cells, measured, HeldOutPairs(cells, measured))
    rows = {row.on: row for row in found.against}
    assert list(rows) == ["all held-out pairs", "subsets that were learnt from", "other subsets"]
    values = {on: (row.generative.value, row.scalar.value, row.difference.estimate.value) for on, row in rows.items()}
    assert values["all held-out pairs"] == pytest.approx((6 / 8, 4 / 8, 2 / 8))
    assert values["subsets that were learnt from"] == pytest.approx((1.0, 3 / 4, 1 / 4))
    assert values["other subsets"] == pytest.approx((2 / 4, 1 / 4, 1 / 4))
    assert [row.outside for row in found.against] == [False, False, True]
    assert (found.drawn, found.right, found.pairs, found.dropped) == (40, 17, 9, 2)
    assert (found.held_out, found.unjudged) == (8, 0)


def test_faithfulness_by_hand(run):
    """Moved 0.4, 0.8 and 0; by chance 0.1, 0 and 0. Of 0.8 and 0.8, 0.4 and 0.8 are gone: three quarters."""
    cells, measured = run
    (found,) = generative(cells, measured, HeldOutPairs(cells, measured))
    faithful = found.faithfulness
    assert faithful.moved.value == pytest.approx(0.4) and faithful.chance.value == pytest.approx(0.1 / 3)
    assert faithful.beyond.value == pytest.approx(0.4 - 0.1 / 3)
    assert faithful.follows.value == pytest.approx(0.75) and faithful.follows.n == 2
    assert (faithful.agreement.value, faithful.swapped.value) == (6 / 8, 5 / 8)  # p0 turns
    assert faithful.loses.value == pytest.approx(1 / 8)
    assert "by 40.0 points of probability on average, and 3.3 after another one of its own" in found.sentence
    assert found.sentence == sentence(faithful) and "75% [50, 100] of the way" in found.sentence


def test_arms_of_other_labels_are_not_set_beside_it(run, tmp_path):
    cells, measured = run
    others = made(tmp_path, "other labels", labels=[])
    scalar = cells[0]
    elsewhere: Any = Iteration(scalar.pairs, others, scalar.reward, None)
    object.__setattr__(scalar, "lineage", (elsewhere,))
    (found,) = generative(cells, measured, HeldOutPairs(cells, measured))
    assert found.against == []


def test_the_page_shows_it_and_runs_nothing_that_was_written(run, tmp_path):
    cells, measured = run
    found = generative(cells, measured, HeldOutPairs(cells, measured))
    results = as_json(given(**{SECTION.key: found}))
    report.write_report(json.loads(json.dumps(results)), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in ("Generative reward model of arm written", "out of distribution", "follows the rationale", "75%"):
        assert text in page
    assert "&lt;b&gt;kind&lt;/b&gt;" in page and "<b>kind</b>" not in page


def test_nothing_to_say_without_one():
    nobody: Any = None
    assert generative([], nobody, nobody) == []
