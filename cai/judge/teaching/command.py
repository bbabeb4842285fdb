"""`python -m cai.judge train --out FOLDER`: a judge is taught to read, on lessons whose truth is computed.

    a model answers requests of our own  ->  lessons (cai/judge/teaching/)  ->  LoRA on the log-odds of `channel`  ->
                                         an exam

No human label goes in: the lessons' pairs are made by rules and by the model, and rules say which answer a standard
prefers. FOLDER then holds the adapter (`judge: {model: FOLDER, method: channel}`), exam.json with the marks along the
way, and losses.csv.
"""

import argparse
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.config.runtime import Runtime
from cai.core.draws import seed_of
from cai.core.durable import make_folders
from cai.core.errors import UserError
from cai.core.progress import progress
from cai.core.records import plain
from cai.core.refusals import declines
from cai.core.shipped import HOME
from cai.judge.common import count
from cai.judge.reads.command import columns
from cai.judge.reads.verdict import number, percent
from cai.judge.teaching.exam import Marks, draw_question, mark, part_of
from cai.judge.teaching.lessons import Lesson, LessonPrompt, draw_lesson, requests
from cai.judge.teaching.principles import Part
from cai.models.architectures import lora
from cai.models.engines import Request as Call
from cai.models.engines import Sampling
from cai.models.engines.cached import CachedEngine
from cai.models.loading import load_causal, load_tokenizer, pick_dtype, save
from cai.models.references import find
from cai.models.workbench import Workbench

if TYPE_CHECKING:
    from cai.judge.teaching.learn import Teaching

EVERYDAY = "experiments/data/helpful.jsonl"  # its training prompts; no answer to them, and no label, is in it
SAMPLING = Sampling(220, 0.8)  # as long as the answers that people rate: on 80 tokens a judge learnt half as much
SAMPLES = 3
BATCH_TOKENS = 24_576  # of answers that are written side by side: wider than elsewhere, since all prompts are short
SYSTEM = "You are a helpful assistant."
# What a model's unwilling answer begins with: lessons need to know whether an answer helps.
UNWILLING = re.compile(r"\b(can't|cannot|sorry|unable|won't|not able)\b", re.IGNORECASE)
LOOKS = 4  # how often the exam is sat along the way, and once before

Sampled = dict[LessonPrompt, tuple[str, ...]]
Curve = list[tuple[int, Marks, Marks]]  # lessons so far; marks as a judge is asked, and by a standard alone


def add_command(commands: Any) -> None:
    """commands: what argparse's `add_subparsers` returned."""
    train = commands.add_parser("train", help="teach a judge to read, on lessons that nobody labelled")
    train.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the taught judge goes")
    train.add_argument("--model", default="smollm2-135m", help="what is taught: an embedded name, a folder, a hub id")
    train.add_argument("--lessons", type=int, help="pairs of answers, each under several standards")
    train.add_argument("--questions", type=int, default=200, help="pairs of the exam")
    train.add_argument("--rank", type=int, help="of the LoRA adapter")
    train.add_argument("--layers", type=int, help="how many of the last layers are taught")
    train.add_argument("--learning-rate", type=float)
    train.add_argument("--seed", type=int, default=0, help="of the answers, the lessons and the adapter")
    train.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    train.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ...")
    train.add_argument("--cache", default="runs", metavar="FOLDER", help="where the sampled answers are kept")
    train.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    from cai.judge.teaching.learn import Teaching

    # 1. Everything that can be wrong is found before a model is loaded.
    given = {"lessons": args.lessons, "rank": args.rank, "layers": args.layers, "learning_rate": args.learning_rate}
    for name in ("lessons", "questions", "rank", "layers"):
        if getattr(args, name) is not None:
            count(getattr(args, name), f"--{name}")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UserError("this folder is not empty, and nothing is overwritten", str(args.out), "name another --out")
    teaching = Teaching(**{name: value for name, value in given.items() if value is not None})
    source = find(args.model)
    work = Workbench.open(Runtime(root=args.cache, device=args.device, batch_tokens=BATCH_TOKENS))
    dtype = pick_dtype(args.dtype, work.device)

    # 2. Answers to requests of our own, and what is taught and asked about them.
    sampled = sample_answers(work.engine(source, dtype=dtype, system=SYSTEM), args.seed)
    work.release()
    lessons = [
        draw_lesson(n, "train", sampled["train"], teaching.standards, args.seed, teaching.plain(n))
        for n in range(teaching.lessons)
    ]
    questions = [draw_question(n, "test", sampled["test"], args.seed) for n in range(args.questions)]

    # 3. Teach, and look along the way.
    tokenizer = load_tokenizer(source)
    model = adapted(load_causal(source, dtype, work.device), teaching, args.seed)
    start = time.perf_counter()
    curve, losses = taught(model, tokenizer, lessons, questions, teaching)
    make_folders(args.out)
    save(model, tokenizer, args.out)
    report = {"model": args.model, "weights": source.digest, "teaching": teaching, "seed": args.seed, "dtype": dtype}
    report["seconds"] = round(time.perf_counter() - start)
    report["curve"] = [{"lessons": n, "marks": marks, "alone": alone} for n, marks, alone in curve]
    (args.out / "exam.json").write_text(json.dumps(plain(report), indent=1) + "\n")
    (args.out / "losses.csv").write_text("batch,loss\n" + "".join(f"{n},{x:.4f}\n" for n, x in enumerate(losses, 1)))

    # 4. Say what it learnt.
    print(f"{args.model}, taught {len(lessons)} pairs in {report['seconds']} s; the exam has {len(questions)} pairs,")
    print("with principles, wordings and answers that were in no lesson\n")
    print("\n".join(page(curve)))
    print(f"\nuse it: judge: {{model: {args.out}, method: channel}}")
    return 0


