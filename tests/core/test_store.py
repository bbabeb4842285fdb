"""Stages are made once, whole or not at all; calls once answered are kept."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256

import pytest
from pydantic import BaseModel, Field

from cai.core.durable import HOST
from cai.core.owned import Taken, drop_unfinished, held, sweep, unfinished
from cai.core.store import Store, canonical, digest_file, digest_of, keyed, version
from cai.models.references import ModelRef


@version(1)
def write(out, runtime, *, text, **_):
    (out / "text").write_text(text)
    runtime.append(text)


@version(1)
def double(out, runtime, *, of):
    (out / "text").write_text((of / "text").read_text().upper() * 2)
    runtime.append("double")


@dataclass(frozen=True)
class Settings:
    rate: float
    words: tuple[str, ...]


def test_model_calls_of_a_stage_are_told_also_when_it_is_found_again(tmp_path):
    class Runtime(list):
        def counts(self):
            return {"asked": 10 * len(self) + 5}

    runtime = Runtime(["before"])
    made, found = (Store(tmp_path).stage(write, runtime=runtime, text="a") for _ in range(2))
    assert made.calls == found.calls == {"asked": 10}
    assert Store(tmp_path).stage(write, runtime=[], text="b").calls == {}


def test_a_stage_runs_once_for_each_key(tmp_path):
    ran: list[str] = []
    first = Store(tmp_path).stage(write, runtime=ran, text="a")
    again = Store(tmp_path).stage(write, runtime=ran, text="a")
    other = Store(tmp_path).stage(write, runtime=ran, text="b")
    assert ran == ["a", "b"]
    assert (first.path, first.digest) == (again.path, again.digest) != (other.path, other.digest)
    assert (first.cached, again.cached) == (False, True)
    assert (first / "text").read_text() == "a"


def test_the_version_is_part_of_the_key(tmp_path):
    ran: list[str] = []
    old = Store(tmp_path).stage(write, runtime=ran, text="a")
    write.version = 2
    try:
        new = Store(tmp_path).stage(write, runtime=ran, text="a")
    finally:
        write.version = 1
    assert old.key != new.key and ran == ["a", "a"]


def test_an_input_that_comes_out_the_same_stops_the_ripple(tmp_path):
    ran: list[str] = []
    store = Store(tmp_path)
    one = store.stage(write, runtime=ran, text="a", extra=1)
    two = store.stage(write, runtime=ran, text="a", extra=2)  # another key, the same contents
    assert one.key != two.key
    assert store.stage(double, runtime=ran, of=one).path == store.stage(double, runtime=ran, of=two).path
    assert ran == ["a", "a", "double"]


def test_what_a_key_is_made_of_has_one_spelling():
    text = '["é",1,true,null,0.5,[2,"b"],{"a":[3],"b":4}]'
    value = ["é", 1, True, None, 0.5, (2, "b"), {"b": 4, "a": (3,)}]
    assert digest_of(value) == digest_of(tuple(value)) == sha256(text.encode()).hexdigest()
    ids = list(range(1000))
    assert canonical(ids) == canonical(tuple(ids)) == ids and canonical(ids) is not ids
    assert canonical(["a", ModelRef("m", "place", "d")]) == ["a", {"digest": "d"}]


def test_a_failed_stage_leaves_nothing_that_counts(tmp_path):
    @version(1)
    def fails(out, runtime, *, n):
        (out / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).stage(fails, n=1)
    assert list((tmp_path / "store").iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from cai.core.store import Store, version

@version(1)
def killed(out, runtime, *, n):
    (out / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

Store(Path(sys.argv[1])).stage(killed, n=1)
"""


def test_what_a_killed_process_left_goes_when_a_stage_runs_next(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)]).returncode == -signal.SIGKILL
    lease, left = sorted((tmp_path / "store").iterdir(), key=lambda path: path.suffix)
    assert (lease.suffix, left.suffix) == (".lease", ".partial") and (left / "half").is_file()
    made = Store(tmp_path).stage(write, runtime=[], text="a")
    assert list((tmp_path / "store").iterdir()) == [made.path]
    Store(tmp_path).stage(write, runtime=[], text="a")  # looked up, not run


