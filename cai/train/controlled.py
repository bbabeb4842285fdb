"""`revise.audit`: drafts revised once more, under principles, opposites and placebos
(cai/train/revisions/controlled.py)."""

import json
from pathlib import Path

from cai.config.sections import Policy, Revise
from cai.core.records import Chat, Revision, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.core.templates import Template
from cai.judge.reads.placebos import Placebo, unrelated
from cai.models.references import Dtype, ModelRef
from cai.models.workbench import Workbench
from cai.train.revising import Reviser, Wording
from cai.train.revisions.controlled import revise_controlled
from cai.train.revisions.instructions import Instruction


@version(1)
def revise_controls(
    out: Path,
    work: Workbench,
    *,
    revisions: Artifact,
    count: int,
    reviser: ModelRef,
    policy: Policy,
    settings: Revise,
    instructions: tuple[Instruction, ...],
    placebos: tuple[Placebo, ...],
    critique: Template | None,
    revision: Template,
    dtype: Dtype,
    seed: int,
    examples: Chat = (),
) -> None:
    """controlled.jsonl (one Controlled a line) of the first `count` drafts (they stand in an order drawn by hash), and
    noted.json: which placebos speak of the prompts and were left out.
    """
    traces = read_jsonl(revisions / "revisions.jsonl", Revision)[:count]
    kept, noted = unrelated(placebos, traces, least=0)
    engine = work.engine(reviser, dtype=dtype, system=policy.system)
    who = Reviser.of(engine, Wording(critique, revision, examples), settings, seed)
    write_jsonl(out / "controlled.jsonl", revise_controlled(who, traces, instructions, kept))
    (out / "noted.json").write_text(json.dumps(noted, indent=1))
