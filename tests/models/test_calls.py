"""Calls once answered are kept, damage is found, and whatever else the file may be is named."""

import json
import os
import sqlite3
import subprocess
import sys

import pytest

from cai.core.errors import UserError
from cai.models.calls import CallCache


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


def test_another_kind_of_file_is_named(tmp_path):
    file = tmp_path / "calls.sqlite"
    file.write_bytes(b"this is not a database, but it is long enough to be taken for one" * 40)
    with pytest.raises(UserError, match="is no call cache, or damaged") as error:
        CallCache(file)
    assert str(file) in str(error.value) and "move it away" in str(error.value)


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
        CallCache(tmp_path / "calls.sqlite")


def test_pages_that_were_zeroed_are_named(tmp_path):
    file, keys = tmp_path / "calls.sqlite", [f"key {n}" for n in range(3000)]
    cache = CallCache(file)
    cache.put([(key, "x" * 50) for key in keys])
    cache.close()
    raw = bytearray(file.read_bytes())
    raw[4096 * 3 : 4096 * 20] = bytes(4096 * 17)
    file.write_bytes(raw)
    with pytest.raises(UserError, match=r"damaged .*malformed") as error:
        CallCache(file).get(keys)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("change", ["UPDATE calls SET value = ? WHERE key = 'b'", "on the disk"])
def test_an_answer_that_was_changed_is_asked_again(tmp_path, change, capsys):
    file = tmp_path / "calls.sqlite"
    cache = CallCache(file)
    cache.put([("a", "right"), ("b", "right answer"), ("c", "right")])
    cache.close()
    if change == "on the disk":  # a byte that is no UTF-8 any more
        file.write_bytes(file.read_bytes().replace(b"right answer", b"right \xffnswer"))
    else:
        with sqlite3.connect(file) as db:
            db.execute(change, (json.dumps("wrong answer"),))
    again = CallCache(file)
    assert again.get(["a", "b", "c"]) == {"a": "right", "c": "right"}
    assert "1 answer changed since" in capsys.readouterr().err
    again.put([("b", "new answer")])
    assert again.get(["b"]) == {"b": "new answer"}


def test_rows_of_an_older_version_are_taken_over(tmp_path):
    file = tmp_path / "calls.sqlite"
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE calls (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        db.execute("INSERT INTO calls VALUES ('k', '{\"text\": \"é\"}')")
    assert CallCache(file).get(["k"]) == {"k": {"text": "é"}}
    with sqlite3.connect(file) as db:
        db.execute("UPDATE calls SET value = '1'")
    assert CallCache(file).get(["k"]) == {}, "from now on, its rows have sums"


def test_half_an_emoji_can_be_kept(tmp_path):
    cache = CallCache(tmp_path / "calls.sqlite")
    cache.put([("k", "half \ud83d")])
    assert cache.get(["k"]) == {"k": "half \ud83d"}


def test_a_full_disk_while_sqlite_commits_is_that(tmp_path):
    cache = CallCache(tmp_path / "calls.sqlite")
    pages = cache._db.execute("PRAGMA page_count").fetchone()[0]
    cache._db.execute(f"PRAGMA max_page_count={pages}")  # SQLITE_FULL, as when the disk has no room
    with pytest.raises(OSError) as error:
        cache.put([(f"key {n}", "x" * 500) for n in range(100)])
    assert error.value.errno == 28 and error.value.filename == str(tmp_path / "calls.sqlite")
    assert cache.get(["key 1"]) == {}


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "calls.sqlite").mkdir()
    with pytest.raises(UserError, match="cannot be opened") as error:
        CallCache(tmp_path / "calls.sqlite")
    assert "runtime.root" in error.value.remedy


WRITER = """
import sys
from pathlib import Path
from cai.models.calls import CallCache
cache = CallCache(Path(sys.argv[1]))
for n in range(30):
    cache.put([(f"{sys.argv[2]} {n}", n), (f"both {n}", sys.argv[2])])
"""


def test_processes_that_begin_at_once_share_the_file(tmp_path):
    """One of an older version among them: whoever comes first gives its rows their sums."""
    file = tmp_path / "calls.sqlite"
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE calls (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        db.execute("INSERT INTO calls VALUES ('k', '1')")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), str(n)]) for n in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    found = CallCache(file).get(["k", *(f"{who} {n}" for who in (0, 1, 2, 3, "both") for n in range(30))])
    assert len(found) == 151 and found["2 7"] == 7 and found["k"] == 1