def test_what_a_living_process_makes_is_left_alone(tmp_path):
    """Whatever its process id is: in another container it may be that of a process which is gone here, or our own."""
    store = tmp_path / "store"
    gone = subprocess.Popen(["true"])
    gone.wait()
    running = [store / f"{name}.partial" for name in (f"a-0.{gone.pid}", f"b-0.{os.getpid()}", f"c-0.{HOST}-1-ab")]
    left = [store / f"{name}.partial" for name in (f"d-0.{os.getppid()}", f"e-0.{HOST}-1-cd")]
    for folder in (*running, *left):
        folder.mkdir(parents=True)
    with ExitStack() as stack:
        for folder in running:
            stack.enter_context(held(folder))
        sweep(store)
        assert sorted(store.iterdir()) == running
    sweep(store)
    assert list(store.iterdir()) == []


def test_another_machines_work_is_left_alone_while_it_is_young(tmp_path):
    """Its lock may not be seen here."""
    young, old = (tmp_path / f"a-0.elsewhere-7-{name}.partial" for name in ("young", "old"))
    for folder in (young, old):
        folder.mkdir()
    os.utime(old, (0, time.time() - 8 * 24 * 3600))
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


def taken_for_dead(store):
    """As another process that waits does when a lease's owner gave no sign of life, though it lives."""
    for lease in (store / "store").glob("*.lease"):
        lease.unlink()


def test_two_that_run_the_same_stage_have_each_a_folder_and_the_first_ones_result_stays(tmp_path):
    other = Store(tmp_path)

    @version(1)
    def both(out, runtime, *, n):
        if runtime == "slow":  # the other one begins and ends while this one is at it
            taken_for_dead(tmp_path)
            first = other.stage(both, runtime="quick", n=n)
            assert first.path.is_dir() and out.is_dir()
        (out / "who").write_text(runtime)

    made = Store(tmp_path).stage(both, runtime="slow", n=1)
    assert (made / "who").read_text() == "quick" and made.digest == next(iter(other.ledger.values())).digest
    assert list((tmp_path / "store").iterdir()) == [made.path]


def no_locks(handle, how):
    raise OSError(95, "Operation not supported")


