"""What every stage of answers does alike: the prompts it draws, the answers of which one is picked, what it leaves."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from cai.core.draws import pick, seed_of
from cai.core.records import Prompt, Response, SetAside, read_jsonl, write_jsonl
from cai.core.textstats import wordless
from cai.models.engines import Reply, Request
from cai.models.workbench import Workbench
from cai.train.criteria import Values
from cai.train.trainable import Draws, PromptSet, Trainable

NO_ROOM = "too long for the model"
SHOWN = 200  # characters of a prompt that is set aside


def chosen_from(prompts: PromptSet, seed: int) -> list[Prompt]:
    return pick(read_jsonl(prompts.prompts / "prompts.jsonl", Prompt), prompts.split, prompts.count, seed)


def count_answers(
    out: Path, prompts: Sequence[Prompt], replies: Sequence[Reply | None], more: Mapping[str, int]
) -> None:
    """counts.json, and set_aside.jsonl with the prompts that could not be answered. replies: each to its prompt."""
    left = {prompt.id: prompt for prompt, reply in zip(prompts, replies, strict=True) if reply is None}
    aside = [SetAside(f"prompt {name}", NO_ROOM, prompt.messages[-1].content[:SHOWN]) for name, prompt in left.items()]
    write_jsonl(out / "set_aside.jsonl", aside)
    counts = {
        "prompts asked": len({prompt.id for prompt in prompts}),
        "answers without a word": sum(reply is not None and wordless(reply.text) for reply in replies),
        f"prompts set aside: {NO_ROOM}": len(left),
    }
    (out / "counts.json").write_text(json.dumps({**counts, **more}, indent=1))


def draw_several(
    work: Workbench, prompts: PromptSet, model: Trainable, n: int, draws: Draws
) -> tuple[list[Prompt], list[list[Reply]]]:
    """The prompts, and up to n answers to each. The first is the one that `respond` samples; the others have draws of
    their own."""
    chosen = chosen_from(prompts, draws.seed)
    seeds = [("respond", draws.seed), *(("respond", "again", number, draws.seed) for number in range(1, n))]
    requests = [
        Request(prompts.asked(prompt), seed_of(*draw_seed, prompt.id)) for draw_seed in seeds for prompt in chosen
    ]
    replies = model.engine(work).generate(requests, draws.sampling, f"answers, {n} a prompt")
    return chosen, [
        [reply for reply in replies[place :: len(chosen)] if reply is not None] for place in range(len(chosen))
    ]


def write_best(
    out: Path, model: Trainable, prompts: Sequence[Prompt], drawn: Sequence[Sequence[Reply]], marks: Sequence[Values]
) -> None:
    """responses.jsonl, set_aside.jsonl and counts.json: of the answers to each prompt the one with the highest mark,
    the first of several. marks: None for an answer that has none."""
    responses, picked, first = [], [], 0
    for prompt, mine, scored in zip(prompts, drawn, marks, strict=True):
        picked.append(None)
        if mine:
            known = [-math.inf if mark is None else mark for mark in scored]
            best = known.index(max(known))
            first += best == 0
            picked[-1] = mine[best]
            responses.append(Response(prompt.id, mine[best].text, model.ref.name, mine[best].finish))
    write_jsonl(out / "responses.jsonl", responses)
    more = {
        "drawn": sum(map(len, drawn)),
        "could not be scored": sum(mark is None for scored in marks for mark in scored),
        "prompts whose first answer is the best": first,
    }
    count_answers(out, prompts, picked, more)
