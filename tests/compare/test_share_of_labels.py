"""The share of human labels in the report: which arm is what, the sentence, and where none is given. By hand."""

from types import SimpleNamespace
from typing import Any

import pytest
from test_schema import given as results

from cai.compare.report import write_report
from cai.compare.schema import as_json
from cai.compare.sections import share as section
from cai.config.labels import Sources, parse

ROWS = ("w", "x", "y", "z")  # a prompt each; one seed: t of three degrees of freedom, as in tests/stats/test_share.py


def cell(arm: str, labels: str, law: str = "- Be kind.", seed: int = 0) -> Any:
    settings = SimpleNamespace(labels=Sources(**parse(labels)))
    law_ = SimpleNamespace(text=law)
    return SimpleNamespace(
        arm=arm, seed=seed, name=f"{arm}/{seed}", settings=settings, constitution=law_, reward=None, policy="made"
    )


def shares_of(
    monkeypatch: pytest.MonkeyPatch, cells: list[Any], outcomes: dict[str, tuple[float, ...]], unit=""
) -> Any:
    """outcomes: cell -> its four rows."""
    measure = section._Measure("m", "merit", "", lambda name: dict(zip(ROWS, outcomes[name], strict=True)))
    monkeypatch.setattr(section, "_measures", lambda *given: [measure])
    return section.shares(cells, None, None)  # pyrefly: ignore


JUDGED = cell("ai", "ai")
ALL = [cell("coin", "shuffled"), cell("people", "human"), JUDGED]
# Over the coin's 0: people 2, 2, 4, 4 and the judge 1, 0, 1, 2, which makes 1/3 [-0.187, 0.654].
CLEAR = {"coin/0": (0, 0, 0, 0), "people/0": (2, 2, 4, 4), "ai/0": (1, 0, 1, 2)}


def test_the_share_of_the_judge_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    found = shares_of(monkeypatch, ALL, CLEAR)
    assert (found.null, found.reference, found.seeds) == ("coin", "people", 1)
    (line,) = found.lines
    assert (line.arm, line.over, line.form, line.gain.value, line.whole.value) == ("ai", "coin", "interval", 1, 3)
    assert (line.share.value, line.share.low, line.share.high) == pytest.approx((1 / 3, -0.1871, 0.6537), abs=1e-4)
    # Standard errors sqrt(1/6) and sqrt(1/3), times 3.18245: 1.299 and 1.837.
    assert found.sentence == (
        "By “merit”, ai labels give 33% [−19%, 65%] of what people labels give over a coin's (ai − coin = +1.00 "
        "[−0.30, +2.30], people − coin = +3.00 [+1.16, +4.84], over 4 held-out prompts, for this seed only)."
    )


@pytest.mark.parametrize(
    ("people", "judge", "form", "says"),
    [
        (
            (-1, -1, 3, 3), (6, 5, 6, 7), "outside",
            "cannot be shown (people − coin = +1.00 [−2.67, +4.67], over 4 held-out prompts, for this seed only), so "
            "no share is given; a share would be at most −188% or at least 146%.",
        ),
        ((-1, -1, 3, 3), (0, -1, 0, 1), "anything", "so no share is given; every share would be believable."),
        ((-2, -2, -4, -4), (1, 0, 1, 2), "interval", "people labels give less than a coin's (people − coin = −3.00"),
        ((2, 2, 2, 2), (1, 1, 1, 1), "unknown", "nothing varies, or there is one prompt, so a share has no interval."),
    ],
)  # fmt: skip
def test_where_no_share_can_be_given_the_report_says_so(monkeypatch, tmp_path, people, judge, form, says) -> None:
    found = shares_of(monkeypatch, ALL, CLEAR | {"people/0": people, "ai/0": judge})
    (line,) = found.lines
    assert (line.form, line.share) == (form, None) and says in found.sentence
    plain = as_json(results(share=found))
    assert (plain["share"]["lines"][0]["low"] is None) == (form in ("anything", "unknown"))
    write_report(plain, [], tmp_path / "report.html")
    assert says.replace("'", "&#39;") in (tmp_path / "report.html").read_text()
    assert "no share: " in (tmp_path / "report.html").read_text()


def test_what_the_constitution_gives_is_a_share_too(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """ai less ai-placebo is people's gain to the digit, and all of it; length is an arm like any other."""
    more = [cell("ai-placebo", "ai", "- Oil the chain."), cell("ai-again", "ai"), cell("short", "shorter")]
    outcomes = CLEAR | {"ai/0": (2, 2, 4, 5), "ai-placebo/0": (0, 0, 1, 0), "short/0": (0, 1, 0, 0)}
    found = shares_of(monkeypatch, [*ALL, *more], outcomes | {"ai-again/0": (2, 2, 4, 5)})
    assert [(line.arm, line.over) for line in found.lines] == [
        ("ai", "coin"), ("ai-placebo", "coin"), ("ai-again", "coin"), ("short", "coin"), ("ai", "ai-placebo"),
    ]  # fmt: skip
    assert found.lines[-1].gain.value == 3 and found.lines[-1].value == 1
    assert found.lines[-1].sentence.startswith("By “merit”, what ai labels give beyond those of ai-placebo is 100% [")
    write_report(as_json(results(share=found)), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "What share of human labels are the labels worth?" in page and "− ai-placebo" in page
    once = [page.count(line.sentence.replace("'", "&#39;")) for line in found.lines]
    assert once == [1, 0, 0, 0, 1], "the first is the page's answer; the other arms' stand in the table"


@pytest.mark.parametrize(
    "cells",
    [
        [cell("coin", "shuffled"), cell("people", "human")],
        [cell("coin", "shuffled"), JUDGED],
        [cell("people", "human"), JUDGED],
        [cell("a", "shuffled"), JUDGED, cell("b", "shorter")],
    ],
)
def test_without_a_null_people_and_a_third_there_is_no_share(monkeypatch, cells) -> None:
    assert shares_of(monkeypatch, cells, {}) is None
