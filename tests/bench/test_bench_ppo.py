"""The benchmark of PPO: its figures by hand, its messages, and the program on the tiny model beside a stand-in."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cai.bench.__main__ import main
from cai.bench.common import MedianRange
from cai.bench.ppo import PpoRun, check_peer, page, run_once, some_prompts, summaries
from cai.bench.ppo_run import PHASES, Meter, forget_peak, peak_memory
from cai.core.errors import UserError, run_main

# A peer's interpreter that has the wanted versions and runs nothing: it says what it was given, and how it went.
STAND_IN = """#!{python}
import json, sys
if "-c" in sys.argv:
    print("1.12.0 2.13.0 0.21.2")
    sys.exit()
assert sys.argv[1] == "-I" and sys.argv[2].endswith("cai/bench/ppo_run.py") and sys.argv[3] == "trl"
spec = json.load(open(sys.argv[4]))
open({seen!r}, "a").write(json.dumps(spec) + "\\n")
result = dict(rollouts=spec["steps"], seconds=4.0, tokens=96, phases=dict.fromkeys({phases!r}, 0.5))
result |= dict(process=10**9, training=5 * 10**8, trl="1.12.0", threads=1)
json.dump(result, open(spec["result"], "w"))
"""


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def stand_in(tmp_path: Path) -> str:
    text = STAND_IN.format(python=sys.executable, seen=str(tmp_path / "seen.jsonl"), phases=PHASES)
    return script(tmp_path / "python", text)


def one(seconds: float, process: int, training: int | None, tokens: int = 500, **phases: float) -> PpoRun:
    return PpoRun(seconds, tokens, dict.fromkeys(PHASES, 0.0) | phases, process, training, 2, "1.12.0", 1)


def test_the_figures_by_hand() -> None:
    runs = {
        "ours": [one(2.0, 10**9, 5 * 10**8, generate=1.0), one(3.0, 10**9, 5 * 10**8, generate=2.0)],
        "trl float32": [one(4.0, 4 * 10**9, 2 * 10**9, score=1.0), one(12.0, 2 * 10**9, 10**9, score=1.0)],
    }
    ours, peer = summaries(runs)
    # 500 tokens in 2 and 3 s; in each run two rollouts, four in all.
    assert ours.pace == MedianRange(5.0, 4.0, 6.0) and ours.ratios == {} and ours.tokens == 1000
    assert ours.phases["generate"] == 0.75 and ours.phases["other"] == 0.5
    assert peer.pace == MedianRange(16.0, 8.0, 24.0) and peer.process == MedianRange(3.0, 2.0, 4.0)
    assert peer.ratios["pace"] == MedianRange(0.375, 0.25, 0.5)  # 4 to 8, 6 to 24
    assert peer.ratios["process"] == MedianRange(0.375, 0.25, 0.5) == peer.ratios["training"]
    assert peer.phases["score"] == 0.5 and peer.phases["other"] == 3.5
    text = page({"model": "m"}, [ours, peer])
    assert "0.375 [0.25, 0.5]" in text and "16 [8, 24]" in text


def test_memory_while_training_may_be_unknown() -> None:
    ours, peer = summaries({"ours": [one(2.0, 10**9, None)], "trl float32": [one(4.0, 2 * 10**9, None)]})
    assert ours.training is None and set(peer.ratios) == {"pace", "process"}
    assert "not known" in page({}, [ours, peer])


def test_the_meter_leaves_out_the_warm_up_and_counts_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    class Trainer:
        def generate(self) -> str:
            clock[0] += 2
            self.inner()
            return "text"

        def inner(self) -> None:
            clock[0] += 1

    trainer, meter = Trainer(), Meter("cpu")
    meter.watch(trainer, "generate", "generate")
    meter.watch(trainer, "inner", lambda: "score")
    trainer.generate()
    meter.tokens += 7
    meter.rollout_ended()
    for _ in range(2):
        assert trainer.generate() == "text"  # its inner second is generation
        trainer.inner()
        clock[0] += 10
        meter.tokens += 5
        meter.rollout_ended()
    result = meter.result()
    assert (result["seconds"], result["rollouts"], result["tokens"]) == (28.0, 2, 10)
    assert result["phases"]["generate"] == 6.0 and result["phases"]["score"] == 2.0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells and forgets a process's peak")
def test_the_peak_is_the_peak_and_can_be_forgotten() -> None:
    assert forget_peak()  # what other tests had
    before = peak_memory()
    block = bytearray(before)  # twice as much at once
    assert peak_memory() > 1.5 * before
    del block
    assert forget_peak()
    assert peak_memory() < 1.3 * before


def test_prompts_are_of_about_one_length(tiny: Any, tmp_path: Path) -> None:
    from cai.models.loading import load_tokenizer

    file = tmp_path / "prompts.jsonl"
    words = [1, 40, 8, 9, 60, 10, 30]  # the median is 10
    rows = [{"prompt": f"{n} " + "word " * count, "a": "Yes.", "b": "No."} for n, count in enumerate(words)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chats, ids = some_prompts(str(file), 3, load_tokenizer(tiny))
    assert sorted(chat[-1].content.count("word") for chat in chats) == [8, 9, 10]
    assert [load_tokenizer(tiny).decode(row).count("word") for row in ids] == [
        chat[-1].content.count("word") for chat in chats
    ]
    with pytest.raises(UserError, match="only 7 prompts"):
        some_prompts(str(file), 8, load_tokenizer(tiny))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "there is no Python that runs here"),
        ("#!/bin/sh\necho 'No package metadata was found for trl' >&2; exit 1\n", "lacks .*: No package metadata"),
        ("#!/bin/sh\necho 1.16.0 2.13.0 0.21.2\n", "has TRL 1.16.0, and the comparison is with 1.12"),
        ("#!/bin/sh\necho 1.1 2.13.0 0.21.2\n", "has TRL 1.1, and"),
    ],
)
def test_a_peer_that_is_none_is_told_how_to_make_one(tmp_path: Path, text: str | None, problem: str) -> None:
    python = str(tmp_path / "none") if text is None else script(tmp_path / "python", text)
    with pytest.raises(UserError, match=problem) as error:
        check_peer(python)
    assert "pip install trl==1.12.0" in error.value.remedy and error.value.where == python


def test_our_own_python_is_no_peer() -> None:
    with pytest.raises(UserError, match=r"this Python has TRL 1\.16"):
        check_peer(sys.executable)


def test_a_run_that_fails_says_why_and_where_the_log_is(tmp_path: Path) -> None:
    python = script(tmp_path / "python", "#!/bin/sh\necho out; echo 'ValueError: the peer is unwell' >&2; exit 3\n")
    with pytest.raises(UserError, match="the run of trl float32 failed: ValueError: the peer is unwell") as error:
        run_once("trl float32", {}, python, tmp_path)
    assert Path(error.value.where).read_text() == "out\nValueError: the peer is unwell\n"


ARGS = ["ppo", "--model", "tiny-random", "--dtype", "float32", "--steps", "1", "--rounds", "1", "--threads", "1"]


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Question {n}?", "a": "Yes.", "b": "No."}) + "\n" for n in range(9)))
    return str(file)


def test_the_program_beside_a_stand_in(
    tiny: Any, stand_in: str, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGS, "--peer", stand_in, "--data", prompts, "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    ways = {way["name"]: way for way in result["ways"]}
    assert list(ways) == ["ours", "trl float32", "trl bfloat16"]
    assert ways["ours"]["tokens"] == 4 * 24, "one timed rollout, every answer of full length"
    ours = ways["ours"]
    assert all(ours["phases"][phase] > 0 for phase in PHASES), ours["phases"]
    assert 0 < ours["training"]["median"] <= ours["process"]["median"]
    # The stand-in: 96 tokens in 4 s, 1 GB.
    for name in ("trl float32", "trl bfloat16"):
        assert ways[name]["ratios"]["pace"]["median"] == pytest.approx(ours["pace"]["median"] / (4000 / 96))
        assert ways[name]["ratios"]["process"]["median"] == pytest.approx(ours["process"]["median"])
    seen = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    assert [spec["dtype"] for spec in seen] == ["float32", "bfloat16"]
    assert len(seen[0]["ids"]) == len(seen[0]["prompts"]) == 8  # four of the warm-up, four timed
    assert seen[0]["lora"]["r"] == 16 and "q_proj" in seen[0]["lora"]["target_modules"]
    assert "round 1/1: ours, 96 tokens" in err


def test_faults_are_the_users_to_mend(
    tiny: Any, stand_in: str, prompts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for more, problem in (
        (["--peer", "/nowhere/python"], "no Python that runs here"),
        (["--peer", stand_in, "--steps", "99"], "there are only 9 prompts"),
        (["--peer", stand_in, "--model", "tiny-randon"], 'did you mean "tiny-random"'),
    ):
        assert run_main(main, [*ARGS, "--data", prompts, *more]) == 2
        assert problem in capsys.readouterr().err


def test_the_program_beside_the_peer(tiny: Any, prompts: str, capsys: pytest.CaptureFixture[str]) -> None:
    python = os.environ.get("CAI_TRL112")
    if not python:
        pytest.skip("CAI_TRL112 names no Python that has TRL 1.12: tests/train/test_parity.py says how to make one")
    assert main([*ARGS, "--peer", python, "--data", prompts, "--json"]) == 0
    ways = {way["name"]: way for way in json.loads(capsys.readouterr().out)["ways"]}
    for name in ("trl float32", "trl bfloat16"):
        assert ways[name]["trl"].startswith("1.12.") and ways[name]["tokens"] == 96
        assert all(ways[name]["phases"][phase] > 0 for phase in PHASES), ways[name]["phases"]
