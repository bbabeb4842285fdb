"""`python -m cai.bench revise`: how many tokens of drafts, critiques and revisions a second, beside `model.generate`.

    ours      what stages call: the engine in process, given all requests at once (cai/models/engines/transformers.py)
    generate  the usual script: requests in the order in which they come, --batch at a time, left-padded, through
              transformers' own `generate`
    served    with --llama: a llama.cpp server of the same model (`runtime: {serve: llama.cpp}`). Its weights have 4
              bits, so it writes other words, and only its pace is compared.

All answer the same requests greedily: of real prompts first drafts, then critiques of those by principles that are
drawn for each, then revisions, in the words of the stage `revise` (--examples: behind worked rounds, which ours reads
once a batch). Ours is given the room of the other's largest batch: its batches hold no more tokens. Tokens are those of
the texts; how many texts are the same is printed (in float32 all are; in bfloat16 other batches round otherwise).
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from tempfile import TemporaryDirectory
from typing import Any

from cai.bench.common import MedianRange, Ratio, TimedTurn, in_order, open_engine, positive, show, take_turns
from cai.config.runtime import Runtime
from cai.config.sections import Data, Revise
from cai.config.serve import OwnServer, Serve
from cai.constitution import Revising, draw, read_constitution
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Prompt
from cai.data.sources import read_source
from cai.models.engines import Reply, Request, Sampling
from cai.models.engines.spending import Spending
from cai.models.references import find_served
from cai.models.serving import addressed, check_program, nothing_to_serve, start_own
from cai.train.revising import RevisionTask, critique_chat, revision_chat, wording_of

CONSTITUTION = "constitutions/harmless.txt"
KINDS = ("drafts", "critiques", "revisions")
Engine = Any  # cai.models.engines.transformers.TransformersEngine, which is heavy to import


@dataclass(frozen=True, slots=True)
class KindWritten:
    """One kind of text. pace: tokens a second, by way. ratio: seconds of `generate` in those of ours; served: in those
    of llama.cpp's, by the pace. same: of how many texts both ways are alike. ended: the share of texts that end by
    themselves; tokens: of all texts of ours."""

    kind: str
    texts: int
    tokens: int
    ended: float
    pace: dict[str, MedianRange]
    ratio: Ratio
    same: int


# 1. What is written ---------------------------------------------------------------------------------------------------


def some_prompts(source: str, count: int, fits: Callable[[Prompt], bool]) -> list[Prompt]:
    """`count` prompts, drawn by hash, which is the order in which they come. Raises UserError where there are fewer."""
    prompts = read_source(Data(source=source, max_words=160), seed=0).prompts.values()
    chosen = [prompt for prompt in sorted(prompts, key=lambda p: uniform("bench", p.id)) if fits(prompt)][:count]
    if len(chosen) < count:
        raise UserError(
            f"there are only {len(chosen)} prompts that are short enough", source, "ask for fewer --prompts"
        )
    return chosen


def requests_of(
    kind: str,
    prompts: Sequence[Prompt],
    drafts: Sequence[str],
    critiques: Sequence[str],
    by: Sequence[Revising],
    examples: str | None = None,
) -> list[Request]:
    """As the stage `revise` asks for them. drafts, critiques: as far as they are there; examples: `revise.examples`."""
    if kind == "drafts":
        return [Request(prompt.messages, seed=0) for prompt in prompts]
    wording = wording_of(Revise(examples=examples))
    tasks = [
        RevisionTask(prompt.id, prompt.messages, draft, principle)
        for prompt, draft, principle in zip(prompts, drafts, by, strict=True)
    ]
    if kind == "critiques":
        return [Request(critique_chat(wording, task), seed=0) for task in tasks]
    return [Request(revision_chat(wording, task, said), seed=0) for task, said in zip(tasks, critiques, strict=True)]


# 2. The ways ----------------------------------------------------------------------------------------------------------


def by_engine(engine: Engine, requests: Sequence[Request], sampling: Sampling) -> list[Reply | None]:
    return in_order(engine.generate(requests, sampling))


def by_generate(engine: Engine, requests: Sequence[Request], sampling: Sampling, batch: int) -> list[Reply]:
    """transformers' own way: no sorting, one batch after another."""
    import torch

    from cai.models.engines.sampling import reply_of

    tokenizer, model, replies = engine.tokenizer, engine.model, []
    ids = [engine.prompt_ids(request.chat) for request in requests]
    for start in range(0, len(ids), batch):
        inputs = tokenizer.pad({"input_ids": ids[start : start + batch]}, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            output_BT = model.generate(
                **inputs.to(model.device), max_new_tokens=sampling.max_new_tokens, do_sample=False,
                eos_token_id=sorted(engine.stop_ids), pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        for row in output_BT[:, inputs["input_ids"].shape[1] :].tolist():
            end = next((place + 1 for place, token in enumerate(row) if token in engine.stop_ids), len(row))
            replies.append(reply_of(tokenizer, row[:end], engine.stop_ids))
    return replies


@contextmanager
def llama(name: str, dtype: Any, args: argparse.Namespace) -> Iterator[Any]:
    """A llama.cpp server's engine, while it is up. Raises UserError where it is not installed or has no such model."""
    from cai.models.engines import server

    serve = Serve(engine="llama.cpp")
    check_program(serve)
    model = find_served(name, OwnServer(name=name, serve=serve))
    if model.server is None:
        nothing_to_serve(serve)
    with TemporaryDirectory() as root:
        runtime = Runtime(device=args.device, threads=args.threads, concurrency=args.batch, root=root)
        running = start_own(model, dtype, runtime)
        try:
            yield server.open_engine(
                addressed(model, running), dtype=dtype, system=None, device=args.device, runtime=runtime,
                spending=Spending.of(runtime),
            )  # fmt: skip
        finally:
            running.stop()


# 3. Measuring ---------------------------------------------------------------------------------------------------------


def measure(
    kind: str, engine: Engine, requests: Sequence[Request], sampling: Sampling, batch: int, rounds: int, served: Any
) -> tuple[KindWritten, list[Reply]]:
    """Every way, taking turns; also what ours wrote."""
    longest = max(len(engine.prompt_ids(request.chat)) for request in requests) + sampling.max_new_tokens
    engine.batch_tokens = batch * longest
    ways: dict[str, Callable[[], list[Any]]] = {
        "ours": lambda: by_engine(engine, requests, sampling),
        "generate": lambda: by_generate(engine, requests, sampling, batch),
    }
    if served:
        ways["served"] = lambda: by_engine(served, requests, sampling)
    took = take_turns(ways, rounds, kind)
    ours, theirs = took["ours"][-1].result, took["generate"][-1].result
    written = KindWritten(
        kind=kind,
        texts=len(requests),
        tokens=tokens_in(engine, ours),
        ended=sum(reply.finish == "stop" for reply in ours) / len(ours),
        pace={name: MedianRange.of([pace(engine, turn) for turn in turns]) for name, turns in took.items()},
        ratio=Ratio.of(took["generate"], took["ours"]),
        same=sum(one.text == other.text for one, other in zip(ours, theirs, strict=True)),
    )
    return written, ours


def tokens_in(engine: Engine, replies: Sequence[Reply]) -> int:
    """Of the texts, and one for each that ended by itself."""
    ids = engine.tokenizer([reply.text for reply in replies], add_special_tokens=False)["input_ids"]
    return sum(map(len, ids)) + sum(reply.finish == "stop" for reply in replies)


def pace(engine: Engine, turn: TimedTurn) -> float:
    return tokens_in(engine, turn.result) / turn.seconds


def measure_all(args: argparse.Namespace, engine: Engine, served: Any) -> list[KindWritten]:
    principles = read_constitution(CONSTITUTION).revising
    sampling = Sampling(args.tokens, temperature=0)

    def fits(prompt: Prompt) -> bool:  # with room for a draft, a critique and what asks for them
        return len(engine.prompt_ids(prompt.messages)) <= engine.limit // 4

    prompts = some_prompts(args.data, args.prompts, fits)
    drawn = [draw(principles, seed=0, key=prompt.id, subset=prompt.subset)[0] for prompt in prompts]
    by_engine(engine, requests_of("drafts", prompts[:2], [], [], []), Sampling(4, temperature=0))  # untimed
    texts: dict[str, list[str]] = {"drafts": [], "critiques": []}
    found = []
    for kind in KINDS:
        requests = requests_of(kind, prompts, texts["drafts"], texts["critiques"], drawn, args.examples)
        written, replies = measure(kind, engine, requests, sampling, args.batch, args.rounds, served)
        texts[kind] = [reply.text for reply in replies]
        found.append(written)
    return found


# 4. The program -------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", default="rated-answers", help="where the prompts come from: as `data.source` in a config"
    )
    parser.add_argument("--prompts", type=positive, default=24)
    parser.add_argument("--batch", type=positive, default=8, help="rows of a batch (default: 8)")
    parser.add_argument("--tokens", type=positive, default=48, help="of a text, at most (default: 48)")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--examples", help="worked rounds before each, as `revise.examples`: a file")
    parser.add_argument("--llama", action="store_true", help="also a llama.cpp server (pip install xllamacpp)")


def run(args: argparse.Namespace) -> None:
    """The benchmark `revise`."""
    engine, about = open_engine(args)
    about |= {"data": args.data, "prompts": args.prompts, "batch": args.batch, "tokens": args.tokens}
    about |= {"examples": args.examples} if args.examples else {}
    if args.llama:
        with llama(args.model, about["dtype"], args) as served:
            found = measure_all(args, engine, served)
    else:
        found = measure_all(args, engine, None)
    about |= {"rounds": args.rounds}
    if args.json:
        print(json.dumps(about | {"kinds": [asdict(written) for written in found]}, indent=1))
    else:
        print("\n".join(page(about, found)))


def page(about: Mapping[str, Any], found: Sequence[KindWritten]) -> list[str]:
    lines = [", ".join(f"{name} {value}" for name, value in about.items())]
    for written in found:
        ended = f"{written.ended:.0%} end by themselves"
        lines += ["", f"{written.kind}: {written.texts} texts, {written.tokens} tokens, {ended}"]
        lines += [f"  {name:9}{show(pace):>22} tokens/s" for name, pace in written.pace.items()]
        quick, cpu = show(written.ratio.clock), show(written.ratio.cpu)
        lines.append(f"  ours is {quick} times as quick as generate (in CPU seconds {cpu})")
        lines.append(f"  the same text: {written.same} of {written.texts}")
    return lines
