"""A finished run read back: labels, reward models and policies over the same candidates, from the store alone."""

import json
from pathlib import Path

import pytest
from test_experiment import EXPERIMENT, LAW, begin_from, run_in

from cai.chat.policies import find_run
from cai.constitution.__main__ import main
from cai.core.errors import UserError, run_main
from cai.core.records import Pair, Response, read_jsonl
from cai.experiment.choices import matter_of
from cai.judge.inferring import labelled

SMALL = EXPERIMENT.replace("audit: 2", "audit: 0").replace("gold: {every: 1, prompts: 3}", "learning_rate: 0.05")
# Enough rollouts and prompts for answers to differ on both sides of the split, whatever precision `auto` is here.
SMALL = SMALL.replace("steps: 2", "steps: 6").replace("  prompts: 4\n", "  prompts: 6\n")
SMALL = SMALL.replace("transcripts: 2", "transcripts: 0").replace("  helpful: 2\n", "  helpful: 0\n")
SMALL = SMALL.replace("  comparisons: [items.jsonl]\n  xstest: xstest.csv\n", "")
ARMS = """  ai: {labels: ai}
  best: {rl: {method: best_of_n, best_of: 24}}
  plain: {rl: {method: sft}}
"""
SMALL = SMALL.replace("  ai: {labels: ai}\n  human: {labels: human}\n", ARMS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_run):
    folder = tmp_path_factory.mktemp("choices")
    begin_from(small_run, folder)
    (folder / "mine.yaml").write_text(SMALL)
    run_in(folder)
    return folder


@pytest.fixture
def few(monkeypatch):
    """A prompt on each side is enough."""
    monkeypatch.setattr(labelled, "TRAIN", 1)
    monkeypatch.setattr(labelled, "TEST", 1)


def links(cell: str) -> dict:
    return json.loads(Path("runs/mine/links.json").read_text())[cell]


def test_the_sets_of_an_arm_are_what_its_stages_left(place, few):
    matter = matter_of(find_run("mine"), None, 0.5)
    sets = {each.name: each for each in matter.sets}
    assert list(sets) == ["people's labels", "the judge's labels", "the reward model", "the policy over sft"]
    assert matter.text == Path("runs/mine/constitution-ai.txt") and matter.text.read_text() == LAW
    pairs = {pair.id: pair for pair in read_jsonl(Path(links("ai/0")["pairs"]) / "pairs.jsonl", Pair)}
    labels = Path(links("ai/0")["labels"]) / "labels.jsonl"
    said = {row["pair_id"]: row["p_a"] for row in map(json.loads, labels.read_text().splitlines())}
    for pair, human, p_a in zip(
        sets["people's labels"].pairs, sets["people's labels"].p_a, sets["the judge's labels"].p_a, strict=True
    ):
        assert pair == pairs[pair.id] and human == pair.human and p_a == said[pair.id]
    assert {pair.prompt.split for pair in sets["the reward model"].pairs} == {"test"}
    assert all(0 < p < 1 for p in sets["the reward model"].p_a)


@pytest.mark.parametrize("arm", ["ai", "best"])
def test_a_policys_answers_are_preferred_to_those_of_the_sft_policy(place, few, arm):
    """Its answers, as the evaluation left them, wherever they differ; which is called a is drawn."""
    policy = matter_of(find_run("mine"), arm, 0.5).sets[-1]
    assert policy.name == "the policy over sft"
    answers = {
        response.text
        for folder in Path("runs/store").glob("respond*-*")
        for response in read_jsonl(folder / "responses.jsonl", Response)
    }
    for pair, p_a in zip(policy.pairs, policy.p_a, strict=True):
        assert {pair.a, pair.b} <= answers and p_a in (0.0, 1.0) and pair.human is None


def test_what_cannot_be_explained_is_said(place):
    with pytest.raises(UserError, match=r"nothing of \"plain\" can be explained: it has no labels"):
        matter_of(find_run("mine"), "plain", 0.5)
    with pytest.raises(UserError, match=r'no arm "bist"'):
        matter_of(find_run("mine"), "bist", 0.5)
    with pytest.raises(UserError, match=r"the policy over sft is left out: . prompts to select on, and 8 are needed"):
        matter_of(find_run("mine"), "ai", 0.9)


def test_a_run_is_read_back_from_the_command_line_and_its_store_stays_as_it_was(place, few, capsys):
    before = sorted(path.name for path in Path("runs/store").iterdir())
    given = ["infer", "runs/mine", "--bank", "none", "--decoys", "2", "--cache", "cache", "--test", "0.5"]
    assert main([*given, "--annotated", "votes.json", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [each["labels"] for each in report["sets"]][1:3] == ["the judge's labels", "the reward model"]
    assert report["judge"] == "tiny-random, method rate"
    (first, *_) = report["sets"]
    assert [(each["name"], each["origin"]) for each in first["one_by_one"]][:2] == [
        ("kind", "constitution-ai"), ("safe", "constitution-ai"),
    ]  # fmt: skip
    assert first["candidates"] == 4 and set(first["wholes"]) == {"constitution-ai", "decoy"}
    assert json.loads(Path("votes.json").read_text())["metadata"]["version"] == "2.0"
    assert main(given) == 0  # nothing is asked again
    out, err = capsys.readouterr()
    assert "the text, as a whole" in out and "  kind " in out and "the shorter answer" in out
    assert "votes of the candidates:" not in err
    assert sorted(path.name for path in Path("runs/store").iterdir()) == before


def test_the_votes_in_the_store_are_explained_and_nobody_is_asked(place, few, capsys):
    assert main(["infer", "runs/mine", "--as-annotated", "--test", "0.5", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["judge"] is None
    assert [each["labels"] for each in report["sets"]] == ["people's labels", "the judge's labels", "the reward model"]
    labels = report["sets"][1]
    assert [each["name"] for each in labels["one_by_one"]] == ["kind", "safe"]
    assert labels["wholes"]["constitution-ai"]["value"] == 1  # labels are the mean of the votes by both principles
    assert run_main(main, ["infer", "runs/mine", "--arm", "plain", "--as-annotated"]) == 2


def test_faults_of_the_command_line_are_said_before_a_model_is_loaded(place, capsys):
    for given, words in (
        (["pairs.jsonl", "--method", "chanel"], 'did you mean "channel"?'),
        (["pairs.jsonl", "--out", "x.json"], "this is a .txt file"),
        (["pairs.jsonl", "--out", "law.txt"], "exists already"),
        (["pairs.jsonl", "--arm", "ai"], "only a finished run has arms"),
        (["runs/mine", "--arm", "bist"], 'no arm "bist"'),
        (["nowhere.jsonl"], "no such file or run"),
        (["pairs.jsonl", "--as-annotated"], "no principle annotates"),
        (["pairs.jsonl", "--as-annotated", "--propose", "3"], "--as-annotated"),
        (["pairs.jsonl", "--bank", "none", "--decoys", "0"], "there is no candidate"),
        (["runs"], "no run"),
    ):
        assert run_main(main, ["infer", *given]) == 2, given
        assert words in capsys.readouterr().err, given
