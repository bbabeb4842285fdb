"""Many pairs are judged block by block: the same labels, and never more held at once than a block."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import ScriptedJudge, asked_judge
from test_rubric import item, judge_by, rubric

from cai.config.sections import Judge
from cai.constitution import Judging
from cai.core.records import Label, Message, Pair, Prompt
from cai.judge import asking
from cai.judge.asking import Job, blocks_of, judge_jobs, judge_pairs
from cai.models.engines import Question, Reading

KIND = Judging("kind", "Choose the response that is kind.", (), 1.0)
SAFE = Judging("safe", "Choose the response that is safe.", (), 1.0)


def pair(number: int, prompt: str) -> Pair:
    asked = Prompt(prompt, (Message("user", f"Question {prompt}?"),), "privacy", "test")
    return Pair(f"pair {number}", asked, f"Answer {number}.", f"{'Long ' * number}other {number}.")


class CountingJudge(ScriptedJudge):
    """By the letters of the question. calls: (title, questions) of each time that it was asked."""

    def __init__(self) -> None:
        super().__init__(lambda question: (-0.01 * len(question.chat[-1].content), -1.0))
        self.calls: list[tuple[str, int]] = []

    def choose(self, questions: Sequence[Question], max_length: int, title: str) -> list[Reading | None]:
        self.calls.append((title, len(questions)))
        return super().choose(questions, max_length, title)


PAIRS = [pair(number, prompt) for number, prompt in enumerate("abcabcabb", 1)]


def test_the_labels_are_those_of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = asked_judge(Judge(principles="all"), (KIND, SAFE))
    whole, parts = CountingJudge(), CountingJudge()
    expected = judge_pairs(whole, PAIRS, judge, title="judge")
    monkeypatch.setattr(asking, "AT_ONCE", 7)
    # Of prompt a 3 pairs, of b 4, of c 2, two votes each: 6, 8 and 4. None of two prompts fit into 7.
    assert judge_pairs(parts, PAIRS, judge, title="judge") == expected
    # A vote of `rate` is two questions, one an answer.
    assert whole.calls == [("judge", 36)]
    assert parts.calls == [("judge, part 1 of 3", 12), ("judge, part 2 of 3", 16), ("judge, part 3 of 3", 8)]


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (9, [[0, 1, 2, 3, 4, 5, 6, 7, 8]]),  # all fit, and stay in their order
        (8, [[0, 3, 6, 1, 4, 7, 8], [2, 5]]),
        (5, [[0, 3, 6], [1, 4, 7, 8], [2, 5]]),
        (1, [[0, 3, 6], [1, 4, 7, 8], [2, 5]]),  # a prompt is not divided
    ],
)
def test_blocks_by_hand(monkeypatch: pytest.MonkeyPatch, room: int, expected: list[list[int]]) -> None:
    monkeypatch.setattr(asking, "AT_ONCE", room)
    assert [list(block) for block in blocks_of([(prompt, 1) for prompt in "abcabcabb"])] == expected


def test_methods_and_pairs_without_principles_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "AT_ONCE", 5)
    judge = asked_judge(Judge.model_validate({"method": {"rate": 1, "choice": 1}, "principles": "all"}), (KIND, SAFE))
    asked = CountingJudge()
    jobs = [Job(PAIRS[0], ()), Job(PAIRS[1], (KIND, SAFE)), Job(PAIRS[2], (KIND,))]  # 2, 4 and 2 votes by two methods
    labels = judge_jobs(asked, jobs, judge, title="judge")
    assert [label.pair_id for label in labels] == ["pair 1", "pair 2", "pair 3"]
    assert [title for title, _ in asked.calls] == ["judge, part 2 of 3", "judge, part 3 of 3"]  # nothing of the first
    assert judge_jobs(asked, [], judge, title="judge") == []


def test_labels_by_a_rubric_are_made_in_blocks_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    judge = judge_by(rubric(tmp_path, item("It is kind.", 1), item("It is safe.", 2)))
    empty = replace(PAIRS[3], a="")
    pairs = [*PAIRS[:3], empty, *PAIRS[4:]]
    whole, parts = CountingJudge(), CountingJudge()
    expected = judge_pairs(whole, pairs, judge, title="judge")
    monkeypatch.setattr(asking, "AT_ONCE", 7)
    assert judge_pairs(parts, pairs, judge, title="judge") == expected
    assert expected[3] == Label("pair 4", 0.0, "empty answer")
    # Two votes a pair, two questions each: a has two pairs that are asked about, b four, c two.
    assert whole.calls == [("judge", 32)]
    assert parts.calls == [("judge, part 1 of 3", 8), ("judge, part 2 of 3", 16), ("judge, part 3 of 3", 8)]
