"""Stages are made once, whole or not at all; calls once answered are kept."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest

from cai.store import CallCache, Store, canonical, digest_of, sweep, unfinished, version


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
from cai.store import Store, version

@version(1)
def killed(out, runtime, *, n):
    (out / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

Store(Path(sys.argv[1])).stage(killed, n=1)
"""


def test_what_a_killed_process_left_goes_when_a_stage_runs_next(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)]).returncode == -signal.SIGKILL
    (left,) = (tmp_path / "store").iterdir()
    assert left.suffix == ".partial" and (left / "half").is_file()
    made = Store(tmp_path).stage(write, runtime=[], text="a")
    assert list((tmp_path / "store").iterdir()) == [made.path]
    Store(tmp_path).stage(write, runtime=[], text="a")  # looked up, not run


def test_what_a_living_process_makes_is_left_alone(tmp_path):
    store = tmp_path / "store"
    gone = subprocess.Popen(["true"])
    gone.wait()
    # The parent of this process lives; a process of another machine is dead here, but holds its folder.
    ours, elsewhere = (store / f"{name}-0.{pid}.partial" for name, pid in (("a", os.getppid()), ("b", gone.pid)))
    for folder in (ours, elsewhere):
        folder.mkdir(parents=True)
    handle = os.open(elsewhere, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    sweep(store)
    assert sorted(store.iterdir()) == [ours, elsewhere]
    os.close(handle)
    sweep(store)
    assert list(store.iterdir()) == [ours]


def test_a_running_stage_is_held(tmp_path):
    @version(1)
    def looks(out, runtime, *, n):
        with pytest.raises(BlockingIOError):
            fcntl.flock(os.open(out, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
        (out / "whole").write_text("whole")

    assert (Store(tmp_path).stage(looks, n=1) / "whole").is_file()


def test_a_folder_without_a_manifest_is_made_again(tmp_path):
    ran: list[str] = []
    made = Store(tmp_path).stage(write, runtime=ran, text="a")
    (made / "manifest.json").unlink()
    (made / "text").write_text("torn")
    again = Store(tmp_path).stage(write, runtime=ran, text="a")
    assert ran == ["a", "a"] and (again / "text").read_text() == "a" and again.digest == made.digest


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
    assert [artifact.stage for artifact in plan.ledger] == ["write", "write", "double"]  # each once
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


def test_the_call_cache_keeps_the_first_answer(tmp_path):
    cache = CallCache(tmp_path / "calls.sqlite")
    cache.put([("k", {"text": "one"}), ("none", None)])
    cache.put([("k", {"text": "two"})])
    cache.close()
    again = CallCache(tmp_path / "calls.sqlite")
    assert again.get(["k", "none", "unknown"]) == {"k": {"text": "one"}, "none": None}
    many = [(f"key {i}", i) for i in range(1500)]  # more than SQLite takes in one statement
    again.put(many)
    assert again.get([key for key, _ in many]) == dict(many)


def test_calls_survive_a_kill(tmp_path):
    """A process that dies without closing anything loses no call that `put` has returned from."""
    child = os.fork()
    if child == 0:
        CallCache(tmp_path / "calls.sqlite").put([("k", 1)])
        os._exit(9)
    os.waitpid(child, 0)
    assert CallCache(tmp_path / "calls.sqlite").get(["k"]) == {"k": 1}


def test_a_broken_call_cache_is_named(tmp_path):
    from cai.errors import UserError

    (tmp_path / "calls.sqlite").write_bytes(b"this is not a database, but it is long enough to be taken for one" * 40)
    with pytest.raises(UserError, match="cannot open the call cache") as error:
        CallCache(tmp_path / "calls.sqlite")
    assert str(tmp_path / "calls.sqlite") in str(error.value) and "move the file away" in str(error.value)


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


def test_unfinished_work_belongs_to_one_process_at_a_time(tmp_path):
    out = tmp_path / "stage-key.12.partial"
    out.mkdir()
    with unfinished(out) as mine, unfinished(out) as other:
        assert mine == tmp_path / "stage-key.unfinished" and other.parent == out
        (other / "file").touch()
    assert list(out.iterdir()) == []
    with unfinished(out) as again:
        assert again == mine
