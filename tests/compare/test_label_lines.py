"""The table of label sources: two judges of one name are told apart; what a preflight says of a judge."""

from cai.compare.schema import LabelLine
from cai.compare.sections.judges import sentence
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


def told(low: float, high: float) -> str:
    """What is said of a preflight in which the judge agreed with people on the middle of this interval."""
    accuracy = {"value": (low + high) / 2, "low": low, "high": high, "n": 20}
    tried = [{"method": "rate", "found": {"accuracy": accuracy, "auc": {"value": 0.5, "n": 20}}}]
    sample = {"pairs": 20, "prompts": 9, "sample": "calibration split", "auto": False, "platt": None}
    return sentence({"method": "rate", "tried": tried, **sample})


def test_a_judge_that_contradicts_people_is_not_taken_for_a_coin() -> None:
    assert told(0.0, 0.33).endswith("agrees with people on 16% [0, 33], less than a coin would.")
    assert told(0.4, 0.6).endswith("on 50% [40, 60], which so small a sample cannot tell from a coin.")
    assert told(0.6, 0.8).endswith("on 70% [60, 80].")
