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

from cai.config.sections import Policy, Revise
from cai.constitution import Constitution, Revising, draw, some
from cai.core.draws import pick
from cai.core.records import Chat, Prompt, Revision, Round, Split, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.core.templates import Template
from cai.models.engines import Sampling
from cai.models.references import Dtype, ModelRef, find, find_served
from cai.models.workbench import Workbench
from cai.train.revising import Ask, Reviser, Wording, say, wording_of


def revising(law: Constitution, settings: Revise, seed: int) -> dict[str, Any]:
    """What `revise` reads of a constitution, the wording, and who revises where that is not the policy.

    Raises UserErrors for a template, examples or a model that is not there.
    """
    return {"principles": some(law.revising, settings.principles, seed=seed), **asking(settings)}


def asking(settings: Revise) -> dict[str, Any]:
    """How a model is asked; examples and another reviser only where there are some, for they are part of the key."""
    wording = wording_of(settings)
    more: dict[str, Any] = {"examples": wording.examples} if wording.examples else {}
    if settings.model:
        more["reviser"] = find_served(settings.model, settings.server) if settings.server else find(settings.model)
    return {"critique": wording.critique, "revision": wording.revision, **more}


@version(1)
def revise(
    out: Path,
    work: Workbench,
    *,
    data: Artifact,
    split: Split,
    model: ModelRef,
    policy: Policy,
    settings: Revise,
    principles: tuple[Revising, ...],
    critique: Template | None,
    revision: Template,
    dtype: Dtype,
    seed: int,
    examples: Chat = (),
    reviser: ModelRef | None = None,
) -> None:
    """revisions.jsonl (one Revision a line) and counts.json, from `settings.prompts` prompts of one split.

    model: whose drafts they are, and whose critiques and revisions unless there is a reviser.
    """
    prompts = pick(read_jsonl(data / "prompts.jsonl", Prompt), split, settings.prompts, seed)
    engine = work.engine(model, dtype=dtype, system=policy.system)
    counts: Counter = Counter({"prompts to revise": len(prompts)})

    # 1. Draft an answer to each prompt.
    sampling = Sampling(settings.max_new_tokens, settings.temperature)
    drafts = say(engine, [(prompt.id, "draft", prompt.messages) for prompt in prompts], sampling, seed, "drafts")
    traces = [Revision(prompt, draft, ()) for prompt, draft in zip(prompts, drafts, strict=True) if draft]
    counts["dropped: no draft"] = len(prompts) - len(traces)

    # 2. In each round: draw a principle, ask for a critique by it (or not), then for a revision that heeds it.
    if reviser:
        engine = work.engine(reviser, dtype=dtype, system=policy.system)
    who = Reviser.of(engine, Wording(critique, revision, examples), settings, seed)
    for number in range(1, settings.rounds + 1):
        drawn = [
            draw(principles, seed=seed, key=f"{trace.prompt.id}/{number}", subset=trace.prompt.subset)[0]
            for trace in traces
        ]
        asks = [Ask(t.prompt.id, t.prompt.messages, t.final, p) for t, p in zip(traces, drawn, strict=True)]
        critiques = who.critiques(asks, [f"critique {number}"] * len(asks), f"critiques {number}")
        revisions = who.revisions(asks, critiques, [f"revision {number}"] * len(asks), f"revisions {number}")
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
