"""The same drafts revised under a principle, under its opposite and under a placebo, with the same draws.

Each draft meets one principle of the constitution, drawn for it by hash, and one checked principle, which take turns:
more drafts tell more than more principles, for drafts are what is independent. Everything is drawn twice: between a
principle's two revisions there is nothing but chance, and what another text changes is measured beside that.
"""

from collections.abc import Sequence

from cai.constitution import Revising, draw
from cai.core.draws import uniform
from cai.core.records import Control, Controlled, Revision
from cai.judge.reads.placebos import Placebo
from cai.train.revising import Reviser, RevisionTask
from cai.train.revisions.instructions import Instruction, form_of, request_of, stand_ins

DRAWS = 2


def revise_controlled(
    reviser: Reviser, traces: Sequence[Revision], instructions: Sequence[Instruction], placebos: Sequence[Placebo]
) -> list[Controlled]:
    """Of each trace the draft alone is used. traces: in an order that a hash decides.

    A draft for whose subset the constitution has no principle meets the checked one only. Without placebos there is
    the opposite alone to compare with.
    """
    form, seed = form_of(instructions), reviser.seed
    replaced = {placebo.name: stand_ins(placebo, instructions, form) for placebo in placebos}
    jobs: list[tuple[Revision, Instruction, Control, int, Revising]] = []
    for place, trace in enumerate(traces):
        for instruction in _drawn(place, trace, instructions, seed):
            texts: dict[Control, Revising | None] = {"text": instruction.text, "opposite": instruction.opposite}
            if replaced:
                key = (seed, trace.prompt.id, instruction.origin)
                name = min(replaced, key=lambda name, key=key: uniform("placebo", *key, name))
                texts["placebo"] = replaced[name][instruction.origin, instruction.name]
            jobs += [
                (trace, instruction, control, number, text)
                for control, text in texts.items()
                if text is not None
                for number in range(DRAWS)
            ]
    tasks = [RevisionTask(trace.prompt.id, trace.prompt.messages, trace.draft, text) for trace, *_, text in jobs]
    numbers = [number for *_, number, _ in jobs]
    critiques = reviser.critiques(tasks, [f"audit critique {number}" for number in numbers], "audit: critiques")
    revisions = reviser.revisions(
        tasks, critiques, [f"audit revision {number}" for number in numbers], "audit: revisions"
    )
    asked = bool(reviser.wording.critique)
    return [
        Controlled(
            trace.prompt.id, trace.prompt.subset, by.origin, by.name, control, number, request_of(text), trace.draft,
            (critique or None) if asked else "", (revision or None) if critique or not asked else None,
        )
        for (trace, by, control, number, text), critique, revision in zip(jobs, critiques, revisions, strict=True)
    ]  # fmt: skip


def _drawn(place: int, trace: Revision, instructions: Sequence[Instruction], seed: int) -> list[Instruction]:
    prompt, drawn = trace.prompt, []
    own = [each for each in instructions if each.origin == "constitution"]
    able = [each for each in own if not each.applies_to or prompt.subset in each.applies_to]
    if able:
        drawn += draw(able, seed=seed, key=f"audit/{prompt.id}", subset=prompt.subset)
    checked = [each for each in instructions if each.origin == "checked"]
    return [*drawn, checked[place % len(checked)]]
