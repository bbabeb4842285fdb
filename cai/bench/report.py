"""The report of many examples: how long it takes to write, how large it is, and how fast it opens and scrolls.

The examples are made up of random words (seeded), with the lengths of real ones: prompts of about 40 words, two answers
of about 90, six votes. What a browser does with the page is measured in a headless Chromium through playwright (the
extra `dev`), where both are there: time until the first example can be read, time from a jump in the list until its
rows are painted, and time of a search through all texts.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from cai.bench.common import MedianRange, positive, show

JUMPS = 40
BINARIES = ("chromium", "chromium-browser", "google-chrome")
# A frame in which the list has been scrolled and painted; the second one comes after the first was shown.
JUMP = """share => new Promise(done => {
  const list = document.getElementById("list"), start = performance.now();
  list.scrollTop = share * (list.scrollHeight - list.clientHeight);
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
})"""
SEARCH = """word => {
  const box = document.getElementById("words"), start = performance.now();
  box.value = word;
  box.dispatchEvent(new Event("input", {bubbles: true}));
  return performance.now() - start;
}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--examples", type=positive, default=5000, help="how many (default 5000)")
    parser.add_argument("--keep", type=Path, help="a file to keep the page in")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(args: argparse.Namespace) -> None:
    """Write the page, measure it, and print what was found."""
    from cai.compare.report import write_report

    rows = examples(args.examples)
    with tempfile.TemporaryDirectory() as folder:
        page = args.keep or Path(folder) / "report.html"
        start = time.perf_counter()
        write_report({"name": "bench", "arms": ["ai", "human"], "seeds": [0]}, rows, page)
        measured: dict[str, Any] = {
            "examples": len(rows),
            "seconds to write": time.perf_counter() - start,
            "megabytes": page.stat().st_size / 1e6,
        }
        measured |= in_browser(page)
    if args.json:
        print(json.dumps(measured))
        return
    for name, value in measured.items():
        print(f"{name}: {value if isinstance(value, (str, int)) else f'{value:.3g}'}")


def examples(count: int) -> list[dict[str, Any]]:
    """Labelled pairs, and one transcript for each nine of them, of random words."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(3000)]

    def text(length: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(length // 2, 3 * length // 2)))

    principles = [f"principle {text(3)}" for _ in range(16)]
    return [_transcript(i, text, draw, principles) if i % 10 == 9 else _pair(i, text, draw, principles)
            for i in range(count)]  # fmt: skip


def _pair(i: int, text: Any, draw: random.Random, principles: list[str]) -> dict[str, Any]:
    opinions = {name: round(draw.random(), 4) for name in ("labels of arm ai", "reward model ai", "reward model human")}
    votes = [["rate", draw.choice(principles), "each", round(draw.random(), 4), 0.31, "", ""] for _ in range(6)]
    return {
        "kind": "label", "id": f"pair-{i}", "prompt": [{"role": "user", "content": text(40)}],
        "subset": f"category {i % 9}", "a": text(90), "b": text(90), "human": 1.0, "people": [], "ai": 0.4,
        "reason": "", "votes": votes, "disagree": i % 3 == 0, "against": True, "gap": round(draw.random(), 4),
        "opinions": [{"name": name, "arm": name.split()[-1], "p": p} for name, p in opinions.items()],
    }  # fmt: skip


def _transcript(i: int, text: Any, draw: random.Random, principles: list[str]) -> dict[str, Any]:
    rounds = [{"principle": draw.choice(principles), "critique": text(60), "revision": text(90)} for _ in range(2)]
    answers = [
        {"arm": arm, "seed": 0, "text": text(60), "scores": {"reward model ai/0": 0.5}} for arm in ("ai", "human")
    ]
    return {
        "kind": "transcript", "id": f"prompt-{i}", "prompt": [{"role": "user", "content": text(40)}],
        "subset": f"category {i % 9}", "draft": text(90), "rounds": rounds, "answers": answers, "disagree": False,
        "gap": 0.5,
    }  # fmt: skip


def in_browser(page: Path) -> dict[str, Any]:
    """Times in milliseconds, or why there are none."""
    binary = next(filter(None, map(shutil.which, BINARIES)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {"browser": "not measured: the package playwright is not installed"}
    if binary is None:
        return {"browser": "not measured: there is no Chromium here"}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--headless", "--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        start = time.perf_counter()
        tab.goto(page.resolve().as_uri())
        tab.locator("#one .text").first.wait_for()
        opened = 1000 * (time.perf_counter() - start)
        draw = random.Random(0)
        jumps = [tab.evaluate(JUMP, draw.random()) for _ in range(JUMPS)]
        searches = [tab.evaluate(SEARCH, word) for word in ("e", "an", "the quick", "")]
        browser.close()
    return {
        "ms until the first example": opened,
        "ms from a jump to its rows": show(MedianRange.of(jumps)),
        "ms of the first search": searches[0],
        "ms of a further search": show(MedianRange.of(searches[1:])),
    }
