"""The labelling page in a real browser: ten pairs by keyboard through a kill, and texts that try to break out."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_annotate import read_log

from cai.annotate.desk import left_of
from cai.config.runtime import Runtime
from cai.config.sections import Data, Policy, Reward
from cai.core.records import Label, read_jsonl
from cai.core.store import Store
from cai.data.sources import load_data, source_digest
from cai.judge.label import label_by_people
from cai.models.workbench import Workbench
from cai.train.reward import train_reward
from cai.train.trainable import Labelled, Trainable

pytest.importorskip("uvicorn", reason="the extra `annotate` is not installed")

HOSTILE = (
    "<script>document.title = 'owned'; alert(1)</script> </script><img src=x onerror=\"alert(2)\"> {{ 7 * 7 }} "
    "&lt;b&gt; <svg onload=alert(3)>"
)
Start = Callable[..., tuple[subprocess.Popen, str]]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [
        {"id": f"n{i}", "prompt": f"Question {i}?", "a": HOSTILE if i == 0 else f"Answer {i}.", "b": f"Other {i}."}
        for i in range(12)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row | {"split": "train"}) + "\n" for row in rows))
    return file


@pytest.fixture
def start(pairs: Path) -> Iterator[Start]:
    """Start a server; all that were started are gone in the end, also those of a test that failed."""
    servers: list[subprocess.Popen] = []

    def start(*options: str) -> tuple[subprocess.Popen, str]:
        command = [sys.executable, "-m", "cai.annotate", str(pairs), "--out", str(pairs.with_name("labels.jsonl"))]
        server = subprocess.Popen([*command, "--order", "given", *options], stdout=subprocess.PIPE, text=True)
        servers.append(server)
        for line in server.stdout or ():
            if found := re.search(r"http://\S+", line):
                return server, found[0]
        raise AssertionError("the server ended before it printed its address")

    yield start
    for server in servers:
        server.kill()
        server.wait()


def enter(page: Any, url: str, name: str) -> None:
    page.goto(url)
    page.locator("#name").fill(name)
    page.keyboard.press("Enter")


def wait_for(page: Any, title: str) -> None:
    """Until the page's title says how many are done. (Playwright's own wait needs eval, which the policy forbids.)"""
    until = time.monotonic() + 60
    while not page.title().startswith(title):
        assert time.monotonic() < until, f'"{page.title()}" is not yet "{title}"; {page.locator("#fault").inner_text()}'
        page.wait_for_timeout(20)


def press(page: Any, key: str, title: str) -> None:
    page.wait_for_timeout(270)  # a key within 250 ms of a new pair was meant for the one before
    page.keyboard.press(key)
    wait_for(page, title)


def test_ten_pairs_by_keyboard_through_a_kill_to_a_reward_model(start, page, pairs, tiny, tmp_path):
    log = pairs.with_name("labels.jsonl")
    server, url = start()
    enter(page, url, "ana")
    wait_for(page, "0 of 12")
    assert "token" not in page.url
    for done, key in enumerate("12021", 1):
        press(page, key, f"{done} of 12")
        assert len(read_log(log)[0]) == done  # on the disk before the next pair shows

    # The server is killed in the middle; what is chosen then is not lost silently.
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    page.wait_for_timeout(270)
    page.keyboard.press("1")
    page.locator("#fault:visible").wait_for()
    assert "not saved" in page.locator("#fault").inner_text()
    _, url = start()
    page.goto(url)
    page.locator("#names button", has_text="ana").click()
    wait_for(page, "5 of 12")

    # A note, a choice, and both undone.
    page.keyboard.press("n")
    page.keyboard.type("1 slip")  # not a choice while it is typed
    page.keyboard.press("Enter")
    press(page, "1", "6 of 12")
    press(page, "u", "5 of 12")
    assert page.locator("#note").input_value() == "1 slip"
    assert "it was left" in page.locator("#told").inner_text()
    for done, key in enumerate("22012", 6):
        press(page, key, f"{done} of 12")
    press(page, "s", "11 of 12")
    press(page, "s", "done")
    page.locator("#counts dd", has_text="10 of 12").wait_for()

    rows, faults = read_log(log)
    by_key = {"1": "left", "2": "right"}
    wanted = []
    for i, key in enumerate("1202122012"):
        left = left_of("ana", f"n{i}")
        wanted.append(0.5 if key == "0" else float((left == "a") == (by_key[key] == "left")))
    assert [row.p_a for row in rows] == [*wanted, None, None]
    assert (rows[5].note, faults) == ("1 slip", {})
    assert page.faults == []

    # Exported, the labels train a reward model through the path that all labels take.
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "cai.annotate", str(pairs), "--export", str(log), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    data, policy = Data(source=str(out)), Policy(model="tiny-random", lora_rank=4)
    work = Workbench.open(Runtime(root=str(tmp_path / "runs"), device="cpu"))
    stage = Store(work.root).stage_with(work)
    loaded = stage(load_data, data=data, contents=source_digest(data), seed=0)
    labels = stage(label_by_people, pairs=loaded, rule=None, file=None, raters=(), seed=0)
    assert {one.pair_id: one.p_a for one in read_jsonl(labels / "labels.jsonl", Label)} == {
        f"n{i}": p for i, p in enumerate(wanted)
    }
    reward = stage(
        train_reward, labelled=Labelled((loaded,), (labels,)), start=Trainable(tiny, policy, "float32"),
        settings=Reward(max_length=1600), seed=0,
    )  # fmt: skip
    assert json.loads((reward / "counts.json").read_text())["training pairs labelled"] == 10
    assert (reward / "model").is_dir()


def test_model_text_is_text(start, page, pairs):
    _, url = start("--rater", "ana")
    page.goto(url)
    page.locator("#names button").click()
    wait_for(page, "0 of 12")
    side = "left" if left_of("ana", "n0") == "a" else "right"
    assert page.locator(f"#{side} .text").inner_text() == HOSTILE
    assert page.locator("#work img, #work svg, #work script").count() == 0
    assert page.title() == "0 of 12 – label pairs"
    assert page.faults == []
    # And were it put in as markup by mistake, the page would throw rather than show it.
    thrown = page.evaluate(
        "() => { try { document.body.innerHTML = '<img onerror=alert(4)>' } catch (e) { return e.name } }"
    )
    assert thrown == "TypeError"


def test_without_token_or_from_another_site_nothing_is_told(start, page):
    _, url = start()
    address = url.partition("/?")[0]
    refused = page.goto(address)
    assert refused.status == 403
    assert "token" in refused.text()
    enter(page, url, "ana")
    wait_for(page, "0 of 12")
    held = page.context.request.post(f"{address}/api/welcome", data={})  # the cookie alone, without the page's Origin
    assert held.status == 403
