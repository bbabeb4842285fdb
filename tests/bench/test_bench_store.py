"""Benchmark of the call cache and the store, on a few calls and stages."""

import json
from pathlib import Path

import pytest

from cai.bench.__main__ import main
from cai.bench.common import MedianRange
from cai.bench.store import made_up, measure_calls, measure_stages, milliseconds


def test_calls_are_the_same_whenever_they_are_made_up_and_none_twice() -> None:
    batches = list(made_up(1100))
    assert [len(batch) for batch in batches] == [512, 512, 76] and batches == list(made_up(1100))
    assert len({key for batch in batches for key, _ in batch}) == 1100


def test_milliseconds_by_hand() -> None:
    assert milliseconds(MedianRange(0.002, 0.001, 0.25)) == MedianRange(2.0, 1.0, 250.0)


def test_calls_that_were_kept_are_found_by_both_ways(tmp_path: Path) -> None:
    cost = measure_calls(tmp_path, 2000, 50, 3)  # which asserts that both ways give the same answers
    assert (cost.calls, cost.wanted) == (2000, 50)
    assert 64 < cost.bytes_each < 400  # a key has 64 letters
    for spread in (cost.opened, cost.lookup, cost.table, cost.ratio.clock):
        assert 0 < spread.low <= spread.median <= spread.high
    assert len(list((tmp_path / "calls").glob("*.sqlite"))) == 1  # compacted


def test_stages_are_keyed_found_and_listed(tmp_path: Path) -> None:
    cost = measure_stages(tmp_path, 20, 2)
    assert cost.stages == 20 and len(list((tmp_path / "store").iterdir())) == 20
    assert min(cost.key.low, cost.find.low, cost.list.low) > 0


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["store", "--calls", "600", "--wanted", "20", "--stages", "10", "--rounds", "2", "--folder", str(tmp_path)]
    assert main(args) == 0
    out = capsys.readouterr().out
    assert "600 calls: kept in" in out and "20 looked up in" in out and "10 stages: keyed in" in out
    assert main([*args, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["calls"]["calls"], found["stages"]["stages"], found["rounds"]) == (600, 10, 2)
    assert not list(tmp_path.iterdir())  # nothing is left
