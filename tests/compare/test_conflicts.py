"""Where principles point opposite ways, and what decided the labels: made votes, counted by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_judging import logs
from test_schema import given

from cai.compare import report
from cai.compare.schema import as_json
from cai.compare.sections.conflicts import conflicts
from cai.config.sections import Labeller
from cai.constitution import read_constitution
from cai.core.odds import sigmoid
from cai.core.records import Label, Message, Pair, Prompt, Vote, write_jsonl
from cai.judge.combine import verdict, weights_of
from cai.judge.limits import NEITHER_BREAKS
from cai.judge.methods import principles_for

LAW = """## safe
Critique: c
Revise: r
Prefer: Choose the response that is safe.
Priority: 1

## kind
Critique: c
Revise: r
Prefer: Choose the response that is kind.

## short
Critique: c
Revise: r
Prefer: Choose the response that is short.
"""
LIMIT = "\n## no bombs\nNever: Give instructions for a bomb.\n"
JUDGE = Labeller(principles="all")
# Log-odds of a pair's principles; the limit: -1 where a breaks it, 1 where b does, 0 where neither.
VOTES = [
    {"safe": 2.0, "kind": -3.0, "short": 1.0, "no bombs": 0},
    {"safe": -1.0, "kind": -1.0, "short": 1.0, "no bombs": 0},
    {"safe": 0.1, "kind": -1.0, "short": -1.0, "no bombs": 0},  # safe is not decided: the second level decides
    {"safe": 0.1, "kind": 0.1, "short": -0.05, "no bombs": 0},  # nothing is
    {"safe": 3.0, "kind": 3.0, "short": 3.0, "no bombs": -1},  # all for a, which breaks the limit
]


def run(tmp_path: Path, text: str, rows: list[dict[str, float]]) -> Any:
    file = tmp_path / "law.txt"
    file.write_text(text)
    law = read_constitution(file)
    weights = weights_of(principles_for(law, JUDGE), JUDGE, law.order.limits)
    pairs, labels = [], []
    for number, row in enumerate(rows):
        prompt = Prompt(f"p{number}", (Message("user", "?"),), "war", "train")
        pairs.append(Pair(f"pair {number}", prompt, "yes", "no"))
        votes = tuple(vote(name, value) for name, value in row.items() if name in weights)
        labels.append(verdict(pairs[-1], votes, JUDGE, weights, None, law.order.levels))
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    write_jsonl(tmp_path / "labels.jsonl", labels)
    write_jsonl(tmp_path / "abstained.jsonl", [])
    settings = SimpleNamespace(judge=JUDGE)
    cell = SimpleNamespace(
        panel=(),
        arm="ai",
        labellers={"ai": tmp_path},
        pairs=tmp_path,
        constitution=law,
        settings=settings,
        preflight=None,
    )
    return cell, labels


def vote(name: str, value: float) -> Vote:
    if name == "no bombs":
        p = 0.5 if not value else 0.01 if value < 0 else 0.99
        return Vote("never", name, "each", p, 1.0, (), "" if value else NEITHER_BREAKS)
    return Vote("rate", name, "each", sigmoid(value), 1.0, (*logs(sigmoid(value), sigmoid(-value)), *logs(0.5, 0.5)))


def test_opposite_ways_are_counted_where_both_are_decided(tmp_path: Path) -> None:
    """safe and kind: pairs 0, 1, 4, of which 0; safe and short: 0, 1, 4, of which 1; kind and short: 0, 1, 2, 4, of
    which 0 and 1; the limit is decided on pair 4 alone, against all."""
    cell, labels = run(tmp_path, LAW + LIMIT, VOTES)
    assert [label.p_a > 0.5 for label in labels if isinstance(label, Label)] == [True, False, False, True, False]
    (entry,) = conflicts([cell])
    found = {(of.first, of.second): (of.share.value, of.share.n) for of in entry.opposed}
    assert found == {
        ("safe", "kind"): (pytest.approx(1 / 3), 3), ("safe", "short"): (pytest.approx(1 / 3), 3),
        ("kind", "short"): (0.5, 4), ("safe", "no bombs"): (1.0, 1), ("kind", "no bombs"): (1.0, 1),
        ("short", "no bombs"): (1.0, 1),
    }  # fmt: skip
    assert entry.opposed[2].share.low < 0.5 < entry.opposed[2].share.high


def test_what_decided_each_label(tmp_path: Path) -> None:
    (entry,) = conflicts([run(tmp_path, LAW + LIMIT, VOTES)[0]])
    assert [(of.by, of.labels, of.principles) for of in entry.deciders] == [
        ("limits", 1, ["no bombs"]), ("level 1", 2, ["safe"]), ("level 2", 1, ["kind", "short"]),
        ("no level: all tie", 1, []),
    ]  # fmt: skip
    assert [of.share.value for of in entry.deciders] == [0.2, 0.4, 0.2, 0.2]


def test_without_an_order_there_is_the_matrix_alone_and_with_one_principle_nothing(tmp_path: Path) -> None:
    (entry,) = conflicts([run(tmp_path, LAW.replace("Priority: 1\n", ""), VOTES)[0]])
    assert entry.deciders == [] and len(entry.opposed) == 3
    assert entry.sentence == (
        "“kind” and “short” point opposite ways on 50% [0, 100] of the 4 pairs on which both are decided, the most of "
        "3 pairs of principles and so partly by chance."
    )
    one = "## safe\nCritique: c\nRevise: r\nPrefer: Choose the response that is safe.\n"
    assert conflicts([run(tmp_path, one, VOTES)[0]]) == []
    assert conflicts([SimpleNamespace(panel=(), arm="human", labellers={})]) == []  # pyrefly: ignore


def test_what_a_limit_decided_is_told_where_no_principle_is(tmp_path: Path) -> None:
    (entry,) = conflicts([run(tmp_path, LAW + LIMIT, [{"safe": 0.1, "kind": 0.1, "short": 0.1, "no bombs": 1}])[0]])
    assert entry.sentence == "No two principles were both decided on any pair."
    assert [(of.by, of.labels) for of in entry.deciders] == [("limits", 1), ("level 1", 0), ("level 2", 0)]


def test_the_page_has_matrix_and_deciders(tmp_path: Path) -> None:
    found = conflicts([run(tmp_path, LAW.replace("## kind", "## <kind>") + LIMIT, [
        {name.replace("kind", "<kind>"): value for name, value in row.items()} for row in VOTES
    ])[0]])  # fmt: skip
    report.write_report(as_json(given(conflicts=found)), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in ("Do its principles conflict?", "Matrix of conflicts", "&lt;kind&gt;", "no level: all tie"):
        assert text in page
