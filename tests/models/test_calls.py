"""Calls once answered are kept, by any number of processes; damage is found, and what else stands there is named."""

import errno
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from cai.core.errors import UserError
from cai.models import call_files, calls
from cai.models.calls import CallCache


@pytest.fixture
def small(monkeypatch):
    """Compaction after every 2,000 bytes."""
    monkeypatch.setattr(calls, "LIMIT", 2000)
    monkeypatch.setattr(calls, "PAUSE", 0.0)


def names(folder):
    return sorted(path.name.partition(".")[2] for path in folder.iterdir())


def test_the_call_cache_keeps_the_first_answer(tmp_path):
    cache = CallCache(tmp_path / "calls")
    assert cache.get(["k"]) == {} and not (tmp_path / "calls").exists(), "nothing is made before there is an answer"
    cache.put([("k", {"text": "one\tline\n"}), ("none", None)])
    cache.put([("k", {"text": "two"})])
    cache.close()
    again = CallCache(tmp_path / "calls")
    assert again.get(["k", "none", "unknown"]) == {"k": {"text": "one\tline\n"}, "none": None}
    many = [(f"key {i}", i) for i in range(1500)]
    again.put(many)
    assert again.get([key for key, _ in many]) == dict(many)


def test_answers_of_others_are_seen_as_they_come(tmp_path):
    one, two = CallCache(tmp_path / "calls"), CallCache(tmp_path / "calls")
    one.put([("a", 1)])
    assert two.get(["a"]) == {"a": 1}
    one.put([("b", 2)])
    two.put([("c", 3)])
    for cache in (one, two):
        assert cache.get(["a", "b", "c"]) == {"a": 1, "b": 2, "c": 3}


def test_calls_survive_a_kill(tmp_path):
    """A process that dies without closing anything loses no call that `put` has returned from."""
    child = os.fork()
    if child == 0:
        CallCache(tmp_path / "calls").put([("k", 1)])
        os._exit(9)
    os.waitpid(child, 0)
    assert CallCache(tmp_path / "calls").get(["k"]) == {"k": 1}


def test_half_an_emoji_can_be_kept(tmp_path):
    cache = CallCache(tmp_path / "calls")
    cache.put([("k", "half \ud83d\u2028")])
    assert CallCache(tmp_path / "calls").get(["k"]) == {"k": "half \ud83d\u2028"}


# Torn and changed ------------------------------------------------------------


def test_a_line_that_was_torn_is_skipped_wherever_it_is_cut(tmp_path):
    cache = CallCache(tmp_path / "calls")
    cache.put([("a", "first")])
    (file,) = (tmp_path / "calls").iterdir()
    before = file.stat().st_size
    cache.put([("b", "second")])
    raw = file.read_bytes()
    for size in range(before, len(raw)):
        file.write_bytes(raw[:size])
        assert CallCache(tmp_path / "calls").get(["a", "b"]) == {"a": "first"}
    file.write_bytes(raw[: before + 9])
    other = CallCache(tmp_path / "calls")
    other.put([("b", "again")])
    assert CallCache(tmp_path / "calls").get(["a", "b"]) == {"a": "first", "b": "again"}


