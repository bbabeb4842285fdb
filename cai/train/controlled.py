"""`revise.audit`: drafts revised once more, under principles, opposites and placebos
(cai/train/revisions/controlled.py)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.core.records import Revision, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.judge.reads.placebos import Placebo, unrelated
from cai.models.workbench import Workbench
from cai.train.revising import RevisedBy, Reviser
from cai.train.revisions.controlled import revise_controlled
from cai.train.revisions.instructions import Instruction
from cai.train.trainable import Trainable


@dataclass(frozen=True, slots=True)
class ControlTexts:
    """Under which texts the drafts are revised again: principles with their opposites, and placebos."""

    instructions: tuple[Instruction, ...]
    placebos: tuple[Placebo, ...]

    def keyed(self) -> dict[str, Any]:
        return {"instructions": self.instructions, "placebos": self.placebos}


@version(1)
def revise_controls(
    out: Path, work: Workbench, *, revisions: Artifact, count: int, reviser: Trainable, texts: ControlTexts,
    by: RevisedBy,
) -> None:  # fmt: skip
    """controlled.jsonl (one Controlled a line) of the first `count` drafts (they stand in an order drawn by hash), and
    noted.json: which placebos speak of the prompts and were left out.
    """
    traces = read_jsonl(revisions / "revisions.jsonl", Revision)[:count]
    kept, noted = unrelated(texts.placebos, traces, least=0)
    asked = Reviser.of(reviser.engine(work), by.wording, by.settings, by.seed)
    write_jsonl(out / "controlled.jsonl", revise_controlled(asked, traces, texts.instructions, kept))
    (out / "noted.json").write_text(json.dumps(noted, indent=1))