def test_a_folder_without_locks_still_takes_two(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    test_two_that_run_the_same_stage_have_each_a_folder_and_the_first_ones_result_stays(tmp_path)
    (tmp_path / "store" / "a-0.1.partial").mkdir()
    sweep(tmp_path / "store")
    assert (tmp_path / "store" / "a-0.1.partial").is_dir(), "who knows whether anybody is at it"


TOGETHER = """
import sys, time
from pathlib import Path
from cai.core.store import Store, version

@version(1)
def slow(out, runtime, *, n):
    for part in range(3):
        (out / f"part {part}").write_text(str(n) * 1000)
        time.sleep(0.002)

store = Store(Path(sys.argv[1]))
for n in range(25):
    made = store.stage(slow, n=n)
    assert (made / "part 2").read_text() == str(n) * 1000
"""


def test_processes_that_make_the_same_stages_at_once(tmp_path):
    runs = [subprocess.Popen([sys.executable, "-c", TOGETHER, str(tmp_path)]) for _ in range(4)]
    assert [run.wait() for run in runs] == [0] * 4
    assert len(list((tmp_path / "store").iterdir())) == 25, "no partial, damaged or unfinished folder is left"


def test_a_running_stage_is_held(tmp_path):
    @version(1)
    def looks(out, runtime, *, n):
        with pytest.raises(Taken), held(out):
            pass
        (out / "whole").write_text("whole")

    assert (Store(tmp_path).stage(looks, n=1) / "whole").is_file()


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def write_manifest(text):
    return lambda folder: (folder / "manifest.json").write_text(text)


def changed(folder):
    """Other contents of the same size, and the time as it was."""
    file = folder / "text"
    at = file.stat().st_mtime_ns
    file.write_text("b")
    os.utime(file, ns=(at, at))


def of_another(folder):
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"key": "', '"key": "0'))


DAMAGE = {
    "other contents": (changed, "contents are not those"),
    "lost contents": (lambda folder: (folder / "text").write_text(""), "text has 0 bytes, and had 1"),
    "lost file": (lambda folder: (folder / "text").unlink(), "text is gone"),
    "new file": (lambda folder: (folder / "more").write_text("x"), "more was not there"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "no manifest"),
    "cut manifest": (lambda folder: cut(folder / "manifest.json"), "cut off or is no manifest"),
    "empty manifest": (write_manifest(""), "cut off or is no manifest"),
    "list": (write_manifest("[1]"), "cut off or is no manifest"),
    "number": (write_manifest("7"), "cut off or is no manifest"),
    "null bytes": (write_manifest("\0" * 300), "cut off or is no manifest"),
    "not UTF-8": (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe{}"), "cut off or is no manifest"),
    "deep": (write_manifest("[" * 100_000), "cut off or is no manifest"),
    "other keys": (write_manifest('{"stage": "write"}'), "cut off or is no manifest"),
    "other types": (write_manifest('{"stage": 1, "key": [], "digest": {}, "seconds": ""}'), "cut off or is no"),
    "of another stage": (of_another, "manifest.json is that of write-0"),
    "a file": (lambda folder: (shutil.rmtree(folder), folder.write_text("x")), "it is no folder"),
    "a link to nowhere": (lambda folder: (shutil.rmtree(folder), folder.symlink_to("gone")), "it is no folder"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_stage_is_named_set_aside_and_made_again(tmp_path, kind, capsys, monkeypatch):
    damage, said = DAMAGE[kind]
    ran: list[str] = []
    made = Store(tmp_path).stage(write, runtime=ran, text="a")
    monkeypatch.setattr("cai.core.store._checked", {})  # as in a new process
    damage(made.path)
    again = Store(tmp_path).stage(write, runtime=ran, text="a")
    told = capsys.readouterr().err
    assert ran == ["a", "a"] and (again / "text").read_text() == "a" and again.digest == made.digest
    assert str(made.path) in told and said in told and "set aside" in told
    (aside,) = (path for path in (tmp_path / "store").iterdir() if path != again.path)
    assert aside.name.endswith(".damaged") and aside.name in told
    assert Store(tmp_path).stage(write, runtime=ran, text="a").cached and capsys.readouterr().err == ""


def test_damage_between_two_uses_in_one_process_is_seen_by_size_and_time(tmp_path):
    ran: list[str] = []
    made = Store(tmp_path).stage(write, runtime=ran, text="a")
    (made / "text").write_text("b")
    os.utime(made / "text", (0, 0))
    assert (Store(tmp_path).stage(write, runtime=ran, text="a") / "text").read_text() == "a" and ran == ["a", "a"]


def test_contents_are_read_once_in_a_process_and_not_for_a_plan(tmp_path, monkeypatch):
    made = Store(tmp_path).stage(write, runtime=[], text="a")
    read = []
    monkeypatch.setattr("cai.core.store._checked", {})
    monkeypatch.setattr("cai.core.store.digest_file", lambda path: read.append(path.name) or digest_file(path))
    assert Store(tmp_path, plan=True).stage(write, text="a").cached and read == []
    for _ in range(3):
        assert Store(tmp_path).stage(write, text="a").cached and read == ["text"]
    os.utime(made / "text", (5, 5))  # a copied store: other times, and in a plan too the contents decide
    assert Store(tmp_path, plan=True).stage(write, text="a").cached and read == ["text", "text"]


def test_a_plan_names_damage_and_leaves_it(tmp_path, capsys, monkeypatch):
    made = Store(tmp_path).stage(write, runtime=[], text="a")
    after = Store(tmp_path).stage(double, runtime=[], of=made)
    (made / "text").write_text("")
    plan = Store(tmp_path, plan=True)
    planned = plan.stage(write, text="a")
    assert not planned.cached and "text has 0 bytes" in capsys.readouterr().err
    assert plan.stage(double, of=planned).path == after.path, "made again, it will come out as it was"
    assert len(list((tmp_path / "store").iterdir())) == 2


def test_what_desktops_leave_in_folders_is_no_damage(tmp_path):
    made = Store(tmp_path).stage(write, runtime=[], text="a")
    (made / ".DS_Store").write_text("x")
    assert Store(tmp_path).stage(write, runtime=[], text="a").cached


def test_a_store_of_an_older_version_is_checked_by_the_digest_of_the_whole(tmp_path, capsys, monkeypatch):
    ran: list[str] = []
    made = Store(tmp_path).stage(write, runtime=ran, text="a")
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest.pop("files") == {"text": [1, (made / "text").stat().st_mtime_ns]}
    (made / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr("cai.core.store._checked", {})
    assert Store(tmp_path).stage(write, runtime=ran, text="a").cached and capsys.readouterr().err == ""
    (made / "text").write_text("b")
    assert not Store(tmp_path).stage(write, runtime=ran, text="a").cached and ran == ["a", "a"]


def test_a_plan_looks_up_and_writes_nothing(tmp_path):
    ran: list[str] = []
    made = Store(tmp_path).stage(write, runtime=ran, text="a")
    plan = Store(tmp_path, plan=True)
    known = plan.stage(write, runtime=ran, text="a")
    unknown = plan.stage(write, runtime=ran, text="b")
    after = plan.stage(double, runtime=ran, of=unknown)
    same = plan.stage(double, runtime=ran, of=plan.stage(write, runtime=ran, text="b"))
    assert known.cached and known.path == made.path
    assert not unknown.cached and not after.cached and after.key == same.key
    assert [artifact.stage for artifact in plan.ledger.values()] == ["write", "write", "double"]  # each once
    assert ran == ["a"] and len(list((tmp_path / "store").iterdir())) == 1


def test_the_runtime_is_not_in_the_key_and_the_manifest_tells_the_inputs(tmp_path):
    one = Store(tmp_path).stage(write, runtime=[], text="a", settings=Settings(0.5, ("x",)))
    two = Store(tmp_path).stage(write, runtime=["other"], text="a", settings=Settings(0.5, ("x",)))
    assert one.key == two.key
    manifest = json.loads((one / "manifest.json").read_text())
    assert manifest["inputs"] == {"text": "a", "settings": {"rate": 0.5, "words": ["x"]}}
    assert manifest["digest"] == one.digest


def test_one_spelling_for_equal_values():
    assert digest_of({"a": 1, "b": (1, 2)}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": "1"}) != digest_of({"a": None})
    assert canonical(Settings(1.0, ("é",))) == {"rate": 1.0, "words": ["é"]}
    with pytest.raises(AssertionError):
        canonical(object())


def test_what_a_killed_stage_left_unfinished_is_found_again_and_goes_when_it_is_done(tmp_path):
    @version(1)
    def long(out, runtime, *, n):
        with unfinished(out) as folder:
            done = folder / "done"
            had = done.read_text() if done.exists() else "nothing"
            done.write_text("half")
            if runtime == "killed":
                raise KeyboardInterrupt
        (out / "had").write_text(had)

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).stage(long, runtime="killed", n=1)
    assert (Store(tmp_path).stage(long, runtime="lives", n=2) / "had").read_text() == "nothing", "another key"
    done = Store(tmp_path).stage(long, runtime="lives", n=1)
    assert (done / "had").read_text() == "half"
    assert len(list((tmp_path / "store").iterdir())) == 2


def begin(store, owner):
    """The partial folder of a process that has begun the stage."""
    out = store / f"stage-key.{owner}.partial"
    out.mkdir()
    return out


def test_unfinished_work_belongs_to_one_process_at_a_time(tmp_path):
    """Another one goes on from a copy, and whichever is killed, the newest is found again."""
    one, two = begin(tmp_path, "one"), begin(tmp_path, "two")
    with unfinished(one) as first:
        (first / "checkpoint-1").touch()
        with unfinished(two) as second:
            assert (first.name, second.name) == ("stage-key.unfinished", "stage-key.two.unfinished")
            assert (second / "checkpoint-1").is_file()
            (second / "checkpoint-2").touch()
    os.utime(second / "checkpoint-2", (2e9, 2e9))
    two.rmdir()  # it was killed
    with unfinished(begin(tmp_path, "three")) as third:
        assert third == second and (third / "checkpoint-2").is_file()


def test_checkpoints_of_a_process_that_may_live_elsewhere_are_copied_where_locks_are_not_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    one = begin(tmp_path, "one")
    with unfinished(one) as first:
        (first / "checkpoint-1").touch()
    with unfinished(begin(tmp_path, "two")) as second:
        assert second != first and (second / "checkpoint-1").is_file()
    (tmp_path / "stage-key").mkdir()  # one of the two is done
    two = tmp_path / "stage-key.two.partial"
    two.rmdir()
    sweep(tmp_path)
    assert first.is_dir() and not second.exists(), "the other may be at it still"
    one.rmdir()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["stage-key"]


def test_what_another_process_still_has_unfinished_is_left_to_it(tmp_path):
    place = tmp_path / "stage-key"
    with unfinished(place.with_name("stage-key.12.partial")) as mine:
        (mine / "checkpoint").touch()
        drop_unfinished(place)
        assert (mine / "checkpoint").is_file()
    drop_unfinished(place)
    drop_unfinished(place)
    assert list(tmp_path.iterdir()) == []


class Judged:
    """What travels together, and stood in the key one by one before."""

    def keyed(self):
        return {"text": "a", "of": 3}


class Renamed(BaseModel):
    kl_coef: float = Field(default=0.05, serialization_alias="kl")


def test_a_record_of_what_travels_together_and_a_setting_with_a_better_name_leave_keys_as_they_were():
    assert digest_of(keyed({"judged": Judged(), "seed": 1})) == digest_of({"text": "a", "of": 3, "seed": 1})
    with pytest.raises(AssertionError, match="'text'"):
        keyed({"judged": Judged(), "text": "b"})
    assert canonical(Renamed()) == {"kl": 0.05}
