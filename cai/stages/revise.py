"""Draft -> n rounds of critique and revision by principles drawn from the constitution (Bai et al. 2022, section 3.1).

Without a template for critiques each round asks for the revision straight away (figure 7 of the paper), and a round's
critique is empty.

Departures from the paper: no few-shot examples (chat models need none), and the draft comes from the policy itself
rather than from a helpful-only RLHF model. The whole trace is kept, so that every revision can be read and audited.
"""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from cai.constitution import Constitution, Revising, draw, some
from cai.data import pick, seed_of
from cai.engines import Request, Sampling
from cai.engines.cached import CachedEngine
from cai.models import Dtype, Source
from cai.records import Chat, Message, Prompt, Revision, Round, Split, read_jsonl, write_jsonl
from cai.settings import Policy, Revise
from cai.store import Artifact, version
from cai.templates import Template, load_template
from cai.textstats import whole_sentences
from cai.workbench import Workbench


def revising(law: Constitution, settings: Revise, seed: int) -> dict[str, Any]:
    """What `revise` reads of a constitution, and the wording: with a critique before each revision, or without."""
    principles = some(law.revising, settings.principles, seed=seed)
    if not settings.critique:
        return {"principles": principles, "critique": None, "revision": load_template("direct")}
    return {"principles": principles, "critique": load_template("critique"), "revision": load_template("revision")}


@version(1)
def revise(
    out: Path,
    work: Workbench,
    *,
    data: Artifact,
    split: Split,
    model: Source,
    policy: Policy,
    settings: Revise,
    principles: tuple[Revising, ...],
    critique: Template | None,
    revision: Template,
    dtype: Dtype,
    seed: int,
) -> None:
    """revisions.jsonl (one Revision a line) and counts.json, from `settings.prompts` prompts of one split."""
    prompts = pick(read_jsonl(data / "prompts.jsonl", Prompt), split, settings.prompts, seed)
    engine = work.engine(model, dtype=dtype, system=policy.system)
    counts: Counter = Counter({"prompts to revise": len(prompts)})

    # 1. Draft an answer to each prompt.
    drafts = _say(engine, [(prompt.id, "draft", prompt.messages) for prompt in prompts], settings, seed, "drafts")
    traces = [Revision(prompt, draft, ()) for prompt, draft in zip(prompts, drafts, strict=True) if draft]
    counts["dropped: no draft"] = len(prompts) - len(traces)

    # 2. In each round: draw a principle, ask for a critique by it (or not), then for a revision that heeds it.
    for number in range(1, settings.rounds + 1):
        drawn = [
            draw(principles, seed=seed, key=f"{trace.prompt.id}/{number}", subset=trace.prompt.subset)[0]
            for trace in traces
        ]
        critiques: list[str | None] = [""] * len(traces)
        if critique:
            asks = [critique.render(messages=_so_far(t), principle=p) for t, p in zip(traces, drawn, strict=True)]
            critiques = _say(engine, _named(traces, f"critique {number}", asks), settings, seed, f"critiques {number}")
        asks = [
            revision.render(
                messages=t.prompt.messages, answer=t.final, principle=p, **({"critique": c or ""} if critique else {})
            )
            for t, p, c in zip(traces, drawn, critiques, strict=True)
        ]
        revisions = _say(engine, _named(traces, f"revision {number}", asks), settings, seed, f"revisions {number}")
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


def _so_far(trace: Revision) -> Chat:
    """The conversation with the newest answer: what the next critique is about."""
    return (*trace.prompt.messages, Message("assistant", trace.final))


def _named(traces: list[Revision], step: str, chats: list[Chat]) -> list[tuple[str, str, Chat]]:
    return [(trace.prompt.id, step, chat) for trace, chat in zip(traces, chats, strict=True)]


def _say(
    engine: CachedEngine, asks: list[tuple[str, str, Chat]], settings: Revise, seed: int, title: str
) -> list[str | None]:
    """One sampled text, in whole sentences, for each (prompt id, step, chat); None where the chat is too long."""
    sampling = Sampling(settings.max_new_tokens, settings.temperature)
    requests = [Request(chat, seed_of("sample", seed, name, step)) for name, step, chat in asks]
    replies = engine.generate(requests, sampling, title)
    whole = {"stop": str, "length": whole_sentences}
    return [None if reply is None else whole[reply.finish](reply.text) for reply in replies]
