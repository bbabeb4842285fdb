"""What the browser of examples filters and sorts by, and who agrees with whom, by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from cai.compare.measures import HeldOutPairs
from cai.compare.sections import opinions
from cai.compare.sections.examples import PolicyAnswer, _spreads, pair_row, rewarded
from cai.core.records import Abstained, Label, Message, Pair, Prompt, Vote


def pair(number: int, human: float | None, *, subset: str = "hate", a: str = "one two", b: str = "one") -> Pair:
    prompt = Prompt(f"q{number}", (Message("user", "Question?"),), subset, "test")
    return Pair(f"p{number}", prompt, a, b, human, (1.0, 0.0))


def test_a_pair_says_where_opinions_part() -> None:
    vote = Vote("choice", "kind", "ab", 0.123456, 0.5, (0.1,), "", "because")
    row = pair_row(pair(1, 1.0), Label("p1", 0.3, "ai", (vote,)), {"ai": 0.3, "mixed": 0.7}, {"ai": 0.4, "human": 0.95})
    assert (row["disagree"], row["against"], row["gap"], row["ai"]) == (True, True, 0.55, 0.3)
    assert row["votes"] == [["choice", "kind", "ab", 0.1235, 0.5, "", "because"]]
    assert row["people"] == [["person 1", 1.0], ["person 2", 0.0]]
    assert [opinion["name"] for opinion in row["opinions"]] == [
        "labels of arm ai", "labels of arm mixed", "reward model ai", "reward model human",
    ]  # fmt: skip
    same = pair_row(pair(1, 1.0), Label("p1", 0.5, "ai"), {"ai": 0.3, "mixed": 0.5}, {"ai": 0.6, "human": 0.9})
    assert (same["disagree"], same["against"], same["gap"]) == (False, False, 0.3)  # a tie is on no side
    none = pair_row(pair(1, None), Abstained("p1", "no mass", (vote,)), {}, {})
    assert (none["ai"], none["reason"], none["disagree"], none["against"], none["gap"]) == (
        None, "no mass", False, False, None,
    )  # fmt: skip


def test_a_transcript_says_how_far_apart_and_whether_the_arms_models_like_different_answers() -> None:
    def answer(arm: str, seed: int | None, ai: float, human: float) -> PolicyAnswer:
        return PolicyAnswer(arm, seed, "", {("ai", 0): ai, ("human", 0): human}, 0.5)

    rows = [answer("sft", None, 0.0, 0.0), answer("ai", 0, 2.0, 1.0), answer("human", 0, 0.0, 5.0)]
    spreads = {("ai", 0): 0.5, ("human", 0): 2.0}
    assert rewarded(rows, spreads) == {"disagree": True, "gap": 4.0}  # (2 - 0) / 0.5 and (5 - 1) / 2
    rows[2] = answer("human", 0, 0.0, 0.0)
    assert rewarded(rows, spreads) == {"disagree": False, "gap": 4.0}
    assert rewarded(rows[:1], spreads) == {"disagree": False, "gap": None}
    found = _spreads([answer("ai", 0, 1.0, 3.0), answer("ai", 0, 3.0, 3.0)])
    assert found == {("ai", 0): 1.0}  # one that says the same of all tells nothing


@pytest.fixture
def held() -> HeldOutPairs:
    """Four pairs of two categories; the labels of arm ai are right on two of three, and one is a tie."""
    made = HeldOutPairs.__new__(HeldOutPairs)
    pairs = [pair(1, 1.0), pair(2, 0.0), pair(3, 1.0, subset="theft"), pair(4, 0.5)]
    made.pairs = {one.id: one for one in pairs}
    made.human = {"p1": 1.0, "p2": 0.0, "p3": 1.0, "p4": 0.5}
    made.labels = {"ai": {"p1": 0.9, "p2": 0.8, "p3": 0.7, "p4": 0.2}}
    made.margins = {"ai/0": {"p1": 0.6, "p2": 0.2, "p3": 0.3}, "ai/1": {"p1": 0.8, "p2": 0.2, "p3": 0.9}}
    return made


CELLS: Any = [SimpleNamespace(arm="ai", name="ai/0"), SimpleNamespace(arm="ai", name="ai/1")]


def test_a_transcript_is_shown_with_the_score_of_every_model() -> None:
    assert PolicyAnswer("ai", 0, "Yes.", {("ai", 0): 0.25}, 0.5).row() == {
        "arm": "ai", "seed": 0, "text": "Yes.",
        "scores": {"reward model ai/0": 0.25, "judge: P(better than SFT)": 0.5},
    }  # fmt: skip
    assert PolicyAnswer("sft", None, "", {}).row()["scores"] == {}


def test_agreement_of_each_with_each(held: HeldOutPairs) -> None:
    found = opinions.agreement(CELLS, held)
    assert found is not None
    assert found.names == ["people", "labels ai", "reward model ai", "shorter answer"]
    assert found.arms == [None, "ai", "ai", None]
    # The mean of the reward models is 0.7, 0.2, 0.6; the shorter answer is always b.
    shares = [[cell and (round(cell.value, 3), cell.n) for cell in row] for row in found.cells]
    assert shares == [
        [None, (0.667, 3), (1.0, 3), (0.333, 3)],
        [(0.667, 3), None, (0.667, 3), (0.25, 4)],
        [(1.0, 3), (0.667, 3), None, (0.333, 3)],
        [(0.333, 3), (0.25, 4), (0.333, 3), None],
    ]


def test_agreement_by_category(held: HeldOutPairs) -> None:
    found = opinions.by_category(CELLS, held)
    assert found is not None
    assert (found.rows, found.columns) == (["hate", "theft"], ["labels ai", "reward model ai", "shorter answer"])
    shares = [[(cell.value, cell.n) for cell in row] for row in found.cells]
    assert shares == [[(0.5, 2), (1.0, 2), (0.5, 2)], [(1.0, 1), (1.0, 1), (0.0, 1)]]
    held.human = {}
    assert opinions.by_category(CELLS, held) is None


def test_reliability_of_the_reward_models(held: HeldOutPairs) -> None:
    # Claims 0.7, 0.2, 0.6 of people's 1, 0, 1, and each pair the other way round: 0.3, 0.8, 0.4 of 0, 1, 0.
    found = opinions.reward_reliability(CELLS, held)["ai"]
    assert [(round(p, 2), human, n) for p, human, n in found] == [
        (0.2, 0.0, 1), (0.3, 0.0, 1), (0.4, 0.0, 1), (0.6, 1.0, 1), (0.7, 1.0, 1), (0.8, 1.0, 1),
    ]  # fmt: skip
