"""The board of stages: what is expected, how what was seen corrects it, and what screen and log show."""

import io
import os
import pty
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from cai.core import progress as module
from cai.core.progress import Board, ProgressBar, clock, progress, total


@dataclass
class Made:
    stage: str
    path: Path
    seconds: float = 0.0
    cached: bool = False


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def board(*expected):
    time = Clock()
    return Board(expected, time), time


def done(of, time, stage, seconds, cached=False):
    if not cached:
        of.began(stage, f"abcdef{seconds}")
        time.now += seconds
    of.noted(Made(stage, Path(f"{stage}-abcdef{seconds}"), seconds, cached))


def test_before_anything_ran_the_expectation_stands():
    of, _ = board(("load_data", 1.0), ("train_sft", 0.0), ("train_reward", 40.0))
    assert sum(of.left()) == 41


def test_a_stage_that_is_there_already_counts_as_done_and_teaches_nothing():
    of, time = board(("train_reward", 40.0), ("train_reward", 20.0))
    done(of, time, "train_reward", 99.0, cached=True)
    assert sum(of.left()) == 20 and not any(of.took.values())


def test_a_stage_of_the_same_name_takes_as_long_as_the_last_did():
    of, time = board(("train_reward", 40.0), ("train_reward", 20.0), ("play", 10.0))
    done(of, time, "train_reward", 80.0)
    # Twice what was expected: 2 x 20; the others by all that was seen, with 30 s of trust: 10 x (80 + 30) / (40 + 30).
    assert sum(of.left()) == pytest.approx(40 + 10 * 110 / 70)


def test_the_running_stage_counts_down_and_then_goes_by_its_bar():
    of, time = board(("train_sft", 60.0), ("play", 10.0))
    of.began("train_sft", "k")
    time.now += 15
    assert sum(of.left()) == 45 + 10
    of.bar = ProgressBar("train", 20, time.now)
    time.now += 6
    of.bar.done = 1  # less than a tenth: too little to go by
    assert sum(of.left()) == 39 + 10
    of.bar.done = 4  # 1.5 s each, 16 to go
    assert sum(of.left()) == 24 + 10
    of.bar = None
    time.now += 100  # longer than expected: nothing is left of it, and never less
    assert sum(of.left()) == 10


def test_the_same_stage_is_counted_once_however_often_it_is_asked_for():
    of, _ = board(("play", 10.0), ("play", 12.0))
    one = Made("play", Path("x"), 5.0, cached=True)
    of.noted(one)
    of.noted(one)
    assert sum(of.left()) == 12


def test_a_stage_of_which_nobody_knows_is_said_to_be_unknown_until_one_like_it_ran():
    of, time = board(("train_dpo", None), ("train_dpo", None), ("play", 10.0), ("judge_items", None))
    assert of.left() == [None, None, 10, None]
    of.began("train_dpo", "k")
    time.now += 30
    assert of.left() == [None, None, 10, None]  # the running one is unknown still
    assert of._ahead() == "; 1 of 4, at least 10 s, 3 stages unknown left"
    of.bar = ProgressBar("train", 10, time.now - 30, 5)
    assert of.left() == [30, None, 10, None]  # but for its bar
    time.now += 10
    of.noted(Made("train_dpo", Path("train_dpo-k"), 40.0))
    assert of.left() == [40, 10, None]
    assert (total([1.0, None]), total([None]), total([]), total([5.0])) == (
        "at least 1 s, 1 stage unknown", "unknown", "about 0 s", "about 5 s",
    )  # fmt: skip


def test_a_stage_that_was_not_expected_does_no_harm():
    of, time = board(("play", 10.0))
    done(of, time, "revise", 7.0)
    assert sum(of.left()) == 10


@pytest.mark.parametrize(
    ("bar", "rate", "left"), [((20, 4), "2.0/s", 8), ((20, 1), "2.0 s each", 38), ((20, 0), "", None)]
)
def test_rates(bar, rate, left):
    total, count = bar
    shown = ProgressBar("x", total, 0.0, count)
    assert (shown.rate(2.0), shown.left(2.0)) == (rate, left)


def test_times_for_people():
    assert [clock(x) for x in (0.4, 89, 91, 5399, 5401)] == ["0 s", "89 s", "2 min", "90 min", "1.5 h"]


def test_a_log_has_a_line_a_stage_with_what_is_left(capsys, monkeypatch):
    of, time = board(("load_data", 1.0), ("train_sft", 60.0), ("play", 120.0))
    with of:
        done(of, time, "load_data", 1.0)
        time.now += 66
        of.began("train_sft", "0123456789")
        with progress("train", 100) as step:
            step(10)
            time.now += 21
            step(10)
            time.now += 1
            step(1)  # a second later: not yet another line
    assert capsys.readouterr().err.splitlines() == [
        "[00:00] load data (abcdef); 1 of 3, about 3 min left",
        "[01:07] train sft (012345); 2 of 3, about 3 min left",
        "    train: 20/100, about 84 s left",
    ]
    assert module._board is None


def test_the_screen_shows_the_running_stage_the_next_ones_and_the_whole():
    of, time = board(("load_data", 1.0), ("train_sft", 60.0), *((f"stage_{n}", 10.0) for n in range(6)), ("old", 0.0))
    done(of, time, "load_data", 1.0)
    of.began("train_sft", "k")
    of.bar = ProgressBar("train", 20, time.now)
    time.now += 10
    of.bar.done = 5
    console = Console(file=io.StringIO(), width=100)
    console.print(of.page())
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert lines[0].startswith("> train sft") and lines[0].endswith("5/20  2.0 s each  30 s left") and "━" in lines[0]
    assert [line.split() for line in lines[1:6]] == [
        *(["stage", str(n), "about", "10", "s"] for n in range(4)), ["and", "2", "more", "about", "20", "s"],
    ]  # fmt: skip
    assert lines[6] == "[00:11] 2 of 9, about 2 min left"


def test_on_a_terminal_stages_stay_and_the_bars_go():
    """In a terminal of its own: done stages remain as lines, and nothing breaks the standard output."""
    code = (
        "from pathlib import Path; from types import SimpleNamespace as Made\n"
        "from cai.core.progress import Board, progress\n"
        "with Board([('train_sft', 5.0), ('play', 5.0)]) as board:\n"
        "    board.began('train_sft', 'k')\n"
        "    with progress('train', 4) as step: step(2)\n"
        "    board.live.refresh()\n"
        "    board.noted(Made(stage='train_sft', path=Path('train_sft-k'), seconds=3.0, cached=False))\n"
        "print('result')\n"
    )
    mine, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    running = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE, env=environment)
    os.close(theirs)
    raw = b""
    with suppress(OSError):  # at its end; read until then, since a terminal holds little
        while more := os.read(mine, 65536):
            raw += more
    os.close(mine)
    assert running.communicate()[0] == b"result\n" and running.returncode == 0
    shown = raw.decode()
    assert "train sft: 3 s" in shown and "2/4" in shown and "1 of 2" in shown
