"""The section of slimmed judges: read from a stage's file, in words, and on the page."""

import json
from dataclasses import asdict, replace
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from test_schema import given

from cai.compare import report
from cai.compare.schema import as_json
from cai.compare.sections.slimming import sentence, slimmed_judges
from cai.core.records import Estimate, plain
from cai.judge.slimming.acceptance import SlimAcceptance, SlimSide


def side(agreement: float) -> SlimSide:
    of, none = Estimate(agreement, agreement - 0.1, agreement + 0.1, 100, 28), Estimate(nan, nan, nan, 0, 0)
    return SlimSide(
        labelled=100, agreement=of, consistency=none, ece=of, disk=269_000_000, memory=None, speed=2.5,
        speeds=[2.4, 2.5, 2.6], perplexity=4.78,
    )  # fmt: skip


FOUND = SlimAcceptance(
    how="wanda 50%", method="channel", pairs=100, before=side(0.76), after=side(0.73),
    difference=Estimate(-0.03, -0.06, 0.01, 100, 28), margin=0.05, only_before=7, only_after=4, mcnemar=0.549,
    turned=Estimate(0.12, 0.08, 0.2, 100, 28), faster=[0.98, 1.0, 1.01], layers=210, left=0, weights=100, zeros=50,
    reloaded=0.0, verdict="unknown", notes=["Zeros save no <time>."],
)  # fmt: skip


def test_the_page_has_both_sides_and_says_what_saves_no_time(tmp_path: Path) -> None:
    (tmp_path / "acceptance.json").write_text(json.dumps(plain(asdict(FOUND))))
    settings = SimpleNamespace(judge=SimpleNamespace(model="smollm2-135m-judge"))
    cells: Any = [
        SimpleNamespace(arm="whole", acceptance=None, settings=settings),
        SimpleNamespace(arm="half", acceptance=tmp_path, settings=settings),
    ]
    judges = slimmed_judges(cells)
    assert [judge.arm for judge in judges] == ["half"] and judges[0].found.pairs == 100
    report.write_report(as_json(given(slimming=judges)), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in ("smollm2-135m-judge, wanda 50%", "Zeros save no &lt;time&gt;.", "269 MB", "4.78", "McNemar p 0.549"):
        assert text in page


def test_the_sentence_claims_no_more_than_the_interval() -> None:
    assert sentence(FOUND) == "These pairs are too few to say that it is at most 5 points worse."
    assert sentence(replace(FOUND, verdict="worse")) == "It agrees with people less than before."
    assert "or at most 5 points less" in sentence(replace(FOUND, verdict="as good"))
    assert "No person judged" in sentence(replace(FOUND, difference=Estimate(nan, nan, nan, 0, 0)))
