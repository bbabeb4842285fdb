"""What a stage takes of the machine: CPU seconds of its own and of what it starts, and its peak of memory."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cai.core.store import Store, version
from cai.core.usage import most_memory, used

BUSY = "import time\nwhile time.process_time() < 0.3: pass"
MB = 1 << 20


def busy(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_cpu_seconds_are_those_of_the_process_and_of_what_it_started() -> None:
    with used() as usage:
        busy(0.2)
        time.sleep(0.2)
    assert 0.19 <= usage["cpu"] < usage["seconds"] and usage["seconds"] >= 0.4
    with used() as usage:
        subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert usage["cpu"] >= 0.29


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the peak of a span of time")
def test_the_peak_of_memory_is_that_of_its_own_time() -> None:
    with used() as small:
        pass
    with used() as large:
        bytearray(200 * MB)
    with used() as after:
        pass
    assert large["memory"] - small["memory"] > 150 * MB and large["memory"] - after["memory"] > 150 * MB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the peak of a span of time")
def test_the_most_that_the_process_held_outlives_the_span_it_was_held_in() -> None:
    before = most_memory() or 0
    bytearray(before + 100 * MB)  # outside of any span
    with used() as inside:
        bytearray(MB)
    assert (most_memory() or 0) > before + 90 * MB > inside["memory"]


def test_what_an_exception_leaves_is_counted_as_well() -> None:
    with pytest.raises(ValueError), used() as usage:
        raise ValueError
    assert usage["seconds"] >= 0


def test_a_card_that_the_process_has_used_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        reset_peak_memory_stats=lambda: asked.append("reset"),
        max_memory_allocated=lambda: 7,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with used() as usage:
        pass
    assert (usage["card"], asked) == (7, ["reset"])
    cuda.is_initialized = lambda: False
    with used() as usage:
        pass
    assert "card" not in usage


@version(1)
def works(out: Path, runtime: Any) -> None:
    busy(0.05)
    (out / "text").write_text("done")


def test_a_manifest_says_what_was_used_and_it_is_read_back(tmp_path: Path) -> None:
    made = Store(tmp_path).stage(works)
    assert made.used["cpu"] >= 0.04 and "seconds" not in made.used and made.seconds >= 0.04
    manifest = made / "manifest.json"
    assert json.loads(manifest.read_text())["used"] == made.used == Store(tmp_path).stage(works).used
    older = json.loads(manifest.read_text())
    del older["used"]
    manifest.write_text(json.dumps(older))
    assert Store(tmp_path).stage(works).used == {}
