"""The section of rubrics: which criterion decided, what was gated out, what people share, counted by hand."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_judging import logs
from test_schema import given

from cai.compare import report
from cai.compare.schema import as_json
from cai.compare.sections.rubrics import FOR_ONE, about, rubrics, sentence
from cai.config.panel import ArmJudge
from cai.core.records import Estimate, Message, Pair, Prompt, write_jsonl
from cai.core.templates import load_template
from cai.data.rubrics import RubricItem
from cai.judge.labels_file import write_labels
from cai.judge.rubric import FILE, GATED_OUT, rubric_verdicts
from cai.models.engines import Reading

KIND, RUDE = RubricItem("It is kind.", 3, "kind"), RubricItem("It is rude.", -2, "rude")
CARE = RubricItem("It warns.", 4, "care", "It names a medicine.")
# P(Yes) of a and of b by criterion or condition, of four pairs; people prefer a of all.
SEEN = [
    {"kind.": (0.9, 0.1), "rude.": (0.1, 0.1), "warns.": (0.5, 0.5), "medicine.": (0.1, 0.1)},  # kind decides for a
    {"kind.": (0.2, 0.4), "rude.": (0.0001, 0.9), "warns.": (0.5, 0.5), "medicine.": (0.1, 0.1)},  # rude does
    {"kind.": (0.5, 0.6), "rude.": (0.1, 0.1), "warns.": (0.2, 0.9), "medicine.": (0.9, 0.9)},  # care does, for b
    {"kind.": (0.5, 0.5), "rude.": (0.1, 0.1), "warns.": (0.5, 0.5), "medicine.": (0.1, 0.1)},  # nobody: a tie
]


def run(tmp_path: Path, items: list[tuple[RubricItem, ...]], counts: dict[str, int] | None = None) -> Any:
    prompts = [Prompt(f"q{n}", (Message("user", f"Question {n}?"),), "x", "test") for n in range(4)]
    pairs = [Pair(f"p{n}", prompt, "Yes.", "No.", 1.0, (1.0, 1.0)) for n, prompt in enumerate(prompts)]
    judge = ArmJudge.model_validate(
        {"min_mass": 0.0, "rubric": {"write" if counts else "file": {} if counts else "r.jsonl"}}
    )

    def answer(question: Any, seen: dict[str, tuple[float, float]]) -> Reading:
        shown = question.chat[-1].content
        share = next(both for text, both in seen.items() if text in shown)["Assistant: No." in shown]
        return Reading(logs(share, 1 - share))

    def ask(questions: Any) -> Any:
        of = {q: next(n for n in range(4) if f"Question {n}?" in q.chat[-1].content) for q in questions}
        return {q: answer(q, SEEN[n]) for q, n in of.items()}

    rows = list(zip(pairs, items, strict=True))
    verdicts = rubric_verdicts(rows, judge, {"rubric": load_template("rubric")}, ask)
    made = tmp_path / "made"
    made.mkdir()
    write_jsonl(made / "pairs.jsonl", pairs)
    write_labels(made, verdicts, {"criteria asked about": 12, f"criteria left out: {GATED_OUT}": 3, **(counts or {})})
    lines = [
        {"prompt_id": p.prompt.id, "rubrics": [{"criterion": i.criterion, "points": i.points, "name": i.name,
                                                 "only_if": i.only_if} for i in mine]}
        for p, mine in rows if mine
    ]  # fmt: skip
    (made / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    cell: Any = SimpleNamespace(
        arm="scored", settings=SimpleNamespace(judge=judge), labellers={"ai": made}, pairs=made, views=[],
    )  # fmt: skip
    cell.views.append(cell)
    held_out: Any = SimpleNamespace(human={pair.id: 1.0 for pair in pairs})
    return rubrics([cell], held_out)


def test_by_hand(tmp_path) -> None:
    (found,) = run(tmp_path, [(KIND, RUDE, CARE)] * 4)
    rows = {row.criterion: row for row in found.criteria}
    assert {name: row.decided.value for name, row in rows.items()} == {"kind": 0.25, "rude": 0.25, "care": 0.25}
    assert (found.labels, found.prompts, found.without) == (4, 4, 0)
    care = rows["care"]
    assert (care.points, care.only_if, care.asked, care.entered) == (4, "It names a medicine.", 4, 1)
    assert care.gated_out.value == 0.75 and care.gated_out.n == 8 and rows["kind"].gated_out.n == 0
    assert care.met.value == pytest.approx(0.55) and care.spread.value == pytest.approx(0.7)
    # kind points to a of the first pair alone, and to nobody of the last: a tie is half right.
    assert rows["kind"].agreement.value == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    assert rows["rude"].agreement.value == pytest.approx((0.5 + 1 + 0.5 + 0.5) / 4)
    assert care.agreement.value == 0.0 and care.agreement.n == 1
    assert rows["rude"].met.value == pytest.approx((0.1 * 6 + 0.0001 + 0.9) / 8)


def test_many_criteria_of_single_prompts_are_a_row_for_each_sign(tmp_path) -> None:
    own = [tuple(RubricItem(f"It is kind. {n} {k}", k or -1, f"{n} {k}") for k in range(4)) for n in range(4)]
    (found,) = run(
        tmp_path, own, {"written: prompts": 4, "written: criteria": 16, "written: lines dropped: cut off": 2}
    )
    rows = {row.criterion: row for row in found.criteria}
    assert set(rows) == {FOR_ONE[True], FOR_ONE[False]}
    assert (rows[FOR_ONE[True]].criteria, rows[FOR_ONE[True]].points) == (12, 2) and rows[FOR_ONE[False]].criteria == 4
    assert found.examples[0].prompt == "Question 0?" and found.examples[0].items[0] == "−1 It is kind. 0 0"
    assert "16 could be read of what was written for 4; lines dropped: 2 cut off." in found.about


def test_in_words(tmp_path) -> None:
    (found,) = run(tmp_path, [(KIND, RUDE, CARE)] * 4)
    assert found.sentence.startswith("“care” decides 25% [") and "of 4 labels, more than any other." in found.sentence
    assert found.sentence.endswith("not known: fewer than 10 held-out prompts that people judged.")
    known = [replace(row, agreement=Estimate(0.7, 0.6, 0.8, 20, 10)) for row in found.criteria[:2]]
    known += [replace(known[0], agreement=Estimate(0.7, 0.4, 0.9, 20, 10))]
    assert "People are seen to share 2 of 3 criteria (each" in sentence(known, 4)
    against = [replace(known[0], agreement=Estimate(0.3, 0.2, 0.4, 20, 10))]
    assert "share 0 of 1 criteria, and to prefer the opposite of 1" in sentence(against, 4)
    assert found.about == (
        "Criteria stand for 4 of 4 prompts. Of 12 questions about a criterion and a pair, no part of a score: 3 "
        f"({GATED_OUT})."
    )
    assert sentence([], 0) == "No label was given by these criteria."
    assert about(5, 2, {}) == "Criteria stand for 3 of 5 prompts."


def test_a_prompt_without_criteria_is_counted(tmp_path) -> None:
    (found,) = run(tmp_path, [(KIND,), (KIND,), (), ()])
    assert (found.labels, found.without, len(found.criteria)) == (2, 2, 1) and found.criteria[0].asked == 2


def test_on_the_page(tmp_path) -> None:
    found = run(tmp_path, [(KIND, RUDE, CARE)] * 4)
    report.write_report(as_json(given(rubrics=found)), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Rubric of arm scored" in page and "only if: It names a medicine." in page and "decides 25%" in page
