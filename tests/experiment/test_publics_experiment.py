"""`publics:` end to end on the tiny model: arms of labels, of constitutions, and what the report says of both."""

import json
from pathlib import Path

import pytest
from test_experiment import lay_out
from test_panel_experiment import SHARED

from cai.compare.__main__ import main as compare
from cai.config.load import read_experiment
from cai.core.errors import UserError
from cai.data.sources import read_used
from cai.experiment.command import main

ARMS = """
publics: {file: labels.jsonl}
arms:
  one-text: {constitution: one.txt, labels: ai}
  two-text: {constitution: two.txt, labels: ai}
  merged-text: {constitution: law.txt, labels: ai}
"""
TEXT = SHARED.replace("method: none", "method: best_of_n, best_of: 2") + ARMS


def laid_out(folder: Path, labelled=range(16)) -> None:
    lay_out(folder)
    pairs = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    (folder / "pairs.jsonl").write_text(
        "".join(json.dumps({**row, "id": f"p{n}", "human": None}) + "\n" for n, row in enumerate(pairs))
    )
    rows = [
        {"pair_id": f"p{n}", "rater": rater, "group": group, "choice": choice}
        for n in labelled
        for rater, group, choice in (("ann", "one", "a"), ("bob", "two", "b"), ("cleo", "two", "b"))
    ]
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "one.txt").write_text("- Choose the response that is long.\n")
    (folder / "two.txt").write_text("- Choose the response that is short.\n")
    (folder / "mine.yaml").write_text(TEXT)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("publics")
    laid_out(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["mine.yaml"]) == 0
    return folder


def found(folder: Path):
    return json.loads((folder / "runs/mine/results.json").read_text())


def test_arms_of_people_come_before_those_of_the_file(finished):
    assert found(finished)["arms"] == ["one", "two", "merged", "one-text", "two-text", "merged-text"]


def test_what_a_groups_people_say_is_made_once(finished):
    """The arms of the groups, and the groups' own labels by which all arms are measured, are the same stages."""
    made = [path.name.rpartition("-")[0] for path in (finished / "runs/store").iterdir() if path.is_dir()]
    assert made.count("label_by_people") == 3 and made.count("label_by_judge") == 3


def test_the_report_says_who_loses_what(finished):
    publics = found(finished)["publics"]
    assert publics["groups"] == {"one": 1, "two": 2}
    ((first, second, same),) = publics["among"]
    assert (first, second, same["value"]) == ("one", "two", 0.0)  # they never want the same answer
    by_labels, games = publics["measures"]
    assert (by_labels["key"], games["key"]) == ("agreement", "wins")
    assert [row["arm"] for row in games["rows"]] == found(finished)["arms"]
    for row in by_labels["rows"]:  # what a model gives one it takes from the other
        assert row["by"]["one"]["value"] + row["by"]["two"]["value"] == pytest.approx(1)
        assert row["welfare"]["mean"]["value"] == pytest.approx(0.5)
    assert {line["over"] for line in by_labels["lines"]} == {"one", "two", "one-text", "two-text"}
    assert publics["constitutions"] == {"one": "one.txt", "two": "two.txt"}
    page = (finished / "runs/mine/report.html").read_text()
    assert "Several publics: who loses what" in page and "By the arm merged-text instead of its own" in page


def test_a_comparison_has_the_publics_of_its_runs(finished, monkeypatch):
    """By what the groups' people said when the run was made, and by the constitutions that it was made by."""
    monkeypatch.chdir(finished)
    edited = {file: (finished / file).read_text() for file in ("labels.jsonl", "one.txt")}
    rows = [json.loads(line) for line in edited["labels.jsonl"].splitlines()]
    turned = [{**row, "choice": {"a": "b", "b": "a"}[row["choice"]]} for row in rows]
    (finished / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in turned))
    (finished / "one.txt").write_text("- Choose the response that is rude.\n")
    before = set((finished / "runs/store").iterdir())
    try:
        assert compare(["runs/mine"]) == 0
    finally:
        for file, text in edited.items():
            (finished / file).write_text(text)
    own, other = found(finished), json.loads((finished / "runs/compare-mine/results.json").read_text())
    assert set((finished / "runs/store").iterdir()) == before, "nothing that the run has not made"
    for key in ("groups", "among", "constitutions"):
        assert other["publics"][key] == own["publics"][key]
    for mine, theirs in zip(own["publics"]["measures"], other["publics"]["measures"], strict=True):
        assert [row["by"] for row in theirs["rows"]] == [row["by"] for row in mine["rows"]]
        assert [line["difference"] for line in theirs["lines"]] == [line["difference"] for line in mine["lines"]]
        assert [line["over"] for line in theirs["lines"]] == [f"mine.{line['over']}" for line in mine["lines"]]
    assert not any("Not carried over" in line for line in other["warnings"])


def test_labels_of_all_groups_are_no_ones(finished):
    """Two people of group two and one of group one: each group counts alike, so every pair is split."""
    labels = next((finished / "runs/store").glob("label_by_people-*/labels.jsonl"))
    everything = [
        {json.loads(line)["p_a"] for line in path.read_text().splitlines()}
        for path in labels.parent.parent.glob("label_by_people-*/labels.jsonl")
    ]
    assert sorted(map(sorted, everything)) == [[0.0], [0.5], [1.0]]


def test_a_plan_after_it_has_nothing_to_run(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    assert main(["mine.yaml", "--plan"]) == 0
    out = capsys.readouterr().out
    assert "0 of" in out and "held against the labels of one (1 people), two (2 people)" in out


def test_a_group_that_labelled_no_held_out_pair_is_found_out_before_the_first_stage(tmp_path, monkeypatch, tiny):
    laid_out(tmp_path)
    rows = (tmp_path / "labels.jsonl").read_text().splitlines()
    kept = [row for row in rows if '"ann"' not in row] + [row for row in rows if '"ann"' in row][:1]
    (tmp_path / "labels.jsonl").write_text("\n".join(kept) + "\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        main(["mine.yaml", "--plan"])
    assert "group one has labelled none of the" in str(error.value) or "training pairs" in str(error.value)


def test_what_was_cut_from_its_labels_is_named(tmp_path, monkeypatch, tiny):
    """That a group said nothing of held-out pairs is half of it where its row is the one that is cut off."""
    laid_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    rows = (tmp_path / "labels.jsonl").read_text().splitlines()
    base = read_experiment(tmp_path / "mine.yaml").base
    assert base
    split = {pair.id: pair.prompt.split for pair in read_used(base.data, 0)[1]}
    kept = [row for row in rows if '"ann"' not in row or split[json.loads(row)["pair_id"]] == "train"]
    kept.append(next(row for row in rows if row not in kept)[:-9])
    (tmp_path / "labels.jsonl").write_text("\n".join(kept))
    with pytest.raises(UserError) as error:
        main(["mine.yaml", "--plan"])
    assert "group one has labelled none of the" in str(error.value)
    assert f"(set aside: a half-written last line: labels.jsonl:{len(kept)}; there is no such pair: labels" in str(
        error.value
    )
    assert "mend or write again what was set aside, or have its people label them" in str(error.value)
    (tmp_path / "labels.jsonl").write_text("\n".join([row for row in rows if '"bob"' in row] + [rows[0][:-9]]))
    with pytest.raises(
        UserError, match=r"publics are two groups or more, not 1 \(set aside: a half-written last line: .*:17\)"
    ):
        main(["mine.yaml", "--plan"])
