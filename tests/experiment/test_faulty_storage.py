"""A run on storage that fails: what is damaged is named and made again, and nothing that was computed is lost.

The experiment of test_experiment.py on the tiny model, one arm. By itself: the store in tests/core (test_store.py,
test_store_lease.py, test_power.py), the call cache in models/test_calls.py, checkpoints in train/test_resume.py.
"""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from test_calls import mounted
from test_experiment import EXPERIMENT, begin_from, drop_the_rest
from test_killed import untimed
from test_resume import cut, flip

from cai.core.__main__ import main as core
from cai.core.errors import run_main
from cai.core.store import Damage, Store, read_stage, version
from cai.experiment.command import main as experiment

STORE = Path("runs/store")
DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip, "cut": cut, "empty": lambda file: file.write_bytes(b""), "gone": Path.unlink
}  # fmt: skip


def ran(capsys, *more: str) -> tuple[int, str]:
    """(exit code, what it printed) of the experiment, as in a new process."""
    from cai.core import store

    store._checked.clear()
    capsys.readouterr()
    code = run_main(experiment, ["mine.yaml", *more])
    seen = capsys.readouterr()
    return code, seen.out + seen.err


def outcome(root: Path = Path("runs")) -> tuple[dict, dict[str, str]]:
    """(results.json, the digest of every stage by its name and key)"""
    files = [one for one in (root / "store").glob("*/manifest.json") if "." not in one.parent.name]
    digests = {one.parent.name: json.loads(one.read_bytes())["digest"] for one in files}
    return untimed(json.loads((root / "mine" / "results.json").read_text())), digests


