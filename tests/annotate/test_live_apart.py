"""Live teaching stands apart: what it is made of is imported by itself alone, and through few doors."""

import re
from pathlib import Path

CAI = Path(__file__).parents[2] / "cai"
IMPORT = re.compile(r"^\s*(?:from|import) cai\.([\w.]+)", re.MULTILINE)
LIVE = re.compile(r"(annotate\.(live|talk|voice)|data\.feedback|train\.(rl\.)?(live|tamer))\b")
# The pages' program and server, the method of RL that a log of feedback shapes, and what measures it.
DOORS = {"annotate.__main__", "annotate.server", "train.rl.given", "bench.live_forms", "bench.live_policy"}


def test_the_core_does_not_know_of_live_teaching():
    modules = {".".join(path.relative_to(CAI).with_suffix("").parts): path for path in CAI.rglob("*.py")}
    importers = {name for name, path in modules.items() if any(map(LIVE.match, IMPORT.findall(path.read_text())))}
    assert {name for name in importers if not LIVE.match(name)} <= DOORS
