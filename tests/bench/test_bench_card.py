"""The rates of a card, on the CPU: every part gives figures, and what fails or has no time is named."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pytest

from cai.bench.__main__ import main
from cai.bench.card import page, seconds
from cai.bench.card_parts import SECONDS, SIZES, CardRun, random_network
from cai.core.errors import run_main
from cai.models.engines.transformers import PREDICTIONS, predictions

PARTS = ("read", "written", "trained", "ppo")


def test_every_part_is_measured_and_written_down(tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "card.json"
    given = ["card", "--sizes", "tiny", "--device", "cpu", "--dtype", "float32", "--threads", "1", "--json", str(file)]
    assert main([*given, "--budget", "60m"]) == 0
    found = json.loads(file.read_text())
    assert found["kind"] == "cpu: no CUDA here, and no card was measured" and found["skipped"] == []
    assert found["device"] and found["date"][:2] == "20" and set(found["versions"]) >= {"torch", "transformers"}
    assert set(found["limits"]) == {"bandwidth", "bfloat16", "float32"}
    tiny_ones = found["sizes"]["tiny"]
    # embedding 262 x 32; each of two layers: q, o 32 x 32, k, v 16 x 32, three of 64 x 32, two norms; one norm more
    assert tiny_ones["weights"]["parameters"] == 262 * 32 + 2 * (2 * 1024 + 2 * 512 + 3 * 2048 + 64) + 32
    for name in PARTS:
        part = tiny_ones[name]
        assert part["per_second"] == pytest.approx(part["units"] / part["seconds"]) and part["peak_bytes"] > 1e6
    # 2 rows of 8 tokens; one row of 48; each of 2 questions is read once, three times over
    assert [tiny_ones[name]["units"] for name in ("written", "trained", "ppo")] == [16, 48 * 2, 16]
    assert 3 * 2 * 48 <= tiny_ones["read"]["units"] < 3 * 2 * 80
    out = capsys.readouterr().out
    assert "tokens/s" in out and "not measured" not in out


def test_what_fails_or_has_no_time_left_is_named_and_takes_nothing_with_it(tmp_path: Path) -> None:
    def fails() -> dict[str, Any]:
        raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB\nand more")

    found: dict[str, Any] = {"sizes": {"7b": {}}}
    session = CardRun("cpu", "float32", time.monotonic() + 3000, tmp_path / "card.json", found)
    place = found["sizes"]["7b"]
    session.part(place, "read", "7b", fails)
    session.part(place, "written", "7b", lambda: {"per_second": 2.0})
    session.until -= 2980
    session.part(place, "ppo", "7b", lambda: pytest.fail("there was no time for it"))
    assert place == {"written": {"per_second": 2.0}}
    assert session.skipped[0].startswith("7b read: CUDA out of memory. Tried to allocate 9 GiB (test_bench_card.py:")
    assert session.skipped[1].startswith("7b ppo: ") and session.skipped[1].endswith("s of the budget left")
    assert json.loads((tmp_path / "card.json").read_text()) == found | {"skipped": session.skipped}


def test_a_budget_is_a_time() -> None:
    assert [seconds(text) for text in ("8m", "90s", "45", "0.5m")] == [480, 90, 45, 30]
    for text in ("", "m", "soon", "-1", "0s"):
        with pytest.raises(argparse.ArgumentTypeError):
            seconds(text)


@pytest.mark.parametrize(
    ("more", "problem"), [(["--sizes", "70b"], 'there is no size "70b"'), (["--device", "cuda:77"], "is not there")]
)
def test_faults_are_the_users_to_mend(more: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(main, ["card", *more]) == 2
    assert problem in capsys.readouterr().err


def test_a_page_names_the_card_and_what_was_not_measured() -> None:
    part = {"per_second": 1234.0, "peak_bytes": 2**31}
    found: dict[str, Any] = {"device": "H1", "kind": "cuda", "date": "2030-01-01", "versions": {"torch": "3"}}
    found |= {"limits": {"bandwidth": {"per_second": 3.1e12}}, "sizes": {"7b": {"dtype": "bfloat16", "read": part}}}
    text = page(found, ["7b ppo: CUDA out of memory"])
    assert text.splitlines()[0] == "H1 (cuda), 2030-01-01, torch 3"
    assert "3.1e+03 GB/s copied" in text and "1234 tokens/s     2.00 GiB at most" in text
    assert text.endswith("not measured: 7b ppo: CUDA out of memory")


def test_a_card_is_asked_about_more_tokens_at_once_than_a_cpu() -> None:
    network = random_network(SIZES["tiny"], "bfloat16", "cpu")
    assert predictions(None, network) == PREDICTIONS == 2048
    # A tenth of 80 GB, in rows of 262 numbers of two bytes; of a card of a megabyte, no less than of a CPU.
    assert predictions(80_000_000_000, network) == 8_000_000_000 // (262 * 2)
    assert predictions(1_000_000, network) == 2048


def test_the_script_fits_its_budget_by_its_own_reckoning() -> None:
    """On a card: limits, then weights, read, written, trained twice and PPO of each of the three sizes."""
    assert sum(6 * SECONDS[size] for size in ("135m", "1.5b", "7b")) <= 480