def made_at(root: Path = Path("runs")) -> dict[str, float]:
    """When each stage that is there was made."""
    files = (root / "store").glob("*/manifest.json")
    return {one.parent.name: json.loads(one.read_bytes())["made"] for one in files if "." not in one.parent.name}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_run):
    folder = tmp_path_factory.mktemp("faults")
    begin_from(small_run, folder)
    (folder / "mine.yaml").write_text(EXPERIMENT.replace("  human: {labels: human}\n", ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert experiment(["mine.yaml"]) == 0
        drop_the_rest()
    return folder


def files_of(stage: Path) -> list[Path]:
    return sorted(file for file in stage.rglob("*") if file.is_file())


# 1. Damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_of_any_file_of_any_stage_is_seen(place, kind, monkeypatch):
    """Every file that a run leaves in the store, one after the other."""
    seen, kinds = 0, set()
    for stage in sorted(STORE.iterdir()):
        for file in files_of(stage):
            before, status = file.read_bytes(), file.stat()
            if kind != "gone" and not before:
                continue
            DAMAGES[kind](file)
            monkeypatch.setattr("cai.core.store._checked", {})
            try:
                read_stage(stage)
                # A bit of what a manifest says beside the contents: when, how long, which device, from what.
                assert (file.name, kind) == ("manifest.json", "flipped"), file
            except Damage:
                seen += 1
            file.write_bytes(before)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
            kinds.add(file.suffix)
    print(f"{seen} files {kind}, of {len(kinds)} kinds: {', '.join(sorted(kinds))}")
    assert seen > 100 and kinds >= {".json", ".jsonl", ".safetensors"}


def test_a_run_whose_every_stage_was_damaged_comes_out_the_same(place, capsys):
    """Each stage in another way and file; each is named, set aside and made again, and `gc` frees it."""
    before, stages = outcome(), sorted(STORE.iterdir())
    for number, stage in enumerate(stages):
        files = [file for file in files_of(stage) if file.stat().st_size]
        DAMAGES[["cut", "gone", "empty", "flipped"][number % 4]](files[number % len(files)])
    from cai.core import store

    store._checked.clear()
    assert core(["check"]) == 1
    named = capsys.readouterr().out
    hurt = [stage.name for stage in stages if stage.name in named]
    assert len(hurt) >= len(stages) - 2, "a flipped bit of a manifest may be harmless"
    code, told = ran(capsys)
    assert code == 0 and "Traceback" not in told and outcome() == before
    aside = [path.name for path in STORE.iterdir() if path.name.endswith(".damaged")]
    assert sorted(name.partition(".")[0] for name in aside) == sorted(hurt)
    assert all(f"{name} is damaged" in told for name in hurt)
    assert core(["gc", "--yes"]) == 0 and core(["check"]) == 0
    assert not [path for path in STORE.iterdir() if "." in path.name] and outcome() == before
    assert core(["show", stages[0].name]) == 0


def test_what_a_run_leaves_beside_the_store_is_made_anew(place, capsys):
    """Results and report, cut; the calls, each file with a flipped bit; garbage under names of the store's own."""
    before, at = outcome(), made_at()
    for file in Path("runs/mine").iterdir():
        if file.is_file():
            cut(file)
    for file in Path("runs/calls").iterdir():
        flip(file)
    for name in (
        "x.lease",
        "load_data-0123456789abcdef.lease",
        "a.b.c",
        ".hidden",
        "train_sft-0123456789abcdef.unfinished",
    ):
        (STORE / name).write_bytes(b"\xff\x00" * 50)
    code, told = ran(capsys)
    assert code == 0 and "Traceback" not in told, told
    assert outcome() == before and made_at() == at
    assert core(["check"]) == 0


def test_a_store_that_was_copied_elsewhere_is_a_store(place, capsys, tmp_path, monkeypatch):
    """Without its times, to another folder; also from a clock that goes ten days ahead of this one, or behind it."""
    before, at = outcome(), made_at()
    for days in (0, 10, -10):
        there = tmp_path / f"there {days}"
        shutil.copytree(place, there, copy_function=shutil.copy)
        for path in (there / "runs").rglob("*"):
            os.utime(path, (time.time() + days * 24 * 3600,) * 2)
        monkeypatch.chdir(there)
        code, told = ran(capsys)
        assert code == 0 and "damaged" not in told and outcome() == before and made_at() == at
        assert core(["check"]) == 0 and core(["gc", "--yes"]) == 0 and core(["show", "train_ppo"]) == 0
        assert made_at() == at


# 2. No room, no right -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7])
def test_a_disk_that_becomes_full_is_named_and_the_run_goes_on_when_there_is_room(place, capsys, tmp_path, share):
    """A disk that holds a share of what the run writes, as it is at its end."""
    before = outcome()
    size = sum(file.stat().st_blocks * 512 for file in Path("runs").rglob("*")) // 1024
    with mounted(tmp_path / "disk", f"size={max(8, int(size * share))}k"):
        code, told = ran(capsys, "--set", f"runtime.root={tmp_path / 'disk'}")
        assert code == 2 and "Traceback" not in told and "the disk is full" in told, told
        at = made_at(tmp_path / "disk")
        subprocess.run(["mount", "-o", f"remount,size={3 * size + 4096}k", str(tmp_path / "disk")], check=True)
        code, told = ran(capsys, "--set", f"runtime.root={tmp_path / 'disk'}")
        assert code == 0 and "damaged" not in told, told
        assert at.items() <= made_at(tmp_path / "disk").items(), "what was made stays made"
        _, digests = outcome(tmp_path / "disk")
        assert digests == before[1]
        assert not [path.name for path in (tmp_path / "disk" / "store").iterdir() if "." in path.name]


@version(1)
def written(out, runtime, *, n):
    (out / "inner").mkdir()
    for name in ("rows.jsonl", "inner/weights"):
        (out / name).write_text(f"{name} {n} " * 50)


def test_a_disk_that_is_full_at_any_write_of_a_stage_leaves_nothing_that_counts(tmp_path, monkeypatch):
    """From the n-th fsync or rename on each one fails, for every n: then there is no stage, or a whole one, and what
    failed is made when there is room."""
    from power import Disk

    n, reached = 0, [True]
    while reached:
        reached = []
        root = tmp_path / str(n)
        root.mkdir()
        with monkeypatch.context() as patch:

            def full(moment: int, n: int = n, reached: list[bool | int] = reached) -> None:
                if moment == n:
                    reached.append(n)
                    raise OSError(errno.ENOSPC, "No space left on device")

            disk = Disk(root, patch, full)
            try:
                Store(root / "runs").stage(written, n=1)
            except OSError as error:
                assert error.errno == errno.ENOSPC
            disk.close()
        monkeypatch.setattr("cai.core.store._checked", {})
        made = Store(root / "runs").stage(written, n=1)
        assert (made / "rows.jsonl").read_text() == "rows.jsonl 1 " * 50
        assert list((root / "runs" / "store").iterdir()) == [made.path], "nothing is left"
        n += 1
    print(f"{n - 1} moments at which the disk became full")
    assert n > 15


def test_a_folder_that_is_read_only(place, capsys, tmp_path):
    """It can be looked at; a run says that it cannot write there, and loses nothing."""
    before = outcome()
    with mounted(tmp_path / "disk", "size=64m"):
        shutil.copytree("runs", tmp_path / "disk" / "runs")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        root = f"{tmp_path / 'disk' / 'runs'}"
        for command in (["check"], ["show", "train_ppo"], ["gc"]):
            assert core([*command, "--root", root]) == 0
        assert run_main(core, ["gc", "--days", "0", "--yes", "--root", root]) in (0, 2)
        code, told = ran(capsys, "--set", f"runtime.root={root}")
        assert code == 2 and "Traceback" not in told and "read-only" in told.lower(), told
        assert ran(capsys, "--plan", "--set", f"runtime.root={root}")[0] == 0
        assert outcome(Path(root)) == before


@pytest.mark.parametrize("where", ["runs", "runs/store", "runs/calls", "runs/mine"])
def test_a_file_where_a_folder_is_needed(place, capsys, where):
    shutil.rmtree(where)
    Path(where).write_text("I am a file.")
    code, told = ran(capsys)
    assert code == 2 and "Traceback" not in told and "error: " in told and Path(where).name in told, told
    assert Path(where).read_text() == "I am a file."


@pytest.mark.parametrize("name", ["results.json", "report.html", "links.json"])
def test_a_folder_where_a_file_is_needed(place, capsys, name):
    Path("runs/mine", name).unlink()
    Path("runs/mine", name).mkdir()
    code, told = ran(capsys)
    assert code == 2 and "Traceback" not in told and name in told, told


# 3. Others ------------------------------------------------------------------------------------------------------------


def test_a_folder_without_locks(place, capsys, monkeypatch):
    """As some network file systems: flock fails. What was killed there is cleared up when its lease is old."""

    def no_locks(handle, how):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    before = outcome()
    shutil.rmtree(STORE)  # and not the calls: those without locks are in test_calls.py
    monkeypatch.setattr(fcntl, "flock", no_locks)
    code, told = ran(capsys)
    assert code == 0 and "Traceback" not in told and outcome()[1] == before[1]
    assert not [path.name for path in STORE.iterdir() if "." in path.name]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 5])
def test_several_runs_at_once_on_one_store(place, count):
    """Each stage is made once, and they are those of one run alone. Not to the bit: where several ask, the judge's
    questions stand in other batches, which round otherwise (cai/models/engines/cached.py)."""
    before = outcome()
    shutil.rmtree("runs")
    runs = []
    for number in range(count):
        Path(f"run-{number}.yaml").write_text(Path("mine.yaml").read_text())
        command = [sys.executable, "-m", "cai.experiment", f"run-{number}.yaml"]
        runs.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    logs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * count and "Traceback" not in "".join(logs)
    digests = {one.parent.name: json.loads(one.read_bytes())["digest"] for one in STORE.glob("*/manifest.json")}
    kinds, alone = (Counter(name.rpartition("-")[0] for name in names) for names in (digests, before[1]))
    assert kinds == alone and not [path.name for path in STORE.iterdir() if "." in path.name]
    begun = [line.partition("] ")[2].partition(")")[0] for log in logs for line in log.splitlines() if line[:1] == "["]
    assert len(begun) == len(set(begun)) == len(digests), "made once"
