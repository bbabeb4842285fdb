"""A smaller judge learns to say what the whole one says: of pairs that nobody need have labelled.

    1. Ask the whole judge (the teacher) about training pairs, as it labels: its log-probabilities are the labels.
    2. Ask the smaller one (the student) the same, and lower the forward KL divergence from the teacher's distribution
       to its own (Hinton et al. 2015). Of a method with options (`rate`, `choice`, `score`) it is the distribution over
       a question's options and everything else that could be said; of one that asks how likely texts are (`contrast`,
       `channel`), the vote: P(a better).
    3. All weights of the linear layers learn but those that pruning made 0, which stay 0. Save, load again, compare.

`context: false` is context distillation (Askell et al. 2021): the teacher reads the principles and the student does
not. Departs from it in that judgements are distilled instead of answers, over the few options of a question instead of
the likeliest tokens of a text; the teacher is asked once about each principle, and what the student comes to say is
their mean.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from cai.config.slim import Distil, Slim
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.progress import progress
from cai.core.records import Pair, Vote
from cai.core.store import canonical
from cai.judge.asked import AskedJudge
from cai.judge.asking import ask_once, ballots_for
from cai.judge.ballots import Ballot
from cai.judge.methods import METHODS
from cai.judge.slimming.acceptance import without_principles
from cai.models.chat import chat_ids
from cai.models.engines.transformers import TransformersEngine
from cai.models.loading import load_tokenizer, save
from cai.models.references import Dtype, ModelRef
from cai.models.slim.folder import write_note
from cai.models.slim.make import TEXT, check_saved, in_dtype, stored_dtype, whole
from cai.models.slim.state import check_distilling, slimmed
from cai.models.workbench import Workbench

LOOKED_AT = 1 / 8  # of the prompts: their pairs are not learnt from
WARMUP = 0.1  # of the steps


@dataclass(frozen=True, slots=True)
class TaughtVote:
    """A vote as the student is asked for it, and the teacher's log-probabilities of each question's options."""

    ballot: Ballot
    teacher: tuple[tuple[float, ...], ...]


Lessons = tuple[list[list[TaughtVote]], list[list[TaughtVote]]]  # to learn from, to look at: the votes of each pair


@dataclass(frozen=True, slots=True)
class Distilled:
    """pairs, steps: learnt from, and of the optimizer. looked_at: pairs that were not learnt from; before, after: the
    student's divergence from the teacher on them, nats a vote."""

    pairs: int
    steps: int
    looked_at: int
    before: float
    after: float


