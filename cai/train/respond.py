"""A policy answers prompts: for the helpfulness mix, for fresh pairs, and for the evaluation.

An answer without a word is an answer like any other, and counted: left out, a policy that has collapsed to ending its
turn at once would be judged by what is left of it. A prompt that leaves the model no room to answer is set aside, named
and counted.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.constitution import Judging, draw
from cai.core.draws import identity, pick, seed_of, uniform
from cai.core.errors import UserError
from cai.core.records import Pair, Prompt, Response, SetAside, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.core.templates import Template
from cai.core.textstats import wordless
from cai.models.chat import answered
from cai.models.engines import Reply, Request
from cai.models.loading import shared_tokenizer
from cai.models.references import ModelRef
from cai.models.workbench import Workbench
from cai.train.criteria import Scorers, Values, keyed_scorers, rewards_by
from cai.train.trainable import Draws, PromptSet, Trainable

NO_ROOM = "too long for the model"
SHOWN = 200  # characters of a prompt that is set aside


def chosen_from(prompts: PromptSet, seed: int) -> list[Prompt]:
    return pick(read_jsonl(prompts.prompts / "prompts.jsonl", Prompt), prompts.split, prompts.count, seed)


@version(2)
def respond(out: Path, work: Workbench, *, prompts: PromptSet, model: Trainable, draws: Draws) -> None:
    """responses.jsonl: one sampled answer to each of `count` prompts of one split; set_aside.jsonl and counts.json.

    The same seed for two policies gives them the same prompts and the same draws.
    """
    chosen = chosen_from(prompts, draws.seed)
    requests = [Request(prompts.asked(prompt), seed_of("respond", draws.seed, prompt.id)) for prompt in chosen]
    replies = model.engine(work).generate(requests, draws.sampling, "answers")
    responses = [
        Response(prompt.id, reply.text, model.ref.name, reply.finish)
        for prompt, reply in zip(chosen, replies, strict=True)
        if reply is not None
    ]
    write_jsonl(out / "responses.jsonl", responses)
    _count(out, chosen, replies, {})


def _count(out: Path, prompts: Sequence[Prompt], replies: Sequence[Reply | None], more: Mapping[str, int]) -> None:
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


@dataclass(frozen=True, slots=True)
class Picker:
    """The reward model, or those of all criteria, that pick the best of n answers.

    max_length: of what is read, in tokens.
    """

    reward: Scorers
    n: int
    max_length: int

    def keyed(self) -> dict[str, Any]:
        return {**keyed_scorers(self.reward), "n": self.n, "max_length": self.max_length}


@version(3)
def respond_best(
    out: Path, work: Workbench, *, prompts: PromptSet, model: Trainable, picker: Picker, draws: Draws
) -> None:
    """responses.jsonl: of n sampled answers to each prompt the one with the highest reward; also set_aside.jsonl and
    counts.json.

    The first answer is the one that `respond` samples; the others have draws of their own. An answer that the reward
    model cannot score is picked only where it can score none; then it is the first.
    Sources: Stiennon et al. 2020; Dubois et al. 2023 (AlpacaFarm).
    """
    from cai.models.score import score  # heavy: only when there is something to score

    chosen = chosen_from(prompts, draws.seed)
    seeds = [("respond", draws.seed), *(("respond", "again", number, draws.seed) for number in range(1, picker.n))]
    requests = [
        Request(prompts.asked(prompt), seed_of(*draw_seed, prompt.id)) for draw_seed in seeds for prompt in chosen
    ]
    replies = model.engine(work).generate(requests, draws.sampling, f"answers, {picker.n} a prompt")
    drawn = [[reply for reply in replies[place :: len(chosen)] if reply is not None] for place in range(len(chosen))]

    chats = [
        answered(prompt.messages, reply.text, model.policy.system)
        for prompt, mine in zip(chosen, drawn, strict=True)
        for reply in mine
    ]
    limits = {"max_length": picker.max_length, "batch_tokens": work.runtime.batch_tokens}

    def read(ref: ModelRef) -> Values:
        return score(work.reward_model(ref, model.dtype), shared_tokenizer(ref), chats, **limits)

    rewards = iter(rewards_by(picker.reward, read))
    responses, picked, unscored, first = [], [], 0, 0
    for prompt, mine in zip(chosen, drawn, strict=True):
        scored = [next(rewards) for _ in mine]
        unscored += scored.count(None)
        picked.append(None)
        if mine:
            marks = [-math.inf if mark is None else mark for mark in scored]
            best = marks.index(max(marks))
            first += best == 0
            picked[-1] = mine[best]
            responses.append(Response(prompt.id, mine[best].text, model.ref.name, mine[best].finish))
    write_jsonl(out / "responses.jsonl", responses)
    more = {"drawn": len(chats), "could not be scored": unscored, "prompts whose first answer is the best": first}
    _count(out, chosen, picked, more)


@dataclass(frozen=True, slots=True)
class Opposition:
    """With principles, one of two answers is told to keep to a drawn one and the other to go against it, both by the
    template (RLCD, Yang et al. 2023); without, both are asked plainly."""

    opposed: tuple[Judging, ...] = ()
    template: Template | None = None

    def keyed(self) -> dict[str, Any]:
        return {"opposed": self.opposed, "template": self.template}


@version(3)
def sample_pairs(
    out: Path,
    work: Workbench,
    *,
    data: Artifact,
    count: int | None,
    model: Trainable,
    draws: Draws,
    contrast: Opposition,
) -> None:
    """pairs.jsonl: two fresh answers of the latest policy to each prompt (Bai et al. 2022, section 4.1).

    Also set_aside.jsonl and counts.json. A pair in which one answer has no word is kept (that answer loses,
    cai/judge/asking.py); one in which both answers are the same is left out and counted.

    Under a contrast the pair remembers which answer was written under which instruction.
    """
    seed, opposed = draws.seed, contrast.opposed
    prompts = pick(read_jsonl(data / "prompts.jsonl", Prompt), "train", count, seed)
    prompts += pick(read_jsonl(data / "prompts.jsonl", Prompt), "test", count, seed)
    requests, prompted = [], []
    for prompt in prompts:
        a_keeps = uniform("opposed", seed, prompt.id) < 0.5
        prompted.append(float(a_keeps) if opposed else None)
        for side, keeps in (("a", a_keeps), ("b", not a_keeps)):
            chat = prompt.messages
            if contrast.template and opposed:
                (principle,) = draw(opposed, seed=seed, key=prompt.id, subset=prompt.subset)
                chat = contrast.template.render(messages=chat, principle=principle, side="for" if keeps else "against")
            requests.append(Request(chat, seed_of("pair", side, seed, prompt.id)))
    replies = model.engine(work).generate(requests, draws.sampling, "fresh pairs")
    sides = list(zip(replies[::2], replies[1::2], strict=True))
    pairs = [
        Pair(identity("pair", prompt.id, a.text, b.text), prompt, a.text, b.text, prompted=kept)
        for prompt, kept, (a, b) in zip(prompts, prompted, sides, strict=True)
        if a is not None and b is not None and a.text != b.text
    ]
    counts = {
        "pairs": len(pairs),
        "pairs with one answer without a word": sum(wordless(pair.a) or wordless(pair.b) for pair in pairs),
        "left out: both answers are the same": sum(
            a is not None and b is not None and a.text == b.text for a, b in sides
        ),
    }
    if not pairs:
        raise UserError("the policy gave no two different answers to any prompt", "pairs", "raise pairs.temperature")
    write_jsonl(out / "pairs.jsonl", pairs)
    _count(out, [prompt for prompt in prompts for _ in "ab"], replies, counts)