def sample_answers(engine: CachedEngine, seed: int) -> dict[Part, Sampled]:
    """What the model answers to the requests of requests.yaml and to everyday ones; unwilling answers to the former are
    left out, since a lesson must know that an answer helps."""
    rows = [json.loads(line) for line in (HOME / EVERYDAY).read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["split"] == "train"]
    everyday = part_of([LessonPrompt(row["messages"][0]["content"]) for row in rows])
    asked = [*requests(), *everyday[0], *everyday[1]]
    calls = [Call(request.chat, seed_of("lesson", seed, request.text, k)) for request in asked for k in range(SAMPLES)]
    replies = engine.generate(calls, SAMPLING, "answers for lessons")
    sampled: dict[Part, Sampled] = {"train": {}, "test": {}}
    for place, request in enumerate(asked):
        texts = [reply.text for reply in replies[place * SAMPLES : (place + 1) * SAMPLES] if reply and reply.text]
        unwilling = [bool(request.area) and (declines(text) or bool(UNWILLING.search(text[:150]))) for text in texts]
        sampled[request.part][request] = tuple(text for text, no in zip(texts, unwilling, strict=True) if not no)
    return sampled


def adapted(model: Any, teaching: "Teaching", seed: int) -> Any:
    """The model with a fresh adapter, drawn from the seed, on its last layers."""
    import torch
    from peft import get_peft_model

    torch.manual_seed(seed)
    return get_peft_model(model, lora(model, teaching.rank, teaching.layers), autocast_adapter_dtype=False)


def taught(
    model: Any, tokenizer: Any, lessons: Sequence[Lesson], questions: Sequence[Lesson], teaching: "Teaching"
) -> tuple[Curve, list[float]]:
    """(marks along the way, the loss of each batch)."""
    from cai.judge.teaching.learn import examine, learn

    def sit() -> tuple[Marks, Marks]:
        model.eval()
        marks = [mark(questions, odds) for odds in examine(model, tokenizer, questions, teaching.batch)]
        model.train()
        return marks[0], marks[1]

    curve: Curve = [(0, *sit())]
    batches = -(-len(lessons) // teaching.batch)
    looks = {round(batches * (look + 1) / LOOKS): None for look in range(LOOKS)}
    with progress("teach", len(lessons)) as step:

        def after(done: int, size: int) -> None:
            step(size)
            if done in looks:
                curve.append((min(done * teaching.batch, len(lessons)), *sit()))

        losses = learn(model, tokenizer, lessons, teaching, after)
    return curve, losses


def page(curve: Curve) -> list[str]:
    """The learning curve, and how each principle of the exam did in the end.

    Turn and share are those of one side alone: asked about both, any judge turns with a principle's opposite.
    """
    rows = [["lessons", "right on unseen principles", "one side alone: right", "turn", "share", "agrees when negated"]]
    rows += [
        [str(n), percent(m.accuracy), percent(alone.accuracy), number(alone.effect.turn), percent(alone.effect.share),
         percent(alone.effect.agreement["negated"])]
        for n, m, alone in curve
    ]  # fmt: skip
    last = curve[-1][1].by_principle
    order = sorted(last, key=lambda name: -last[name][0] / last[name][1])
    return [*columns(rows), "", "by principle: " + ", ".join(f"{n} {last[n][0]}/{last[n][1]}" for n in order)]
