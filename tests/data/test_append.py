"""Rows that are appended where there are no locks."""

import errno
import fcntl

import pytest

from cai.data.append import append_row
from cai.data.label_log import LabelLog, LabelRow


def row(pair: str, rater: str = "ann", choice: str = "a") -> LabelRow:
    p_a = {"a": 1.0, "b": 0.0}.get(choice)
    return LabelRow(pair, rater, choice, p_a, "a", None, "", 1.0, "2026-01-01T00:00:00.000+00:00")


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.EINVAL])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    def no_locks(handle, how):
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    log = LabelLog(tmp_path / "log")
    log.append(row("p1"))
    log.append(row("p2"))
    assert [one.pair_id for one in LabelLog(tmp_path / "log").in_force()] == ["p1", "p2"]


def test_another_fault_of_a_lock_is_told(tmp_path, monkeypatch):
    def broken(handle, how):
        raise OSError(errno.EIO, "the disk")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="the disk"):
        append_row(tmp_path / "log", {"a": 1})


def test_the_rows_of_one_rater(tmp_path):
    log = LabelLog(tmp_path / "log")
    for one in (row("p1"), row("p1", "bob"), row("p2"), row("p1", choice="b"), row("p2", choice="undo")):
        log.append(one)
    assert [(one.rater, one.pair_id, one.choice) for one in log.in_force()] == [("bob", "p1", "a"), ("ann", "p1", "b")]
    assert [(one.pair_id, one.choice) for one in log.in_force("ann")] == [("p1", "b")]
    assert log.in_force("nobody") == [] and log.line_of(("ann", "p1", None)) == 4
