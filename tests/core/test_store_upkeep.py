"""`python -m cai.core check|gc|show` on stores made by hand, and on a run."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from cai.core import upkeep
from cai.core.__main__ import main
from cai.core.errors import UserError
from cai.core.lease import leased
from cai.core.owned import unfinished
from cai.core.store import Store, version

WEEK = 8 * 24 * 3600


@version(1)
def data(out, runtime, *, n):
    (out / "rows").write_text(f"rows {n}" * 100)


@version(1)
def labels(out, runtime, *, of, judge):
    (out / "labels").write_text((of / "rows").read_text() + judge["name"])


@version(1)
def policy(out, runtime, *, labels, prompts):
    (out / "inner").mkdir()
    (out / "inner" / "weights").write_bytes(b"w" * 5000)


@pytest.fixture
def runs(tmp_path):
    """A run `mine` with a policy from labels from data; its games are in results.json alone; and another's data."""
    store = Store(tmp_path)
    rows = store.stage(data, n=1)
    judged = store.stage(labels, of=rows, judge={"name": "judge", "model": {"digest": "0123456789abcdef"}})
    made = store.stage(policy, labels=[judged], prompts=rows)
    games = store.stage(data, n=2)
    lost = store.stage(data, n=3)
    after_lost = store.stage(labels, of=lost, judge={"name": "other"})
    home = tmp_path / "sweep" / "mine"
    home.mkdir(parents=True)
    # As a run writes it, before the store was moved here.
    (home / "links.json").write_text(json.dumps({"ai/0": {"policy": f"/old/store/{made.path.name}", "said": {}}}))
    results = {"stages": [{"stage": games.stage, "key": games.key[:8]}]}
    (home / "results.json").write_text(json.dumps(results))
    return tmp_path, {"needed": [rows, judged, made, games], "lost": [lost, after_lost]}


def old(*paths):
    for path in paths:
        os.utime(path, (time.time() - WEEK,) * 2)


def names(root):
    return {path.name for path in (root / "store").iterdir()}


def test_a_whole_store_is_said_to_be_whole(runs, capsys):
    root, _ = runs
    assert main(["check", "--root", str(root)]) == 0
    assert capsys.readouterr().out == "6 stages, all whole\n"


def test_damage_is_named_also_where_sizes_and_times_fit(runs, capsys, monkeypatch):
    root, stages = runs
    rows, judged, made, _ = stages["needed"]
    at = (rows / "rows").stat().st_mtime_ns
    (rows / "rows").write_text("cows 1" * 100)
    os.utime(rows / "rows", ns=(at, at))
    (judged / "labels").unlink()
    (made / "manifest.json").write_text("{")
    monkeypatch.setattr("cai.core.store._checked", {})
    assert main(["check", "--root", str(root)]) == 1
    told = capsys.readouterr().out
    assert f"{rows.path}: its contents are not those that were made" in told
    assert f"{judged.path}: labels is gone" in told and f"{made.path}: manifest.json is cut off" in told
    assert "3 of 6 stages are damaged" in told


def test_what_no_run_needs_can_go_and_what_its_stages_were_made_from_stays(runs, capsys):
    root, stages = runs
    assert main(["gc", "--root", str(root)]) == 0
    assert capsys.readouterr().out == "nothing can go\n", "it was used a moment ago"
    old(*(made.path for kind in stages.values() for made in kind))
    before = names(root)
    assert main(["gc", "--root", str(root)]) == 0
    told = capsys.readouterr().out
    assert names(root) == before and "2 can go, " in told and "without --yes" in told and "8 days ago" in told
    assert main(["gc", "--root", str(root), "--yes"]) == 0
    assert names(root) == {made.path.name for made in stages["needed"]}
    assert "removed: " in capsys.readouterr().out
    assert main(["check", "--root", str(root)]) == 0


def test_the_last_use_counts_not_the_day_it_was_made(runs):
    root, stages = runs
    lost = stages["lost"][0]
    old(lost.path)
    assert [one.path for one in upkeep.unneeded(root, 7)] == [lost.path]
    assert Store(root, plan=True).stage(data, n=3).cached and upkeep.unneeded(root, 7)
    assert Store(root).stage(data, n=3).cached
    assert upkeep.unneeded(root, 7) == []


