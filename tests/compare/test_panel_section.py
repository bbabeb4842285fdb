"""The section of panels: each judge and all together beside people, by hand; in words, and on the page."""

import json
from dataclasses import asdict, replace
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_criteria_section import made
from test_schema import given

from cai.compare import report
from cai.compare.cells import Cell, JudgeMade, Measured, by_each_judge
from cai.compare.measures import HeldOutPairs
from cai.compare.schema import as_json
from cai.compare.sections.panel import JudgeOfPanel, panels, sentence, twins
from cai.config.load import Arm
from cai.config.panel import ArmJudge
from cai.config.sections import Data
from cai.core.records import Estimate, Label, Message, Pair, Prompt
from cai.judge.panel import PanelJudge, together

PROMPTS = [Prompt(f"q{n}", (Message("user", f"Question {n}?"),), "all", "test") for n in range(8)]
# People prefer a of all eight. Judge 1 is right of the first six, judge 2 of the first three and the last one.
FIRST = [0.9] * 6 + [0.1] * 2
SECOND = [0.6] * 3 + [0.4] * 4 + [0.6]


def panel_of(tmp_path: Path, rule: str, second: dict[int, float]) -> tuple[list[Cell], HeldOutPairs]:
    pairs = [Pair(f"p{n}", prompt, "A.", "B.", human=1.0, votes=(1.0, 1.0)) for n, prompt in enumerate(PROMPTS)]
    said = {
        "judge 1": {f"p{n}": Label(f"p{n}", p, "ai") for n, p in enumerate(FIRST)},
        "judge 2": {f"p{n}": Label(f"p{n}", p, "ai") for n, p in second.items()},
    }
    labels, judges = together([pair.id for pair in pairs], said, rule)  # pyrefly: ignore
    parts = [made(tmp_path, name, labels=list(of.values()), abstained=[]) for name, of in said.items()]
    parts = [replace(part, calls={"asked": 10 * n, "tokens read": 100 * n}) for n, part in enumerate(parts, 1)]
    whole = made(tmp_path, "panel", labels=labels)
    (whole / "judges.json").write_text(json.dumps([asdict(judge) for judge in judges]))
    more = {"escalate": {"below": 0.7}} if rule == "last" else {"combine": rule}
    settings = Arm(
        constitution="c.txt", data=Data(source="d"),
        judge=ArmJudge.model_validate(
            {"model": "m", "panel": {"judges": ({"model": "m"}, {"model": "m", "method": "choice"}), **more}}
        ),
    )  # fmt: skip
    nothing: Any = None
    pairs_made = made(tmp_path, "pairs", pairs=pairs)
    cell = Cell(
        arm="both", seed=0, settings=settings, constitution=nothing, data=pairs_made, helpful=None, revised=nothing,
        sft=nothing, pairs=pairs_made, preflight=None, labels=whole, reward=None, policy=None, labellers={"ai": whole},
        lineage=(),
        panel=tuple(
            JudgeMade(f"judge.panel.judges.{n}", f"judge {n + 1}", part, None) for n, part in enumerate(parts)
        ),
    )  # fmt: skip
    return [cell], HeldOutPairs([cell], Measured(None))


def test_by_hand(tmp_path):
    """The mean of log-odds follows judge 1, who is the surer one: right of six of eight, as it is alone. Judge 2 is
    right of four; the panel is ahead of it by (6 - 4) / 8."""
    cells, held_out = panel_of(tmp_path, "mean", dict(enumerate(SECOND)))
    (found,) = panels(cells, held_out)
    one, two = found.judges
    assert (found.arm, found.rule, found.below) == ("both", "mean", None)
    assert found.agreement.value == 0.75 == one.agreement.value and two.agreement.value == 0.5
    assert one.ahead.value == 0 and two.ahead.value == pytest.approx(0.25)
    assert (two.found.asked, two.share, two.calls, two.tokens, two.method) == (8, 1.0, 20, 200, "choice")
    assert found.people.value == 1  # both people of each pair
    # Interval alpha of .9/.6 (3), .9/.4 (3), .1/.4, .1/.6: 1 - observed / expected disagreement, by hand.
    values = [*zip(FIRST, SECOND, strict=True)]
    observed = sum((x - y) ** 2 for x, y in values) / 8
    flat = [x for pair in values for x in pair]
    expected = sum((x - y) ** 2 for i, x in enumerate(flat) for j, y in enumerate(flat) if i < j) / (16 * 15 / 2)
    assert found.alpha.value == pytest.approx(1 - observed / expected)
    assert found.sentence.startswith("Whether the panel agrees with people more than judge 1 (m, rate)")


