"""`python -m cai.constitution revise CONSTITUTION PROMPTS`: what do the principles do to a model's revisions?

    drafts of a model  ->  revised under each principle, its opposite and a placebo  ->  how much the text decides

What is measured is in cai/train/revisions/decided.py, and an experiment's report has the same with `revise.audit`.
Progress goes to stderr, results to stdout; whatever was asked before comes from the call cache.
"""

import argparse
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cai.config.runtime import Runtime
from cai.config.sections import Data, Policy, Revise
from cai.constitution import Constitution, read_constitution
from cai.core.draws import pick
from cai.core.records import Controlled, Estimate, Prompt, Revision, plain
from cai.data.sources import read_source, source_digest
from cai.judge.reads.placebos import check, read_placebos, unrelated
from cai.models.engines import Sampling
from cai.models.loading import pick_dtype
from cai.models.references import find
from cai.models.workbench import Workbench
from cai.train.revising import Reviser, sample_texts, wording_of
from cai.train.revisions.controlled import revise_controlled
from cai.train.revisions.instructions import instructions_for, without_opposite

if TYPE_CHECKING:
    from cai.train.revisions.decided import Compared, Decided


def run(args: argparse.Namespace) -> int:
    # 1. Everything that can be wrong is found before a model is loaded.
    from cai.train.revisions.decided import measure, sentence  # numpy: only now

    constitution = read_constitution(args.file)
    settings = Revise(
        prompts=args.drafts, critique=not args.direct, model=args.reviser, examples=args.examples,
        max_new_tokens=args.max_new_tokens, temperature=args.temperature,
    )  # fmt: skip
    wording_of(settings)
    check(read_placebos(), constitution.judging)
    data = Data(source=args.prompts, test=0.0)
    source_digest(data, "PROMPTS")
    prompts = pick(list(read_source(data, args.seed).prompts.values()), "train", args.drafts, args.seed)
    work = Workbench.open(Runtime(root=args.cache, device=args.device))

    # 2. Draft, revise, measure.
    rows, noted = try_revisions(work, constitution, prompts, args.model, settings, args.dtype, args.seed)
    effect = measure(rows)
    if args.json:
        given = {key: value for key, value in vars(args).items() if key not in ("run", "command", "json")}
        print(json.dumps(plain(given | {"noted": noted, "effect": effect, "revisions": rows}), indent=1))
        return 0
    reviser = args.reviser or args.model
    shown = f", shown the worked rounds of {args.examples}" if args.examples else ""
    print(f"{effect.drafts} drafts of {args.model}, revised by {reviser}{shown}; {constitution.path}, {args.prompts}")
    print("\n".join(["", sentence(effect), "", *page(effect)]))
    for note in noted:
        print(f"note: {note}")
    return 0


def try_revisions(
    work: Workbench, constitution: Constitution, prompts: Sequence[Prompt], model: str, settings: Revise, dtype: str,
    seed: int,
) -> tuple[list[Controlled], list[str]]:  # fmt: skip
    """(every revision, what could not be put to the test). model: whose drafts they are."""
    drafter, reviser = find(model), find(settings.model or model)
    system, kind = Policy().system, pick_dtype(dtype, work.device)
    sampling = Sampling(settings.max_new_tokens, settings.temperature)
    drafting = [(prompt.id, "draft", prompt.messages) for prompt in prompts]
    drafts = sample_texts(work.engine(drafter, dtype=kind, system=system), drafting, sampling, seed, "drafts")
    traces = [Revision(prompt, draft, ()) for prompt, draft in zip(prompts, drafts, strict=True) if draft]
    placebos, noted = unrelated(read_placebos(), traces, least=0)
    if len(traces) < len(prompts):
        noted.append(f"{len(prompts) - len(traces)} of {len(prompts)} prompts got no draft")
    asked = Reviser.of(work.engine(reviser, dtype=kind, system=system), wording_of(settings), settings, seed)
    noted += without_opposite(constitution)
    return revise_controlled(asked, traces, instructions_for(constitution), placebos), noted


def page(effect: "Decided") -> list[str]:
    """Two tables: what revisions do under each text, and how different they are."""
    head = ["", "principle", "placebo", "opposite", "less placebo", "less opposite"]
    lines = [head, _line("moved as asked", effect.moved), _line("critique speaks of it", effect.mentions)]
    lines.append(_line("refuses", effect.refuses))
    apart = [["two revisions of a draft", "different", "owed to the texts"]]
    names = {"chance": "one principle, two draws", "placebo": "principle and placebo"}
    names |= {"opposite": "principle and opposite", "principle": "two principles"}
    for key, title in names.items():
        apart.append([title, _cell(effect.apart[key]), _cell(effect.decided[key]) if key in effect.decided else "-"])
    by_name = [["checked principle", "revisions", "principle", "placebo", "opposite"]]
    for row in effect.by_principle:
        levels = [f"{row['moved'][key]:.2f}" if key in row["moved"] else "-" for key in ("text", "placebo", "opposite")]
        by_name.append([row["name"], str(row["n"]), *levels])
    return [*_columns(lines), "", *_columns(apart), "", *_columns(by_name)]


def _line(title: str, of: "Compared") -> list[str]:
    levels = [_cell(of.under[key]) for key in ("text", "placebo", "opposite")]
    return [title, *levels, _cell(of.less_placebo), _cell(of.less_opposite)]


def _cell(of: Estimate) -> str:
    return f"{of.value:.2f} [{of.low:.2f}, {of.high:.2f}]" if of.n and not math.isnan(of.value) else "-"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
