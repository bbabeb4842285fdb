"""Names that are paths, places that cannot be written to, disks that fill, devices that are not there: all are said."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from test_config import BASE, written
from test_experiment import lay_out

from cai.compare.runs import _short_name
from cai.config.load import read_experiment, read_sweep
from cai.core.durable import make_folders, whole, write_whole
from cai.core.errors import UserError, fault_of_machine, run_main
from cai.core.places import check_file, check_folder, check_run, fault_of_arm, fault_of_name
from cai.experiment.checks import FILES, check
from cai.experiment.command import main
from cai.models.workbench import check_device

# --- names ------------------------------------------------------------------------------------------------------------

GOOD = ("quickstart", "my run", "a.b-c_d", "Zürich", "实验", "v1.0+x", "x" * 100)
BAD = (
    "", " ", "../../x", "/etc", "a/b", "a\\b", ".", "..", ".hidden", "-rf", "x.", "x ", "store", "STORE", "trackers",
    "calls", "calls.sqlite", "calls.sqlite-wal", "x" * 300, "é" * 51, "a\0b", "a\nb", "\u202etxt", "\ud83d",
)  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_name_is_the_name_of_a_folder(tmp_path, name):
    assert fault_of_name(name) == ""
    (tmp_path / name).mkdir()


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_name_of_a_folder_is_refused(name):
    assert fault_of_name(name)


@pytest.mark.parametrize("name", ["sft", "Start", "a b", "a/b", "", "x" * 101, "..", "a\nb"])
def test_what_an_arm_cannot_be_called(name):
    assert fault_of_arm(name) and not fault_of_arm("ai") and not fault_of_arm("human-2_b")


def fault(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        read_experiment(written(tmp_path, text), overrides)
    return str(error.value).replace(f"{tmp_path}/", "")


def test_names_are_refused_with_their_line(tmp_path):
    said = fault(tmp_path, BASE + "name: ../../x\n")
    assert said.startswith('mine.yaml:3: an experiment cannot be called "../../x": it is a path')
    assert fault(tmp_path, BASE, "name=store").startswith("--set name: an experiment cannot be called")
    assert "longer than 100 bytes" in fault(tmp_path, BASE + f"name: {'x' * 300}\n")
    said = fault(tmp_path, BASE + "arms:\n  sft: {}\n  other: {}\n")
    assert said.startswith('mine.yaml:4: an arm cannot be called "sft": a policy that comes before')
    assert "but for capitals" in fault(tmp_path, BASE + "arms:\n  ai: {}\n  AI: {}\n")
    said = fault(tmp_path, BASE + 'evaluate: {constitution: "a\\0.txt"}\n')
    assert said.startswith("mine.yaml:3: a NUL character stands in this text")
    assert read_experiment(written(tmp_path, BASE + "name: fine\n")).name == "fine"


def test_a_file_whose_own_name_is_none_is_to_be_given_one(tmp_path):
    file = tmp_path / "store.yaml"
    file.write_text(BASE)
    with pytest.raises(UserError) as error:
        read_sweep(file)
    said = str(error.value)
    assert said.startswith(f'{file}: an experiment cannot be called "store": that name is taken in runs/')
    assert "name: mine" in said
    assert read_experiment(file, ["name=mine"]).name == "mine"


def test_the_comparison_of_many_runs_has_a_name_that_disks_take():
    names = [f"compare-{'-'.join(f'run{n}' for n in range(count))}" for count in (2, 80, 81)]
    short = [_short_name(name) for name in names]
    assert short[0] == names[0] and len(set(short)) == 3 and all(len(name) < 120 for name in short)


# --- places -----------------------------------------------------------------------------------------------------------


def test_a_place_to_write_to_is_looked_for_and_nothing_is_written(tmp_path):
    check_run(tmp_path / "new" / "runs", ["mine", "sweep/point"], FILES)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(UserError, match="a file stands where a folder is needed") as error:
            check_run(place, ["mine"], FILES)
        assert error.value.where == str(tmp_path / "file")
    (tmp_path / "runs" / "mine" / "report.html").mkdir(parents=True)
    with pytest.raises(UserError, match="a folder stands where the run is to write a file"):
        check_run(tmp_path / "runs", ["mine"], FILES)
    (tmp_path / "runs" / "calls").touch()
    with pytest.raises(UserError, match="a file stands where a folder is needed"):
        check_run(tmp_path / "runs", [], FILES)
    with pytest.raises(UserError, match="File name too long"):
        check_folder(tmp_path / ("x" * 300) / "y", "")
    check_file(Path("/dev/null"), "")


def test_what_cannot_be_written_is_said_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    closed: list[str] = []
    monkeypatch.setattr(os, "access", lambda place, _: Path(place).name not in closed)  # root may write anywhere
    for name in ("runs", "mine"):
        closed[:] = [name]
        with pytest.raises(UserError, match="nothing can be written here: permission denied") as error:
            check(read_experiment(Path("mine.yaml")))
        assert name in error.value.where and "runtime.root" in error.value.remedy
        check(read_experiment(Path("mine.yaml")), plan=True)


def test_all_faults_of_a_place_and_a_file_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    (tmp_path / "runs").write_text("x")
    with pytest.raises(UserError) as error:
        check(read_experiment(Path("mine.yaml"), ["constitution=gone.txt", "helpful.source=."]))
    for part in (
        "runs: a file stands where a folder is needed",
        "gone.txt: cannot read it",
        'there is no data source "."',
    ):
        assert part in str(error.value)


# --- devices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cuda", "cuda:77", "gpu"])
def test_a_device_that_is_not_there(device, tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="is not there") as error:
        check_device(device)
    assert error.value.where == "runtime.device" and "\n" not in error.value.problem
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    experiment = read_experiment(Path("mine.yaml"), [f'runtime.device="{device}"'])
    with pytest.raises(UserError, match="is not there"):
        check(experiment)
    check(experiment, plan=True)
    assert "planned all the same" in capsys.readouterr().out
    assert main(["mine.yaml", "--plan", "--set", f'runtime.device="{device}"']) == 0
    assert f"stages to run on {device}," in capsys.readouterr().out


def test_a_place_where_no_folder_can_be_made_is_said(monkeypatch, tmp_path):
    def refuse(*_, **__):  # as /proc does, to root too
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError) as error:
        make_folders(tmp_path / "runs" / "store")
    fault = fault_of_machine(error.value)
    assert fault and fault.where == str(tmp_path / "runs") and "nothing can be written" in fault.problem


def test_devices_that_are_there():
    check_device("cpu")
    check_device("auto")
    check_device("cpu:0")


# --- what a disk does -------------------------------------------------------------------------------------------------


def chained(outer: Exception, inner: Exception) -> Exception:
    try:
        try:
            raise inner
        except Exception:
            raise outer  # noqa: B904
    except Exception as error:
        return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space", "runs/x"), "runs/x: the disk is full"),
        (OSError(errno.EDQUOT, "Quota"), "the disk is full"),
        (PermissionError(errno.EACCES, "no", "runs"), "runs: nothing can be written or read here: permission denied"),
        (OSError(errno.EROFS, "no", "runs"), "runs: nothing can be written or read here: read-only file system"),
        (NotADirectoryError(errno.ENOTDIR, "no", b"runs/x"), "runs/x: a file stands where a folder is needed"),
        (IsADirectoryError(errno.EISDIR, "no", "x"), "x: a folder stands where a file is needed"),
        (FileExistsError(errno.EEXIST, "no", "x"), "x: something stands here already"),
        (OSError(errno.ENAMETOOLONG, "no", "x"), "x: the name is too long"),
        (OSError(errno.EMFILE, "no", "x"), "x: too many files are open"),
        (OSError(errno.EIO, "no", "x"), "x: the disk does not answer"),
        (Exception("I/O error: No space left on device (os error 28)"), "the disk is full"),  # safetensors
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), "the disk is full"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "the disk is full"),
        (
            RuntimeError("basic_ios::clear: iostream error"),
            "the disk is full",
        ),  # torch.save of a small file, as it ends it
        (chained(RuntimeError("cannot save"), OSError(errno.ENOSPC, "No space", "w")), "w: the disk is full"),
    ],
)
def test_the_machines_faults_in_words(error, said, capsys):
    def main(argv):
        raise error

    assert run_main(main, []) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"), FileNotFoundError(errno.ENOENT, "no", "x"), AssertionError(), sqlite3.OperationalError("x"),
        RuntimeError("shapes differ"), chained(KeyError("a bug"), FileExistsError(errno.EEXIST, "no", "x")),
    ],
)  # fmt: skip
def test_our_own_faults_keep_their_traceback(error):
    assert fault_of_machine(error) is None


def test_what_was_there_stays_where_writing_fails(tmp_path):
    file = tmp_path / "results.json"
    write_whole(file, "old \ud83d")
    assert file.read_bytes() == b"old \\ud83d"
    with pytest.raises(OSError) as error, whole(file) as aside:
        aside.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert file.read_bytes().startswith(b"old") and list(tmp_path.iterdir()) == [file]
    assert error.value.filename == str(file)
    with pytest.raises(KeyboardInterrupt), whole(file) as aside:
        aside.write_text("half")
        raise KeyboardInterrupt
    assert file.read_bytes().startswith(b"old") and list(tmp_path.iterdir()) == [file]


def test_a_link_and_a_files_permissions_are_kept(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


def in_namespace(script: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a shell script that may mount; skip the test where this machine allows no namespaces."""
    command = ["unshare", "--user", "--mount", "--map-root-user", "sh", "-ec", script, "sh", *arguments]
    if not shutil.which("unshare"):
        pytest.skip("no unshare here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no namespaces here")
    return done


