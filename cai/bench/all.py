"""`python -m cai.bench all`: every benchmark that a card matters to, in one script under one budget.

    limits      how fast memory is copied and matrices are multiplied, which bounds the rest
    labels      `rate` by 1 and by 16 principles: ours, a full pass for each question, and written verdicts (labels.py)
    generation  ours, beside `model.generate` on the same prompts in the order they came in, as many rows at a time
    reward      steps of our reward trainer, beside TRL's own on the same pairs
    ppo         a rollout and its updates by our PPOTrainer, and where its time goes
    trained     a step of SFT with LoRA; read, written, static: as `cai.bench card` (card.py) has them

For SmolLM2-135M with its own weights where these are at hand (nothing is fetched), else with random ones, and for
random networks of 1.5 and 7 billion parameters in the shapes of card.py. Each part's figures are in --json FILE as soon
as they are known; a part that fails, or for which no time is left, is named with its reason and the rest goes on. The
pairs that are labelled are real ones where the package that carries them is here, else made up.

What the card has no part in (reads, live, report, refusals) and the comparison with TRL 1.12's PPO, which wants an
environment of its own (`cai.bench ppo --peer PYTHON`), are not in it. Measured on one H100: experiments/benchmarks.md.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cai.bench import card
from cai.bench.card_parts import (
    COMPILES,
    CardRun,
    Subject,
    begin_size,
    engine_over,
    random_subject,
    read,
    static,
    written,
)
from cai.bench.card_training import reward, training_parts
from cai.bench.common import MedianRange, in_order, show
from cai.bench.labels import CONSTITUTION, WRITING, measure, some_pairs, timed, votes_on
from cai.constitution import read_constitution
from cai.core.packages import PYRIT, cache_folder
from cai.core.records import Message, Pair, Prompt
from cai.models.architectures import probed
from cai.models.embedded import EMBEDDED, TINY
from cai.models.engines import Request, Sampling
from cai.models.references import find

OWN = {"135m": ("smollm2-135m", 4)}  # sizes of which there is a model -> its name, and letters of English to a token
PEER = "1.12"
PRINCIPLES = 16
PAIRS = {"tiny": 2, "135m": 16, "1.5b": 4, "7b": 2}
ROUNDS = {"tiny": 1, "135m": 3, "1.5b": 2, "7b": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    card.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """The benchmark `all`. Raises UserError for sizes that are none and a device that is not there."""
    session, sizes = card.begin(args)
    card.measure_limits(session)
    for size in sizes:
        parts_of(session, size)
        session.forget_peak()  # the network of this size is gone
    session.skipped.append(without_peer())
    print(card.page(session.found, session.skipped))


def without_peer() -> str:
    try:
        here = version("trl")
    except PackageNotFoundError:
        here = "none"
    why = "it wants an environment of its own: `cai.bench ppo --peer PYTHON`"
    return f"ppo beside TRL {PEER}: not installed here (TRL {here}); {why}"


def parts_of(session: CardRun, size: str) -> None:
    """All parts of one size, over one network; those that a budget matters least to come last."""
    subject = begin_size(session, size, subject_of)
    if subject is None:
        return
    place = session.found["sizes"][size]
    place["of"] = "random weights" if subject.ref.name == TINY else "its own weights"
    for count in (1, PRINCIPLES):
        name = f"labels {count}"
        session.part(place, name, size, lambda count=count: labels(session, subject, count))
    session.part(place, "generation", size, lambda: generation(session, subject))
    session.part(place, "read", size, lambda: read(session, subject))
    session.part(place, "written", size, lambda: written(session, subject))
    rewards(session, subject)
    training_parts(session, subject)
    if session.cuda and size == "135m":
        session.part(place, "static", size, lambda: static(session, subject), COMPILES)


# 1. What is measured --------------------------------------------------------------------------------------------------


def subject_of(session: CardRun, size: str) -> Subject:
    """The model of this size with its own weights if they are here, else a random one in its shape."""
    name, letters = OWN.get(size, ("", 0))
    if not name or not at_hand(name):
        return random_subject(session, size)
    from cai.models.loading import load_causal

    ref = find(name)
    network = load_causal(ref, session.dtype, session.device).eval()
    return Subject(size, ref, network, engine_over(session, ref, network), letters=letters)


def at_hand(name: str) -> bool:
    """Whether a model's weights are here, so that nothing has to be fetched."""
    if (cache_folder() / "models" / name / "config.json").is_file():
        return True
    carrier: Any = EMBEDDED[name].carrier
    return (cache_folder() / "packages" / f"{carrier.name}-{carrier.version}").is_dir()


def pairs_for(subject: Subject, count: int, principles: Sequence[Any]) -> tuple[list[Pair], str]:
    """(pairs of answers to `count` prompts, where they are from)."""
    engine = subject.engine

    def fits(pair: Pair) -> bool:
        asked = [q for vote in votes_on([pair], principles, "rate") for q in vote.questions]
        return max(len(engine.prompt_ids(q.chat)) for q in asked) + WRITING.max_new_tokens <= engine.limit

    if (cache_folder() / "packages" / f"{PYRIT.name}-{PYRIT.version}").is_dir():
        return some_pairs("rated-answers", count, fits), "rated-answers"
    return made_up(count), "made up"


