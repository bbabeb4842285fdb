"""A judge learns to read: LoRA on the log-odds of `channel`, two answers under many standards in one forward pass.

    1. Write every question of a lesson as the judge is asked it (prompts/channel.jinja) and read what they share once
       (cai/models/engines/tree.py): two answers under ten standards are twenty questions and hardly more than two
       texts.
    2. log P(standard | a) - log P(standard | b) is the log-odds of "a is better"; a judge that labels takes the mean of
       this and of the opposite's, turned round.
    3. The loss is its cross-entropy with the computed P(a better) (Bradley and Terry 1952), one half where a standard
       has nothing to do with the difference; and a little of the plain loss of standards that are true of an answer.

Why `channel`: by `rate` every standard teaches one Yes or No, and where standards and their opposites are equally
frequent neither answer nor standard alone tells anything: SmolLM2-135M stayed at a loss of ln 2 for 3,000 comparisons.
By `channel` it learns from every word of a standard.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cai.config.sections import Judge
from cai.constitution import Judging
from cai.judge.methods import templates_for
from cai.judge.methods.channel import both_sides, described
from cai.judge.teaching.lessons import Lesson, Standard
from cai.models.chat import chat_ids

CHANNEL = Judge(method="channel")
ROW = 448  # nodes of a row: wider ones spend more on attention than they save on beginnings
PLAIN_LOSS = 0.01  # a nat of a true standard's plain loss


@dataclass(frozen=True, slots=True)
class Teaching:
    """How long and how hard. lessons: pairs of answers, each read once. standards: asked about each pair.

    layers: the last ones, which alone are taught. hold, ramp: shares of the lessons; see `plain`.
    """

    lessons: int = 1360
    standards: int = 10
    batch: int = 4
    learning_rate: float = 1e-3
    warmup: float = 0.04
    rank: int = 8
    layers: int = 15
    hold: float = 0.05
    ramp: float = 0.25

    def plain(self, number: int) -> float:
        """The share of standards of a lesson that simply ask for more of something: all at first, none later."""
        return min(1.0, max(0.0, 1 - (number / self.lessons - self.hold) / self.ramp))


def examine(model: Any, tokenizer: Any, lessons: Sequence[Lesson], batch: int) -> tuple[list[float], list[float]]:
    """Log-odds of "a is better" of every standard of every lesson, in order, twice: as a judge is asked, by a standard
    and its opposite where it has one (`methods.both_sides`), and by the standard alone."""
    import torch

    templates, odds, alone = templates_for(CHANNEL), [], []
    with torch.inference_mode():
        for start in range(0, len(lessons), batch):
            sided = [_with_opposites(lesson) for lesson in lessons[start : start + batch]]
            logp_S2 = log_probs(model, tokenizer, sided, templates)
            each = iter((logp_S2[:, 0] - logp_S2[:, 1]).tolist())
            for lesson in lessons[start : start + batch]:
                for standard in lesson.standards:
                    opinions = [next(each) for _ in both_sides(_principle(standard))]
                    alone.append(opinions[0])
                    odds.append(opinions[0] if len(opinions) == 1 else (opinions[0] - opinions[1]) / 2)
    return odds, alone


def _with_opposites(lesson: Lesson) -> Lesson:
    sides = [(standard, side.prefer) for standard in lesson.standards for side in both_sides(_principle(standard))]
    return replace(lesson, standards=tuple(replace(standard, text=text) for standard, text in sides))


def _principle(standard: Standard) -> Judging:
    return Judging(standard.principle, standard.text, (), 1.0)


def log_probs(model: Any, tokenizer: Any, lessons: Sequence[Lesson], templates: Any) -> Any:
    """log P(standard | a) and log P(standard | b) of every standard of every lesson: (standards, 2), float32, nats."""
    import torch

    from cai.models.engines.tree import Span, pack, tree_mask

    # 1. All questions as rows that share their beginnings.
    spans = [Span((*start, *tail), len(start)) for start, tail in _questions(tokenizer, lessons, templates)]
    rows = pack(spans, ROW, 2 * ROW)

    # 2. Row by row, since rows differ in width; a word's probability is read where the word before it stands.
    head_VH = model.get_output_embeddings().weight
    logps: dict[int, Any] = {}
    for row in rows:
        states_TH = model.get_base_model().get_decoder()(
            input_ids=torch.tensor([row.tokens], device=model.device),
            position_ids=torch.tensor([row.depths], device=model.device),
            attention_mask=tree_mask([row], model.dtype).to(model.device),
            use_cache=False,
        ).last_hidden_state[0]  # fmt: skip
        place = {node: k for k, node in enumerate(row.predictors)}
        logp_KV = torch.log_softmax((states_TH[row.predictors] @ head_VH.T).float(), dim=-1)
        for index, nodes in row.asked:
            span = spans[index]
            logps[index] = logp_KV[[place[node] for node in nodes], list(span.ids[span.begin :])].sum()
    return torch.stack([logps[index] for index in range(len(spans))]).view(-1, 2)


def _questions(tokenizer: Any, lessons: Sequence[Lesson], templates: Any) -> Iterator[tuple[list[int], list[int]]]:
    """(ids before the standard, its ids), of answer a and then b, of each standard of each lesson."""
    for lesson in lessons:
        starts: dict[int, list[int]] = {}
        for standard in lesson.standards:
            principle = _principle(standard)
            tail = tokenizer(standard.text, add_special_tokens=False)["input_ids"]
            for side, answer in enumerate((lesson.a, lesson.b)):
                if side not in starts:  # what stands before the standard is the same for all of them
                    chat = described(lesson.request.chat, answer.text, principle, templates).chat
                    starts[side] = chat_ids(tokenizer, chat, answer=True)
                yield starts[side], tail


def learn(
    model: Any, tokenizer: Any, lessons: Sequence[Lesson], teaching: Teaching, after: Callable[[int, int], None]
) -> list[float]:
    """Train the model's adapter on the lessons in their order; returns the loss of each batch.

    after: told after each batch how many there have been, and how many lessons it had.
    """
    import torch

    templates = templates_for(CHANNEL)
    # The adapter computes in the base's dtype (in float32 its thin products take as long as all others together) and is
    # updated in float32 copies, because most updates are smaller than a bfloat16 step.
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    masters = [weight.detach().float().clone() for weight in weights]
    optimizer = torch.optim.AdamW(masters, lr=teaching.learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
    batches = [lessons[start : start + teaching.batch] for start in range(0, len(lessons), teaching.batch)]
    losses = []
    for number, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = teaching.learning_rate * _schedule(number / len(batches), teaching.warmup)
        target_S = torch.tensor(
            [standard.target for lesson in batch for standard in lesson.standards], device=model.device
        )
        logp_S2 = log_probs(model, tokenizer, batch, templates)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logp_S2[:, 0] - logp_S2[:, 1], target_S)
        true_S = torch.cat([logp_S2[target_S > 0.5, 0], logp_S2[target_S < 0.5, 1]])
        (loss - PLAIN_LOSS * true_S.mean() if len(true_S) else loss).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for weight, master in zip(weights, masters, strict=True):
            master.grad, weight.grad = None if weight.grad is None else weight.grad.float(), None
        optimizer.step()
        for weight, master in zip(weights, masters, strict=True):
            weight.data.copy_(master)
        losses.append(loss.item())
        after(number + 1, len(batch))
    return losses


def _schedule(done: float, warmup: float) -> float:
    """Linear warm-up, then half a cosine down to a tenth."""
    if done < warmup:
        return (done + 1e-3) / warmup
    return 0.1 + 0.9 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2
