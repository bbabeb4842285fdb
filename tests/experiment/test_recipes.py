"""Recipes of real size are planned without network, card or weights: they fit, and say what they would take."""

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from cai.core.errors import UserError, UserErrors
from cai.experiment.command import main

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "experiments" / "paper.yaml"
# What its comment says may be set, one variant a line.
VARIANTS = re.findall(r"^#     (--set .*)$", PAPER.read_text(), re.MULTILINE)


@pytest.fixture(autouse=True)
def cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("no network")

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def planned(capsys: pytest.CaptureFixture[str], file: str, *options: str) -> str:
    capsys.readouterr()
    assert main([f"experiments/{file}.yaml", "--plan", "--set=runtime.root=nowhere", *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("variant", ["", *VARIANTS])
def test_the_paper_fits_its_cards(capsys, variant):
    words = variant.split()
    out = planned(capsys, "paper", "--card", "h100", *words)
    assert "DOES NOT FIT" not in out and "m modelled for a H100 80 GB (SXM), not measured" in out
    assert re.search(r"train_ppo +Qwen/Qwen2.5-7B-Instruct +6 +0 .* m +\d+\.\d GiB", out)
    assert len(out.splitlines()) < 40  # 267 stages on one screen
    assert ("served Qwen/Qwen2.5-72B-Instruct: about " in out) == ("72B" in variant)


def test_there_are_variants_for_a_node_for_four_and_for_a_served_judge():
    assert len(VARIANTS) == 4 and any("processes=8" in line for line in VARIANTS)
    assert any("executor=ray" in line for line in VARIANTS) and any("judge.server=" in line for line in VARIANTS)


def test_the_paper_as_it_once_stood_is_refused_with_what_would_fit(capsys):
    before = ("--set=runtime.micro_batch=null", "--set=runtime.checkpointing=false")
    with pytest.raises(UserErrors) as caught:
        planned(capsys, "paper", "--card=h100", *before)
    said = str(caught.value)
    assert "train_ppo with Qwen/Qwen2.5-7B-Instruct takes about" in said and "the device has 79" in said
    for remedy in re.findall(r"write (runtime.*)$", said, re.MULTILINE):
        assert re.match(r"runtime(: \{micro_batch: \d+\}|\.checkpointing: true)", remedy)
    # The one that asks for least is enough for all.
    rows = min(int(number) for number in re.findall(r"micro_batch: (\d+)", said))
    assert "DOES NOT FIT" not in planned(
        capsys, "paper", "--card=h100", f"--set=runtime.micro_batch={rows}", "--set=runtime.checkpointing=false"
    )


def test_a_smaller_card_is_refused_by_its_memory(capsys):
    with pytest.raises(UserError, match="the device has 8"):
        planned(capsys, "paper", "--device-memory=8GiB")


def test_a_hosted_judge_is_priced_before_it_is_asked(capsys):
    here = ("--set=policy={model: tiny-random}", "--set=evaluate.judge={model: tiny-random, principles: 2}")
    out = planned(capsys, "hosted-judge", *here)
    assert re.search(r"label_by_judge +some-hosted-model +1 +0 +served\n", out)
    # 188 pairs (88 to train on, 100 held out), 2 principles, both orders and 5 samples are 3,760 calls; the preflight's
    # 32 pairs under 6 constitutions are 3,840.
    found = re.search(r"served some-hosted-model: about ([\d,]+) calls, .* about (\d+\.\d\d) \(runtime.prices\)", out)
    assert found and found[1] == "7,600"
    # Half of 1,024 tokens each at 0.15 a million, and 8 written at 0.60.
    assert float(found[2]) == pytest.approx(7600 * (512 * 0.15 + 8 * 0.60) / 1e6, abs=0.006)
    assert "more than runtime.max_cost (0.5)" in planned(capsys, "hosted-judge", *here, "--set=runtime.max_cost=0.5")


def test_every_stage_has_a_line_where_all_are_asked_for(capsys):
    out = planned(capsys, "smoke", "--all")
    assert len(re.findall(r"^  to run   \w+ +[0-9a-f]{16}   ", out, re.MULTILINE)) > 40
