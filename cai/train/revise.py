"""Draft -> n rounds of critique and revision by principles drawn from the constitution (Bai et al. 2022, section 3.1).

Without a template for critiques each round asks for the revision straight away (figure 7 of the paper), and a round's
critique is empty. How a model is asked is in cai/train/revising.py.

Departures from the paper: no few-shot examples unless `revise.examples` names some, and the draft comes from the policy
itself rather than from a helpful-only RLHF model. The whole trace is kept, so that every revision can be read and
audited.
"""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from cai.config.sections import Revise
from cai.constitution import Constitution, Revising, draw, some
from cai.core.draws import pick
from cai.core.records import Prompt, Revision, Round, Split, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.models.engines import Sampling
from cai.models.workbench import Workbench
from cai.train.revising import RevisedBy, Reviser, RevisionTask, sample_texts
from cai.train.trainable import Trainable


def revising(constitution: Constitution, settings: Revise, seed: int) -> dict[str, Any]:
    """What `revise` reads of a constitution, and who revises by it, in which words.

    Raises UserErrors for a template, examples or a model that is not there.
    """
    principles = some(constitution.revising, settings.principles, seed=seed)
    reasons = any(getattr(principle, "why", "") for principle in principles)
    return {"principles": principles, "by": RevisedBy.of(settings, seed, reasons=reasons)}


@version(1)
def revise(
    out: Path,
    work: Workbench,
    *,
    data: Artifact,
    split: Split,
    start: Trainable,
    principles: tuple[Revising, ...],
    by: RevisedBy,
) -> None:
    """revisions.jsonl (one Revision a line) and counts.json, from `by.settings.prompts` prompts of one split.

    start: whose drafts they are, and whose critiques and revisions unless there is a reviser.
    """
    settings, seed, critique = by.settings, by.seed, by.wording.critique
    prompts = pick(read_jsonl(data / "prompts.jsonl", Prompt), split, settings.prompts, seed)
    counts: Counter = Counter({"prompts to revise": len(prompts)})

    # 1. Draft an answer to each prompt.
    sampling = Sampling(settings.max_new_tokens, settings.temperature)
    engine = start.engine(work)
    drafts = sample_texts(
        engine, [(prompt.id, "draft", prompt.messages) for prompt in prompts], sampling, seed, "drafts"
    )
    traces = [Revision(prompt, draft, ()) for prompt, draft in zip(prompts, drafts, strict=True) if draft]
    counts["dropped: no draft"] = len(prompts) - len(traces)

    # 2. In each round: draw a principle, ask for a critique by it (or not), then for a revision that heeds it.
    if by.reviser:
        engine = replace(start, ref=by.reviser).engine(work)
    reviser = Reviser.of(engine, by.wording, settings, seed)
    for number in range(1, settings.rounds + 1):
        drawn = [
            draw(principles, seed=seed, key=f"{trace.prompt.id}/{number}", subset=trace.prompt.subset)[0]
            for trace in traces
        ]
        tasks = [RevisionTask(t.prompt.id, t.prompt.messages, t.final, p) for t, p in zip(traces, drawn, strict=True)]
        critiques = reviser.critiques(tasks, [f"critique {number}"] * len(tasks), f"critiques {number}")
        revisions = reviser.revisions(tasks, critiques, [f"revision {number}"] * len(tasks), f"revisions {number}")
        # A round without a critique or a revision ends its trace here: an empty text is not an answer to learn from.
        kept = [
            replace(trace, rounds=(*trace.rounds, Round(p.name, c or "", r)))
            for trace, p, c, r in zip(traces, drawn, critiques, revisions, strict=True)
            if r and (c or not critique)
        ]
        what = "critique or revision" if critique else "revision"
        counts[f"dropped: empty {what} in round {number}"] = len(traces) - len(kept)
        traces = kept

    counts["revised"] = len(traces)
    counts["final revision is the draft"] = sum(trace.final == trace.draft for trace in traces)
    counts["final revision is its critique"] = sum(bool(t.rounds) and t.final == t.rounds[-1].critique for t in traces)
    write_jsonl(out / "revisions.jsonl", traces)
    (out / "counts.json").write_text(json.dumps(dict(counts), indent=1))


@version(1)
def take_drafts(out: Path, work: Workbench, *, revisions: Artifact) -> None:
    """revisions.jsonl and counts.json: the drafts alone, of those prompts whose revision was not dropped.

    What SFT on them gives is the control of SFT on the revisions: the same prompts, as often.
    """
    drafts = [replace(trace, rounds=()) for trace in read_jsonl(revisions / "revisions.jsonl", Revision)]
    write_jsonl(out / "revisions.jsonl", drafts)
    (out / "counts.json").write_text(json.dumps({"drafts": len(drafts)}, indent=1))
