"""`verdict: sampled`: the judge is asked several times, and what it says is counted.

For models that give no log-probabilities (hosted chat APIs), by every method that ends in a word: rate, choice, score,
reason. Each of the two orders is asked k times, as is each answer that is asked about alone. The share of an option
among the samples that can be read stands for its probability, and the share of samples that can be read at all for the
options' mass: one that says neither option, both, or nothing is an abstention of that sample, never a tie.

Shares of few samples are 0 and 1 far too easily, and log-odds of those are infinite, so one voter is added, divided
evenly among the options (Perks 1947; with two options half a vote each, as in `combine: vote`).
"""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from cai.core.draws import seed_of
from cai.models.engines import Question, Reading, Reply, Request, Sampling

NEW_TOKENS = 16
OUT_OF = re.compile(r"\s*(?:/|out of)\s*10\b")  # "7/10" names 7
UNREADABLE = "no sample could be read"
CUT = "no sample came to its first word (a model that thinks first needs tokens for it: server.thinking)"
WORDLESS = "no sample had a word: the model or its server declined"


class Speaker(Protocol):
    def generate(self, requests: Sequence[Request], sampling: Sampling, title: str) -> list[Reply | None]: ...


def sampled(engine: Speaker, questions: Sequence[Question], samples: int, title: str) -> list[Reading | None]:
    """What each question's options are worth, by `samples` answers each; None where it is too long.

    The samples of a question are nested: five are three and two more, and the call cache knows the three.
    """
    requests = [
        Request(
            question.chat, seed_of("verdict", *map(str, question.chat), *question.options, number), question.options
        )
        for question in questions
        for number in range(samples)
    ]
    replies = engine.generate(requests, Sampling(NEW_TOKENS), title)
    return [
        counted(question, replies[samples * place : samples * (place + 1)]) for place, question in enumerate(questions)
    ]


def counted(question: Question, replies: Sequence[Reply | None]) -> Reading | None:
    """The options' shares among the replies that name one of them, as log-probabilities."""
    given = [reply for reply in replies if reply is not None]
    if len(given) < len(replies):
        return None
    named = Counter(named_in(reply.text, question.options) for reply in given)
    readable = len(given) - named.pop(None, 0)
    if not readable:
        return Reading((), why_unread(given))
    options = question.options
    mass = readable / len(given)
    return Reading(
        tuple(math.log(mass * (named[option] + 1 / len(options)) / (readable + 1)) for option in options)
    )  # fmt: skip


def why_unread(replies: Sequence[Reply]) -> str:
    if any(reply.text for reply in replies):
        return UNREADABLE
    return CUT if any(reply.finish == "length" for reply in replies) else WORDLESS


def named_in(text: str, options: Sequence[str]) -> str | None:
    """The one option that a text names: as the field of a JSON object, or as a word. None where it is not one.

    "(A)", "A.", "Answer: A" and "**A**" name A. Case counts, for "a" is a word; a sentence after the first word does
    not ("Yes, because no harm ..."), for what is asked is answered first.
    """
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict):
            value = value.get("answer")
        return str(value) if str(value) in options else None
    by_length = sorted(options, key=len, reverse=True)
    word = re.compile(rf"(?<![\w.])(?:{'|'.join(re.escape(option) for option in by_length)})(?!\w|\.\d)")
    opening = re.split(r"(?<=[,;:.!])\s+(?=\w+\s+\w+\s+\w+)|\n", text.strip(), maxsplit=1)[0]
    named = set(word.findall(OUT_OF.sub("", opening)))
    return named.pop() if len(named) == 1 else None
