"""results.json as records: written, read back, refused; and what it takes to add a section to the report."""

import json
from math import isnan, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cai.compare import contents, report, results
from cai.compare.schema import SCHEMA, Difference, MeasureLine, Rated, Results, as_json, read_results
from cai.compare.section import ReportSection
from cai.compare.sections.counts import Count
from cai.compare.sections.curves import Curve, CurveLine
from cai.core.errors import UserError
from cai.core.records import Estimate


def given(**sections: Any) -> Results:
    gap = Difference(estimate=Estimate(0.1, nan, nan, 4, 1), p=nan, of=("ai", "human"), left_out={"ai": 1, "human": 0})
    arms = {"ai": Estimate(0.6, 0.5, 0.7, 4, 2)}
    line = MeasureLine(key="k", title="t", unit="%", better="higher", help="", arms=arms, difference=gap)
    return Results(
        name="mine", question="Which?", arms=("ai", "human"), seeds=(0,), differences=[], warnings=["w"], headline=None,
        elo=[Rated("ai/0", Estimate(1010.5, 990, 1030, 4, 2), "ai", 0)], measures=[line], replicas=[], point={"x": 1},
        stages=[], provenance={"dtype": "float32"}, examples={"pairs": 2}, sections=sections,
    )  # fmt: skip


def test_results_are_written_and_read_back(tmp_path: Path) -> None:
    plain = as_json(given(mine=[{"n": 3}]))
    assert plain["schema"] == SCHEMA == 1 and plain["mine"] == [{"n": 3}] and "sections" not in plain
    difference = plain["measures"][0]["difference"]
    assert difference["p"] is None and difference["estimate"]["low"] is None and difference["of"] == ["ai", "human"]
    (tmp_path / "results.json").write_text(json.dumps(plain, allow_nan=False))
    back = read_results(tmp_path / "results.json")
    assert back.measures[0].difference is not None and isnan(back.measures[0].difference.estimate.low)
    assert (back.elo, back.sections, back.provenance) == (given().elo, {"mine": [{"n": 3}]}, {"dtype": "float32"})
    assert as_json(back) == plain


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": None}, "an older version made this run: its results.json has schema 0, not 1"),
        ({"schema": 2}, "a newer version made this run: its results.json has schema 2, not 1"),
        ({"schema": "1"}, "cut off, or was not written by a run"),
        ({"elo": [{"policy": "sft"}]}, "not a Results: elo.0.elo: Field required"),
        ({"name": None}, "cut off, or was not written by a run"),
    ],
)
def test_another_schema_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    whole = as_json(given()) | change
    (tmp_path / "results.json").write_text(
        json.dumps({key: x for key, x in whole.items() if x is not None or key not in change})
    )
    with pytest.raises(UserError, match=says):
        read_results(tmp_path / "results.json")


def test_a_section_is_a_file_a_template_and_a_line_in_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = ReportSection(
        "colours", "Colours <of> answers", list[dict], lambda run: [{"arm": cell.arm, "n": 7} for cell in run.cells],
        empty=(), chapter="policies", template="colours.html.jinja", draw=lambda r: f"{len(r['colours'])} drawn",
    )  # fmt: skip
    (tmp_path / "colours.html.jinja").write_text(
        '{% from "macros.html.jinja" import mark %}{{ drawn }}'
        "{% for row in found %} {{ mark(row.arm) }} has {{ row.n }}{% endfor %}"
    )
    before = contents.SECTIONS
    monkeypatch.setattr(contents, "SECTIONS", (new,))
    run: Any = SimpleNamespace(cells=[SimpleNamespace(arm="ai")])
    plain = as_json(given(**results.sections_of(run)))
    assert plain["colours"] == [{"arm": "ai", "n": 7}]
    monkeypatch.setattr(contents, "SECTIONS", (*before, new))
    monkeypatch.setattr(report, "FOLDERS", (*report.FOLDERS, tmp_path))
    report.write_report(plain, [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert 'aria-label="Colours &lt;of&gt; answers"' in page and "1 drawn" in page and "</span> has 7" in page


def test_keys_of_sections_are_their_own() -> None:
    keys = [section.key for section in contents.SECTIONS]
    assert len(keys) == len({*keys, *as_json(given())}) - len(as_json(given()))
    folder = Path(report.__file__).parent / "sections"
    assert all(
        (folder / section.template).is_file() and section.chapter for section in contents.SECTIONS if section.template
    )


def test_sections_are_read_back_as_their_records(tmp_path: Path) -> None:
    made = Count("rows read", "all", 3), Curve("t", "step", "loss", [CurveLine("ai", 0, [1], [nan])], "reward")
    plain = as_json(given(counts=[made[0]], curves=[made[1]], cross=None, mine=[1]))
    (tmp_path / "results.json").write_text(json.dumps(plain, allow_nan=False))
    back = read_results(tmp_path / "results.json", contents.KINDS).sections
    assert back["counts"] == [made[0]] and back["cross"] is None and back["mine"] == [1]
    assert back["curves"][0].training == "reward" and isnan(back["curves"][0].lines[0].y[0])
    plain["counts"][0]["n"] = "many"
    (tmp_path / "results.json").write_text(json.dumps(plain, allow_nan=False))
    with pytest.raises(UserError, match="n: Input should be a valid integer"):
        read_results(tmp_path / "results.json", contents.KINDS)