def made_up(count: int) -> list[Pair]:
    """Pairs of the lengths that those of `rated-answers` have in the mean, with no beginning in common."""
    question = "{} How would you explain to a new neighbour what is kept behind the old town hall, and who may go in?"
    a = "{} There is a walled garden behind it, with two gates and a pond. " + "Anybody may walk in before dusk. " * 8
    b = "{} I would rather not say, because I do not know it well enough myself. " + "Ask the keeper of the gates. " * 3
    return [
        Pair(
            f"made-{k}",
            Prompt(f"made-{k}", (Message("user", question.format(k)),), "made up", "test"),
            a.format(f"{k} a"),
            b.format(f"{k} b"),
        )
        for k in range(count)
    ]


# 2. Parts -------------------------------------------------------------------------------------------------------------


def labels(session: CardRun, subject: Subject, count: int) -> dict[str, Any]:
    """Votes a second of `rate` by so many principles, beside the two other ways."""
    principles = read_constitution(CONSTITUTION).judging[:count]
    pairs, source = pairs_for(subject, PAIRS[subject.size], principles)
    votes, engine = votes_on(pairs, principles, "rate"), subject.engine
    session.forget_peak()
    for way in ("shared", "full", "written"):
        timed(engine, votes[:2], way)
    case = measure(engine, votes, "rate", count, ROUNDS[subject.size], written=16)
    engine.share = True
    full, wrote = case.ratios["full"], case.ratios["written"]
    return {
        "per_second": case.votes["shared"].median, "unit": "votes", "peak_bytes": session.peak(), "pairs": len(pairs),
        "data": source, "case": asdict(case),
        "says": f"{show(full)} x full passes, {show(wrote)} x written; differs by {case.difference:.2g}",
    }  # fmt: skip


def generation(session: CardRun, subject: Subject) -> dict[str, Any]:
    """Greedy answers to prompts of mixed lengths, two batches of them: ours beside `generate` in order of arrival."""
    rows, new, engine = subject.shape.rows, subject.new, subject.engine
    lengths = [subject.tokens // 8 * (1 + (5 * k) % 7) for k in range(2 * rows)]
    requests = [Request(subject.chat(k, length), k) for k, length in enumerate(lengths)]
    ids = [engine.prompt_ids(request.chat) for request in requests]
    texts: dict[str, list[Any]] = {}
    took: dict[str, list[float]] = {"ours": [], "theirs": []}

    def ours() -> list[str]:
        return [reply.text for reply in in_order(engine.generate(requests, Sampling(new, temperature=0)))]

    def theirs() -> list[str]:
        found: list[str] = []
        for start in range(0, len(ids), rows):
            found += _usual(subject, ids[start : start + rows])
        return found

    ways = {"ours": ours, "theirs": theirs}
    session.forget_peak()
    for way, work in ways.items():  # which chooses kernels
        texts[way] = work()
    for number in range(max(2, ROUNDS[subject.size])):
        for way in list(ways) if number % 2 == 0 else list(ways)[::-1]:
            start = session.now()
            ways[way]()
            took[way].append(session.now() - start)
    units = float(new * len(requests))
    ratio = MedianRange.of([b / a for a, b in zip(took["ours"], took["theirs"], strict=True)])
    alike = sum(a == b for a, b in zip(texts["ours"], texts["theirs"], strict=True))
    return {
        "per_second": units / MedianRange.of(took["ours"]).median, "peak_bytes": session.peak(), "seconds": took,
        "rows": rows, "new_tokens": new, "ratio": asdict(ratio), "alike": alike, "of": len(requests),
        "recorded": {name: known for name, known in probed(subject.network).items() if "recorded" in name},
        "says": f"{show(ratio)} x model.generate, {alike} of {len(requests)} texts alike",
    }  # fmt: skip


def _usual(subject: Subject, rows: Sequence[list[int]]) -> list[str]:
    """The usual loop: a padded batch, `model.generate`, the texts behind the prompts."""
    import torch
    from transformers import GenerationConfig

    from cai.models.engines.sampling import left_padded, settings_of_its_own

    pad = subject.engine.tokenizer.pad_token_id
    settings = GenerationConfig(max_new_tokens=subject.new, do_sample=False, pad_token_id=pad)
    inputs = left_padded(rows, pad, subject.network.device)
    with torch.inference_mode(), settings_of_its_own(subject.network):
        output = subject.network.generate(**inputs, generation_config=settings)
    answers = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [text.strip() for text in subject.engine.tokenizer.batch_decode(answers, skip_special_tokens=True)]


def rewards(session: CardRun, subject: Subject) -> None:
    """Our reward trainer and TRL's, each a part of its own; what ours takes of theirs stands in ours."""
    place, size = session.found["sizes"][subject.size], subject.size
    session.part(place, "reward, TRL", size, lambda: reward(session, subject, "trl"))

    def ours() -> dict[str, Any]:
        mine, other = reward(session, subject, "ours"), place.get("reward, TRL")
        if other:
            time, memory = mine["seconds"] / other["seconds"], mine["peak_bytes"] / other["peak_bytes"]
            mine["says"] = f"{time:.2f} of the time and {memory:.2f} of the memory of TRL's"
        return mine

    session.part(place, "reward", size, ours)
