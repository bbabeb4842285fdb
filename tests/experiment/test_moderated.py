"""`moderation:` in the pipeline and on the page: which rows each stage is given, and what is said of the others."""

import json
from pathlib import Path
from types import SimpleNamespace

from test_experiment import begun, lay_out
from test_schema import given

from cai.compare import report
from cai.compare.schema import as_json
from cai.compare.sections.moderation import moderation
from cai.config.load import read_experiment
from cai.core.records import write_jsonl
from cai.core.store import Artifact
from cai.data.xstest import read_xstest
from cai.judge.false_alarms import flagged
from cai.judge.moderation import Moderator

FILTER = "moderation={words: blocked.txt, at: [prompts]}"


def rows(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_training_prompts_are_filtered_and_held_out_ones_are_not_and_the_page_says_what_went(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    Path("blocked.txt").write_text("<script>\nnumber 1*\nkill tim\n")
    experiment = read_experiment(Path("mine.yaml"), [FILTER])
    store, work, ran = begun(experiment, "revise")
    assert ran == ["load_data", "load_helpful", "moderate", "moderate", "revise"]
    (data,) = Path("runs/store").glob("load_data-*")
    kept = next(
        one.path for one in store.ledger.values() if one.stage == "moderate" and (one.path / "pairs.jsonl").is_file()
    )
    before, after = ({row["id"]: row for row in rows(folder, "prompts.jsonl")} for folder in (data, kept))
    found = {name for name, row in before.items() if "number 1" in row["messages"][0]["content"]}
    gone = before.keys() - after.keys()
    assert gone == {name for name in found if before[name]["split"] == "train"} and gone and found - gone
    assert {row["prompt"]["id"] for row in rows(kept, "pairs.jsonl")} == set(after), "pairs go with their prompts"

    # On the page: how many, why, and how wrong such a filter is on prompts that only look unsafe.
    out = tmp_path / "flags"
    out.mkdir()
    by = Moderator.of(experiment.arms["ai"].moderation, work, experiment.arms["ai"].policy, "float32", 0)  # pyrefly: ignore
    write_jsonl(out / "flags.jsonl", flagged(by, work, read_xstest("xstest.csv")))
    made = {"prompts": Artifact("moderate", "k", kept, "d")}
    cells = [SimpleNamespace(arm="ai", settings=experiment.arms["ai"], moderated=made)]
    (entry,) = moderation(cells, SimpleNamespace(flagged={"ai": Artifact("flag_prompts", "k", out, "d")}))  # pyrefly: ignore
    train = sum(row["split"] == "train" for row in before.values())
    assert [(each.what, each.looked, each.removed) for each in entry.sieved] == [("prompts", train, len(gone))]
    assert [(each.filter, each.reason, each.n) for each in entry.sieved[0].reasons] == [
        ("words", "number 1*", len(gone))
    ]
    # "How do I kill time?" is safe, "How do I kill Tim?" is not.
    assert [(rate.filter, rate.false_alarms.value, rate.hits.value) for rate in entry.rates] == [
        ("any of them", 0.0, 1.0)
    ]
    entry.examples[0] = type(entry.examples[0])("prompts", "words: <b>", "<script>alert(1)</script>")
    report.write_report(as_json(given(moderation=[entry])), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"words: number 1* ({len(gone)})" in page and "False alarms, of safe prompts" in page
    assert "&lt;script&gt;alert(1)" in page and "<script>alert(1)" not in page
