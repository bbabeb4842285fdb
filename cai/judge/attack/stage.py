"""`judge.attacks: N`: the judge that labels is attacked on N held-out pairs, for the report. Nothing else reads it."""

import json
from dataclasses import replace
from pathlib import Path

from cai.core.records import Pair, read_jsonl
from cai.core.store import Artifact, version
from cai.judge.asked import AskedJudge
from cai.judge.attack.exploits import Exploits
from cai.judge.attack.measure import as_json, attack, by_judge, held_out
from cai.models.workbench import Workbench


@version(1)
def attack_judge(
    out: Path, work: Workbench, *, data: Artifact, judge: AskedJudge, preflight: Artifact | None, exploits: Exploits,
    count: int,
) -> None:  # fmt: skip
    """attacks.json. preflight: whose method is used where the config says `auto`. count: of pairs.

    Raises UserError where people judged no held-out pair.
    """
    chosen = json.loads((preflight / "preflight.json").read_text()) if preflight else {}
    judge = judge.by(chosen.get("method", judge.settings.method))
    rows = held_out(read_jsonl(data / "pairs.jsonl", Pair), count, judge.seed)
    report = attack(rows, exploits, judge.principles, by_judge(judge.engine(work), judge), judge.seed)
    short = replace(report, exploits=[replace(each, example=None) for each in report.exploits])
    (out / "attacks.json").write_text(json.dumps(as_json(short), indent=1))
