"""A policy answers prompts: for the helpfulness mix, for fresh pairs, and for the evaluation."""

from pathlib import Path

from cai.constitution import Judging, draw
from cai.data import identity, pick, seed_of, uniform
from cai.engines import Request, Sampling
from cai.errors import UserError
from cai.models import Dtype, Source
from cai.records import Pair, Prompt, Response, Split, read_jsonl, write_jsonl
from cai.settings import Policy
from cai.store import Artifact, version
from cai.templates import Template
from cai.workbench import Workbench


@version(1)
def respond(
    out: Path,
    work: Workbench,
    *,
    prompts: Artifact,
    split: Split,
    count: int | None,
    model: Source,
    policy: Policy,
    sampling: Sampling,
    dtype: Dtype,
    seed: int,
) -> None:
    """responses.jsonl: one sampled answer to each of `count` prompts of one split.

    The same seed for two policies gives them the same prompts and the same draws.
    """
    chosen = pick(read_jsonl(prompts / "prompts.jsonl", Prompt), split, count, seed)
    engine = work.engine(model, dtype=dtype, system=policy.system)
    requests = [Request(prompt.messages, seed_of("respond", seed, prompt.id)) for prompt in chosen]
    replies = engine.generate(requests, sampling, "answers")
    write_jsonl(
        out / "responses.jsonl",
        [
            Response(prompt.id, reply.text, model.name, reply.finish)
            for prompt, reply in zip(chosen, replies, strict=True)
            if reply and reply.text
        ],
    )


@version(2)
def sample_pairs(
    out: Path,
    work: Workbench,
    *,
    data: Artifact,
    count: int | None,
    model: Source,
    policy: Policy,
    sampling: Sampling,
    opposed: tuple[Judging, ...],
    template: Template | None,
    dtype: Dtype,
    seed: int,
) -> None:
    """pairs.jsonl: two fresh answers of the latest policy to each prompt (Bai et al. 2022, section 4.1).

    opposed: with principles, one of the two is told to keep to a drawn one and the other to go against it (by the
    template), and the pair remembers which was which (RLCD, Yang et al. 2023).
    """
    prompts = pick(read_jsonl(data / "prompts.jsonl", Prompt), "train", count, seed)
    prompts += pick(read_jsonl(data / "prompts.jsonl", Prompt), "test", count, seed)
    engine = work.engine(model, dtype=dtype, system=policy.system)
    requests, prompted = [], []
    for prompt in prompts:
        a_keeps = uniform("opposed", seed, prompt.id) < 0.5
        prompted.append(float(a_keeps) if opposed else None)
        for side, keeps in (("a", a_keeps), ("b", not a_keeps)):
            chat = prompt.messages
            if template and opposed:
                (principle,) = draw(opposed, seed=seed, key=prompt.id, subset=prompt.subset)
                chat = template.render(messages=chat, principle=principle, side="for" if keeps else "against")
            requests.append(Request(chat, seed_of("pair", side, seed, prompt.id)))
    replies = engine.generate(requests, sampling, "fresh pairs")
    pairs = [
        Pair(identity("pair", prompt.id, a.text, b.text), prompt, a.text, b.text, prompted=told)
        for prompt, told, a, b in zip(prompts, prompted, replies[::2], replies[1::2], strict=True)
        if a and b and a.text and b.text and a.text != b.text
    ]
    if not pairs:
        raise UserError("the policy gave no two different answers to any prompt", "pairs", "raise pairs.temperature")
    write_jsonl(out / "pairs.jsonl", pairs)
