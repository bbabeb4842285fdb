"""The table of label sources: two judges of one name are told apart."""

from cai.compare.schema import LabelLine
from cai.compare.sections.labels import told_apart
from cai.stats.intervals import EMPTY


def line(name: str, arm: str | None) -> LabelLine:
    return LabelLine(name=name, title=name, kind="judge", split="test", accuracy=EMPTY, arm=arm)


def test_judges_of_one_name_are_told_apart_by_their_arms() -> None:
    lines = [line("AI judge (channel)", arm) for arm in ("ai", "ai", "placebo")]
    lines += [line("a coin", "null"), line("a coin", "null"), line("shorter answer", None)]
    found = told_apart(lines)
    assert [one.title for one in found] == [
        "AI judge (channel), arm ai", "AI judge (channel), arm ai", "AI judge (channel), arm placebo",
        "a coin", "a coin", "shorter answer",
    ]  # fmt: skip
    assert [one.name for one in found] == [one.name for one in lines]
