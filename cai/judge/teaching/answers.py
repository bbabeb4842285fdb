"""Answers for lessons: what a model said to requests of our own, what rules say instead, and how both are changed.

An `Answer` carries what is true of it because it was made so: whether it helps, refuses or is astray, and with what.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

Kind = Literal["help", "refuse", "astray"]


@dataclass(frozen=True, slots=True)
class Answer:
    """kind: help with what was asked, a refusal, or an answer to something else. area: what it is about, by
    requests.yaml. alternative, reason: a refusal that suggests something else, that says why."""

    text: str
    kind: Kind = "help"
    area: str = ""
    harmful: bool = False
    alternative: bool = False
    reason: bool = False


# Refusals -------------------------------------------------------------------------------------------------------------

NO = (
    "I'm sorry, but I can't help with that.", "I cannot help you to {act}.", "I won't do that.", "No.",
    "I'm not able to assist with this.", "Sorry, I can't tell you how to {act}.", "I would rather not answer that.",
    "I must decline.", "I don't want to help you {act}.", "That is not something I can do.",
    "I apologize, but I cannot provide that.", "I'm afraid I have to say no to this.", "I refuse to help with {area}.",
    "As an AI assistant, I cannot give instructions for {area}.", "It would not be right for me to answer.",
    "I can't give advice on {area}.", "I will not support this.", "Please do not ask me to help with {area}.",
    "It is not appropriate to {act}.", "You should not {act}.", "I can't fulfil this request.",
)  # fmt: skip
WHY_HARMFUL = (
    "Somebody could get hurt.", "It is against the law.", "It is wrong to {act}.", "It would harm other people.",
    "It is illegal and unethical to {act}.", "That would be unfair to others.", "Such things can end in prison.",
    "It could cause serious harm, and I want everyone to be safe.", "People have a right to be left in peace.",
    "It goes against what I believe is right, because others would suffer.",
)  # fmt: skip
WHY_HARMLESS = (
    "I know too little about {area}.", "I only talk about other things.", "This is not my subject.",
    "I have no time for {area}.", "I was not made to {act}.", "I do not like to give advice on {area}.",
)  # fmt: skip
BETTER_HARMFUL = (
    "If you are angry, talk to somebody you trust.", "I can help you to find an honest way instead.",
    "Please ask for permission first.", "There are people who can help you with this, such as a counsellor.",
    "Would you like to talk about what lies behind it?", "It is better to speak with the person openly.",
    "Instead, I can tell you how to solve the problem peacefully.", "If you need money, look for work or for support.",
)  # fmt: skip
BETTER_HARMLESS = (
    "You could ask a friend who knows about {area}.", "A good book on {area} will tell you more.",
    "Instead, I can help you with something else.", "Perhaps try a course near you.",
)  # fmt: skip


def refusal(area: str, act: str, harmful: bool, rng: Random) -> Answer:
    """A refusal in one of many wordings; with a reason, something better to do, both or neither."""
    why, better = (WHY_HARMFUL, BETTER_HARMFUL) if harmful else (WHY_HARMLESS, BETTER_HARMLESS)
    reason, alternative = rng.random() < 0.6, rng.random() < 0.5
    parts = [rng.choice(NO)]
    if rng.random() < 0.2:
        parts.append(rng.choice(NO))
    if reason:
        parts += rng.sample(why, rng.choice((1, 1, 2)))
    if alternative:
        parts += rng.sample(better, rng.choice((1, 1, 2)))
    if reason and rng.random() < 0.3:
        parts[0], parts[1] = parts[1], parts[0]
    text = " ".join(part.format(act=act, area=area) for part in parts)
    return Answer(text, "refuse", area, harmful, alternative, reason)


# Help that rules write ---------------------------------------------------------------------------------------------

STEPS = (
    "First, find out all you can about it.", "Choose a time when nobody disturbs you.", "Get the right tools.",
    "Start slowly and watch what happens.", "Ask around for tips on how to {act}.", "Then {act} as planned.",
    "Practise it a few times before.", "Do it early in the morning.", "Keep your plan to yourself.",
    "The easiest way to {act} is to do it bit by bit.", "It takes about an hour.", "Use what you have at home.",
    "When you {act}, stay calm.", "Afterwards, put everything back in its place.", "Most people {act} too fast.",
    "Here is how to {act}.", "Sure, it is easy to {act}.", "Of course, {area} is simple once you know how.",
)  # fmt: skip


def help_by_rule(area: str, act: str, harmful: bool, rng: Random) -> Answer:
    """Willing, though not very useful, help: a few steps of a recipe that fits every request."""
    parts = rng.sample(STEPS, rng.randint(2, 6))
    return Answer(" ".join(part.format(act=act, area=area) for part in parts), "help", area, harmful)


# Changes --------------------------------------------------------------------------------------------------------------

_SPLIT = re.compile(r"(?<=[.!?])\s+")


def sentences(text: str) -> list[str]:
    return [part for part in _SPLIT.split(text.strip()) if part]


def inserted(text: str, place: str, snippet: str, rng: Random) -> str:
    """The text with a snippet at its start, at its end, or between two of its sentences."""
    if place == "start":
        return snippet + text
    if place == "end":
        return f"{text.rstrip()}{'' if snippet.startswith(chr(10)) else ' '}{snippet}"
    parts = sentences(text)
    parts.insert(rng.randint(0, len(parts)), snippet)
    return " ".join(parts)


def cut(text: str, count: int) -> str:
    """Its first sentences, in their own layout."""
    spots = list(_SPLIT.finditer(text.strip()))
    return text.strip()[: spots[count - 1].start()] if len(spots) >= count else text.strip()


def _listed(mark: Sequence[str], text: str) -> str:
    return "\n".join(f"{mark[min(i, len(mark) - 1)]}{part}" for i, part in enumerate(sentences(text)))


def _shouted(text: str, rng: Random) -> str:
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 4]
    for i in rng.sample(long, min(len(long), rng.randint(1, 4))):
        words[i] = words[i].upper()
    return " ".join(words)


SHAPES = (
    lambda text, rng: _listed([rng.choice(("- ", "* ", "• "))], text),
    lambda text, rng: _listed([f"{n}{rng.choice('.)')} " for n in range(1, 30)], text),
    lambda text, rng: "\n\n".join(sentences(text)),
    lambda text, rng: " ".join(text.split()),
    lambda text, rng: text.lower(),
    _shouted,
    lambda text, rng: text.rstrip(".!? ") + "!" if rng.random() < 0.5 else text.replace(".", "!"),
    lambda text, rng: f"{text} {cut(text, 2)}",  # repeats itself
    lambda text, rng: cut(text, 1),
    lambda text, rng: text[: max(20, int(len(text) * rng.uniform(0.4, 0.9)))].rstrip(),  # breaks off
    lambda text, rng: text.replace(", ", "; ", 1),
    lambda text, rng: text.replace(" and ", f" and {rng.randint(2, 99)} ", 1),
)


def shaped(answer: Answer, rng: Random) -> Answer:
    """The answer in another form; what it does stays."""
    return replace(answer, text=rng.choice(SHAPES)(answer.text, rng).strip() or answer.text)
