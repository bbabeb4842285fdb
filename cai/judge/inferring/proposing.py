"""A model's own candidates: why was this answer preferred, where the principles selected so far say the other?

Sentences that were made by a look at labels cannot be tested on these labels as if they had been there before. So one
part of the prompts, drawn by hash, is given up to proposing: principles are selected on it, the pairs that they rank
wrongly are shown to the model, and none of its prompts takes part in the selection that counts.
"""

import re
from collections.abc import Iterator, Sequence

from cai.core.draws import seed_of, uniform
from cai.core.odds import side
from cai.core.records import Chat, Pair
from cai.core.templates import Template
from cai.judge.asking import JudgeEngine
from cai.judge.inferring.candidates import PROPOSED, Candidate, alike, merged, plain_principle
from cai.judge.inferring.inference import longer
from cai.judge.inferring.labelled import LabelledPairs
from cai.judge.inferring.voting import VoteTable
from cai.models.engines import Request, Sampling

SHARE = 1 / 3  # of the prompts to select on, given up to proposing
SAMPLING = Sampling(max_new_tokens=48, temperature=0.7)
WORDS = 25  # a longer sentence is about one conversation, or several things
_SENTENCE = re.compile(r"\bchoose the (?:response|answer) that\s+([^.!?\n\"“”]+)", re.IGNORECASE)
_ANSWER = re.compile(
    r"^\W*(?:the (?:preferred|first|better|chosen) (?:answer|response)|it)\s+([^.!?\n\"“”]+)", re.IGNORECASE
)
_OF_THIS = re.compile(r"\b(?:preferred|other|first|second|this) (?:answer|response|conversation)\b", re.IGNORECASE)


def set_apart(of: LabelledPairs, seed: int) -> tuple[frozenset[int], frozenset[int]]:
    """(rows to propose from, all others), by prompt; held-out rows are among the others."""
    rows = range(len(of.pairs))
    apart = {at for at in rows if not of.held_out[at] and uniform("propose", seed, of.clusters[at]) < SHARE}
    return frozenset(apart), frozenset(rows) - apart


def wrongly_ranked(of: LabelledPairs, apart: frozenset[int], table: VoteTable, weights: dict[int, float]) -> list[int]:
    """Of the rows set apart those that the selected principles rank wrongly, or do not rank; surest labels first."""
    from cai.stats.selection import predict_voters  # numpy: only now

    rows = sorted(apart)
    odds = predict_voters(table.rows([of.pairs[at] for at in rows]), weights)
    theirs = {at: side(of.p_a[at], 0.5) for at in rows}
    wrong = [at for at, z in zip(rows, odds.tolist(), strict=True) if theirs[at] and side(z) != theirs[at]]
    return sorted(wrong, key=lambda at: (-abs(of.p_a[at] - 0.5), abs(longer(of.pairs[at]))))


def propose(
    engine: JudgeEngine, template: Template, rows: Sequence[tuple[Pair, float]], known: Sequence[Candidate], *,
    count: int, seed: int,
) -> tuple[list[Candidate], int]:  # fmt: skip
    """(at most `count` new candidates, how many replies were no such sentence). rows: (pair, P(a better)), those to be
    asked about first; one question each, until so many sentences are there or all have been asked about."""
    rows = rows[: 3 * count]
    requests = [Request(_asked(template, pair, p), seed_of("propose", seed, pair.id)) for pair, p in rows]
    replies = engine.generate(requests, SAMPLING, "propose principles")
    made, unread = list(known), 0
    for reply in replies:
        text = sentence(reply.text) if reply else ""
        if not text:
            unread += 1
        elif len(made) < len(known) + count and not any(alike(text, row.principle.prefer) for row in made):
            made = merged(made, [Candidate(plain_principle(text), PROPOSED)])
    return made[len(known) :], unread


def sentence(reply: str) -> str:
    """The principle in a reply, "" where there is none: "Choose the response that ..." or what the answer does."""
    phrases: Iterator[str] = (match[1] for pattern in (_SENTENCE, _ANSWER) if (match := pattern.search(reply)))
    phrase = " ".join(next(phrases, "").split()).strip(" ,;:'*")
    if not phrase or len(phrase.split()) > WORDS or len(phrase.split()) < 2 or _OF_THIS.search(phrase):
        return ""
    return f"Choose the response that {phrase}."


def _asked(template: Template, pair: Pair, p_a: float) -> Chat:
    better, worse = (pair.a, pair.b) if p_a > 0.5 else (pair.b, pair.a)
    return template.render(messages=pair.prompt.messages, first=better, second=worse)
