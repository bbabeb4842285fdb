"""A policy answers prompts: for the helpfulness mix, for fresh pairs, and for the evaluation.

An answer without a word is an answer like any other, and counted: left out, a policy that has collapsed to ending its
turn at once would be judged by what is left of it. A prompt that leaves the model no room to answer is set aside, named
and counted.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.constitution import Judging, draw
from cai.core.draws import identity, pick, seed_of, uniform
from cai.core.errors import UserError
from cai.core.records import Pair, Prompt, Response, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.core.templates import Template
from cai.core.textstats import wordless
from cai.models.chat import answered
from cai.models.engines import Request
from cai.models.loading import shared_tokenizer
from cai.models.references import ModelRef
from cai.models.workbench import Workbench
from cai.train.answers_file import chosen_from, count_answers, draw_several, write_best
from cai.train.criteria import Scorers, Values, keyed_scorers, rewards_by
from cai.train.trainable import Draws, PromptSet, Trainable


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
    count_answers(out, chosen, replies, {})


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

    An answer that the reward model cannot score is picked only where it can score none; then it is the first.
    Sources: Stiennon et al. 2020; Dubois et al. 2023 (AlpacaFarm).
    """
    from cai.models.score import score  # heavy: only when there is something to score

    chosen, drawn = draw_several(work, prompts, model, picker.n, draws)
    chats = [
        answered(prompt.messages, reply.text, model.policy.system)
        for prompt, mine in zip(chosen, drawn, strict=True)
        for reply in mine
    ]
    limits = {"max_length": picker.max_length, "batch_tokens": work.runtime.batch_tokens}

    def read(ref: ModelRef) -> Values:
        return score(work.reward_model(ref, model.dtype), shared_tokenizer(ref), chats, **limits)

    rewards = iter(rewards_by(picker.reward, read))
    write_best(out, model, chosen, drawn, [[next(rewards) for _ in mine] for mine in drawn])


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
    count_answers(out, [prompt for prompt in prompts for _ in "ab"], replies, counts)