RUN = 'exec "$2" -m cai.experiment mine.yaml'


def test_a_read_only_folder_is_refused_before_any_work(tmp_path):
    lay_out(tmp_path)
    (tmp_path / "runs").mkdir()
    script = f'cd "$1"; mount -t tmpfs x runs || exit 77; mount -o remount,ro runs; {RUN}'
    done = in_namespace(script, str(tmp_path), sys.executable)
    assert done.returncode == 2 and "runs: nothing can be written here: read-only file system" in done.stderr
    assert "Traceback" not in done.stderr and "load data" not in done.stderr


def test_a_disk_that_fills_on_the_way_is_said_and_what_was_finished_is_kept(tmp_path, tiny):
    """On a disk of 400 kB the run gets as far as the weights of SFT or the calls; then again with room."""
    lay_out(tmp_path)
    (tmp_path / "runs").mkdir()
    script = """cd "$1"; mount -t tmpfs -o size=400k x runs || exit 77
    set +e; "$2" -m cai.experiment mine.yaml; code=$?; set -e
    for stage in runs/store/*-????????????????; do test -s "$stage/manifest.json"; done
    echo "exit code $code, $(ls runs/store | wc -l) stages"; """
    done = in_namespace(script, str(tmp_path), sys.executable)
    assert "exit code 2" in done.stdout and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert "disk is full" in done.stderr and int(done.stdout.split(", ")[1].split()[0]) >= 2