def test_escalation_tells_what_was_asked(tmp_path):
    """Judge 2 was asked about two of eight pairs, on which judge 1 was wrong, and is right of both."""
    cells, held_out = panel_of(tmp_path, "last", {6: 0.8, 7: 0.8})
    (found,) = panels(cells, held_out)
    one, two = found.judges
    assert (found.below, found.agreement.value) == (0.7, 1.0)
    assert (two.found.asked, two.found.decided, one.found.decided, two.share) == (2, 2, 6, 0.25)
    assert one.ahead.value == pytest.approx(0.25)
    assert "judge 2 was asked about 25% of the pairs" in found.sentence


def test_each_judge_is_seen_as_an_arm_that_has_it_alone(tmp_path):
    cells, _ = panel_of(tmp_path, "mean", dict(enumerate(SECOND)))
    one, two = by_each_judge(cells[0])
    assert (one.arm, two.arm, two.settings.judge.method) == ("both judge 1", "both judge 2", "choice")
    assert two.settings.judge.panel is None and two.labellers["ai"] is cells[0].panel[1].labels
    assert by_each_judge(one) == [one]


def judge(value: float, ahead: Estimate) -> JudgeOfPanel:
    of = PanelJudge(name="judge 1", asked=9, labelled=9)
    agreement = Estimate(value, value, value, 9, 9)
    return JudgeOfPanel(
        found=of, model="m", method="rate", agreement=agreement, ahead=ahead, calls=0, tokens=0, share=1.0
    )


def test_the_sentence_claims_no_more_than_the_interval():
    worse, best = judge(0.5, Estimate(0.3, 0.2, 0.4, 9, 9)), judge(0.8, Estimate(0.05, -0.01, 0.1, 9, 9))
    assert sentence("mean", [worse, best]).startswith("Whether the panel agrees")  # the best one counts
    assert "+30.0 points [20.0, 40.0]" in sentence("mean", [worse])
    assert sentence("mean", [judge(0.8, Estimate(-0.1, -0.2, -0.01, 9, 9))]).startswith(
        "The panel agrees with people less"
    )
    assert sentence("mean", [judge(nan, Estimate(nan, nan, nan, 0, 0))]).startswith("No person judged")


def test_judges_that_always_vote_alike_are_named_as_one():
    # "a" and "b" share three pairs and differ on none; "c" differs on one; "d" shares one pair with each: too few.
    votes = [{"a": 0.7, "b": 0.7, "c": 0.7}, {"a": 0.2, "b": 0.2, "c": 0.3}, {"a": 0.5, "b": 0.5, "d": 0.5}, {"b": 0.9}]
    assert twins(votes) == ["a and b gave the same votes on all 3 pairs: one judge, counted twice."]
    assert twins([]) == []


def test_the_page_shows_it(tmp_path):
    cells, held_out = panel_of(tmp_path, "last", {6: 0.8, 7: 0.8})
    report.write_report(as_json(given(panels=panels(cells, held_out))), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in ("Panel of arm both", "the last one asked decides", "less sure than 0.70", "decides 6", "25%", "300"):
        assert text in page


def test_an_arm_without_a_panel_has_nothing_to_say():
    cells: Any = [SimpleNamespace(arm="ai", panel=())]
    nobody: Any = None
    assert panels(cells, nobody) == []