def distil(
    work: Workbench, judge: AskedJudge, student: ModelRef, slim: Slim, pairs: Sequence[Pair], out: Path
) -> Distilled:
    """Leaves the taught student in a folder at `out`, as `slim.make.slim` does.

    judge: the teacher, as it is asked. student: a smaller model made of its, or its own (`slim.how: distil`). pairs: to
    learn from; what people said of them is not read. Raises UserError for a student that cannot be trained, where too
    few pairs could be read, and for a save that does not come back.
    """
    assert slim.distil
    check_distilling(student)
    lessons = lessons_for(work, judge, slim.distil, pairs)
    work.release()

    network = whole(student, work.device)
    engine = TransformersEngine(
        student, dtype="float32", device=work.device, system=judge.settings.system,
        batch_tokens=work.runtime.batch_tokens, resident=_Loaded(network),  # pyrefly: ignore
    )  # fmt: skip
    made = learn(engine, lessons, slim.distil, judge.dtype)
    _save(network, student, slim, judge, made, out)
    return made


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The network that is trained, for an engine to ask: what `Resident` is to others."""

    network: Any

    def causal(self, ref: ModelRef, dtype: Dtype) -> Any:
        return self.network


# 1. What is learnt ----------------------------------------------------------------------------------------------------


def lessons_for(work: Workbench, judge: AskedJudge, how: Distil, pairs: Sequence[Pair]) -> Lessons:
    """(to learn from, to look at): the votes of each pair. Raises UserError where one of the two is empty."""
    drawn = sorted(pairs, key=lambda pair: uniform("distil", judge.seed, pair.id))[: how.pairs]
    asked = ballots_for(drawn, judge)
    student = judge if how.context else replace(judge, principles=without_principles(judge.principles))
    put = asked if how.context else ballots_for(drawn, student)
    questions = [question for ballots in asked for ballot in ballots for question in ballot.questions]
    readings = ask_once(judge.engine(work), questions, judge.settings, "distil: the whole judge")
    prompts = list(dict.fromkeys(pair.prompt.id for pair in drawn))
    looked_at = set(prompts[: max(1, int(len(prompts) * LOOKED_AT))])
    parts: Lessons = [], []
    for pair, ballots, same in zip(drawn, asked, put, strict=True):
        read = [[readings[question] for question in ballot.questions] for ballot in ballots]
        votes = [
            TaughtVote(mine, tuple(reading.logprobs for reading in of if reading))
            for mine, of in zip(same, read, strict=True)
            if of and all(reading and not reading.fault for reading in of)
        ]
        if votes:
            parts[pair.prompt.id in looked_at].append(votes)
    if not all(parts):
        problem = f"the judge could be read on too few of {len(drawn)} training pairs to be distilled"
        raise UserError(problem, "slim.distil.pairs", "give more pairs, of more prompts")
    return parts


# 2. How far apart -----------------------------------------------------------------------------------------------------


def divergence(lesson: TaughtVote, student: Sequence[Tensor]) -> Tensor:
    """KL(teacher || student) of a vote, in nats, the mean over its questions. student: its log-probabilities."""
    method = METHODS[lesson.ballot.method]
    if method.options:
        own = [of_options(torch.tensor(t, device=s.device), s) for t, s in zip(lesson.teacher, student, strict=True)]
        return torch.stack(own).mean()
    odds = [
        method.log_odds(Vote(lesson.ballot.method, "", lesson.ballot.order, p_a=0.5, mass=1.0, logprobs=tuple(values)))  # pyrefly: ignore
        for values in ((value for of in lesson.teacher for value in of), torch.cat(list(student)))
    ]
    return of_votes(torch.as_tensor(odds[0], device=student[0].device), odds[1])  # pyrefly: ignore


def of_options(teacher_K: Tensor, student_K: Tensor) -> Tensor:
    """Over K options that exclude one another and all else that could be said. Log-probabilities in, nats out."""
    teacher, student = (torch.cat([logp_K, _rest(logp_K)]) for logp_K in (teacher_K, student_K))
    return (teacher.exp() * (teacher - student)).sum()


def of_votes(teacher: Tensor, student: Tensor) -> Tensor:
    """Between two P(a better), given their log-odds. Nats."""
    p = teacher.sigmoid().float()
    return cross_entropy(student.float(), p) - cross_entropy(teacher.float(), p)


def _rest(logp_K: Tensor) -> Tensor:
    """log(1 - the sum of the probabilities), (1,); rounding may bring that sum to 1."""
    return torch.log1p(-logp_K.exp().sum().clamp(max=1 - 1e-6))[None]


# 3. Learning ----------------------------------------------------------------------------------------------------------


def learn(
    engine: TransformersEngine,
    lessons: tuple[list[list[TaughtVote]], list[list[TaughtVote]]],
    how: Distil,
    dtype: Dtype,
) -> Distilled:
    """Trains `engine.model` in place; its weights are float32. dtype: in which it computes while it learns.

    A pair's votes are read and their gradients taken before the next pair's: memory does not grow with the batch.
    """
    to_learn, to_look_at = lessons
    weights = trainable(engine.model)
    kept = [None if bool(weight.all()) else weight != 0 for weight in weights]
    optimizer = torch.optim.AdamW(weights, lr=how.learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
    batches = [
        to_learn[start : start + how.batch_size]
        for _ in range(how.epochs)
        for start in range(0, len(to_learn), how.batch_size)
    ]
    before = apart(engine, to_look_at)
    with progress("distil", len(batches)) as step, _frozen_but(engine.model, weights):
        for number, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = how.learning_rate * schedule((number + 1) / len(batches))
            for votes in batch:
                with _computing_in(dtype, engine.device):
                    loss = _of_pair(engine, votes) / len(batch)
                loss.backward()
            for weight, mask in zip(weights, kept, strict=True):
                if mask is not None and weight.grad is not None:
                    weight.grad.mul_(mask)
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step(1)
    return Distilled(len(to_learn), len(batches), len(to_look_at), before, apart(engine, to_look_at))


def _of_pair(engine: TransformersEngine, votes: Sequence[TaughtVote]) -> Tensor:
    each = iter(engine.option_log_probs([question for lesson in votes for question in lesson.ballot.questions]))
    own = [[next(each) for _ in lesson.ballot.questions] for lesson in votes]
    return torch.stack([divergence(lesson, read) for lesson, read in zip(votes, own, strict=True)]).mean()


@torch.no_grad()
def apart(engine: TransformersEngine, lessons: Sequence[Sequence[TaughtVote]]) -> float:
    """The mean divergence of the pairs' votes, in nats, in the model's own dtype."""
    return math.fsum(float(_of_pair(engine, votes)) for votes in lessons) / len(lessons)


def trainable(network: Any) -> list[Tensor]:
    """The matrices of the linear layers, thin ones as well; embedding, norms and head stay as they are."""
    head = network.get_output_embeddings()
    return [m.weight for m in network.modules() if isinstance(m, nn.Linear) and m is not head]


def schedule(done: float) -> float:
    """What the learning rate is multiplied by: up over the first tenth of the steps, then down to nothing."""
    return done / WARMUP if done < WARMUP else (1 - done) / (1 - WARMUP) + 1e-3


@contextmanager
def _frozen_but(network: Any, weights: Sequence[Tensor]) -> Iterator[None]:
    """While it is entered, gradients go to these weights alone."""
    chosen = {id(weight) for weight in weights}
    for weight in network.parameters():
        weight.requires_grad_(id(weight) in chosen)
    try:
        yield
    finally:
        network.requires_grad_(False)


def _computing_in(dtype: Dtype, device: str) -> Any:
    """bfloat16: products in it, sums and weights in float32 (Micikevicius et al. 2018)."""
    return torch.autocast(device.split(":")[0], torch.bfloat16) if dtype == "bfloat16" else nullcontext()


# 4. Whether it comes back ---------------------------------------------------------------------------------------------


def _save(network: Any, student: ModelRef, slim: Slim, judge: AskedJudge, made: Distilled, out: Path) -> None:
    tokenizer = load_tokenizer(student)
    save(in_dtype(network, stored_dtype(student)), tokenizer, out)
    layers = trainable(network)
    note = slimmed(student) or {
        "ranks": {}, "layers": len(layers), "left": 0, "weights": sum(w.numel() for w in layers), "zeros": 0,
    }  # fmt: skip
    note |= {"how": canonical(slim) | {"distil": canonical(slim.distil)}, "of": judge.model.digest}
    note |= {"distilled": asdict(made)}
    write_note(out, note)
    row = chat_ids(tokenizer, (TEXT,), answer=False)
    reloaded = check_saved(in_dtype(network, torch.float32), out, "float32", str(network.device), [row])
    write_note(out, note | {"reloaded": round(reloaded, 6)})