def test_a_run_that_cannot_be_read_keeps_all(runs):
    root, _ = runs
    (root / "sweep" / "mine" / "links.json").write_text('{"ai/0": {"po')
    with pytest.raises(UserError, match="what it needs is not known") as error:
        upkeep.unneeded(root, 0)
    assert str(root / "sweep" / "mine") in str(error.value)


KILLED = """
import os, signal, sys
from pathlib import Path
from cai.core.owned import unfinished
from cai.core.store import Store, version

@version(1)
def killed(out, runtime, *, n):
    (out / "half").write_text("half" * 100)
    with unfinished(out) as folder:
        (folder / "checkpoint-1").write_text("x" * 1000)
        os.kill(os.getpid(), signal.SIGKILL)

Store(Path(sys.argv[1])).stage(killed, n=1)
"""


def test_leftovers_of_dead_owners_go_and_those_of_the_living_stay(runs, capsys):
    root, stages = runs
    store = root / "store"
    subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False)
    aside = store / "data-0123456789abcdef.me.damaged"
    aside.mkdir()
    (aside / "rows").write_text("x" * 10)
    kept = names(root) - {aside.name}
    (checkpoints,) = store.glob("killed-*.unfinished")

    @version(1)
    def running(out, runtime, *, n):
        with unfinished(out) as folder:
            (folder / "checkpoint-1").touch()
            old(folder, *store.glob("running-*"))
            upkeep.free(upkeep.unneeded(root, 7))
            assert out.is_dir() and folder.is_dir()
            (out / "whole").touch()

    Store(root).stage(running, n=1)
    assert not aside.exists() and not list(store.glob("*.partial"))
    assert checkpoints.is_dir() and checkpoints.name in kept, "young: the run may be begun again"
    old(checkpoints)
    assert main(["gc", "--root", str(root), "--yes"]) == 0
    told = capsys.readouterr().out
    assert "checkpoints of a stage that was killed 8 days ago" in told and "removed: 1.1 kB of 1.1 kB" in told
    assert names(root) == {made.path.name for kind in stages.values() for made in kind} | {
        path.name for path in store.glob("running-*")
    }


def test_leases_of_other_machines_stay_while_they_are_young(tmp_path):
    (tmp_path / "store").mkdir()
    young, aged = tmp_path / "store" / "a-0.lease", tmp_path / "store" / "b-0.lease"
    for lease in (young, aged):
        lease.write_text("elsewhere-abcdef-7-12345678 anothermachine locked 000000003\n")
    old(aged)
    with leased(tmp_path / "store" / "c-0.lease") as mine:
        assert [one.path for one in upkeep.unneeded(tmp_path, 7)] == [aged]
        upkeep.free(upkeep.unneeded(tmp_path, 7))
        assert names(tmp_path) == {young.name, mine.file.name}


def test_a_stage_is_followed_back_to_what_it_was_made_from(runs, capsys):
    root, stages = runs
    rows, judged, made, _ = stages["needed"]
    assert main(["show", "policy", "--root", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    facts = [line for line in lines if "; made 20" in line]
    assert [line for line in lines if line not in facts] == [
        made.path.name,
        f"    labels: {judged.path.name}",
        "        judge: contents 0123456789ab, not made by a stage here",
        f"        of: {rows.path.name}",
        f"    prompts: {rows.path.name}  (above)",
    ]
    assert f"digest {made.digest[:12]}" in facts[0] and re.search(r"\d+\.\d s; ", facts[0]) and " kB" in facts[0]


def test_a_stage_may_be_named_by_its_folder_its_name_or_its_key(runs):
    root, stages = runs
    known, name = upkeep.manifests(root), stages["needed"][1].path.name
    for text in (name, f"{root}/store/{name}/", name[:12], name.partition("-")[2][:6]):
        assert upkeep.find(known, text) == name
    with pytest.raises(UserError, match="3 stages begin so"):
        upkeep.find(known, "data")
    with pytest.raises(UserError, match="no such stage"):
        upkeep.find(known, "nothing")
    with pytest.raises(UserError) as caught:  # the names of stages, not each of a hundred with its key
        upkeep.find(known, "polcy-00")
    assert caught.value.remedy == 'did you mean "policy"?'


def test_where_there_is_no_store_is_said(tmp_path):
    for command in (["check"], ["gc"], ["show", "x"]):
        with pytest.raises(UserError, match="there is no store here"):
            main([*command, "--root", str(tmp_path)])
