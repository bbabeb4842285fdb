"""`sft.learns`: arms that differ in what SFT learns, each ending with its SFT policy (`rl.method: sft`), end to end."""

import json
from collections import Counter
from pathlib import Path

import pytest
from test_experiment import EXPERIMENT, begin_from, lay_out, planned, run_in

from cai.compare.__main__ import main as compare
from cai.config.load import read_experiment
from cai.core.errors import UserError
from cai.core.records import Pair, Prompt, Response, Revision, read_jsonl
from cai.experiment.checks import check
from cai.experiment.command import main

ARMS = """arms:
  revised: {labels: human}
  drafts: {sft: {learns: drafts}}
  preferred: {sft: {learns: preferred, helpful: 0}}
  shown: {sft: {learns: demos.jsonl}}
"""
SHARED = EXPERIMENT[: EXPERIMENT.index("arms:")].replace("seeds: [0]", "seeds: [0, 1]").replace("audit: 2", "audit: 0")
SHARED = SHARED.replace("rl: {steps: 2, ", "rl: {method: sft, steps: 2, ").replace("  xstest: xstest.csv\n", "")
SHARED = SHARED.replace("  comparisons: [items.jsonl]\n", "")


def lay_out_arms(folder: Path) -> None:
    lay_out(folder)
    rows = [{"prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(5)]
    rows += [{"prompt": f"Question number {n}?", "completion": "No."} for n in range(16)]  # some of them held out
    (folder / "demos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "Why?"}]))
    (folder / "mine.yaml").write_text(SHARED + ARMS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_run):
    folder = tmp_path_factory.mktemp("learns")
    begin_from(small_run, folder)
    lay_out_arms(folder)
    run_in(folder)
    return folder


def links(place: Path, cell: str) -> dict:
    return json.loads((place / "runs/mine/links.json").read_text())[cell]


def learnt(place: Path, arm: str) -> list[Revision]:
    return read_jsonl(place / links(place, f"{arm}/0")["revised"] / "revisions.jsonl", Revision)


def counts(place: Path, arm: str, stage: str) -> dict:
    return json.loads((place / links(place, f"{arm}/0")[stage] / "counts.json").read_text())


def test_each_arm_learns_what_it_is_said_to_learn(finished):
    data = finished / links(finished, "revised/0")["data"]
    split = {prompt.id: prompt.split for prompt in read_jsonl(data / "prompts.jsonl", Prompt)}
    revised, drafts = learnt(finished, "revised"), learnt(finished, "drafts")
    assert all(row.rounds for row in revised)
    assert [(row.prompt.id, row.draft) for row in drafts] == [(row.prompt.id, row.draft) for row in revised]
    assert not any(row.rounds for row in drafts)

    best = {
        (pair.prompt.id, pair.a if pair.human else pair.b)
        for pair in read_jsonl(data / "pairs.jsonl", Pair)
        if split[pair.prompt.id] == "train"
    }
    assert {(row.prompt.id, row.final) for row in learnt(finished, "preferred")} == best and len(best) > 2

    shown = {(row.prompt.messages[0].content, row.final) for row in learnt(finished, "shown")}
    train = {p.messages[0].content for p in read_jsonl(data / "prompts.jsonl", Prompt) if p.split == "train"}
    assert shown == {(f"What is {n}?", f"It is {n}.") for n in range(5)} | {(text, "No.") for text in train}


def test_what_was_learnt_and_left_out_is_counted_by_its_name(finished):
    train = len(learnt(finished, "preferred"))
    assert counts(finished, "shown", "revised") == {
        "rows read": 22, "rows set aside: its prompt is held out": 16 - train,
        "rows set aside: no answer: its fields are prompt": 1, "demonstrations": 5 + train,
    }  # fmt: skip
    words = {"revised": "revisions", "drafts": "drafts", "preferred": "preferred answers", "shown": "demonstrations"}
    for arm, word in words.items():
        assert counts(finished, arm, "sft")[word] == len(learnt(finished, arm))
    results = json.loads((finished / "runs/mine/results.json").read_text())
    place = next(row["note"] for row in results["counts"] if "no answer: its fields are prompt" in row["what"])
    assert place.startswith("demos.jsonl:22; in ")
    # The mix: three tenths of the rows are everyday answers, however many others there are.
    assert counts(finished, "shown", "sft")["helpful"] == -(-(5 + train) * 3 // 7)
    assert counts(finished, "preferred", "sft")["helpful"] == 0


def test_only_what_is_needed_is_made(finished, monkeypatch):
    """Drafts and revisions once, for two arms; nobody labels, no reward model, a policy a seed."""
    results = json.loads((finished / "runs/mine/results.json").read_text())
    made = Counter(stage["stage"] for stage in results["stages"])
    assert made["revise"] == 2  # to learn from, and to be read
    assert made["train_sft"] == 8 and made["take_drafts"] == made["take_preferred"] == 1
    assert not made.keys() & {"preflight", "label_by_people", "label_by_judge", "train_reward", "train_ppo"}
    monkeypatch.chdir(finished)
    assert planned() == {}
    alone = planned(["arms={one: {sft: {learns: preferred}}, two: {sft: {learns: demos.jsonl}}}", "seeds=[7]"])
    assert alone["train_sft"] == 2 and "load_data" not in alone
    assert alone["revise"] == 1  # the drafts of held-out prompts, to be read: no critique, no revision


def test_seeds_make_replicas_of_the_sft_policy(finished):
    for arm in ("revised", "drafts", "preferred", "shown"):
        cells = [links(finished, f"{arm}/{seed}") for seed in (0, 1)]
        assert cells[0]["revised"] == cells[1]["revised"] and cells[0]["sft"] != cells[1]["sft"]
        assert all(cell["policy"] == cell["sft"] for cell in cells)
    results = json.loads((finished / "runs/mine/results.json").read_text())
    by = {measure["key"]: measure for measure in results["measures"]}
    assert set(by["words"]["arms"]) == {"start", "sft", "revised", "drafts", "preferred", "shown"}
    assert by["words"]["difference"]["of"] == ["revised", "drafts"] and by["words"]["difference"]["noise"] is not None
    curves = {curve["title"]: curve["lines"] for curve in results["curves"]}
    assert set(curves) == {"SFT: loss"}
    assert [(line["arm"], line["seed"]) for line in curves["SFT: loss"]] == [
        (arm, seed) for arm in ("revised", "drafts", "preferred", "shown") for seed in (0, 1)
    ]


def test_the_report_says_what_each_learnt(finished):
    page = (finished / "runs/mine/report.html").read_text()
    train = len(learnt(finished, "preferred"))
    assert "4 drafts of the start model, of which another arm learns the revisions" in page
    assert f"{train} answers that people preferred" in page and f"{5 + train} demonstrations of demos.jsonl" in page
    audit = json.loads((finished / "runs/mine/results.json").read_text())["audit"]
    notes = json.loads((finished / "runs/mine/results.json").read_text())["warnings"]
    assert "The noise floor rests on two seeds. They cover SFT, not what it learns." in notes
    assert [note for note in notes if "differs from" in note] == [
        "Arm preferred differs from revised in more than what SFT learns: sft."  # it mixes no everyday answers in
    ]
    assert not any("gold" in note or "AI labels" in note for note in notes)
    assert [(entry["learns"], len(entry["steps"])) for entry in audit] == [
        ("revisions", 2), ("drafts", 1), ("preferred", 1), ("demos.jsonl", 1)
    ]  # fmt: skip


def test_runs_of_it_are_compared(place, capsys):
    (place / "other.yaml").write_text(SHARED + "arms:\n  preferred: {sft: {learns: preferred, helpful: 0}}\n")
    assert main(["other.yaml"]) == 0
    assert compare(["runs/mine", "runs/other"]) == 0
    assert 'differs: sft.learns: "revisions" in mine.revised, "preferred" in other' in capsys.readouterr().err
    results = json.loads((place / "runs/compare-mine-other/results.json").read_text())
    words = next(measure for measure in results["measures"] if measure["key"] == "words")["arms"]
    assert words["other"]["value"] == words["mine.preferred"]["value"]


FAULTS = [
    (["arms={one: {sft: {learns: gone.jsonl}}}"], 'there is no file of demonstrations "gone.jsonl"'),
    (["arms={one: {sft: {learns: prefered}}}"], 'did you mean "preferred"?'),
    (["arms={one: {sft: {learns: empty.jsonl}}}"], 'no demonstration in "empty.jsonl": it holds no row'),
    (["arms={one: {sft: {learns: preferred}}}", "data.source=bare.jsonl"], "people preferred no answer in the"),
    (["arms={one: {sft: {learns: preferred, max_length: 9}}}"], "answers to learn is left: all end beyond 9 tokens"),
    (["arms={one: {sft: {learns: demos.jsonl, max_length: 9}}}"], "answers to learn is left: all end beyond 9 tokens"),
]


@pytest.mark.parametrize("plan", [False, True], ids=["run", "plan"])
@pytest.mark.parametrize(("overrides", "problem"), FAULTS, ids=[f[1][:20] for f in FAULTS])
def test_what_will_not_do_is_told_before_the_first_stage(tmp_path, monkeypatch, tiny, overrides, problem, plan):
    lay_out_arms(tmp_path)
    monkeypatch.chdir(tmp_path)
    rows = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    Path("bare.jsonl").write_text("".join(json.dumps({**row, "human": None}) + "\n" for row in rows))
    Path("empty.jsonl").write_text("")
    with pytest.raises(UserError) as caught:
        check(read_experiment(Path("mine.yaml"), overrides), plan=plan)
    assert problem in str(caught.value) and ": sft." in str(caught.value)


def test_the_drafts_alone_are_read_where_no_arm_revises(tmp_path, monkeypatch, tiny):
    lay_out_arms(tmp_path)
    (tmp_path / "mine.yaml").write_text(SHARED + "arms:\n  shown: {sft: {learns: demos.jsonl}}\n")
    run_in(tmp_path)
    page = (tmp_path / "runs/mine/report.html").read_text()
    assert "transcript" in page
    answers = json.loads((tmp_path / "runs/mine/results.json").read_text())["examples"]
    assert answers["transcripts"] == 2
    responses = list((tmp_path / "runs/store").glob("respond-*/responses.jsonl"))
    assert all(read_jsonl(file, Response) for file in responses)