def test_a_batch_that_the_disk_took_half_of_does_not_spoil_the_next(tmp_path, monkeypatch):
    cache, write = CallCache(tmp_path / "calls"), os.write
    cache.put([("a", 1)])

    def full(handle, raw):
        if len(raw) < 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, raw[: len(raw) // 2])

    with monkeypatch.context() as patch, pytest.raises(OSError) as error:
        patch.setattr(os, "write", full)
        cache.put([("b", 2), ("c", 3)])
    assert error.value.errno == errno.ENOSPC and str(tmp_path) in error.value.filename
    cache.put([("c", 4), ("d", 5)])
    found = CallCache(tmp_path / "calls").get(["a", "b", "c", "d"])
    assert found == {"a": 1, "b": 2, "c": 4, "d": 5}


@pytest.mark.parametrize("compacted", [False, True])
def test_an_answer_that_was_changed_is_asked_again(tmp_path, compacted, capsys):
    cache = CallCache(tmp_path / "calls")
    cache.put([("a", "right"), ("b", "right answer"), ("c", "right")])
    if compacted:
        cache.compact()
    cache.close()
    (file,) = (tmp_path / "calls").iterdir()
    assert file.suffix == (".sqlite" if compacted else ".rows")
    file.write_bytes(file.read_bytes().replace(b"right answer", b"right \xffnswer"))
    again = CallCache(tmp_path / "calls")
    assert again.get(["a", "b", "c"]) == {"a": "right", "c": "right"}
    assert ("1 answer changed since" in capsys.readouterr().err) == compacted
    again.put([("b", "new answer")])
    assert again.get(["b"]) == {"b": "new answer"}
    again.compact()
    assert CallCache(tmp_path / "calls").get(["a", "b", "c"]) == {"a": "right", "b": "new answer", "c": "right"}
    assert names(tmp_path / "calls") == ["sqlite"]


def test_a_compacted_file_that_was_zeroed_is_named(tmp_path):
    keys = [f"key {n}" for n in range(3000)]
    cache = CallCache(tmp_path / "calls")
    cache.put([(key, "x" * 50) for key in keys])
    cache.compact()
    cache.close()
    (file,) = (tmp_path / "calls").iterdir()
    raw = bytearray(file.read_bytes())
    raw[4096 * 3 : 4096 * 20] = bytes(4096 * 17)
    file.write_bytes(raw)
    with pytest.raises(UserError, match=r"damaged .*malformed") as error:
        CallCache(tmp_path / "calls").get(keys)
    assert str(file) in str(error.value) and "move it away" in str(error.value)


# Files of older versions ------------------------------------------------------------

OLD = "CREATE TABLE calls (key TEXT PRIMARY KEY, value TEXT NOT NULL{}) WITHOUT ROWID"


def old_file(folder, sums=True):
    """As a version before left it when it was killed: its last rows are in the log beside it."""
    code = f"""
import os, sqlite3
from cai.models.call_files import sum_of
db = sqlite3.connect({str(folder / "calls.sqlite")!r})
db.execute("PRAGMA journal_mode=WAL")
db.execute({OLD.format(", sum TEXT" if sums else "")!r})
for key, value in (("k", '{{"text": "é"}}'), ("bad", "1")):
    db.execute("INSERT INTO calls VALUES (?, ?{", ?" if sums else ""})", [key, value, sum_of("k", value)][:{2 + sums}])
db.commit()
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (folder / "calls.sqlite-wal").stat().st_size > 0
    return folder / "calls.sqlite"


@pytest.mark.parametrize("sums", [True, False])
def test_the_file_of_an_older_version_is_read(tmp_path, sums, capsys):
    old_file(tmp_path, sums)
    cache = CallCache(tmp_path / "calls")
    assert cache.get(["k", "bad", "other"]) == {"k": {"text": "é"}} | ({} if sums else {"bad": 1})
    assert not (tmp_path / "calls.sqlite-wal").exists(), "it needs no memory shared by machines any more"
    cache.put([("k", 2), ("bad", 3)])
    cache.compact()
    assert CallCache(tmp_path / "calls").get(["k", "bad"]) == {"k": {"text": "é"}, "bad": 3 if sums else 1}


def test_the_file_of_an_older_version_that_still_runs_is_read(tmp_path):
    file = old_file(tmp_path)
    with sqlite3.connect(file) as db:
        db.execute("SELECT * FROM calls").fetchall()
        db.execute("BEGIN IMMEDIATE")
        assert CallCache(tmp_path / "calls").get(["k"]) == {"k": {"text": "é"}}


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TABLE calls (who TEXT, what TEXT)",
        "CREATE TABLE calls (key TEXT, value TEXT, sum TEXT, more TEXT)",
        "CREATE TABLE other (key TEXT); CREATE VIEW calls AS SELECT key AS a FROM other",
    ],
)
def test_a_table_of_another_kind_is_named(tmp_path, schema):
    with sqlite3.connect(tmp_path / "calls.sqlite") as db:
        db.executescript(schema)
    with pytest.raises(UserError, match="no call cache"):
        CallCache(tmp_path / "calls")


def test_another_kind_of_file_is_named(tmp_path):
    file = tmp_path / "calls.sqlite"
    file.write_bytes(b"this is not a database, but it is long enough to be taken for one" * 40)
    with pytest.raises(UserError, match="is no call cache, or damaged") as error:
        CallCache(tmp_path / "calls")
    assert str(file) in str(error.value) and "move it away" in str(error.value)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="calls cannot be kept here") as error:
        CallCache(tmp_path / "file")
    assert "runtime.root" in error.value.remedy


# Compaction ------------------------------------------------------------


def test_growing_files_are_compacted_and_a_reader_of_before_still_finds_all(tmp_path, small):
    reader, writer = CallCache(tmp_path / "calls"), CallCache(tmp_path / "calls")
    keys = []
    for n in range(200):
        writer.put([(f"key {n}", {"text": "x" * 80, "n": n})])
        keys.append(f"key {n}")
        if n % 37 == 0:
            assert len(reader.get(keys)) == len(keys)
    found = reader.get(keys)
    assert [found[key]["n"] for key in keys] == list(range(200))
    assert 1 <= names(tmp_path / "calls").count("sqlite") <= 4 and names(tmp_path / "calls").count("rows") <= 1
    assert reader._growing() < 4000, "what is compacted is not in memory any more"


def test_a_file_that_another_process_compacts_between_the_look_and_the_opening_is_read_where_it_went(
    tmp_path, monkeypatch
):
    other, reader = CallCache(tmp_path / "calls"), CallCache(tmp_path / "calls")
    other.put([("a", 1)])
    assert reader.get(["a"]) == {"a": 1}
    other.compact()
    (first,) = (tmp_path / "calls").glob("*.sqlite")
    opened = call_files.open_table

    def overtaken(path):
        if path == first and first.exists():
            monkeypatch.setattr(call_files, "open_table", opened)
            other.put([("b", 2)])
            other.compact()
            assert not first.exists()
        return opened(path)

    monkeypatch.setattr(call_files, "open_table", overtaken)
    assert reader.get(["a", "b"]) == {"a": 1, "b": 2}


def test_the_answer_that_stood_before_compaction_stands_after_it(tmp_path):
    caches = [CallCache(tmp_path / "calls") for _ in range(3)]
    for n, cache in enumerate(caches):
        cache.put([("k", n), (f"{n}", n)])
    caches[1].compact()
    for n, cache in enumerate(caches):
        cache.put([("k", n + 10)])
        assert cache.get(["k", "0", "1", "2"]) == {"k": 0, "0": 0, "1": 1, "2": 2}
        cache.compact()
    assert CallCache(tmp_path / "calls").get(["k"]) == {"k": 0}


def test_an_answer_that_is_written_while_its_file_is_compacted_is_written_anew(tmp_path, monkeypatch):
    """The rename, the reading and the removal all come between the write and the look whether the file stands."""
    cache, other = CallCache(tmp_path / "calls"), CallCache(tmp_path / "calls")
    cache.put([("a", 1)])
    append, late = call_files.Writer.append, [other]

    def append_late(self, rows):
        while late:
            late.pop().compact()
        return append(self, rows)

    monkeypatch.setattr(call_files.Writer, "append", append_late)
    cache.put([("b", 2)])
    assert CallCache(tmp_path / "calls").get(["a", "b"]) == {"a": 1, "b": 2}


def test_what_a_killed_compaction_left_is_read_and_compacted_by_the_next(tmp_path, monkeypatch):
    cache = CallCache(tmp_path / "calls")
    cache.put([("a", 1)])

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(call_files, "write_table", killed)
        cache.compact()
    assert names(tmp_path / "calls") == ["rows.sealed"]
    again = CallCache(tmp_path / "calls")
    assert again.get(["a"]) == {"a": 1}
    again.compact()
    assert names(tmp_path / "calls") == ["sqlite"] and again.get(["a"]) == {"a": 1}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        again.put([("b", 2)])
        unlink = Path.unlink
        patch.setattr(Path, "unlink", lambda path, **more: (killed if "sealed" in path.name else unlink)(path, **more))
        again.compact()
    assert CallCache(tmp_path / "calls").get(["a", "b"]) == {"a": 1, "b": 2}


# Several processes ------------------------------------------------------------

WRITER = """
import fcntl, sys, time
from pathlib import Path
from cai.models import calls

def no_locks(handle, how):
    raise OSError(95, "Operation not supported")

if sys.argv[3] == "no locks":
    fcntl.flock = no_locks
calls.LIMIT, calls.PAUSE = 20_000, 0.0
cache = calls.CallCache(Path(sys.argv[1]))
for n in range(int(sys.argv[4])):
    cache.put([(f"{sys.argv[2]} {n} {part}", [sys.argv[2], n, "x" * 100]) for part in range(3)] + [(f"both {n}", n)])
    print(n, flush=True)
sys.stdin.read()
"""


def writer(folder, who, locks="locks", batches=150, stdin=subprocess.DEVNULL):
    """stdin: a pipe, for one that stays when it has written all."""
    command = [sys.executable, "-c", WRITER, str(folder), str(who), locks, str(batches)]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("locks", ["locks", "no locks"])
@pytest.mark.parametrize("count", [2, 5])
def test_processes_that_write_and_compact_at_once_lose_nothing(tmp_path, count, locks):
    old_file(tmp_path)
    writers = [writer(tmp_path / "calls", n, locks) for n in range(count)]
    reader = CallCache(tmp_path / "calls")  # while the others compact
    while any(one.poll() is None for one in writers):
        found = reader.get([f"{who} {n} 1" for who in range(count) for n in range(150)])
        assert all(value[:2] == [key.split()[0], int(key.split()[1])] for key, value in found.items())
    assert [one.wait() for one in writers] == [0] * count
    keys = [f"{who} {n} {part}" for who in range(count) for n in range(150) for part in range(3)]
    for cache in (reader, CallCache(tmp_path / "calls")):
        assert len(cache.get([*keys, *(f"both {n}" for n in range(150)), "k"])) == len(keys) + 151


@pytest.mark.parametrize("locks", ["locks", "no locks"])
def test_writers_that_are_killed_at_any_moment_lose_no_answer_that_was_kept(tmp_path, locks):
    """Twelve processes, three at a time, each killed while it writes or compacts."""
    kept = []
    for turn in range(4):
        writers = [writer(tmp_path / "calls", f"{turn}{n}", locks, 100_000) for n in range(3)]
        seen = [[one.stdout.readline() for _ in range(9)][-1] for one in writers]  # on a busy machine, too
        time.sleep(0.13 * (turn + 1))
        for one in writers:
            one.send_signal(signal.SIGKILL)
        for n, one in enumerate(writers):
            done = int((seen[n] + one.communicate()[0]).split()[-1])
            kept += [f"{turn}{n} {batch} {part}" for batch in range(done + 1) for part in range(3)]
    cache = CallCache(tmp_path / "calls")
    assert len(cache.get(kept)) == len(kept) > 300
    cache.compact()
    assert len(CallCache(tmp_path / "calls").get(kept)) == len(kept)


def test_another_process_that_asks_is_seen_and_one_that_is_gone_is_not(tmp_path):
    cache = CallCache(tmp_path / "calls")
    cache.put([("mine", 1)])
    assert not cache.shared()
    other = writer(tmp_path / "calls", "other", batches=1, stdin=subprocess.PIPE)  # not one that just compacts
    assert other.stdout.readline()
    assert cache.shared()
    other.kill()
    other.communicate()
    cache.refresh()
    for segment in cache._segments.values():
        segment.grew = 0.0  # a minute later
    assert not cache.shared()


def test_one_on_another_machine_is_seen_by_what_it_writes(tmp_path):
    cache = CallCache(tmp_path / "calls")
    cache.put([("mine", 1)])
    line = next((tmp_path / "calls").iterdir()).read_bytes()
    elsewhere = tmp_path / "calls" / "00000000000000000001-elsewhere-abcdef-7-12345678.rows"
    elsewhere.write_bytes(line)
    assert not cache.shared()
    elsewhere.write_bytes(line * 2)
    assert cache.shared()


# Full and read-only ------------------------------------------------------------


@contextmanager
def mounted(folder, options):
    folder.mkdir()
    if (
        shutil.which("mount") is None
        or os.geteuid()
        or os.system(f"mount -t tmpfs -o {options} tmpfs {folder} 2>/dev/null")
    ):
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("size", [64, 128, 256, 400])
def test_a_full_disk_is_named_and_what_was_kept_is_there(tmp_path, monkeypatch, size):
    monkeypatch.setattr(calls, "LIMIT", 50_000)
    monkeypatch.setattr(calls, "PAUSE", 0.0)
    with mounted(tmp_path / "disk", f"size={size}k"):
        cache, kept = CallCache(tmp_path / "disk" / "calls"), []
        with pytest.raises(OSError) as error:
            for n in range(10_000):
                cache.put([(f"key {n}", "x" * 300)])
                kept.append(f"key {n}")
        assert error.value.errno == errno.ENOSPC and str(tmp_path) in error.value.filename
        assert len(kept) > size // 2
        for again in (cache, CallCache(tmp_path / "disk" / "calls")):
            assert len(again.get(kept)) == len(kept)
        assert not list((tmp_path / "disk" / "calls").glob("*.partial"))
        subprocess.run(["mount", "-o", f"remount,size={4 * size + 400}k", str(tmp_path / "disk")], check=True)
        cache.put([("more", 1)])
        assert len(CallCache(tmp_path / "disk" / "calls").get([*kept, "more"])) == len(kept) + 1
        cache.close()


def test_a_read_only_folder_is_read_and_a_new_answer_says_so(tmp_path):
    with mounted(tmp_path / "disk", "size=1m"):
        old_file(tmp_path / "disk")
        cache = CallCache(tmp_path / "disk" / "calls")
        cache.put([("a", 1)])
        cache.compact()
        cache.put([("b", 2)])
        cache.close()
        old_file_again = tmp_path / "disk" / "calls.sqlite"
        assert old_file_again.is_file()
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        again = CallCache(tmp_path / "disk" / "calls")
        assert again.get(["a", "b", "k"]) == {"a": 1, "b": 2, "k": {"text": "é"}}
        again.compact()
        with pytest.raises(UserError, match="cannot be kept here: Read-only") as error:
            again.put([("c", 3)])
        assert "runtime.root" in error.value.remedy
        again.close()


def test_a_file_of_an_older_version_with_a_log_in_a_read_only_folder_is_read_as_far_as_the_file_goes(tmp_path):
    with mounted(tmp_path / "disk", "size=1m"):
        old_file(tmp_path / "disk")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        cache = CallCache(tmp_path / "disk" / "calls")
        assert cache.get(["k"]) in ({"k": {"text": "é"}}, {})
        cache.close()


def test_a_folder_without_locks(tmp_path, monkeypatch, small):
    def no_locks(handle, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    one, two = CallCache(tmp_path / "calls"), CallCache(tmp_path / "calls")
    for n in range(60):
        one.put([(f"one {n}", "x" * 100)])
        two.put([(f"two {n}", "x" * 100)])
    keys = [f"{who} {n}" for who in ("one", "two") for n in range(60)]
    assert len(one.get(keys)) == len(two.get(keys)) == 120 and "sqlite" in names(tmp_path / "calls")


def test_a_row_is_a_line_of_key_sum_and_value(tmp_path):
    cache = CallCache(tmp_path / "calls")
    cache.put([("k", {"text": "é"})])
    (file,) = (tmp_path / "calls").iterdir()
    # sha256 of 'k', a zero byte and the value
    assert (
        file.read_text()
        == f'k\t{call_files.sum_of("k", json.dumps({"text": "é"}, ensure_ascii=False))}\t{{"text": "é"}}\n'
    )
