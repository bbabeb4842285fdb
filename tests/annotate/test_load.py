"""Twenty raters at one labelling page at once: nobody waits, and every label that was acknowledged is in the log once.

    CAI_LOAD_SECONDS=300 python -m pytest tests/annotate/test_load.py -m slow -n 0 -s        (10 s without the variable)

Each rater is a thread with a connection of its own that labels (skips, ties and undos among it) over HTTP as the page
does, a quarter of a second after it was shown a pair at the earliest, 1.5 s at the latest. On 2,000 pairs of 2
principles.
"""

import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from statistics import quantiles
from urllib.parse import parse_qs, urlsplit

import pytest
from test_annotate_page import pairs, start  # noqa: F401

from cai.data.label_log import LabelLog

SECONDS = float(os.environ.get("CAI_LOAD_SECONDS", "10"))
RATERS, PAIRS = 20, 2000
SLOW = 2.0  # seconds that 99 of 100 requests take less than
PAUSE = (0.25, 1.5)  # seconds: the page takes no key before 0.25


class Rater(threading.Thread):
    """saved: (pair, principle) -> the choice that the server acknowledged last; None after an undo."""

    def __init__(self, url: str, number: int, until: float) -> None:
        super().__init__(daemon=True)
        place = urlsplit(url)
        self.name, self.until, self.chance = f"rater {number}", until, random.Random(number)
        self.token, self.host = parse_qs(place.query)["token"][0], place.netloc
        self.connection = http.client.HTTPConnection(place.netloc, timeout=60)
        self.waits: list[float] = []
        self.saved: dict[tuple, str | None] = {}
        self.fault: BaseException | None = None

    def ask(self, action: str, **body) -> dict:
        headers = {"origin": f"http://{self.host}", "content-type": "application/json"}
        headers["cookie"] = f"cai-{self.host.rpartition(':')[2]}={self.token}"
        began = time.monotonic()
        self.connection.request("POST", f"/api/{action}", json.dumps({"rater": self.name, **body}), headers)
        answer = self.connection.getresponse()
        raw = answer.read()
        self.waits.append(time.monotonic() - began)
        assert answer.status == 200, raw
        return json.loads(raw)

    def run(self) -> None:
        try:
            state = self.ask("next")
            while time.monotonic() < self.until and state["task"]:
                time.sleep(self.chance.uniform(*PAUSE))
                key = (state["task"]["pair_id"], (state["task"]["principle"] or {}).get("name"))
                choice = self.chance.choices(["left", "right", "tie", "skip"], [8, 8, 2, 1])[0]
                body = {"pair_id": key[0], "principle": key[1], "choice": choice, "note": "", "seconds": 1.0}
                state = self.ask("label", **body)
                self.saved[key] = choice
                if self.chance.random() < 0.02:
                    state = self.ask("undo")
                    self.saved[key] = None
        except BaseException as error:
            self.fault = error


def label_together(url: str, numbers: range) -> list[Rater]:
    until = time.monotonic() + SECONDS
    raters = [Rater(url, number, until) for number in numbers]
    for rater in raters:
        rater.start()
    for rater in raters:
        rater.join()
    return raters


@pytest.mark.slow
def test_twenty_raters_at_once(start, pairs):  # noqa: F811
    rows = [{"id": f"n{i}", "prompt": f"Question {i}?" * 9, "a": "Yes. " * 40, "b": "No. " * 40} for i in range(PAIRS)]
    pairs.write_text("".join(json.dumps(row | {"split": "train"}) + "\n" for row in rows))
    constitution = pairs.with_name("law.txt")
    constitution.write_text("- Choose the kind one.\n- Choose the safe one.\n")
    _, url = start("--constitution", str(constitution))
    began, raters, cuts = time.monotonic(), [], [SLOW] * 99
    for _ in range(3):  # where the machine itself pauses, all of them wait once; a slow server is slow each time
        if cuts[98] >= SLOW:
            some = label_together(url, range(len(raters), len(raters) + RATERS))
            cuts = quantiles((wait for rater in some for wait in rater.waits), n=100)
            raters += some
    took = time.monotonic() - began
    assert not [rater.fault for rater in raters if rater.fault]
    log = LabelLog(pairs.with_name("labels.jsonl"))
    stands = {row.key: row.choice for row in log.in_force()}
    acknowledged = {(r.name, *key): choice for r in raters for key, choice in r.saved.items() if choice}
    assert not log.faults and stands.keys() == acknowledged.keys()
    kinds = Counter(choice if choice in ("tie", "skip") else "side" for choice in acknowledged.values())
    assert kinds == Counter(choice if choice in ("tie", "skip") else "side" for choice in stands.values())
    waits = sorted(wait for rater in raters for wait in rater.waits)
    print(
        f"\n{len(raters)} raters, {took:.0f} s: {len(waits)} requests, {len(stands)} labels in force, none lost; "
        f"{1000 * cuts[49]:.0f} ms median, {1000 * cuts[98]:.0f} ms of 99%, {1000 * waits[-1]:.0f} ms the longest"
    )
    assert cuts[98] < SLOW
