"""`policy.server`: which stages ask the server, which have the weights here, and what the plan says of it."""

from collections import defaultdict
from pathlib import Path

from cai.compare.sections.notes import served
from cai.config.load import read_sweep
from cai.experiment.check_servers import asked_servers, servers_of
from cai.experiment.command import plan
from cai.models.references import drafting, model_of
from cai.models.workbench import Workbench

FRESH = ("arms={ai: {labels: ai, pairs: {source: policy}}}",)
URL = "http://127.0.0.1:9/v1"  # where nobody listens: a plan asks nobody


def stages_of(*more: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """(stage -> the digest of the model that it is given, in the plan's order; digest -> "here" or "there")."""
    grid = read_sweep(Path("experiments/smoke.yaml"), [*more, *FRESH])
    policy = next(iter(grid[0].arms.values())).policy
    made = defaultdict(list)
    for artifact in plan(grid, Workbench.open(grid[0].runtime))[0]:
        if isinstance(given := artifact.inputs.get("model"), dict):
            made[artifact.stage].append(given["digest"])
    return made, {drafting(policy).digest: "there", model_of(policy).digest: "here"}


def test_what_only_writes_is_served_and_what_is_trained_is_here():
    plain, _ = stages_of()
    whole, where = stages_of(f"policy.server={URL}")
    only_drafts, _ = stages_of(f"policy.server={{url: {URL}, adapters: false}}")
    for made in (whole, only_drafts):
        assert {where[digest] for digest in made["revise"]} == {"there"}
        assert where[made["respond"][0]] == "there"  # everyday answers, which SFT learns from
        for stage in ("train_sft", "train_reward", "train_harm", "label_by_judge"):
            assert {where[digest] for digest in made[stage]} == {"here"}
    # The start model's answers in the evaluation come first; then those of policies that are not trained yet.
    assert [where.get(digest) for digest in whole["respond"][1:4]] == ["there"] * 3
    assert [where.get(digest) for digest in only_drafts["respond"][1:4]] == ["here"] * 3
    # What is not made yet has a digest that begins with "?": behind a server it has another one.
    assert not any(digest.startswith("?") for digest in (*whole["respond"], *whole["sample_pairs"]))
    assert all(digest.startswith("?") for digest in (*only_drafts["sample_pairs"], *plain["sample_pairs"]))
    assert [where.get(each) for each in whole["choose_items"][:1]] == ["there"]


def test_the_plan_and_the_report_name_whom_they_ask():
    one = read_sweep(Path("experiments/smoke.yaml"), [f"policy.server={{url: {URL}, revision: one}}"])[0]
    arm = next(iter(one.arms))
    lines = asked_servers(one)
    assert lines[0] == "servers that the run will ask (this plan asks none):"
    assert f"  policy of arm {arm}: tiny-random at {URL}" in lines
    assert list(servers_of(one.arms[arm])) == ["policy"]
    assert any("policy: tiny-random was asked at a server (revision one" in line for line in served(one))
    assert asked_servers(read_sweep(Path("experiments/smoke.yaml"), [])[0]) == []
